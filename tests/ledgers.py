"""A ledger with everything around it, for tests: records, keys, anchors, and the ways to attack it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import text

from storage import AuditEvent, AuditEventType, Database
from storage.audit.anchors import Anchor
from storage.audit.archive import Archive
from storage.audit.checkpoints import Checkpoints
from storage.audit.keys import KeyFolder
from storage.audit.ledger import GENESIS, Head, LedgerRecord, append, chained, hash_of
from storage.audit.verification import LedgerReport, verify_ledger

ACTOR = "user:tester"


@dataclass
class Kept:
    """A ledger, and a copy of its checkpoints outside."""

    database: Database
    folder: Path
    stores: Sequence[Anchor] = ()

    def __post_init__(self) -> None:
        self.outside = self.folder / "outside" / "anchor.jsonl"
        archive = Archive(self.database, self.folder / "store" / "ledger")
        keys = KeyFolder(self.folder / "store" / "keys")
        self.checkpoints = Checkpoints(archive, keys, [self.outside], stores=self.stores)
        self.archive = archive

    def happen(self, count: int, study_uid: str = "1.2.3") -> None:
        """Record events."""
        first = self.archive.ledger.head().seq
        events = [
            AuditEvent(
                AuditEventType.INSTANCE_STORED,
                "SCANNER@10.1.2.3",
                study_uid=study_uid,
                subject=f"1.2.3.{first + n}",
                details={"size": 1000 + n, "file_sha256": f"{n:064x}"},
            )
            for n in range(count)
        ]
        with self.database.transaction() as session:
            append(session, events)

    def verify(self, **options: Any) -> LedgerReport:
        return verify_ledger(self.checkpoints, **options)

    def records(self) -> list[LedgerRecord]:
        return list(self.archive.ledger.records())

    def drop_triggers(self) -> None:
        """What an administrator of the database can do."""
        on_ledger = ("ledger_refuses_update", "ledger_refuses_delete", "ledger_grows_at_its_head")
        own = "checkpoints_refuse_update", "checkpoints_refuse_delete"
        if self.database.is_sqlite:
            names = [f"DROP TRIGGER {name}" for name in (*on_ledger, *own)]
        else:
            names = [f"ALTER TABLE {table} DISABLE TRIGGER ALL" for table in ("ledger", "checkpoints")]
        self.sql(*names)

    def sql(self, *statements: str) -> None:
        with self.database.transaction() as session:
            for statement in statements:
                session.execute(text(statement))

    def replace_rows(self, records: Sequence[LedgerRecord]) -> None:
        """Put other rows in the place of all; triggers have to be gone."""
        names = LedgerRecord.__slots__
        put = text(f"INSERT INTO ledger ({', '.join(names)}) VALUES ({', '.join(':' + name for name in names)})")  # noqa: S608
        with self.database.transaction() as session:
            session.execute(text("DELETE FROM ledger"))
            for record in records:
                row = {name: getattr(record, name) for name in names}
                session.execute(put, row)


def rechained(records: Sequence[LedgerRecord], change: Callable[[dict[str, Any]], None]) -> list[LedgerRecord]:
    """The same records after a change, with every number, link and hash put right: whole in itself."""
    head = Head(0, GENESIS)
    made = []
    for record in records:
        facts = record.to_json()
        change(facts)
        event = AuditEvent(
            AuditEventType(facts["event"]),
            facts["actor"],
            outcome=facts["outcome"],
            study_uid=facts["study_uid"],
            subject=facts["subject"],
            details=facts["details"],
        )
        draft = replace(chained(event, head), time=record.time)
        made.append(replace(draft, hash=hash_of(draft)))
        head = made[-1].head
    return made


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]
