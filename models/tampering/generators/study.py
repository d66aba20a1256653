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
from models.tampering.generators.diffusion import Diffusion
from models.tampering.generators.material import grey, scaled, squared
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
    from the middle of the series, or of the phantom's. A network that makes images from images is given those of the
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
    place = torch.full((1,), KNOWN.index(organ))
    answers = []
    for image in genuine:
        start = None
        if network.from_images:
            shown = grey(image)
            start = scaled((squared(shown, network.size) if isinstance(network, Diffusion) else shown)[np.newaxis])
        with torch.no_grad():
            made = network.make(place, start)[0, 0].float().numpy()
        rows, columns = image.shape
        made = cv2.resize(made, (columns, rows), interpolation=cv2.INTER_CUBIC)
        answers.append(specified(made, image))
    return answers


def specified(made: NDArray[Any], genuine: NDArray[Any]) -> NDArray[Any]:
    """The values of `genuine` in the order of brightness of `made`; equal values are put in order by place."""
    answer = np.empty_like(genuine).ravel()
    answer[np.argsort(made.ravel(), kind="stable")] = np.sort(genuine.ravel())
    return answer.reshape(genuine.shape)
