"""The spool of audit messages: the ledger itself, and for each collector a cursor into it.

Nothing is copied: what a collector lacks is what stands in the ledger after its cursor. The cursor moves only when a
collector has confirmed what was sent, so a sender that dies sends the last batch again: at least once, in order.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from storage.audit.ledger import GENESIS, Head, LedgerRecord
from storage.tables import LedgerRow, SpoolCursor

_COLUMNS: list[Any] = [getattr(LedgerRow, field.name) for field in fields(LedgerRecord)]


@dataclass(frozen=True, slots=True)
class SpoolState:
    """How far one collector is: what `scanwarden status` shows."""

    collector: str
    confirmed: int
    waiting: int
    oldest_waiting: str | None
    """Time of the oldest event that it lacks, as the ledger has it."""
    confirmed_at: datetime | None
    failing_since: datetime | None
    failure: str | None


def cursor(session: Session, collector: str) -> Head:
    """The last record that this collector confirmed; a new collector gets the whole ledger."""
    row = session.get(SpoolCursor, collector)
    return Head() if row is None else Head(row.seq, row.hash)


def waiting(session: Session, after: int, limit: int) -> list[LedgerRecord]:
    """The next records after a cursor, in order."""
    query = select(*_COLUMNS).where(LedgerRow.seq > after).order_by(LedgerRow.seq).limit(limit)
    return [LedgerRecord(*row) for row in session.execute(query)]


def still_holds(session: Session, confirmed: Head) -> bool:
    """Whether the ledger still has the record that a collector confirmed; it may begin later, for its age."""
    if confirmed.seq == 0:
        return confirmed.hash == GENESIS
    found = session.scalar(select(LedgerRow.hash).where(LedgerRow.seq == confirmed.seq))
    if found is not None:
        return bool(found == confirmed.hash)
    first = session.execute(select(LedgerRow.seq, LedgerRow.previous_hash).order_by(LedgerRow.seq).limit(1)).first()
    # Sealed segments leave the ledger's beginning; at its end nothing may ever be missing.
    if first is None or first.seq <= confirmed.seq:
        return False
    return bool(first.seq > confirmed.seq + 1) or bool(first.previous_hash == confirmed.hash)


def confirm(session: Session, collector: str, head: Head, *, now: datetime | None = None) -> bool:
    """Move the cursor forward, never back; says whether the collector had been failing."""
    row = _row(session, collector)
    failed = row.failing_since is not None
    row.failing_since, row.failure = None, None
    row.confirmed_at = now or datetime.now(UTC)
    if head.seq > row.seq:
        row.seq, row.hash = head.seq, head.hash
    return failed


def fail(session: Session, collector: str, failure: str, *, now: datetime | None = None) -> bool:
    """Note that a collector does not take messages; says whether this is the first time in a row."""
    row = _row(session, collector)
    first = row.failing_since is None
    if first:
        row.failing_since = now or datetime.now(UTC)
    row.failure = failure
    return first


def rewind(session: Session, collector: str) -> None:
    """Begin again at the ledger's first record: what a collector confirmed is no longer what the ledger holds."""
    row = _row(session, collector)
    row.seq, row.hash = 0, GENESIS


def states(session: Session, collectors: Iterable[str]) -> list[SpoolState]:
    """How far each of these collectors is."""
    rows = {row.collector: row for row in session.scalars(select(SpoolCursor))}
    head = session.scalar(select(func.coalesce(func.max(LedgerRow.seq), 0))) or 0
    found = []
    for name in collectors:
        row = rows.get(name) or SpoolCursor(collector=name, seq=0, hash=GENESIS)
        oldest = session.scalar(select(LedgerRow.time).where(LedgerRow.seq > row.seq).order_by(LedgerRow.seq).limit(1))
        behind = max(0, head - row.seq)
        found.append(SpoolState(name, row.seq, behind, oldest, row.confirmed_at, row.failing_since, row.failure))
    return found


def needed_from(session: Session, collectors: Sequence[str]) -> int | None:
    """The first record that some collector still lacks, which retention may not pass; None without collectors."""
    if not collectors:
        return None
    return 1 + min(cursor(session, name).seq for name in collectors)


def _row(session: Session, collector: str) -> SpoolCursor:
    row = session.get(SpoolCursor, collector)
    if row is None:
        row = SpoolCursor(collector=collector, seq=0, hash=GENESIS)
        session.add(row)
    return row
