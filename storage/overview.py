"""What an operator asks: how the service is, what became of a study. Reads only."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from sqlalchemy import func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from storage.errors import NotFound
from storage.studies import deliveries_of
from storage.tables import (
    Analysis,
    Delivery,
    DeliveryState,
    Evidence,
    Instance,
    InstanceState,
    LedgerRow,
    Process,
    Revision,
    RevisionState,
    Study,
)

State = TypeVar("State")


@dataclass(frozen=True, slots=True)
class Overview:
    """The service in numbers."""

    studies: int
    instances: dict[InstanceState, int]
    bytes: int
    revisions: dict[RevisionState, int]
    oldest_waiting: datetime | None
    """When the oldest revision that is not analysed yet was closed."""
    deliveries: dict[DeliveryState, int]
    verdicts: dict[str, int]
    processes: Sequence[Process]
    ledger_records: int


@dataclass(frozen=True, slots=True)
class RevisionDetail:
    """One revision with everything that followed from it."""

    revision: Revision
    instances: int
    """Instances that it brought, contested ones included."""
    analyses: Sequence[Analysis]
    evidence: Sequence[Evidence]
    deliveries: Sequence[Delivery]


@dataclass(frozen=True, slots=True)
class StudyDetail:
    """Everything that is known of a study; its audit events come from `Ledger.list(study_uid=…)`."""

    study: Study
    instances: dict[InstanceState, int]
    revisions: list[RevisionDetail]


def overview(session: Session) -> Overview:
    """The service at this moment."""
    oldest = select(func.min(Revision.closed_at)).where(Revision.state == RevisionState.CLOSED)
    verdicts = select(Analysis.verdict, func.count()).where(Analysis.verdict.is_not(None)).group_by(Analysis.verdict)
    return Overview(
        studies=session.scalar(select(func.count()).select_from(Study)) or 0,
        instances=_counted(session, Instance.state),
        bytes=session.scalar(select(func.coalesce(func.sum(Instance.size), 0))) or 0,
        revisions=_counted(session, Revision.state),
        oldest_waiting=session.scalar(oldest),
        deliveries=_counted(session, Delivery.state),
        verdicts={verdict: count for verdict, count in session.execute(verdicts) if verdict is not None},
        processes=session.scalars(select(Process).order_by(Process.role, Process.executor_id)).all(),
        ledger_records=session.scalar(select(func.coalesce(func.max(LedgerRow.seq), 0))) or 0,
    )


def study_detail(session: Session, study_uid: str) -> StudyDetail:
    """Everything about one study; NotFound when no instance of it was ever stored."""
    study = session.get(Study, study_uid)
    if study is None:
        raise NotFound(f"no instance of study {study_uid} was received; `scanwarden status` lists what was")
    revisions = session.scalars(select(Revision).where(Revision.study_uid == study_uid).order_by(Revision.number)).all()
    states = select(Instance.state, func.count()).where(Instance.study_uid == study_uid).group_by(Instance.state)
    return StudyDetail(
        study=study,
        instances=dict(session.execute(states).all()),
        revisions=[_detail(session, revision) for revision in revisions],
    )


def recent_studies(session: Session, limit: int = 20) -> Sequence[tuple[Revision, Analysis | None]]:
    """The newest revisions with their finished analysis, if any; the newest first."""
    query = (
        select(Revision, Analysis)
        .outerjoin(Analysis, (Analysis.revision_id == Revision.id) & Analysis.verdict.is_not(None))
        .order_by(Revision.id.desc())
        .limit(limit)
    )
    return [(revision, analysis) for revision, analysis in session.execute(query)]


def _detail(session: Session, revision: Revision) -> RevisionDetail:
    count = select(func.count()).select_from(Instance)
    if revision.state is RevisionState.OPEN:
        count = count.where(Instance.study_uid == revision.study_uid, Instance.revision_id.is_(None))
    else:
        count = count.where(Instance.revision_id == revision.id)
    of_revision = select(Evidence).join(Analysis).where(Analysis.revision_id == revision.id).order_by(Evidence.id)
    return RevisionDetail(
        revision=revision,
        instances=session.scalar(count) or 0,
        analyses=session.scalars(select(Analysis).where(Analysis.revision_id == revision.id)).all(),
        evidence=session.scalars(of_revision).all(),
        deliveries=deliveries_of(session, revision.id),
    )


def _counted(session: Session, column: InstrumentedAttribute[State]) -> dict[State, int]:
    return dict(session.execute(select(column, func.count()).group_by(column)).all())
