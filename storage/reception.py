"""From a durable file to an indexed instance: duplicates, the open revision and the audit event, all or nothing.

`record_instances` takes any number of arrivals and needs the same few statements for all of them, so that a receiver
can commit what arrives together in one fsync'd transaction.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from storage.audit.events import AuditEvent, AuditEventType, peer_actor
from storage.audit.ledger import append
from storage.direct import Direct, Statement, direct, inserting
from storage.errors import InstanceRefused, StoreFault
from storage.instances import InstanceStore, StoredFile
from storage.tables import InstanceKind, InstanceState, Priority, RevisionState

_COPIES = "SELECT sop_instance_uid, file_sha256, id, state FROM instances WHERE sop_instance_uid IN ({})"
_LATEST = """SELECT s.study_uid, r.id, r.number, r.state
FROM studies s LEFT JOIN revisions r ON r.study_uid = s.study_uid
    AND r.number = (SELECT max(o.number) FROM revisions o WHERE o.study_uid = s.study_uid)
WHERE s.study_uid IN ({})"""
_EVIDENCE = "SELECT sop_instance_uid, sop_class_uid FROM evidence WHERE sop_instance_uid IN ({})"
_COLUMNS = (
    "sop_instance_uid",
    "sop_class_uid",
    "study_uid",
    "series_uid",
    "transfer_syntax",
    "kind",
    "state",
    "path",
    "size",
    "file_sha256",
    "source_ae",
    "source_address",
    "received_at",
)
_NEW_COPY = inserting("instances", (*_COLUMNS, "repeats"))
_REPEATED = Statement("UPDATE instances SET repeats = repeats + :repeats WHERE id = :id")
_RETURNED = Statement(
    f"UPDATE instances SET {', '.join(f'{column} = :{column}' for column in _COLUMNS)},"  # noqa: S608 - names of ours
    " repeats = repeats + :repeats, revision_id = NULL WHERE id = :id"
)
_NEW_STUDY = inserting("studies", ("study_uid", "accession_digest", "first_instance_at"))
_NEW_REVISION = inserting(
    "revisions",
    (
        "study_uid",
        "number",
        "predecessor_id",
        "state",
        "priority",
        "expected_instances",
        "attempts",
        "runs",
        "opened_at",
        "last_instance_at",
    ),
)
_CONTINUED = Statement(
    "UPDATE revisions SET"
    " last_instance_at = CASE WHEN last_instance_at < :last THEN :last ELSE last_instance_at END,"
    " priority = coalesce(:priority, priority), expected_instances = coalesce(:expected, expected_instances)"
    " WHERE id = :id"
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
        for (name, longest), value in zip(_LONGEST.items(), _texts(self), strict=True):
            if not (1 <= len(value) <= longest and value.isascii() and value.isprintable()):
                raise InstanceRefused(
                    f"{name} has to be 1 to {longest} printable ASCII characters, it has {len(value)}; "
                    "the sender has to correct the instance"
                )


_LONGEST = {
    "sop_instance_uid": 64,
    "sop_class_uid": 64,
    "study_uid": 64,
    "series_uid": 64,
    "transfer_syntax": 64,
    "source_ae": 16,
    "source_address": 64,
}
_texts = attrgetter(*_LONGEST)


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


def record_instance(session: Session | Direct, stored: StoredFile, facts: InstanceFacts) -> Outcome:
    """`record_instances` for one arrival."""
    return record_instances(session, [(stored, facts)])[0]


def record_instances(session: Session | Direct, arrivals: Sequence[tuple[StoredFile, InstanceFacts]]) -> list[Outcome]:
    """Index durable files in the caller's `Database.transaction` or `direct`; acknowledge them after it has committed.

    The first copy of a UID is stored. The same bytes again are counted. Other bytes under the same UID are kept as
    contested until the analyse role has compared the pixels (promise 4). Stored and contested instances belong to their
    study's open revision, which is opened when there is none; evidence objects that come back open no revision.

    When the transaction fails, answer with a failure and leave the files: a commit whose answer was lost may have named
    them. `sweeping` removes those that no row names.
    """
    own = direct(session)
    copies, latest = _known(own, arrivals)
    ours = _evidence_uids(own, arrivals)
    outcomes, events, active, growing = [], [], dict[str, list[InstanceFacts]](), set[str]()
    for stored, facts in arrivals:
        if not os.path.exists(stored.path):  # noqa: PTH110 - every instance comes by here
            raise StoreFault(f"{stored.path} is gone before it was indexed; ask the sender to send it again")
        kind = InstanceKind.EVIDENCE if facts.sop_instance_uid in ours else facts.kind
        disposition = _place(copies.setdefault(facts.sop_instance_uid, {}), stored, facts, kind)
        active.setdefault(facts.study_uid, []).append(facts)
        if disposition is not Disposition.REPEAT and kind is not InstanceKind.EVIDENCE:
            growing.add(facts.study_uid)
        outcomes.append(Outcome(disposition, stored, kind))
        events.append(_event(stored, facts, disposition))
    _open_revisions(own, latest, active, growing)
    _write_copies(own, [copy for of_uid in copies.values() for copy in of_uid.values()])
    append(own, events)
    return outcomes


@dataclass(slots=True)
class _Copy:
    """One copy of a UID: in the database when it has an `id`, to be written when it has a `row`."""

    id: int | None = None
    expired: bool = False
    row: dict[str, Any] | None = None
    repeats: int = 0


class _Latest(NamedTuple):
    """A study's newest revision; without one, where only evidence of ours has come back."""

    id: int | None
    number: int | None
    state: str | None


_NONE = _Latest(None, None, None)


def _known(
    own: Direct, arrivals: Sequence[tuple[StoredFile, InstanceFacts]]
) -> tuple[dict[str, dict[str, _Copy]], dict[str, _Latest]]:
    """The copies of each UID by file digest, and the newest revision of each study that is known."""
    copies = own.ask(*_among(_COPIES, {facts.sop_instance_uid for _, facts in arrivals}))
    revisions = own.ask(*_among(_LATEST, {facts.study_uid for _, facts in arrivals}))
    known: dict[str, dict[str, _Copy]] = {}
    for uid, digest, identifier, state in copies:
        known.setdefault(uid, {})[digest] = _Copy(identifier, expired=state == InstanceState.EXPIRED)
    return known, {study: _Latest(*latest) for study, *latest in revisions}


def _among(query: str, uids: Iterable[str]) -> tuple[Statement, dict[str, str]]:
    parameters = {f"uid{number}": uid for number, uid in enumerate(uids)}
    return _with_places(query, len(parameters)), parameters


@lru_cache(maxsize=256)
def _with_places(query: str, count: int) -> Statement:
    return Statement(query.format(", ".join(f":uid{number}" for number in range(count))))


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


def _write_copies(own: Direct, copies: Sequence[_Copy]) -> None:
    new, returned, repeated = [], [], []
    for copy in copies:
        if copy.row is None:
            if copy.repeats:
                repeated.append({"id": copy.id, "repeats": copy.repeats})
            continue
        row = copy.row
        row["repeats"], row["received_at"] = copy.repeats, own.moment(row["received_at"])
        if copy.id is None:
            new.append(row)
        else:
            row["id"] = copy.id
            returned.append(row)
    own.run(_NEW_COPY, new)
    own.run(_RETURNED, returned)
    own.run(_REPEATED, repeated)


def _evidence_uids(own: Direct, arrivals: Sequence[tuple[StoredFile, InstanceFacts]]) -> set[str]:
    candidates = {f.sop_instance_uid: f.sop_class_uid for _, f in arrivals if f.sop_instance_uid.startswith(_OUR_UIDS)}
    if not candidates:
        return set()
    found = own.ask(*_among(_EVIDENCE, candidates))
    # The class too: an image that borrows the UID of a report must not escape its analysis.
    return {uid for uid, sop_class in found if candidates[uid] == sop_class}


def _open_revisions(
    own: Direct, latest: dict[str, _Latest], active: dict[str, list[InstanceFacts]], growing: set[str]
) -> None:
    """Open a revision for every study in `growing` that has none, and note the activity on those that are open.

    A repeat alone opens nothing, but it does keep an open revision from being called quiet.
    """
    studies, opened, continued = [], [], []
    for study_uid, facts in active.items():
        first, last = min(f.received_at for f in facts), max(f.received_at for f in facts)
        if study_uid not in latest:
            accession = next((f.accession_digest for f in facts if f.accession_digest), None)
            moment = own.moment(first)
            studies.append({"study_uid": study_uid, "accession_digest": accession, "first_instance_at": moment})
        revision = latest.get(study_uid, _NONE)
        stat = any(f.priority is Priority.STAT for f in facts)
        expected = max((f.expected_instances for f in facts if f.expected_instances), default=None)
        if revision.state == RevisionState.OPEN:
            priority = Priority.STAT.value if stat else None
            continued.append({"id": revision.id, "last": own.moment(last), "priority": priority, "expected": expected})
        elif study_uid in growing:
            opened.append(
                {
                    "study_uid": study_uid,
                    "number": (revision.number or 0) + 1,
                    "predecessor_id": revision.id,
                    "state": RevisionState.OPEN.value,
                    "priority": (Priority.STAT if stat else Priority.ROUTINE).value,
                    "expected_instances": expected,
                    "attempts": 0,
                    "runs": 0,
                    "opened_at": own.moment(first),
                    "last_instance_at": own.moment(last),
                }
            )
    own.run(_NEW_STUDY, studies)
    own.run(_NEW_REVISION, opened)
    own.run(_CONTINUED, continued)


def _row(stored: StoredFile, facts: InstanceFacts, kind: InstanceKind, state: InstanceState) -> dict[str, Any]:
    return {
        "sop_instance_uid": facts.sop_instance_uid,
        "sop_class_uid": facts.sop_class_uid,
        "study_uid": facts.study_uid,
        "series_uid": facts.series_uid,
        "transfer_syntax": facts.transfer_syntax,
        "kind": kind.value,
        "state": state.value,
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
