"""Takes checkpoints: at an interval and on demand, only on top of a ledger that is still what was signed before.

What grew since the last checkpoint is walked without the writers' lock; only its last records and the new checkpoint
need it. Signing is refused when the chain does not hold, when the tree does not lead to the last signed root, and when
an anchor knows a later checkpoint than the database: nothing false gets a signature from us.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from config import Settings
from storage.audit.anchors import Anchor, FileAnchor
from storage.audit.archive import Archive
from storage.audit.checkpoint import FIRST, NAMES, Checkpoint, signed
from storage.audit.events import AuditEvent, AuditEventType, AuditOutcome
from storage.audit.keys import KeyFault, KeyFolder, PublishedKey, SigningKey, endorsement_of
from storage.audit.ledger import Break, BreakKind, Head, LedgerBroken, LedgerRecord, append, break_after
from storage.audit.merkle import Frontier
from storage.audit.s3_anchor import S3Anchor
from storage.audit.tree import BLOCK_LEVEL, StoredTree, leaf_of, write_nodes
from storage.database import Database
from storage.errors import NotFound, StorageError
from storage.tables import CheckpointRow, LedgerRow

_COLUMNS = [getattr(CheckpointRow, name) for name in NAMES]
_ATTEMPTS = 5


@dataclass
class _Growth:
    """The tree and the chain on the way from one checkpoint to the next."""

    frontier: Frontier
    head: Head
    nodes: dict[tuple[int, int], bytes] = field(default_factory=dict)
    last: LedgerRecord | None = None
    started: int = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.frontier.size

    def add(self, record: LedgerRecord) -> None:
        broken = break_after(self.head, record)
        if broken is not None:
            raise LedgerBroken(broken)
        self.frontier.add(leaf_of(record), self._complete)
        self.head, self.last = record.head, record

    def _complete(self, level: int, position: int, node: bytes) -> None:
        if level >= BLOCK_LEVEL:
            self.nodes[level, position] = node


class Checkpoints:
    """The checkpoints of one ledger, and the keys that sign them."""

    def __init__(
        self,
        archive: Archive,
        keys: KeyFolder,
        anchors: Sequence[Path] = (),
        trusted: Sequence[Path] = (),
        stores: Sequence[Anchor] = (),
    ) -> None:
        """`anchors`: append-only files beside the published one; `stores`: anchors that are no files.

        `trusted`: PEM files that verification believes.
        """
        self.trusted = tuple(trusted)
        self.archive = archive
        self.keys = keys
        self.anchors = (archive.folder / "checkpoints.jsonl", *anchors)
        self.stores = tuple(stores)
        self._database: Database = archive.database

    @property
    def anchored_in(self) -> tuple[Anchor, ...]:
        """Every anchor."""
        return (*(FileAnchor(path) for path in self.anchors), *self.stores)

    def newest(self) -> Checkpoint | None:
        """The last checkpoint that was taken."""
        with self._database.reading() as session:
            return _newest(session)

    def taken(self, *, after: int = 0) -> list[Checkpoint]:
        """Every checkpoint with a higher number, in order."""
        query = select(*_COLUMNS).where(CheckpointRow.number > after).order_by(CheckpointRow.number)
        with self._database.reading() as session:
            return [Checkpoint(*row) for row in session.execute(query)]

    def snapshot(self) -> tuple[list[Checkpoint], int]:
        """Every checkpoint, and the last record's number, as of one moment."""
        query = select(*_COLUMNS).order_by(CheckpointRow.number)
        with self._database.reading() as session:
            last = session.scalar(select(func.max(LedgerRow.seq)))
            return [Checkpoint(*row) for row in session.execute(query)], last or 0

    def get(self, number: int) -> Checkpoint:
        """One checkpoint. Raises NotFound."""
        for checkpoint in self.taken(after=number - 1):
            if checkpoint.number == number:
                return checkpoint
        raise NotFound(f"there is no checkpoint {number}")

    def covering(self, seq: int) -> Checkpoint:
        """The newest checkpoint, when it covers this record. Raises NotFound."""
        newest = self.newest()
        if newest is None or newest.seq < seq:
            raise NotFound(f"record {seq} is under no checkpoint yet; take one: scanwarden audit checkpoint")
        return newest

    def take(self, actor: str, *, always: bool = True) -> Checkpoint | None:
        """Sign the ledger's head, tell the ledger, and anchor it.

        Without `always`: None when nothing happened since the last one but its own record. Raises LedgerBroken,
        KeyFault, DatabaseUnavailable. An anchor that cannot be reached keeps nothing from being signed: see `anchor`.
        """
        signer = self._signer(actor)
        for _ in range(_ATTEMPTS):
            last = self.newest()
            self._agree(last)
            growth = self._growth(last)
            for record in self.archive.records(after=growth.head.seq):
                growth.add(record)
            taken = self._sign(actor, signer, last, growth, always=always)
            if taken is not _AGAIN:
                break
            signer = self._signer(actor)
        else:
            raise StorageError("other processes take checkpoints all the time; try again")
        self.anchor(actor)
        return taken

    def anchor(self, actor: str) -> None:
        """Append what each anchor lacks; the ledger says when that was more than the newest, and when it failed."""
        newest = self.newest()
        for anchor in self.anchored_in:
            try:
                last = anchor.last(newest.number if newest else 0)
                lacks = self.taken(after=last.number if last else 0)
                added = anchor.append(lacks)
            except StorageError as fault:
                self._record(actor, AuditOutcome.SERIOUS_FAILURE, {"anchor": anchor.name, "reason": str(fault)[:500]})
                continue
            if newest is not None and len(lacks) > 1 and added > 0:
                self._record(
                    actor,
                    AuditOutcome.SUCCESS,
                    {"anchor": anchor.name, "first": lacks[0].number, "last": lacks[added - 1].number},
                )

    def rotate(self, actor: str, *, lost: bool = False) -> PublishedKey:
        """Sign with a new key from now on, and delete the old one.

        The old key signs what there is and vouches for the new one. `lost`: there is no old key to do that; whoever
        verifies has to be given the new one by hand. Raises KeyFault.
        """
        if not lost:
            self.take(actor)
        old = self._current()
        signer = None if lost or old is None else self.keys.load(old.id)
        new = self._publish(actor, old, signer)
        self.keys.retire_all_but(new.id)
        self.take(actor)
        return new

    def _signer(self, actor: str) -> SigningKey:
        current = self._current() or self._publish(actor, None, None)
        self._write_published()
        return self.keys.load(current.id)

    def _current(self) -> PublishedKey | None:
        keys = self.archive.published_keys()
        return keys[-1] if keys else None

    def _publish(self, actor: str, old: PublishedKey | None, signer: SigningKey | None) -> PublishedKey:
        made = self.keys.create()
        details: dict[str, Any] = {"key_id": made.public.id, "public_key": made.public.text, "previous": None}
        if old is not None:
            details["previous"] = old.id
        if signer is not None:
            details["endorsement"] = signer.sign(endorsement_of(made.public, signer.public))
        with self._database.transaction() as session:
            current = self._current()  # the lock is held: nobody else publishes now
            if (current and current.id) != (old and old.id):
                self.keys.file(made.public.id).unlink()
                if old is None and current is not None:
                    return current
                raise KeyFault("another process has published a key meanwhile; look at: scanwarden audit keys list")
            append(session, [AuditEvent(AuditEventType.LEDGER_KEY_PUBLISHED, actor, details=details)])
        self._write_published()
        return self.archive.published_keys()[-1]

    def _write_published(self) -> None:
        """Public keys as files, for whoever verifies without the database."""
        folder = self.archive.folder / "keys"
        keys = self.archive.published_keys()
        folder.mkdir(parents=True, exist_ok=True)
        for key in keys:
            file = folder / f"{key.id}.pem"
            if not file.exists():
                file.write_text(key.public.pem, encoding="ascii")
        listing = folder / "keys.json"
        text = json.dumps([key.to_json() for key in keys], indent=2) + "\n"
        if not listing.exists() or listing.read_text(encoding="ascii") != text:
            listing.write_text(text, encoding="ascii")

    def _agree(self, last: Checkpoint | None) -> None:
        for anchor in self.anchored_in:
            try:
                anchored = anchor.last(last.number if last else 0)
            except StorageError:
                continue  # `anchor` says so
            if anchored is None or (last is not None and anchored.number < last.number):
                continue
            if anchored != last:
                seq = min(anchored.seq, last.seq if last else 0) + 1
                have = f"checkpoint {last.number}" if last else "none"
                text = (
                    f"{anchor.where} holds checkpoint {anchored.number} of {anchored.seq} records, the database's "
                    f"newest is {have}: the ledger was cut, rewritten or restored; if you restored a backup, keep that "
                    "anchor as the proof of what was lost and begin a new one"
                )
                raise LedgerBroken(Break(seq, BreakKind.TRUNCATED, text))

    def _growth(self, last: Checkpoint | None) -> _Growth:
        if last is None:
            return _Growth(Frontier(), Head())
        keys = {key.id: key.public for key in self.archive.published_keys()}
        if last.key_id not in keys or not last.signed_by(keys[last.key_id]):
            text = f"checkpoint {last.number} is not signed by a key of this ledger"
            raise LedgerBroken(Break(last.seq, BreakKind.CHECKPOINT, text))
        try:
            frontier = StoredTree(self.archive).frontier(last.seq)
        except (NotFound, ValueError):
            frontier = Frontier()
        if frontier.root().hex() == last.root:
            return _Growth(frontier, Head(last.seq, last.head))
        # The stored nodes are a cache; the records decide.
        growth = _Growth(Frontier(), Head())
        for record in self.archive.records(last=last.seq):
            growth.add(record)
        if growth.head != Head(last.seq, last.head) or growth.frontier.root().hex() != last.root:
            text = f"the records up to {last.seq} are not those that checkpoint {last.number} signed"
            raise LedgerBroken(Break(last.seq, BreakKind.REWRITTEN, text))
        return growth

    def _sign(
        self, actor: str, signer: SigningKey, last: Checkpoint | None, growth: _Growth, *, always: bool
    ) -> Checkpoint | None:
        with self._database.transaction() as session:
            current = self._current()
            if _newest(session) != last or current is None or current.id != signer.public.id:
                return _AGAIN
            for record in self.archive.ledger.records(after=growth.head.seq):
                growth.add(record)
            if growth.last is None and last is None:
                return None
            if not always and last is not None and _only_itself(growth, last):
                return None
            checkpoint = signed(
                signer,
                number=last.number + 1 if last else 1,
                seq=growth.head.seq,
                head=growth.head.hash,
                root=growth.frontier.root().hex(),
                time=datetime.now(UTC).isoformat(timespec="microseconds"),
                previous=last.digest if last else FIRST,
            )
            write_nodes(session, growth.started, growth.nodes)
            session.execute(insert(CheckpointRow), [checkpoint.to_json()])
            append(session, [AuditEvent(AuditEventType.LEDGER_CHECKPOINTED, actor, details=checkpoint.to_json())])
        return checkpoint

    def _record(self, actor: str, outcome: AuditOutcome, details: dict[str, Any]) -> None:
        self.archive.ledger.record(AuditEvent(AuditEventType.LEDGER_ANCHORED, actor, outcome, details=details))


_AGAIN = Checkpoint(0, 0, "", "", "", "", "")


def _newest(session: Session) -> Checkpoint | None:
    row = session.execute(select(*_COLUMNS).order_by(CheckpointRow.number.desc()).limit(1)).first()
    return Checkpoint(*row) if row is not None else None


def _only_itself(growth: _Growth, last: Checkpoint) -> bool:
    grown = growth.frontier.size - last.seq
    told = growth.last is not None and growth.last.event == AuditEventType.LEDGER_CHECKPOINTED
    return grown == 0 or (grown == 1 and told)


def open_archive(settings: Settings, database: Database) -> Archive:
    """The records of the ledger that the settings name."""
    return Archive(database, settings.store.root / "ledger")


def open_checkpoints(settings: Settings, database: Database) -> Checkpoints:
    """The checkpoints of the ledger that the settings name."""
    keys = KeyFolder(settings.audit.keys or settings.store.root / "keys")
    audit = settings.audit
    stores = () if audit.s3 is None else (S3Anchor(audit.s3),)
    return Checkpoints(open_archive(settings, database), keys, audit.anchors, audit.trusted_keys, stores)
