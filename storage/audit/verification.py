"""Verifies a ledger against everything that vouches for it: chain, tree, checkpoints, keys, sealed files and anchors.

One walk over the records takes the chain and the tree along, and holds them to each checkpoint where it was taken. A
chain that somebody rewrote with all rights of the database is whole in itself; it differs from what was signed, and
without the key nothing else can be signed. What only the end of the ledger lost is what anchors and kept files show.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from storage.audit.anchors import Anchor, Anchored, held_in
from storage.audit.archive import Archive
from storage.audit.checkpoint import FIRST, Checkpoint
from storage.audit.checkpoints import Checkpoints
from storage.audit.events import AuditEventType
from storage.audit.keys import KeyFault, PublicKey, PublishedKey
from storage.audit.ledger import Break, BreakKind, Head, LedgerBroken, LedgerRecord, break_after
from storage.audit.merkle import Frontier, includes, inclusion_path
from storage.audit.tree import StoredTree, leaf_of
from storage.errors import NotFound

PATIENCE = timedelta(minutes=10)  # that a configured anchor may lag behind: the commit comes first, then the file
_PAGE = 5000


@dataclass(frozen=True, slots=True)
class LedgerReport:
    """What a verification found."""

    records: int
    first: int
    head: Head
    covered: int
    """The last record under a checkpoint; what came later is held by the chain alone."""
    checkpoints: int
    anchored: int
    """Checkpoints that anchors and files outside the database vouch for."""
    keys: tuple[PublishedKey, ...]
    breaks: tuple[Break, ...]

    @property
    def broken(self) -> Break | None:
        """The first thing that is wrong."""
        return self.breaks[0] if self.breaks else None

    @property
    def intact(self) -> bool:
        return not self.breaks


def verify_ledger(
    checkpoints: Checkpoints,
    *,
    kept: Sequence[Path] = (),
    trusted: Sequence[PublicKey] = (),
    progress: Callable[[int], None] | None = None,
    now: datetime | None = None,
) -> LedgerReport:
    """Walk everything.

    `kept`: files with checkpoints that were kept elsewhere; they may end before the ledger does. `trusted`: keys that
    the verifier has from elsewhere, beside those of the settings; without any, the first key that the ledger names is
    believed. Raises KeyFault when a file of the settings holds no key.
    """
    trusted = (*trusted, *(PublicKey.from_file(path) for path in checkpoints.trusted))
    # Anchors first: what is in them was committed before, so a checkpoint that is taken meanwhile raises no alarm.
    known = {each.number: each for each in checkpoints.taken()} if checkpoints.stores else {}
    anchors = [(anchor, anchor.read(known)) for anchor in checkpoints.anchored_in]
    files = [held_in(path) for path in dict.fromkeys(kept) if path not in checkpoints.anchors or not path.exists()]
    own, last = checkpoints.snapshot()
    walk = _Walk({each.number: each for each in own}, trusted)
    for found in (*(found for _, found in anchors if found is not None), *files):
        walk.outsider(found)
    for anchor, held in anchors:
        walk.anchor(anchor, held, now or datetime.now(UTC))
    try:
        walk.records(checkpoints.archive.records(last=last), progress)
    except LedgerBroken as fault:
        walk.breaks.append(fault.broken)
    else:
        walk.end()
    return walk.report()


def verify_range(checkpoints: Checkpoints, first: int, last: int | None = None) -> LedgerReport:
    """The chain from record `first` to `last`, and that the newest checkpoint signed it. Raises NotFound.

    The chain binds each record to its successors, so the inclusion of the last one that is signed proves them all.
    """
    archive, newest = checkpoints.archive, checkpoints.newest()
    head = Head(first - 1)
    count, covered = 0, 0
    breaks: list[Break] = []
    end: LedgerRecord | None = None
    try:
        head = Head(first - 1, archive.record(first).previous_hash)
        for record in archive.records(after=first - 1, last=last):
            broken = break_after(head, record)
            if broken is not None:
                breaks.append(broken)
                break
            head, count = record.head, count + 1
            if newest is not None and record.seq <= newest.seq:
                end = record
    except LedgerBroken as fault:
        breaks.append(fault.broken)
    if not breaks and last is not None and head.seq < last:
        text = f"the ledger ends at record {head.seq}, before {last}"
        breaks.append(Break(head.seq + 1, BreakKind.TRUNCATED, text))
    keys = archive.published_keys()
    if end is not None and newest is not None:
        covered = end.seq
        breaks += _not_included(archive, end, newest, keys)
    return LedgerReport(count, first, head, covered, int(end is not None), 0, tuple(keys), tuple(breaks))


def _not_included(
    archive: Archive, record: LedgerRecord, newest: Checkpoint, keys: Sequence[PublishedKey]
) -> Iterator[Break]:
    if not any(newest.signed_by(key.public) for key in keys):
        yield Break(newest.seq, BreakKind.CHECKPOINT, f"checkpoint {newest.number} is not signed by a published key")
        return
    try:
        path = inclusion_path(StoredTree(archive), record.seq - 1, newest.seq)
        included = includes(leaf_of(record), record.seq - 1, newest.seq, path, bytes.fromhex(newest.root))
    except (NotFound, ValueError):
        included = False
    if not included:
        text = (
            f"record {record.seq} is not what checkpoint {newest.number} signed; verify the whole ledger to see where"
        )
        yield Break(record.seq, BreakKind.REWRITTEN, text)


@dataclass
class _Walk:
    own: Mapping[int, Checkpoint]
    trusted: Sequence[PublicKey]
    head: Head = field(default_factory=Head)
    tree: Frontier = field(default_factory=Frontier)
    keys: list[PublishedKey] = field(default_factory=list)
    breaks: list[Break] = field(default_factory=list)
    outside: dict[int, Checkpoint] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._told: set[int] = set()
        self._marks: dict[int, list[Checkpoint]] = {}
        previous, number = FIRST, 0
        for each in self.own.values():
            if (each.number, each.previous) != (number + 1, previous):
                text = f"checkpoint {each.number} does not follow {number}: one was removed, changed or put in"
                self._broken(each.seq, BreakKind.CHECKPOINT, text)
            previous, number = each.digest, each.number
            self._marks.setdefault(each.seq, []).append(each)

    def anchor(self, anchor: Anchor, found: Anchored | None, now: datetime) -> None:
        """Hold a configured anchor to the database: it has to have every checkpoint."""
        due = [each for each in self.own.values() if _age(each, now) > PATIENCE]
        last = found.last.number if found and found.last else 0
        if not due or (found is not None and (found.fault is not None or due[-1].number <= last)):
            return
        what = "is gone" if found is None else f"was cut: it ends at checkpoint {last}"
        text = f"the anchor {anchor.where} {what}; the database has {due[-1].number} checkpoints"
        self._broken(due[-1].seq, BreakKind.ANCHOR, text)

    def outsider(self, found: Anchored) -> None:
        """Hold the ledger to the checkpoints in an anchor or a kept file."""
        if found.fault is not None:
            self._broken(found.last.seq if found.last else 0, BreakKind.ANCHOR, f"{found.where}: {found.fault}")
        for each in found.checkpoints:
            known = self.outside.setdefault(each.number, each)
            if each != self.own.get(each.number) or each != known:
                self._marks.setdefault(each.seq, []).append(each)

    def records(self, records: Iterable[LedgerRecord], progress: Callable[[int], None] | None) -> None:
        """Raises LedgerBroken at the first record that does not follow."""
        add, marks = self.tree.add, self._marks
        for record in records:
            broken = break_after(self.head, record)
            if broken is not None:
                raise LedgerBroken(broken)
            self.head = record.head
            add(leaf_of(record))
            if record.event == AuditEventType.LEDGER_KEY_PUBLISHED:
                self._key(record)
            elif record.event == AuditEventType.LEDGER_CHECKPOINTED:
                self._announced(record)
            if record.seq in marks:
                for checkpoint in marks[record.seq]:
                    self._compare(checkpoint, record)
            if progress is not None and record.seq % _PAGE == 0:
                progress(record.seq)

    def end(self) -> None:
        """What is known to have existed has to have been met on the way."""
        for each in (*self.own.values(), *(each for each in self.outside.values() if each.number not in self.own)):
            if each.seq > self.head.seq:
                text = f"the ledger ends at record {self.head.seq}, checkpoint {each.number} signed {each.seq} records"
                self._broken(self.head.seq + 1, BreakKind.TRUNCATED, text)
                return
        for each in self.own.values():
            if each.number not in self._told:
                text = f"record {each.seq + 1} does not tell of checkpoint {each.number}, as it has to"
                kind = BreakKind.TRUNCATED if each.seq == self.head.seq else BreakKind.CHECKPOINT
                self._broken(each.seq + 1, kind, text)
                return
        self._trust()

    def report(self) -> LedgerReport:
        covered = max((each.seq for each in self.own.values() if each.seq <= self.head.seq), default=0)
        return LedgerReport(
            records=self.head.seq,
            first=1,
            head=self.head,
            covered=covered,
            checkpoints=len(self.own),
            anchored=len(self.outside),
            keys=tuple(self.keys),
            breaks=tuple(self.breaks),
        )

    def _key(self, record: LedgerRecord) -> None:
        try:
            key = PublishedKey.from_details(record.seq, record.time, _object(record.details))
        except KeyFault as fault:
            self._broken(record.seq, BreakKind.KEY, str(fault))
            return
        believed = any(key.id == each.id for each in self.trusted)
        if self.keys and not believed and not key.endorsed_by(self.keys[-1].public):
            text = (
                f"record {record.seq} names key {key.id}, which {self.keys[-1].id} before it does not vouch for: "
                "the key was swapped, or lost and replaced (then verify with --key and its PEM file)"
            )
            self._broken(record.seq, BreakKind.KEY, text)
        self.keys.append(key)

    def _announced(self, record: LedgerRecord) -> None:
        details = _object(record.details)
        known = self.own.get(details.get("number", 0))
        if known is None:
            text = f"record {record.seq} tells of checkpoint {details.get('number')}, which was removed"
            self._broken(record.seq, BreakKind.CHECKPOINT, text)
        elif details != known.to_json() or record.seq != known.seq + 1:
            text = f"record {record.seq} tells of another checkpoint {known.number} than the one that is kept"
            self._broken(record.seq, BreakKind.CHECKPOINT, text)
        else:
            self._told.add(known.number)

    def _compare(self, checkpoint: Checkpoint, record: LedgerRecord) -> None:
        own = self.own.get(checkpoint.number) == checkpoint
        name = f"checkpoint {checkpoint.number}" + ("" if own else " (kept outside the database)")
        same = record.hash == checkpoint.head and self.tree.root().hex() == checkpoint.root
        # Where the ledger names the key: a later key, or one that was retired, signs nothing here.
        signer = self.keys[-1].public if self.keys else None
        genuine = signer is not None and checkpoint.signed_by(signer)
        if not same:
            kind = BreakKind.REWRITTEN if own or checkpoint.number not in self.own else BreakKind.FORKED
            text = f"record {record.seq} has hash {record.hash[:16]}…, {name} has {checkpoint.head[:16]}…"
            self._broken(record.seq, kind, f"{text}: the ledger was rewritten at or before it")
        elif not genuine:
            who = signer.id if signer else "none"
            text = f"{name} is not signed by the ledger's key at record {record.seq} ({who})"
            self._broken(record.seq, BreakKind.CHECKPOINT, text)
        elif not own and checkpoint.number in self.own:
            text = f"{name} is signed, and differs from the one that the database holds: one was signed twice"
            self._broken(record.seq, BreakKind.FORKED, text)

    def _trust(self) -> None:
        """The newest checkpoint has to be signed by a key that the verifier trusts, or one that it vouches for."""
        if not self.trusted:
            return
        believed = {each.id for each in self.trusted}
        for older, newer in zip(self.keys, self.keys[1:], strict=False):
            if older.id in believed and newer.endorsed_by(older.public):
                believed.add(newer.id)
        newest = max(self.own.values(), key=lambda each: each.number, default=None)
        if newest is None or newest.key_id not in believed:
            who = "nobody" if newest is None else newest.key_id
            text = f"the newest checkpoint is signed by {who}, which the given key does not vouch for"
            self._broken(newest.seq if newest else 1, BreakKind.KEY, text)

    def _broken(self, seq: int, kind: BreakKind, text: str) -> None:
        self.breaks.append(Break(seq, kind, text))


def _object(details: str) -> Mapping[str, Any]:
    found = json.loads(details)
    return found if isinstance(found, dict) else {}


def _age(checkpoint: Checkpoint, now: datetime) -> timedelta:
    try:
        return now - datetime.fromisoformat(checkpoint.time)
    except (ValueError, TypeError):
        return timedelta.max
