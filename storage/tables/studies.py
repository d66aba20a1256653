"""A study from its first instance to the last delivery of its evidence objects."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.columns import (
    AnalysisState,
    CloseReason,
    DeliveryState,
    Identifier,
    InstanceKind,
    InstanceState,
    Priority,
    RevisionState,
    Sha256,
    Table,
    Uid,
)


class Study(Table):
    """A study that at least one instance of was received."""

    __tablename__ = "studies"

    study_uid: Mapped[str] = mapped_column(Uid, primary_key=True)
    accession_digest: Mapped[str | None] = mapped_column(Sha256)
    first_instance_at: Mapped[datetime]


class Revision(Table):
    """The state of a study at the time of an analysis: all its stored instances with this number or a lower one."""

    __tablename__ = "revisions"
    __table_args__ = (
        Index("uq_revisions_study_uid_number", "study_uid", "number", unique=True),
        Index(
            "uq_revisions_open",
            "study_uid",
            unique=True,
            sqlite_where=text("state = 'OPEN'"),
            postgresql_where=text("state = 'OPEN'"),
        ),
        Index("ix_revisions_state", "state", "closed_at"),
    )

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    study_uid: Mapped[str] = mapped_column(Uid, ForeignKey("studies.study_uid"))
    number: Mapped[int]
    predecessor_id: Mapped[int | None] = mapped_column(Identifier, ForeignKey("revisions.id"))
    state: Mapped[RevisionState]
    priority: Mapped[Priority]
    expected_instances: Mapped[int | None]
    close_reason: Mapped[CloseReason | None]
    attempts: Mapped[int] = mapped_column(default=0)  # times that its analysis was begun in this run
    runs: Mapped[int] = mapped_column(default=0)  # times that a person asked for it again
    failure: Mapped[str | None] = mapped_column(Text)
    opened_at: Mapped[datetime]
    last_instance_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class Instance(Table):
    """One received copy of an instance, as a file in the store."""

    __tablename__ = "instances"
    __table_args__ = (
        Index(
            "uq_instances_stored",
            "sop_instance_uid",
            unique=True,
            sqlite_where=text("state = 'stored'"),
            postgresql_where=text("state = 'stored'"),
        ),
        Index("uq_instances_copy", "sop_instance_uid", "file_sha256", unique=True),
        Index("ix_instances_study_uid", "study_uid", "revision_id"),
        Index("ix_instances_revision_id", "revision_id"),
        Index("uq_instances_path", "path", unique=True),
        Index("ix_instances_pixel_sha256", "pixel_sha256"),
    )

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    sop_instance_uid: Mapped[str] = mapped_column(Uid)
    sop_class_uid: Mapped[str] = mapped_column(Uid)
    study_uid: Mapped[str] = mapped_column(Uid, ForeignKey("studies.study_uid"))
    series_uid: Mapped[str] = mapped_column(Uid)
    transfer_syntax: Mapped[str] = mapped_column(Uid)
    kind: Mapped[InstanceKind]
    state: Mapped[InstanceState]
    path: Mapped[str] = mapped_column(String(255))
    size: Mapped[int] = mapped_column(BigInteger)
    file_sha256: Mapped[str] = mapped_column(Sha256)
    pixel_sha256: Mapped[str | None] = mapped_column(Sha256)
    source_ae: Mapped[str] = mapped_column(String(16))
    source_address: Mapped[str] = mapped_column(String(64))
    received_at: Mapped[datetime]
    repeats: Mapped[int] = mapped_column(default=0)  # times that the same bytes arrived again
    revision_id: Mapped[int | None] = mapped_column(Identifier, ForeignKey("revisions.id"))


class Analysis(Table):
    """One run of one model set on one revision."""

    __tablename__ = "analyses"
    __table_args__ = (Index("uq_analyses_revision_id_model_set", "revision_id", "model_set", unique=True),)

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    revision_id: Mapped[int] = mapped_column(Identifier, ForeignKey("revisions.id"))
    model_set: Mapped[str] = mapped_column(Sha256)
    state: Mapped[AnalysisState]
    verdict: Mapped[str | None] = mapped_column(String(16))
    score: Mapped[float | None]
    reasons: Mapped[list[str]] = mapped_column(default=list)
    findings: Mapped[int] = mapped_column(default=0)
    path: Mapped[str | None] = mapped_column(String(255))
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    seconds: Mapped[float | None]


class Evidence(Table):
    """One evidence object that we made; its UID is derived, so a repeat finds this row (promise 2)."""

    __tablename__ = "evidence"
    __table_args__ = (
        Index("uq_evidence_sop_instance_uid", "sop_instance_uid", unique=True),
        Index("ix_evidence_analysis_id", "analysis_id"),
    )

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    analysis_id: Mapped[int] = mapped_column(Identifier, ForeignKey("analyses.id"))
    profile: Mapped[str] = mapped_column(String(32))
    kind: Mapped[str] = mapped_column(String(8))
    sop_instance_uid: Mapped[str] = mapped_column(Uid)
    sop_class_uid: Mapped[str] = mapped_column(Uid)
    series_uid: Mapped[str] = mapped_column(Uid)
    path: Mapped[str] = mapped_column(String(255))
    size: Mapped[int] = mapped_column(BigInteger)
    file_sha256: Mapped[str] = mapped_column(Sha256)
    created_at: Mapped[datetime]
    expired_at: Mapped[datetime | None]  # when its file was deleted for its age


class Delivery(Table):
    """One evidence object to one destination."""

    __tablename__ = "deliveries"
    __table_args__ = (
        Index("uq_deliveries_evidence_id_destination", "evidence_id", "destination", unique=True),
        Index("ix_deliveries_state", "state", "destination"),
        Index(
            "ix_deliveries_next_at",
            "destination",
            "next_at",
            sqlite_where=text("next_at IS NOT NULL"),
            postgresql_where=text("next_at IS NOT NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    evidence_id: Mapped[int] = mapped_column(Identifier, ForeignKey("evidence.id"))
    destination: Mapped[str] = mapped_column(String(32))
    state: Mapped[DeliveryState]
    attempts: Mapped[int] = mapped_column(default=0)
    refusals: Mapped[int] = mapped_column(default=0)  # attempts whose failure speaks against this object
    failure: Mapped[str | None] = mapped_column(Text)
    warning: Mapped[str | None] = mapped_column(String(16))  # status with which it was stored
    transaction_uid: Mapped[str | None] = mapped_column(Uid)  # of the commitment that was asked for
    asks: Mapped[int] = mapped_column(default=0)  # requests for commitment since it was sent
    asked_at: Mapped[datetime | None]  # when the last one was made
    next_at: Mapped[datetime | None]  # when it is due; empty: a workflow has it in hand, or it is at its end
    planned_at: Mapped[datetime]
    attempted_at: Mapped[datetime | None]
    delivered_at: Mapped[datetime | None]
