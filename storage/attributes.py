"""Digests of an instance's stable attributes, by group: what a header edit changes and a faithful archive does not.

Values are normalised before they are hashed: numbers as numbers, text decoded, composed (NFC) and without padding, an
empty value as an absent one. So a lossless change of the transfer syntax, another character set or trimmed padding
changes nothing. `docs/integrity.md` lists the same groups for readers; a test holds the two together.

The patient's identity is in a digest of its own that also covers the Study Instance UID: two studies of one patient
cannot be linked by it (promise 7).
"""

import json
import unicodedata
from collections.abc import Mapping
from hashlib import sha256
from types import MappingProxyType
from typing import Any

from pydicom import DataElement, Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as Items
from pydicom.valuerep import PersonName

_VERSION = 1

GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "identifiers": (
            "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality",
            "SeriesNumber", "AcquisitionNumber", "InstanceNumber",
        ),
        "patient": (
            "PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber",
        ),
        "geometry": (
            "FrameOfReferenceUID", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
            "ImagerPixelSpacing", "SliceThickness", "SpacingBetweenSlices", "SliceLocation", "PatientPosition",
            "PatientOrientation", "ImageLaterality", "Laterality", "GridFrameOffsetVector",
            "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
        ),
        "acquisition": (
            "StudyDate", "StudyTime", "SeriesDate", "SeriesTime", "AcquisitionDate", "AcquisitionTime",
            "AcquisitionDateTime", "ContentDate", "ContentTime", "Manufacturer", "ManufacturerModelName",
            "DeviceSerialNumber", "StationName", "SoftwareVersions", "BodyPartExamined", "ProtocolName",
            "ScanningSequence", "SequenceVariant", "MRAcquisitionType", "MagneticFieldStrength", "RepetitionTime",
            "EchoTime", "InversionTime", "FlipAngle", "EchoNumbers", "DiffusionBValue", "TriggerTime",
            "TemporalPositionIdentifier", "KVP", "Exposure", "ExposureTime", "XRayTubeCurrent", "ConvolutionKernel",
            "ContrastBolusAgent",
        ),
        "image": (
            "ImageType", "Rows", "Columns", "SamplesPerPixel", "NumberOfFrames", "BitsStored", "PixelRepresentation",
            "RescaleSlope", "RescaleIntercept", "RescaleType", "PixelPaddingValue", "LossyImageCompression",
            "LossyImageCompressionRatio", "BurnedInAnnotation",
        ),
    }
)  # fmt: skip
"""Every attribute that the digest of an image covers."""

CONTENT = "content"
"""The group of an instance without pixels (a report, a presentation state): every element that is not private."""

_NUMBERS = frozenset({"DS", "FL", "FD"})
_INTEGERS = frozenset({"IS", "US", "SS", "UL", "SL", "UV", "SV"})
_BYTES = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
# An encoder writes these anew without changing what the object says.
_OF_THE_ENCODING = frozenset({0x00080001, 0x00080005, 0xFFFAFFFA, 0xFFFCFFFC})
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def attribute_digests(dataset: Dataset) -> dict[str, str]:
    """SHA-256 by group of attributes, hexadecimal; of every image the same groups. Nothing is decoded but text."""
    # Most readers of many files stop before the pixels: Rows tells an image as well as they do.
    image = "Rows" in dataset or any(keyword in dataset for keyword in _PIXELS)
    if not image:
        values = {
            f"{each.tag:08x}": _normal(each)
            for each in dataset
            if not each.tag.is_private and each.tag not in _OF_THE_ENCODING and each.tag.element != 0
        }
        return {CONTENT: _digest(CONTENT, values)}
    found = {}
    for group, keywords in GROUPS.items():
        values = {keyword: _normal(dataset[keyword]) for keyword in keywords if keyword in dataset}
        if group == "patient":
            values["salt"] = str(dataset.get("StudyInstanceUID", ""))
        found[group] = _digest(group, values)
    return found


def _digest(group: str, values: Mapping[str, Any]) -> str:
    present = {name: value for name, value in values.items() if value is not None}
    whole = {"version": _VERSION, "group": group, "values": present}
    return sha256(json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()).hexdigest()


def _normal(element: DataElement) -> Any:
    """A value that says the same in every encoding; None for an empty one."""
    value = element.value
    if value is None or value == "":
        return None
    if element.VR == "SQ" or isinstance(value, Items):
        items = [
            {
                f"{each.tag:08x}": _normal(each)
                for each in item
                if not each.tag.is_private and each.tag not in _OF_THE_ENCODING and each.tag.element != 0
            }
            for item in value
        ]
        return [{tag: inner for tag, inner in item.items() if inner is not None} for item in items] or None
    if element.VR in _BYTES or isinstance(value, bytes):
        raw = value if isinstance(value, bytes) else bytes(value)
        return sha256(raw.rstrip(b"\0")).hexdigest() if raw else None
    several = value if isinstance(value, MultiValue | list | tuple) else [value]
    values = [_one(element.VR, each) for each in several]
    while values and values[-1] == "":
        values.pop()
    return values or None


def _one(vr: str, value: Any) -> str:
    if value is None:
        return ""
    try:
        if vr in _NUMBERS:
            return f"{float(value) + 0.0:.9g}"  # single precision is all that a change of VR keeps
        if vr in _INTEGERS:
            return str(int(value))
    except (TypeError, ValueError, OverflowError):
        pass
    if isinstance(value, PersonName):
        components = [part.rstrip("^ ") for part in str(value).split("=")]
        return _text("=".join(components).rstrip("="))
    text = _text(str(value))
    if vr in ("TM", "DT") and "." in text and text.rpartition(".")[2].isdigit():
        text = text.rstrip("0").rstrip(".")
    return text


def _text(value: str) -> str:
    return unicodedata.normalize("NFC", value.strip(" \0\r\n\t"))
