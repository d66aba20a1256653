"""Squares that cover a slice: a network that learned from crops is asked about crops, and its answers are joined.

Asked about a whole slice it meets another share of air and another noise level than it learned from, and marks more of
a genuine slice and less of an edited one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models import inputs
from models.inputs import FloatArray

_APART = 0.75  # of a square, at most, between two neighbours
_LEAST = 0.05  # of a square has to be tissue; a network says nothing about air
_RIM = 1e-3  # what the outermost pixels of a square count


@dataclass(frozen=True)
class Tile:
    """A square of a slice: its first row and column, and its input channels (channels, rows, columns)."""

    row: int
    column: int
    channels: FloatArray


def of_slice(volume: FloatArray, index: int, size: int, intensity: tuple[float, float]) -> list[Tile]:
    """The squares of slice `index` that show tissue; the one that shows most where none shows enough.

    Each has the noise level of its own, as in training. `intensity` is (offset, scale) of the whole volume.
    """
    first = max(0, index - 1)
    slab = volume[first : index + 2]
    offset, scale = intensity
    tissue = slab[index - first] > offset + inputs.FOREGROUND * scale
    places = [(row, column) for row in starts(volume.shape[1], size) for column in starts(volume.shape[2], size)]
    shares = [float(tissue[row : row + size, column : column + size].mean()) for row, column in places]
    chosen = [place for place, share in zip(places, shares, strict=True) if share >= _LEAST]
    made = []
    for row, column in chosen or [places[int(np.argmax(shares))]]:
        part = np.ascontiguousarray(slab[:, row : row + size, column : column + size])
        made.append(Tile(row, column, inputs.channels(part, [index - first], intensity=intensity)[0]))
    return made


def joined(
    tiles: Sequence[Tile], answers: NDArray[np.float32], shape: tuple[int, int], otherwise: float
) -> NDArray[np.float32]:
    """One map (…, rows, columns) of the squares' maps (tiles, …, rows, columns); `otherwise` where none looked."""
    rows, columns = shape
    total = np.zeros((*answers.shape[1:-2], rows, columns), np.float32)
    weight = np.zeros(shape, np.float32)
    height, width = tiles[0].channels.shape[1:]
    counts = np.outer(_taper(height), _taper(width))
    for tile, answer in zip(tiles, answers, strict=True):
        place = (slice(tile.row, tile.row + height), slice(tile.column, tile.column + width))
        total[(..., *place)] += counts * answer[..., :height, :width]
        weight[place] += counts
    return np.where(weight > 0, total / np.maximum(weight, np.float32(_RIM**2)), np.float32(otherwise))


def _taper(length: int) -> FloatArray:
    return np.asarray(np.hanning(length + 2)[1:-1] + _RIM, np.float32)


def starts(length: int, size: int) -> list[int]:
    """Where squares begin along an axis: evenly, at most `_APART` of a square apart."""
    if length <= size:
        return [0]
    steps = int(np.ceil((length - size) / (_APART * size)))
    return [round(step * (length - size) / steps) for step in range(steps + 1)]
