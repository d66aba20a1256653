"""The queue of what is passed on: every instance, for every destination that wants it, in the order of arrival.

Nothing of it is on the receive path. Instances are numbered in the order in which they were committed (one writer at a
time), so a cursor for each destination says which of them are queued already; a kill between two steps repeats a step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import case, delete, func, insert, literal, or_, select, update
from sqlalchemy.orm import Session

from storage.audit.events import AuditEvent, AuditEventType, AuditOutcome, role_actor
from storage.audit.ledger import append
from storage.tables import Forward, ForwardCursor, ForwardState, Instance, InstanceKind, InstanceState

_DELIVER = role_actor("deliver")
IN_QUARANTINE = "it is in quarantine: the same UID with other pixels than the copy that came first"
EXPIRED = "its file was deleted for its age before it was passed on"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which instances go to a destination."""

    destination: str
    sources: tuple[str, ...] = ()
    """Calling AE titles; empty: all."""
    not_from: str | None = None
    """The destination's own AE title, whose instances do not go back."""
    hold_contested: bool = True


@dataclass(frozen=True, slots=True)
class Passage:
    """A queued instance and what there is to send."""

    forward: Forward
    instance: Instance


def open_cursors(session: Session, destinations: Sequence[str]) -> None:
    """Begin with what comes from now on, for destinations that were not served before."""
    known = set(session.scalars(select(ForwardCursor.destination)))
    newest = session.scalar(select(func.max(Instance.id))) or 0
    session.add_all(ForwardCursor(destination=each, instance_id=newest) for each in destinations if each not in known)


def newer(session: Session, wanted: Sequence[Wanted]) -> list[Wanted]:
    """Those for whom something has come in since they were queued for."""
    newest = session.scalar(select(func.max(Instance.id))) or 0
    cursors = cursor_positions(session)
    return [each for each in wanted if cursors.get(each.destination, newest) < newest]


def cursor_positions(session: Session) -> dict[str, int]:
    """How far the index was looked through, by destination."""
    return {each.destination: each.instance_id for each in session.scalars(select(ForwardCursor))}


def queue_new(session: Session, wanted: Wanted, *, now: datetime | None = None) -> None:
    """Queue what has come in since the last time. Our own evidence objects are never passed on."""
    moment = now or datetime.now(UTC)
    cursor = session.get_one(ForwardCursor, wanted.destination)
    newest = session.scalar(select(func.max(Instance.id))) or 0
    if newest <= cursor.instance_id:
        return
    disputed = Instance.state.in_((InstanceState.CONTESTED, InstanceState.QUARANTINED))
    waiting, held = literal(ForwardState.WAITING, Forward.state.type), literal(ForwardState.HELD, Forward.state.type)
    at = literal(moment, Forward.queued_at.type)
    chosen = select(
        literal(wanted.destination),
        Instance.id,
        case((disputed, held), else_=waiting) if wanted.hold_contested else waiting,
        literal(0),
        at,
        at,
    ).where(Instance.id > cursor.instance_id, Instance.id <= newest, Instance.kind != InstanceKind.EVIDENCE)
    if wanted.sources:
        chosen = chosen.where(Instance.source_ae.in_(wanted.sources))
    if wanted.not_from is not None:
        chosen = chosen.where(Instance.source_ae != wanted.not_from)
    columns = ["destination", "instance_id", "state", "attempts", "queued_at", "next_at"]
    session.execute(insert(Forward).from_select(columns, chosen.order_by(Instance.id)))
    cursor.instance_id = newest


def anything_decided(session: Session) -> bool:
    """Whether `release_held` has something to do."""
    query = select(Forward.id).join(Instance, Forward.instance_id == Instance.id)
    query = query.where(Forward.state == ForwardState.HELD, Instance.state != InstanceState.CONTESTED)
    return session.scalar(query.limit(1)) is not None


def release_held(session: Session) -> None:
    """Let go what was held until the copies were compared: duplicates go on, what is in quarantine does not."""
    query = select(Forward, Instance).join(Instance, Forward.instance_id == Instance.id)
    query = query.where(Forward.state == ForwardState.HELD, Instance.state != InstanceState.CONTESTED)
    for forward, instance in session.execute(query):
        if instance.state is InstanceState.QUARANTINED:
            record_refused(session, Passage(forward, instance), IN_QUARANTINE, pause=None)
        else:
            forward.state = ForwardState.WAITING


def next_passages(session: Session, destination: str, count: int, *, now: datetime | None = None) -> list[Passage]:
    """What is to be sent now, in the order of arrival."""
    query = (
        select(Forward, Instance)
        .join(Instance, Forward.instance_id == Instance.id)
        .where(
            Forward.state == ForwardState.WAITING,
            Forward.destination == destination,
            Forward.next_at <= (now or datetime.now(UTC)),
        )
        .order_by(Forward.instance_id)
        .limit(count)
    )
    return [Passage(forward, instance) for forward, instance in session.execute(query)]


def record_sent(
    session: Session,
    destination: str,
    passages: Sequence[Passage],
    *,
    now: datetime | None = None,
    actor: str = _DELIVER,
) -> None:
    """The destination has acknowledged these; one audit event for each study."""
    if not passages:
        return
    done = [each.forward.id for each in passages]
    change = update(Forward).where(Forward.id.in_(done))
    session.execute(change.values(state=ForwardState.SENT, failure=None, sent_at=now or datetime.now(UTC)))
    studies: dict[str, list[str]] = {}
    for each in passages:
        studies.setdefault(each.instance.study_uid, []).append(each.instance.sop_instance_uid)
    events = [
        AuditEvent(
            AuditEventType.INSTANCES_FORWARDED,
            actor,
            study_uid=study,
            details={"destination": destination, "count": len(uids), "sop_instance_uids": uids},
        )
        for study, uids in studies.items()
    ]
    append(session, events)


def record_refused(
    session: Session,
    passage: Passage,
    failure: str,
    *,
    pause: float | None,
    now: datetime | None = None,
    actor: str = _DELIVER,
) -> None:
    """An instance was not taken; next try in `pause` seconds, None: a dead letter. Those behind it go on."""
    moment = now or datetime.now(UTC)
    forward = session.get_one(Forward, passage.forward.id)
    if forward.state not in (ForwardState.WAITING, ForwardState.HELD):
        return
    forward.attempts += 1
    forward.failure = failure
    if pause is not None:
        forward.next_at = moment + timedelta(seconds=pause)
        return
    forward.state = ForwardState.DEAD
    event = AuditEvent(
        AuditEventType.FORWARD_DEAD,
        actor,
        AuditOutcome.SERIOUS_FAILURE,
        study_uid=passage.instance.study_uid,
        subject=passage.instance.sop_instance_uid,
        details={"destination": forward.destination, "attempts": forward.attempts, "failure": failure},
    )
    append(session, [event])


def record_stall(session: Session, destination: str, failure: str | None, *, actor: str = _DELIVER) -> None:
    """A destination takes nothing at all, for this reason; None: it does again."""
    event = AuditEvent(
        AuditEventType.FORWARDING_BACK if failure is None else AuditEventType.FORWARDING_STALLED,
        actor,
        AuditOutcome.SUCCESS if failure is None else AuditOutcome.SERIOUS_FAILURE,
        subject=destination,
        details={"destination": destination, "failure": failure},
    )
    append(session, [event])


def retry_dead(session: Session, *, actor: str, destination: str | None = None, study_uid: str | None = None) -> int:
    """Revive dead letters, of one destination and study or of all; says how many.

    One that is in quarantine goes on as well: a person asked for it, and the ledger says who.
    """
    chosen = select(Forward.id).join(Instance, Forward.instance_id == Instance.id)
    chosen = chosen.where(Forward.state == ForwardState.DEAD)
    if destination is not None:
        chosen = chosen.where(Forward.destination == destination)
    if study_uid is not None:
        chosen = chosen.where(Instance.study_uid == study_uid)
    found = session.scalars(chosen).all()
    revived = {"state": ForwardState.WAITING, "attempts": 0, "next_at": datetime.now(UTC)}
    for start in range(0, len(found), 500):
        session.execute(update(Forward).where(Forward.id.in_(found[start : start + 500])).values(**revived))
    if found:
        event = AuditEvent(
            AuditEventType.FORWARDS_RETRIED,
            actor,
            study_uid=study_uid,
            details={"count": len(found), "destination": destination or "all"},
        )
        append(session, [event])
    return len(found)


def counts(session: Session) -> Mapping[str, Mapping[ForwardState, int]]:
    """Instances by destination and state."""
    query = select(Forward.destination, Forward.state, func.count()).group_by(Forward.destination, Forward.state)
    found: dict[str, dict[ForwardState, int]] = {}
    for destination, state, number in session.execute(query):
        found.setdefault(destination, {})[state] = number
    return found


def oldest_waiting(session: Session) -> dict[str, datetime]:
    """When the oldest instance that waits was queued, by destination."""
    query = select(Forward.destination, func.min(Forward.queued_at)).where(Forward.state == ForwardState.WAITING)
    return dict(session.execute(query.group_by(Forward.destination)).all())


def listed(session: Session, *, destination: str | None = None, dead: bool = False, limit: int = 50) -> list[Passage]:
    """What is not passed on: what waits and failed before, what is held, and dead letters."""
    query = select(Forward, Instance).join(Instance, Forward.instance_id == Instance.id)
    failed = (Forward.state == ForwardState.WAITING) & (Forward.attempts > 0)
    unfinished = Forward.state == ForwardState.DEAD
    query = query.where(unfinished if dead else or_(unfinished, Forward.state == ForwardState.HELD, failed))
    if destination is not None:
        query = query.where(Forward.destination == destination)
    found = session.execute(query.order_by(Forward.destination, Forward.instance_id).limit(limit))
    return [Passage(forward, instance) for forward, instance in found]


def forget_sent(session: Session, age: timedelta, *, now: datetime | None = None) -> None:
    """Remove what was passed on longer than `age` ago; the ledger keeps it."""
    before = (now or datetime.now(UTC)) - age
    session.execute(delete(Forward).where(Forward.state == ForwardState.SENT, Forward.sent_at < before))
