"""The density map of manipulated regions: how much of the surroundings of each pixel was edited, and boxes from it.

A value means the same on every slice: the share of edited pixels within 4 pixels up, down, left and right. It is never
divided by the map's own maximum, so a quiet slice has a quiet map.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

WINDOW = 9  # pixels, a side
_LOW = 0.5  # share of the threshold down to which a box reaches
_LEAST = 12  # pixels; smaller spots are noise


@dataclass(frozen=True)
class DensityBox:
    """A dense spot: `box` (row0, column0, row1, column1), half-open, and the highest density in it."""

    box: tuple[int, int, int, int]
    density: float


def target(mask: Tensor) -> Tensor:
    """The density (slices, rows, columns) of edit masks of that shape; beyond the image's edge nothing counts."""
    return functional.avg_pool2d(mask.float()[:, None], WINDOW, 1, WINDOW // 2, count_include_pad=False)[:, 0]


def boundary(mask: Tensor) -> Tensor:
    """1 within a pixel of an edit's rim, inside or outside, else 0; (slices, rows, columns) as `mask`."""
    filled = mask.float()[:, None]
    return (functional.max_pool2d(filled, 3, 1, 1) + functional.max_pool2d(-filled, 3, 1, 1))[:, 0]


def of_probabilities(edit: NDArray[np.float32]) -> NDArray[np.float32]:
    """The expected density (slices, rows, columns) where a network only gives each pixel's probability of an edit."""
    return target(torch.from_numpy(np.ascontiguousarray(edit, dtype=np.float32))).numpy()


def boxes(density: NDArray[np.floating], *, threshold: float = 0.4, most: int = 8) -> list[DensityBox]:
    """Boxes around the spots of a map (rows, columns) that reach `threshold`, the densest `most` of them first."""
    values = np.asarray(density, dtype=np.float32)
    if not (values >= threshold).any():
        return []
    count, labels, figures, _ = cv2.connectedComponentsWithStats((values >= _LOW * threshold).astype(np.uint8))
    found = []
    for label in range(1, count):
        column, row, width, height, area = (int(value) for value in figures[label])
        place = (slice(row, row + height), slice(column, column + width))
        peak = float(values[place][labels[place] == label].max())
        if peak >= threshold and area >= _LEAST:
            found.append(DensityBox((row, column, row + height, column + width), peak))
    return sorted(found, key=lambda each: -each.density)[:most]
