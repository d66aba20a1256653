"""Deletes files that are past their age. Digests, findings and the ledger stay: what arrived can still be proved.

Only of studies with nothing left to do, and never what an incident is about: contested and quarantined copies stay
until a person removes them. The row is changed first and the file goes after the commit; a crash between leaves a file
that no row claims, which `sweeping` removes.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from storage.audit.events import AuditEvent, AuditEventType, role_actor
from storage.audit.ledger import append
from storage.database import Database
from storage.instances import InstanceStore
from storage.tables import (
    Analysis,
    Delivery,
    DeliveryState,
    Evidence,
    Forward,
    ForwardState,
    Instance,
    InstanceState,
    Revision,
    RevisionState,
)

_BATCH = 200
_ACTOR = role_actor("timetable")
_AT_REST = (RevisionState.DONE, RevisionState.FAILED)
_ON_THE_WAY = (ForwardState.HELD, ForwardState.WAITING)


def expire_instances(store: InstanceStore, database: Database, age: timedelta, *, now: datetime | None = None) -> int:
    """Delete received files older than `age`, study by study; says how many. Their rows become EXPIRED."""
    before = (now or datetime.now(UTC)) - age
    return _in_batches(store, database, lambda session: _expire_instances(session, before))


def expire_evidence(store: InstanceStore, database: Database, age: timedelta, *, now: datetime | None = None) -> int:
    """Delete evidence objects older than `age` that have reached every destination; says how many."""
    moment = now or datetime.now(UTC)
    return _in_batches(store, database, lambda session: _expire_evidence(session, moment - age, moment))


def _in_batches(store: InstanceStore, database: Database, expire: Callable[[Session], list[str]]) -> int:
    total = 0
    while True:
        with database.transaction() as session:
            paths = expire(session)
        for path in paths:
            store.remove(path)
        if not paths:
            return total
        total += len(paths)


def _expire_instances(session: Session, before: datetime) -> list[str]:
    busy = exists().where(Revision.study_uid == Instance.study_uid, Revision.state.not_in(_AT_REST))
    to_be_passed_on = exists().where(Forward.instance_id == Instance.id, Forward.state.in_(_ON_THE_WAY))
    query = (
        select(Instance)
        .where(
            Instance.received_at < before,
            Instance.state.in_((InstanceState.STORED, InstanceState.DUPLICATE)),
            ~busy,
            ~to_be_passed_on,
        )
        .order_by(Instance.study_uid, Instance.id)
        .limit(_BATCH)
    )
    instances = session.scalars(query).all()
    studies: dict[str, int] = {}
    for instance in instances:
        instance.state = InstanceState.EXPIRED
        studies[instance.study_uid] = studies.get(instance.study_uid, 0) + 1
    append(
        session,
        [
            AuditEvent(AuditEventType.INSTANCES_DELETED, _ACTOR, study_uid=study, details={"count": count})
            for study, count in studies.items()
        ],
    )
    return [instance.path for instance in instances]


def _expire_evidence(session: Session, before: datetime, now: datetime) -> list[str]:
    undelivered = exists().where(Delivery.evidence_id == Evidence.id, Delivery.state != DeliveryState.DELIVERED)
    query = (
        select(Evidence, Revision.study_uid)
        .join(Analysis, Evidence.analysis_id == Analysis.id)
        .join(Revision, Analysis.revision_id == Revision.id)
        .where(
            Evidence.created_at < before,
            Evidence.expired_at.is_(None),
            Revision.state == RevisionState.DONE,
            ~undelivered,
        )
        .order_by(Evidence.id)
        .limit(_BATCH)
    )
    found = session.execute(query).all()
    for evidence, _ in found:
        evidence.expired_at = now
    append(
        session,
        [
            AuditEvent(
                AuditEventType.EVIDENCE_DELETED,
                _ACTOR,
                study_uid=study_uid,
                subject=evidence.sop_instance_uid,
                details={"kind": evidence.kind, "file_sha256": evidence.file_sha256},
            )
            for evidence, study_uid in found
        ],
    )
    return [evidence.path for evidence, _ in found]
