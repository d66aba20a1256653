"""Who a study's patient is, as one header says it. Values stay in memory; only a keyed digest is kept."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset

from storage.patients import patient_digest

_TAGS = [
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientIdentityRemoved",
    "StudyDate",
    "StudyTime",
    "Modality",
    "BodyPartExamined",
]


@dataclass(frozen=True, slots=True)
class Patient:
    """What has to agree for two studies to be of one patient."""

    patient_id: str = field(repr=False)
    issuer: str = field(repr=False)
    birth_date: str = field(repr=False)
    removed: bool = False
    """Whether the header says that it names nobody (PS3.3 C.7.1.1, Patient Identity Removed)."""

    @property
    def is_known(self) -> bool:
        """Whether other studies can be said to be of the same patient."""
        return bool(self.patient_id and self.birth_date) and not self.removed

    def digest(self, key: bytes) -> str | None:
        """Under the key of this store (storage/patients.py)."""
        return patient_digest(key, self.patient_id, self.issuer, self.birth_date) if self.is_known else None


@dataclass(frozen=True, slots=True)
class Header:
    """What one instance says of its study."""

    patient: Patient
    date: str = ""
    time: str = ""
    modality: str = ""
    body_part: str = ""


def read_header(path: Path) -> Header | None:
    """The header of a file; None when nothing can be read."""
    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=_TAGS, force=True)
        patient = Patient(
            _text(header, "PatientID"),
            _text(header, "IssuerOfPatientID"),
            _text(header, "PatientBirthDate"),
            removed=_text(header, "PatientIdentityRemoved").upper() == "YES",
        )
        return Header(
            patient,
            _text(header, "StudyDate"),
            _text(header, "StudyTime"),
            _text(header, "Modality").upper(),
            _text(header, "BodyPartExamined").upper(),
        )
    except Exception:  # noqa: BLE001 - a header may hold anything, and pydicom has many ways to say so
        return None


def is_all_of(patient: Patient, files: Iterable[Path]) -> bool:
    """Whether every one of these files names this very patient."""
    headers = [read_header(each) for each in files]
    return all(each is not None and each.patient == patient for each in headers)


def _text(header: Dataset, keyword: str) -> str:
    return str(header.get(keyword) or "").strip(" \0")
