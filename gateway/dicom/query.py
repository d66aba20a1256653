"""Asking an archive for studies: C-FIND at study and series level (PS3.4 C.4.1, Study Root), and QIDO-RS (PS3.18 10.6).

The answers hold a patient's data. They are for the screen of whoever may ask, and for choosing; nothing of them is
logged or kept.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

from pydicom import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context

from config.settings import Destination
from gateway.dicom.header import is_uid
from gateway.dicom.retrieve import FIND, find
from gateway.dicom.scu import associated
from gateway.dicom.web import search_by_web

MOST = 1000  # answers of one question that are looked at
STUDY_KEYS = {
    "StudyInstanceUID": "0020000D",
    "StudyDate": "00080020",
    "StudyTime": "00080030",
    "AccessionNumber": "00080050",
    "PatientID": "00100020",
    "IssuerOfPatientID": "00100021",
    "PatientName": "00100010",
    "PatientBirthDate": "00100030",
    "ModalitiesInStudy": "00080061",
    "StudyDescription": "00081030",
    "NumberOfStudyRelatedInstances": "00201208",
}
SERIES_KEYS = {"SeriesInstanceUID": "0020000E", "Modality": "00080060", "BodyPartExamined": "00180015"}


class NotExact(ValueError):
    """A value that an archive would take for a pattern or a list: it could give another patient's studies."""


@dataclass(frozen=True, slots=True)
class StudyFound:
    """One study as an archive describes it; empty text where it says nothing. Holds a patient's data."""

    study_uid: str
    date: str = ""
    time: str = ""
    accession: str = ""
    patient_id: str = ""
    issuer: str = ""
    patient_name: str = ""
    birth_date: str = ""
    modalities: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    description: str = ""
    instances: int | None = None


class Questions(Protocol):
    """What can be asked of an archive."""

    def studies(self, keys: Mapping[str, str]) -> list[StudyFound]:
        """Studies whose elements have these very values. Raises SendError and NotExact."""
        ...

    def with_series(self, found: StudyFound) -> StudyFound:
        """The same with modalities and body parts of its series. Raises SendError."""
        ...


class DimseQuestions:
    """By C-FIND."""

    def __init__(self, destination: Destination, calling_ae_title: str) -> None:
        self._destination, self._calling = destination, calling_ae_title

    def studies(self, keys: Mapping[str, str]) -> list[StudyFound]:
        """As `Questions.studies`."""
        answers = self._ask("STUDY", {**dict.fromkeys(STUDY_KEYS, ""), **exact(keys)})
        found = [_study({name: _texts(each, name) for name in STUDY_KEYS}) for each in answers]
        return _matching(found, keys)

    def with_series(self, found: StudyFound) -> StudyFound:
        """As `Questions.with_series`."""
        answers = self._ask("SERIES", {**dict.fromkeys(SERIES_KEYS, ""), "StudyInstanceUID": found.study_uid})
        return _with_series(found, [{name: _texts(each, name) for name in SERIES_KEYS} for each in answers])

    def _ask(self, level: str, keys: Mapping[str, str]) -> list[Dataset]:
        query = Dataset()
        query.QueryRetrieveLevel = level
        if not all(value.isascii() for value in keys.values()):
            query.SpecificCharacterSet = "ISO_IR 192"
        for name, value in keys.items():
            setattr(query, name, value)
        contexts = [build_context(FIND, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])]
        with associated(self._destination, self._calling, contexts) as association:
            return find(association.send_c_find, self._destination, query, most=MOST)


class WebQuestions:
    """By QIDO-RS. `credentials` gives the TLS context and the Authorization header of a request."""

    def __init__(self, url: str, timeout: float, credentials: Callable[[], tuple[Any, str | None]]) -> None:
        self._url, self._timeout, self._credentials = url, timeout, credentials

    def studies(self, keys: Mapping[str, str]) -> list[StudyFound]:
        """As `Questions.studies`."""
        wanted = ",".join(tag for tag in STUDY_KEYS.values())
        answers = self._ask("/studies", {**exact(keys), "includefield": wanted})
        found = [_study({name: _json_texts(each, tag) for name, tag in STUDY_KEYS.items()}) for each in answers]
        return _matching(found, keys)

    def with_series(self, found: StudyFound) -> StudyFound:
        """As `Questions.with_series`."""
        answers = self._ask(f"/studies/{found.study_uid}/series", {"includefield": ",".join(SERIES_KEYS.values())})
        return _with_series(found, [{name: _json_texts(a, tag) for name, tag in SERIES_KEYS.items()} for a in answers])

    def _ask(self, path: str, parameters: Mapping[str, str]) -> Sequence[Mapping[str, Any]]:
        tls, authorization = self._credentials()
        return search_by_web(
            self._url, path, parameters, timeout=self._timeout, tls=tls, authorization=authorization, most=MOST
        )


def exact(keys: Mapping[str, str]) -> Mapping[str, str]:
    """The same keys, when each stands for itself alone (PS3.4 C.2.2.2). Raises NotExact."""
    for name, value in keys.items():
        if not value.strip() or set(value) & set("*?\\") or not value.isprintable():
            raise NotExact(f"{name} is empty or holds one of * ? \\: an archive would take it for a pattern")
    return keys


def _matching(found: Sequence[StudyFound], keys: Mapping[str, str]) -> list[StudyFound]:
    """What really has the values: an archive may ignore a key, or match it without regard to case."""
    fields = {"StudyInstanceUID": "study_uid", "PatientID": "patient_id", "AccessionNumber": "accession"}
    wanted = {fields[name]: value.strip() for name, value in keys.items() if name in fields}
    own = {each.study_uid: each for each in found if is_uid(each.study_uid)}
    return [each for each in own.values() if all(getattr(each, name) == value for name, value in wanted.items())]


def _study(values: Mapping[str, Sequence[str]]) -> StudyFound:
    def text(name: str) -> str:
        return next(iter(values[name]), "")

    count = text("NumberOfStudyRelatedInstances")
    return StudyFound(
        study_uid=text("StudyInstanceUID"),
        date=text("StudyDate"),
        time=text("StudyTime"),
        accession=text("AccessionNumber"),
        patient_id=text("PatientID"),
        issuer=text("IssuerOfPatientID"),
        patient_name=text("PatientName"),
        birth_date=text("PatientBirthDate"),
        modalities=tuple(sorted(set(values["ModalitiesInStudy"]))),
        description=text("StudyDescription"),
        instances=int(count) if count.isascii() and count.isdecimal() else None,
    )


def _with_series(found: StudyFound, series: Sequence[Mapping[str, Sequence[str]]]) -> StudyFound:
    modalities = {each for values in series for each in values["Modality"]} | set(found.modalities)
    parts = {each.upper() for values in series for each in values["BodyPartExamined"]}
    return replace(found, modalities=tuple(sorted(modalities)), body_parts=tuple(sorted(parts)))


def _texts(answer: Dataset, name: str) -> list[str]:
    with suppress(Exception):  # a value that cannot be read says nothing
        value = answer.get(name)
        several = value if isinstance(value, MultiValue | list | tuple) else [value]
        return [text for each in several if each is not None and (text := str(each).strip(" \0"))]
    return []


def _json_texts(answer: Mapping[str, Any], tag: str) -> list[str]:
    element = answer.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    texts = []
    for each in values if isinstance(values, list) else []:
        text = each.get("Alphabetic", "") if isinstance(each, dict) else each  # a person's name has three parts
        if text is not None and str(text).strip(" \0"):
            texts.append(str(text).strip(" \0"))
    return texts
