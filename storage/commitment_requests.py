"""What peers asked us to answer for, from the request to the report (PS3.4 J, we as SCP).

A request is durable before it is answered. The deliver role looks at the files and writes the result; the report goes
out on the association that the request came on, for as long as its receiver keeps `next_at` ahead of the clock, and
otherwise on one that the deliver role opens.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.orm import Session

from storage.audit.events import AuditEvent, AuditEventType, AuditOutcome, Detail, peer_actor, role_actor
from storage.audit.ledger import append
from storage.commitments import Reference
from storage.errors import StorageError
from storage.tables import CommitmentRequest, Instance, RequestState

_DELIVER = role_actor("deliver")
DUPLICATE_TRANSACTION = 0x0131  # failure reason (PS3.3 C.14.1.1)
_WAITING = (RequestState.RECEIVED, RequestState.ANSWERED)
_AT_ONCE = 500  # UIDs in one statement


class TooManyRequests(StorageError):
    """As many requests wait as may wait; the peer should ask again later."""

    dicom_status = 0x0213
    http_status = 503


def receive_request(
    session: Session,
    transaction_uid: str,
    references: Sequence[Reference],
    *,
    ae_title: str,
    address: str,
    hold: float,
    most: int,
    now: datetime | None = None,
) -> int:
    """Keep a request and return its number; its association has `hold` seconds for the report.

    The same request again is looked at again, in the same row. Another request under a transaction that the peer used
    before fails for every instance (0x0131). Raises TooManyRequests when `most` wait.
    """
    moment = now or datetime.now(UTC)
    pairs = [[each.sop_class_uid, each.sop_instance_uid] for each in references]
    content = sha256(json.dumps(sorted(pairs)).encode()).hexdigest()
    query = select(CommitmentRequest).where(
        CommitmentRequest.transaction_uid == transaction_uid, CommitmentRequest.ae_title == ae_title
    )
    earlier = session.scalars(query.order_by(CommitmentRequest.id)).all()
    row = next((each for each in earlier if each.content_sha256 == content), None)
    if row is None or row.state not in _WAITING:
        waiting = select(func.count()).select_from(CommitmentRequest).where(CommitmentRequest.state.in_(_WAITING))
        if (session.scalar(waiting) or 0) >= most:
            raise TooManyRequests(f"{most} requests for storage commitment wait (commitment.max_requests)")
    if row is None:
        misused = bool(earlier)
        row = CommitmentRequest(
            transaction_uid=transaction_uid,
            ae_title=ae_title,
            address=address,
            state=RequestState.ANSWERED if misused else RequestState.RECEIVED,
            references=pairs,
            content_sha256=content,
            failures={uid: DUPLICATE_TRANSACTION for _, uid in pairs} if misused else {},
            attempts=0,
            asked_at=moment,
            next_at=moment,
        )
        session.add(row)
    elif row.failures and set(row.failures.values()) == {DUPLICATE_TRANSACTION}:
        row.state = RequestState.ANSWERED
    else:
        row.state, row.failures = RequestState.RECEIVED, {}
    row.address, row.attempts, row.failure, row.reported_at = address, 0, None, None
    row.next_at = moment + timedelta(seconds=hold)
    session.flush()
    event = AuditEvent(
        AuditEventType.COMMITMENT_ASKED,
        peer_actor(ae_title, address),
        subject=transaction_uid,
        details={"count": len(pairs)},
    )
    append(session, [event])
    return row.id


def unanswered(session: Session, known: Sequence[int] = ()) -> Sequence[CommitmentRequest]:
    """Requests whose files nobody has looked at, oldest first, but for those `known`."""
    query = select(CommitmentRequest).where(CommitmentRequest.state == RequestState.RECEIVED)
    return session.scalars(query.where(CommitmentRequest.id.not_in(known)).order_by(CommitmentRequest.id)).all()


def copies_of(session: Session, uids: Sequence[str]) -> dict[str, list[Instance]]:
    """Every copy that the index has of these instances."""
    found: dict[str, list[Instance]] = {}
    for start in range(0, len(uids), _AT_ONCE):
        query = select(Instance).where(Instance.sop_instance_uid.in_(uids[start : start + _AT_ONCE]))
        for copy in session.scalars(query):
            found.setdefault(copy.sop_instance_uid, []).append(copy)
    return found


def record_answer(session: Session, request_id: int, asked_at: datetime, failures: Mapping[str, int]) -> bool:
    """Keep what was found: the failure reason of each instance that we do not answer for.

    False when the peer has asked again since: then it is to be looked at again.
    """
    row = session.get_one(CommitmentRequest, request_id)
    if row.state is not RequestState.RECEIVED or row.asked_at != asked_at:
        return False
    row.state, row.failures = RequestState.ANSWERED, dict(failures)
    _note(session, row, AuditEventType.COMMITMENT_ANSWERED, _DELIVER)
    return True


def hold_requests(session: Session, request_ids: Sequence[int], seconds: float, *, now: datetime | None = None) -> None:
    """Leave reports to the associations that the requests came on for so long; 0: those have ended."""
    until = (now or datetime.now(UTC)) + timedelta(seconds=seconds)
    mine = CommitmentRequest.id.in_(request_ids), CommitmentRequest.state.in_(_WAITING)
    session.execute(update(CommitmentRequest).where(*mine).values(next_at=until))


def answered(session: Session, request_ids: Sequence[int]) -> Sequence[CommitmentRequest]:
    """Those of these requests whose result is known and not told."""
    query = select(CommitmentRequest).where(
        CommitmentRequest.id.in_(request_ids), CommitmentRequest.state == RequestState.ANSWERED
    )
    return session.scalars(query).all()


def take_due(session: Session, seconds: float, *, now: datetime | None = None) -> CommitmentRequest | None:
    """The report that is longest overdue for an association of our own, held for `seconds`; counts the attempt."""
    moment = now or datetime.now(UTC)
    query = select(CommitmentRequest).where(*_due(moment)).order_by(CommitmentRequest.next_at).limit(1)
    row = session.scalar(query)
    if row is not None:
        row.attempts += 1
        row.next_at = moment + timedelta(seconds=seconds)
    return row


def is_due(session: Session, *, now: datetime | None = None) -> bool:
    """Whether `take_due` would find one."""
    return session.scalar(select(CommitmentRequest.id).where(*_due(now or datetime.now(UTC))).limit(1)) is not None


def record_reported(
    session: Session, request_id: int, *, same_association: bool, actor: str = _DELIVER, now: datetime | None = None
) -> None:
    """The peer has confirmed the report."""
    row = session.get_one(CommitmentRequest, request_id)
    if row.state is RequestState.ANSWERED:
        row.state, row.failure, row.reported_at = RequestState.REPORTED, None, now or datetime.now(UTC)
        more: dict[str, Detail] = {"association": "same" if same_association else "new"}
        _note(session, row, AuditEventType.COMMITMENT_REPORTED, actor, more)


def record_not_reported(
    session: Session,
    request_id: int,
    failure: str,
    *,
    pause: float | None,
    actor: str = _DELIVER,
    now: datetime | None = None,
) -> None:
    """The report did not arrive; next try in `pause` seconds, None: given up (a dead letter)."""
    row = session.get_one(CommitmentRequest, request_id)
    if row.state is not RequestState.ANSWERED:
        return
    row.failure = failure
    if pause is not None:
        row.next_at = (now or datetime.now(UTC)) + timedelta(seconds=pause)
        return
    row.state = RequestState.DEAD
    more: dict[str, Detail] = {"attempts": row.attempts, "failure": failure}
    _note(session, row, AuditEventType.COMMITMENT_DEAD, actor, more, AuditOutcome.SERIOUS_FAILURE)


def forget_requests(session: Session, age: timedelta, *, now: datetime | None = None) -> None:
    """Remove requests that were done with longer than `age` ago; the ledger keeps them."""
    before = (now or datetime.now(UTC)) - age
    done = CommitmentRequest.state.in_((RequestState.REPORTED, RequestState.DEAD))
    session.execute(delete(CommitmentRequest).where(done, CommitmentRequest.next_at < before))


def _due(moment: datetime) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return CommitmentRequest.state == RequestState.ANSWERED, CommitmentRequest.next_at <= moment


def _note(
    session: Session,
    row: CommitmentRequest,
    event: AuditEventType,
    actor: str,
    more: Mapping[str, Detail] | None = None,
    outcome: AuditOutcome | None = None,
) -> None:
    if outcome is None:
        outcome = AuditOutcome.MINOR_FAILURE if row.failures else AuditOutcome.SUCCESS
    details: dict[str, Detail] = {
        "peer": peer_actor(row.ae_title, row.address),
        "count": len(row.references),
        "failed": len(row.failures),
        "failures": [f"{uid} 0x{reason:04X}" for uid, reason in list(row.failures.items())[:20]],
        **(more or {}),
    }
    append(session, [AuditEvent(event, actor, outcome, subject=row.transaction_uid, details=details)])
