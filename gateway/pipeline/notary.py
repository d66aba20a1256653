"""Storage commitment of what we deliver: asked for after C-STORE, and only its answer makes a delivery done.

The answer comes on the association that asked, or on one that the destination opens to us; whoever hears it writes it
down, and `settle` draws the conclusion.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from config.settings import Destination
from gateway.app import App
from gateway.dicom.commitment_scu import request_commitment
from gateway.dicom.scu import NothingAccepted, Refused
from storage.commitments import Reference
from storage.deliveries import (
    Consignment,
    answered_commitments,
    consignments,
    put_off,
    record_asked,
    record_delivered,
    record_failure,
)
from storage.tables import CommitmentState, DeliveryState

log = structlog.get_logger(__name__)

MOST_ASKS = 3
_PAGE = 500


class Notary:
    """Asks destinations to commit themselves to what they have stored."""

    def __init__(self, app: App, *, clock: Callable[[], datetime], wait: float = 1.0) -> None:
        """`wait`: seconds for an answer on the association that asks; it holds a place of the destination's queue."""
        self._app = app
        self._clock = clock
        self._wait = wait

    def pending(self, revision_id: int, destination: Destination) -> bool:
        """Whether something of a revision is to be asked for now."""
        return bool(self._due(revision_id, destination))

    def ask(self, revision_id: int, destination: Destination) -> bool:
        """Ask for what was stored and not asked for, and again for what was not answered in time.

        Says whether the destination was spoken to. Raises SendError when it could not be.
        """
        due, now = self._due(revision_id, destination), self._clock()
        tired = [each for each in due if each.delivery.asks >= MOST_ASKS]
        for each in tired:
            self._fail(each, destination, f"no commitment after {MOST_ASKS} requests; it is sent again")
        fresh = [each for each in due if each.delivery.asks < MOST_ASKS]
        if not fresh:
            return False
        references = [Reference(each.evidence.sop_class_uid, each.evidence.sop_instance_uid) for each in fresh]
        settings = self._app.settings
        try:
            uid: str | None = request_commitment(
                self._app.database, destination, references, settings.dicom.ae_title, wait=self._wait
            )
        except NothingAccepted:
            for each in fresh:
                self._fail(
                    each, destination, "it is stored, and the destination knows no storage commitment", dead=True
                )
            return True
        except Refused as fault:
            log.warning("a request for storage commitment is refused", destination=destination.name, reason=str(fault))
            uid = None
        with self._app.database.transaction() as session:
            for each in fresh:
                record_asked(session, each.delivery.id, uid, now=now)
        settle(self._app, {destination.name: destination}, now)
        return True

    def _due(self, revision_id: int, destination: Destination) -> list[Consignment]:
        now, patience = self._clock(), timedelta(seconds=destination.commitment_timeout)
        with self._app.database.reading() as session:
            found = consignments(session, revision_id, destination.name)
        return [
            each
            for each in found
            if each.delivery.state is DeliveryState.SENT
            and (each.delivery.asked_at is None or each.delivery.asked_at + patience <= now)
        ]

    def _fail(self, each: Consignment, destination: Destination, reason: str, *, dead: bool = False) -> None:
        spent = each.delivery.refusals + 1 >= destination.attempts
        with self._app.database.transaction() as session:
            record_failure(session, each.delivery.id, reason, refusal=True, dead=dead or spent)


def settle(app: App, destinations: dict[str, Destination], now: datetime) -> None:
    """Draw the conclusions from what destinations reported: delivered, or to be sent again."""
    with app.database.reading() as session:
        if not answered_commitments(session, 1):
            return
    with app.database.transaction() as session:
        for each, commitment in answered_commitments(session, _PAGE):
            reason = commitment.failures.get(each.evidence.sop_instance_uid)
            if commitment.state is CommitmentState.COMMITTED or reason is None:
                record_delivered(session, each.delivery.id, now=now)
                continue
            destination = destinations.get(each.delivery.destination)
            most = destination.attempts if destination is not None else 0
            pause = destination.backoff if destination is not None else 0
            text = f"not committed: reason 0x{reason & 0xFFFF:04X}"
            dead = each.delivery.refusals + 1 >= most
            record_failure(session, each.delivery.id, text, refusal=True, dead=dead, now=now)
            if not dead:
                until = now + timedelta(seconds=pause)
                put_off(session, each.revision_id, each.delivery.destination, until, (DeliveryState.WAITING,))
