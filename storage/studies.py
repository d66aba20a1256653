"""A study's revisions: when one is due, what it consists of, how far it is (promise 3).

Every function works in the caller's session; those that change something need `Database.transaction` and write their
audit event in it. A study is never complete, so nothing here says that it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import case, exists, func, select, update
from sqlalchemy.orm import Session

from storage.audit.events import AuditEvent, AuditEventType, AuditOutcome, Detail, role_actor
from storage.audit.ledger import append
from storage.errors import NotFound
from storage.tables import (
    Analysis,
    AnalysisState,
    CloseReason,
    Delivery,
    DeliveryState,
    Evidence,
    Instance,
    InstanceKind,
    InstanceState,
    Priority,
    Revision,
    RevisionState,
    Study,
)

_TIMETABLE = role_actor("timetable")
_HELD = (InstanceState.STORED, InstanceState.CONTESTED, InstanceState.QUARANTINED, InstanceState.DUPLICATE)


@dataclass(frozen=True, slots=True)
class DueRevision:
    """An open revision that is to be closed now."""

    id: int
    study_uid: str
    number: int
    priority: Priority
    reason: CloseReason


@dataclass(frozen=True, slots=True)
class RevisionContents:
    """What a revision consists of."""

    revision: Revision
    study: Study
    instances: list[Instance]
    """Stored images and others of this revision and the ones before it, by series and arrival."""
    new: list[Instance]
    """Those of them that this revision brought. None: only contested copies arrived."""
    contested: list[Instance]
    """Copies that wait for the comparison of their pixels."""
    quarantined: list[Instance]
    """Copies whose pixels differ from the stored one's: incidents that the report must name."""
    duplicates: list[Instance]
    """Copies with other bytes that show the same; the first copy of their UID may belong to another study."""
    deleted: int = 0
    """Instances of this revision and the ones before it whose files are past their age and gone."""


def revisions_due(
    session: Session, now: datetime, *, quiet_period: float, hard_limit: float, started_at: datetime
) -> list[DueRevision]:
    """Open revisions to be closed at `now`, STAT first. Periods in seconds.

    A revision is due when as many instances as expected are here, when nothing arrived for the quiet period, or when
    its first instance is older than the hard limit. After `started_at`, the start of the service, a sender gets a quiet
    period to resume before its study is closed for quiet or for the limit.
    """
    grace = timedelta(seconds=min(quiet_period, hard_limit))
    quiet, limit = timedelta(seconds=quiet_period), timedelta(seconds=hard_limit)
    arrived = (
        select(func.count())
        .where(
            Instance.study_uid == Revision.study_uid,
            Instance.state == InstanceState.STORED,
            Instance.kind != InstanceKind.EVIDENCE,
        )
        .scalar_subquery()
    )
    # Counted only where a number is expected.
    enough = case((Revision.expected_instances.is_(None), False), else_=arrived >= Revision.expected_instances)
    query = select(Revision, enough).where(Revision.state == RevisionState.OPEN).order_by(Revision.last_instance_at)
    due = []
    for revision, is_enough in session.execute(query):
        if is_enough:
            reason = CloseReason.EXPECTED
        elif max(revision.last_instance_at, started_at) + quiet <= now:
            reason = CloseReason.QUIET
        elif revision.opened_at + limit <= now and started_at + grace <= now:
            reason = CloseReason.LIMIT
        else:
            continue
        due.append(DueRevision(revision.id, revision.study_uid, revision.number, revision.priority, reason))
    return sorted(due, key=lambda each: each.priority is not Priority.STAT)


def close_revision(
    session: Session, revision_id: int, reason: CloseReason, *, now: datetime | None = None, actor: str = _TIMETABLE
) -> Revision | None:
    """Close a revision and give it the instances that arrived for it; None when it is closed already."""
    revision = revision_of(session, revision_id)
    if revision.state is not RevisionState.OPEN:
        return None
    revision.state, revision.close_reason, revision.closed_at = RevisionState.CLOSED, reason, now or datetime.now(UTC)
    arrived = update(Instance).where(
        Instance.study_uid == revision.study_uid,
        Instance.revision_id.is_(None),
        Instance.kind != InstanceKind.EVIDENCE,
    )
    session.execute(arrived.values(revision_id=revision.id).execution_options(synchronize_session=False))
    counts = session.execute(
        select(Instance.state, func.count()).where(Instance.revision_id == revision.id).group_by(Instance.state)
    )
    note(
        session,
        revision,
        AuditEventType.REVISION_CLOSED,
        actor=actor,
        details={"reason": reason.value, **{state.value: count for state, count in counts}},
    )
    return revision


def revision_of(session: Session, revision_id: int) -> Revision:
    """The revision with this number in the database; NotFound without it."""
    revision = session.get(Revision, revision_id)
    if revision is None:
        raise NotFound(f"there is no revision {revision_id} in the database")
    return revision


def revision_contents(session: Session, revision_id: int) -> RevisionContents:
    """Everything that an analysis of this revision reads: the study's instances with this revision number or less."""
    revision = revision_of(session, revision_id)
    query = (
        select(Instance)
        .join(Revision, Instance.revision_id == Revision.id)
        .where(
            Revision.study_uid == revision.study_uid,
            Revision.number <= revision.number,
            Instance.state.in_(_HELD),
        )
        .order_by(Instance.series_uid, Instance.id)
    )
    held = session.scalars(query).all()
    stored = [instance for instance in held if instance.state is InstanceState.STORED]
    expired = (
        select(Instance.sop_instance_uid)
        .distinct()
        .join(Revision, Instance.revision_id == Revision.id)
        .where(
            Revision.study_uid == revision.study_uid,
            Revision.number <= revision.number,
            Instance.state == InstanceState.EXPIRED,
        )
    )
    looked_at = {each.sop_instance_uid for each in held if each.state is not InstanceState.DUPLICATE}
    gone = set(session.scalars(expired)) - looked_at
    return RevisionContents(
        revision=revision,
        study=session.get_one(Study, revision.study_uid),
        instances=stored,
        new=[instance for instance in stored if instance.revision_id == revision.id],
        contested=[instance for instance in held if instance.state is InstanceState.CONTESTED],
        quarantined=[instance for instance in held if instance.state is InstanceState.QUARANTINED],
        duplicates=[instance for instance in held if instance.state is InstanceState.DUPLICATE],
        deleted=len(gone),
    )


def unfinished_revisions(session: Session) -> Sequence[Revision]:
    """Closed revisions that are not done and have not failed, in the order of work: STAT first, then by age.

    What has to be in a workflow queue; a crash between closing and queueing is made good from this list.
    """
    states = (RevisionState.CLOSED, RevisionState.ANALYSED, RevisionState.ENCODED)
    stat_first = case((Revision.priority == Priority.STAT, 0), else_=1)
    query = select(Revision).where(Revision.state.in_(states)).order_by(stat_first, Revision.closed_at, Revision.id)
    return session.scalars(query).all()


def revisions_waiting(session: Session) -> int:
    """How many closed revisions wait for their analysis: the depth that the queue's watermarks are about."""
    query = select(func.count()).select_from(Revision).where(Revision.state == RevisionState.CLOSED)
    return session.scalar(query) or 0


def finish_revision(session: Session, revision_id: int, *, actor: str, now: datetime | None = None) -> Revision:
    """Set the revision's end from its deliveries: all delivered (or none planned) is DONE, a dead one is FAILED.

    Nothing changes while one waits, or when the end is written already.
    """
    revision = revision_of(session, revision_id)
    if revision.state is RevisionState.DONE:
        return revision
    states = [delivery.state for delivery in deliveries_of(session, revision_id)]
    if DeliveryState.WAITING in states or DeliveryState.SENT in states:
        return revision
    if DeliveryState.DEAD in states:
        return fail_revision(session, revision_id, "a delivery was given up", actor=actor, now=now)
    revision.state, revision.failure, revision.finished_at = RevisionState.DONE, None, now or datetime.now(UTC)
    note(session, revision, AuditEventType.REVISION_DONE, actor=actor, details={"deliveries": len(states)})
    return revision


def fail_revision(
    session: Session, revision_id: int, failure: str, *, actor: str, now: datetime | None = None
) -> Revision:
    """Give a revision up, with the reason, until somebody retries it."""
    revision = revision_of(session, revision_id)
    if revision.state is not RevisionState.FAILED:
        revision.state, revision.failure, revision.finished_at = RevisionState.FAILED, failure, now or datetime.now(UTC)
        note(
            session,
            revision,
            AuditEventType.REVISION_FAILED,
            actor=actor,
            outcome=AuditOutcome.SERIOUS_FAILURE,
            details={"failure": failure},
        )
    return revision


def failed_revisions(session: Session, study_uid: str | None = None) -> Sequence[Revision]:
    """Revisions that were given up, of one study or of all; the oldest first."""
    query = select(Revision).where(Revision.state == RevisionState.FAILED).order_by(Revision.id)
    if study_uid is not None:
        query = query.where(Revision.study_uid == study_uid)
    return session.scalars(query).all()


def retry_revision(session: Session, revision_id: int, *, actor: str) -> Revision:
    """Let a failed revision go on where it failed: its dead deliveries, its evidence or its analysis.

    `runs` tells the runs apart.
    """
    revision = revision_of(session, revision_id)
    if revision.state is not RevisionState.FAILED:
        return revision
    deliveries = deliveries_of(session, revision_id)
    for delivery in deliveries:
        if delivery.state is DeliveryState.DEAD:
            delivery.state, delivery.attempts, delivery.refusals = DeliveryState.WAITING, 0, 0
            delivery.planned_at = delivery.next_at = datetime.now(UTC)
        elif delivery.state is not DeliveryState.DELIVERED and delivery.next_at is None:
            delivery.next_at = datetime.now(UTC)  # the workflow that had it in hand is gone
    looked_at = exists().where(Analysis.revision_id == revision_id, Analysis.state == AnalysisState.DONE)
    if deliveries:
        revision.state = RevisionState.ENCODED
    elif session.scalar(select(looked_at)):
        revision.state = RevisionState.ANALYSED  # a verdict that was kept stays; its evidence is what is missing
    else:
        revision.state = RevisionState.CLOSED
    revision.failure, revision.finished_at, revision.attempts = None, None, 0
    revision.runs += 1
    note(session, revision, AuditEventType.REVISION_RETRIED, actor=actor, details={"run": revision.runs})
    return revision


def deliveries_of(session: Session, revision_id: int) -> Sequence[Delivery]:
    """Every delivery of a revision's evidence objects, in the order in which they were planned."""
    query = (
        select(Delivery)
        .join(Evidence, Delivery.evidence_id == Evidence.id)
        .join(Analysis, Evidence.analysis_id == Analysis.id)
        .where(Analysis.revision_id == revision_id)
        .order_by(Delivery.id)
    )
    return session.scalars(query).all()


def note(
    session: Session,
    revision: Revision,
    event: AuditEventType,
    *,
    actor: str,
    outcome: AuditOutcome = AuditOutcome.SUCCESS,
    subject: str | None = None,
    details: Mapping[str, Detail] | None = None,
) -> None:
    """Write an audit event about a revision into the caller's transaction."""
    facts: dict[str, Detail] = {"revision": revision.number, **(details or {})}
    append(session, [AuditEvent(event, actor, outcome, study_uid=revision.study_uid, subject=subject, details=facts)])
