"""One file's header: what an instance says about itself before any pixel is decoded (PS3.3 C.7 and C.8).

Everything that later steps need is read here once, into plain typed values: a value that makes no sense is None, a UID
or a matrix that is absent is an error. Real headers break the standard in many ways, and none of them may stop a study.
"""

import logging
import math
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from inference.errors import DamagedFile, IncompleteHeader, NotDicom, TooLarge
from inference.origins import Origin, origin_of

# pydicom logs the values that it stumbles over, patients' names among them, and the tracebacks of decoders: neither is
# for a log, and our errors say the same in words.
logging.getLogger("pydicom").addFilter(lambda _: False)

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_DOCUMENTS = tuple(
    _STORAGE + suffix for suffix in ("104.", "88.", "11.", "9.", "66", "481.3", "481.4", "481.5", "481.6", "481.7",
                                     "481.8", "481.9", "78.", "79.", "90.")
)  # fmt: skip
_MOST_FRAMES = 65_536
_HEADER_LIMIT = 256 * 1024**2  # inflated bytes of a deflated data set


@dataclass(frozen=True)
class Frame:
    """One image plane: its place, its pixel transform and what tells it from others at the same place.

    `orientation` holds the directions along a row and down a column (6 cosines), `position` the centre of the first
    pixel in mm (PS3.3 C.7.6.2); None where absent or senseless. `spacing` is (between rows, between columns) in mm.
    `acquisition` holds what the members of `SPLITS` are for this frame. `window` is (centre, width) in rescaled units
    (PS3.3 C.11.2), the first where there are several.
    """

    number: int | None
    orientation: tuple[float, ...] | None
    position: tuple[float, float, float] | None
    spacing: tuple[float, float] | None
    thickness: float | None
    between_slices: float | None
    slope: float
    intercept: float
    acquisition: tuple[str, ...]
    window: tuple[float, float] | None = None


SPLITS = ("echo", "b-value", "image type", "temporal position", "trigger time", "stack", "acquisition")


@dataclass(frozen=True)
class Instance:
    """An instance as its header describes it. `is_image` is False for reports, presentation states and the like."""

    file: Path
    study_uid: str
    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax: str
    media_sop_instance_uid: str
    implementation_class_uid: str
    is_image: bool
    modality: str
    body_part: str
    words: str
    image_type: tuple[str, ...]
    lossy: str
    photometric: str
    samples: int
    rows: int
    columns: int
    bits: tuple[int, int, int, bool]
    number: int | None
    frames: tuple[Frame, ...]
    origin: Origin = field(default_factory=Origin)
    frame_of_reference: str = ""

    @property
    def name(self) -> str:
        """How messages call it: modality and UID, nothing about the patient."""
        return f"{self.modality or 'unknown'} instance {self.sop_instance_uid}"


def read_instance(file: Path) -> Instance:
    """Read the header of one file.

    Raises NotDicom when it holds no data set, DamagedFile when its data set cannot be read, IncompleteHeader when UIDs
    or the matrix of an image are absent, TooLarge when it inflates or counts frames without measure.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a value that breaks the standard is handled where it is used
        dataset = _header(file)
        return _instance(file, dataset)


def refuse_deflated_excess(file: Path, limit: int) -> None:
    """A deflated data set of a few kilobytes can inflate to gigabytes (PS3.5 A.5): count before anything is kept.

    Raises TooLarge above `limit` bytes.
    """
    with file.open("rb") as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            stream.seek(128 + 4)
            length = int.from_bytes(stream.read(12)[8:12], "little")  # of the group 0002, explicit VR, UL
            stream.seek(128 + 4 + 12 + length)
            inflater = zlib.decompressobj(-zlib.MAX_WBITS)
            total = 0
            while not inflater.eof and (chunk := stream.read(1 << 16)):
                while chunk and not inflater.eof:  # after its end zlib gives back the same tail for ever
                    total += len(inflater.decompress(chunk, 1 << 20))
                    chunk = inflater.unconsumed_tail
                    if total > limit:
                        raise TooLarge(
                            f"{file.name}: the deflated data set holds more than {limit:,} bytes; "
                            "send it uncompressed or raise analysis.max_voxels"
                        )
        except zlib.error as fault:
            raise DamagedFile(
                f"{file.name}: the deflated data set is damaged ({fault}); ask the sender to resend it"
            ) from fault


def _header(file: Path) -> Dataset:
    if _syntax_named_in_meta(file) == DeflatedExplicitVRLittleEndian:
        refuse_deflated_excess(file, _HEADER_LIMIT)
    try:
        dataset = pydicom.dcmread(file, stop_before_pixels=True, force=True)
    except Exception as fault:
        if not _has_preamble(file):
            raise NotDicom(f"{file.name}: not a DICOM file") from fault
        raise DamagedFile(
            f"{file.name}: the data set cannot be read ({type(fault).__name__}); ask the sender to resend it"
        ) from fault
    if "SOPClassUID" not in dataset and "SOPInstanceUID" not in dataset and not dataset.file_meta:
        raise NotDicom(f"{file.name}: not a DICOM file")
    return dataset


def _syntax_named_in_meta(file: Path) -> str:
    try:
        return _text(pydicom.filereader.read_file_meta_info(file), "TransferSyntaxUID")
    except Exception:  # noqa: BLE001  no meta information, or damaged: reading the whole says which
        return ""


def _has_preamble(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def _instance(file: Path, dataset: Dataset) -> Instance:
    uids = {
        keyword: _text(dataset, keyword)
        for keyword in ("SOPInstanceUID", "SOPClassUID", "SeriesInstanceUID", "StudyInstanceUID")
    }
    missing = [keyword for keyword, value in uids.items() if not value]
    if missing:
        raise IncompleteHeader(f"{file.name}: {', '.join(missing)} is absent; ask the sender to resend it")
    meta = dataset.file_meta
    transfer_syntax = _text(meta, "TransferSyntaxUID")
    if not transfer_syntax:
        implicit, _ = dataset.original_encoding
        transfer_syntax = str(ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian)
    sop_class = uids["SOPClassUID"]
    is_image = not sop_class.startswith(_DOCUMENTS)
    rows, columns = _integer(dataset, "Rows"), _integer(dataset, "Columns")
    frames = _integer(dataset, "NumberOfFrames") or 1
    if is_image and (not rows or not columns or frames < 1):
        raise IncompleteHeader(
            f"{uids['SOPInstanceUID']}: Rows, Columns or Number of Frames of an image is absent or below 1; "
            "ask the sender to resend it"
        )
    if frames > _MOST_FRAMES:
        raise TooLarge(f"{uids['SOPInstanceUID']}: {frames:,} frames; at most {_MOST_FRAMES:,} are read")
    stored = _integer(dataset, "BitsStored") or _integer(dataset, "BitsAllocated") or 0
    high = _integer(dataset, "HighBit")
    return Instance(
        file=file,
        study_uid=uids["StudyInstanceUID"],
        series_uid=uids["SeriesInstanceUID"],
        sop_instance_uid=uids["SOPInstanceUID"],
        sop_class_uid=sop_class,
        transfer_syntax=transfer_syntax,
        media_sop_instance_uid=_text(meta, "MediaStorageSOPInstanceUID"),
        implementation_class_uid=_text(meta, "ImplementationClassUID"),
        is_image=is_image,
        modality=_text(dataset, "Modality").upper(),
        body_part=_text(dataset, "BodyPartExamined").upper(),
        words=_words(dataset),
        image_type=_image_type(dataset),
        lossy=_text(dataset, "LossyImageCompression"),
        photometric=_text(dataset, "PhotometricInterpretation").upper(),
        samples=_integer(dataset, "SamplesPerPixel") or 1,
        rows=rows or 0,
        columns=columns or 0,
        bits=(
            _integer(dataset, "BitsAllocated") or 0,
            stored,
            stored - 1 if high is None else high,
            _integer(dataset, "PixelRepresentation") == 1,
        ),
        number=_integer(dataset, "InstanceNumber"),
        frames=_frames(dataset, frames) if is_image else (),
        origin=origin_of(dataset),
        frame_of_reference=_text(dataset, "FrameOfReferenceUID"),
    )


def _words(dataset: Dataset) -> str:
    """What the scanner's operator called study and series: evidence for a body part that is not named. Never logged."""
    words = [
        _text(dataset, keyword)
        for keyword in ("StudyDescription", "SeriesDescription", "ProtocolName", "RequestedProcedureDescription")
    ]
    for sequence in ("AnatomicRegionSequence", "ProcedureCodeSequence"):
        words += [_text(item, "CodeMeaning") for item in _items(dataset, sequence)]
    for shared in _items(dataset, "SharedFunctionalGroupsSequence"):
        for anatomy in _items(shared, "FrameAnatomySequence"):
            words += [_text(item, "CodeMeaning") for item in _items(anatomy, "AnatomicRegionSequence")]
    return " ".join(word for word in words if word).lower()


def _image_type(dataset: Dataset) -> tuple[str, ...]:
    value = _raw(dataset, "ImageType")
    values = [value] if isinstance(value, str) else value or []
    return tuple(str(part).strip().upper() for part in values)


def _frames(dataset: Dataset, count: int) -> tuple[Frame, ...]:
    per_frame = _items(dataset, "PerFrameFunctionalGroupsSequence")
    shared = _items(dataset, "SharedFunctionalGroupsSequence")[:1]
    if count == 1 and not per_frame:
        return (_frame([dataset, *shared], dataset, None),)
    if count > 1 and len(per_frame) < count:
        # Without functional groups nothing says where each frame lies (NM, cine, multi-frame secondary capture).
        plain = _frame(shared or [dataset], dataset, 1)
        placeless = {**plain.__dict__, "position": None}
        return tuple(Frame(**{**placeless, "number": number}) for number in range(1, count + 1))
    return tuple(
        _frame([per_frame[index], *shared, dataset], dataset, index + 1) for index in range(min(count, len(per_frame)))
    )


def _frame(groups: Sequence[Dataset], dataset: Dataset, number: int | None) -> Frame:
    orientation = _floats(groups, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
    position = _floats(groups, "PlanePositionSequence", "ImagePositionPatient", 3)
    spacing = _floats(groups, "PixelMeasuresSequence", "PixelSpacing", 2)
    slope = _floats(groups, "PixelValueTransformationSequence", "RescaleSlope", 1)
    intercept = _floats(groups, "PixelValueTransformationSequence", "RescaleIntercept", 1)
    thickness = _floats(groups, "PixelMeasuresSequence", "SliceThickness", 1)
    between = _floats(groups, "PixelMeasuresSequence", "SpacingBetweenSlices", 1)
    kind = _first(groups, "MRImageFrameTypeSequence", "FrameType") or _first(
        groups, "CTImageFrameTypeSequence", "FrameType"
    )
    acquisition = (
        _first(groups, "MREchoSequence", "EffectiveEchoTime") or _text(dataset, "EchoTime"),
        _first(groups, "MRDiffusionSequence", "DiffusionBValue") or _text(dataset, "DiffusionBValue"),
        kind or "\\".join(_image_type(dataset)),
        _first(groups, "FrameContentSequence", "TemporalPositionIndex") or _text(dataset, "TemporalPositionIdentifier"),
        _first(groups, "CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime")
        or _text(dataset, "TriggerTime"),
        _first(groups, "FrameContentSequence", "StackID"),
        _text(dataset, "AcquisitionNumber") if number is None else "",
    )
    return Frame(
        number=number,
        orientation=orientation,
        position=None if position is None else (position[0], position[1], position[2]),
        spacing=None if spacing is None or min(spacing) <= 0 else (spacing[0], spacing[1]),
        thickness=abs(thickness[0]) if thickness and thickness[0] else None,
        between_slices=abs(between[0]) if between and between[0] else None,
        slope=slope[0] if slope else 1.0,
        intercept=intercept[0] if intercept else 0.0,
        acquisition=acquisition,
        window=_window(groups),
    )


def _window(groups: Sequence[Dataset]) -> tuple[float, float] | None:
    centre = _floats(groups, "FrameVOILUTSequence", "WindowCenter", None)
    width = _floats(groups, "FrameVOILUTSequence", "WindowWidth", None)
    return (centre[0], width[0]) if centre and width and width[0] >= 1 else None


def _holders(groups: Sequence[Dataset], sequence: str) -> list[Dataset]:
    """Where an attribute may stand: in the frame's group, in the shared group, in the data set itself."""
    return [item for group in groups for item in (*_items(group, sequence)[:1], group)]


def _first(groups: Sequence[Dataset], sequence: str, keyword: str) -> str:
    for holder in _holders(groups, sequence):
        if text := _text(holder, keyword):
            return text
    return ""


def _floats(groups: Sequence[Dataset], sequence: str, keyword: str, count: int | None) -> tuple[float, ...] | None:
    """The numbers of an attribute where there are `count` of them (None: any number), all finite."""
    for holder in _holders(groups, sequence):
        value = _raw(holder, keyword)
        if value is None or value == "":
            continue
        parts = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        try:
            numbers = tuple(float(part) for part in parts)
        except (TypeError, ValueError):
            return None
        return numbers if count in (None, len(numbers)) and all(math.isfinite(number) for number in numbers) else None
    return None


def _raw(dataset: Dataset, keyword: str) -> Any:
    try:
        return dataset.get(keyword)
    except Exception:  # noqa: BLE001  converting a senseless value may raise anything; senseless is absent
        return None


def _text(dataset: Dataset, keyword: str) -> str:
    value = _raw(dataset, keyword)
    if value is None:
        return ""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "\\".join(str(part) for part in value)
    return str(value).strip(" \0")


def _integer(dataset: Dataset, keyword: str) -> int | None:
    value = _raw(dataset, keyword)
    try:
        return None if value is None or value == "" else int(value)
    except (TypeError, ValueError):
        return None


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    value = _raw(dataset, keyword)
    return [item for item in value if isinstance(item, Dataset)] if isinstance(value, Sequence) else []
