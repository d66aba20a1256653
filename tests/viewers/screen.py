"""What a screenshot shows: where a tint lies, where a mask has to lie, how far the one strays from the other."""

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]
"""(rows, columns, red green blue)."""
Mask = NDArray[np.bool_]


def picture_of(png: bytes) -> Picture:
    """A PNG's pixels."""
    with Image.open(BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"))


def save(png: bytes, path: Path) -> None:
    """Keep a screenshot in few bytes: 256 colours."""
    with Image.open(BytesIO(png)) as image:
        path.parent.mkdir(parents=True, exist_ok=True)
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def tinted(picture: Picture, colour: tuple[int, int, int], least: float = 25) -> Mask:
    """The pixels with this colour's tint, however pale: where it lies over grey, opaque or half-transparent."""
    wanted = np.array(colour) - np.mean(colour)
    wanted /= np.linalg.norm(wanted)
    tint = picture - picture.mean(axis=2, keepdims=True)
    along = tint @ wanted
    found: Mask = (along > least) & (along > 0.93 * np.linalg.norm(tint, axis=2))
    return found


def bright(picture: Picture) -> Mask:
    """The pixels above half of white."""
    found: Mask = picture.min(axis=2) > 127
    return found


def on_screen(image: NDArray[np.uint8], corners: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """An image (rows, columns, …) as it has to lie on a screen of this `shape`, by nearest neighbour; else zero.

    `corners` (3, 2): column and row on the screen of the matrix's corners at the top left, top right, bottom left.
    """
    rows, columns = image.shape[:2]
    origin, across, down = corners[0], corners[1] - corners[0], corners[2] - corners[0]
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    parts = np.stack([x - origin[0], y - origin[1]], axis=-1) @ np.linalg.inv(np.stack([across, down]))
    column, row = np.floor(parts[..., 0] * columns).astype(int), np.floor(parts[..., 1] * rows).astype(int)
    inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    found = np.zeros((*shape, *image.shape[2:]), image.dtype)
    found[inside] = image[row[inside], column[inside]]
    return found


def strays(seen: Mask, wanted: Mask, slack: int) -> tuple[int, int]:
    """How many pixels are missing, and how many are too much; `slack` pixels on both sides of an edge do not count."""
    core = ~near(~wanted, slack)
    return int((core & ~seen).sum()), int((seen & ~near(wanted, slack)).sum())


def near(mask: Mask, distance: int) -> Mask:
    """The pixels that lie within a distance, along rows and columns, of a mask's."""
    kernel = np.ones((2 * distance + 1, 2 * distance + 1), np.uint8)
    found: Mask = cv2.dilate(mask.astype(np.uint8), kernel) > 0
    return found


def edge(mask: Mask) -> Mask:
    """The pixels of a mask that touch its outside."""
    return mask & near(~mask, 1)
