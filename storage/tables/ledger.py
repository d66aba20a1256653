"""The audit trail, its checkpoints and what is sealed of it."""

from datetime import datetime

from sqlalchemy import BigInteger, ColumnElement, Index, String, Text, and_, text
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.columns import (
    Identifier,
    Sha256,
    Table,
    Uid,
)

COMMONEST_EVENT = "instance-stored"
# What an index over events leaves out: a sender waits for every page that its instance touches, and nobody looks for
# the event of almost every record by an index. SQLite uses the index only where these very words stand in the query.
_UNCOMMON = text(f"event <> '{COMMONEST_EVENT}'")


class LedgerRow(Table):
    """One record of the ledger. Triggers refuse UPDATE and DELETE; see storage/audit/ledger.py for the chain."""

    __tablename__ = "ledger"
    __table_args__ = (
        Index("uq_ledger_previous_hash", "previous_hash", unique=True),
        Index("ix_ledger_study_uid", "study_uid"),
        Index("ix_ledger_event", "event", sqlite_where=_UNCOMMON, postgresql_where=_UNCOMMON),
    )

    seq: Mapped[int] = mapped_column(Identifier, primary_key=True, autoincrement=False)
    time: Mapped[str] = mapped_column(String(32))  # text, as it was hashed
    event: Mapped[str] = mapped_column(String(48))
    outcome: Mapped[int]
    actor: Mapped[str] = mapped_column(String(128))
    study_uid: Mapped[str | None] = mapped_column(Uid)
    subject: Mapped[str | None] = mapped_column(String(128))
    details: Mapped[str] = mapped_column(Text)  # canonical JSON, as it was hashed
    previous_hash: Mapped[str] = mapped_column(Sha256)
    hash: Mapped[str] = mapped_column(Sha256)


def event_is(event: str) -> ColumnElement[bool]:
    """The condition that finds the records of an event, by the index where it has them."""
    same = LedgerRow.event == event
    return same if event == COMMONEST_EVENT else and_(same, _UNCOMMON)


class CheckpointRow(Table):
    """One signed head of the ledger. Triggers refuse UPDATE and DELETE; see storage/audit/checkpoints.py."""

    __tablename__ = "checkpoints"

    number: Mapped[int] = mapped_column(Identifier, primary_key=True, autoincrement=False)
    seq: Mapped[int] = mapped_column(BigInteger)
    head: Mapped[str] = mapped_column(Sha256)
    root: Mapped[str] = mapped_column(Sha256)
    time: Mapped[str] = mapped_column(String(32))  # text, as it was signed
    previous: Mapped[str] = mapped_column(Sha256)
    key_id: Mapped[str] = mapped_column(String(32))
    signature: Mapped[str] = mapped_column(String(88))


class LedgerNode(Table):
    """One complete subtree of the ledger's Merkle tree: a cache, which the signed roots hold to the truth."""

    __tablename__ = "ledger_nodes"

    level: Mapped[int] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    hash: Mapped[str] = mapped_column(Sha256)


class Segment(Table):
    """A range of the ledger's records that lies in a sealed file; see storage/audit/segments.py."""

    __tablename__ = "segments"
    __table_args__ = (Index("uq_segments_first", "first", unique=True),)

    number: Mapped[int] = mapped_column(Identifier, primary_key=True, autoincrement=False)
    first: Mapped[int] = mapped_column(BigInteger)
    last: Mapped[int] = mapped_column(BigInteger)
    file: Mapped[str] = mapped_column(String(64))
    file_sha256: Mapped[str] = mapped_column(Sha256)
    shortened: Mapped[bool] = mapped_column(default=False)  # its rows are gone from the ledger


class SpoolCursor(Table):
    """How far one collector has confirmed the ledger; see storage/audit/spool.py."""

    __tablename__ = "spool"

    collector: Mapped[str] = mapped_column(String(64), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[str] = mapped_column(Sha256)
    confirmed_at: Mapped[datetime | None]
    failing_since: Mapped[datetime | None]
    failure: Mapped[str | None] = mapped_column(Text)
