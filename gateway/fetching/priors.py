"""Which studies of an archive are a patient's earlier ones: Patient ID, its issuer and the birth date have to agree."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gateway.app import App
from gateway.dicom.query import StudyFound
from gateway.fetching.patient import Header, Patient, read_header
from gateway.fetching.questions import ask_studies, questions_to
from gateway.verification.archive import AnyArchive
from storage import NotFound
from storage.patients import note_patient, patient_key
from storage.priors import first_image

MOST_LOOKED_AT = 50  # studies whose series are asked for, the newest first


class NoPatient(Exception):
    """Nobody can say which other studies are of the same patient; the message says why."""


@dataclass(frozen=True)
class Candidates:
    """What an archive has of a patient."""

    patient: Patient
    digest: str
    studies: Sequence[StudyFound] = ()
    """Earlier studies, those of the same modality and body part first, then the newest first."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """How many were left out, by reason."""


def find_priors(app: App, archive: AnyArchive, study_uid: str, *, actor: str) -> Candidates:
    """Ask an archive for the earlier studies of a study's patient.

    Raises NotFound when the study is not here, NoPatient, NotExact, SendError and StorageError.
    """
    header = header_of(app, study_uid)
    digest = header.patient.digest(patient_key(app.store.root))
    if digest is None:
        raise NoPatient(
            "the study's header names no patient well enough: it needs a Patient ID and a birth date, and must not say "
            "that the identity was removed"
        )
    with app.database.transaction() as session:
        note_patient(session, study_uid, digest)
    found = ask_studies(app, archive, {"PatientID": header.patient.patient_id}, actor=actor, study_uid=study_uid)
    why = {each.study_uid: _why_not(each, header) for each in found if each.study_uid != study_uid}
    left_out = Counter(reason for reason in why.values() if reason is not None)
    earlier = sorted(
        (each for each in found if each.study_uid in why and why[each.study_uid] is None),
        key=lambda each: (each.date, each.time),
        reverse=True,
    )
    if len(earlier) > MOST_LOOKED_AT:
        left_out[f"older than the newest {MOST_LOOKED_AT}"] = len(earlier) - MOST_LOOKED_AT
    asked = questions_to(app.settings, archive)
    known = [asked.with_series(each) for each in earlier[:MOST_LOOKED_AT]]
    return Candidates(header.patient, digest, sorted(known, key=lambda each: _unlike(each, header)), dict(left_out))


def header_of(app: App, study_uid: str) -> Header:
    """What the first instance that is here says of its study. Raises NotFound and NoPatient."""
    with app.database.reading() as session:
        image = first_image(session, study_uid)
        path = app.store.locate(image.path) if image is not None else None
    if path is None:
        raise NotFound(f"no instance of study {study_uid} is here; `scanwarden fetch {study_uid}` gets it")
    header = read_header(path)
    if header is None:
        raise NoPatient(f"the header of study {study_uid} cannot be read")
    return header


def _why_not(found: StudyFound, header: Header) -> str | None:
    """Why a study of the same Patient ID is none of the priors; None when it is one."""
    if not found.birth_date:
        return "the archive gives no birth date"
    if found.birth_date != header.patient.birth_date:
        return "another birth date"
    # Not every archive returns the issuer; the fetched headers are held against it once more.
    if found.issuer and found.issuer != header.patient.issuer:
        return "another issuer of the Patient ID"
    if not found.date or not header.date:
        return "no study date"
    if (found.date, _time(found.time)) >= (header.date, _time(header.time)):
        return "not earlier"
    return None


def _time(text: str) -> str:
    return text.partition(".")[0].ljust(6, "0")


def _unlike(found: StudyFound, header: Header) -> tuple[bool, bool]:
    """For a sort that keeps the order of dates within."""
    modality = bool(header.modality) and header.modality in found.modalities
    body_part = bool(header.body_part) and header.body_part in found.body_parts
    return not modality, not body_part
