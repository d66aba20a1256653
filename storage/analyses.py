"""An analysis and what it leaves: attempts, digests, decided copies, the verdict, evidence objects (promises 2, 4).

The analyse role calls these, each in a transaction of its own; every one of them may be called again after a crash.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import bindparam, case, delete, select, update
from sqlalchemy.orm import Session

from storage.audit.events import AuditEventType, AuditOutcome, Detail, role_actor
from storage.errors import NotFound
from storage.studies import note, revision_of
from storage.tables import Analysis, AnalysisState, Evidence, Instance, InstanceState, Revision, RevisionState

_ANALYSE = role_actor("analyse")
_MOST_UIDS = 20  # in one record


@dataclass(frozen=True, slots=True)
class NewIncident:
    """An observation that the security team has to hear of; `text` names UIDs and numbers, never a patient."""

    rule: str
    text: str
    sop_instance_uids: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class NewAnalysis:
    """The result of one run; `path` is the folder that `InstanceStore.draft("analyses", …)` kept, relative."""

    verdict: str
    score: float | None
    reasons: Sequence[str]
    findings: int
    path: str | None
    seconds: float
    incidents: Sequence[NewIncident] = ()
    generated: Sequence[str] = ()
    """Series whose whole images look generated, by UID."""


@dataclass(frozen=True, slots=True)
class NewEvidence:
    """One evidence object on disk; `path` is relative to the store's root."""

    profile: str
    kind: str
    sop_instance_uid: str
    sop_class_uid: str
    series_uid: str
    path: str
    size: int
    file_sha256: str
    corrected: Sequence[str] = ()
    """Attributes of the source's header that break the standard and are not copied as they stand."""


def begin_analysis(
    session: Session, revision_id: int, model_set: str, *, now: datetime | None = None, actor: str = _ANALYSE
) -> int:
    """Count an attempt, and say which one it is, from 1.

    To be committed before anything is decoded: an input that takes its process down is then known after the restart,
    and not tried for ever.
    """
    revision = revision_of(session, revision_id)
    revision.attempts += 1
    analysis = _analysis(session, revision_id, model_set)
    if analysis is None:
        session.add(
            Analysis(
                revision_id=revision_id,
                model_set=model_set,
                state=AnalysisState.RUNNING,
                reasons=[],
                findings=0,
                started_at=now or datetime.now(UTC),
            )
        )
    elif analysis.state is not AnalysisState.DONE:
        analysis.state, analysis.started_at = AnalysisState.RUNNING, now or datetime.now(UTC)
    note(
        session,
        revision,
        AuditEventType.ANALYSIS_STARTED,
        actor=actor,
        details={"model_set": model_set, "attempt": revision.attempts},
    )
    return revision.attempts


def record_pixel_digests(session: Session, digests: Mapping[int, str]) -> None:
    """Keep the pixel digest of instances, by the instance's number in the database. A digest once taken stays."""
    if not digests:
        return
    statement = (
        update(Instance)
        .where(Instance.id == bindparam("instance"), Instance.pixel_sha256.is_(None))
        .values(pixel_sha256=bindparam("digest"))
    )
    rows = [{"instance": instance, "digest": digest} for instance, digest in digests.items()]
    session.connection().execute(statement, rows)


def stored_copy(session: Session, sop_instance_uid: str) -> Instance:
    """The copy that came first: what a contested one is compared with. Expired, it has its digests and no file."""
    first = (InstanceState.STORED, InstanceState.EXPIRED)
    query = select(Instance).where(Instance.sop_instance_uid == sop_instance_uid, Instance.state.in_(first))
    held_first = case((Instance.state == InstanceState.STORED, 0), else_=1)
    instance = session.scalar(query.order_by(held_first, Instance.id).limit(1))
    if instance is None:
        raise NotFound(f"no stored instance has the UID {sop_instance_uid}")
    return instance


def decide_contested(
    session: Session,
    instance_id: int,
    *,
    same: bool,
    details: Mapping[str, Detail] | None = None,
    actor: str = _ANALYSE,
) -> InstanceState:
    """Settle a copy with other bytes: `same` pixels and geometry is a duplicate, anything else an incident.

    Compare content digests (storage.digests); when either cannot be taken, the copies are not the same. Both files
    stay. `details` go into the audit event, beside both file digests. A decided copy stays decided.
    """
    copy = session.get_one(Instance, instance_id)
    if copy.state is not InstanceState.CONTESTED:
        return copy.state
    first = stored_copy(session, copy.sop_instance_uid)
    copy.state = InstanceState.DUPLICATE if same else InstanceState.QUARANTINED
    revision = session.get_one(Revision, copy.revision_id)
    facts: dict[str, Detail] = {
        "first_file_sha256": first.file_sha256,
        "file_sha256": copy.file_sha256,
        "first_source": f"{first.source_ae}@{first.source_address}",
        "source": f"{copy.source_ae}@{copy.source_address}",
        **(details or {}),
    }
    note(
        session,
        revision,
        AuditEventType.INSTANCE_DUPLICATE if same else AuditEventType.INSTANCE_QUARANTINED,
        actor=actor,
        outcome=AuditOutcome.SUCCESS if same else AuditOutcome.SERIOUS_FAILURE,
        subject=copy.sop_instance_uid,
        details=facts,
    )
    return copy.state


def save_analysis(
    session: Session,
    revision_id: int,
    model_set: str,
    result: NewAnalysis,
    *,
    now: datetime | None = None,
    actor: str = _ANALYSE,
) -> Analysis:
    """Keep the verdict of a run. The first result of a revision and model set stays.

    When the row's `path` is not `result.path`, another run was faster: remove the own folder and go on with that one.
    """
    revision = revision_of(session, revision_id)
    analysis = _analysis(session, revision_id, model_set)
    if analysis is None:
        raise NotFound(f"revision {revision_id}: no analysis with model set {model_set} was begun; begin it first")
    if analysis.state is AnalysisState.DONE:
        return analysis
    analysis.state = AnalysisState.DONE
    analysis.verdict, analysis.score, analysis.reasons = result.verdict, result.score, list(result.reasons)
    analysis.findings, analysis.path, analysis.seconds = result.findings, result.path, result.seconds
    analysis.finished_at = now or datetime.now(UTC)
    if revision.state is RevisionState.CLOSED:
        revision.state = RevisionState.ANALYSED
    note(
        session,
        revision,
        AuditEventType.ANALYSIS_FINISHED,
        actor=actor,
        details={
            "model_set": model_set,
            "verdict": result.verdict,
            "score": result.score,
            "findings": result.findings,
            "reasons": list(result.reasons),
        }
        | ({"generated_series": list(result.generated[:_MOST_UIDS])} if result.generated else {}),
    )
    for incident in result.incidents:
        _note_incident(session, revision, incident, actor)
    return analysis


def pass_over(
    session: Session,
    revision_id: int,
    rules: Mapping[str, str],
    *,
    now: datetime | None = None,
    actor: str = _ANALYSE,
) -> None:
    """End a revision of which no series is to be analysed; `rules` names the rule for each of its series."""
    revision = revision_of(session, revision_id)
    if revision.state is not RevisionState.CLOSED:
        return
    begun = delete(Analysis).where(Analysis.revision_id == revision_id, Analysis.state == AnalysisState.RUNNING)
    session.execute(begun)
    revision.state, revision.finished_at = RevisionState.DONE, now or datetime.now(UTC)
    details: dict[str, Detail] = {"rules": sorted(set(rules.values())), "series": sorted(rules)}
    note(session, revision, AuditEventType.REVISION_PASSED_OVER, actor=actor, details=details)


def _note_incident(session: Session, revision: Revision, incident: NewIncident, actor: str) -> None:
    uids = list(incident.sop_instance_uids)
    note(
        session,
        revision,
        AuditEventType.INCIDENT_OBSERVED,
        actor=actor,
        outcome=AuditOutcome.SERIOUS_FAILURE,
        subject=uids[0] if len(uids) == 1 else None,
        details={
            "rule": incident.rule,
            "text": incident.text,
            "instances": len(uids),
            "sop_instance_uids": uids[:_MOST_UIDS],
        },
    )


def analysis_of(session: Session, revision_id: int, model_set: str | None = None) -> Analysis:
    """The finished analysis of a revision (with this model set, or the last one); NotFound without it."""
    query = select(Analysis).where(Analysis.revision_id == revision_id, Analysis.state == AnalysisState.DONE)
    if model_set is not None:
        query = query.where(Analysis.model_set == model_set)
    analysis = session.scalar(query.order_by(Analysis.id.desc()).limit(1))
    if analysis is None:
        raise NotFound(f"revision {revision_id} has no finished analysis")
    return analysis


def save_evidence(
    session: Session,
    analysis_id: int,
    objects: Sequence[NewEvidence],
    *,
    now: datetime | None = None,
    actor: str = _ANALYSE,
) -> list[Evidence]:
    """Keep evidence objects, in the order given. One whose UID is known is the earlier one, with the earlier file."""
    analysis = session.get_one(Analysis, analysis_id)
    revision = revision_of(session, analysis.revision_id)
    uids = [each.sop_instance_uid for each in objects]
    query = select(Evidence).where(Evidence.sop_instance_uid.in_(uids))
    known = {row.sop_instance_uid: row for row in session.scalars(query)}
    for each in objects:
        if each.sop_instance_uid in known:
            continue
        row = Evidence(
            analysis_id=analysis_id,
            profile=each.profile,
            kind=each.kind,
            sop_instance_uid=each.sop_instance_uid,
            sop_class_uid=each.sop_class_uid,
            series_uid=each.series_uid,
            path=each.path,
            size=each.size,
            file_sha256=each.file_sha256,
            created_at=now or datetime.now(UTC),
        )
        session.add(row)
        known[each.sop_instance_uid] = row
        note(
            session,
            revision,
            AuditEventType.EVIDENCE_CREATED,
            actor=actor,
            subject=each.sop_instance_uid,
            details={"kind": each.kind, "profile": each.profile, "file_sha256": each.file_sha256}
            | ({"corrected": list(each.corrected)} if each.corrected else {}),
        )
    if revision.state in (RevisionState.CLOSED, RevisionState.ANALYSED):
        revision.state = RevisionState.ENCODED
    session.flush()
    return [known[uid] for uid in uids]


def evidence_of(session: Session, revision_id: int) -> Sequence[Evidence]:
    """Every evidence object of a revision, in the order in which they were kept."""
    query = select(Evidence).join(Analysis).where(Analysis.revision_id == revision_id).order_by(Evidence.id)
    return session.scalars(query).all()


def predecessor_report(
    session: Session, revision_id: int, profile: str, kind: str = "SR"
) -> tuple[Evidence, Revision] | None:
    """The last report of this kind and dialect on an earlier revision of the study, and that revision."""
    revision = revision_of(session, revision_id)
    query = (
        select(Evidence, Revision)
        .join(Analysis, Evidence.analysis_id == Analysis.id)
        .join(Revision, Analysis.revision_id == Revision.id)
        .where(
            Revision.study_uid == revision.study_uid,
            Revision.number < revision.number,
            Evidence.kind == kind,
            Evidence.profile == profile,
        )
        .order_by(Revision.number.desc(), Evidence.id.desc())
        .limit(1)
    )
    found = session.execute(query).first()
    return found if found is None else (found[0], found[1])


def _analysis(session: Session, revision_id: int, model_set: str) -> Analysis | None:
    return session.scalar(select(Analysis).where(Analysis.revision_id == revision_id, Analysis.model_set == model_set))
