"""The receiver's way into the ledger: floods become one event with a count, an outage of the database delays events."""

import threading
from collections import deque
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import structlog

from gateway.dicom.repeats import Repeats
from gateway.metrics import association_refused
from storage import AuditEvent, AuditEventType, AuditOutcome, Ledger, StorageError, peer_actor

log = structlog.get_logger(__name__)

MAX_PENDING = 1000  # events that wait for the database
UNKNOWN = "?"


class _Meeting(NamedTuple):
    """What makes two events of peers the same for a reader of the ledger."""

    event: AuditEventType
    reason: str
    ae_title: str
    address: str


def _visitor(meeting: _Meeting) -> _Meeting:
    return meeting._replace(reason="*", ae_title="*")


def _crowd(meeting: _Meeting) -> _Meeting:
    return meeting._replace(ae_title="*", address="*")


class Trail:
    """Writes events of peers; never raises, and never makes a peer wait for a database that is down."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._repeats: Repeats[_Meeting] = Repeats(_crowd, group=_visitor)
        self._pending: deque[AuditEvent] = deque(maxlen=MAX_PENDING)
        self._flushing = threading.Lock()

    def meeting(
        self,
        event: AuditEventType,
        ae_title: str,
        address: str,
        reason: str,
        details: Mapping[str, str | int | list[str]],
        outcome: AuditOutcome = AuditOutcome.MINOR_FAILURE,
    ) -> None:
        """An event that a peer can cause as often as it likes: the first in a minute is written, the rest counted."""
        if event is AuditEventType.ASSOCIATION_REFUSED:
            association_refused(reason)
        title = printable(ae_title)
        if self._repeats.first(_Meeting(event, reason, title, address)):
            self.write(AuditEvent(event, peer_actor(title, address), outcome, details={"reason": reason, **details}))

    def write(self, event: AuditEvent) -> None:
        """Put one event into the ledger, or keep it until the database is back."""
        if self._pending:
            self._pending.append(event)
            return
        try:
            self._ledger.record(event)
        except StorageError as fault:
            log.warning("an audit event waits for the database", audit_event=event.event.value, reason=str(fault))
            self._pending.append(event)

    def write_later(self, event: AuditEvent) -> None:
        """The same when the database is known to be down."""
        self._pending.append(event)

    def tick(self, *, closing: bool = False) -> None:
        """Write what waits and what was counted; the receiver calls it every second."""
        with self._flushing:
            for meeting, repeats in self._repeats.due(all_of_them=closing):
                outcome = (
                    AuditOutcome.SUCCESS
                    if meeting.event is AuditEventType.CONNECTION_TESTED
                    else AuditOutcome.MINOR_FAILURE
                )
                self._pending.append(
                    AuditEvent(
                        meeting.event,
                        peer_actor(meeting.ae_title, meeting.address),
                        outcome,
                        details={"reason": meeting.reason, "repeats": repeats},
                    )
                )
            while self._pending:
                event = self._pending.popleft()
                try:
                    self._ledger.record(event)
                except StorageError as fault:
                    self._pending.appendleft(event)
                    log.warning("audit events wait for the database", waiting=len(self._pending), reason=str(fault))
                    return


@lru_cache(maxsize=256)
def printable(ae_title: str) -> str:
    """An AE title as a stranger sent it, fit for a log."""
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in ae_title.strip())[:16] or UNKNOWN
