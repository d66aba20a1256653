"""Tampers a study as an attacker with a DICOM library would: pixels change, headers stay.

With `new_uids` the copy gets its own Study, Series and SOP Instance UIDs, so that it can be sent beside the original.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from models.errors import NoPlaceToEdit, UnusableVolume
from models.tampering import marking, stored
from models.tampering.compose import Place, Tampered, tamper_volume
from models.tampering.families import EditType, family
from models.tampering.material import Donor
from models.tampering.source import Source, read_source

Box = tuple[int, int, int, int]
_LEAST_SLICES = 3  # that a procedure which works on a cuboid needs


@dataclass(frozen=True)
class EditedFrame:
    """One edited slice: its instance, frame (from 0), place in the stack, and box (row0, column0, row1, column1)."""

    sop_instance_uid: str
    file: Path
    frame: int
    index: int
    box: Box
    pixels: int


@dataclass(frozen=True)
class TamperedStudy:
    """What was done. `mask` is (slices, rows, columns) of the stack; `masks` holds what changed, by SOP Instance UID.

    An entry of `masks` is (rows, columns), or (frames, rows, columns) where an instance has more than one. `notes` say
    in words what else had to change, or should be known.
    """

    study_uid: str
    series_uid: str
    family: str
    edit_type: EditType
    edited: tuple[Path, ...]
    masks: dict[str, NDArray[np.bool_]]
    frames: tuple[EditedFrame, ...] = ()
    mask: NDArray[np.bool_] | None = None
    touched_up: bool = False
    notes: tuple[str, ...] = ()


def tamper_study(
    input_folder: Path,
    output_folder: Path,
    family_name: str,
    rng: np.random.Generator,
    *,
    new_uids: bool = False,
    donors: Sequence[Donor] = (),
    touched_up: bool | None = None,
    edit_type: EditType | None = None,
    place: Place | None = None,
    mark: bool = False,
) -> TamperedStudy:
    """Copy a study's DICOM files and edit its longest stack once; the same names, the same headers.

    Files without an edit are copied byte by byte. In an edited file with native pixels nothing but the bits of edited
    pixels differs; losslessly compressed frames are compressed anew where an encoder is at hand, else the file is
    stored uncompressed and `notes` say so. With `new_uids` the UIDs change, consistently through all files and
    references; `mark` puts a plain marker into each of them.

    Raises UnusableStudy, UnknownFamily, MissingInpainter, NoPlaceToEdit.
    """
    kind = family(family_name, edit_type)
    source = read_source(input_folder)
    if kind.region is not None and len(source.frames) < _LEAST_SLICES:
        raise NoPlaceToEdit(
            f"{kind.name} works on a cuboid, and the longest stack has {len(source.frames)} slices; choose another "
            "family"
        )
    _within(place, source)
    tampered = _tampered(source, kind.name, rng, donors, touched_up, place)
    changed = tampered.volume != source.volume
    if not changed.any():
        raise NoPlaceToEdit(f"the edit by {kind.name} changed no pixel; try another seed, place or family")
    planes: dict[Path, dict[int, NDArray[np.integer]]] = {}
    for index in np.flatnonzero(changed.any(axis=(1, 2))):
        frame = source.frames[index]
        planes.setdefault(frame.path, {})[frame.number] = tampered.volume[index]
    renamed: dict[str, str] = {}
    notes = ["the edited series was compressed lossily before"] if source.lossy else []
    root = input_folder if input_folder.is_dir() else input_folder.parent
    places = {path: output_folder / path.relative_to(root) for path in source.files}
    for path, dataset in source.files.items():
        notes += _write(path, dataset, places[path], planes.get(path, {}), renamed if new_uids else None, mark=mark)
    if mark:
        marking.write_notice(output_folder, kind.name)
    return TamperedStudy(
        study_uid=source.study_uid,
        series_uid=str(source.first.SeriesInstanceUID),
        family=tampered.family,
        edit_type=tampered.edit_type,
        edited=tuple(places[path] for path in planes),
        masks=_masks(source, tampered.mask, planes),
        frames=tuple(_frames(source, changed, places)),
        mask=tampered.mask,
        touched_up=tampered.touched_up,
        notes=tuple(dict.fromkeys(notes)),
    )


def _within(place: Place | None, source: Source) -> None:
    if place is None or place.centre is None:
        return
    for name, value, length in zip(("slice", "row", "column"), place.centre, source.volume.shape, strict=True):
        if not 0 <= value < length:
            raise NoPlaceToEdit(f"{name} {value:.0f} is outside the series, which has {length} (counted from 0)")


def _tampered(
    source: Source,
    name: str,
    rng: np.random.Generator,
    donors: Sequence[Donor],
    touched_up: bool | None,
    place: Place | None,
) -> Tampered:
    """The edit, made where bright is more; the result is in stored values again."""
    volume = source.volume
    top = int(volume.max()) + int(volume.min())
    shown = (top - volume.astype(np.int64)).astype(volume.dtype) if source.inverted else volume
    made = tamper_volume(shown, name, rng, spacing=source.spacing, donors=donors, touched_up=touched_up, place=place)
    if not source.inverted:
        return made
    back = (top - made.volume.astype(np.int64)).astype(volume.dtype)
    return Tampered(back, made.mask, made.edit_type, made.family, made.touched_up)


def _write(
    path: Path,
    dataset: pydicom.FileDataset,
    target: Path,
    planes: stored.Planes,
    renamed: dict[str, str] | None,
    *,
    mark: bool,
) -> list[str]:
    """One file of the copy, as close to the original's bytes as what is wanted allows; returns notes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if renamed is None and not mark:
        if not planes:
            shutil.copyfile(path, target)
            return []
        content = stored.patched(path, dataset, planes)
        if content is not None:
            target.write_bytes(content)
            return []
    note = stored.store(dataset, planes) if planes else None
    if renamed is not None:
        rename(dataset, renamed)
    if mark:
        marking.mark(dataset)
    dataset.save_as(target, enforce_file_format=True)
    return [note] if note else []


def _frames(source: Source, changed: NDArray[np.bool_], places: dict[Path, Path]) -> list[EditedFrame]:
    made = []
    for index in np.flatnonzero(changed.any(axis=(1, 2))):
        frame = source.frames[index]
        rows, columns = np.nonzero(changed[index])
        made.append(
            EditedFrame(
                sop_instance_uid=str(source.files[frame.path].SOPInstanceUID),
                file=places[frame.path],
                frame=frame.number,
                index=int(index),
                box=(int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1),
                pixels=len(rows),
            )
        )
    return made


def _masks(
    source: Source, mask: NDArray[np.bool_], planes: dict[Path, dict[int, NDArray[np.integer]]]
) -> dict[str, NDArray[np.bool_]]:
    masks: dict[str, NDArray[np.bool_]] = {}
    for index, frame in enumerate(source.frames):
        if frame.path not in planes:
            continue
        dataset = source.files[frame.path]
        uid, count = str(dataset.SOPInstanceUID), int(dataset.get("NumberOfFrames", 1) or 1)
        if count == 1:
            masks[uid] = mask[index]
        else:
            whole = masks.setdefault(uid, np.zeros((count, *mask.shape[1:]), dtype=np.bool_))
            whole[frame.number] = mask[index]
    return masks


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
