"""What each instance was when it was first analysed, and one root over them for each series and study at each revision.

A row of `first_seen` is written once. Its leaf is SHA-256 over its UIDs and digests; a series' root is SHA-256 over its
leaves in the order of their UIDs, a study's over its series' roots in the order of theirs, each with the count. The
roots of every revision stand in the ledger too, so rows that somebody rewrote, added or removed do not fit any more.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from storage.audit.events import AuditEvent, AuditEventType, Detail, role_actor
from storage.audit.ledger import append
from storage.errors import NotFound
from storage.studies import revision_of
from storage.tables import (
    FirstSeen,
    Instance,
    InstanceKind,
    InstanceState,
    LedgerRow,
    Revision,
    Root,
    Study,
)

STUDY = ""
_ANALYSE = role_actor("analyse")
_FIRST_COPY = (InstanceState.STORED, InstanceState.EXPIRED)
_ARRIVALS = (AuditEventType.INSTANCE_STORED.value, AuditEventType.INSTANCE_CONTESTED.value)


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of one instance from when it was first seen."""

    sop_instance_uid: str
    sop_class_uid: str
    study_uid: str
    series_uid: str
    transfer_syntax: str
    file_sha256: str
    """Of the Part 10 file as we write it: `gateway.dicom.part10.file_meta`, then the data set as received."""
    pixel_sha256: str | None
    attributes: Mapping[str, str]
    """Digest by group; empty while no revision with the instance was analysed."""
    path: str | None
    """Our copy, relative to the store's root; None when it was deleted for its age."""
    others: Mapping[str, InstanceState]
    """File digests of further copies under this UID, and what they were found to be."""


class Standing(StrEnum):
    """How the rows of `first_seen` stand to the ledger."""

    PROVED = "proved"  # they give the roots that the ledger holds, and the digests that it holds for each arrival
    CONTRADICTED = "contradicted"  # they do not: somebody changed the database
    UNPROVED = "unproved"  # the ledger holds nothing about this study


@dataclass(frozen=True, slots=True)
class FirstSeenStudy:
    """All that is known of a study."""

    study_uid: str
    instances: Mapping[str, Seen]
    """By SOP Instance UID; our own evidence objects are not among them."""
    standing: Standing
    contradictions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Roots:
    """Counts and roots of a study at a revision."""

    instances: int
    root: str
    series: Mapping[str, tuple[int, str]]


def record_first_seen(
    session: Session,
    revision_id: int,
    taken: Mapping[int, Mapping[str, str]],
    *,
    actor: str = _ANALYSE,
    now: datetime | None = None,
) -> Roots:
    """Write the digests of the revision's instances and its roots, into their tables and the ledger. Repeatable.

    `taken`: digests of attributes by the instance's number in the database; pixel digests stand in its row already.
    """
    revision, moment = revision_of(session, revision_id), now or datetime.now(UTC)
    known = select(FirstSeen.sop_instance_uid).where(FirstSeen.study_uid == revision.study_uid)
    held = (
        select(Instance, Revision.number)
        .join(Revision, Instance.revision_id == Revision.id)
        .where(
            Instance.study_uid == revision.study_uid,
            Revision.number <= revision.number,
            Instance.state.in_(_FIRST_COPY),
            Instance.kind != InstanceKind.EVIDENCE,
            Instance.sop_instance_uid.not_in(known),
        )
        .order_by(Instance.id)
    )
    new: dict[str, dict[str, object]] = {}
    for instance, number in session.execute(held):
        new.setdefault(
            instance.sop_instance_uid,
            {
                "sop_instance_uid": instance.sop_instance_uid,
                "sop_class_uid": instance.sop_class_uid,
                "study_uid": instance.study_uid,
                "series_uid": instance.series_uid,
                "transfer_syntax": instance.transfer_syntax,
                "revision": number,
                "file_sha256": instance.file_sha256,
                "pixel_sha256": instance.pixel_sha256,
                "attributes": dict(taken.get(instance.id, {})),
                "recorded_at": moment,
            },
        )
    if new:
        elsewhere = session.scalars(select(FirstSeen.sop_instance_uid).where(FirstSeen.sop_instance_uid.in_(new)))
        for uid in elsewhere.all():  # the UID belongs to another study: the copy there came first
            del new[uid]
    if new:
        session.execute(insert(FirstSeen), list(new.values()))
    roots = _roots(_rows(session, revision.study_uid, revision.number))
    if session.get(Root, (revision.study_uid, revision.number, STUDY)) is None:
        _write_roots(session, revision.study_uid, revision.number, roots, actor)
    return roots


def recorded_uids(session: Session, study_uid: str) -> set[str]:
    """Instances of a study whose digests are written down already."""
    return set(session.scalars(select(FirstSeen.sop_instance_uid).where(FirstSeen.study_uid == study_uid)))


def first_seen(session: Session, study_uid: str) -> FirstSeenStudy:
    """What is known of a study, and whether the ledger says the same. NotFound when nothing of it was received."""
    if session.get(Study, study_uid) is None:
        raise NotFound(f"no instance of study {study_uid} was received; `scanwarden status` lists what was")
    rows = {row.sop_instance_uid: row for row in _rows(session, study_uid)}
    query = select(Instance).where(Instance.study_uid == study_uid, Instance.kind != InstanceKind.EVIDENCE)
    copies: dict[str, list[Instance]] = {}
    for instance in session.scalars(query.order_by(Instance.id)):
        copies.setdefault(instance.sop_instance_uid, []).append(instance)
    instances = {}
    for uid in {*rows, *copies}:
        seen = _seen(rows.get(uid), copies.get(uid, []))
        if seen is not None:
            instances[uid] = seen
    contradictions, proved = _against_ledger(session, study_uid, list(rows.values()), instances)
    standing = Standing.CONTRADICTED if contradictions else Standing.PROVED if proved else Standing.UNPROVED
    return FirstSeenStudy(study_uid, instances, standing, tuple(contradictions))


def study_of(session: Session, sop_instance_uid: str) -> str | None:
    """The study that an instance was first seen in."""
    found = session.scalar(select(FirstSeen.study_uid).where(FirstSeen.sop_instance_uid == sop_instance_uid))
    if found is not None:
        return found
    query = select(Instance.study_uid).where(
        Instance.sop_instance_uid == sop_instance_uid, Instance.kind != InstanceKind.EVIDENCE
    )
    return session.scalar(query.order_by(Instance.id).limit(1))


def latest_root(session: Session, study_uid: str) -> Root | None:
    """Count and root of the study at its last revision; None before the first one was analysed."""
    query = select(Root).where(Root.study_uid == study_uid, Root.series_uid == STUDY)
    return session.scalar(query.order_by(Root.revision.desc()).limit(1))


def leaf(row: FirstSeen) -> str:
    """SHA-256 of one instance's UIDs and digests."""
    facts = {
        "attributes": dict(row.attributes),
        "file_sha256": row.file_sha256,
        "pixel_sha256": row.pixel_sha256,
        "series_uid": row.series_uid,
        "sop_class_uid": row.sop_class_uid,
        "sop_instance_uid": row.sop_instance_uid,
        "study_uid": row.study_uid,
        "transfer_syntax": row.transfer_syntax,
    }
    return _hash("instance", json.dumps(facts, sort_keys=True, separators=(",", ":")))


def _rows(session: Session, study_uid: str, revision: int | None = None) -> Sequence[FirstSeen]:
    query = select(FirstSeen).where(FirstSeen.study_uid == study_uid).order_by(FirstSeen.sop_instance_uid)
    if revision is not None:
        query = query.where(FirstSeen.revision <= revision)
    return session.scalars(query).all()


def _roots(rows: Iterable[FirstSeen]) -> Roots:
    leaves: dict[str, list[str]] = {}
    for row in sorted(rows, key=lambda row: row.sop_instance_uid):
        leaves.setdefault(row.series_uid, []).append(leaf(row))
    series = {uid: (len(of), _hash("series", uid, str(len(of)), *of)) for uid, of in sorted(leaves.items())}
    count = sum(number for number, _ in series.values())
    return Roots(count, _hash("study", str(count), *(f"{uid} {root}" for uid, (_, root) in series.items())), series)


def _hash(kind: str, *lines: str) -> str:
    return sha256("\n".join(("scanwarden 1", kind, *lines)).encode()).hexdigest()


def _write_roots(session: Session, study_uid: str, revision: int, roots: Roots, actor: str) -> None:
    session.execute(
        insert(Root),
        [
            {"study_uid": study_uid, "revision": revision, "series_uid": uid, "instances": count, "root": root}
            for uid, (count, root) in {STUDY: (roots.instances, roots.root), **roots.series}.items()
        ],
    )
    details: dict[str, Detail] = {
        "revision": revision,
        "instances": roots.instances,
        "root": roots.root,
        "series": {uid: root for uid, (_, root) in roots.series.items()},
        "series_instances": {uid: count for uid, (count, _) in roots.series.items()},
    }
    append(session, [AuditEvent(AuditEventType.DIGESTS_RECORDED, actor, study_uid=study_uid, details=details)])


def _seen(row: FirstSeen | None, copies: Sequence[Instance]) -> Seen | None:
    first = next((each for each in copies if each.state is InstanceState.STORED), None)
    first = first or next((each for each in copies if each.state is InstanceState.EXPIRED), None)
    facts = row or first
    if facts is None:
        return None
    same = [each for each in copies if each.file_sha256 == facts.file_sha256]
    kept = next((each for each in same if each.state is not InstanceState.EXPIRED), None)
    return Seen(
        facts.sop_instance_uid,
        facts.sop_class_uid,
        facts.study_uid,
        facts.series_uid,
        facts.transfer_syntax,
        facts.file_sha256,
        facts.pixel_sha256,
        dict(row.attributes) if row is not None else {},
        kept.path if kept is not None else None,
        {each.file_sha256: each.state for each in copies if each.file_sha256 != facts.file_sha256},
    )


def _against_ledger(
    session: Session, study_uid: str, rows: Sequence[FirstSeen], instances: Mapping[str, Seen]
) -> tuple[list[str], bool]:
    """What the database says and the ledger does not; and whether the ledger says anything."""
    query = select(LedgerRow.event, LedgerRow.subject, LedgerRow.details).where(LedgerRow.study_uid == study_uid)
    wanted = (*_ARRIVALS, AuditEventType.DIGESTS_RECORDED.value)
    arrived: dict[str, set[str]] = {}
    recorded: dict[int, tuple[int, str]] = {}
    for event, subject, text in session.execute(query.where(LedgerRow.event.in_(wanted)).order_by(LedgerRow.seq)):
        details = json.loads(text)
        if event == AuditEventType.DIGESTS_RECORDED:
            recorded[int(details["revision"])] = (int(details["instances"]), str(details["root"]))
        elif subject is not None:
            arrived.setdefault(subject, set()).add(str(details["file_sha256"]))
    # Old records may be sealed away; until then the ledger knows of everything that was ever received.
    complete = session.scalar(select(func.min(LedgerRow.seq))) == 1
    found = []
    for number, expected in sorted(recorded.items()):
        roots = _roots(row for row in rows if row.revision <= number)
        if (roots.instances, roots.root) != expected:
            found.append(
                f"revision {number}: the first-seen digests of {roots.instances} instances do not give the root that "
                f"the ledger holds for {expected[0]}"
            )
    last = max(recorded, default=0)
    extra = sum(row.revision > last for row in rows)
    if extra and (recorded or complete):
        found.append(f"{extra} first-seen digests belong to no revision that the ledger knows")
    if complete:
        never = sorted(set(instances) - set(arrived))
        found += [f"instance {uid} stands in the database and never arrived" for uid in never]
    if arrived:
        wrong = [uid for uid, seen in instances.items() if uid in arrived and seen.file_sha256 not in arrived[uid]]
        found += [f"instance {uid}: its file digest is not the one that arrived" for uid in sorted(wrong)]
        lost = sorted(set(arrived) - set(instances) - _known_otherwise(session, study_uid))
        found += [f"instance {uid} arrived, and the database does not know it" for uid in lost]
    return found, bool(recorded or arrived)


def _known_otherwise(session: Session, study_uid: str) -> set[str]:
    """UIDs in a study that are no first copies: our own evidence objects, and copies of another study's instance."""
    return set(session.scalars(select(Instance.sop_instance_uid).where(Instance.study_uid == study_uid)))


def first_seen_studies(session: Session) -> int:
    """How many studies have a root: what coverage is a share of."""
    query = select(func.count(func.distinct(Root.study_uid))).where(Root.series_uid == STUDY)
    return session.scalar(query) or 0
