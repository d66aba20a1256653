"""OHIF in a browser, used as a reader uses it: with the mouse on the series list and the keys for the slices."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Locator, Page

from tests.viewers.chromium import PATIENCE
from tests.viewers.ohif_package import CACHE
from tests.viewers.screen import Mask, Picture, picture_of, save

_VIEWPORT = (
    "services.cornerstoneViewportService.getCornerstoneViewport(services.viewportGridService.getActiveViewportId())"
)
_IMAGE = f"""() => {{
    const viewport = {_VIEWPORT};
    const image = /\\/instances\\/([0-9.]+)\\/frames\\/([0-9]+)/.exec(viewport?.getCurrentImageId?.() ?? '');
    if (!image || viewport.viewportStatus !== 'rendered') return null;
    const box = viewport.element.getBoundingClientRect();
    return {{instance: image[1], frame: image[2], box: [box.x, box.y, box.width, box.height]}};
}}"""
_REST = 150  # ms without a change
_MARGIN = 40  # pixels along the viewport's edges where letters and buttons lie


@dataclass(frozen=True)
class Slice:
    """What the viewer shows: an image by its SOP Instance UID and frame, counted from 1, and the viewport's pixels."""

    sop_instance_uid: str
    frame: int
    picture: Picture

    @property
    def name(self) -> tuple[str, int]:
        """Which image it is."""
        return self.sop_instance_uid, self.frame


class Ohif:
    """One page of the viewer with a study."""

    def __init__(self, page: Page, address: str, study_uid: str) -> None:
        self.page = page
        self.faults: list[str] = []
        page.on("pageerror", lambda fault: self.faults.append(str(fault)))
        page.goto(f"{address}/viewer?StudyInstanceUIDs={study_uid}")
        page.locator("[data-cy^=study-browser-thumbnail]").first.wait_for()
        self._wait(f"{_VIEWPORT}?.viewportStatus === 'rendered'")

    def series(self, said: str) -> Locator:
        """The entry of the series list with this description, or with this number as `S:7`."""
        label = self.page.get_by_text(said, exact=True)
        return self.page.locator("[data-cy^=study-browser-thumbnail]").filter(has=label)

    def listed(self) -> list[str]:
        """The modality of every series in the list."""
        labels = self.page.locator("[data-cy=studyBrowser-panel] [data-cy=series-modality-label]")
        return [text.strip() for text in labels.all_inner_texts()]

    def open_images(self, said: str) -> None:
        """Open a series of images."""
        self.series(said).dblclick()
        self._wait(f"{_VIEWPORT}?.viewportStatus === 'rendered'")

    def close_player(self) -> None:
        """Take away the player for films that OHIF lays over pictures (of modality OT)."""
        self.page.locator("[data-cy=cine-player-close]").click()

    def open_segmentation(self, said: str) -> None:
        """Open a SEG and confirm that it is wanted."""
        self.series(said).dblclick()
        self.page.get_by_role("button", name="Yes", exact=True).click()
        self._wait("cornerstoneTools.segmentation.state.getSegmentations().length > 0")
        self.page.get_by_text("Do you want to open this Segmentation?").wait_for(state="hidden")
        # Until then the viewport holds the masks themselves.
        self._wait(f"{_VIEWPORT}?.getCurrentImageId()?.startsWith('derived:') === false")

    def open_report(self, said: str) -> str:
        """Open a report of words; gives what can be read in the viewport."""
        self.series(said).dblclick()
        heading = self.page.locator("[data-cy=viewport-grid]").get_by_text("Image integrity summary")
        heading.wait_for()
        return str(self.page.locator("[data-cy=viewport-grid]").inner_text())

    def open_outlines(self, said: str) -> None:
        """Open a report with outlines; OHIF goes to the first of them."""
        self.series(said).dblclick()
        self._wait("cornerstoneTools.annotation.state.getAllAnnotations().some(a => a.data.renderableData)")

    def slices(self, until: Callable[[Slice], bool] = lambda _: True) -> Iterator[Slice]:
        """Every slice of the open series, from the first to the last; `until` as for `shown`."""
        count = int(self.page.wait_for_function(f"() => {_VIEWPORT}?.getImageIds?.().length").json_value())
        self.page.keyboard.press("Home")
        for index in range(count):
            if index:
                self.page.keyboard.press("ArrowDown")
            self._wait(f"{_VIEWPORT}?.getCurrentImageIdIndex() === {index}")
            yield self.shown(until)

    def shown(self, until: Callable[[Slice], bool] = lambda _: True) -> Slice:
        """What the viewport shows when it has come to rest; fails when it never fulfils `until`."""
        end = time.monotonic() + PATIENCE
        before = self._shot()
        while True:
            self.page.wait_for_timeout(_REST)
            now = self._shot()
            if np.array_equal(before.picture, now.picture) and until(now):
                return now
            if time.monotonic() > end:
                save(self.screenshot(), CACHE / "failed.png")
                raise AssertionError(f"the viewport does not come to rest, or not as it should: {now.name}, failed.png")
            before = now

    def places(self, millimetres: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where places in the patient (…, 3) lie in the viewport's picture: (…, column and row)."""
        script = f"points => points.map(point => {_VIEWPORT}.worldToCanvas(point))"
        found: Any = self.page.evaluate(script, millimetres.tolist())
        return np.array(found, float)

    def clear_of_letters(self, picture: Picture) -> Mask:
        """The part of the viewport where OHIF itself writes nothing."""
        found = np.zeros(picture.shape[:2], np.bool_)
        found[_MARGIN:-_MARGIN, 3 * _MARGIN : -3 * _MARGIN] = True
        return found

    def screenshot(self) -> bytes:
        """The whole page as a PNG."""
        png: bytes = self.page.screenshot()
        return png

    def _shot(self) -> Slice:
        # A viewport is taken away and made anew when another kind of series is opened: wait for one with an image.
        found: Any = self.page.wait_for_function(_IMAGE).json_value()
        x, y, width, height = (int(value) for value in found["box"])
        png: bytes = self.page.screenshot(clip={"x": x, "y": y, "width": width, "height": height})
        return Slice(found["instance"], int(found["frame"]), picture_of(png))

    def _wait(self, condition: str) -> None:
        self.page.wait_for_function(f"() => {condition}")
