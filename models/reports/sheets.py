"""Contact sheets: many small images with a line of words under each, regions outlined."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from models.reports.report import Picture

_GAP = 6
_LINE = 15
_LETTERS = 12
FOUND, TRUE = (194, 65, 12), (4, 120, 87)  # outlines: what was found, what is there


@dataclass(frozen=True, eq=False)
class Tile:
    """One image (rows, columns) of any real dtype, stretched to its own range unless `pixels` are uint8.

    `outlines`: masks (rows, columns), each with its colour; FOUND and TRUE are the house's.
    """

    pixels: NDArray[Any] = field(repr=False)
    label: str = ""
    outlines: Sequence[tuple[NDArray[np.bool_], tuple[int, int, int]]] = field(default=(), repr=False)


def contact_sheet(tiles: Sequence[Tile], caption: str, *, columns: int = 6, size: int = 128, lines: int = 2) -> Picture:
    """The tiles in rows of `columns`, each fitted into `size` pixels; `lines` lines for a label, cut to its width."""
    columns = max(1, min(columns, len(tiles)))
    rows = -(-len(tiles) // columns)
    below = _LINE * lines
    sheet = Image.new("RGB", (_GAP + columns * (size + _GAP), _GAP + rows * (size + below + _GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    for place, tile in enumerate(tiles):
        left = _GAP + place % columns * (size + _GAP)
        top = _GAP + place // columns * (size + below + _GAP)
        image = _drawn(tile)
        image.thumbnail((size, size)) if max(image.size) > size else None
        sheet.paste(image, (left + (size - image.width) // 2, top + (size - image.height) // 2))
        for number, line in enumerate(_lines(tile.label, size, lines)):
            draw.text((left, top + size + number * _LINE), line, fill=(26, 26, 26), font=letters())
    written = BytesIO()
    sheet.save(written, format="PNG", optimize=True)
    return Picture(caption, written.getvalue())


def _drawn(tile: Tile) -> Image.Image:
    colour = np.repeat(eight_bits(tile.pixels)[..., np.newaxis], 3, axis=2)
    for mask, shade in tile.outlines:
        inner = mask.copy()
        inner[1:-1, 1:-1] &= mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
        inner[[0, -1]] = False
        inner[:, [0, -1]] = False
        colour[mask & ~inner] = shade
    return Image.fromarray(colour)


def eight_bits(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """An image for the eye: uint8 as it is, anything else from its own lowest to its highest finite value."""
    if pixels.dtype == np.uint8:
        return np.asarray(pixels)
    values = np.nan_to_num(np.asarray(pixels, dtype=np.float64), posinf=0, neginf=0)
    low, high = float(values.min()), float(values.max())
    return np.asarray(np.round((values - low) / max(high - low, 1e-9) * 255), dtype=np.uint8)


def _lines(label: str, width: int, most: int) -> list[str]:
    """The label in lines that fit, at its own line breaks first; what does not fit ends in …"""
    fits = max(4, int(width / letters().getlength("n")))
    lines: list[str] = []
    for part in label.split("\n"):
        line = ""
        for word in part.split():
            if line and len(line) + 1 + len(word) > fits:
                lines.append(line)
                line = word
            else:
                line = f"{line} {word}".strip()
        lines.append(line)
    return [line if len(line) <= fits else line[: fits - 1] + "…" for line in lines[:most]]


@cache
def letters(size: int = _LETTERS) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along: the same letters on every machine."""
    found = find_spec("matplotlib")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("matplotlib brings the letters of contact sheets; install it")
    return ImageFont.truetype(Path(found.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf", size)
