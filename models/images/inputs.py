"""The one place that turns a grey image into what a whole-image network sees, for training and for inference alike.

A view: the whole image, shrunken, for the organ. Tiles: native pixels beside high-pass residuals divided by the image's
own noise level, for synthesis. Work is bounded whatever the matrix: of a large image the tiles with most tissue.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models import inputs

FloatArray = NDArray[np.float32]

VIEW = 96
TILE = 96
MOST_TILES = 9
SMALLEST = 48  # rows or columns: less than this shows no organ
_SIDE = 1536  # a larger image is thinned to this before it is shrunken
_FEW_LEVELS = 4  # distinct grey values; a drawing or a mask, no image of a scanner

_SQUARE = inputs.FILTERS["square_3x3"]


def _spread(kernel: FloatArray, step: int) -> FloatArray:
    """The filter with its taps `step` pixels apart: the same pattern, an octave or two lower."""
    wide = np.zeros([step * (side - 1) + 1 for side in kernel.shape], dtype=np.float32)
    wide[::step, ::step] = kernel
    return wide


_FILTERS = {name: inputs.FILTERS[name] for name in ("across", "down", "square_3x3", "square_5x5")} | {
    "square_by_2": _spread(_SQUARE, 2),
    "square_by_4": _spread(_SQUARE, 4),
}
CHANNELS = ("grey", *_FILTERS, "noise_energy")

_FOREGROUND = 0.12  # of the intensity scale: tissue, not air
_CLIP = 6.0  # noise levels
_ENOUGH = 256  # fewer foreground pixels than this say nothing about noise


@dataclass(frozen=True, eq=False)
class Seen:
    """What a network sees of one image.

    `view` (1, 96, 96); `tiles` (tiles, channels, 96, 96), at least one; `corners` the row and column of each tile.
    """

    view: FloatArray
    tiles: FloatArray
    corners: tuple[tuple[int, int], ...]


def fault(image: NDArray[Any]) -> str:
    """Why an array cannot be judged at all, in words; empty when it can."""
    if image.ndim != 2 or image.dtype.kind not in "buif":
        return f"not a grey image of rows and columns: {image.ndim} axes of {image.dtype}"
    if min(image.shape) < SMALLEST:
        return f"{image.shape[0]}×{image.shape[1]} pixels are too few to show an organ (at least {SMALLEST}×{SMALLEST})"
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        return "pixels that are no finite numbers"
    levels = np.unique(_thinned(image, 256)).size
    if levels == 1 and int(np.ptp(image) > 0) == 0:
        return "a constant image"
    return f"only {levels} grey values" if levels <= _FEW_LEVELS else ""


def see(image: NDArray[Any], *, most: int = MOST_TILES) -> Seen:
    """What the network sees of an image that has no `fault`."""
    image = _plain(image)
    offset, scale = intensity(image)
    corners = _corners(image, offset, scale, most)
    patches = []
    for row, column in corners:
        patch = image[row : row + TILE, column : column + TILE].astype(np.float32)
        short = (TILE - patch.shape[0], TILE - patch.shape[1])
        patches.append(np.pad(patch, ((0, short[0]), (0, short[1])), mode="symmetric") if any(short) else patch)
    return Seen(view(image, offset, scale), channels(np.stack(patches), offset, scale), corners)


def intensity(image: NDArray[Any]) -> tuple[float, float]:
    """The offset and scale that bring tissue to about 0..1, from at most about 250×250 of the pixels."""
    return inputs.intensity_range(_thinned(image, 125).astype(np.float32)[np.newaxis])


def view(image: NDArray[Any], offset: float, scale: float) -> FloatArray:
    """The whole image, (1, 96, 96): shrunken with its aspect kept, black around it, about -0.5..1.5."""
    image = _plain(_thinned(image, _SIDE))
    longest = max(image.shape)
    size = [max(1, round(side * VIEW / longest)) for side in image.shape]
    small = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA).astype(np.float32)
    result = np.full((1, VIEW, VIEW), -0.5, dtype=np.float32)
    row, column = ((VIEW - side) // 2 for side in size)
    np.clip((small - offset) / scale - 0.5, -0.7, 1.5, out=result[0, row : row + size[0], column : column + size[1]])
    return result


def channels(patches: FloatArray, offset: float, scale: float) -> FloatArray:
    """CHANNELS of patches (tiles, rows, columns) of one image: (tiles, channels, rows, columns)."""
    result = np.empty((len(patches), len(CHANNELS), *patches.shape[1:]), dtype=np.float32)
    tissue = patches > offset + _FOREGROUND * scale
    np.clip((patches - offset) / scale - 0.5, -1.0, 2.0, out=result[:, 0])
    for channel, kernel in enumerate(_FILTERS.values(), start=1):
        for place, patch in enumerate(patches):
            cv2.filter2D(patch, cv2.CV_32F, kernel, dst=result[place, channel])
        level = max(_typical(np.abs(result[:, channel, ::2, ::2]), tissue[:, ::2, ::2]), 1e-3 * scale)
        result[:, channel] /= level
        np.clip(result[:, channel], -_CLIP, _CLIP, out=result[:, channel])
    for place in range(len(patches)):
        energy = cv2.blur(np.abs(result[place, 3]), (7, 7))
        np.log(energy + 0.05, out=result[place, -1])
    result[:, 1:-1] *= 0.5
    return result


def _typical(magnitudes: FloatArray, tissue: NDArray[np.bool_]) -> float:
    values = magnitudes[tissue]
    return float(np.median(values if values.size >= _ENOUGH else magnitudes))


def _corners(image: NDArray[Any], offset: float, scale: float, most: int) -> tuple[tuple[int, int], ...]:
    """Tiles that cover the image; where there are more than `most`, those with most tissue, in reading order."""
    places = [_along(side) for side in image.shape]
    corners = [(row, column) for row in places[0] for column in places[1]]
    if len(corners) <= most:
        return tuple(corners)
    limit = offset + _FOREGROUND * scale
    tissue = [float((image[r : r + TILE : 8, c : c + TILE : 8] > limit).mean()) for r, c in corners]
    chosen = np.argsort(-np.round(tissue, 2), kind="stable")
    full = int((np.asarray(tissue) > 0.95).sum())
    if full > most:  # all tissue: spread over it instead of taking the first
        chosen = chosen[:full][np.linspace(0, full - 1, most).round().astype(int)]
    return tuple(corners[k] for k in sorted(int(k) for k in chosen[:most]))


def _along(side: int) -> list[int]:
    count = min(12, -(-side // TILE))
    return [int(place) for place in np.linspace(0, max(0, side - TILE), count).round()]


def _plain(image: NDArray[Any]) -> NDArray[Any]:
    """The same values in a type that OpenCV can shrink."""
    if image.dtype in (np.uint8, np.uint16, np.int16, np.float32) and image.dtype.isnative:
        return image
    return image.astype(np.uint8 if image.dtype.kind == "b" else np.float32)


def _thinned(image: NDArray[Any], side: int) -> NDArray[Any]:
    """Every n-th row and column, so that neither is much longer than `side`."""
    step = max(1, max(image.shape) // side)
    return np.ascontiguousarray(image[::step, ::step]) if step > 1 else np.ascontiguousarray(image)
