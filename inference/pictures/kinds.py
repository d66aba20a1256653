"""What a file is by its first bytes, whatever its name says: a picture, a NIfTI volume, DICOM or a stranger."""

import gzip
import zlib
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from inference.errors import UnreadableInstance
from inference.instances import read_instance

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".dib", ".tif", ".tiff")
_NIFTI_SUFFIXES = (".nii", ".nii.gz")
_NIFTI_1, _NIFTI_2 = (348, (b"n+1\0", b"ni1\0")), (540, (b"n+2\0", b"ni2\0"))
HEADER_BYTES = 540  # of NIfTI-2; NIfTI-1 has 348


class Kind(StrEnum):
    """What kind of file it is, by content."""

    PNG = "PNG"
    JPEG = "JPEG"
    WEBP = "WebP"
    BMP = "BMP"
    TIFF = "TIFF"
    NIFTI = "NIfTI"
    PRETENDER = "named as a picture"  # and none of the above
    DICOM = "DICOM"
    STRANGER = "something else"

    @property
    def is_plain(self) -> bool:
        """Whether it is judged by itself: everything but DICOM and what nobody reads."""
        return self not in (Kind.DICOM, Kind.STRANGER)


@dataclass
class Sorted:
    """The files of a folder by the way that they go; each list in the order given."""

    plain: list[tuple[Path, Kind]] = field(default_factory=list)
    dicom: list[Path] = field(default_factory=list)
    strangers: list[Path] = field(default_factory=list)


def sort_files(files: list[Path]) -> Sorted:
    """Pictures and volumes, DICOM instances, and what is neither. A file that cannot be opened goes by its name."""
    found = Sorted()
    for file in files:
        kind = kind_of(file)
        if kind.is_plain:
            found.plain.append((file, kind))
        elif kind is Kind.DICOM:
            found.dicom.append(file)
        else:
            found.strangers.append(file)
    return found


def kind_of(file: Path) -> Kind:
    """By the first bytes; the name only decides what a file is that pretends to be a picture."""
    try:
        with file.open("rb") as stream:
            start = stream.read(HEADER_BYTES)
    except OSError:
        return Kind.PRETENDER if _is_named_plain(file) else Kind.DICOM
    if start[128:132] == b"DICM":
        return Kind.DICOM
    if start[:2] == b"\x1f\x8b":
        start = _inflated(file)
        if is_nifti(start):
            return Kind.NIFTI
    elif (kind := _picture(start)) is not None:
        return kind
    elif is_nifti(start):
        return Kind.NIFTI
    if _is_named_plain(file):
        return Kind.PRETENDER
    return Kind.DICOM if _is_bare_dicom(file) else Kind.STRANGER


def is_nifti(start: bytes) -> bool:
    """NIfTI-1 and -2 of either byte order, of a single file or the header of a pair (NIfTI-1.1, nifti1.h)."""
    for size, magics in (_NIFTI_1, _NIFTI_2):
        place = 344 if size == 348 else 4
        if size in (int.from_bytes(start[:4], order) for order in ("little", "big")):
            return start[place : place + 4] in magics
    return False


def _picture(start: bytes) -> Kind | None:
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return Kind.PNG
    if start.startswith(b"\xff\xd8\xff"):
        return Kind.JPEG
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return Kind.WEBP
    if start[:2] == b"BM" and int.from_bytes(start[14:18], "little") in (12, 40, 52, 56, 64, 108, 124):
        return Kind.BMP
    if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return Kind.TIFF
    return None


def _inflated(file: Path) -> bytes:
    try:
        with gzip.open(file, "rb") as stream:
            return stream.read(HEADER_BYTES)
    except (OSError, EOFError, zlib.error):
        return b""


def _is_named_plain(file: Path) -> bool:
    return file.name.lower().endswith((*_SUFFIXES, *_NIFTI_SUFFIXES))


def _is_bare_dicom(file: Path) -> bool:
    """A data set without preamble, as some archives write it."""
    try:
        return bool(read_instance(file).sop_instance_uid)
    except (UnreadableInstance, OSError):
        return False
