"""What an archive lists, asked for in the ledger's sight: who asked, which elements, and a digest of the values."""

import json
from collections.abc import Mapping
from hashlib import sha256
from secrets import token_hex

from config.settings import Settings
from gateway.app import App
from gateway.dicom.query import DimseQuestions, Questions, StudyFound, WebQuestions
from gateway.dicom.scu import SendError
from gateway.verification.archive import AnyArchive, WebArchive, archive_of
from storage import AuditEvent, AuditEventType, AuditOutcome
from storage.audit.events import Detail

FIND = "1.2.840.10008.5.1.4.1.2.2.1"


def chosen_archive(settings: Settings, name: str | None = None) -> AnyArchive:
    """The archive to fetch from: the one that is named, that of `priors` or `verification`, or the only destination.

    Raises NoSuchArchive.
    """
    only = settings.destinations[0].name if len(settings.destinations) == 1 else None
    return archive_of(settings, name or settings.priors.archive or settings.verification.archive or only)


def questions_to(settings: Settings, archive: AnyArchive) -> Questions:
    """How this archive is asked."""
    if isinstance(archive, WebArchive):
        return WebQuestions(archive.url, archive.destination.timeout, archive.credentials)
    return DimseQuestions(archive.destination, settings.dicom.ae_title)


def ask_studies(
    app: App, archive: AnyArchive, keys: Mapping[str, str], *, actor: str, study_uid: str | None = None
) -> list[StudyFound]:
    """Ask for studies, and record the question before anybody sees an answer.

    The digest is salted: who knows a value can find that it was asked for, and nobody can read it out.
    `study_uid`: the study because of which it is asked. Raises SendError, NotExact and StorageError.
    """
    salt = token_hex(16)
    told = json.dumps({"salt": salt, "keys": dict(sorted(keys.items()))}, ensure_ascii=True, sort_keys=True)
    details: dict[str, Detail] = {
        "archive": archive.name,
        "sop_class_uid": FIND,
        "level": "STUDY",
        "keys": sorted(keys),
        "salt": salt,
        "query_sha256": sha256(told.encode()).hexdigest(),
    }
    try:
        found = questions_to(app.settings, archive).studies(keys)
    except SendError as fault:
        _record(app, archive, details | {"failure": str(fault)}, actor, study_uid, AuditOutcome.MINOR_FAILURE)
        raise
    _record(app, archive, details | {"answers": len(found)}, actor, study_uid, AuditOutcome.SUCCESS)
    return found


def _record(
    app: App,
    archive: AnyArchive,
    details: Mapping[str, Detail],
    actor: str,
    study_uid: str | None,
    outcome: AuditOutcome,
) -> None:
    event = AuditEvent(
        AuditEventType.ARCHIVE_QUERIED, actor, outcome, study_uid=study_uid, subject=archive.name, details=details
    )
    app.ledger.record(event)
