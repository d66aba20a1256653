"""What Orthanc's own pages show of our evidence objects: Orthanc Explorer, and the web viewer that Debian ships.

`make viewers` runs it.
"""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
from playwright.sync_api import Locator, Page
from pydicom import dcmread

from gateway.results import EvidenceKind
from tests.peers import Orthanc, running_orthanc
from tests.viewers.chromium import PATIENCE
from tests.viewers.conftest import Keep, Sent
from tests.viewers.screen import Picture, picture_of
from tests.viewers.studies import deliver


@pytest.fixture(scope="module")
def words(sent: Sent, tmp_path_factory: pytest.TempPathFactory) -> dict[EvidenceKind, list[Path]]:
    """The untampered study's objects for viewers that show pictures only."""
    return sent.genuine.evidence("legacy", tmp_path_factory.mktemp("legacy"))


@pytest.fixture(scope="module")
def orthanc(sent: Sent, words: Mapping[EvidenceKind, list[Path]]) -> Iterator[Orthanc]:
    """An archive with the web viewer: the tampered study's objects for OHIF, the untampered one's page of words."""
    with running_orthanc(plugins=("libOrthancWebViewer.so",)) as running:
        objects = [file for files in sent.evidence["tampered"].values() for file in files]
        deliver([*sent.tampered.files, *objects, *sent.genuine.files, *words[EvidenceKind.SC]], running)
        yield running


def shows(page: Page, picture: Picture, scale: float = 1.0) -> bytes:
    """Wait until a part of the page is like the picture; gives the screenshot."""
    wanted = cv2.resize(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), None, fx=scale, fy=scale)
    end = time.monotonic() + PATIENCE
    while True:
        png: bytes = page.screenshot()
        screen = cv2.cvtColor(picture_of(png), cv2.COLOR_RGB2GRAY)
        likeness = float(cv2.matchTemplate(screen, wanted, cv2.TM_CCOEFF_NORMED).max())
        if likeness > 0.95:
            return png
        assert time.monotonic() < end, f"the page never shows the picture; the likeness is {likeness:.2f}"
        page.wait_for_timeout(500)


def inner(picture: Picture) -> Picture:
    """A picture without its edges, over which the web viewer writes names."""
    rows, columns = picture.shape[:2]
    return np.ascontiguousarray(picture[rows // 5 : -rows // 8, columns // 10 : -columns // 10])


def opened(page: Page, orthanc: Orthanc, sop_instance_uid: str) -> Locator:
    """Orthanc Explorer's page of an instance."""
    (identifier,) = orthanc.post("/tools/find", {"Level": "Instance", "Query": {"SOPInstanceUID": sop_instance_uid}})
    page.goto(f"{orthanc.url}/app/explorer.html#instance?uuid={identifier}")
    tree = page.locator("#dicom-tree")
    tree.get_by_text(sop_instance_uid).first.wait_for()
    return tree


def test_explorer_previews_the_key_images_pixel_by_pixel(orthanc: Orthanc, sent: Sent, page: Page, keep: Keep) -> None:
    made = dcmread(sent.evidence["tampered"][EvidenceKind.SC][0])
    opened(page, orthanc, str(made.SOPInstanceUID))
    page.locator("#instance-preview").click()
    keep(shows(page, made.pixel_array), "orthanc-explorer-key-image")


def test_explorer_shows_the_words_of_a_report(orthanc: Orthanc, sent: Sent, page: Page, keep: Keep) -> None:
    made = dcmread(sent.evidence["tampered"][EvidenceKind.TEXT][0])
    tree = opened(page, orthanc, str(made.SOPInstanceUID))
    content = tree.locator("ul.tree > li").filter(has_text="(ContentSequence)")
    while content.locator("a.toggler.closed").count():
        content.locator("a.toggler.closed").first.click()
    conclusion = content.get_by_text("SUSPECT: 2 regions look edited (2 removed) in series 1", exact=False).first
    conclusion.scroll_into_view_if_needed()
    assert conclusion.is_visible()
    said = content.inner_text()
    for item in made.ContentSequence:
        if item.ValueType == "TEXT":
            assert str(item.TextValue) in said
    keep(page.screenshot(), "orthanc-explorer-report")


@pytest.mark.parametrize(("name", "verdict"), [("tampered", "SUSPECT"), ("genuine", "CLEAR")])
def test_the_web_viewer_shows_key_images_and_the_page_of_words(
    name: str,
    verdict: str,
    orthanc: Orthanc,
    sent: Sent,
    words: Mapping[EvidenceKind, list[Path]],
    page: Page,
    keep: Keep,
) -> None:
    objects = sent.evidence["tampered"] if name == "tampered" else words
    made = dcmread(objects[EvidenceKind.SC][0])
    assert str(made.ImageComments).startswith(verdict)
    query = {"SeriesInstanceUID": str(made.SeriesInstanceUID)}
    (identifier,) = orthanc.post("/tools/find", {"Level": "Series", "Query": query})
    page.goto(f"{orthanc.url}/web-viewer/app/viewer.html?series={identifier}")
    page.locator("canvas").first.wait_for()
    canvas = page.locator("canvas").first.bounding_box()
    assert canvas is not None
    scale = min(canvas["width"] / made.Columns, canvas["height"] / made.Rows)
    keep(shows(page, inner(made.pixel_array), scale), f"orthanc-web-viewer-{name}")
