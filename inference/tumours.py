"""Real tumours beside edits: findings of their own, and no sign of manipulation."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from inference import linking
from inference.detectors import Detection
from inference.findings import FindingClass
from inference.linking import Region

Scored = tuple[float, Region]


def beside(
    edits: Sequence[Scored],
    components: NDArray[np.int32],
    lesion: NDArray[np.float32],
    *,
    threshold: float,
    voxel_mm3: NDArray[np.float64],
    pixel_mm2: float,
) -> tuple[list[Scored], NDArray[np.int32]]:
    """The regions of edits and of real tumours, with components (slices, rows, columns) that hold both.

    `components` are those of the edits, kept or not; a pixel of one that is kept is no tumour. `lesion` (slices, rows,
    columns) is the probability that a pixel belongs to a real tumour. A tumour's score is its strength: uncalibrated.
    """
    edited = np.isin(components, [region.component for _, region in edits])
    free = np.where(edited, np.float32(0), lesion)
    codes = np.full(free.shape, FindingClass.REAL_TUMOUR.code, np.uint8)
    found, marks = linking.link(
        Detection(free, np.zeros(len(free), np.float32), codes),
        threshold=threshold,
        voxel_mm3=voxel_mm3,
        pixel_mm2=pixel_mm2,
    )
    offset = int(components.max(initial=0))
    painted = np.where(edited | (marks == 0), components, marks + offset).astype(np.int32)
    return [*edits, *((region.strength, region.renumbered(region.component + offset)) for region in found)], painted
