"""The source instances of a revision, by their headers alone: who they are, and where their frames lie.

Pixels are never read. What a header says about geometry is taken as numbers here, once, so that the writers of
evidence objects never meet a malformed value (PS3.3 C.7.6.2, C.7.6.16.2).
"""

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    EnhancedSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    SegmentationStorage,
)

from gateway.results import patient
from gateway.results.evidence import MANUFACTURER, NoSourceHeader, RevisionContext
from gateway.results.patient import PatientStudy, patient_study

Numbers = tuple[float, ...]

_TAGS: tuple[str, ...] = (
    *patient.KEYWORDS,
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "Manufacturer",
    "SeriesNumber",
    "InstanceNumber",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "LossyImageCompression",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)


LABEL_MAP_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.7"  # pydicom 3.0 has no name for it

# A secondary capture is an image, on which a manufacturer's name proves nothing: storage.reception knows ours by UID.
_OUR_CLASSES = frozenset(
    {
        SegmentationStorage,
        LABEL_MAP_SEGMENTATION,
        Comprehensive3DSRStorage,
        EnhancedSRStorage,
        KeyObjectSelectionDocumentStorage,
        GrayscaleSoftcopyPresentationStateStorage,
    }
)


@dataclass(frozen=True)
class Plane:
    """Where one frame lies in the patient: mm, direction cosines, (row, column) spacing."""

    position: Numbers
    orientation: Numbers
    spacing: Numbers
    thickness: float | None


@dataclass(frozen=True)
class SourceInstance:
    """One instance of the revision; `planes` has an entry for each frame, None where it says no sound geometry."""

    file: Path
    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str
    modality: str
    series_number: int | None
    instance_number: int | None
    frame_of_reference_uid: str | None
    rows: int
    columns: int
    planes: tuple[Plane | None, ...]
    is_lossy: bool

    @property
    def is_image(self) -> bool:
        return self.rows > 0 and self.columns > 0

    @property
    def order(self) -> tuple[str, int, str]:
        return self.series_uid, self.instance_number or 0, self.sop_instance_uid


@dataclass(frozen=True)
class Sources:
    """Every readable instance of the revision in a fixed order, and the patient and study they belong to."""

    instances: tuple[SourceInstance, ...]
    patient: PatientStudy

    @cached_property
    def by_uid(self) -> dict[str, SourceInstance]:
        return {instance.sop_instance_uid: instance for instance in self.instances}


def read_sources(context: RevisionContext) -> Sources:
    """Read the headers of the revision's files; files without one, of another study, or of ours, are left out.

    The result does not depend on the order of the files. Raises NoSourceHeader when none is left.
    """
    found: dict[str, SourceInstance] = {}
    first: tuple[tuple[str, int, str], Dataset] | None = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's warnings quote the value, which may be the patient's
        for file in context.files:
            header = _header(file)
            if header is None or str(header.get("StudyInstanceUID")) != context.study_uid or _is_ours(header):
                continue
            instance = _instance(header, file)
            found.setdefault(instance.sop_instance_uid, instance)
            if first is None or instance.order < first[0]:
                first = instance.order, header
        if first is None:
            raise NoSourceHeader(
                f"study {context.study_uid}, revision {context.revision}: none of {len(context.files)} files has a "
                "readable header of this study; check the instance store"
            )
        return Sources(
            tuple(sorted(found.values(), key=lambda instance: instance.order)),
            patient_study(first[1], context.study_uid),
        )


def _header(file: Path) -> Dataset | None:
    try:
        header = dcmread(file, stop_before_pixels=True, force=True, specific_tags=list(_TAGS))
        complete = all(header.get(keyword) for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID"))
    except Exception:  # noqa: BLE001 - a damaged file costs its own reference, not the report
        return None
    return header if complete else None


def _is_ours(header: Dataset) -> bool:
    """Evidence that came back from a PACS is no source: a report must not rest on itself."""
    return header.SOPClassUID in _OUR_CLASSES and str(_value(header, "Manufacturer") or "") == MANUFACTURER


def _instance(header: Dataset, file: Path) -> SourceInstance:
    frames = max(_integer(header, "NumberOfFrames") or 1, 1)
    return SourceInstance(
        file=file,
        sop_class_uid=str(header.SOPClassUID),
        sop_instance_uid=str(header.SOPInstanceUID),
        series_uid=str(header.SeriesInstanceUID),
        modality=str(_value(header, "Modality") or "OT"),
        series_number=_integer(header, "SeriesNumber"),
        instance_number=_integer(header, "InstanceNumber"),
        frame_of_reference_uid=str(_value(header, "FrameOfReferenceUID") or "") or None,
        rows=_integer(header, "Rows") or 0,
        columns=_integer(header, "Columns") or 0,
        planes=_planes(header, frames),
        is_lossy=str(_value(header, "LossyImageCompression") or "") == "01",
    )


def _planes(header: Dataset, frames: int) -> tuple[Plane | None, ...]:
    per_frame = _value(header, "PerFrameFunctionalGroupsSequence")
    shared = _first(header, "SharedFunctionalGroupsSequence")
    if not per_frame:
        # A multi-frame image without functional groups says nothing about where its frames lie.
        return (_plane([header]),) if frames == 1 else (None,) * frames
    groups = [[group, shared] for group in per_frame]
    return tuple(_plane(_macros(pair)) for pair in groups)


def _macros(groups: Sequence[Dataset | None]) -> list[Dataset]:
    names = "PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"
    items = (_first(group, name) for name in names for group in groups if group is not None)
    return [item for item in items if item is not None]


def _plane(holders: Iterable[Dataset]) -> Plane | None:
    holders = list(holders)

    def numbers(keyword: str, count: int) -> Numbers | None:
        found = (_numbers(holder, keyword, count) for holder in holders)
        return next((value for value in found if value is not None), None)

    position = numbers("ImagePositionPatient", 3)
    orientation = numbers("ImageOrientationPatient", 6)
    spacing = numbers("PixelSpacing", 2)
    thickness = numbers("SliceThickness", 1)
    if position is None or orientation is None or spacing is None:
        return None
    row, column = orientation[:3], orientation[3:]
    is_frame = all(abs(math.hypot(*axis) - 1) < 1e-2 for axis in (row, column))
    if not is_frame or abs(sum(a * b for a, b in zip(row, column, strict=True))) > 1e-2 or min(spacing) <= 0:
        return None
    return Plane(position, orientation, spacing, thickness[0] if thickness and thickness[0] > 0 else None)


def _numbers(holder: Dataset, keyword: str, count: int) -> Numbers | None:
    value = _value(holder, keyword)
    if value is None:
        return None
    try:
        numbers = tuple(float(item) for item in (value if count > 1 else [value]))
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None


def _integer(holder: Dataset, keyword: str) -> int | None:
    try:
        return int(_value(holder, keyword))
    except (TypeError, ValueError, OverflowError):
        return None


def _first(holder: Dataset | None, keyword: str) -> Dataset | None:
    sequence = None if holder is None else _value(holder, keyword)
    return sequence[0] if sequence else None


def _value(holder: Dataset, keyword: str) -> Any:
    """The value, or nothing where pydicom cannot make one of the bytes."""
    try:
        return holder.get(keyword)
    except Exception:  # noqa: BLE001 - pydicom raises whatever the bytes make it raise
        return None
