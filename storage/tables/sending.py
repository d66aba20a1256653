"""What is known of those we send to: the circuit of each destination, and who is to be told of a verdict."""

from datetime import datetime

from sqlalchemy import BigInteger, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.columns import CircuitState, Identifier, NoticeState, Sha256, Table, Uid


class Circuit(Table):
    """Whether a destination answers. One without a row was never in trouble."""

    __tablename__ = "circuits"

    destination: Mapped[str] = mapped_column(String(32), primary_key=True)
    state: Mapped[CircuitState]
    failures: Mapped[int] = mapped_column(default=0)  # in a row, since it last answered
    probes: Mapped[int] = mapped_column(default=0)  # in a row, that it did not answer
    probe_revision: Mapped[int | None] = mapped_column(Identifier)  # whose delivery tries it now, or did last
    probe_at: Mapped[datetime | None]  # OPEN: when the next one may try; HALF_OPEN: when it was sent to try
    reason: Mapped[str | None] = mapped_column(Text)
    changed_at: Mapped[datetime]


class Notice(Table):
    """One verdict, to be told over one channel. It carries nothing itself: the ledger's record `seq` says what."""

    __tablename__ = "notices"
    __table_args__ = (
        Index("uq_notices_channel_seq", "channel", "seq", unique=True),
        Index("ix_notices_state", "state", "channel", "next_at"),
    )

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    channel: Mapped[str] = mapped_column(String(16))
    seq: Mapped[int] = mapped_column(BigInteger)
    record_sha256: Mapped[str] = mapped_column(Sha256)  # hash of that record
    study_uid: Mapped[str] = mapped_column(Uid)
    state: Mapped[NoticeState]
    attempts: Mapped[int] = mapped_column(default=0)
    refusals: Mapped[int] = mapped_column(default=0)  # attempts that the receiver answered with a no
    failure: Mapped[str | None] = mapped_column(Text)
    planned_at: Mapped[datetime]
    next_at: Mapped[datetime]
    sent_at: Mapped[datetime | None]
