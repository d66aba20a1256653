"""Training batches for instances: boxes, classes and masks of real lesions and of edits, beside proposed boxes.

The pairs are those of models.samples; what differs is where a crop lies (real lesions are sought, for a slice holds one
or none) and what is said about it.
"""

from collections.abc import Sequence
from typing import ClassVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.datasets import Case
from models.networks.maskrcnn import ADDED, REAL, REMOVED
from models.samples import Crops, PairBatches, Twins
from models.tampering.families import FAMILIES, EditType
from models.tampering.material import Donor, Mask

Targets = dict[str, Tensor]
InstanceBatch = tuple[Tensor, list[Targets], list[Tensor] | None]
# Those that claim something about a tumour, and need no inpainter that was trained on this machine.
FAMILIES_OF_INSTANCES = tuple(
    name
    for name, family in FAMILIES.items()
    if family.trained and family.edit_type is not EditType.RESYNTHESISED and family.inpainter is None
)
# Their tumours are marked; those of flair-glioma are not, and would be learned as healthy.
SOURCES_WITH_INSTANCES = ("brain-lgg", "brain-cheng", "brain-ms")

_LEAST = 25  # pixels; less of a lesion is the rim of one, or a fault of the mask
_SOUGHT = 0.75  # chance that a crop is laid over a real lesion, where the case marks any
_GUESSES = 3  # boxes of a batch's other places that a U-Net might have proposed in vain
_PROPOSED = 0.85  # chance that a U-Net would propose an edit


class InstanceBatches(PairBatches):
    """Batch k: (channels, targets, proposals), genuine twins first; decided by seed and k alone.

    channels (2·pairs, channels, size, size) bfloat16; for each image targets as torchvision's Mask R-CNN wants them
    (`boxes` as (column0, row0, column1, row1), `labels`, `masks`), and boxes such as models.density would read: near
    the edit for an edited image, at the same place for its genuine twin, and at others. Before batch `boxes_from` there
    are no boxes to propose (None): that much of a run is for what the network is asked of every place.
    """

    shares: ClassVar[dict[str, float]] = {
        "brain-lgg": 0.55,
        "brain-ms": 0.25,
    }  # masks of tumours; lesions that are none

    def __init__(
        self,
        cases: Sequence[Case],
        donors: Sequence[Donor],
        families: Sequence[str],
        stages: Sequence[tuple[int, Crops]],
        seed: int,
        boxes_from: int = 0,
    ) -> None:
        super().__init__(cases, donors, families, stages, seed)
        self._boxes_from = boxes_from

    def __getitem__(self, step: int) -> InstanceBatch:  # type: ignore[override]
        cv2.setNumThreads(1)
        rng = np.random.default_rng([self._seed, step])
        crops = self._crops(step)
        twins = [self._pair(crops.size, rng) for _ in range(crops.pairs)]
        channels = np.stack([twin.genuine for twin in twins] + [twin.edited for twin in twins])
        nothing = np.zeros((crops.size, crops.size), dtype=np.bool_)
        targets = [targets_of(twin.lesion, nothing, None) for twin in twins]
        targets += [targets_of(twin.lesion, twin.region, twin.edit_type) for twin in twins]
        proposals = [_as_proposed(twin, crops.size, rng) for twin in (*twins, *twins)]
        return torch.from_numpy(channels).to(torch.bfloat16), targets, None if step < self._boxes_from else proposals

    def _slice(self, case: Case, rng: np.random.Generator) -> int:
        if case.lesion is None or rng.random() >= _SOUGHT:
            return super()._slice(case, rng)
        holding = self._holding(case)
        return int(holding[int(rng.integers(len(holding)))]) if len(holding) else super()._slice(case, rng)

    def _corner(self, case: Case, index: int, wide: int, rng: np.random.Generator) -> tuple[int, int]:
        _, rows, columns = case.images.shape
        lesion = self._lesion(case, (slice(index, index + 1), slice(0, rows), slice(0, columns)))
        if lesion is None or not lesion.any() or rng.random() >= _SOUGHT:
            return super()._corner(case, index, wide, rng)
        places = np.argwhere(lesion[0])
        row, column = places[int(rng.integers(len(places)))]
        return _around(int(row), wide, rows, rng), _around(int(column), wide, columns, rng)

    def _lesion(self, case: Case, part: tuple[slice, slice, slice]) -> Mask | None:
        if case.boxes is None:
            return super()._lesion(case, part)
        planes = range(*part[0].indices(len(case.images)))
        return np.stack([_ellipse(case.boxes[k], case.images.shape[1:])[part[1:]] for k in planes])

    def _holding(self, case: Case) -> NDArray[np.int64]:
        """The slices of a case that show a lesion; looked up once, masks are read from disk."""
        kept: dict[str, NDArray[np.int64]] = self.__dict__.setdefault("_held", {})
        if case.series not in kept:
            kept[case.series] = np.flatnonzero(np.asarray(case.lesion).sum(axis=(1, 2)) >= _LEAST)
        return kept[case.series]


def targets_of(lesion: Mask, region: Mask, edit_type: EditType | None) -> Targets:
    """What there is to find on a slice (rows, columns): real lesions outside the edit, and the edit.

    A resynthesised region is no instance, and neither is a lesion under it.
    """
    masks = parts(lesion & ~region)
    labels = [REAL] * len(masks)
    if edit_type in (EditType.ADDED, EditType.REMOVED) and region.sum() >= _LEAST:
        masks.append(region)
        labels.append(ADDED if edit_type is EditType.ADDED else REMOVED)
    return {
        "boxes": torch.tensor([box_of(mask) for mask in masks], dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "masks": torch.from_numpy(np.stack(masks)).to(torch.uint8)
        if masks
        else torch.zeros((0, *lesion.shape), dtype=torch.uint8),
    }


def parts(lesion: Mask) -> list[Mask]:
    """The lesions of a slice (rows, columns), each a mask of its own; what a mask tears by a pixel or two is one."""
    if not lesion.any():
        return []
    closed = cv2.morphologyEx(lesion.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    count, marks = cv2.connectedComponents(closed)
    found = [(marks == label) & lesion for label in range(1, count)]
    return [part for part in found if part.sum() >= _LEAST]


def box_of(mask: Mask) -> tuple[float, float, float, float]:
    """(column0, row0, column1, row1), half-open, as torchvision counts."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _around(place: int, wide: int, length: int, rng: np.random.Generator) -> int:
    rim = wide // 4
    low, high = max(0, place - wide + rim), max(0, min(place - rim, length - wide))
    return int(rng.integers(min(low, high), high + 1))


def _ellipse(box: Sequence[int] | NDArray[np.int64], shape: tuple[int, ...]) -> Mask:
    """A box says where a tumour is, not what shape it has: the ellipse in it is nearer than all of it."""
    row0, column0, row1, column1 = (int(value) for value in box)
    mask = np.zeros(shape, dtype=np.uint8)
    axes = (max(1, (column1 - column0) // 2), max(1, (row1 - row0) // 2))
    cv2.ellipse(mask, ((column0 + column1) // 2, (row0 + row1) // 2), axes, 0, 0, 360, 1, -1)
    return mask > 0


def _as_proposed(twin: Twins, size: int, rng: np.random.Generator) -> Tensor:
    """Boxes such as a U-Net proposes: about the edit, not quite, not always; and some in vain."""
    found = []
    if twin.changed and rng.random() < _PROPOSED:
        box = np.array(box_of(twin.region))
        extent = np.tile([box[2] - box[0], box[3] - box[1]], 2)
        found.append(box + rng.normal(0.0, 0.1, 4) * extent)
    for _ in range(_GUESSES):
        centre, half = rng.uniform(0, size, 2), np.exp(rng.uniform(np.log(4.0), np.log(24.0), 2))
        found.append(np.concatenate([centre - half, centre + half]))
    clipped = np.clip(np.stack(found), 0, size)
    wide = (clipped[:, 2] - clipped[:, 0] >= 4) & (clipped[:, 3] - clipped[:, 1] >= 4)
    return torch.from_numpy(clipped[wide].astype(np.float32)).reshape(-1, 4)
