"""The boxes that a density map holds in a volume, linked through its slices, each with the highest density in it.

They are what is shown to Mask R-CNN as places to look at, and are judged as they are: nothing is learned about them.
"""

import numpy as np
from numpy.typing import NDArray

from models import density

Box = tuple[int, int, int, int]
_SAME = 0.3  # overlap of boxes of neighbouring slices that go on in each other
_HIT = 0.3  # overlap with the box around the edit on that slice


def boxes(values: NDArray[np.floating], mask: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
    """The highest density of each chain of boxes of `values` (slices, rows, columns), densest first.

    With `mask`, of the same shape, only the densest chain of which a box overlaps the box around the edit on its slice
    by an intersection over union of 0.3.
    """
    chains: list[list[tuple[int, Box, float]]] = []
    for index, plane in enumerate(values):
        open_ = [chain for chain in chains if chain[-1][0] == index - 1]
        for found in density.boxes(plane):
            best = max(open_, key=lambda chain: overlap(chain[-1][1], found.box), default=None)
            if best is not None and overlap(best[-1][1], found.box) >= _SAME:
                best.append((index, found.box, found.density))
                open_ = [chain for chain in open_ if chain is not best]
            else:
                chains.append([(index, found.box, found.density)])
    if mask is not None:
        around = {int(index): around_edit(mask[index]) for index in np.flatnonzero(mask.any(axis=(1, 2)))}
        chains = [
            chain for chain in chains if any(i in around and overlap(box, around[i]) >= _HIT for i, box, _ in chain)
        ]
    scores = np.sort(np.array([max(value for *_, value in chain) for chain in chains], dtype=np.float32))[::-1]
    return scores if mask is None else scores[:1]


def overlap(one: Box, other: Box) -> float:
    """Intersection over union of two boxes (row0, column0, row1, column1), half-open."""
    down, across = (min(one[k + 2], other[k + 2]) - max(one[k], other[k]) for k in (0, 1))
    shared = max(0, down) * max(0, across)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / max(1, sum(areas) - shared)


def around_edit(mask: NDArray[np.bool_]) -> Box:
    """The box around what is set in a slice (rows, columns) that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
