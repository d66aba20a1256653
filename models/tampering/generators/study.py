"""A DICOM series of which no slice was made by a scanner, for trials: genuine headers, generated pixels.

The attacker's way: a genuine series lends its headers and its distribution of grey values; every slice is generated,
and stored with the same bits. Without a series of the caller's own, the project's phantom lends its headers.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
import torch
from numpy.typing import NDArray

from models.errors import UnusableVolume
from models.images.organs import KNOWN, Organ
from models.tampering.generators.base import Generator
from models.tampering.generators.material import grey, specified, squared
from models.tampering.generators.sampling import remade
from models.tampering.phantom import make_phantom_study
from models.tampering.study import largest_series, rename, replace_pixels


@dataclass(frozen=True)
class SyntheticStudy:
    """What was written, in order of position."""

    study_uid: str
    series_uid: str
    paths: tuple[Path, ...]


def synthesise_study(
    output: Path,
    network: Generator,
    seed: int,
    *,
    template: Path | None = None,
    organ: Organ = Organ.BRAIN_MR,
    slices: int | None = None,
) -> SyntheticStudy:
    """Write the largest series of `template` (*.dcm) with every slice generated, under new UIDs.

    Matrix, bits stored and distribution of grey values of each slice are those of the genuine one. `slices`: as many
    from the middle of the series, or of the phantom's. The network is given the slices of the
    template. Raises UnusableVolume when the folder holds no series of single-frame grey images.
    """
    if template is None:
        with tempfile.TemporaryDirectory() as folder:
            make_phantom_study(Path(folder), np.random.default_rng(seed), slices=slices or 16)
            return _written(output, network, seed, Path(folder), organ, slices)
    return _written(output, network, seed, template, organ, slices)


def _written(
    output: Path, network: Generator, seed: int, template: Path, organ: Organ, slices: int | None
) -> SyntheticStudy:
    files = {path: pydicom.dcmread(path) for path in sorted(template.rglob("*.dcm"))}
    chosen = largest_series(files, template)
    if slices is not None:
        start = max(0, (len(chosen) - slices) // 2)
        chosen = chosen[start : start + slices]
    if len({files[path].pixel_array.shape for path in chosen}) != 1:
        raise UnusableVolume(f"{template}: the slices of the largest series differ in size; choose another folder")
    genuine = [files[path].pixel_array for path in chosen]
    output.mkdir(parents=True, exist_ok=True)
    renamed: dict[str, str] = {}
    paths = []
    for number, (path, made) in enumerate(zip(chosen, generated(network, genuine, organ, seed), strict=True)):
        dataset = files[path]
        replace_pixels(dataset, made)
        if "SmallestImagePixelValue" in dataset:
            dataset.SmallestImagePixelValue, dataset.LargestImagePixelValue = int(made.min()), int(made.max())
        rename(dataset, renamed)
        paths.append(output / f"{number + 1:04d}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    first = files[chosen[0]]
    return SyntheticStudy(str(first.StudyInstanceUID), str(first.SeriesInstanceUID), tuple(paths))


def generated(network: Generator, genuine: Sequence[NDArray[Any]], organ: Organ, seed: int) -> list[NDArray[Any]]:
    """A generated slice for each genuine one: of its size, dtype and distribution of values."""
    torch.manual_seed(seed)
    place = KNOWN.index(organ)
    shown = [grey(image) for image in genuine]
    if network.size:
        made = list(remade(network, place, np.stack([squared(image, network.size) for image in shown])))
    else:
        made = [remade(network, place, image[np.newaxis])[0] for image in shown]
    return [specified(_filling(image, original.shape), original) for image, original in zip(made, genuine, strict=True)]


def _filling(made: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A square in the middle of a matrix, at the size of its shorter side; other sizes as they are."""
    if made.shape == shape:
        return made
    side = min(shape)
    square = cv2.resize(made, (side, side), interpolation=cv2.INTER_CUBIC)
    y, x = ((length - side) // 2 for length in shape)
    return np.pad(square, ((y, shape[0] - side - y), (x, shape[1] - side - x)), mode="edge")
