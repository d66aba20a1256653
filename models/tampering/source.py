"""Reads the study that is to be tampered with: its files, its longest stack of grey frames, in order of position."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError
from pydicom.uid import MediaStorageDirectoryStorage

from models.errors import UnusableStudy

_UNKNOWN_STEP = 5.0  # mm between slices where a single slice does not say


@dataclass(frozen=True)
class Frame:
    """One slice of the stack: its file, its frame in it (from 0), its place along the normal of its plane in mm."""

    path: Path
    number: int
    position: float


@dataclass(frozen=True)
class Source:
    """A study and its longest stack; `volume` (slices, rows, columns) holds stored values, slice k is `frames[k]`.

    `spacing` (slices, rows, columns) in mm, None where no header says; `inverted`: low values are bright
    (MONOCHROME1); `lossy`: the stack was compressed lossily before.
    """

    files: Mapping[Path, pydicom.FileDataset]
    frames: tuple[Frame, ...]
    volume: NDArray[np.integer]
    spacing: tuple[float, float, float] | None
    inverted: bool
    lossy: bool

    @property
    def study_uid(self) -> str:
        return str(self.first.StudyInstanceUID)

    @property
    def first(self) -> pydicom.FileDataset:
        return self.files[self.frames[0].path]


def read_source(place: Path) -> Source:
    """The study in a folder, at any depth and with any file names, or in one file.

    Raises UnusableStudy when there is no DICOM image, more than one study, nothing but colour, or pixels that cannot be
    decoded.
    """
    files = dict(_files(place))
    if not files:
        raise UnusableStudy(f"{place} holds no DICOM file; name a folder with the DICOM files of one study")
    studies = sorted({str(dataset.get("StudyInstanceUID", "")) for dataset in files.values()})
    if len(studies) > 1:
        raise UnusableStudy(
            f"{place} holds {len(studies)} studies ({', '.join(uid or 'no UID' for uid in studies[:4])}); name the "
            "folder of one"
        )
    frames = max(_stacks(files, place).values(), key=len)
    first = files[frames[0].path]
    return Source(
        files=files,
        frames=tuple(frames),
        volume=_volume(files, frames),
        spacing=_spacing(first, frames),
        inverted=first.PhotometricInterpretation == "MONOCHROME1",
        lossy=any(was_lossy(files[frame.path]) for frame in frames),
    )


def was_lossy(dataset: pydicom.FileDataset) -> bool:
    """Whether the header or the transfer syntax tells of lossy compression (PS3.3 C.7.6.1.1.5)."""
    syntax = dataset.file_meta.TransferSyntaxUID
    return dataset.get("LossyImageCompression") == "01" or (syntax.is_compressed and "Lossless" not in syntax.name)


def _files(place: Path) -> Iterator[tuple[Path, pydicom.FileDataset]]:
    for path in [place] if place.is_file() else sorted(place.rglob("*")):
        if not path.is_file():
            continue
        try:
            dataset = pydicom.dcmread(path)
        except InvalidDicomError:
            continue  # a licence or a picture beside the study
        if dataset.file_meta.get("MediaStorageSOPClassUID") != MediaStorageDirectoryStorage:
            yield path, dataset


def _stacks(files: Mapping[Path, pydicom.FileDataset], place: Path) -> dict[tuple[Any, ...], list[Frame]]:
    """The grey frames that lie above each other, in order of position; a place that is shown twice makes two stacks."""
    reasons: dict[str, int] = defaultdict(int)
    planes: dict[tuple[Any, ...], list[Frame]] = defaultdict(list)
    for path, dataset in files.items():
        fault = _unusable(dataset)
        if fault:
            reasons[fault] += 1
            continue
        shape = (int(dataset.Rows), int(dataset.Columns), int(dataset.BitsStored), int(dataset.PixelRepresentation))
        for number, (orientation, position) in enumerate(_planes(dataset)):
            key = (str(dataset.SeriesInstanceUID), dataset.PhotometricInterpretation, *shape, orientation)
            planes[key].append(Frame(path, number, position))
    if not planes:
        found = ", ".join(f"{count} × {reason}" for reason, count in sorted(reasons.items()))
        raise UnusableStudy(f"{place} holds no grey image to edit: {found}; choose a CT or MR study")
    stacks: dict[tuple[Any, ...], list[Frame]] = defaultdict(list)
    for key, frames in planes.items():
        seen: dict[float, int] = defaultdict(int)
        for frame in sorted(frames, key=lambda each: each.position):
            rounded = round(frame.position, 3)
            stacks[*key, seen[rounded]].append(frame)
            seen[rounded] += 1
    return stacks


def _unusable(dataset: pydicom.FileDataset) -> str | None:
    """Why a file shows no frame that could be edited."""
    if "PixelData" not in dataset:
        return "no image"
    if dataset.get("SamplesPerPixel", 1) != 1 or "MONOCHROME" not in dataset.get("PhotometricInterpretation", ""):
        return f"colour ({dataset.get('PhotometricInterpretation', 'unknown')})"
    allocated, stored = int(dataset.get("BitsAllocated", 0)), int(dataset.get("BitsStored", 0))
    if allocated not in (8, 16, 32) or int(dataset.get("HighBit", -1)) != stored - 1:
        return f"pixels of an unusual depth ({allocated} bits allocated, {stored} stored)"
    return None


def _planes(dataset: pydicom.FileDataset) -> Iterator[tuple[tuple[float, ...], float]]:
    """Orientation and place of each frame; where no header says, frames lie in the order of their numbers."""
    count = int(dataset.get("NumberOfFrames", 1) or 1)
    if count == 1 and "PerFrameFunctionalGroupsSequence" not in dataset:
        yield _plane(dataset, dataset, float(dataset.get("InstanceNumber", 0) or 0))
        return
    shared = _group(dataset, "SharedFunctionalGroupsSequence", 0)
    for number in range(count):
        own = _group(dataset, "PerFrameFunctionalGroupsSequence", number)
        orientation = _group(own, "PlaneOrientationSequence", 0) or _group(shared, "PlaneOrientationSequence", 0)
        position = _group(own, "PlanePositionSequence", 0) or _group(shared, "PlanePositionSequence", 0)
        yield _plane(orientation, position, float(number))


def _plane(
    orientation: pydicom.Dataset, position: pydicom.Dataset, otherwise: float
) -> tuple[tuple[float, ...], float]:
    """Orientation, and the place along its normal in mm (PS3.3 C.7.6.2)."""
    if not orientation.get("ImageOrientationPatient") or not position.get("ImagePositionPatient"):
        return (), otherwise
    cosines = np.asarray(orientation.ImageOrientationPatient, dtype=float)
    normal = np.cross(cosines[:3], cosines[3:])
    place = float(normal @ np.asarray(position.ImagePositionPatient, dtype=float))
    return tuple(float(value) for value in np.round(cosines, 3)), place


def _group(dataset: pydicom.Dataset, keyword: str, index: int) -> pydicom.Dataset:
    sequence = dataset.get(keyword) or []
    return sequence[index] if index < len(sequence) else pydicom.Dataset()


def _volume(files: Mapping[Path, pydicom.FileDataset], frames: list[Frame]) -> NDArray[np.integer]:
    planes = []
    for frame in frames:
        dataset = files[frame.path]
        try:
            pixels = dataset.pixel_array
        except Exception as fault:
            name = dataset.file_meta.TransferSyntaxUID.name
            raise UnusableStudy(f"{frame.path.name} ({name}) cannot be decoded: {fault}; convert it first") from fault
        planes.append(pixels[frame.number] if pixels.ndim == 3 else pixels)
    return np.stack(planes)


def _spacing(first: pydicom.FileDataset, frames: list[Frame]) -> tuple[float, float, float] | None:
    shared, own = (
        _group(_group(first, keyword, 0), "PixelMeasuresSequence", 0)
        for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
    )
    holder = next((each for each in (first, shared, own) if each.get("PixelSpacing")), None)
    if holder is None:
        return None
    rows, columns = (float(value) for value in holder.PixelSpacing)
    if len(frames) > 1:
        step = float(np.median(np.diff([frame.position for frame in frames])))
    else:
        step = float(holder.get("SliceThickness") or _UNKNOWN_STEP)
    return (step if step > 0 else _UNKNOWN_STEP), rows, columns
