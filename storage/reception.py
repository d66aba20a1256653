"""From a durable file to an indexed instance: duplicates, the open revision and the audit event, all or nothing.

`record_instances` takes any number of arrivals and needs the same few statements for all of them, so that a receiver
can commit what arrives together in one fsync'd transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import and_, bindparam, func, insert, select, update
from sqlalchemy.orm import Session, aliased

from storage.audit.events import AuditEvent, AuditEventType, peer_actor
from storage.audit.ledger import append
from storage.errors import InstanceRefused, StoreFault
from storage.instances import InstanceStore, StoredFile
from storage.tables import Evidence, Instance, InstanceKind, InstanceState, Priority, Revision, RevisionState, Study

# Built once: the receive path executes them for every batch.
_COPIES = select(Instance.sop_instance_uid, Instance.file_sha256, Instance.id, Instance.state).where(
    Instance.sop_instance_uid.in_(bindparam("uids", expanding=True))
)
_Other = aliased(Revision)
_LATEST = select(func.max(_Other.number)).where(_Other.study_uid == Study.study_uid).correlate(Study).scalar_subquery()
_LATEST_REVISIONS = (
    select(Study.study_uid, Revision)
    .outerjoin(Revision, and_(Revision.study_uid == Study.study_uid, Revision.number == _LATEST))
    .where(Study.study_uid.in_(bindparam("studies", expanding=True)))
)
_OUR_UIDS = "2.25."  # root of the UIDs that we derive for evidence objects (PS3.5 B.2)


@dataclass(frozen=True, slots=True)
class InstanceFacts:
    """What a receiver knows of an instance, from the association and the data set's first elements."""

    sop_instance_uid: str
    sop_class_uid: str
    study_uid: str
    series_uid: str
    transfer_syntax: str
    source_ae: str
    source_address: str
    kind: InstanceKind = InstanceKind.IMAGE
    priority: Priority = Priority.ROUTINE
    expected_instances: int | None = None
    """Instances that the whole study has, where the sender says so."""
    accession_digest: str | None = None
    received_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        uids = ("sop_instance_uid", "sop_class_uid", "study_uid", "series_uid", "transfer_syntax")
        for name, longest in (*((uid, 64) for uid in uids), ("source_ae", 16), ("source_address", 64)):
            value = getattr(self, name)
            if not (1 <= len(value) <= longest and value.isascii() and value.isprintable()):
                raise InstanceRefused(
                    f"{name} has to be 1 to {longest} printable ASCII characters, it has {len(value)}; "
                    "the sender has to correct the instance"
                )


class Disposition(StrEnum):
    """What became of an arrival; each is acknowledged with success."""

    STORED = "stored"
    REPEAT = "repeat"  # these bytes under this UID are here already
    CONTESTED = "contested"  # other bytes under a UID that is here already: kept apart


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one arrival, valid once the transaction has committed."""

    disposition: Disposition
    stored: StoredFile
    kind: InstanceKind

    def settle(self, store: InstanceStore) -> None:
        """After the commit: remove the file of a repeat, which the index does not name."""
        if self.disposition is Disposition.REPEAT:
            store.remove(self.stored.relative)


def record_instance(session: Session, stored: StoredFile, facts: InstanceFacts) -> Outcome:
    """`record_instances` for one arrival."""
    return record_instances(session, [(stored, facts)])[0]


def record_instances(session: Session, arrivals: Sequence[tuple[StoredFile, InstanceFacts]]) -> list[Outcome]:
    """Index durable files in the caller's `Database.transaction`; acknowledge them after it has committed.

    The first copy of a UID is stored. The same bytes again are counted. Other bytes under the same UID are kept as
    contested until the analyse role has compared the pixels (promise 4). Stored and contested instances belong to their
    study's open revision, which is opened when there is none; evidence objects that come back open no revision.

    When the transaction fails, answer with a failure and leave the files: a commit whose answer was lost may have named
    them. `sweeping` removes those that no row names.
    """
    copies = _known_copies(session, arrivals)
    ours = _evidence_uids(session, arrivals)
    outcomes, events, active, growing = [], [], dict[str, list[InstanceFacts]](), set[str]()
    for stored, facts in arrivals:
        if not stored.path.exists():
            raise StoreFault(f"{stored.path} is gone before it was indexed; ask the sender to send it again")
        kind = InstanceKind.EVIDENCE if facts.sop_instance_uid in ours else facts.kind
        disposition = _place(copies.setdefault(facts.sop_instance_uid, {}), stored, facts, kind)
        active.setdefault(facts.study_uid, []).append(facts)
        if disposition is not Disposition.REPEAT and kind is not InstanceKind.EVIDENCE:
            growing.add(facts.study_uid)
        outcomes.append(Outcome(disposition, stored, kind))
        events.append(_event(stored, facts, disposition))
    _open_revisions(session, active, growing)
    _write_copies(session, [copy for of_uid in copies.values() for copy in of_uid.values()])
    append(session, events)
    return outcomes


@dataclass(slots=True)
class _Copy:
    """One copy of a UID: in the database when it has an `id`, to be written when it has a `row`."""

    id: int | None = None
    expired: bool = False
    row: dict[str, Any] | None = None
    repeats: int = 0


def _known_copies(
    session: Session, arrivals: Sequence[tuple[StoredFile, InstanceFacts]]
) -> dict[str, dict[str, _Copy]]:
    """The copies of each UID by file digest."""
    uids = {facts.sop_instance_uid for _, facts in arrivals}
    known: dict[str, dict[str, _Copy]] = {}
    for uid, digest, identifier, state in session.execute(_COPIES, {"uids": list(uids)}):
        known.setdefault(uid, {})[digest] = _Copy(identifier, expired=state is InstanceState.EXPIRED)
    return known


def _place(of_uid: dict[str, _Copy], stored: StoredFile, facts: InstanceFacts, kind: InstanceKind) -> Disposition:
    """Decide on an arrival by the copies of its UID, and note there what is to be written."""
    copy = of_uid.get(stored.sha256)
    if copy is not None and not copy.expired:
        copy.repeats += 1
        return Disposition.REPEAT
    if copy is None:
        alone = not of_uid
        copy = of_uid[stored.sha256] = _Copy()
    else:  # its file was deleted for its age: the new one takes the place
        alone = all(other.expired for other in of_uid.values())
        copy.expired = False
    disposition = Disposition.STORED if alone else Disposition.CONTESTED
    copy.row = _row(stored, facts, kind, InstanceState(disposition))
    return disposition


def _write_copies(session: Session, copies: Sequence[_Copy]) -> None:
    new = [copy.row | {"repeats": copy.repeats} for copy in copies if copy.id is None and copy.row is not None]
    if new:
        session.execute(insert(Instance), new)
    for copy in copies:
        if copy.id is not None and (copy.repeats or copy.row is not None):
            returned = {} if copy.row is None else copy.row | {"revision_id": None}
            change = update(Instance).where(Instance.id == copy.id)
            session.execute(change.values(repeats=Instance.repeats + copy.repeats, **returned))


def _evidence_uids(session: Session, arrivals: Sequence[tuple[StoredFile, InstanceFacts]]) -> set[str]:
    candidates = {f.sop_instance_uid: f.sop_class_uid for _, f in arrivals if f.sop_instance_uid.startswith(_OUR_UIDS)}
    if not candidates:
        return set()
    query = select(Evidence.sop_instance_uid, Evidence.sop_class_uid).where(Evidence.sop_instance_uid.in_(candidates))
    # The class too: an image that borrows the UID of a report must not escape its analysis.
    return {uid for uid, sop_class in session.execute(query) if candidates[uid] == sop_class}


def _open_revisions(session: Session, active: dict[str, list[InstanceFacts]], growing: set[str]) -> None:
    """Open a revision for every study in `growing` that has none, and note the activity on those that are open.

    A repeat alone opens nothing, but it does keep an open revision from being called quiet.
    """
    found: dict[str, Revision | None] = dict(session.execute(_LATEST_REVISIONS, {"studies": list(active)}).all())
    studies, revisions = [], []
    for study_uid, facts in active.items():
        first, last = min(f.received_at for f in facts), max(f.received_at for f in facts)
        if study_uid not in found:
            accession = next((f.accession_digest for f in facts if f.accession_digest), None)
            studies.append({"study_uid": study_uid, "accession_digest": accession, "first_instance_at": first})
        revision = found.get(study_uid)
        stat = any(f.priority is Priority.STAT for f in facts)
        expected = max((f.expected_instances for f in facts if f.expected_instances), default=None)
        if revision is not None and revision.state is RevisionState.OPEN:
            revision.last_instance_at = max(last, revision.last_instance_at)
            revision.priority = Priority.STAT if stat else revision.priority
            revision.expected_instances = expected or revision.expected_instances
        elif study_uid in growing:
            revisions.append(
                {
                    "study_uid": study_uid,
                    "number": revision.number + 1 if revision else 1,
                    "predecessor_id": revision.id if revision else None,
                    "state": RevisionState.OPEN,
                    "priority": Priority.STAT if stat else Priority.ROUTINE,
                    "expected_instances": expected,
                    "attempts": 0,
                    "runs": 0,
                    "opened_at": first,
                    "last_instance_at": last,
                }
            )
    if studies:
        session.execute(insert(Study), studies)
    if revisions:
        session.execute(insert(Revision), revisions)
    session.flush()


def _row(stored: StoredFile, facts: InstanceFacts, kind: InstanceKind, state: InstanceState) -> dict[str, Any]:
    return {
        "sop_instance_uid": facts.sop_instance_uid,
        "sop_class_uid": facts.sop_class_uid,
        "study_uid": facts.study_uid,
        "series_uid": facts.series_uid,
        "transfer_syntax": facts.transfer_syntax,
        "kind": kind,
        "state": state,
        "path": stored.relative,
        "size": stored.size,
        "file_sha256": stored.sha256,
        "source_ae": facts.source_ae,
        "source_address": facts.source_address,
        "received_at": facts.received_at,
    }


_EVENTS = {
    Disposition.STORED: AuditEventType.INSTANCE_STORED,
    Disposition.REPEAT: AuditEventType.INSTANCE_REPEATED,
    Disposition.CONTESTED: AuditEventType.INSTANCE_CONTESTED,
}


def _event(stored: StoredFile, facts: InstanceFacts, disposition: Disposition) -> AuditEvent:
    return AuditEvent(
        _EVENTS[disposition],
        actor=peer_actor(facts.source_ae, facts.source_address),
        study_uid=facts.study_uid,
        subject=facts.sop_instance_uid,
        details={
            "sop_class_uid": facts.sop_class_uid,
            "series_uid": facts.series_uid,
            "transfer_syntax": facts.transfer_syntax,
            "file_sha256": stored.sha256,
            "size": stored.size,
        },
        time=facts.received_at,
    )
