"""The service in figures for a collector of metrics: only what an index answers, however long the history is."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from storage.tables import CheckpointRow, Delivery, DeliveryState, LedgerRow, Revision, RevisionState

UNFINISHED = (RevisionState.OPEN, RevisionState.CLOSED, RevisionState.ANALYSED, RevisionState.ENCODED)


@dataclass(frozen=True, slots=True)
class Figures:
    """What a collector asks the database for."""

    revisions: dict[RevisionState, int]
    """Revisions that are not finished, and those that failed."""
    oldest_unanalysed: datetime | None
    """When the oldest revision that waits for its analysis was closed."""
    deliveries: dict[tuple[DeliveryState, str], int]
    ledger_records: int
    checkpoint_records: int
    """Records that the last checkpoint covers; 0: there is none."""
    checkpoint_time: datetime | None


def figures(session: Session) -> Figures:
    """The figures at this moment."""
    states = (
        select(Revision.state, func.count())
        .where(Revision.state.in_((*UNFINISHED, RevisionState.FAILED)))
        .group_by(Revision.state)
    )
    deliveries = select(Delivery.state, Delivery.destination, func.count()).group_by(
        Delivery.state, Delivery.destination
    )
    oldest = select(func.min(Revision.closed_at)).where(Revision.state == RevisionState.CLOSED)
    newest = select(CheckpointRow.seq, CheckpointRow.time).order_by(CheckpointRow.number.desc()).limit(1)
    checkpoint = session.execute(newest).first()
    return Figures(
        revisions=dict(session.execute(states).all()),
        oldest_unanalysed=session.scalar(oldest),
        deliveries={(state, name): count for state, name, count in session.execute(deliveries)},
        ledger_records=session.scalar(select(func.coalesce(func.max(LedgerRow.seq), 0))) or 0,
        checkpoint_records=checkpoint.seq if checkpoint is not None else 0,
        checkpoint_time=datetime.fromisoformat(checkpoint.time) if checkpoint is not None else None,
    )
