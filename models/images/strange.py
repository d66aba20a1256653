"""Images that show no organ that is known, or none at all, and what a network says of them, how long it takes, and with
how much memory. They are drawn here, so that anyone can repeat it; the photograph is matplotlib's sample."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from models.images.organs import Organ
from models.images.prediction import ImageModel
from models.reports.sheets import eight_bits, letters
from models.tampering.phantom import phantom_volume

Pixels = NDArray[Any]
_HEAD = "a head from formulas"
_RIGHT = {_HEAD: (Organ.UNKNOWN, Organ.BRAIN_MR)}  # drawn, and yet a brain MR to the eye
_TEXT = "The patient was seen on the ward and in good spirits. No change since the examination before this one. "


def inputs(seed: int, genuine: Pixels | None = None) -> Iterator[tuple[str, Pixels]]:
    """Name and pixels of each; `genuine`, a scanner's image, stands within the screenshot and is the 1-bit mask."""
    rng = np.random.default_rng(seed)
    inner = phantom_volume(rng, slices=3)[1] if genuine is None else np.array(genuine)
    inner = eight_bits(inner.astype(np.float32))
    photograph = _photograph()
    yield "a photograph", np.asarray(cv2.cvtColor(photograph, cv2.COLOR_RGB2GRAY))
    yield "a photograph in RGB", photograph
    yield "a screenshot of a viewer", _screenshot(inner)
    yield "a page of text", _page()
    yield "a test object with line pairs", _test_object(rng)
    yield _HEAD, phantom_volume(rng, slices=3)[1]
    yield "noise, 8 bit", rng.integers(0, 256, (256, 256)).astype(np.uint8)
    yield "noise, 16 bit", rng.integers(0, 65536, (512, 512)).astype(np.uint16)
    yield "a gradient, 16 bit", np.add.outer(np.arange(512), np.arange(512)).astype(np.uint16) * 40
    yield "a constant image", np.full((256, 256), 77, dtype=np.uint8)
    yield "1 bit", np.asarray(inner > 90)
    yield "8 × 8 pixels", rng.integers(0, 256, (8, 8)).astype(np.uint8)
    yield "not finite", np.full((256, 256), np.nan, dtype=np.float32)
    yield "noise, 6000 × 6000", rng.integers(0, 4096, (6000, 6000)).astype(np.uint16)
    yield "a photograph, 6000 × 6000", cv2.resize(cv2.cvtColor(photograph, cv2.COLOR_RGB2GRAY), (6000, 6000))


def answers(model: ImageModel, seed: int, genuine: Pixels | None = None) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What was said of each input, which is the same each time; and seconds and MiB of each, which are not."""
    said, cost = [], {}
    for name, pixels in inputs(seed, genuine):
        before = _start_peak()
        began = time.perf_counter()
        answer = model.predict([pixels])[0]
        seconds = time.perf_counter() - began
        peak = _peak()
        likeliest = model.card.organs[int(np.argmax(answer.organs))]
        said.append(
            {
                "input": name,
                "size": " × ".join(str(side) for side in pixels.shape),
                "organ": answer.organ,
                "right": answer.organ in _RIGHT.get(name, (Organ.UNKNOWN,)),
                "reason": answer.reason,
                "likeliest": likeliest,
                "likeliest_share": float(np.max(answer.organs)),
                "probability": model.card.image_probability(answer.synthesis_logit),
            }
        )
        cost[name] = {"seconds": seconds, "more_mib": None if before is None or peak is None else peak - before}
    return said, cost


def _photograph() -> NDArray[np.uint8]:
    import matplotlib as mpl

    path = Path(mpl.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    return np.asarray(cv2.cvtColor(np.asarray(cv2.imread(str(path))), cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _screenshot(inner: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A viewer's window: tools, a list of series, an image with text in its corners."""
    window = Image.new("L", (1024, 768), 24)
    draw = ImageDraw.Draw(window)
    draw.rectangle((0, 0, 1024, 40), fill=60)
    for place in range(12):
        draw.rectangle((10 + 44 * place, 6, 42 + 44 * place, 34), outline=200, fill=90)
    for place in range(5):
        draw.rectangle((12, 60 + 130 * place, 132, 180 + 130 * place), outline=120)
        window.paste(Image.fromarray(inner).resize((100, 100)), (22, 70 + 130 * place))
    window.paste(Image.fromarray(inner).resize((640, 640)), (260, 84))
    for row, line in enumerate(("TEST^SCREEN", "1970-01-01", "W 400 L 40", "Im 12/24", "Zoom 250 %")):
        draw.text((160, 60 + 24 * row), line, fill=230, font=letters(18))
    return np.asarray(window)


def _page() -> NDArray[np.uint8]:
    page = Image.new("L", (850, 1100), 250)
    draw = ImageDraw.Draw(page)
    words = (_TEXT * 12).split()
    for row in range(40):
        draw.text((70, 70 + 24 * row), " ".join(words[(row * 11) % 90 :][:11]), fill=20, font=letters(16))
    return np.asarray(page)


def _test_object(rng: np.random.Generator) -> NDArray[np.uint16]:
    """A disk of water with inserts and line pairs, as a scanner's quality is checked with; with noise."""
    plane = np.zeros((384, 384), dtype=np.float32)
    cv2.circle(plane, (192, 192), 170, 900.0, -1)
    for place, level in enumerate((300.0, 600.0, 1200.0, 1500.0, 1800.0)):
        angle = 2 * np.pi * place / 5
        cv2.circle(plane, (int(192 + 110 * np.cos(angle)), int(192 + 110 * np.sin(angle))), 22, level, -1)
    for pair in range(6):
        width = 8 - pair
        for line in range(4):
            left = 120 + 26 * pair
            cv2.rectangle(
                plane, (left, 176 + 2 * width * line), (left + 18, 176 + 2 * width * line + width), 1700.0, -1
            )
    plane = np.hypot(plane + rng.normal(0, 20, plane.shape), rng.normal(0, 20, plane.shape))
    return np.asarray(np.rint(plane), dtype=np.uint16)


def _start_peak() -> float | None:
    """Resident MiB now, from where the process' own peak is counted anew; None where the system does not tell."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return None
    return _status("VmRSS")


def _peak() -> float | None:
    return _status("VmHWM")


def _status(name: str) -> float | None:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [line for line in lines if line.startswith(f"{name}:")]
    return float(found[0].split()[1]) / 1024 if found else None
