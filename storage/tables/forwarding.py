"""Instances on their way through us to an archive, as they came."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.columns import ForwardState, Identifier, Table


class ForwardCursor(Table):
    """How far the index was looked through for one destination: newer instances are not queued yet."""

    __tablename__ = "forward_cursors"

    destination: Mapped[str] = mapped_column(String(32), primary_key=True)
    instance_id: Mapped[int] = mapped_column(BigInteger)


class Forward(Table):
    """One instance to one destination; sent in the order of `instance_id`."""

    __tablename__ = "forwards"
    __table_args__ = (
        Index("uq_forwards_destination_instance_id", "destination", "instance_id", unique=True),
        Index("ix_forwards_state", "state", "destination", "instance_id"),
        Index("ix_forwards_instance_id", "instance_id"),
    )

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    destination: Mapped[str] = mapped_column(String(32))
    instance_id: Mapped[int] = mapped_column(Identifier, ForeignKey("instances.id"))
    state: Mapped[ForwardState]
    attempts: Mapped[int] = mapped_column(default=0)  # that the destination answered with a failure or broke off in
    failure: Mapped[str | None] = mapped_column(Text)
    queued_at: Mapped[datetime]
    next_at: Mapped[datetime]
    sent_at: Mapped[datetime | None]
