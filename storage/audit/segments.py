"""Sealed segments: the ledger's old records as compressed files that keep their proofs, and the way to shorten it.

A segment is one complete subtree of the Merkle tree (4,096 records, say). It is sealed when a checkpoint covers it:
gzip over JSON Lines, and beside it a sidecar with the subtree's root and its path to the signed root. Sealing leaves
the rows. `shorten` removes the rows of a sealed segment, and is the only way past the triggers: one transaction that
tells the ledger, lifts the trigger, removes exactly these rows and puts the trigger back, after the file was read back
and compared. A crash anywhere in it leaves the ledger as it was.
"""

import gzip
import json
import os
from base64 import b64encode
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import delete, select, text, update
from sqlalchemy.orm import Session

from storage.audit.archive import Archive, sidecar_of
from storage.audit.checkpoint import Checkpoint
from storage.audit.checkpoints import Checkpoints
from storage.audit.events import AuditEvent, AuditEventType
from storage.audit.ledger import Break, BreakKind, Head, LedgerBroken, LedgerRecord, append, break_after
from storage.audit.merkle import Frontier, inclusion_path
from storage.audit.spool import needed_from
from storage.audit.tree import BLOCK_LEVEL, StoredTree, leaf_of
from storage.database import Database
from storage.errors import NotFound, StorageError, from_os_error
from storage.tables import LedgerRow, Segment, SpoolCursor

SEGMENT_FORMAT = "scanwarden-segment-1"
LEVEL = 12  # 4,096 records
_TRIGGER = "ledger_refuses_delete"


class CannotShorten(StorageError):
    """The rows of a segment have to stay, for the reason that it gives."""


def seal(checkpoints: Checkpoints, actor: str, *, before: datetime, level: int = LEVEL) -> list[Segment]:
    """Seal every segment that a checkpoint covers and whose last record is older than `before`; says which.

    Raises LedgerBroken when the records are not what was signed, StorageError when a file cannot be written.
    """
    if level < BLOCK_LEVEL:
        raise ValueError(f"a segment has 2^{BLOCK_LEVEL} records or more")
    newest = checkpoints.newest()
    made: list[Segment] = []
    while newest is not None:
        segment = _next(checkpoints.archive, 1 << level, newest, before)
        if segment is None:
            break
        _write(checkpoints.archive, segment, newest)
        with checkpoints.archive.database.transaction() as session:
            session.add(segment)
            append(session, [AuditEvent(AuditEventType.LEDGER_SEALED, actor, details=_facts(segment))])
        made.append(segment)
    return made


def shorten(checkpoints: Checkpoints, number: int, actor: str, *, needed_from: int | None = None) -> int:
    """Remove the rows of one sealed segment; says how many. The oldest comes first, so that rows stay in one piece.

    `needed_from`: the first record that something outside still reads from the database. Raises CannotShorten,
    LedgerBroken.
    """
    archive = checkpoints.archive
    segment = next((each for each in archive.segments() if each.number == number), None)
    if segment is None:
        raise NotFound(f"there is no sealed segment {number}")
    if segment.shortened:
        return 0
    if needed_from is not None and needed_from <= segment.last:
        raise CannotShorten(f"an audit collector lacks records from {needed_from} on; they stay until it has them")
    _read_back(archive, segment)
    with archive.database.transaction() as session:
        rows = session.execute(
            select(LedgerRow.seq, LedgerRow.hash).order_by(LedgerRow.seq).limit(segment.last - segment.first + 2)
        ).all()
        if not rows or rows[0].seq != segment.first or rows[-1].seq != segment.last + 1:
            raise CannotShorten(f"segment {number} is not the oldest with rows, or nothing would be left after it")
        # The ledger tells of it before it is done, in the same transaction.
        append(session, [AuditEvent(AuditEventType.LEDGER_SHORTENED, actor, details=_facts(segment))])
        removed = _remove(session, segment, sqlite=archive.database.is_sqlite)
        if removed != segment.last - segment.first + 1:
            raise CannotShorten(f"segment {number} has {removed} rows: nothing was removed")
        session.execute(update(Segment).where(Segment.number == number).values(shortened=True))
    return removed


def first_needed(database: Database, collectors: Iterable[str] = ()) -> int | None:
    """The first record that somebody still lacks: one of these collectors, or whoever has a cursor."""
    with database.reading() as session:
        known = session.scalars(select(SpoolCursor.collector)).all()
        return needed_from(session, sorted({*collectors, *known}))


def _next(archive: Archive, size: int, newest: Checkpoint, before: datetime) -> Segment | None:
    sealed = archive.segments()
    first = sealed[-1].last + 1 if sealed else 1
    last = first + size - 1
    if (first - 1) % size:  # sealed with another size before: this one begins at its own next border
        raise CannotShorten(f"segments were sealed with another size; record {first} begins none of {size}")
    if last > newest.seq or datetime.fromisoformat(archive.record(last).time) >= before.astimezone(UTC):
        return None
    number = sealed[-1].number + 1 if sealed else 1
    return Segment(number=number, first=first, last=last, file=f"{number:06}.jsonl.gz", file_sha256="", shortened=False)


def _write(archive: Archive, segment: Segment, newest: Checkpoint) -> None:
    """File first, sidecar next, each durable; what a crash leaves is written over."""
    tree = StoredTree(archive)
    records = list(_signed(archive, segment, newest, tree))
    lines = b"".join(json.dumps(record.to_json(), sort_keys=True).encode() + b"\n" for record in records)
    packed = gzip.compress(lines, mtime=0)
    segment.file_sha256 = sha256(packed).hexdigest()
    level = (segment.last - segment.first + 1).bit_length() - 1
    path = inclusion_path(tree, segment.first - 1, newest.seq)[level:]
    sidecar: dict[str, Any] = {
        "format": SEGMENT_FORMAT,
        **_facts(segment),
        "previous_hash": records[0].previous_hash,
        "hash": records[-1].hash,
        "level": level,
        "root": tree(level, (segment.first - 1) >> level).hex(),
        "path": [b64encode(node).decode() for node in path],
        "checkpoint": newest.to_json(),
        "keys": [
            {"seq": record.seq, "time": record.time, **json.loads(record.details)}
            for record in records
            if record.event == AuditEventType.LEDGER_KEY_PUBLISHED
        ],
    }
    file = archive.sealed_folder / segment.file
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _durably(file, packed)
        _durably(sidecar_of(file), json.dumps(sidecar, indent=1, sort_keys=True).encode())
    except OSError as fault:
        raise from_os_error(fault, "cannot seal", file) from fault


def _signed(archive: Archive, segment: Segment, newest: Checkpoint, tree: StoredTree) -> Iterator[LedgerRecord]:
    """The segment's records, verified as they come: chain, subtree, and the subtree under the checkpoint."""
    if tree.frontier(newest.seq).root().hex() != newest.root:
        text = f"the tree does not lead to the root of checkpoint {newest.number}"
        raise LedgerBroken(Break(segment.first, BreakKind.REWRITTEN, text))
    size = segment.last - segment.first + 1
    own = Frontier()
    head: Head | None = None
    for record in archive.records(after=segment.first - 1, last=segment.last):
        broken = break_after(head or Head(segment.first - 1, record.previous_hash), record)
        if broken is not None:
            raise LedgerBroken(broken)
        head = record.head
        own.add(leaf_of(record))
        yield record
    level = size.bit_length() - 1
    if own.size != size or own.root() != tree(level, (segment.first - 1) >> level):
        text = f"records {segment.first} to {segment.last} are not those that checkpoint {newest.number} signed"
        raise LedgerBroken(Break(segment.first, BreakKind.REWRITTEN, text))


def _read_back(archive: Archive, segment: Segment) -> None:
    """The file, as it lies on the disk now, record by record against the rows. Raises LedgerBroken, CannotShorten."""
    rows = archive.ledger.records(after=segment.first - 1, last=segment.last)
    size = segment.last - segment.first + 1
    pairs = islice(zip(archive.sealed(segment), rows, strict=True), size + 1)
    try:
        same = sum(sealed == row for sealed, row in pairs)
    except ValueError:
        same = 0
    if same != size:
        raise CannotShorten(f"{segment.file} does not hold records {segment.first} to {segment.last} as the rows do")


def _remove(session: Session, segment: Segment, *, sqlite: bool) -> int:
    # Both databases take DDL back with its transaction, so no other session ever sees the ledger without its trigger.
    if sqlite:
        body = session.scalar(text(f"SELECT sql FROM sqlite_master WHERE type = 'trigger' AND name = '{_TRIGGER}'"))  # noqa: S608
        if body is None:
            raise CannotShorten("the ledger has no trigger against DELETE; verify it, and find out who removed that")
        lift, restore = f"DROP TRIGGER {_TRIGGER}", str(body)
    else:
        lift, restore = (f"ALTER TABLE ledger {word} TRIGGER {_TRIGGER}" for word in ("DISABLE", "ENABLE"))
    session.execute(text(lift))
    found = session.execute(delete(LedgerRow).where(LedgerRow.seq.between(segment.first, segment.last)))
    session.execute(text(restore))
    return int(found.rowcount)  # type: ignore[attr-defined]


def _facts(segment: Segment) -> dict[str, Any]:
    names = ("number", "first", "last", "file", "file_sha256")
    return {name: getattr(segment, name) for name in names}


def _durably(path: Path, content: bytes) -> None:
    new = path.with_name(path.name + ".new")
    with new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
