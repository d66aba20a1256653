"""What a notice says: a verdict with its reasons, without a patient unless the settings say so (promise 7)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from storage import LedgerRecord

_KEYWORDS = ("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "AccessionNumber")


@dataclass(frozen=True)
class Patient:
    """Who it is about, as the images' headers say; an empty text is unknown."""

    name: str = ""
    identifier: str = ""
    issuer: str = ""
    birth_date: str = ""
    sex: str = ""
    accession_number: str = ""


@dataclass(frozen=True)
class Message:
    """One verdict. `seq` and `record_hash` are its place in the ledger: the same number is the same notice."""

    installation: str
    seq: int
    record_hash: str
    time: str
    study_uid: str
    revision: int
    verdict: str
    score: float | None
    findings: int
    reasons: tuple[str, ...]
    patient: Patient | None = None

    @property
    def identifier(self) -> str:
        """At most 20 characters (MSH-10), the same at every attempt, and of no other installation."""
        return f"{self.record_hash[:8]}-{self.seq}"[:20]


def message_of(record: LedgerRecord, installation: str, patient: Patient | None = None) -> Message:
    """What an `analysis-finished` record of the ledger says."""
    details: Mapping[str, object] = json.loads(record.details)
    score, findings, reasons = details.get("score"), details.get("findings"), details.get("reasons")
    return Message(
        installation=installation,
        seq=record.seq,
        record_hash=record.hash,
        time=record.time,
        study_uid=record.study_uid or "",
        revision=int(str(details.get("revision") or 0)),
        verdict=str(details.get("verdict") or ""),
        score=float(score) if isinstance(score, int | float) else None,
        findings=findings if isinstance(findings, int) else 0,
        reasons=tuple(str(each) for each in reasons) if isinstance(reasons, list) else (),
        patient=patient,
    )


def patient_in(path: Path) -> Patient:
    """Who the header of an image is about. Raises OSError when it cannot be read."""
    try:
        header = dcmread(path, specific_tags=list(_KEYWORDS), stop_before_pixels=True)
    except InvalidDicomError as fault:
        raise OSError(f"{path.name} is no DICOM file") from fault
    values = [_text(header, keyword) for keyword in _KEYWORDS]
    return Patient(*values)


def _text(header: object, keyword: str) -> str:
    try:
        value = getattr(header, keyword, None)
        return "" if value is None else str(value).strip()
    except Exception:  # noqa: BLE001 - a header that cannot be decoded says nothing
        return ""
