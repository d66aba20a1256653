"""What every table is built from: times, choices, keys, and the base that names constraints."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, Enum, Integer, MetaData, String
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase
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
    SENT = "SENT"  # stored, and storage commitment is asked for: only that makes it DELIVERED
    DELIVERED = "DELIVERED"
    DEAD = "DEAD"


class RequestState(StrEnum):
    """How far a peer's request for storage commitment is; DEAD: it has its answer from us and cannot be told."""

    RECEIVED = "RECEIVED"
    ANSWERED = "ANSWERED"  # every file was looked at; the result has to be told
    REPORTED = "REPORTED"
    DEAD = "DEAD"


class CommitmentState(StrEnum):
    """What a destination said to our request for storage commitment."""

    WAITING = "WAITING"
    COMMITTED = "COMMITTED"
    FAILED = "FAILED"  # for at least one instance, or the request itself was refused


class ForwardState(StrEnum):
    """How far an instance is on its way through us; `scanwarden forwards retry` revives a DEAD one."""

    HELD = "HELD"  # a second copy of a UID: until the pixels are compared
    WAITING = "WAITING"
    SENT = "SENT"
    DEAD = "DEAD"


class CircuitState(StrEnum):
    """Whether deliveries go to a destination."""

    CLOSED = "CLOSED"  # they do
    OPEN = "OPEN"  # it does not answer: nothing is tried until its time has come
    HALF_OPEN = "HALF_OPEN"  # one delivery tries it


class NoticeState(StrEnum):
    """How far a notice is; `scanwarden retry` revives a DEAD one."""

    WAITING = "WAITING"
    SENT = "SENT"
    DEAD = "DEAD"


class SearchState(StrEnum):
    """How far the search for prior studies is that the rules ask for at the close of a revision."""

    NONE = "NONE"  # the rules ask for none, or it was done for an earlier revision
    WAITING = "WAITING"
    DONE = "DONE"
    DEAD = "DEAD"


class PriorState(StrEnum):
    """How far a prior study is."""

    WAITING = "WAITING"
    HERE = "HERE"  # it had arrived before anybody asked for it
    FETCHED = "FETCHED"
    REFUSED = "REFUSED"  # what came is not of this patient: nothing of it was taken
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
        RequestState: _choice(RequestState),
        CommitmentState: _choice(CommitmentState),
        ForwardState: _choice(ForwardState),
        CircuitState: _choice(CircuitState),
        NoticeState: _choice(NoticeState),
        SearchState: _choice(SearchState),
        PriorState: _choice(PriorState),
        list[Any]: JSON(),
    }
