"""What a header says about where and when its image was made; rules of provenance compare it, nothing else reads it.

Values that identify a patient never leave this module: they become keyed digests that are equal where the values are
equal, in this process only.
"""

import datetime as dt
import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydicom.dataset import Dataset

_KEY = secrets.token_bytes(32)
_PATIENT = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "IssuerOfPatientID")
_STUDY = ("StudyDate", "StudyTime", "StudyID", "AccessionNumber")
_EVENTS = ("Study", "Series", "Acquisition", "Content", "InstanceCreation")


@dataclass(frozen=True)
class Origin:
    """`times` holds a moment for each of Study, Series, Acquisition, Content, InstanceCreation and AcquisitionDateTime
    that has a date and a time; `dates` those that have a date. `patient` and `study` hold digests of what is filled in.
    """

    manufacturer: str = ""
    model: str = ""
    serial: str = ""
    station: str = ""
    software: str = ""
    writer_version: str = ""
    media_sop_class_uid: str = ""
    times: Mapping[str, dt.datetime] = field(default_factory=dict)
    dates: Mapping[str, dt.date] = field(default_factory=dict)
    patient: Mapping[str, str] = field(default_factory=dict)
    study: Mapping[str, str] = field(default_factory=dict)
    age_differs: float | None = None
    private_creators: frozenset[str] = frozenset()
    smallest: int | None = None
    largest: int | None = None
    plain_pixels: bool = True
    slice_location: float | None = None
    spacing_between: float | None = None
    ratios: tuple[float, ...] = ()
    lossy_methods: tuple[str, ...] = ()
    series_number: int | None = None
    stated: Mapping[str, int] = field(default_factory=dict)
    attributes: frozenset[str] = frozenset()

    @property
    def device(self) -> str:
        """A digest that names the scanner: maker, model, serial number and station. Empty where none is filled in."""
        parts = (self.manufacturer, self.model, self.serial, self.station)
        named = "\0".join(part.upper() for part in parts)
        return hashlib.sha256(named.encode()).hexdigest()[:32] if any(parts) else ""


def origin_of(dataset: Dataset) -> Origin:
    """Read what is there; a value that makes no sense is absent."""
    dates = {event: day for event in _EVENTS if (day := _date(_text(dataset, f"{event}Date")))}
    times = {
        event: dt.datetime.combine(day, moment)
        for event, day in dates.items()
        if (moment := _time(_text(dataset, f"{event}Time"))) is not None
    }
    whole = _text(dataset, "AcquisitionDateTime").split("&")[0]
    if (day := _date(whole[:8])) and (moment := _time(re.split("[+-]", whole[8:])[0])) is not None:
        times["AcquisitionDateTime"] = dt.datetime.combine(day, moment)
    return Origin(
        manufacturer=_text(dataset, "Manufacturer"),
        model=_text(dataset, "ManufacturerModelName"),
        serial=_text(dataset, "DeviceSerialNumber"),
        station=_text(dataset, "StationName"),
        software=_text(dataset, "SoftwareVersions"),
        writer_version=_text(getattr(dataset, "file_meta", Dataset()), "ImplementationVersionName"),
        media_sop_class_uid=_text(getattr(dataset, "file_meta", Dataset()), "MediaStorageSOPClassUID"),
        times=times,
        dates=dates,
        patient=_digests(dataset, _PATIENT),
        study=_digests(dataset, _STUDY),
        age_differs=_age_differs(dataset, dates),
        private_creators=frozenset(_private_creators(dataset)),
        smallest=_integer(dataset, "SmallestImagePixelValue"),
        largest=_integer(dataset, "LargestImagePixelValue"),
        plain_pixels="PixelPaddingValue" not in dataset and "ModalityLUTSequence" not in dataset,
        slice_location=_number(_text(dataset, "SliceLocation")),
        spacing_between=_number(_text(dataset, "SpacingBetweenSlices")),
        ratios=tuple(
            ratio
            for part in _text(dataset, "LossyImageCompressionRatio").split("\\")
            if (ratio := _number(part)) is not None
        ),
        lossy_methods=tuple(part for part in _text(dataset, "LossyImageCompressionMethod").split("\\") if part),
        series_number=_integer(dataset, "SeriesNumber"),
        stated={
            keyword: value
            for keyword in (
                "ImagesInAcquisition",
                "NumberOfSeriesRelatedInstances",
                "NumberOfStudyRelatedSeries",
                "NumberOfStudyRelatedInstances",
            )
            if (value := _integer(dataset, keyword)) is not None and value > 0
        },
        attributes=frozenset(
            keyword
            for keyword in (
                "FrameOfReferenceUID",
                "DeviceUID",
                "LossyImageCompression",
                "SmallestImagePixelValue",
                "LargestImagePixelValue",
                "AcquisitionTime",
                "DigitalSignaturesSequence",
            )
            if keyword in dataset
        ),
    )


def _digests(dataset: Dataset, keywords: tuple[str, ...]) -> Mapping[str, str]:
    """Upper and lower case, padding and empty components of a name are no difference (PS3.5 §6.2)."""
    return {
        keyword: hashlib.blake2b(text.encode(), key=_KEY, digest_size=16).hexdigest()
        for keyword in keywords
        if (text := re.sub(r"[\s^=]+", " ", _text(dataset, keyword)).strip().upper())
    }


def _age_differs(dataset: Dataset, dates: Mapping[str, dt.date]) -> float | None:
    """By how many years Patient's Age is off what Birth Date and Study Date say; None where one is absent."""
    born, day = _date(_text(dataset, "PatientBirthDate")), dates.get("Study")
    match = re.fullmatch(r"(\d{3})([DWMY])", _text(dataset, "PatientAge"))
    if born is None or day is None or match is None:
        return None
    years = int(match[1]) * {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}[match[2]]
    return (day - born).days / 365.25 - years


def _private_creators(dataset: Dataset) -> list[str]:
    return [_text_of(dataset.get(tag)) for tag in dataset._dict if tag.group % 2 and 0x10 <= tag.element <= 0xFF]


def _text(dataset: Dataset, keyword: str) -> str:
    try:
        value = dataset.get(keyword)
    except Exception:  # noqa: BLE001  converting a senseless value may raise anything; senseless is absent
        return ""
    if value is None:
        return ""
    if isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue":
        return "\\".join(str(part).strip(" \0") for part in value)
    return str(value).strip(" \0")


def _text_of(element: object) -> str:
    try:
        return str(getattr(element, "value", "")).strip(" \0")
    except Exception:  # noqa: BLE001  as above
        return ""


def _date(text: str) -> dt.date | None:
    match = re.fullmatch(r"(\d{4})\.?(\d{2})\.?(\d{2})", text)
    try:
        return dt.date(*map(int, match.groups())) if match else None
    except ValueError:
        return None


def _time(text: str) -> dt.time | None:
    match = re.fullmatch(r"(\d{2}):?(\d{2})(?::?(\d{2})(?:\.(\d{1,6}))?)?", text)
    if not match:
        return None
    try:
        return dt.time(int(match[1]), int(match[2]), int(match[3] or 0), int((match[4] or "0").ljust(6, "0")))
    except ValueError:
        return None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < 1e12 else None


def _integer(dataset: Dataset, keyword: str) -> int | None:
    number = _number(_text(dataset, keyword))
    return None if number is None or number != int(number) else int(number)
