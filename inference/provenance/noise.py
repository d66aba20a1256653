"""Noise that stands twice in a scan: a scanner never measures the same noise again, an attacker's touch-up copies it.

CT-GAN (Mirsky 2019) hides its edits under noise that is copied from one fixed place of the same scan; cloned tissue
brings its noise along. What is compared is the high-pass residual: around its extremes (which move with a copy) the
signs of random projections give hash keys, equal keys give pairs, and a pair grows as far as the residuals at its
displacement stay alike, within a slice or between slices. Copies that were turned, mirrored or resampled are not found.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

_RADIUS = 5  # pixels; a patch is 11×11
_SIDE = 2 * _RADIUS + 1
_REACH = 28  # pixels around a pair that it may grow over
_BITS = 160  # signs of random projections that describe a patch
_MANY = 250_000  # patches; from here on keys are longer and tables fewer, to stay within seconds
_SCALE = 1.0  # pixels; the high-pass takes away what is smoother
_CLIP = 3.5  # noise levels; beyond it a residual is an edge of the anatomy
_AROUND = 31  # pixels over which noise is taken as even
_LEVELS = 31.0  # stored steps for each noise level
_ALIKE = 0.26  # share of differing signs: a correlation of about 0.7
_GROWS = 0.72  # correlation of residuals, over 9×9 pixels, from which on two places are alike
_FAR = 14  # pixels; closer patches overlap or follow one structure
_CROWD = 32  # equal keys in such numbers are structure (borders, grids), not a copy
_PAIRS = 3_000_000  # a table
_MOST = 2_000  # pairs that are grown, the most alike first
_NOWHERE = (0, 0, 0, 0)

Place = tuple[int, int, int, int]


@dataclass(frozen=True)
class Copy:
    """A region that lies again at `displacement` (slices, rows, columns).

    `radius` is that of the largest circle inside it, in pixels. `one` and `other` are the two places as (row0, column0,
    row1, column1), half-open, where it is largest; nothing in the noise says which of the two is the original.
    """

    displacement: tuple[int, int, int]
    radius: float
    correlation: float
    slices: tuple[int, ...]
    one: Place
    other: Place


def copied_noise(voxels: NDArray[np.float32], least: float) -> list[Copy]:
    """Regions of a volume (slices, rows, columns) whose noise lies elsewhere again, the largest first.

    Only those that hold a circle of the radius `least`, in pixels. About 0.5 s for 55×256×256 on one core.
    """
    if min(voxels.shape[1:]) < 4 * _SIDE:
        return []
    projections = np.random.default_rng(20190613).standard_normal((_SIDE * _SIDE, _BITS)).astype(np.float32)
    projections -= projections.mean(axis=0)
    residuals = np.zeros(voxels.shape, np.int8)
    codes: list[NDArray[np.uint8]] = []
    places: list[NDArray[np.int32]] = []
    for index, plane in enumerate(voxels):
        residuals[index], at = _anchors(plane)
        if len(at):
            windows = np.lib.stride_tricks.sliding_window_view(residuals[index], (_SIDE, _SIDE))
            patches = windows[at[:, 0] - _RADIUS, at[:, 1] - _RADIUS].reshape(len(at), -1).astype(np.float32)
            codes.append(np.packbits(patches @ projections > 0, axis=1))
            places.append(np.column_stack((np.full(len(at), index, np.int32), at)))
    if not codes:
        return []
    place = np.concatenate(places)
    one, other = _pairs(np.concatenate(codes), place)
    return _grown(residuals, place[one], place[other], least)


def _anchors(plane: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.int32]]:
    """The residual in steps of the noise around it, and the (row, column) of its extremes where it is noise."""
    residual = plane - cv2.GaussianBlur(plane, (0, 0), _SCALE)
    around = cv2.blur(np.abs(residual), (_AROUND, _AROUND)) * 1.25
    floor = max(float(around.mean()) * 0.05, 1e-6)
    scaled = np.clip(residual / np.maximum(around, floor), -_CLIP, _CLIP).astype(np.float32)
    energy = cv2.blur(scaled * scaled, (_SIDE, _SIDE))
    edges = cv2.blur((np.abs(scaled) >= _CLIP).astype(np.float32), (_SIDE, _SIDE))
    busy = cv2.blur((np.abs(scaled) > 0.05).astype(np.float32), (_SIDE, _SIDE))
    smooth = np.abs(cv2.GaussianBlur(scaled, (0, 0), 0.7))
    window = 5 if max(plane.shape) <= 400 else 7
    peaks = smooth >= cv2.dilate(smooth, np.ones((window, window), np.uint8))
    # A speck on an empty background equals every other speck: a patch of noise moves nearly everywhere.
    peaks &= (energy > 0.1) & (edges < 0.06) & (busy > 0.7) & (_coherence(scaled) < 0.5)
    peaks[:_RADIUS] = peaks[-_RADIUS:] = False
    peaks[:, :_RADIUS] = peaks[:, -_RADIUS:] = False
    return np.rint(scaled * _LEVELS).astype(np.int8), np.argwhere(peaks).astype(np.int32)


def _coherence(scaled: NDArray[np.float32]) -> NDArray[np.float32]:
    """0 where a patch has no direction, as noise, to 1 where it is an edge or a line (structure tensor)."""
    across, down = cv2.Sobel(scaled, cv2.CV_32F, 1, 0), cv2.Sobel(scaled, cv2.CV_32F, 0, 1)
    xx, yy, xy = (cv2.blur(each, (_SIDE, _SIDE)) for each in (across * across, down * down, across * down))
    return np.asarray(np.sqrt((xx - yy) ** 2 + 4 * xy * xy) / np.maximum(xx + yy, 1e-6), np.float32)


def _pairs(code: NDArray[np.uint8], place: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of patches that are alike and far enough apart, the most alike first."""
    tables = 16 if len(code) < _MANY else 5
    ones, others, distances = [], [], []
    # As words, so that a comparison of all signs is a few operations.
    words = np.zeros((len(code), -(-_BITS // 64) * 8), np.uint8)
    words[:, : code.shape[1]] = code
    signs = words.view(np.uint64)
    for table in range(tables):
        key = _keys(code, table * (code.shape[1] - 3) // (tables - 1))
        order = np.argsort(key, kind="stable")
        ordered = key[order]
        total = 0
        same = np.arange(len(code))
        for step in range(1, _CROWD):
            # Who equals the one `step` further on also equals all between: only those are asked again.
            same = same[same < len(code) - step]
            same = same[ordered[same] == ordered[same + step]]
            total += len(same)
            if not len(same) or total > _PAIRS:
                break
            left, right = order[same], order[same + step]
            apart = (np.abs(place[left, 1:] - place[right, 1:]) >= _FAR).any(axis=1)
            left, right = left[apart], right[apart]
            distance = np.bitwise_count(signs[left] ^ signs[right]).sum(axis=1)
            near = distance <= _ALIKE * _BITS
            ones.append(np.minimum(left, right)[near])
            others.append(np.maximum(left, right)[near])
            distances.append(distance[near])
    if not ones:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    one, other, distance = np.concatenate(ones), np.concatenate(others), np.concatenate(distances)
    _, first = np.unique(one * len(code) + other, return_index=True)
    first = first[np.argsort(distance[first], kind="stable")][:_MOST]
    return one[first], other[first]


def _keys(code: NDArray[np.uint8], start: int) -> NDArray[np.integer]:
    """16 signs from the byte `start` on, 20 where there are many patches."""
    key = code[:, start].astype(np.uint16) << 8 | code[:, start + 1]
    return key if len(code) < _MANY else key.astype(np.int32) << 4 | code[:, start + 2] >> 4


def _grown(residuals: NDArray[np.int8], ones: NDArray[np.int32], others: NDArray[np.int32], least: float) -> list[Copy]:
    """Pairs as regions, those of one displacement together."""
    regions: dict[tuple[int, int, int], dict[int, tuple[float, float, Place]]] = {}
    covered: dict[tuple[int, ...], list[tuple[int, int, NDArray[np.bool_]]]] = {}
    for one, other in zip(ones, others, strict=True):
        plane, down, across = (int(value) for value in other - one)
        key = (plane, down, across, int(one[0]))
        done = covered.setdefault(key, [])
        if any(_holds(mask, int(one[1]) - top, int(one[2]) - left) for top, left, mask in done):
            continue
        radius, correlation, place, mask, corner = _grow(residuals, one, other)
        done.append((*corner, mask))
        slices = regions.setdefault((plane, down, across), {})
        if radius > slices.get(int(one[0]), (0.0, 0.0, place))[0]:
            slices[int(one[0])] = (radius, correlation, place)
    found = []
    for (plane, down, across), slices in regions.items():
        large = {index: entry for index, entry in slices.items() if entry[0] >= least}
        if large:
            radius, correlation, (row0, column0, row1, column1) = max(large.values())
            found.append(
                Copy(
                    displacement=(plane, down, across),
                    radius=round(radius, 1),
                    correlation=round(correlation, 3),
                    slices=tuple(sorted({index + step for index in large for step in (0, plane)})),
                    one=(row0, column0, row1, column1),
                    other=(row0 + down, column0 + across, row1 + down, column1 + across),
                )
            )
    return sorted(found, key=lambda copy: -copy.radius)


def _holds(mask: NDArray[np.bool_], row: int, column: int) -> bool:
    return 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1] and bool(mask[row, column])


def _grow(
    residuals: NDArray[np.int8], one: NDArray[np.int32], other: NDArray[np.int32]
) -> tuple[float, float, Place, NDArray[np.bool_], tuple[int, int]]:
    """How far two places are alike: radius, mean correlation, box, and the mask with the corner where it lies."""
    rows, columns = residuals.shape[1:]
    up, left = (int(min(_REACH, one[axis], other[axis])) for axis in (1, 2))
    down = int(min(_REACH + 1, rows - one[1], rows - other[1]))
    right = int(min(_REACH + 1, columns - one[2], columns - other[2]))
    here, there = (residuals[z, y - up : y + down, x - left : x + right].astype(np.float32) for z, y, x in (one, other))
    box = (9, 9)
    means = cv2.blur(here, box), cv2.blur(there, box)
    together = cv2.blur(here * there, box) - means[0] * means[1]
    power = (cv2.blur(here * here, box) - means[0] ** 2) * (cv2.blur(there * there, box) - means[1] ** 2)
    correlation = together / np.sqrt(np.maximum(power, 1.0))
    _, labels = cv2.connectedComponents((correlation >= _GROWS).astype(np.uint8), connectivity=4)
    label = labels[up, left]
    corner = (int(one[1]) - up, int(one[2]) - left)
    if not label:
        return 0.0, 0.0, _NOWHERE, np.zeros(here.shape, bool), corner
    mask = labels == label
    inside = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)
    across, along = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    place = (
        corner[0] + int(across[0]),
        corner[1] + int(along[0]),
        corner[0] + int(across[-1]) + 1,
        corner[1] + int(along[-1]) + 1,
    )
    return float(inside.max()), float(correlation[mask].mean()), place, mask, corner
