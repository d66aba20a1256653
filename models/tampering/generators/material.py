"""Genuine images as generators see them: grey, -1 to 1, whole at one size or in crops at native resolution."""

import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.errors import MissingData
from models.images import datasets
from models.images.datasets import GenuineImage
from models.images.organs import KNOWN
from models.splits import Split

SOURCES = tuple(source.name for source in datasets.SOURCES if source.trains)


@dataclass(frozen=True)
class Example:
    """A genuine image and whether it shows what translation adds; None where the source does not say."""

    image: GenuineImage
    diseased: bool | None = None


@dataclass(frozen=True)
class Batch:
    """`images` (n, 1, rows, columns) from -1 to 1; `organs` (n,) places in organs.KNOWN; `diseased` (n,) 0 or 1."""

    images: Tensor
    organs: Tensor
    diseased: Tensor


def load(folder: Path, cache: Path) -> list[Example]:
    """Every genuine image of the sources that may be trained on, of all splits.

    Raises MissingData.
    """
    examples = []
    for source in SOURCES:
        images = datasets.load(folder, cache, (source,))
        states = _states(folder, source, images)
        if len(states) != len(images):
            raise MissingData(f"{source}: {len(images)} images but {len(states)} labels; copy the folder again")
        examples += [Example(image, state) for image, state in zip(images, states, strict=True)]
    return examples


def _states(folder: Path, source: str, images: Sequence[GenuineImage]) -> list[bool | None]:
    """What translation takes for diseased: tumour, malignancy, arthrosis of grade 3 or 4; of brains, a glioma.

    Chest films have no labels: there the brighter half of the lungs stands for the diseased one.
    """
    if source == "brain-cheng":
        folds: dict[str, dict[str, bool]] = defaultdict(dict)
        with (folder / source / "boxes.csv").open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                folds[row["fold"]].setdefault(row["image"], row["tumour"] == "glioma")
        return [state for _, names in sorted(folds.items()) for _, state in sorted(names.items())]
    if source == "knee":
        grades = [int(path.name[0]) for path in sorted((folder / "organs" / source).glob("*.webp"))]
        return [None if grade in (1, 2) else grade > 2 for grade in grades]
    if source == "chest":
        middles = [
            float(image.pixels[image.pixels.shape[0] // 4 : -(image.pixels.shape[0] // 3)].mean()) for image in images
        ]
        half = float(np.median(middles)) if middles else 0.0
        return [middle > half for middle in middles]
    sick, well = ("Tumor", "Normal") if source == "kidney" else ("Malignant_cases", "Normal_cases")
    return [
        True if image.patient.startswith(sick) else False if image.patient.startswith(well) else None
        for image in images
    ]


class Material:
    """The training images of every organ, drawn from equally; whole ones are squares of `size`, none where that is 0.

    Raises MissingData when none is of the training split.
    """

    def __init__(self, examples: Sequence[Example], size: int) -> None:
        chosen = [example for example in examples if example.image.split is Split.TRAIN]
        self.organs = sorted({KNOWN.index(example.image.organ) for example in chosen})
        if not self.organs:
            raise MissingData("no genuine image of the training split; name sources that may be trained on")
        self._native = {organ: [] for organ in self.organs}  # type: dict[int, list[NDArray[np.uint8]]]
        self._states = {organ: [] for organ in self.organs}  # type: dict[int, list[bool | None]]
        for example in chosen:
            organ = KNOWN.index(example.image.organ)
            self._native[organ].append(grey(example.image.pixels))
            self._states[organ].append(example.diseased)
        self._whole = {
            organ: np.stack([squared(image, size) for image in images])
            for organ, images in self._native.items()
            if size
        }

    def whole(self, rng: np.random.Generator, count: int) -> Batch:
        """Whole images."""
        organs, chosen = self._draw(rng, count)
        images = [self._whole[organ][index] for organ, index in zip(organs, chosen, strict=True)]
        return self._batch(images, organs, chosen)

    def crops(self, rng: np.random.Generator, count: int, size: int, *, labelled: bool = False) -> Batch:
        """Crops at native resolution; of images whose state is known, half of either, where `labelled`."""
        organs, chosen = self._draw(rng, count, labelled=labelled)
        images = []
        for organ, index in zip(organs, chosen, strict=True):
            image = self._native[organ][index]
            y, x = (int(rng.integers(0, side - size + 1)) for side in image.shape)
            images.append(image[y : y + size, x : x + size])
        return self._batch(images, organs, chosen)

    def _draw(self, rng: np.random.Generator, count: int, *, labelled: bool = False) -> tuple[list[int], list[int]]:
        start = int(rng.integers(len(self.organs)))
        organs = [self.organs[(start + place) % len(self.organs)] for place in range(count)]
        chosen = []
        for organ in organs:
            allowed = np.arange(len(self._native[organ]))
            if labelled:
                wanted = bool(rng.integers(2))
                of_state = [index for index, state in enumerate(self._states[organ]) if state is wanted]
                allowed = np.array(of_state) if of_state else allowed
            chosen.append(int(rng.choice(allowed)))
        return organs, chosen

    def _batch(self, images: Sequence[NDArray[np.uint8]], organs: list[int], chosen: list[int]) -> Batch:
        states = [float(self._states[organ][index] or False) for organ, index in zip(organs, chosen, strict=True)]
        return Batch(scaled(np.stack(images)), torch.tensor(organs), torch.tensor(states))


def grey(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """As 8 bit, over the whole range of the image where it has more."""
    if pixels.dtype == np.uint8:
        return np.asarray(pixels)
    low, high = float(pixels.min()), float(pixels.max())
    levels = (pixels.astype(np.float32) - low) * (255 / max(high - low, 1e-6))
    return np.asarray(np.rint(levels), dtype=np.uint8)


def squared(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The middle square of an image, brought to `size` by averaging areas; what generators of one size learn from."""
    side = min(image.shape)
    y, x = ((length - side) // 2 for length in image.shape)
    return np.asarray(cv2.resize(image[y : y + side, x : x + side], (size, size), interpolation=cv2.INTER_AREA))


def scaled(images: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.array(images)).float().div(127.5).sub(1).unsqueeze(1)


def stored(images: Tensor) -> NDArray[np.uint8]:
    """(n, 1, rows, columns) from -1 to 1 as (n, rows, columns) of 8 bit."""
    levels = images.detach().float().squeeze(1).add(1).mul(127.5).round().clamp(0, 255)
    return np.asarray(levels.numpy(), dtype=np.uint8)


def specified(made: NDArray[Any], genuine: NDArray[Any]) -> NDArray[Any]:
    """The values of `genuine` in the order of brightness of `made`; equal values are put in order by place."""
    answer = np.empty_like(genuine).ravel()
    answer[np.argsort(made.ravel(), kind="stable")] = np.sort(genuine.ravel())
    return answer.reshape(genuine.shape)
