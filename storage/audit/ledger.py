"""The ledger: an append-only chain of records, written in the transaction of what it records.

A record's hash is SHA-256(previous hash ‖ canonical record). The previous hash is 32 bytes, zero for the first record.
The canonical record is the JSON object of actor, details, event, outcome, seq, study_uid, subject and time, with sorted
keys, no white space, ASCII with \\u escapes. Sequence numbers start at 1 and have no gap. The chain alone shows every
change inside it; that its tail was cut off shows only against a head that was kept elsewhere (`expected`).
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from json.encoder import encode_basestring_ascii as _quoted
from operator import attrgetter
from typing import Any, Self

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.audit.events import AuditEvent
from storage.database import Database
from storage.direct import Direct, Statement, direct, inserting
from storage.errors import StorageError
from storage.tables import LedgerRow
from storage.tables.ledger import event_is

GENESIS = "0" * 64
_HEAD = "scanwarden_ledger_head"
_PAGE = 5000


@dataclass(frozen=True, slots=True)
class LedgerRecord:
    """One record as it stands in the ledger; `details` is canonical JSON text."""

    seq: int
    time: str
    event: str
    outcome: int
    actor: str
    study_uid: str | None
    subject: str | None
    details: str
    previous_hash: str
    hash: str

    @property
    def head(self) -> "Head":
        """The ledger's head when this was its last record."""
        return Head(self.seq, self.hash)

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Self:
        """The record of a `to_json`. Raises KeyError when a field is missing."""
        return cls(**{name: facts[name] for name in _FIELDS} | {"details": _json(facts["details"])})

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object, details unfolded: what exports and `--json` print."""
        return {name: getattr(self, name) for name in _FIELDS} | {"details": json.loads(self.details)}


_FIELDS = ("seq", "time", "event", "outcome", "actor", "study_uid", "subject", "details", "previous_hash", "hash")
_values = attrgetter(*_FIELDS)
_INSERT = inserting("ledger", _FIELDS)
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)
_LAST = Statement("SELECT seq, hash FROM ledger ORDER BY seq DESC LIMIT 1")
_COLUMNS = [getattr(LedgerRow, name) for name in _FIELDS]


@dataclass(frozen=True, slots=True)
class Head:
    """The last record's place and hash; (0, zeros) for an empty ledger."""

    seq: int = 0
    hash: str = GENESIS


class BreakKind(StrEnum):
    """How a chain can be broken."""

    CONTENT = "content"  # the record's fields do not have the hash beside them
    LINK = "link"  # the record does not follow the one before it
    GAP = "gap"  # a sequence number is missing
    TRUNCATED = "truncated"  # the ledger ends before a head that is known to have existed
    REWRITTEN = "rewritten"  # the record at a known head has another hash
    FORKED = "forked"  # one key signed two different pasts
    CHECKPOINT = "checkpoint"  # a checkpoint is missing, not signed by the ledger's key, or not of this ledger
    KEY = "key"  # a key that nobody who was trusted before it vouches for
    ANCHOR = "anchor"  # a file that the checkpoints are anchored in was cut, changed or lost
    SEGMENT = "segment"  # a sealed file is missing or is not what was sealed


@dataclass(frozen=True, slots=True)
class Break:
    """The first place where the chain does not hold."""

    seq: int
    kind: BreakKind
    text: str


class LedgerBroken(StorageError):
    """The ledger is not what was signed; nothing is signed on top of it."""

    def __init__(self, broken: Break) -> None:
        super().__init__(f"the ledger is broken at record {broken.seq}: {broken.text}")
        self.broken = broken


@dataclass(frozen=True, slots=True)
class Verification:
    """What a verification found: `records` were read, up to `head`; the first break, if any."""

    records: int
    head: Head
    broken: Break | None

    @property
    def intact(self) -> bool:
        return self.broken is None


class Ledger:
    """The ledger of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @staticmethod
    def append(session: Session, event: AuditEvent) -> LedgerRecord:
        """Add one record in the caller's transaction; it exists if, and only if, that commits."""
        return append(session, [event])[0]

    def record(self, event: AuditEvent) -> LedgerRecord:
        """Add one record in a transaction of its own, for an event that changes nothing else."""
        with self._database.transaction() as session:
            return append(session, [event])[0]

    def head(self) -> Head:
        """The last record's place and hash."""
        with self._database.reading() as session:
            return _head(direct(session))

    def list(
        self,
        *,
        since: datetime | None = None,
        event: str | None = None,
        study_uid: str | None = None,
        limit: int | None = 100,
    ) -> list[LedgerRecord]:
        """The newest `limit` records (None: all) that match every filter given, oldest first."""
        query = select(*_COLUMNS).order_by(LedgerRow.seq.desc())
        if since is not None:
            query = query.where(LedgerRow.time >= timestamp(since))
        if event is not None:
            query = query.where(event_is(event))
        if study_uid is not None:
            query = query.where(LedgerRow.study_uid == study_uid)
        if limit is not None:
            query = query.limit(limit)
        with self._database.reading() as session:
            found = [LedgerRecord(*row) for row in session.execute(query)]
        return found[::-1]

    def records(self, *, after: int = 0, last: int | None = None) -> Iterator[LedgerRecord]:
        """Every record with a higher sequence number than `after`, up to `last`, in order, read in pages."""
        while True:
            # Pages of their own: a long-lived reader would keep SQLite from shortening its write-ahead log.
            query = select(*_COLUMNS).where(LedgerRow.seq > after).order_by(LedgerRow.seq).limit(_PAGE)
            if last is not None:
                query = query.where(LedgerRow.seq <= last)
            with self._database.reading() as session:
                page = session.execute(query).all()
            if not page:
                return
            yield from (LedgerRecord(*row) for row in page)
            after = page[-1][0]

    def verify(
        self,
        *,
        start: Head = Head(),
        expected: Head | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Verification:
        """Walk the chain and name the first break.

        `start`: a head that is trusted, verification begins after it. `expected`: a head that is known to have existed;
        a ledger that ends before it, or has another hash there, is broken. `progress` is called with the number of
        records done, every few thousand.
        """
        return verify_chain(self.records(after=start.seq), start=start, expected=expected, progress=progress)


def append(session: Session | Direct, events: Sequence[AuditEvent]) -> list[LedgerRecord]:
    """Add records in the caller's transaction (`Database.transaction` or `direct`, which hold the writers' lock)."""
    if not events:
        return []
    own = direct(session)
    head = own.head or _current_head(session, own)
    added = []
    for event in events:
        record = chained(event, head)
        head = record.head
        added.append(record)
    own.run(_INSERT, [dict(zip(_FIELDS, _values(record), strict=True)) for record in added])
    own.head = head
    if isinstance(session, Session) and not session.in_nested_transaction():
        session.info[_HEAD] = (session.get_transaction(), head)
    return added


def verify_chain(
    records: Iterator[LedgerRecord],
    *,
    start: Head = Head(),
    expected: Head | None = None,
    progress: Callable[[int], None] | None = None,
) -> Verification:
    """`Ledger.verify` on records from anywhere, such as an export."""
    head, count = start, 0
    if expected is not None and expected.seq == start.seq and expected.hash != start.hash:
        return Verification(0, start, _rewritten(start, expected))
    for record in records:
        broken = break_after(head, record)
        if broken is None and expected is not None and record.seq == expected.seq and record.hash != expected.hash:
            broken = _rewritten(record.head, expected)
        if broken is not None:
            return Verification(count, head, broken)
        head = record.head
        count += 1
        if progress is not None and count % _PAGE == 0:
            progress(count)
    if progress is not None:
        progress(count)
    if expected is not None and head.seq < expected.seq:
        text = f"the ledger ends at record {head.seq}, but record {expected.seq} is known to have existed"
        return Verification(count, head, Break(head.seq + 1, BreakKind.TRUNCATED, text))
    return Verification(count, head, None)


def canonical(record: LedgerRecord) -> bytes:
    """The bytes of a record that its hash covers, after the previous hash."""
    # `details` is canonical already and goes in as it stands: a changed space in the column changes the hash. The rest
    # is what json.dumps would write, put together by hand: a million records are verified in a third of the time.
    return (
        f'{{"actor":{_value(record.actor)},"details":{record.details},"event":{_value(record.event)},'
        f'"outcome":{_value(record.outcome)},"seq":{_value(record.seq)},"study_uid":{_value(record.study_uid)},'
        f'"subject":{_value(record.subject)},"time":{_value(record.time)}}}'
    ).encode()


def break_after(head: Head, record: LedgerRecord) -> Break | None:
    """Why `record` cannot be what followed `head`; None when it can."""
    if record.seq != head.seq + 1:
        text = f"record {head.seq + 1} is missing: record {record.seq} follows record {head.seq}"
        return Break(head.seq + 1, BreakKind.GAP, text)
    if record.previous_hash != head.hash:
        text = f"record {record.seq} names {record.previous_hash[:16]}… as its predecessor, that is {head.hash[:16]}…"
        return Break(record.seq, BreakKind.LINK, text)
    found = hash_of(record)
    if found != record.hash:
        what = f"record {record.seq} ({record.event}, {record.time})"
        text = f"{what} was changed: its hash is {found[:16]}…, not {record.hash[:16]}…"
        return Break(record.seq, BreakKind.CONTENT, text)
    return None


def _rewritten(found: Head, expected: Head) -> Break:
    text = f"record {expected.seq} has hash {found.hash[:16]}…, known is {expected.hash[:16]}…: the chain was rewritten"
    return Break(expected.seq, BreakKind.REWRITTEN, text)


def chained(event: AuditEvent, head: Head) -> LedgerRecord:
    draft = LedgerRecord(
        seq=head.seq + 1,
        time=timestamp(event.time),
        event=str(event.event),
        outcome=int(event.outcome),
        actor=_text(event.actor, 128),
        study_uid=None if event.study_uid is None else _text(event.study_uid, 64),
        subject=None if event.subject is None else _text(event.subject, 128),
        details=_json(dict(event.details)),
        previous_hash=head.hash,
        hash="",
    )
    object.__setattr__(draft, "hash", hash_of(draft))  # nobody has seen it yet
    return draft


def hash_of(record: LedgerRecord) -> str:
    """What a record's `hash` has to be."""
    try:
        return sha256(bytes.fromhex(record.previous_hash) + canonical(record)).hexdigest()
    except (ValueError, TypeError):  # a previous hash that is no hash, or text that is none: someone else wrote it
        return "unreadable"


def _value(value: object) -> str:
    # Not only what the types say: whoever changed a row may have put anything into it.
    if type(value) is str:
        return _quoted(value)
    if type(value) is int:
        return str(value)
    return "null" if value is None else _json(value)


def _json(value: object) -> str:
    return _ENCODER.encode(value)


def _text(value: str, longest: int) -> str:
    if value.isascii() and value.isprintable():
        return value[:longest]
    # What a peer sent may hold what a database cannot (NUL, lone surrogates): the record must be kept all the same.
    return "".join(c if c.isprintable() and c.isascii() else "?" for c in value[:longest])


def timestamp(moment: datetime) -> str:
    """A moment as records have it: such texts sort as the moments do."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _current_head(session: Session | Direct, own: Direct) -> Head:
    # A transaction that appends twice knows its own head, unless a savepoint may have rolled the last append back.
    if isinstance(session, Session):
        transaction, head = session.info.pop(_HEAD, (None, None))
        if head is not None and transaction is session.get_transaction() and not session.in_nested_transaction():
            return head  # type: ignore[no-any-return]
    return _head(own)


def _head(own: Direct) -> Head:
    rows = own.ask(_LAST, {})
    return Head(*rows[0]) if rows else Head()
