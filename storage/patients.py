"""Which studies are of one patient, kept without saying who: a digest under a key that lies in a file, not a table.

Whoever has the database or a dump of it, and not the store, can neither read a patient from it nor try names on it.
Without a Patient ID or a birth date, and for images whose identity was removed, there is no digest: nothing is guessed.
"""

import hmac
import os
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from secrets import token_bytes, token_hex

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.errors import StoreFault
from storage.tables import StudyPatient

KEY_FILE = "patients.key"
_BYTES = 32


def patient_key(root: Path) -> bytes:
    """The key of this store, made when it is first asked for. Raises StoreFault."""
    path = root / KEY_FILE
    try:
        if not path.exists():
            _make(path)
        key = path.read_bytes()
    except OSError as fault:
        raise StoreFault(f"{path}: {fault.strerror or fault}; the service has to read it") from fault
    if len(key) != _BYTES:
        raise StoreFault(f"{path} holds {len(key)} bytes, not {_BYTES}; restore it, or delete it to begin anew")
    return key


def patient_digest(key: bytes, patient_id: str, issuer: str, birth_date: str) -> str | None:
    """Digest of who a patient is; None where the header does not say it well enough."""
    if not patient_id.strip() or not birth_date.strip():
        return None
    text = "\0".join(("scanwarden patient 1", patient_id.strip(), issuer.strip(), birth_date.strip()))
    return hmac.new(key, text.encode(), sha256).hexdigest()


def note_patient(session: Session, study_uid: str, patient: str) -> None:
    """Write down whose study it is; the first word counts."""
    if session.get(StudyPatient, study_uid) is None:
        session.add(StudyPatient(study_uid=study_uid, patient=patient))
        session.flush()


def patient_of(session: Session, study_uid: str) -> str | None:
    """The digest of a study's patient; None where it is not known."""
    return session.scalar(select(StudyPatient.patient).where(StudyPatient.study_uid == study_uid))


def _make(path: Path) -> None:
    draft = path.with_name(f".{path.name}.{token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(handle, token_bytes(_BYTES))
        os.fsync(handle)
    finally:
        os.close(handle)
    with suppress(FileExistsError):  # another process was faster: its key counts
        os.link(draft, path)
    draft.unlink()
