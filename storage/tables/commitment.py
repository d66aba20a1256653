"""Storage commitment, both ways: what peers asked us to keep, and what we asked our destinations to keep (PS3.4 J)."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.columns import CommitmentState, Identifier, RequestState, Sha256, Table, Uid


class CommitmentRequest(Table):
    """A peer's request to us. It may delete its copies on our word, so the answer comes from the disk."""

    __tablename__ = "commitment_requests"
    __table_args__ = (
        Index("ix_commitment_requests_state", "state", "next_at"),
        Index("ix_commitment_requests_transaction_uid", "transaction_uid", "ae_title"),
    )

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    transaction_uid: Mapped[str] = mapped_column(Uid)
    ae_title: Mapped[str] = mapped_column(String(16))
    address: Mapped[str] = mapped_column(String(64))
    state: Mapped[RequestState]
    references: Mapped[list[Any]]  # of [SOP class, SOP instance], in the order of the request
    content_sha256: Mapped[str] = mapped_column(Sha256)  # of the references: tells a repeat from a misuse of the UID
    failures: Mapped[dict[str, Any]] = mapped_column(default=dict)  # failure reason by SOP instance
    attempts: Mapped[int] = mapped_column(default=0)  # to report on an association of our own
    failure: Mapped[str | None] = mapped_column(Text)
    asked_at: Mapped[datetime]
    next_at: Mapped[datetime]  # before this the deliver role leaves it to the association that it came on
    reported_at: Mapped[datetime | None]


class Commitment(Table):
    """Our request to a destination."""

    __tablename__ = "commitments"
    __table_args__ = (
        Index("uq_commitments_transaction_uid", "transaction_uid", unique=True),
        Index("ix_commitments_state", "state", "destination"),
    )

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    transaction_uid: Mapped[str] = mapped_column(Uid)
    destination: Mapped[str] = mapped_column(String(32))
    state: Mapped[CommitmentState]
    references: Mapped[list[Any]]  # of [SOP class, SOP instance]
    failures: Mapped[dict[str, Any]] = mapped_column(default=dict)  # failure reason by SOP instance
    reporter: Mapped[str | None] = mapped_column(String(128))  # who told the result, `AE@address`
    asked_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
