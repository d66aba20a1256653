"""What an operator asks about deliveries: which wait, where, since when and why. Reads only."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from storage.errors import NotFound
from storage.tables import Analysis, Delivery, DeliveryState, Evidence, Notice, NoticeState, Revision


@dataclass(frozen=True, slots=True)
class Listed:
    """A delivery, what it carries, and of which study."""

    delivery: Delivery
    evidence: Evidence
    revision: Revision


def list_deliveries(
    session: Session,
    *,
    study_uid: str | None = None,
    destination: str | None = None,
    states: Collection[DeliveryState] = (),
    limit: int | None = 50,
) -> list[Listed]:
    """The newest first."""
    query = _all().order_by(Delivery.id.desc()).limit(limit)
    if study_uid is not None:
        query = query.where(Revision.study_uid == study_uid)
    if destination is not None:
        query = query.where(Delivery.destination == destination)
    if states:
        query = query.where(Delivery.state.in_(states))
    return [Listed(row[0], row[1], row[2]) for row in session.execute(query)]


def delivery_numbered(session: Session, number: int) -> Listed:
    """One delivery. Raises NotFound."""
    row = session.execute(_all().where(Delivery.id == number)).first()
    if row is None:
        raise NotFound(f"there is no delivery {number}; `scanwarden deliveries` lists them")
    return Listed(row[0], row[1], row[2])


def count_deliveries(session: Session) -> dict[str, dict[DeliveryState, int]]:
    """How many in each state, by destination."""
    counted: dict[str, dict[DeliveryState, int]] = {}
    query = select(Delivery.destination, Delivery.state, func.count()).group_by(Delivery.destination, Delivery.state)
    for destination, state, count in session.execute(query.order_by(Delivery.destination)):
        counted.setdefault(destination, {})[state] = count
    return counted


def count_notices(session: Session) -> dict[str, dict[NoticeState, int]]:
    """How many in each state, by channel."""
    counted: dict[str, dict[NoticeState, int]] = {}
    query = select(Notice.channel, Notice.state, func.count()).group_by(Notice.channel, Notice.state)
    for channel, state, count in session.execute(query.order_by(Notice.channel)):
        counted.setdefault(channel, {})[state] = count
    return counted


def _all() -> Select[Delivery, Evidence, Revision]:
    return (
        select(Delivery, Evidence, Revision)
        .join(Evidence, Delivery.evidence_id == Evidence.id)
        .join(Analysis, Evidence.analysis_id == Analysis.id)
        .join(Revision, Analysis.revision_id == Revision.id)
    )
