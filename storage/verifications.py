"""Which studies of an archive were compared with what was first seen, when, with what result, and which come next.

A verification that found no answer (FAILED) proves nothing and counts for nothing, except that its study waits a while.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Select, Subquery, and_, exists, func, select
from sqlalchemy.orm import Session

from storage.audit.events import AuditEvent, AuditEventType, AuditOutcome, Detail, role_actor
from storage.audit.ledger import append
from storage.errors import NotFound
from storage.firstseen import STUDY, first_seen_studies
from storage.tables import (
    Analysis,
    Delivery,
    DeliveryState,
    Evidence,
    Revision,
    RevisionState,
    Root,
    Study,
    Verification,
    VerificationState,
)

TIMETABLE = role_actor("timetable")
ANSWERED = (VerificationState.SAME, VerificationState.DIFFERS)
UNFINISHED = (VerificationState.FETCHING, VerificationState.COMPARING)
_AT_REST = (RevisionState.DONE, RevisionState.FAILED)
_NAMED = 20  # UIDs of each kind that an event names


@dataclass(frozen=True, slots=True)
class Coverage:
    """What share of the archive was verified since a moment. Studies count once."""

    studies: int
    verified: int
    differing: int
    """Studies whose last answered verification found an incident."""
    oldest: datetime | None
    """When the study that waits longest was last verified; None: one never was."""

    @property
    def share(self) -> float:
        return self.verified / self.studies if self.studies else 1.0


def begin_verification(
    session: Session, study_uid: str, archive: str, *, actor: str = TIMETABLE, now: datetime | None = None
) -> Verification:
    """Write down that a study is being fetched, before it is."""
    row = Verification(
        study_uid=study_uid,
        archive=archive,
        state=VerificationState.FETCHING,
        attempts=0,
        counts={},
        actor=actor,
        started_at=now or datetime.now(UTC),
    )
    session.add(row)
    session.flush()
    return row


def verification_of(session: Session, number: int) -> Verification:
    """The verification with this number; NotFound without it."""
    row = session.get(Verification, number)
    if row is None:
        raise NotFound(f"there is no verification {number} in the database")
    return row


def hand_over(session: Session, number: int, path: str) -> None:
    """What was fetched lies in `path` (relative to the store's root), for the role that decodes."""
    row = verification_of(session, number)
    if row.state is VerificationState.FETCHING:
        row.state, row.path = VerificationState.COMPARING, path


def begin_comparison(session: Session, number: int) -> int:
    """Count an attempt, to be committed before anything is decoded; says which one it is, from 1."""
    row = verification_of(session, number)
    row.attempts += 1
    return row.attempts


def finish_verification(
    session: Session,
    number: int,
    *,
    differs: bool,
    counts: Mapping[str, int],
    named: Mapping[str, Sequence[str]],
    notes: Sequence[str] = (),
    now: datetime | None = None,
) -> Verification:
    """Keep the result; what differs is a security event. A finished verification stays as it is.

    `named`: the UIDs in each state that is not harmless; `notes`: what the comparison says beside; no patient data.
    """
    row = verification_of(session, number)
    if row.state not in UNFINISHED:
        return row
    row.state = VerificationState.DIFFERS if differs else VerificationState.SAME
    row.counts, row.path, row.finished_at = dict(counts), None, now or datetime.now(UTC)
    append(session, [verification_event(row.study_uid, row.archive, row.actor, differs, counts, named, notes)])
    return row


def fail_verification(session: Session, number: int, failure: str, *, now: datetime | None = None) -> Verification:
    """No answer, and why; nothing is known about the study."""
    row = verification_of(session, number)
    if row.state not in UNFINISHED:
        return row
    row.state, row.failure, row.path = VerificationState.FAILED, failure, None
    row.finished_at = now or datetime.now(UTC)
    append(
        session,
        [
            AuditEvent(
                AuditEventType.VERIFICATION_FAILED,
                row.actor,
                AuditOutcome.MINOR_FAILURE,
                study_uid=row.study_uid,
                subject=row.archive,
                details={"reason": failure},
            )
        ],
    )
    return row


def verification_event(
    study_uid: str | None,
    where: str,
    actor: str,
    differs: bool,
    counts: Mapping[str, int],
    named: Mapping[str, Sequence[str]],
    notes: Sequence[str] = (),
) -> AuditEvent:
    """The ledger's record of one comparison; `where`: the archive's name, or `files`."""
    details: dict[str, Detail] = {"counts": dict(counts)}
    for state, uids in named.items():
        if uids:
            details[state] = list(uids[:_NAMED])
    if notes:
        details["notes"] = list(notes[:_NAMED])
    return AuditEvent(
        AuditEventType.VERIFICATION_DIFFERS if differs else AuditEventType.VERIFICATION_PASSED,
        actor,
        AuditOutcome.SERIOUS_FAILURE if differs else AuditOutcome.SUCCESS,
        study_uid=study_uid,
        subject=where,
        details=details,
    )


def eligible_studies(session: Session) -> int:
    """How many studies can be verified now."""
    return session.scalar(select(func.count()).select_from(_eligible().subquery())) or 0


def eligible_study(session: Session, offset: int) -> str | None:
    """The study at a place of the list of those that can be verified; for a random choice."""
    return session.scalar(_eligible().order_by(Study.study_uid).offset(offset).limit(1))


def oldest_verified(session: Session, archive: str, *, not_tried_since: datetime, limit: int = 1) -> Sequence[str]:
    """Studies in the order of their last answered verification, never verified ones first.

    Those whose last try began after `not_tried_since` are left out: an archive that fails is not asked for the same.
    """
    last = _last(archive)
    tried = exists().where(
        Verification.study_uid == Study.study_uid,
        Verification.archive == archive,
        Verification.started_at > not_tried_since,
    )
    query = (
        _eligible()
        .outerjoin(last, last.c.study_uid == Study.study_uid)
        .where(~tried)
        .order_by(last.c.finished.is_not(None), last.c.finished, Study.first_instance_at, Study.study_uid)
        .limit(limit)
    )
    return session.scalars(query).all()


def studies_to_sweep(session: Session, archive: str, since: datetime) -> Sequence[str]:
    """Every study without an answer after `since`, the oldest first: what is left of a full sweep."""
    answered = exists().where(
        Verification.study_uid == Study.study_uid,
        Verification.archive == archive,
        Verification.state.in_(ANSWERED),
        Verification.finished_at >= since,
    )
    return session.scalars(_eligible().where(~answered).order_by(Study.first_instance_at, Study.study_uid)).all()


def coverage(session: Session, archive: str, window: timedelta, *, now: datetime | None = None) -> Coverage:
    """The share of all studies with a root that was verified within `window`."""
    moment = now or datetime.now(UTC)
    last = _last(archive)
    recent = select(func.count()).select_from(last).where(last.c.finished >= moment - window)
    differs = (
        select(func.count())
        .select_from(Verification)
        .join(
            last,
            and_(Verification.study_uid == last.c.study_uid, Verification.finished_at == last.c.finished),
        )
        .where(Verification.archive == archive, Verification.state == VerificationState.DIFFERS)
    )
    studies = first_seen_studies(session)
    ever = session.scalar(select(func.count()).select_from(last)) or 0
    oldest = session.scalar(select(func.min(last.c.finished)).select_from(last)) if ever >= studies else None
    return Coverage(studies, session.scalar(recent) or 0, session.scalar(differs) or 0, oldest)


def abandoned(session: Session, before: datetime) -> Sequence[Verification]:
    """Verifications that began before a moment and never ended: their process died."""
    query = select(Verification).where(Verification.state.in_(UNFINISHED), Verification.started_at < before)
    return session.scalars(query).all()


def waiting(session: Session) -> Sequence[Verification]:
    """Fetched studies that wait for their comparison, the oldest first."""
    query = select(Verification).where(Verification.state == VerificationState.COMPARING)
    return session.scalars(query.order_by(Verification.id)).all()


def last_verification(session: Session, study_uid: str) -> Verification | None:
    """The study's last answered verification."""
    query = select(Verification).where(Verification.study_uid == study_uid, Verification.state.in_(ANSWERED))
    return session.scalar(query.order_by(Verification.finished_at.desc()).limit(1))


def evidence_in(session: Session, study_uid: str, archive: str | None) -> dict[str, tuple[Evidence, bool]]:
    """Our evidence objects of a study by UID, and whether `archive` has confirmed that it holds them."""
    query = (
        select(Evidence, Delivery.destination, Delivery.state)
        .join(Analysis, Evidence.analysis_id == Analysis.id)
        .join(Revision, Analysis.revision_id == Revision.id)
        .outerjoin(Delivery, Delivery.evidence_id == Evidence.id)
        .where(Revision.study_uid == study_uid)
    )
    found: dict[str, tuple[Evidence, bool]] = {}
    for evidence, destination, state in session.execute(query):
        delivered = archive is not None and destination == archive and state is DeliveryState.DELIVERED
        uid = evidence.sop_instance_uid
        found[uid] = (evidence, delivered or (uid in found and found[uid][1]))
    return found


def _eligible() -> Select[str]:
    """Studies with a root that nothing is being done with: what is still arriving cannot be compared."""
    busy = exists().where(Revision.study_uid == Study.study_uid, Revision.state.not_in(_AT_REST))
    rooted = exists().where(Root.study_uid == Study.study_uid, Root.series_uid == STUDY)
    return select(Study.study_uid).where(rooted, ~busy)


def _last(archive: str) -> Subquery:
    return (
        select(Verification.study_uid, func.max(Verification.finished_at).label("finished"))
        .where(Verification.archive == archive, Verification.state.in_(ANSWERED))
        .group_by(Verification.study_uid)
        .subquery()
    )
