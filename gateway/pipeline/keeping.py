"""The ledger's own jobs on the timetable: a signed checkpoint at an interval, a whole verification at another."""

import structlog

from gateway.app import App
from storage import AuditEvent, AuditEventType, AuditOutcome, role_actor
from storage.audit.checkpoints import open_checkpoints
from storage.audit.events import Detail
from storage.audit.keys import KeyFault
from storage.audit.ledger import Break, LedgerBroken
from storage.audit.verification import verify_ledger

log = structlog.get_logger(__name__)

ACTOR = role_actor("timetable")


class LedgerKeeping:
    """Call both again and again; what they find stands in the ledger, and so goes to the collectors."""

    def __init__(self, app: App) -> None:
        self._ledger = app.ledger
        self._checkpoints = open_checkpoints(app.settings, app.database)
        self._told: str | None = None

    def checkpoint(self) -> None:
        """Sign and anchor what came since the last checkpoint."""
        try:
            taken = self._checkpoints.take(ACTOR, always=False)
        except LedgerBroken as fault:
            self._alarm(fault.broken, records=fault.broken.seq - 1, once=True)
        except KeyFault as fault:
            log.critical("no checkpoint of the ledger can be signed", reason=str(fault))
        else:
            self._told = None
            if taken is not None:
                log.info("the ledger is signed", checkpoint=taken.number, records=taken.seq)

    def verify(self) -> None:
        """Walk everything that vouches for the ledger, and write down what was found."""
        found = verify_ledger(self._checkpoints)
        if found.broken is not None:
            self._alarm(found.broken, records=found.records, once=False)
            return
        details: dict[str, Detail] = {
            "records": found.records,
            "head": found.head.hash,
            "covered": found.covered,
            "checkpoints": found.checkpoints,
        }
        self._ledger.record(AuditEvent(AuditEventType.LEDGER_VERIFIED, ACTOR, details=details))

    def _alarm(self, broken: Break, *, records: int, once: bool) -> None:
        log.critical("the ledger is broken", seq=broken.seq, kind=broken.kind.value, reason=broken.text)
        if once and self._told == broken.text:  # the interval is short; the same alarm every time hides the next one
            return
        self._told = broken.text
        details: dict[str, Detail] = {
            "records": records,
            "seq": broken.seq,
            "kind": broken.kind.value,
            "reason": broken.text,
        }
        self._ledger.record(
            AuditEvent(AuditEventType.LEDGER_BROKEN, ACTOR, AuditOutcome.MAJOR_FAILURE, details=details)
        )
