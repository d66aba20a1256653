"""Whether an instance may be kept, and what it is, decided from its header alone (PS3.4 B.2.3)."""

from dataclasses import dataclass
from hashlib import sha256

from pydicom.uid import UID

from gateway.dicom.header import Buffer, Header, is_uid, pixel_bytes_needed, read_header
from gateway.dicom.messages import StoreCommand
from gateway.dicom.refusals import (
    ParentUidUnusable,
    PixelDataTooShort,
    RefusedInstance,
    StudyMismatch,
    UidInvalid,
    UidMismatch,
)
from storage import InstanceKind

OUR_MANUFACTURER = "scanwarden"
# Segmentations and structured reports: what we make, and what holds no picture. A manufacturer's name is easily forged,
# so on an image it proves nothing: a Secondary Capture of ours is known by its UID alone, see storage.reception.
EVIDENCE_CLASSES = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.66.4",
        "1.2.840.10008.5.1.4.1.1.66.7",
        "1.2.840.10008.5.1.4.1.1.88.11",
        "1.2.840.10008.5.1.4.1.1.88.22",
        "1.2.840.10008.5.1.4.1.1.88.33",
        "1.2.840.10008.5.1.4.1.1.88.34",
    }
)
# They hold pixel data, but no picture of a patient: masks, doses, parameters.
NO_IMAGES = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.66.4",  # Segmentation
        "1.2.840.10008.5.1.4.1.1.66.7",  # Label Map Segmentation
        "1.2.840.10008.5.1.4.1.1.30",  # Parametric Map
        "1.2.840.10008.5.1.4.1.1.66.1",  # Spatial Registration
        "1.2.840.10008.5.1.4.1.1.481.2",  # RT Dose
    }
)
REFERENCED_SYNTAXES = frozenset(
    {"1.2.840.10008.1.2.4.94", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.204", "1.2.840.10008.1.2.4.205"}
)


@dataclass(frozen=True, slots=True)
class InspectedInstance:
    """What the store and the pipeline need to know of an instance; no patient data."""

    sop_class_uid: str
    sop_instance_uid: str
    study_uid: str
    series_uid: str
    transfer_syntax: str
    kind: InstanceKind
    accession_digest: str | None
    expected_instances: int | None


def check_command(command: StoreCommand) -> None:
    """Raise UidInvalid unless both UIDs of a C-STORE request are UIDs."""
    for keyword, uid in (("SOPClassUID", command.sop_class_uid), ("SOPInstanceUID", command.sop_instance_uid)):
        if not is_uid(uid):
            raise UidInvalid(keyword, uid)


def inspect(command: StoreCommand, data: Buffer, *, max_bytes: int, total: int | None = None) -> InspectedInstance:
    """Read the header of `data`, the data set as it arrived, and hold it against the command.

    Raises the RefusedInstance that says what is wrong; `max_bytes` bounds a deflated data set. With `total`, `data` are
    the first bytes of so many, and MoreNeeded is raised when they do not tell.
    """
    check_command(command)
    header = read_header(data, command.transfer_syntax, max_inflated=max_bytes, total=total)
    sop_class = _same("SOPClassUID", header.text(0x00080016), command.sop_class_uid)
    sop_instance = _same("SOPInstanceUID", header.text(0x00080018), command.sop_instance_uid)
    study = _parent("StudyInstanceUID", header.text(0x0020000D))
    if command.study_uid is not None and study != command.study_uid:
        raise StudyMismatch
    series = _parent("SeriesInstanceUID", header.text(0x0020000E))
    try:
        _check_pixels(header, sop_class, command.transfer_syntax)
    except RefusedInstance as fault:
        fault.study_uid = study
        raise
    accession = header.text(0x00080050)
    expected = header.integer(0x00201208)
    return InspectedInstance(
        sop_class_uid=sop_class,
        sop_instance_uid=sop_instance,
        study_uid=study,
        series_uid=series,
        transfer_syntax=command.transfer_syntax,
        kind=_kind(header, sop_class),
        accession_digest=sha256(accession.encode()).hexdigest() if accession else None,
        expected_instances=expected if expected is not None and expected > 0 else None,
    )


def _same(keyword: str, found: str | None, commanded: str) -> str:
    if found != commanded:
        raise UidMismatch(keyword, present=found is not None)
    return found


def _parent(keyword: str, found: str | None) -> str:
    if found is None or not is_uid(found):
        raise ParentUidUnusable(keyword, present=found is not None)
    return found


def _check_pixels(header: Header, sop_class: str, transfer_syntax: str) -> None:
    needed = pixel_bytes_needed(header)
    found = header.pixel_bytes
    if found is None:
        referenced = transfer_syntax in REFERENCED_SYNTAXES or header.text(0x00287FE0) is not None
        if not referenced and UID(sop_class).name.endswith("Image Storage"):
            raise PixelDataTooShort(needed or 1, 0)
    elif header.encapsulated:
        if found == 0:
            raise PixelDataTooShort(needed or 1, 0)
    elif needed is not None and found < needed:
        raise PixelDataTooShort(needed, found)


def _kind(header: Header, sop_class: str) -> InstanceKind:
    if sop_class in EVIDENCE_CLASSES:
        marks = [header.text(0x00080070) or "", *header.contributors]
        if any(mark.strip().lower() == OUR_MANUFACTURER for mark in marks):
            return InstanceKind.EVIDENCE
    if header.pixel_bytes is not None and sop_class not in NO_IMAGES:
        return InstanceKind.IMAGE
    return InstanceKind.OTHER
