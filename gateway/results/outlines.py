"""Outlines of regions along the edges of their pixels, so that the region can be had back from them exactly.

Coordinates are those of SCOORD and of presentation states (PS3.3 C.18.6, C.10.5.1.2): column, row in pixels, 0\\0 at
the top left corner of the first pixel, so that a pixel's centre lies at a half.
"""

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

Outline = NDArray[np.float32]
"""(points, 2) of column, row; closed: the last point is the first."""

MAX_POINTS = 4000  # an explicit VR has 16 bits for the bytes of a value: 8191 points

_Vertex = tuple[int, int]


def outlines(mask: NDArray[np.bool_]) -> list[Outline]:
    """The outer outlines of the parts of a mask (rows, columns), the largest first; holes are not outlined.

    Pixels that touch in a corner are one part. An outline of more than MAX_POINTS corners is thinned out.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return []
    top, left = int(rows[0]), int(columns[0])
    ahead = _edges(np.pad(mask[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1], 1))
    loops = []
    for start in sorted(ahead):  # the first of what is left lies on one border only
        if start not in ahead:
            continue
        loop = _without_straights(_loop(ahead, start))
        area = _area(loop)
        if area > 0:
            thinned = loop[:: -(-len(loop) // MAX_POINTS)]
            closed = np.vstack((thinned, thinned[:1])) + np.array((left - 1, top - 1))
            loops.append((area, closed.astype(np.float32)))
    return [outline for _, outline in sorted(loops, key=lambda pair: -pair[0])]


def _edges(padded: NDArray[np.bool_]) -> dict[_Vertex, list[_Vertex]]:
    """Where each corner on the border leads to, clockwise around the mask, as (column, row)."""
    inside = padded[1:-1, 1:-1]
    ahead: dict[_Vertex, list[_Vertex]] = defaultdict(list)
    sides = (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),
        (padded[1:-1, 2:], (1, 0), (1, 1)),
        (padded[2:, 1:-1], (1, 1), (0, 1)),
        (padded[1:-1, :-2], (0, 1), (0, 0)),
    )
    for beyond, (c0, r0), (c1, r1) in sides:
        for row, column in (np.argwhere(inside & ~beyond) + 1).tolist():
            ahead[column + c0, row + r0].append((column + c1, row + r1))
    return ahead


def _loop(ahead: dict[_Vertex, list[_Vertex]], start: _Vertex) -> list[_Vertex]:
    """Follow a border until it closes, and take it out of `ahead`."""
    here, before = start, start
    loop = []
    while True:
        loop.append(here)
        choices = ahead[here]
        there = choices[0]
        if len(choices) == 2:  # two parts touch in this corner: turn left, so that they stay one
            heading = (here[0] - before[0], here[1] - before[1])
            there = min(choices, key=lambda to: heading[0] * (to[1] - here[1]) - heading[1] * (to[0] - here[0]))
        choices.remove(there)
        if not choices:
            del ahead[here]
        before, here = here, there
        if here == start:
            return loop


def _without_straights(loop: list[_Vertex]) -> NDArray[np.int64]:
    points = np.array(loop, np.int64)
    arriving, leaving = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    corners: NDArray[np.int64] = points[(arriving != leaving).any(axis=1)]
    return corners


def _area(loop: NDArray[np.int64]) -> float:
    """Positive when clockwise in the image, which a border around pixels is and one around a hole is not."""
    following = np.roll(loop, -1, axis=0)
    return float((loop[:, 0] * following[:, 1] - loop[:, 1] * following[:, 0]).sum()) / 2
