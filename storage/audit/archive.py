"""The ledger's records wherever they lie: in sealed files at its beginning, in the database from there on.

A sealed file is gzip over JSON Lines, a record a line, as an export writes them. Nothing that stands in it is trusted
because it stands there: whoever verifies walks through it as through the database.
"""

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from hashlib import file_digest
from pathlib import Path
from typing import Any

from sqlalchemy import select

from storage.audit.events import AuditEventType
from storage.audit.keys import KeyFault, PublishedKey
from storage.audit.ledger import Break, BreakKind, Ledger, LedgerBroken, LedgerRecord
from storage.database import Database
from storage.errors import NotFound
from storage.tables import LedgerRow, Segment
from storage.tables.ledger import event_is


class Archive:
    """All records of one ledger, in order."""

    def __init__(self, database: Database, folder: Path) -> None:
        """`folder`: what is published of the ledger; sealed files lie in its `segments`."""
        self.database = database
        self.ledger = Ledger(database)
        self.folder = folder

    @property
    def sealed_folder(self) -> Path:
        return self.folder / "segments"

    def segments(self) -> Sequence[Segment]:
        """What was sealed, in order."""
        with self.database.reading() as session:
            return session.scalars(select(Segment).order_by(Segment.first)).all()

    def records(self, *, after: int = 0, last: int | None = None) -> Iterator[LedgerRecord]:
        """Records after a sequence number, up to `last`. Raises LedgerBroken when a sealed file cannot be read."""
        for segment in self.segments():
            if segment.shortened and segment.last > after and (last is None or segment.first <= last):
                for record in self.sealed(segment):
                    if record.seq > after and (last is None or record.seq <= last):
                        yield record
                after = max(after, segment.last)
        if last is None or after < last:
            yield from self.ledger.records(after=after, last=last)

    def record(self, seq: int) -> LedgerRecord:
        """One record. Raises NotFound."""
        for record in self.records(after=seq - 1, last=seq):
            return record
        raise NotFound(f"the ledger has no record {seq}; its last is {self.ledger.head().seq}")

    def sealed(self, segment: Segment) -> Iterator[LedgerRecord]:
        """The records of a sealed file, whose digest is checked first. Raises LedgerBroken."""
        path = self.sealed_folder / segment.file
        try:
            with path.open("rb") as file:
                found = file_digest(file, "sha256").hexdigest()
            if found != segment.file_sha256:
                raise _unsealed(segment, f"{path} has SHA-256 {found[:16]}…, sealed was {segment.file_sha256[:16]}…")
            with gzip.open(path, "rt", encoding="ascii") as lines:
                for line in lines:
                    yield LedgerRecord.from_json(json.loads(line))
        except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as fault:
            raise _unsealed(segment, f"{path} cannot be read: {fault}") from fault

    def published_keys(self) -> list[PublishedKey]:
        """The keys that the ledger names, oldest first; what a sealed file holds of them stands in its sidecar."""
        told: list[tuple[int, str, dict[str, Any]]] = []
        for segment in self.segments():
            if segment.shortened:
                told += [(each["seq"], each["time"], each) for each in self.sidecar(segment).get("keys", [])]
        query = select(LedgerRow.seq, LedgerRow.time, LedgerRow.details).order_by(LedgerRow.seq)
        with self.database.reading() as session:
            rows = session.execute(query.where(event_is(AuditEventType.LEDGER_KEY_PUBLISHED))).all()
        told += [(seq, time, json.loads(details)) for seq, time, details in rows]
        found = []
        for seq, time, details in told:
            try:
                found.append(PublishedKey.from_details(seq, time, details))
            except KeyFault:  # verification names it; here it is no key
                continue
        return found

    def sidecar(self, segment: Segment) -> dict[str, Any]:
        """What stands beside a sealed file: its root, its proof and the keys that it published."""
        try:
            return dict(json.loads(sidecar_of(self.sealed_folder / segment.file).read_text(encoding="ascii")))
        except (OSError, ValueError):
            return {}


def sidecar_of(path: Path) -> Path:
    """Where the sidecar of a sealed file lies."""
    return path.with_name(path.name.removesuffix(".jsonl.gz") + ".json")


def _unsealed(segment: Segment, text: str) -> LedgerBroken:
    return LedgerBroken(Break(segment.first, BreakKind.SEGMENT, f"sealed segment {segment.number}: {text}"))
