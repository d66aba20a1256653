"""Deliveries: one evidence object to one destination, attempted until it is delivered or given up as a dead letter.

The rows are the clock: `next_at` says when a delivery is due, and is empty while a workflow has it in hand. So what
waits costs nothing, and the timetable's sweep (`gateway/pipeline/dispatch.py`) asks for what is due.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Select, func, select, update
from sqlalchemy.orm import Session

from storage.analyses import evidence_of
from storage.audit.events import AuditEventType, AuditOutcome, role_actor
from storage.studies import finish_revision, note, revision_of
from storage.tables import (
    Analysis,
    Commitment,
    CommitmentState,
    Delivery,
    DeliveryState,
    Evidence,
    Priority,
    Revision,
    RevisionState,
)

_DELIVER = role_actor("deliver")
# What a report refers to goes before the report.
_KINDS = ("SEG", "LABELMAP", "SC", "GSPS", "TEXT", "PLANAR", "SR", "KOS")
_REFERRING = ("TEXT", "PLANAR", "SR", "KOS")
UNDELIVERED = (DeliveryState.WAITING, DeliveryState.SENT)


@dataclass(frozen=True, slots=True)
class Consignment:
    """A delivery and what is to be delivered."""

    delivery: Delivery
    evidence: Evidence
    revision_id: int

    def waits_for(self, other: "Consignment") -> bool:
        """Whether it may only follow when the other one is there, or never will be: a report after its regions."""
        return self.evidence.kind in _REFERRING and _place(other.evidence.kind) < _place(self.evidence.kind)


@dataclass(frozen=True, slots=True)
class Turn:
    """What is due of a revision at one destination, to be attempted together."""

    revision_id: int
    destination: str
    run: int
    priority: str
    due: datetime

    @property
    def number(self) -> int:
        """Tells the turns of a run apart: the moment at which it was due, in milliseconds."""
        return round(self.due.timestamp() * 1000)


def plan_deliveries(
    session: Session, revision_id: int, destinations: Mapping[str, str], *, now: datetime | None = None
) -> list[Consignment]:
    """One delivery for every evidence object and destination whose profile it was made in; known ones stay.

    `destinations`: the profile of each, by name. Returned in the order of sending: SEG before the SR that refers to it.
    """
    evidence = evidence_of(session, revision_id)
    planned_at = now or datetime.now(UTC)
    known = {(each.delivery.evidence_id, each.delivery.destination) for each in consignments(session, revision_id)}
    for destination, profile in destinations.items():
        session.add_all(
            Delivery(
                evidence_id=each.id,
                destination=destination,
                state=DeliveryState.WAITING,
                attempts=0,
                planned_at=planned_at,
                next_at=planned_at,
            )
            for each in evidence
            if each.profile == profile and (each.id, destination) not in known
        )
    session.flush()
    return consignments(session, revision_id)


def told_before(session: Session, revision_id: int) -> set[str]:
    """Destinations that were sent, or are being sent, the evidence of an earlier revision of the same study."""
    revision = revision_of(session, revision_id)
    query = (
        select(Delivery.destination)
        .join(Evidence, Delivery.evidence_id == Evidence.id)
        .join(Analysis, Evidence.analysis_id == Analysis.id)
        .join(Revision, Analysis.revision_id == Revision.id)
        .where(
            Revision.study_uid == revision.study_uid,
            Revision.number < revision.number,
            Delivery.state != DeliveryState.DEAD,
        )
    )
    return set(session.scalars(query))


def consignments(
    session: Session, revision_id: int, destination: str | None = None, *, waiting: bool = False
) -> list[Consignment]:
    """A revision's deliveries (to one destination; only those that still wait to be sent), in the order of sending."""
    query = (
        select(Delivery, Evidence)
        .join(Evidence, Delivery.evidence_id == Evidence.id)
        .join(Analysis, Evidence.analysis_id == Analysis.id)
        .where(Analysis.revision_id == revision_id)
        .order_by(Delivery.destination, Delivery.id)
    )
    if destination is not None:
        query = query.where(Delivery.destination == destination)
    if waiting:
        query = query.where(Delivery.state == DeliveryState.WAITING)
    found = [Consignment(delivery, evidence, revision_id) for delivery, evidence in session.execute(query)]
    return sorted(found, key=lambda each: (each.delivery.destination, _place(each.evidence.kind)))


def due_turns(
    session: Session, destination: str, now: datetime | None, limit: int, *, revision_id: int | None = None
) -> list[Turn]:
    """What is due at a destination, STAT first, then by age.

    Without `now`: whatever waits, what it refused least often first, for a destination that is to be tried.
    """
    due, refusals = func.min(Delivery.next_at), func.max(Delivery.refusals)
    query = (
        select(Revision.id, Revision.runs, Revision.priority, due)
        .join(Analysis, Analysis.revision_id == Revision.id)
        .join(Evidence, Evidence.analysis_id == Analysis.id)
        .join(Delivery, Delivery.evidence_id == Evidence.id)
        .where(Delivery.destination == destination, Delivery.state.in_(UNDELIVERED), Delivery.next_at.is_not(None))
        .group_by(Revision.id, Revision.runs, Revision.priority)
        .limit(limit)
    )
    if revision_id is not None:
        query = query.where(Revision.id == revision_id)
    if now is not None:
        query = query.where(Delivery.next_at <= now).order_by(Revision.priority != Priority.STAT, due)
    else:
        query = query.order_by(refusals, Revision.priority != Priority.STAT, due)
    found = session.execute(query)
    return [Turn(number, destination, run, priority.value, at) for number, run, priority, at in found if at is not None]


def destinations_with_work(session: Session) -> list[str]:
    """Where something is due at some time; names that are no longer configured, too."""
    query = select(Delivery.destination).where(Delivery.next_at.is_not(None), Delivery.state.in_(UNDELIVERED))
    return sorted(session.scalars(query.distinct()))


def take(session: Session, turns: Iterable[Turn]) -> None:
    """A workflow has them in hand; what is due at another time by now is left alone."""
    for turn in turns:
        session.execute(
            update(Delivery)
            .where(
                Delivery.id.in_(_of_revision(turn.revision_id)),
                Delivery.destination == turn.destination,
                Delivery.next_at <= turn.due,
            )
            .values(next_at=None)
            .execution_options(synchronize_session=False)
        )


def put_off(
    session: Session,
    revision_id: int,
    destination: str,
    until: datetime,
    states: Collection[DeliveryState] = UNDELIVERED,
) -> None:
    """What is not delivered of a revision to a destination is due again at `until`."""
    session.execute(
        update(Delivery)
        .where(
            Delivery.id.in_(_of_revision(revision_id)),
            Delivery.destination == destination,
            Delivery.state.in_(states),
        )
        .values(next_at=until)
        .execution_options(synchronize_session=False)
    )


def wake(session: Session, destination: str, now: datetime) -> None:
    """Everything that waits for a destination is due: it answers again."""
    session.execute(
        update(Delivery)
        .where(Delivery.destination == destination, Delivery.state.in_(UNDELIVERED), Delivery.next_at > now)
        .values(next_at=now)
        .execution_options(synchronize_session=False)
    )


def overdue(session: Session, destination: str, planned_before: datetime, limit: int) -> Sequence[int]:
    """Deliveries that wait longer than anybody wants."""
    query = select(Delivery.id).where(
        Delivery.destination == destination,
        Delivery.state == DeliveryState.WAITING,
        Delivery.next_at.is_not(None),
        Delivery.planned_at < planned_before,
    )
    return session.scalars(query.order_by(Delivery.id).limit(limit)).all()


def record_attempt(session: Session, delivery_id: int, *, now: datetime | None = None) -> int:
    """Count an attempt, and say which one it is, from 1; to be committed before anything is sent."""
    delivery = session.get_one(Delivery, delivery_id)
    delivery.attempts += 1
    delivery.attempted_at = now or datetime.now(UTC)
    return delivery.attempts


def record_delivered(
    session: Session,
    delivery_id: int,
    *,
    warning: str | None = None,
    now: datetime | None = None,
    actor: str = _DELIVER,
) -> Delivery:
    """The destination has it, with this status where it was a warning; the revision is done with its last delivery."""
    consignment = _consignment(session, delivery_id)
    delivery = consignment.delivery
    if delivery.state is not DeliveryState.DELIVERED:
        delivery.state, delivery.failure, delivery.next_at = DeliveryState.DELIVERED, None, None
        delivery.delivered_at, delivery.warning = now or datetime.now(UTC), warning or delivery.warning
        _note(session, consignment, AuditEventType.EVIDENCE_DELIVERED, AuditOutcome.SUCCESS, actor)
        finish_revision(session, consignment.revision_id, actor=actor, now=now)
    return delivery


def record_sent(session: Session, delivery_id: int, *, warning: str | None = None) -> Delivery:
    """The destination has stored it; it is delivered when the destination has committed itself to keep it."""
    delivery = session.get_one(Delivery, delivery_id)
    if delivery.state is DeliveryState.WAITING:
        delivery.state, delivery.failure, delivery.warning = DeliveryState.SENT, None, warning
        delivery.transaction_uid, delivery.asked_at, delivery.asks = None, None, 0
    return delivery


def record_asked(session: Session, delivery_id: int, transaction_uid: str | None, *, now: datetime) -> None:
    """The destination was asked to commit itself; without a transaction it refused to be."""
    delivery = session.get_one(Delivery, delivery_id)
    delivery.transaction_uid, delivery.asked_at = transaction_uid, now
    delivery.asks += 1


def answered_commitments(session: Session, limit: int) -> list[tuple[Consignment, Commitment]]:
    """Deliveries that wait for nothing but their commitment, and whose destination has reported."""
    query = (
        select(Delivery, Evidence, Analysis.revision_id, Commitment)
        .join(Commitment, Commitment.transaction_uid == Delivery.transaction_uid)
        .join(Evidence, Delivery.evidence_id == Evidence.id)
        .join(Analysis, Evidence.analysis_id == Analysis.id)
        .where(Delivery.state == DeliveryState.SENT, Commitment.state != CommitmentState.WAITING)
        .order_by(Delivery.id)
        .limit(limit)
    )
    return [(Consignment(row[0], row[1], row[2]), row[3]) for row in session.execute(query)]


def record_failure(
    session: Session,
    delivery_id: int,
    failure: str,
    *,
    dead: bool = False,
    refusal: bool = False,
    now: datetime | None = None,
    actor: str = _DELIVER,
) -> Delivery:
    """An attempt failed, for this reason; `dead`: it was the last one, and the revision fails with it.

    `refusal`: it speaks against this object, not against the destination.
    """
    consignment = _consignment(session, delivery_id)
    delivery = consignment.delivery
    if delivery.state not in UNDELIVERED:
        return delivery
    delivery.failure, delivery.state = failure, DeliveryState.WAITING
    delivery.refusals += refusal
    if dead:
        delivery.state, delivery.next_at = DeliveryState.DEAD, None
        _note(session, consignment, AuditEventType.DELIVERY_DEAD, AuditOutcome.SERIOUS_FAILURE, actor)
        finish_revision(session, consignment.revision_id, actor=actor, now=now)
    else:
        _note(session, consignment, AuditEventType.DELIVERY_FAILED, AuditOutcome.MINOR_FAILURE, actor)
    return delivery


def resend(
    session: Session,
    delivery_ids: Collection[int],
    *,
    actor: str,
    now: datetime | None = None,
) -> int:
    """Deliver these once more, whatever became of them; the revisions are open again until it is done.

    Says how many: one that a workflow has in hand is on its way already.
    """
    now, count = now or datetime.now(UTC), 0
    for number in delivery_ids:
        consignment = _consignment(session, number)
        delivery, revision = consignment.delivery, revision_of(session, consignment.revision_id)
        if (
            delivery.state is DeliveryState.WAITING
            and delivery.next_at is None
            and revision.state is not RevisionState.FAILED
        ):
            continue
        count += 1
        delivery.state, delivery.attempts, delivery.refusals = DeliveryState.WAITING, 0, 0
        delivery.planned_at, delivery.next_at = now, now
        delivery.failure, delivery.warning, delivery.transaction_uid, delivery.delivered_at = None, None, None, None
        if revision.state in (RevisionState.DONE, RevisionState.FAILED):
            revision.state, revision.failure, revision.finished_at = RevisionState.ENCODED, None, None
        _note(session, consignment, AuditEventType.DELIVERY_RETRIED, AuditOutcome.SUCCESS, actor)
    return count


def dead_deliveries(session: Session, study_uid: str | None = None) -> Sequence[int]:
    """Revisions that have a dead letter: what `retry_revision` revives."""
    query = (
        select(Analysis.revision_id)
        .join(Evidence, Evidence.analysis_id == Analysis.id)
        .join(Delivery, Delivery.evidence_id == Evidence.id)
        .where(Delivery.state == DeliveryState.DEAD)
        .distinct()
        .order_by(Analysis.revision_id)
    )
    identifiers = session.scalars(query).all()
    return [n for n in identifiers if study_uid is None or revision_of(session, n).study_uid == study_uid]


def _of_revision(revision_id: int) -> Select[int]:
    return (
        select(Delivery.id)
        .join(Evidence, Delivery.evidence_id == Evidence.id)
        .join(Analysis, Evidence.analysis_id == Analysis.id)
        .where(Analysis.revision_id == revision_id)
    )


def _consignment(session: Session, delivery_id: int) -> Consignment:
    delivery = session.get_one(Delivery, delivery_id)
    evidence = session.get_one(Evidence, delivery.evidence_id)
    return Consignment(delivery, evidence, session.get_one(Analysis, evidence.analysis_id).revision_id)


def _note(session: Session, consignment: Consignment, event: AuditEventType, outcome: AuditOutcome, actor: str) -> None:
    note(
        session,
        revision_of(session, consignment.revision_id),
        event,
        actor=actor,
        outcome=outcome,
        subject=consignment.evidence.sop_instance_uid,
        details={
            "destination": consignment.delivery.destination,
            "attempt": consignment.delivery.attempts,
            "failure": consignment.delivery.failure,
        },
    )


def _place(kind: str) -> int:
    return _KINDS.index(kind) if kind in _KINDS else len(_KINDS)
