"""Prior studies: what the rules ask for, what was fetched, and what is known of a patient's other studies here.

A prior study carries a mark from before its first instance arrives, so that it never asks for its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import exists, func, or_, select
from sqlalchemy.orm import Session

from storage.studies import revision_of
from storage.tables import (
    Analysis,
    Instance,
    InstanceKind,
    InstanceState,
    Prior,
    PriorSearch,
    PriorState,
    Revision,
    RevisionState,
    SearchState,
    Study,
    StudyPatient,
)

_MARKING = (PriorState.WAITING, PriorState.FETCHED, PriorState.DEAD)
_PAUSE, _LONGEST_PAUSE = timedelta(minutes=1), timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class KnownPrior:
    """A study of the same patient that is here; `verdict` is its last one, None while there is none."""

    study_uid: str
    verdict: str | None


def is_prior(session: Session, study_uid: str) -> bool:
    """Whether a study came, or comes, because another one asked for it."""
    return bool(session.scalar(select(exists().where(Prior.prior_uid == study_uid, Prior.state.in_(_MARKING)))))


def revisions_to_judge(session: Session, since: datetime, limit: int = 50) -> Sequence[Revision]:
    """Revisions closed after `since` of which nobody has looked yet whether their rules ask for prior studies."""
    query = (
        select(Revision)
        .where(
            Revision.state != RevisionState.OPEN,
            Revision.closed_at >= since,
            ~exists().where(PriorSearch.revision_id == Revision.id),
        )
        .order_by(Revision.id)
        .limit(limit)
    )
    return session.scalars(query).all()


def begin_search(session: Session, revision_id: int, wanted: int, *, now: datetime) -> None:
    """Write down what the rules ask for at the close of a revision; nothing for a prior, or a second time."""
    if session.get(PriorSearch, revision_id) is not None:
        return
    study_uid = revision_of(session, revision_id).study_uid
    before = select(PriorSearch.wanted).where(
        PriorSearch.study_uid == study_uid, PriorSearch.state.in_((SearchState.WAITING, SearchState.DONE))
    )
    enough = any(earlier >= wanted for earlier in session.scalars(before))
    asks = wanted > 0 and not enough and not is_prior(session, study_uid)
    state = SearchState.WAITING if asks else SearchState.NONE
    session.add(PriorSearch(revision_id=revision_id, study_uid=study_uid, state=state, wanted=wanted, next_at=now))


def next_search(session: Session, now: datetime) -> PriorSearch | None:
    """The search that is due the longest."""
    query = select(PriorSearch).where(PriorSearch.state == SearchState.WAITING, PriorSearch.next_at <= now)
    return session.scalar(query.order_by(PriorSearch.next_at, PriorSearch.revision_id).limit(1))


def end_search(session: Session, revision_id: int, failure: str | None = None, *, now: datetime) -> None:
    """A search has its answer, or there is no use in another try."""
    search = session.get_one(PriorSearch, revision_id)
    search.state, search.failure, search.finished_at = SearchState.DONE, failure, now


def put_off(row: PriorSearch | Prior, failure: str, *, attempts: int, now: datetime) -> bool:
    """Count a failed attempt: again after a pause that doubles, or never after `attempts`; whether it is given up."""
    row.attempts += 1
    row.failure = failure
    if row.attempts >= attempts:
        row.finished_at = now
        if isinstance(row, Prior):
            row.state = PriorState.DEAD
        else:
            row.state = SearchState.DEAD
        return True
    row.next_at = now + min(_PAUSE * 2 ** min(row.attempts - 1, 16), _LONGEST_PAUSE)
    return False


def ask_for(
    session: Session, study_uid: str, prior_uid: str, *, patient: str, archive: str, actor: str, now: datetime
) -> Prior:
    """Mark a study as a prior of another one before anything of it arrives; one that is here is not fetched."""
    row = session.get(Prior, (study_uid, prior_uid))
    if row is not None and row.state in (PriorState.FETCHED, PriorState.HERE, PriorState.WAITING):
        return row
    is_here = session.get(Study, prior_uid) is not None
    row = row or Prior(study_uid=study_uid, prior_uid=prior_uid)
    row.patient, row.archive, row.actor = patient, archive, actor
    row.state = PriorState.HERE if is_here else PriorState.WAITING
    row.instances = row.attempts = 0
    row.failure, row.asked_at, row.next_at = None, now, now
    row.finished_at = now if is_here else None
    session.add(row)
    session.flush()
    return row


def next_prior(session: Session, now: datetime, *, actor: str) -> Prior | None:
    """The prior study that is due the longest, of those that `actor` asked for."""
    query = select(Prior).where(Prior.state == PriorState.WAITING, Prior.next_at <= now, Prior.actor == actor)
    return session.scalar(query.order_by(Prior.next_at, Prior.study_uid, Prior.prior_uid).limit(1))


def begun_since(session: Session, since: datetime, *, actor: str) -> int:
    """How many prior studies were asked of an archive since a moment."""
    query = select(func.count()).select_from(Prior).where(Prior.begun_at >= since, Prior.actor == actor)
    return session.scalar(query) or 0


def asked_of_patient(session: Session, patient: str, since: datetime, *, actor: str) -> int:
    """How many prior studies of one patient were asked for since a moment; those that were here do not count."""
    query = select(func.count()).select_from(Prior)
    query = query.where(Prior.patient == patient, Prior.asked_at >= since, Prior.actor == actor)
    return session.scalar(query.where(Prior.state != PriorState.HERE)) or 0


def finish_prior(
    session: Session,
    study_uid: str,
    prior_uid: str,
    state: PriorState,
    *,
    instances: int = 0,
    failure: str | None = None,
    now: datetime | None = None,
) -> None:
    """What became of a prior study."""
    row = session.get_one(Prior, (study_uid, prior_uid))
    row.state, row.instances, row.failure, row.finished_at = state, instances, failure, now or datetime.now(UTC)


def priors_of(session: Session, study_uid: str) -> Sequence[Prior]:
    """The prior studies that were asked for because of a study."""
    return session.scalars(select(Prior).where(Prior.study_uid == study_uid).order_by(Prior.prior_uid)).all()


def known_priors(session: Session, study_uid: str) -> list[KnownPrior]:
    """Studies of the same patient that are here and came before this one, or that an archive called earlier."""
    own = session.get(Study, study_uid)
    patient = select(StudyPatient.patient).where(StudyPatient.study_uid == study_uid).scalar_subquery()
    called = exists().where(Prior.study_uid == study_uid, Prior.prior_uid == Study.study_uid)
    reverse = exists().where(Prior.prior_uid == study_uid, Prior.study_uid == Study.study_uid)
    if own is None:
        return []
    query = (
        select(Study.study_uid)
        .join(StudyPatient, StudyPatient.study_uid == Study.study_uid)
        .where(
            StudyPatient.patient == patient,
            Study.study_uid != study_uid,
            or_(called, (Study.first_instance_at < own.first_instance_at) & ~reverse),
        )
        .order_by(Study.first_instance_at, Study.study_uid)
    )
    return [KnownPrior(uid, last_verdict(session, uid)) for uid in session.scalars(query)]


def last_verdict(session: Session, study_uid: str) -> str | None:
    """The verdict of a study's newest analysis."""
    query = (
        select(Analysis.verdict)
        .join(Revision, Analysis.revision_id == Revision.id)
        .where(Revision.study_uid == study_uid, Analysis.verdict.is_not(None))
        .order_by(Revision.number.desc(), Analysis.id.desc())
        .limit(1)
    )
    return session.scalar(query)


def first_image(session: Session, study_uid: str) -> Instance | None:
    """The stored instance whose header speaks for a study; None when none is left."""
    query = select(Instance).where(
        Instance.study_uid == study_uid,
        Instance.state == InstanceState.STORED,
        Instance.kind != InstanceKind.EVIDENCE,
    )
    return session.scalar(query.order_by(Instance.id).limit(1))
