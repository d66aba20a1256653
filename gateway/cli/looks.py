"""Every look at studies is recorded before it is shown: what cannot be recorded is not seen."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from gateway.cli.options import person

if TYPE_CHECKING:
    from storage import Database

_MOST_UIDS = 40  # in one record; how many there were stands beside them


def record_look(database: "Database", study_uid: str, *, found: bool = True) -> None:
    """Somebody looks at one study, or asks for one that is not there. Raises StorageError."""
    from storage import AuditEvent, AuditEventType, AuditOutcome, Ledger

    outcome = AuditOutcome.SUCCESS if found else AuditOutcome.MINOR_FAILURE
    Ledger(database).record(
        AuditEvent(AuditEventType.STUDY_ACCESSED, actor=person(), outcome=outcome, study_uid=study_uid)
    )


def record_listing(database: "Database", command: str, studies: Iterable[str]) -> None:
    """Somebody is shown a list that names studies; a list without any is no look. Raises StorageError."""
    from storage import AuditEvent, AuditEventType, Ledger
    from storage.audit.events import Detail

    uids = sorted(set(studies))
    if uids:
        details: dict[str, Detail] = {"command": command, "studies": uids[:_MOST_UIDS], "shown": len(uids)}
        Ledger(database).record(AuditEvent(AuditEventType.STUDIES_LISTED, actor=person(), details=details))
