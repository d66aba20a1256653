"""Tampers a folder of DICOM files as an attacker with a DICOM library would: pixels change, headers stay.

With `new_uids` the copy gets its own Study, Series and SOP Instance UIDs, so that it can be sent beside the original.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from models.errors import UnusableVolume
from models.tampering.compose import tamper_volume
from models.tampering.families import EditType
from models.tampering.material import Donor


@dataclass(frozen=True)
class TamperedStudy:
    """What was done: the edited files in slice order, and their masks (rows, columns) by SOP Instance UID."""

    study_uid: str
    series_uid: str
    family: str
    edit_type: EditType
    edited: tuple[Path, ...]
    masks: dict[str, NDArray[np.bool_]]


def tamper_study(
    input_folder: Path,
    output_folder: Path,
    family: str,
    rng: np.random.Generator,
    *,
    new_uids: bool = False,
    donors: Sequence[Donor] = (),
    touched_up: bool | None = None,
) -> TamperedStudy:
    """Copy a study's files (*.dcm) and edit its largest series once; the same names, the same headers.

    Only PixelData of the edited slices differs; where that was compressed, the slice is stored uncompressed, because an
    edit has to be encoded anew. With `new_uids` the UIDs change, consistently through all files and references.

    Raises UnusableVolume when the folder holds no series of single-frame grey images, UnknownFamily, NoPlaceToEdit.
    """
    files = {path: pydicom.dcmread(path) for path in sorted(input_folder.rglob("*.dcm"))}
    chosen = largest_series(files, input_folder)
    volume = np.stack([files[path].pixel_array for path in chosen])
    tampered = tamper_volume(
        volume, family, rng, spacing=_spacing([files[path] for path in chosen]), donors=donors, touched_up=touched_up
    )
    changed = np.flatnonzero((tampered.volume != volume).any(axis=(1, 2)))
    for index in changed:
        replace_pixels(files[chosen[index]], tampered.volume[index])
    renamed: dict[str, str] = {}
    for path, dataset in files.items():
        if new_uids:
            rename(dataset, renamed)
        target = output_folder / path.relative_to(input_folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        dataset.save_as(target, enforce_file_format=True)
    first = files[chosen[0]]
    return TamperedStudy(
        study_uid=str(first.StudyInstanceUID),
        series_uid=str(first.SeriesInstanceUID),
        family=tampered.family,
        edit_type=tampered.edit_type,
        edited=tuple(output_folder / chosen[index].relative_to(input_folder) for index in changed),
        masks={str(files[chosen[index]].SOPInstanceUID): tampered.mask[index] for index in changed},
    )


def largest_series(files: dict[Path, pydicom.FileDataset], folder: Path) -> list[Path]:
    """The files of the series with the most slices, in order of position."""
    series: dict[tuple[str, int, int], list[Path]] = {}
    for path, dataset in files.items():
        plain = "PixelData" in dataset and dataset.get("SamplesPerPixel", 1) == 1
        if plain and int(dataset.get("NumberOfFrames", 1) or 1) == 1:
            key = (str(dataset.SeriesInstanceUID), int(dataset.Rows), int(dataset.Columns))
            series.setdefault(key, []).append(path)
    if not series:
        raise UnusableVolume(
            f"{folder} holds no single-frame grey DICOM image (*.dcm); choose a folder with one series"
        )
    largest = max(series.values(), key=lambda paths: len(paths))
    return sorted(largest, key=lambda path: _position(files[path]))


def _position(dataset: pydicom.FileDataset) -> float:
    """The place of a slice along the normal of its plane, in mm (PS3.3 C.7.6.2)."""
    if "ImagePositionPatient" not in dataset or "ImageOrientationPatient" not in dataset:
        return float(dataset.get("InstanceNumber", 0) or 0)
    orientation = np.asarray(dataset.ImageOrientationPatient, dtype=float)
    normal = np.cross(orientation[:3], orientation[3:])
    return float(normal @ np.asarray(dataset.ImagePositionPatient, dtype=float))


def _spacing(datasets: Sequence[pydicom.FileDataset]) -> tuple[float, float, float] | None:
    if len(datasets) < 2 or "PixelSpacing" not in datasets[0]:
        return None
    rows, columns = (float(value) for value in datasets[0].PixelSpacing)
    return float(np.median(np.diff([_position(dataset) for dataset in datasets]))), rows, columns


def replace_pixels(dataset: pydicom.FileDataset, pixels: NDArray[np.integer]) -> None:
    """Store other pixels of the same type; what was compressed is stored uncompressed."""
    syntax = dataset.file_meta.TransferSyntaxUID
    order: Literal["<", ">"] = "<" if syntax.is_encapsulated or syntax.is_little_endian else ">"
    dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    dataset["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
    if syntax.is_encapsulated:
        dataset["PixelData"].is_undefined_length = False
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian


def rename(dataset: pydicom.FileDataset, renamed: dict[str, str]) -> None:
    """New UIDs for study, series, instance, frame of reference and references to them; classes stay what they are."""

    def visit(_: pydicom.Dataset, element: pydicom.DataElement) -> None:
        if (element.VR == "UI" and element.keyword.endswith("InstanceUID")) or element.keyword == "FrameOfReferenceUID":
            element.value = renamed.setdefault(str(element.value), str(generate_uid(prefix=None)))

    dataset.walk(visit)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
