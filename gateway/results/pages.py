"""Pictures of words and outlines: the pages of a secondary capture, as RGB arrays (rows, columns, 3) uint8.

Nothing is drawn over the anatomy but outlines and arrows; the words stand above and below it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from gateway.results.outlines import Outline
from inference.findings import Verdict

Page = NDArray[np.uint8]
Colour = tuple[int, int, int]

_LEAST, _MOST = 512, 1024  # pixels of the anatomy's shorter and longer side
_MARGIN = 14
_WHITE, _DIM = (235, 235, 235), (165, 165, 165)
VERDICT_COLOURS: dict[Verdict, Colour] = {  # the word itself stands beside it
    Verdict.VERIFIED: (90, 210, 120),
    Verdict.CLEAR: (90, 210, 120),
    Verdict.REVIEW: (255, 190, 60),
    Verdict.SUSPECT: (255, 95, 95),
    Verdict.ABSTAIN: (120, 190, 255),
}


@dataclass(frozen=True)
class Line:
    """Words of one size and colour; too long ones are wrapped."""

    words: str
    size: int = 17
    colour: Colour = _WHITE
    is_bold: bool = False


@dataclass(frozen=True)
class Mark:
    """A region to outline and to point at."""

    name: str
    colour: Colour
    outlines: Sequence[Outline]


def dim(words: str) -> Line:
    """What is there to be looked up, not to be read first."""
    return Line(words, 15, _DIM)


def picture_page(
    image: NDArray[np.uint8], spacing: tuple[float, float], marks: Sequence[Mark], above: Sequence[Line],
    below: Sequence[Line],
) -> Page:  # fmt: skip
    """A grey image (rows, columns) with its marks, in the proportions of `spacing` (between rows, between columns)."""
    scale_row, scale_column = _scales(image.shape, spacing)
    height, width = max(1, round(image.shape[0] * scale_row)), max(1, round(image.shape[1] * scale_column))
    anatomy = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC).convert("RGB")
    draw = ImageDraw.Draw(anatomy)
    for mark in marks:
        for outline in mark.outlines:
            points = [(float(column) * scale_column, float(row) * scale_row) for column, row in outline]
            draw.line(points, fill=mark.colour, width=2, joint="curve")
    for mark in marks:
        _arrow(draw, mark, (scale_column, scale_row), (width, height))
    return _page(above, below, anatomy)


def word_page(lines: Sequence[Line]) -> Page:
    """A page without a picture."""
    return _page(lines, (), None)


def _scales(shape: tuple[int, ...], spacing: tuple[float, float]) -> tuple[float, float]:
    ratio = min(max(spacing[0] / spacing[1], 0.1), 10.0)
    rows, columns = shape[0] * max(ratio, 1.0), shape[1] * max(1 / ratio, 1.0)
    scale = min(_MOST / max(rows, columns), max(1.0, _LEAST / min(rows, columns)))
    return scale * max(ratio, 1.0), scale * max(1 / ratio, 1.0)


def _page(above: Sequence[Line], below: Sequence[Line], anatomy: Image.Image | None) -> Page:
    width = max(anatomy.width if anatomy is not None else 0, 640)
    top, bottom = _wrapped(above, width), _wrapped(below, width)
    high, low = _height(top), _height(bottom)
    size = high + (anatomy.height if anatomy is not None else 0) + low
    page = Image.new("RGB", (width, max(size, 480 if anatomy is None else 0)), (0, 0, 0))
    draw = ImageDraw.Draw(page)
    _write(draw, top, 0)
    if anatomy is not None:
        page.paste(anatomy, ((width - anatomy.width) // 2, high))
        _write(draw, bottom, high + anatomy.height)
    return np.asarray(page, np.uint8)


def _wrapped(lines: Sequence[Line], width: int) -> list[Line]:
    wrapped = []
    for line in lines:
        font, current = _font(line.size, bold=line.is_bold), ""
        for word in line.words.split():
            longer = f"{current} {word}".strip()
            if current and font.getlength(longer) > width - 2 * _MARGIN:
                wrapped.append(Line(current, line.size, line.colour, line.is_bold))
                current = word
            else:
                current = longer
        wrapped.append(Line(_cut(current, font, width), line.size, line.colour, line.is_bold))
    return wrapped


def _cut(words: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """One word that is longer than a line (a UID, a digest) loses its end."""
    while words and font.getlength(words) > width - 2 * _MARGIN:
        words = words[: -max(2, len(words) // 20)] + "\N{HORIZONTAL ELLIPSIS}"
    return words


def _height(lines: Sequence[Line]) -> int:
    return sum(_step(line) for line in lines) + (2 * _MARGIN if lines else 0)


def _step(line: Line) -> int:
    return round(line.size * 1.45)


def _write(draw: ImageDraw.ImageDraw, lines: Sequence[Line], top: int) -> None:
    at = top + _MARGIN
    for line in lines:
        draw.text((_MARGIN, at), line.words, fill=line.colour, font=_font(line.size, bold=line.is_bold))
        at += _step(line)


def _arrow(draw: ImageDraw.ImageDraw, mark: Mark, scales: tuple[float, float], size: tuple[int, int]) -> None:
    """Point at a region from the side where there is most room, with its name at the arrow's tail."""
    if not mark.outlines:
        return
    points = np.asarray(mark.outlines[0], np.float64) * scales
    centre = (points.min(axis=0) + points.max(axis=0)) / 2
    length = 0.11 * min(size)

    def room(direction: NDArray[np.float64]) -> float:
        tail = centre + direction * (((points - centre) @ direction).max() + 8 + length)
        return float(min(tail[0], tail[1], size[0] - tail[0], size[1] - tail[1], 40))

    angles = np.deg2rad((225, 315, 135, 45, 180, 0, 90, 270))
    towards = max((np.array((np.cos(angle), -np.sin(angle))) for angle in angles), key=room)
    tip = centre + towards * (((points - centre) @ towards).max() + 8)
    tail = tip + towards * length
    aside = np.array((-towards[1], towards[0]))
    draw.line([tuple(tail), tuple(tip)], fill=mark.colour, width=3)
    head = [tip, tip + towards * 13 + aside * 6, tip + towards * 13 - aside * 6]
    draw.polygon([(float(x), float(y)) for x, y in head], fill=mark.colour)
    at = tail + towards * 12
    draw.text((float(at[0]), float(at[1])), mark.name, fill=mark.colour, font=_font(18, bold=True), anchor="mm")


@cache
def _font(size: int, *, bold: bool) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along: the same letters on every machine, accents and signs among them."""
    found = find_spec("matplotlib")
    folder = Path((found.submodule_search_locations or [""])[0]) if found else Path()
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(folder / "mpl-data" / "fonts" / "ttf" / name, size, layout_engine=ImageFont.Layout.BASIC)
