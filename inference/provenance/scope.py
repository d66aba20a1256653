"""What a signature has to cover before it proves an image: everything that a reader sees or a program computes with.

An element that is absent needs no cover when it was absent at signing; one that was added afterwards is present and not
signed, and so shows here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.datadict import keyword_for_tag, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

# Without these it is not even this instance: a signature that leaves one out can be moved to another.
_IDENTITY = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_CONTENT = (
    "PixelData", "FloatPixelData", "DoubleFloatPixelData", "ContentSequence", "EncapsulatedDocument",
    "WaveformSequence", "SegmentSequence", "ROIContourSequence", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel",
    "PhotometricInterpretation", "PlanarConfiguration", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData", "BluePaletteColorLookupTableData",
    "RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence",
    "PixelPaddingValue", "PixelPaddingRangeLimit", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
    "ImagerPixelSpacing", "GridFrameOffsetVector", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)  # fmt: skip
_HEADER = (
    "SpecificCharacterSet", "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "IssuerOfPatientID",
    "AccessionNumber", "StudyDate", "StudyTime", "AcquisitionDate", "AcquisitionDateTime", "ContentDate", "Modality",
    "ImageType", "SeriesNumber", "InstanceNumber", "AcquisitionNumber", "FrameOfReferenceUID", "Laterality",
    "ImageLaterality", "PatientPosition", "BodyPartExamined", "ViewPosition", "SliceThickness", "SpacingBetweenSlices",
    "SliceLocation", "PixelAspectRatio", "RescaleType", "WindowCenter", "WindowWidth", "VOILUTFunction",
    "VOILUTSequence", "LossyImageCompression", "BurnedInAnnotation", "Manufacturer", "ManufacturerModelName",
    "DeviceSerialNumber", "StationName",
)  # fmt: skip
_OVERLAYS, _CURVES = range(0x6000, 0x6020), range(0x5000, 0x5020)


@dataclass(frozen=True)
class Coverage:
    """Elements that a proof needs and that are present without being signed; UIDs of identity even when absent."""

    core_left_out: tuple[str, ...]
    left_out: tuple[str, ...]


def coverage(dataset: Dataset, signed: Sequence[BaseTag]) -> Coverage:
    """What of `dataset` a signature over `signed` leaves open."""
    known = set(signed)
    present = set(dataset.keys())
    core = [name for name in _IDENTITY if _tag(name) not in known & present]
    core += [name for name in _CONTENT if _tag(name) in present - known]
    drawn = sorted(tag for tag in present - known if tag.group in _OVERLAYS or tag.group in _CURVES)
    core += [keyword_for_tag(tag) or str(tag) for tag in drawn]
    return Coverage(tuple(core), tuple(name for name in _HEADER if _tag(name) in present - known))


def _tag(keyword: str) -> BaseTag:
    return Tag(tag_for_keyword(keyword) or 0)
