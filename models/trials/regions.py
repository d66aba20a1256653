"""The regions that a model points at in a volume, each with a score that does not saturate."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_LEVEL = 0.3  # probability from which a pixel belongs to a region; low, so that FROC has its right end
_LEAST = 8  # pixels
_STRONGEST = 32  # pixels whose mean log-odds stand for the region
_SATURATED = 1e-7
_IN_EDIT, _OF_EDIT = 0.2, 0.1  # share of a region that lies in the edit, and of the edit that it covers: a hit


def regions(edit: NDArray[np.float32], mask: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
    """Scores of the connected regions of `edit` (slices, rows, columns), strongest first.

    With `mask`, of the same shape, only the strongest region that hits it: a fifth of the region lies in the edit, and
    it covers a tenth of the edit, so that neither a flag over the whole head nor a speck counts.
    """
    labels, count = ndimage.label(edit >= _LEVEL, structure=np.ones((3, 3, 3), bool))
    scores = []
    for number, place in enumerate(ndimage.find_objects(labels, count), 1):
        inside = labels[place] == number
        size = int(inside.sum())
        if size < _LEAST or (mask is not None and not _hits(inside, size, mask[place], mask)):
            continue
        values = np.clip(edit[place][inside], _SATURATED, 1 - _SATURATED)
        top = values if size <= _STRONGEST else np.partition(values, -_STRONGEST)[-_STRONGEST:]
        scores.append(float(np.log(top / (1 - top)).mean()))
    found = np.sort(np.array(scores, dtype=np.float32))[::-1]
    return found if mask is None else found[:1]


def _hits(inside: NDArray[np.bool_], size: int, part: NDArray[np.bool_], mask: NDArray[np.bool_]) -> bool:
    shared = int((inside & part).sum())
    return shared >= _IN_EDIT * size and shared >= _OF_EDIT * int(mask.sum())
