"""The durable sender: from the ledger to the webhook, in order, at least once.

Nothing is copied into a queue: what the receiver lacks is what stands in the ledger after its cursor. The cursor moves
when the receiver has confirmed, so a process that dies in between sends an event again, with the same number.
"""

from collections.abc import Callable
from typing import Protocol

import structlog

from config import Settings
from gateway.alerts.message import alert_of, signed_headers
from gateway.alerts.severity import AlertSeverity
from gateway.alerts.webhook import NotDelivered, Webhook
from gateway.app import CannotStart
from storage import AuditEvent, AuditEventType, AuditOutcome, Database, role_actor
from storage.audit import spool
from storage.audit.ledger import Head, append

log = structlog.get_logger(__name__)

COLLECTOR = "alerts:webhook"  # no name that a syslog collector can have
ACTOR = role_actor("timetable")
_PAGE = 500
_LONGEST_REASON = 200


class Receiver(Protocol):
    """Whoever takes alerts; raises NotDelivered unless it has taken one for good."""

    def post(self, body: bytes, headers: dict[str, str]) -> None: ...


class AlertSender:
    """Call it by the clock, from one process at a time; each call sends what there is."""

    def __init__(
        self,
        database: Database,
        receiver: Receiver,
        secret: bytes,
        *,
        installation: str,
        minimum: AlertSeverity = AlertSeverity.INCIDENT,
        going_on: Callable[[], bool] = lambda: True,
    ) -> None:
        self._database = database
        self._receiver = receiver
        self._secret = secret
        self._installation = installation
        self._minimum = minimum
        self._going_on = going_on

    def __call__(self) -> None:
        """Send what is waiting; at the first alert that does not arrive, stop and leave the rest for the next call."""
        while self._going_on():
            with self._database.reading() as session:
                confirmed = spool.cursor(session, COLLECTOR)
                intact = spool.still_holds(session, confirmed)
                records = spool.waiting(session, confirmed.seq if intact else 0, _PAGE)
            if not intact:
                self._start_over(confirmed)
            if not records:
                return
            reached, failure = Head(), ""
            for record in records:
                alert = alert_of(record, self._installation, self._minimum)
                if alert is not None:
                    body = alert.body()
                    try:
                        self._receiver.post(body, signed_headers(body, self._secret))
                    except NotDelivered as fault:
                        failure = str(fault)[:_LONGEST_REASON]
                        break
                reached = Head(record.seq, record.hash)
                if alert is not None:
                    self._confirm(reached)  # each one: a crash repeats one alert, not a page
            if failure:
                self._confirm(reached)
                self._fail(failure)
                return
            self._confirm(reached)

    def _confirm(self, head: Head) -> None:
        if head.seq == 0:
            return
        with self._database.transaction() as session:
            if spool.confirm(session, COLLECTOR, head):
                append(session, [AuditEvent(AuditEventType.ALERTS_BACK, ACTOR, details={"through": head.seq})])
                log.info("alerts arrive again")

    def _fail(self, reason: str) -> None:
        with self._database.transaction() as session:
            if spool.fail(session, COLLECTOR, reason):
                lost = AuditEvent(
                    AuditEventType.ALERTS_LOST, ACTOR, AuditOutcome.MINOR_FAILURE, details={"reason": reason}
                )
                append(session, [lost])
        log.error("an alert does not arrive; it is tried again", reason=reason)

    def _start_over(self, confirmed: Head) -> None:
        """The ledger no longer holds what the receiver confirmed: whoever did that shall not silence the rest."""
        log.critical("the ledger does not hold the last event that was alerted; alerts start over", seq=confirmed.seq)
        with self._database.transaction() as session:
            spool.rewind(session, COLLECTOR)


def alert_sender(settings: Settings, database: Database, going_on: Callable[[], bool]) -> AlertSender | None:
    """The sender that the settings describe; None where they describe none. Raises CannotStart."""
    alerts = settings.alerts
    if alerts.url is None or alerts.secret_file is None:
        return None
    try:
        webhook = Webhook(alerts.url, timeout=alerts.timeout, authorities=alerts.authorities)
        secret = alerts.secret_file.read_bytes().strip()
    except OSError as fault:
        raise CannotStart(f"alerts: a file cannot be read ({fault})") from fault
    return AlertSender(
        database,
        webhook,
        secret,
        installation=settings.dicom.ae_title,
        minimum=AlertSeverity[alerts.minimum_severity.upper()],
        going_on=going_on,
    )
