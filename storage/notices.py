"""Notices of verdicts: what the ledger says there is to tell, and how far each channel is with it.

A channel begins with what happens after it was first configured: nobody is told of the verdicts of past years.
"""

import json
from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from storage.audit import spool
from storage.audit.events import AuditEvent, AuditEventType, AuditOutcome, Detail, role_actor
from storage.audit.ledger import Head, LedgerRecord, append
from storage.tables import Instance, InstanceKind, InstanceState, LedgerRow, Notice, NoticeState, SpoolCursor
from storage.tables.ledger import event_is

_TIMETABLE = role_actor("timetable")
_MOST_BEHIND = 5000  # records of other events that a look reads again


def plan_notices(session: Session, channel: str, verdicts: Collection[str], *, now: datetime | None = None) -> int:
    """Write down what there is to tell since the last look; says how much. For `Database.transaction`."""
    name = f"notices:{channel}"
    last = session.execute(select(LedgerRow.seq, LedgerRow.hash).order_by(LedgerRow.seq.desc()).limit(1)).first()
    head = Head() if last is None else Head(last.seq, last.hash)
    planned = 0
    if session.get(SpoolCursor, name) is not None:
        for record in _verdicts(session, spool.cursor(session, name).seq, verdicts):
            if record.study_uid is None:
                continue
            moment = now or datetime.now(UTC)
            session.add(
                Notice(
                    channel=channel,
                    seq=record.seq,
                    record_sha256=record.hash,
                    study_uid=record.study_uid,
                    state=NoticeState.WAITING,
                    attempts=0,
                    refusals=0,
                    planned_at=moment,
                    next_at=moment,
                )
            )
            planned += 1
    spool.confirm(session, name, head, now=now)
    return planned


def something_new(session: Session, channel: str) -> bool:
    """Whether `plan_notices` is due: there are verdicts that it has not seen, or much else to go past."""
    row = session.get(SpoolCursor, f"notices:{channel}")
    if row is None or (session.scalar(select(func.max(LedgerRow.seq))) or 0) > row.seq + _MOST_BEHIND:
        return True
    query = select(LedgerRow.seq).where(LedgerRow.seq > row.seq, event_is(AuditEventType.ANALYSIS_FINISHED))
    return session.scalar(query.limit(1)) is not None


def due_notices(session: Session, channel: str, now: datetime, limit: int) -> Sequence[Notice]:
    """What is to be told now, the oldest first."""
    query = select(Notice).where(Notice.channel == channel, Notice.state == NoticeState.WAITING, Notice.next_at <= now)
    return session.scalars(query.order_by(Notice.id).limit(limit)).all()


def record_of(session: Session, notice: Notice) -> LedgerRecord | None:
    """What it is about; None when the ledger no longer holds it, or another one in its place."""
    (found,) = spool.waiting(session, notice.seq - 1, 1) or (None,)
    return found if found is not None and found.hash == notice.record_sha256 else None


def image_of(session: Session, study_uid: str) -> str | None:
    """Path of an image of the study, whose header says whom it is about."""
    query = select(Instance.path).where(
        Instance.study_uid == study_uid,
        Instance.state == InstanceState.STORED,
        Instance.kind == InstanceKind.IMAGE,
    )
    return session.scalar(query.order_by(Instance.id).limit(1))


def record_told(session: Session, notice_id: int, *, now: datetime) -> None:
    """The receiver has confirmed it."""
    notice = session.get_one(Notice, notice_id)
    notice.state, notice.failure, notice.sent_at = NoticeState.SENT, None, now
    notice.attempts += 1
    _note(session, notice, AuditEventType.NOTICE_SENT, AuditOutcome.SUCCESS)


def record_not_told(
    session: Session, notice_id: int, failure: str, until: datetime | None, *, refused: bool = False
) -> None:
    """An attempt failed; the next one is at `until`, None: it is given up. Only the first failure is an event."""
    notice = session.get_one(Notice, notice_id)
    notice.failure = failure
    notice.attempts += 1
    notice.refusals += refused
    if until is None:
        notice.state = NoticeState.DEAD
        _note(session, notice, AuditEventType.NOTICE_DEAD, AuditOutcome.SERIOUS_FAILURE)
        return
    notice.next_at = until
    if notice.attempts == 1:
        _note(session, notice, AuditEventType.NOTICE_FAILED, AuditOutcome.MINOR_FAILURE)


def put_off_channel(session: Session, channel: str, until: datetime) -> None:
    """The receiver is not there: nothing is tried before `until`."""
    session.execute(
        update(Notice)
        .where(Notice.channel == channel, Notice.state == NoticeState.WAITING, Notice.next_at < until)
        .values(next_at=until)
        .execution_options(synchronize_session=False)
    )


def revive_notices(session: Session, study_uid: str | None = None, *, actor: str, now: datetime | None = None) -> int:
    """Try dead notices again, of one study or of all; says how many."""
    query = select(Notice).where(Notice.state == NoticeState.DEAD)
    if study_uid is not None:
        query = query.where(Notice.study_uid == study_uid)
    found = session.scalars(query).all()
    for notice in found:
        notice.state, notice.attempts, notice.refusals, notice.failure = NoticeState.WAITING, 0, 0, None
        notice.planned_at = notice.next_at = now or datetime.now(UTC)
        _note(session, notice, AuditEventType.NOTICE_RETRIED, AuditOutcome.SUCCESS, actor)
    return len(found)


def _verdicts(session: Session, after: int, verdicts: Collection[str]) -> list[LedgerRecord]:
    columns = [getattr(LedgerRow, name) for name in LedgerRecord.__dataclass_fields__]
    query = select(*columns).where(LedgerRow.seq > after, event_is(AuditEventType.ANALYSIS_FINISHED))
    records = [LedgerRecord(*row) for row in session.execute(query.order_by(LedgerRow.seq))]
    return [record for record in records if json.loads(record.details).get("verdict") in verdicts]


def _note(
    session: Session, notice: Notice, event: AuditEventType, outcome: AuditOutcome, actor: str = _TIMETABLE
) -> None:
    details: dict[str, Detail] = {
        "channel": notice.channel,
        "record": notice.seq,
        "attempt": notice.attempts,
        "failure": notice.failure,
    }
    append(session, [AuditEvent(event, actor, outcome, study_uid=notice.study_uid, details=details)])
