"""Every table, and the constraints that hold our promises when the code does not.

All times are UTC and aware. Paths are relative to the store's root. No column holds patient data: UIDs, AE titles,
addresses and accession digests only (promise 7).
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, Enum, ForeignKey, Index, Integer, MetaData, String, Text, text
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC in, aware UTC out, on databases that keep time zones and on SQLite, which does not."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone; use datetime.now(UTC)")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class InstanceKind(StrEnum):
    """What an instance is to us."""

    IMAGE = "image"
    EVIDENCE = "evidence"  # our own SEG, SR or SC that came back: kept, never analysed
    OTHER = "other"


class InstanceState(StrEnum):
    """What we hold a received copy to be."""

    STORED = "stored"
    CONTESTED = "contested"  # same UID, other bytes: kept apart until the pixels are compared
    DUPLICATE = "duplicate"  # same UID, other bytes, same pixels and geometry
    QUARANTINED = "quarantined"  # same UID, other pixels: an incident
    EXPIRED = "expired"  # its file is past its age and gone; its digests stay


class Priority(StrEnum):
    """STAT before routine."""

    STAT = "stat"
    ROUTINE = "routine"


class RevisionState(StrEnum):
    """How far a revision is."""

    OPEN = "OPEN"
    CLOSED = "CLOSED"
    ANALYSED = "ANALYSED"
    ENCODED = "ENCODED"
    DONE = "DONE"
    FAILED = "FAILED"


class CloseReason(StrEnum):
    """Why a revision was closed (promise 3)."""

    QUIET = "quiet"
    EXPECTED = "expected"
    LIMIT = "limit"


class AnalysisState(StrEnum):
    """How far an analysis is."""

    RUNNING = "RUNNING"
    DONE = "DONE"
    FAILED = "FAILED"


class DeliveryState(StrEnum):
    """How far a delivery is; DEAD is the dead letter that `scanwarden retry` revives."""

    WAITING = "WAITING"
    DELIVERED = "DELIVERED"
    DEAD = "DEAD"


class VerificationState(StrEnum):
    """How far the verification of a study in an archive is."""

    FETCHING = "FETCHING"
    COMPARING = "COMPARING"  # fetched; the analyse role decodes and compares
    SAME = "SAME"  # everything as first seen, or re-encoded without loss
    DIFFERS = "DIFFERS"  # altered, missing or extra: an incident
    FAILED = "FAILED"  # no answer, so nothing is known


def _choice(enumeration: type[StrEnum]) -> Enum:
    # Text with the enumeration's values: a new member needs no migration, and SQL typed by hand reads well.
    return Enum(enumeration, native_enum=False, length=16, values_callable=lambda members: [m.value for m in members])


Identifier = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows only for INTEGER PRIMARY KEY
Uid = String(64)  # PS3.5 §9.1
Sha256 = String(64)


class Table(DeclarativeBase):
    """Base of all tables; names constraints so that migrations can find them on both databases."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own way to say it
        datetime: UtcDateTime(),
        dict[str, Any]: JSON(),
        list[str]: JSON(),
        InstanceKind: _choice(InstanceKind),
        InstanceState: _choice(InstanceState),
        Priority: _choice(Priority),
        RevisionState: _choice(RevisionState),
        CloseReason: _choice(CloseReason),
        AnalysisState: _choice(AnalysisState),
        DeliveryState: _choice(DeliveryState),
        VerificationState: _choice(VerificationState),
    }


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
    )

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    evidence_id: Mapped[int] = mapped_column(Identifier, ForeignKey("evidence.id"))
    destination: Mapped[str] = mapped_column(String(32))
    state: Mapped[DeliveryState]
    attempts: Mapped[int] = mapped_column(default=0)
    failure: Mapped[str | None] = mapped_column(Text)
    planned_at: Mapped[datetime]
    attempted_at: Mapped[datetime | None]
    delivered_at: Mapped[datetime | None]


class FirstSeen(Table):
    """What one instance was when it was first analysed. Triggers refuse UPDATE and DELETE; see storage/firstseen.py."""

    __tablename__ = "first_seen"
    __table_args__ = (
        Index("ix_first_seen_study_uid", "study_uid", "revision"),
        Index("ix_first_seen_file_sha256", "file_sha256"),
    )

    sop_instance_uid: Mapped[str] = mapped_column(Uid, primary_key=True)
    sop_class_uid: Mapped[str] = mapped_column(Uid)
    study_uid: Mapped[str] = mapped_column(Uid, ForeignKey("studies.study_uid"))
    series_uid: Mapped[str] = mapped_column(Uid)
    transfer_syntax: Mapped[str] = mapped_column(Uid)
    revision: Mapped[int]  # number of the study's first revision that holds it
    file_sha256: Mapped[str] = mapped_column(Sha256)
    pixel_sha256: Mapped[str | None] = mapped_column(Sha256)  # NULL: no pixels, or none that could be decoded
    attributes: Mapped[dict[str, Any]]  # digest by group of attributes; empty: the header could not be read
    recorded_at: Mapped[datetime]


class Root(Table):
    """Count and root of a study's first-seen digests at a revision, and of each of its series; also in the ledger."""

    __tablename__ = "roots"

    study_uid: Mapped[str] = mapped_column(Uid, ForeignKey("studies.study_uid"), primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True)
    series_uid: Mapped[str] = mapped_column(Uid, primary_key=True)  # empty: the whole study
    instances: Mapped[int]
    root: Mapped[str] = mapped_column(Sha256)


class DeviceBaseline(Table):
    """What one scanner always writes, as `inference.provenance.Baseline` puts it; see storage/baselines.py."""

    __tablename__ = "baselines"

    device: Mapped[str] = mapped_column(Sha256, primary_key=True)  # a digest, no serial number in clear
    baseline: Mapped[dict[str, Any]]
    studies: Mapped[int]  # that taught it
    updated_at: Mapped[datetime]


class Lesson(Table):
    """What one study taught a baseline: nothing counts twice, whatever is repeated or analysed again."""

    __tablename__ = "lessons"

    device: Mapped[str] = mapped_column(Sha256, ForeignKey("baselines.device"), primary_key=True)
    study_uid: Mapped[str] = mapped_column(Uid, ForeignKey("studies.study_uid"), primary_key=True)
    kinds: Mapped[list[str]]  # of images, for example those of the revisions so far


class Verification(Table):
    """One comparison of what an archive holds of a study with what was first seen."""

    __tablename__ = "verifications"
    __table_args__ = (
        Index("ix_verifications_study_uid", "study_uid", "archive", "finished_at"),
        Index("ix_verifications_state", "state"),
    )

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    study_uid: Mapped[str] = mapped_column(Uid, ForeignKey("studies.study_uid"))
    archive: Mapped[str] = mapped_column(String(32))
    state: Mapped[VerificationState]
    attempts: Mapped[int] = mapped_column(default=0)  # times that its comparison was begun
    path: Mapped[str | None] = mapped_column(String(255))  # fetched files, until they are compared
    counts: Mapped[dict[str, Any]] = mapped_column(default=dict)
    failure: Mapped[str | None] = mapped_column(Text)
    actor: Mapped[str] = mapped_column(String(128))
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class Process(Table):
    """The heartbeat of one process of one role."""

    __tablename__ = "processes"

    executor_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    role: Mapped[str] = mapped_column(String(16))
    host: Mapped[str] = mapped_column(String(255))
    pid: Mapped[int]
    started_at: Mapped[datetime]
    beat_at: Mapped[datetime]


class Lease(Table):
    """Who may do what only one may do, and until when."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    holder: Mapped[str] = mapped_column(String(64))
    acquired_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class LedgerRow(Table):
    """One record of the ledger. Triggers refuse UPDATE and DELETE; see storage/audit/ledger.py for the chain."""

    __tablename__ = "ledger"
    __table_args__ = (
        Index("uq_ledger_previous_hash", "previous_hash", unique=True),
        Index("ix_ledger_study_uid", "study_uid"),
        Index("ix_ledger_event", "event"),
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
