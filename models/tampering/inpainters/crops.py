"""Crops of training patients with holes in them: what an inpainter learns from. Only patients of Split.TRAIN."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models import inputs
from models.datasets import Case
from models.errors import MissingData
from models.splits import Split
from models.tampering import regions
from models.tampering.inpainters.networks import LIFT

PLANES = 5
SIZE = 64
_STORED = 80  # pixels a side, so that a crop can still be moved
_SHARES = {"brain-lgg": 0.34, "brain-cheng": 0.2, "brain-ms": 0.26, "flair-glioma": 0.2}


@dataclass(frozen=True)
class Holes:
    """A batch (images, planes, SIZE, SIZE): image as in `networks`, hole 0 or 1, lesion map."""

    image: Tensor
    hole: Tensor
    lesion: Tensor


@dataclass(frozen=True)
class Pool:
    """Decoded crops (crops, PLANES, 80, 80); `flat` of them show one plane five times over."""

    image: NDArray[np.float16]
    lesion: NDArray[np.bool_]
    flat: NDArray[np.bool_]

    def batch(self, step: int, count: int, planes: int, seed: int) -> Holes:
        """Batch `step` of a run: decided by seed and step alone. `planes` 0: all of them."""
        rng = np.random.default_rng([seed, step])
        usable = np.arange(len(self.image)) if planes == 1 else np.flatnonzero(~self.flat)
        made = [self._one(int(usable[rng.integers(len(usable))]), planes or PLANES, rng) for _ in range(count)]
        return Holes(*(torch.from_numpy(np.stack(each)) for each in zip(*made, strict=True)))

    def _one(self, index: int, planes: int, rng: np.random.Generator) -> tuple[NDArray[np.float32], ...]:
        first = (PLANES - planes) // 2
        row, column = (int(value) for value in rng.integers(_STORED - SIZE + 1, size=2))
        part = (slice(first, first + planes), slice(row, row + SIZE), slice(column, column + SIZE))
        image, lesion = self.image[index][part].astype(np.float32), self.lesion[index][part]
        if rng.random() < 0.5:
            image, lesion = image[:, :, ::-1], lesion[:, :, ::-1]
        turns = int(rng.integers(4))
        image, lesion = np.rot90(image, turns, (1, 2)), np.rot90(lesion, turns, (1, 2))
        hole = _hole(lesion, rng)
        return np.ascontiguousarray(image), hole.astype(np.float32), lesion_map(image, hole, lesion)


def lesion_map(image: NDArray[np.float32], hole: NDArray[np.bool_], lesion: NDArray[np.bool_]) -> NDArray[np.float32]:
    """How bright the lesion in the hole is, plus LIFT; 0 without a lesion."""
    inside = hole & lesion
    if inside.sum() < 20:
        return np.zeros(image.shape, np.float32)
    return np.where(inside, float(image[inside].mean()) + LIFT, 0.0).astype(np.float32)


def pool(cases: Sequence[Case], count: int, seed: int) -> Pool:
    """`count` crops from the training patients among `cases`; raises MissingData when there are none."""
    by_source: dict[str, list[Case]] = {}
    for case in cases:
        if case.split is Split.TRAIN:
            by_source.setdefault("brain-lgg" if case.source.startswith("brain-lgg") else case.source, []).append(case)
    if not by_source:
        raise MissingData("no training patient among the images; see docs/models.md for the folder's layout")
    names = sorted(by_source)
    shares = np.array([_SHARES.get(name, 0.2) for name in names])
    rng = np.random.default_rng(seed)
    images = np.empty((count, PLANES, _STORED, _STORED), np.float16)
    lesions = np.zeros(images.shape, np.bool_)
    flat = np.zeros(count, np.bool_)
    done = 0
    for _ in range(40 * count):
        held = by_source[names[int(rng.choice(len(names), p=shares / shares.sum()))]]
        crop = _crop(held[int(rng.integers(len(held)))], rng)
        if crop is not None:
            images[done], lesions[done], flat[done] = crop
            done += 1
        if done == count:
            return Pool(images, lesions, flat)
    raise MissingData("the training images hold hardly any tissue; copy them again")


def _crop(case: Case, rng: np.random.Generator) -> tuple[NDArray[Any], NDArray[np.bool_], bool] | None:
    index = int(rng.integers(len(case.images)))
    planes = np.clip(np.arange(index - PLANES // 2, index + PLANES // 2 + 1), 0, len(case.images) - 1)
    if case.separate:
        planes[:] = index
    slab = np.asarray(case.images[planes[0] : planes[-1] + 1]).astype(np.float32)
    offset, scale = inputs.intensity_range(slab)
    lesion = _lesion(case, index, planes)
    middle = slab[index - planes[0]]
    tissue = cv2.blur((middle > offset + 0.18 * scale).astype(np.float32), (33, 33)) > 0.8
    wanted = lesion[PLANES // 2] if lesion[PLANES // 2].sum() > 60 and rng.random() < 0.6 else tissue
    rows, columns = np.nonzero(wanted)
    if not len(rows):
        return None
    chosen = int(rng.integers(len(rows)))
    corner = [
        int(np.clip(place - _STORED // 2, 0, length - _STORED))
        for place, length in zip((rows[chosen], columns[chosen]), slab.shape[1:], strict=True)
    ]
    part = (slice(corner[0], corner[0] + _STORED), slice(corner[1], corner[1] + _STORED))
    image = np.clip((slab[planes - planes[0]][:, part[0], part[1]] - offset) / scale - 0.5, -1.0, 2.0)
    if image.shape[1:] != (_STORED, _STORED):
        return None
    return image.astype(np.float16), lesion[:, part[0], part[1]], case.separate


def _lesion(case: Case, index: int, planes: NDArray[np.int64]) -> NDArray[np.bool_]:
    shape = (PLANES, *case.images.shape[1:])
    if case.boxes is not None:
        row0, column0, row1, column1 = (int(value) for value in case.boxes[index])
        drawn = np.zeros(shape[1:], np.uint8)
        centre, axes = ((column0 + column1) // 2, (row0 + row1) // 2), ((column1 - column0) // 2, (row1 - row0) // 2)
        cv2.ellipse(drawn, centre, axes, 0, 0, 360, 1, -1)
        return np.broadcast_to(drawn > 0, shape)
    if case.lesion is not None:
        return np.stack([np.asarray(case.lesion[plane]) for plane in planes])
    return np.zeros(shape, np.bool_)


def _hole(lesion: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """An ellipsoid somewhere in the crop, on its lesion where there is one."""
    middle = lesion[len(lesion) // 2]
    rows, columns = np.nonzero(middle)
    radius = float(rng.uniform(6, 20))
    if len(rows) > 30 and rng.random() < 0.8:
        centre = (float(rows.mean()), float(columns.mean()))
        radius = float(np.clip(max(np.ptp(rows), np.ptp(columns)) / 2 + rng.uniform(0, 6), 6, 24))
    else:
        centre = (float(rng.uniform(20, SIZE - 20)), float(rng.uniform(20, SIZE - 20)))
    depth = float(rng.uniform(0.8, 3.0))
    size = (depth, radius * float(rng.uniform(0.65, 1.0)), radius)
    return regions.ellipsoid(lesion.shape, (len(lesion) // 2, *centre), size, rng)
