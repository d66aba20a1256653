"""Names of SOP classes and transfer syntaxes, and the groups that they are listed in (PS3.6 A)."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from pydicom.uid import UID
from pynetdicom import sop_class

from gateway.dicom.contexts import RETIRED_STORAGE

_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

# The first that fits decides.
_CLASSES: Sequence[tuple[str, str]] = (
    (
        "Structured reports and other documents",
        r" SR Storage|Report Storage|Log Storage|Key Object|Encapsulated|Content",
    ),
    ("Presentation states and displays", r"Presentation State|Structured Display"),
    ("Radiotherapy", r"\bRT\b|Radiation|Tomotherapeutic"),
    ("Waveforms and curves", r"Waveform|Curve"),
    ("Ultrasound", r"\bUS\b|Ultrasound|Photoacoustic"),
    ("Measurements", r"Measurements|Lens|Spectacle"),
    (
        "Segmentations, registrations, maps, protocols and raw data",
        r"Segmentation|Registration|Fiducials|Tractography|\bMap\b|Mapping|Raw Data|Surface Scan|Annotations|Protocol"
        r"|LUT Storage|Overlay|Stereometric|Volume Analysis|Height",
    ),
    ("Secondary capture", r"Secondary Capture"),
    ("Visible light and ophthalmic images", r"^VL|Video|Ophthalmic|Dermoscopic|Microscopy|Coherence"),
    ("Projection X-ray, angiography and mammography", r"X-?Ray|Radiography|Mammo|Breast|\bXA\b|\bXRF\b"),
    ("CT, MR, PET and nuclear medicine", ""),
)
_SYNTAXES: Sequence[tuple[str, str]] = (
    ("Without compression of pixels", r"VR (Little|Big) Endian$"),
    ("RLE, deflated frames", r"RLE|Deflated Image"),
    ("JPIP, pixels by reference", r"JPIP"),
    ("High-Throughput JPEG 2000", r"High-Throughput"),
    ("JPEG 2000", r"JPEG 2000"),
    ("JPEG XL", r"JPEG XL"),
    ("JPEG-LS", r"JPEG-LS"),
    ("JPEG", r"JPEG"),
    ("Video", r"MPEG|HEVC"),
    ("Real-time video and audio", ""),
)


def name_of(uid: str) -> str:
    """The name in PS3.6; of a class that pydicom does not know yet, as pynetdicom calls it."""
    known = UID(uid).name
    name = known if known != uid else _WORDS.sub(" ", _keywords().get(uid, uid))
    return f"{name} (retired)" if uid in RETIRED_STORAGE.values() else name


def classes_by_group(uids: Iterable[str]) -> Mapping[str, Sequence[str]]:
    """SOP classes under the title of their group, both in a fixed order."""
    return _grouped(uids, _CLASSES)


def syntaxes_by_group(uids: Iterable[str]) -> Mapping[str, Sequence[str]]:
    """Transfer syntaxes under the title of their group, both in a fixed order."""
    return _grouped(uids, _SYNTAXES)


def _grouped(uids: Iterable[str], groups: Sequence[tuple[str, str]]) -> Mapping[str, Sequence[str]]:
    found: dict[str, list[str]] = {title: [] for title, _ in groups}
    for uid in sorted(uids, key=_order):
        name = name_of(uid)
        found[next(title for title, pattern in groups if re.search(pattern, name))].append(uid)
    return {title: members for title, members in found.items() if members}


def _order(uid: str) -> list[int]:
    return [int(part) for part in uid.split(".")]


@cache
def _keywords() -> Mapping[str, str]:
    return {str(uid): name for name, uid in vars(sop_class).items() if isinstance(uid, UID)}
