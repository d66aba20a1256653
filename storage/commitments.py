"""What we asked our destinations to keep, and what they said (PS3.4 J, we as SCU).

    uid = ask(session, "pacs", references)     committed before the request leaves: the answer may overtake it
    commitment(session, uid).state             WAITING until the destination reports, on whichever association

The answer is written by whoever hears it: the process that asked, or a receiver that the destination calls.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from storage.audit.events import AuditEvent, AuditEventType, AuditOutcome, Detail, role_actor
from storage.audit.ledger import append
from storage.errors import NotFound
from storage.tables import Commitment, CommitmentState

_DELIVER = role_actor("deliver")
NOT_ANSWERED = -1  # failure "reason" of an instance that a report left out


@dataclass(frozen=True, slots=True)
class Reference:
    """One instance, as a request for commitment names it."""

    sop_class_uid: str
    sop_instance_uid: str


def ask(
    session: Session,
    destination: str,
    references: Sequence[Reference],
    *,
    now: datetime | None = None,
    actor: str = _DELIVER,
) -> str:
    """Write down a request and return its Transaction UID."""
    uid = f"2.25.{uuid.uuid4().int}"  # PS3.5 B.2; nobody can guess it
    session.add(
        Commitment(
            transaction_uid=uid,
            destination=destination,
            state=CommitmentState.WAITING,
            references=[[each.sop_class_uid, each.sop_instance_uid] for each in references],
            failures={},
            asked_at=now or datetime.now(UTC),
        )
    )
    details: dict[str, Detail] = {"destination": destination, "count": len(references)}
    append(session, [AuditEvent(AuditEventType.COMMITMENT_REQUESTED, actor, subject=uid, details=details)])
    return uid


def commitment(session: Session, transaction_uid: str) -> Commitment:
    """The request and its state. Raises NotFound."""
    found = session.scalar(select(Commitment).where(Commitment.transaction_uid == transaction_uid))
    if found is None:
        raise NotFound(f"no storage commitment was asked for under the transaction {transaction_uid}")
    return found


def record_report(
    session: Session,
    transaction_uid: str,
    committed: Sequence[str],
    failed: Mapping[str, int],
    *,
    reporter: str,
    now: datetime | None = None,
) -> Commitment:
    """Keep what the destination says of each SOP instance: `committed` UIDs, `failed` ones with their failure reason.

    An instance that it does not mention has failed. The first report counts, unless it was a failure: a destination
    that was asked again may have found the instance since. Raises NotFound for a transaction that is not ours.
    """
    row = commitment(session, transaction_uid)
    if row.state is CommitmentState.COMMITTED:
        return row
    asked = [uid for _, uid in row.references]
    good = set(committed) - set(failed)
    row.failures = {uid: failed.get(uid, NOT_ANSWERED) for uid in asked if uid not in good}
    row.state = CommitmentState.FAILED if row.failures else CommitmentState.COMMITTED
    row.reporter, row.finished_at = reporter[:128], now or datetime.now(UTC)
    _note(session, row, reporter)
    return row


def record_refusal(session: Session, transaction_uid: str, status: int, *, reporter: str = _DELIVER) -> Commitment:
    """The destination refused the request itself (the status of its N-ACTION response): every instance has failed."""
    row = commitment(session, transaction_uid)
    return record_report(session, transaction_uid, (), {uid: status for _, uid in row.references}, reporter=reporter)


def forget_commitments(session: Session, age: timedelta, *, now: datetime | None = None) -> None:
    """Remove requests older than `age`, answered or not; the ledger keeps them."""
    session.execute(delete(Commitment).where(Commitment.asked_at < (now or datetime.now(UTC)) - age))


def _note(session: Session, row: Commitment, reporter: str) -> None:
    kept = row.state is CommitmentState.COMMITTED
    event = AuditEvent(
        AuditEventType.COMMITMENT_CONFIRMED if kept else AuditEventType.COMMITMENT_DENIED,
        reporter,
        AuditOutcome.SUCCESS if kept else AuditOutcome.MINOR_FAILURE,
        subject=row.transaction_uid,
        details={
            "destination": row.destination,
            "count": len(row.references),
            "failed": len(row.failures),
            "failures": [f"{uid} 0x{reason & 0xFFFF:04X}" for uid, reason in list(row.failures.items())[:20]],
        },
    )
    append(session, [event])
