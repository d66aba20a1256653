"""Lesions of real patients to clone into others: from masks and boxes, and from bright tissue where there are none."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models import inputs
from models.datasets import Case
from models.tampering.material import Donor, FloatArray, Mask

_MARGIN = 14
_LARGEST = 9000  # pixels in a plane; larger ones are not lesions but faults of a mask


def of_cases(cases: Sequence[Case], rng: np.random.Generator, limit: int = 400) -> list[Donor]:
    """Up to `limit` donors from the cases that mark their lesions."""
    places: list[tuple[Case, int]] = []
    for case in cases:
        if case.boxes is not None:
            places += [(case, index) for index in range(len(case.images))]
        elif case.lesion is not None:
            sizes = np.asarray(case.lesion).sum(axis=(1, 2))
            places += [(case, int(index)) for index in np.flatnonzero((sizes > 60) & (sizes < _LARGEST))]
    chosen = rng.permutation(len(places))[:limit]
    found = (_at(*places[int(index)]) for index in chosen)
    return [donor for donor in found if donor is not None]


def of_volume(volume: NDArray[Any]) -> list[Donor]:
    """Bright, compact regions inside a head without marks: what a lesion on FLAIR or after contrast looks like."""
    work = inputs.as_volume(volume)
    offset, scale = inputs.intensity_range(work)
    found = []
    for index in range(len(work) // 4, max(1, 3 * len(work) // 4), 2):
        blurred = cv2.GaussianBlur(work[index], (0, 0), 2.0)
        head = (blurred > offset + 0.18 * scale).astype(np.uint8)
        inner = cv2.erode(head, np.ones((3, 3), np.uint8), iterations=max(2, work.shape[2] // 20)) > 0
        if inner.sum() < 400:
            continue
        bright = inner & (blurred > np.percentile(blurred[inner], 94))
        count, labels, figures, _ = cv2.connectedComponentsWithStats(bright.astype(np.uint8))
        for label in range(1, count):
            if 60 <= figures[label, cv2.CC_STAT_AREA] <= _LARGEST:
                donor = _cut(work, index, labels == label, offset, scale)
                found.append(donor)
    return found


def _at(case: Case, index: int) -> Donor | None:
    around = slice(index, index + 1) if case.separate else slice(max(0, index - 1), index + 2)
    slab = np.asarray(case.images[around]).astype(np.float32)
    middle = index - around.start
    if case.boxes is not None:
        row0, column0, row1, column1 = (int(value) for value in case.boxes[index])
        mask = np.zeros(slab.shape[1:], dtype=np.uint8)
        centre, axes = ((column0 + column1) // 2, (row0 + row1) // 2), ((column1 - column0) // 2, (row1 - row0) // 2)
        cv2.ellipse(mask, centre, axes, 0, 0, 360, 1, -1)
        inside = mask > 0
    elif case.lesion is not None:
        inside = np.asarray(case.lesion[index])
    else:
        return None
    if not 60 <= inside.sum() <= 4 * _LARGEST:
        return None
    return _cut(slab, middle, inside, *inputs.intensity_range(slab))


def _cut(volume: FloatArray, index: int, inside: Mask, offset: float, scale: float) -> Donor:
    rows, columns = np.nonzero(inside)
    box = (
        slice(max(0, int(rows.min()) - _MARGIN), int(rows.max()) + _MARGIN + 1),
        slice(max(0, int(columns.min()) - _MARGIN), int(columns.max()) + _MARGIN + 1),
    )
    planes = slice(max(0, index - 1), index + 2)
    image = (volume[planes][:, box[0], box[1]] - offset) / scale
    mask = np.broadcast_to(inside[box], image.shape).copy()
    return Donor(image=np.ascontiguousarray(image, dtype=np.float32), mask=mask)
