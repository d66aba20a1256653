"""Genuine images of every organ for the whole-image networks, split by patient, by run of neighbours, or by fold.

Sources whose `trains` is False are never trained or calibrated on: they are the scanners and sites that a hospital's
images will come from, and false alarms on them are what counts.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models import datasets
from models.errors import MissingData
from models.images.organs import Organ
from models.splits import Split

_RUN = 12  # neighbours in numbering may be one patient: they stay in one split


@dataclass(frozen=True, eq=False)
class GenuineImage:
    """One image that a scanner made; `pixels` (rows, columns) as stored, of any real dtype."""

    organ: Organ
    source: str
    patient: str
    split: Split
    pixels: NDArray[Any]


@dataclass(frozen=True)
class Source:
    """Where images of an organ come from; `trains` False: kept whole for tests."""

    name: str
    organ: Organ
    trains: bool = True


SOURCES = (
    Source("brain-cheng", Organ.BRAIN_MR),
    Source("chest", Organ.CHEST_XRAY),
    Source("kidney", Organ.KIDNEY_CT),
    Source("lung", Organ.LUNG_CT),
    Source("knee", Organ.KNEE_XRAY),
    Source("brain-lgg", Organ.BRAIN_MR, trains=False),
    Source("brain-ms", Organ.BRAIN_MR, trains=False),
    Source("flair-glioma", Organ.BRAIN_MR, trains=False),
    Source("t1-healthy", Organ.BRAIN_MR, trains=False),
)


def load(folder: Path, cache: Path, names: tuple[str, ...] = ()) -> list[GenuineImage]:
    """Every genuine image of the wanted sources (all by default); arrays may be read-only memory maps in `cache`.

    Raises MissingData when a source is unknown or its folder absent.
    """
    known = {source.name: source for source in SOURCES}
    if unknown := set(names) - set(known):
        raise MissingData(f"unknown sources {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    return [image for name in names or known for image in _images(known[name], folder, cache)]


def _images(source: Source, folder: Path, cache: Path) -> Iterator[GenuineImage]:
    if source.organ is Organ.BRAIN_MR:
        yield from _brains(source, folder, cache)
        return
    root = folder / "organs" / source.name
    if not root.is_dir():
        raise MissingData(f"real images are absent: {root}; set SCANWARDEN_DATA to the folder that holds them")
    for path in sorted(root.glob("*.webp")):
        pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if pixels is None:
            raise MissingData(f"{path} cannot be decoded; copy it again")
        patient = patient_of(source.name, path.stem)
        yield GenuineImage(source.organ, source.name, patient, _split(source.name, patient), np.asarray(pixels))


def _brains(source: Source, folder: Path, cache: Path) -> Iterator[GenuineImage]:
    """Slices of the series that the edit networks use too; the outermost, nearly empty ones are left out."""
    for case in datasets.load(folder, cache, (source.name,)):
        split = case.split if source.trains else Split.TEST
        indices = range(len(case.images))
        if not case.separate:
            edge = len(case.images) // 6
            indices = range(edge, len(case.images) - edge)
        for index in indices:
            yield GenuineImage(source.organ, case.source, case.patient, split, case.images[index])


def patient_of(source: str, stem: str) -> str:
    """Who an image is of, as well as its file name tells: a patient, or a run of neighbouring numbers."""
    if source == "knee":
        return stem.split("-")[1][:7]  # left and right knee are one patient
    number = re.search(r"(\d+)$", stem)
    if source in ("kidney", "lung") and number is not None:
        return f"{stem.split('-')[0]}-{int(number[1]) // _RUN:04d}"
    return stem


def _split(source: str, patient: str) -> Split:
    share = int.from_bytes(hashlib.sha256(f"{source}/{patient}".encode()).digest()[:4]) / 2**32
    return Split.TEST if share < 0.25 else Split.CALIBRATION if share < 0.4 else Split.TRAIN
