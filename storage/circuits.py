"""The circuit of each destination: whether it answers, and whose delivery may try it while it does not.

Kept in the database, so that a restart does not forget that an archive is dead, and all deliver processes pay for it
together: one attempt at a time.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.audit.events import AuditEvent, AuditEventType, AuditOutcome, role_actor
from storage.audit.ledger import append
from storage.deliveries import wake
from storage.tables import Circuit, CircuitState

# A probe that says nothing for so long is lost with its process; longer than any peer is waited for.
LOST_AFTER = timedelta(minutes=15)
_DELIVER = role_actor("deliver")


def circuits(session: Session) -> Sequence[Circuit]:
    """Those of destinations that ever failed."""
    return session.scalars(select(Circuit).order_by(Circuit.destination)).all()


def may_be_tried(circuit: Circuit | None, now: datetime) -> bool:
    """Whether a destination that does not answer is due for its next probe."""
    if circuit is None or circuit.state is CircuitState.CLOSED or circuit.probe_at is None:
        return False
    return circuit.probe_at + (LOST_AFTER if circuit.state is CircuitState.HALF_OPEN else timedelta()) <= now


def leave_to_try(session: Session, destination: str, revision_id: int, now: datetime) -> datetime | None:
    """None: this revision's delivery may go, as the probe where one is due. Otherwise when to ask again."""
    circuit = session.get(Circuit, destination)
    if circuit is None or circuit.state is CircuitState.CLOSED:
        return None
    if circuit.state is CircuitState.HALF_OPEN and circuit.probe_revision == revision_id:
        return None
    if may_be_tried(circuit, now):
        claim_probe(session, destination, revision_id, now)
        return None
    return circuit.probe_at if circuit.state is CircuitState.OPEN and circuit.probe_at else now + LOST_AFTER


def claim_probe(session: Session, destination: str, revision_id: int, now: datetime) -> None:
    """This revision's delivery is the one that tries."""
    circuit = session.get_one(Circuit, destination)
    circuit.state, circuit.probe_revision, circuit.probe_at = CircuitState.HALF_OPEN, revision_id, now
    circuit.changed_at = now


def release_probe(session: Session, destination: str, revision_id: int, now: datetime) -> None:
    """The probe found nothing to send: let another one try."""
    circuit = session.get(Circuit, destination)
    if circuit is not None and circuit.state is CircuitState.HALF_OPEN and circuit.probe_revision == revision_id:
        circuit.state, circuit.probe_at, circuit.changed_at = CircuitState.OPEN, now, now


def record_answer(session: Session, destination: str, now: datetime) -> bool:
    """It answered; what waits for it is due. Says whether it had been out of order."""
    circuit = session.get(Circuit, destination)
    if circuit is None or (circuit.state is CircuitState.CLOSED and circuit.failures == 0):
        return False
    was_closed = circuit.state is CircuitState.CLOSED
    circuit.state, circuit.failures, circuit.probes, circuit.reason = CircuitState.CLOSED, 0, 0, None
    circuit.probe_at, circuit.probe_revision = None, None
    if was_closed:
        return False
    circuit.changed_at = now
    wake(session, destination, now)
    append(session, [AuditEvent(AuditEventType.DESTINATION_BACK, _DELIVER, subject=destination)])
    return True


def record_trouble(
    session: Session,
    destination: str,
    revision_id: int,
    reason: str,
    now: datetime,
    *,
    most_failures: int,
    pause: Callable[[int], float],
) -> bool:
    """It did not answer, or has no room. `pause`: seconds to the probe with this number. Says whether it opened now."""
    circuit = session.get(Circuit, destination)
    if circuit is None:
        circuit = Circuit(destination=destination, state=CircuitState.CLOSED, failures=0, probes=0, changed_at=now)
        session.add(circuit)
    circuit.failures += 1
    circuit.reason = reason
    was = circuit.state
    if was is CircuitState.OPEN or (was is CircuitState.HALF_OPEN and circuit.probe_revision != revision_id):
        return False  # it was on its way before
    if was is CircuitState.CLOSED and circuit.failures < most_failures:
        return False
    circuit.state, circuit.probes, circuit.changed_at = CircuitState.OPEN, circuit.probes + 1, now
    circuit.probe_at = now + timedelta(seconds=pause(circuit.probes))
    if was is CircuitState.CLOSED:
        event = AuditEvent(
            AuditEventType.DESTINATION_LOST,
            _DELIVER,
            AuditOutcome.MINOR_FAILURE,
            subject=destination,
            details={"reason": reason, "failures": circuit.failures},
        )
        append(session, [event])
    return was is CircuitState.CLOSED
