"""Finds files that no row of the database names: what a crash left between a file's rename and its row's commit.

Such a file was never acknowledged, so it may go. One that a living process is about to index must not: files younger
than the grace age are left alone, the last look and the deletion happen under the writers' lock, and a receiver that
comes later still notices that its file is gone (`record_instances`) and answers with a failure.
"""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.audit.events import AuditEvent, AuditEventType, Detail, role_actor
from storage.audit.ledger import append
from storage.database import Database
from storage.instances import InstanceStore
from storage.tables import Analysis, Evidence, Instance, InstanceState

GRACE = 3600.0
_BATCH = 500


@dataclass(frozen=True, slots=True)
class Orphans:
    """Files and result folders without a row, relative to the store's root."""

    paths: tuple[str, ...]
    removed: bool


def sweep_orphans(
    store: InstanceStore, database: Database, *, older_than: float = GRACE, remove: bool = True
) -> Orphans:
    """Remove (or only report) what is older than `older_than` seconds and has no row; each removal is audited."""
    found: list[str] = []
    for candidates in _batches(_aged(store, older_than)):
        with database.reading() as session:
            suspects = _without_row(session, candidates)
        if suspects and remove:
            with database.transaction() as session:
                suspects = _without_row(session, suspects)
                for path in suspects:
                    store.remove(path)
                if suspects:
                    append(session, [_event(suspects)])
        found += suspects
    return Orphans(tuple(found), remove)


def _batches(paths: Iterator[str]) -> Iterator[list[str]]:
    while batch := list(islice(paths, _BATCH)):
        yield batch


def _aged(store: InstanceStore, older_than: float) -> Iterator[str]:
    before = time.time() - older_than
    folders = [f"instances/{number:02x}" for number in range(256)]
    for folder in (*folders, "analyses", "evidence"):
        try:
            entries = list(os.scandir(store.root / folder))
        except FileNotFoundError:
            continue
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            # The change time is that of the rename: a slow sender's file may have been written to long before.
            if max(status.st_ctime, status.st_mtime) < before:
                yield f"{folder}/{entry.name}"


def _without_row(session: Session, paths: Sequence[str]) -> list[str]:
    living = select(Instance.path).where(Instance.path.in_(paths), Instance.state != InstanceState.EXPIRED)
    named = set(session.scalars(living))
    revisions = {revision for path in paths if (revision := _revision(path)) is not None}
    if revisions:
        analyses = select(Analysis.path).where(Analysis.revision_id.in_(revisions), Analysis.path.is_not(None))
        named |= {path for path in session.scalars(analyses) if path is not None}
        evidence = select(Evidence.path).join(Analysis).where(Analysis.revision_id.in_(revisions))
        evidence = evidence.where(Evidence.expired_at.is_(None))
        named |= {str(Path(path).parent) for path in session.scalars(evidence)}
    return [path for path in paths if path not in named]


def _revision(path: str) -> int | None:
    """The revision that a result folder is named after."""
    folder, _, name = path.partition("/")
    number = name.partition("-")[0]
    return int(number) if folder in ("analyses", "evidence") and number.isdigit() else None


def _event(paths: Sequence[str]) -> AuditEvent:
    details: dict[str, Detail] = {"count": len(paths), "paths": list(paths[:100])}
    return AuditEvent(AuditEventType.FILES_SWEPT, role_actor("timetable"), details=details)
