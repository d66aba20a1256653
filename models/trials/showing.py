"""Cases kept for the eye: the worst of a run, small, and not all of one kind."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models import inputs
from models.trials.records import Shown

_SIDE = 256  # pixels at most


def to_eye(plane: NDArray[Any], offset: float, scale: float) -> NDArray[np.uint8]:
    """A slice as a viewer would window it, at most 256 pixels wide and high."""
    grey = np.clip((plane.astype(np.float32) - offset) / (1.3 * scale), 0, 1) * 255
    return np.asarray(fitted(grey).astype(np.uint8))


def fitted(plane: NDArray[Any]) -> NDArray[Any]:
    longest = max(plane.shape)
    if longest <= _SIDE:
        return plane
    size = (round(plane.shape[1] * _SIDE / longest), round(plane.shape[0] * _SIDE / longest))
    return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA))


def shown(
    about: dict[str, Any],
    volumes: tuple[NDArray[Any], NDArray[Any]],
    index: int,
    mask: NDArray[np.bool_],
    edit: NDArray[np.float32],
) -> Shown:
    """Slice `index` of (genuine, given) `volumes`; `mask` and `edit` are of this slice."""
    offset, scale = inputs.intensity_range(inputs.as_volume(volumes[0]))
    genuine, given = (to_eye(volume[index], offset, scale) for volume in volumes)
    return Shown(
        **about,
        genuine=genuine,
        given=given,
        mask=fitted(mask.astype(np.float32)) >= 0.5,
        said=np.rint(255 * fitted(edit)).astype(np.uint8),
    )


def worst(cases: Sequence[Shown], count: int = 12, *, of_one: int = 4) -> list[Shown]:
    """The first `count` cases of the worst first, at most `of_one` of one source and of one family.

    Worst is a miss with the lowest logit, a false alarm with the highest.
    """
    taken: list[Shown] = []
    kinds: Counter[str] = Counter()
    for case in sorted(cases, key=lambda each: each.logit if each.family else -each.logit):
        names = [f"source {case.source}", *([f"family {case.family}"] if case.family else [])]
        if len(taken) < count and all(kinds[name] < of_one for name in names):
            taken.append(case)
            kinds.update(names)
    return taken
