"""Deliveries: one evidence object to one destination, attempted until it is delivered or given up as a dead letter."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.analyses import evidence_of
from storage.audit.events import AuditEventType, AuditOutcome, role_actor
from storage.studies import finish_revision, note, revision_of
from storage.tables import Analysis, Delivery, DeliveryState, Evidence

_DELIVER = role_actor("deliver")
# What a report refers to goes before the report.
_KINDS = ("SEG", "LABELMAP", "SC", "GSPS", "TEXT", "PLANAR", "SR", "KOS")


@dataclass(frozen=True, slots=True)
class Consignment:
    """A delivery and what is to be delivered."""

    delivery: Delivery
    evidence: Evidence
    revision_id: int


def plan_deliveries(
    session: Session, revision_id: int, destinations: Mapping[str, str], *, now: datetime | None = None
) -> list[Consignment]:
    """One delivery for every evidence object and destination whose profile it was made in; known ones stay.

    `destinations`: the profile of each, by name. Returned in the order of sending: SEG before the SR that refers to it.
    """
    evidence = evidence_of(session, revision_id)
    known = {(each.delivery.evidence_id, each.delivery.destination) for each in consignments(session, revision_id)}
    for destination, profile in destinations.items():
        session.add_all(
            Delivery(
                evidence_id=each.id,
                destination=destination,
                state=DeliveryState.WAITING,
                attempts=0,
                planned_at=now or datetime.now(UTC),
            )
            for each in evidence
            if each.profile == profile and (each.id, destination) not in known
        )
    session.flush()
    return consignments(session, revision_id)


def consignments(
    session: Session, revision_id: int, destination: str | None = None, *, waiting: bool = False
) -> list[Consignment]:
    """A revision's deliveries (to one destination; only those that still wait), in the order of sending."""
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


def record_attempt(session: Session, delivery_id: int, *, now: datetime | None = None) -> int:
    """Count an attempt, and say which one it is, from 1; to be committed before anything is sent."""
    delivery = session.get_one(Delivery, delivery_id)
    delivery.attempts += 1
    delivery.attempted_at = now or datetime.now(UTC)
    return delivery.attempts


def record_delivered(
    session: Session, delivery_id: int, *, now: datetime | None = None, actor: str = _DELIVER
) -> Delivery:
    """The destination has acknowledged it; the revision is done with its last delivery."""
    consignment = _consignment(session, delivery_id)
    delivery = consignment.delivery
    if delivery.state is not DeliveryState.DELIVERED:
        delivery.state, delivery.failure, delivery.delivered_at = (
            DeliveryState.DELIVERED,
            None,
            now or datetime.now(UTC),
        )
        _note(session, consignment, AuditEventType.EVIDENCE_DELIVERED, AuditOutcome.SUCCESS, actor)
        finish_revision(session, consignment.revision_id, actor=actor, now=now)
    return delivery


def record_failure(
    session: Session,
    delivery_id: int,
    failure: str,
    *,
    dead: bool = False,
    now: datetime | None = None,
    actor: str = _DELIVER,
) -> Delivery:
    """An attempt failed, for this reason; `dead`: it was the last one, and the revision fails with it."""
    consignment = _consignment(session, delivery_id)
    delivery = consignment.delivery
    if delivery.state is not DeliveryState.WAITING:
        return delivery
    delivery.failure = failure
    if dead:
        delivery.state = DeliveryState.DEAD
        _note(session, consignment, AuditEventType.DELIVERY_DEAD, AuditOutcome.SERIOUS_FAILURE, actor)
        finish_revision(session, consignment.revision_id, actor=actor, now=now)
    else:
        _note(session, consignment, AuditEventType.DELIVERY_FAILED, AuditOutcome.MINOR_FAILURE, actor)
    return delivery


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
