"""Makes training batches: a genuine crop and its edited twin, through the same pipeline, side by side.

Batch k depends on the seed and on k alone, so that any number of workers, and a resumed run, see the same batches.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from models import inputs
from models.datasets import Case
from models.errors import NoPlaceToEdit
from models.tampering import acquisition, benign, regions
from models.tampering.bank import Bank, Kept
from models.tampering.compose import compose
from models.tampering.families import FAMILIES, EditType, Family
from models.tampering.inpainters.weights import load as inpainter_weights
from models.tampering.material import Donor, FloatArray, Mask, Material

Batch = tuple[Tensor, Tensor, Tensor, Tensor]
_TRIES = 12
_WIDER = 1.35  # than the crop: what is cut away again hides the borders of a slab
_SCANNED = 0.25  # of slabs, about: as another scanner would have made them
_TISSUE = 0.2  # of a slab, at least
_LIKE_TUMOURS = 0.82  # of what was added or removed anywhere; the rest is small, as an attacker may want it


@dataclass(frozen=True)
class Crops:
    """Crops of `size` pixels, in `pairs` of genuine and edited twin to a batch."""

    size: int
    pairs: int


@dataclass(frozen=True, eq=False)
class StoredTwins:
    """A genuine crop and its edited twin in stored units, (slices, size, size), as they end their journey.

    What audits look at: the network is given nothing else. `region` and `lesion` have the same shape.
    """

    source: str
    patient: str
    genuine: FloatArray
    edited: FloatArray
    region: Mask
    lesion: Mask
    family: Family


@dataclass(frozen=True, eq=False)
class Twins:
    """A genuine crop and its edited twin after the same journey.

    `genuine` and `edited` are input channels (channels, size, size) of the middle slice; `region` (size, size) is where
    they differ, `lesion` the real lesion that both would show were it not for the edit. `changed`: whether any pixel of
    the slice is edited.
    """

    genuine: FloatArray
    edited: FloatArray
    region: Mask
    lesion: Mask
    edit_type: EditType

    @property
    def changed(self) -> bool:
        return bool(self.region.any())


class PairBatches(Dataset[Batch]):
    """Batch k of a training run: (channels, edit mask, edit type, image label), genuine twins first.

    channels (2·pairs, channels, size, size) bfloat16; mask (…, size, size) uint8; type and label int64, (2·pairs,), the
    type being -1 where nothing was edited.
    """

    shares: ClassVar[dict[str, float]] = {
        "brain-lgg": 0.34, "brain-cheng": 0.2, "brain-ms": 0.26, "flair-glioma": 0.2,
    }  # fmt: skip

    def __init__(
        self,
        cases: Sequence[Case],
        donors: Sequence[Donor],
        families: Sequence[str],
        stages: Sequence[tuple[int, Crops]],
        seed: int,
    ) -> None:
        self._cases: dict[str, list[Case]] = defaultdict(list)
        for case in cases:
            self._cases["brain-lgg" if case.source.startswith("brain-lgg") else case.source].append(case)
        self._sources = sorted(self._cases)
        weights = np.array([self.shares.get(name, 0.2) for name in self._sources])
        self._weights = weights / weights.sum()
        self._donors = donors
        self._families = [FAMILIES[name] for name in families]
        for absent in (each for each in self._families if not each.ready):
            inpainter_weights(str(absent.inpainter))  # says at once, and not hours later, what is missing
        self._bank = Bank(self._families)
        self._stages = stages
        self._seed = seed

    def __len__(self) -> int:
        return sum(steps for steps, _ in self._stages)

    def __getitem__(self, step: int) -> Batch:
        cv2.setNumThreads(1)
        rng = np.random.default_rng([self._seed, step])
        crops = self._crops(step)
        twins = [self._pair(crops.size, rng) for _ in range(crops.pairs)]
        channels = np.stack([twin.genuine for twin in twins] + [twin.edited for twin in twins])
        edited = np.stack([twin.region for twin in twins]).astype(np.uint8)
        types = np.array([twin.edit_type.channel for twin in twins])
        label = (edited.sum(axis=(1, 2)) > 0).astype(np.int64)
        none = np.zeros(len(twins), dtype=np.int64)
        return (
            torch.from_numpy(channels).to(torch.bfloat16),
            torch.from_numpy(np.concatenate([np.zeros_like(edited), edited])),
            torch.from_numpy(np.concatenate([none - 1, np.where(label > 0, types, -1)])),
            torch.from_numpy(np.concatenate([none, label])),
        )

    def _crops(self, step: int) -> Crops:
        for steps, crops in self._stages:
            if step < steps:
                return crops
            step -= steps
        raise IndexError("step is past the last stage")

    def stored(self, step: int) -> list[StoredTwins]:
        """The twins of batch `step` before they become input channels."""
        cv2.setNumThreads(1)
        rng = np.random.default_rng([self._seed, step])
        crops = self._crops(step)
        return [self._journey(crops.size, rng) for _ in range(crops.pairs)]

    def _pair(self, size: int, rng: np.random.Generator) -> Twins:
        return self._twins(self._journey(size, rng), rng)

    def _journey(self, size: int, rng: np.random.Generator) -> StoredTwins:
        for _ in range(_TRIES):
            source = self._sources[int(rng.choice(len(self._sources), p=self._weights))]
            case = self._cases[source][int(rng.integers(len(self._cases[source])))]
            kind = self._families[int(rng.integers(len(self._families)))]
            try:
                made = self._made(case, kind, size, rng)
            except NoPlaceToEdit:
                continue
            if made is not None:
                return made
        raise NoPlaceToEdit(f"no crop with tissue in {_TRIES} tries; the images of {source} may be empty")

    def _slab(self, case: Case, wide: int, rng: np.random.Generator) -> tuple[FloatArray, Mask]:
        """One or three neighbouring slices and their lesions, `wide` pixels a side, flipped and turned at random."""
        index = self._slice(case, rng)
        alone = case.separate or rng.random() < 0.12
        planes = slice(index, index + 1) if alone else slice(max(0, index - 1), index + 2)
        row, column = self._corner(case, index, wide, rng)
        part = (planes, slice(row, row + wide), slice(column, column + wide))
        slab = np.asarray(case.images[part]).astype(np.float32)
        marked = self._lesion(case, part)
        lesion = np.zeros(slab.shape, dtype=np.bool_) if marked is None else marked
        turns = int(rng.integers(4)) if rng.random() < 0.5 else 0
        order = slice(None, None, -1 if rng.random() < 0.5 else 1)
        mirror = slice(None, None, -1 if rng.random() < 0.5 else 1)
        return (
            np.ascontiguousarray(np.rot90(slab, turns, axes=(1, 2))[order, :, mirror]),
            np.ascontiguousarray(np.rot90(lesion, turns, axes=(1, 2))[order, :, mirror]),
        )

    def _acquired(self, material: Material, finer: float, rng: np.random.Generator) -> benign.Pipeline:
        """What happened to the images before anyone could edit them."""
        if finer > 1.0 or rng.random() < _SCANNED:
            return acquisition.draw(material, rng, finer)
        return benign.draw(material, rng, untouched=0.5)

    def _slice(self, case: Case, rng: np.random.Generator) -> int:
        """Which slice of a case a crop shows."""
        return int(rng.integers(len(case.images)))

    def _corner(self, case: Case, index: int, wide: int, rng: np.random.Generator) -> tuple[int, int]:  # noqa: ARG002
        """Where on the slice a square of `wide` pixels begins: (row, column)."""
        _, rows, columns = case.images.shape
        return int(rng.integers(max(1, rows - wide + 1))), int(rng.integers(max(1, columns - wide + 1)))

    def _lesion(self, case: Case, part: tuple[slice, slice, slice]) -> Mask | None:
        """The marked lesions in a part of a case; None where the source marks none."""
        return None if case.lesion is None else np.asarray(case.lesion[part])

    def edited(self, case: Case, kind: Family, size: int, rng: np.random.Generator) -> Kept | None:
        """A genuine slab for a crop of `size`, and the same edited; None where a try led to nothing worth showing."""
        finer = acquisition.zoom(rng) if rng.random() < _SCANNED else 1.0
        slab, lesion = self._slab(case, round(size * _WIDER / finer), rng)
        if not _shows_tissue(slab[len(slab) // 2], case):
            return None
        material = Material.of(slab, self._donors)
        acquired = self._acquired(material, finer, rng)
        slab, lesion = acquired(slab), acquired.mask(lesion)
        material = Material.of(slab, self._donors, case.spacing)
        region = _on_lesion(lesion, kind, rng) if lesion.any() and rng.random() < 0.4 else None
        if region is None and kind.region is not None:
            region = kind.region(slab, material, rng)
        if region is None:
            bright = kind.on_lesion or (kind.edit_type is EditType.REMOVED and rng.random() < 0.3)
            claims = kind.edit_type is not EditType.RESYNTHESISED
            region = regions.draw(
                slab,
                material,
                rng,
                spacing=case.spacing,
                prefer="bright" if bright else "any",
                matrix=round(case.images.shape[2] * acquired.zoom),
                like_tumours=claims and bool(rng.random() < _LIKE_TUMOURS),
            )
        limits = (float(slab.min()), float(slab.max()))
        edited = compose(slab, region, kind, material, rng, touched_up=bool(rng.random() < 0.5), limits=limits)
        return None if (edited != slab)[region].mean() < 0.25 else Kept(slab, edited, region, lesion)

    def _made(self, case: Case, kind: Family, size: int, rng: np.random.Generator) -> StoredTwins | None:
        made = self._bank.draw(kind, rng) if kind.slow else self.edited(case, kind, size, rng)
        if made is None:
            return None
        journey = benign.draw(Material.of(made.genuine), rng, untouched=0.6)
        genuine, edited = journey(made.genuine), journey(made.edited)
        region, lesion = journey.mask(made.region), journey.mask(made.lesion)
        window = _window(region, size, rng)
        genuine, edited, region, lesion = (_cut(array, window, size) for array in (genuine, edited, region, lesion))
        return StoredTwins(case.source, case.patient, genuine, edited, region, lesion, kind)

    def _twins(self, stored: StoredTwins, rng: np.random.Generator) -> Twins:
        offset, scale = inputs.intensity_range(stored.genuine)
        intensity = (offset, scale * float(rng.uniform(0.9, 1.1)))
        middle = len(stored.genuine) // 2
        first, second = (
            inputs.channels(slab, [middle], intensity=intensity)[0] for slab in (stored.genuine, stored.edited)
        )
        return Twins(first, second, stored.region[middle], stored.lesion[middle], stored.family.edit_type)


def _shows_tissue(plane: FloatArray, case: Case) -> bool:
    """Whether a good part of a plane is as bright as the case's own tissue: air alone is nothing to edit."""
    step = max(1, len(case.images) // 8)
    sample = np.asarray(case.images[step // 2 :: step, ::4, ::4])
    low, high = np.percentile(sample, (1, 97))
    return bool((plane > low + 0.2 * (high - low)).mean() >= _TISSUE)


def _on_lesion(lesion: Mask, kind: Family, rng: np.random.Generator) -> Mask | None:
    """The real lesion and a rim around it: what an attacker removes, grows or makes anew."""
    if kind.edit_type is EditType.ADDED or not 40 <= lesion.sum() / len(lesion) <= 2500:
        return None
    reach = int(rng.integers(1, 4))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return np.stack([cv2.dilate(plane.astype(np.uint8), kernel) > 0 for plane in lesion])


def _window(region: Mask, size: int, rng: np.random.Generator) -> tuple[int, int]:
    """The corner of a crop that shows the region, somewhere."""
    corner = []
    for axis, length in ((1, region.shape[1]), (2, region.shape[2])):
        used = np.flatnonzero(region.any(axis=(0, 3 - axis)))
        middle = int(used[len(used) // 2]) if len(used) else length // 2
        rim = size // 5
        low, high = max(0, middle - size + rim), max(0, min(middle - rim, length - size))
        corner.append(int(rng.integers(min(low, high), high + 1)))
    return corner[0], corner[1]


def _cut(array: NDArray[Any], corner: tuple[int, int], size: int) -> NDArray[Any]:
    part = array[:, corner[0] : corner[0] + size, corner[1] : corner[1] + size]
    short = [(0, 0), (0, size - part.shape[1]), (0, size - part.shape[2])]
    return np.ascontiguousarray(np.pad(part, short, mode="edge") if any(pair[1] for pair in short) else part)
