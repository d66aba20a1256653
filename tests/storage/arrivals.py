"""Instances as a receiver would hand them to storage."""

from datetime import UTC, datetime, timedelta
from typing import Any

from storage import Database, InstanceFacts, InstanceStore, Outcome, StoredFile, record_instance

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MR = "1.2.840.10008.5.1.4.1.1.4"
SR = "1.2.840.10008.5.1.4.1.1.88.34"


def at(seconds: float) -> datetime:
    """A time, seconds after noon."""
    return NOON + timedelta(seconds=seconds)


def facts(uid: str, **other: Any) -> InstanceFacts:
    """Facts of an MR image of study 1.9 from SCANNER."""
    values: dict[str, Any] = {
        "sop_instance_uid": uid,
        "sop_class_uid": MR,
        "study_uid": "1.9",
        "series_uid": "1.9.1",
        "transfer_syntax": "1.2.840.10008.1.2.1",
        "source_ae": "SCANNER",
        "source_address": "10.0.0.7",
        "received_at": NOON,
    }
    return InstanceFacts(**values | other)


def keep(store: InstanceStore, uid: str, content: bytes = b"pixels") -> StoredFile:
    """A durable file that is not indexed yet."""
    with store.incoming() as upload:
        upload.write(content)
        return upload.keep(uid)


def receive(store: InstanceStore, database: Database, uid: str, content: bytes = b"pixels", **other: Any) -> Outcome:
    """All of it: file, row, event, and the clearing away of a repeat."""
    stored = keep(store, uid, content)
    with database.transaction() as session:
        outcome = record_instance(session, stored, facts(uid, **other))
    outcome.settle(store)
    return outcome


def files(store: InstanceStore) -> list[str]:
    """Every instance file in the store, relative."""
    return sorted(str(path.relative_to(store.root)) for path in (store.root / "instances").rglob("*.dcm"))
