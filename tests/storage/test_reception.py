"""What arrives is indexed, counted or kept apart, in one transaction with its audit event."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from storage import (
    AuditEventType,
    Database,
    Disposition,
    InstanceKind,
    InstanceRefused,
    InstanceState,
    InstanceStore,
    Ledger,
    Priority,
    StoreFault,
    record_instances,
)
from storage.analyses import NewAnalysis, NewEvidence, begin_analysis, save_analysis, save_evidence
from storage.direct import Direct
from storage.studies import close_revision
from storage.tables import CloseReason, Instance, Revision, RevisionState, Study
from tests.storage.arrivals import SR, at, facts, files, keep, receive

REPOSITORY = Path(__file__).resolve().parents[2]


def instances(database: Database) -> list[Instance]:
    with database.reading() as session:
        return list(session.scalars(select(Instance).order_by(Instance.id)))


def revisions(database: Database) -> list[Revision]:
    with database.reading() as session:
        return list(session.scalars(select(Revision).order_by(Revision.id)))


def close(database: Database, number: int = 0) -> None:
    with database.transaction() as session:
        revision = session.scalars(select(Revision).order_by(Revision.id)).all()[number]
        close_revision(session, revision.id, CloseReason.QUIET, now=at(100))


def test_the_first_copy_is_stored_with_its_study_its_revision_and_its_event(
    store: InstanceStore, database: Database
) -> None:
    outcome = receive(store, database, "1.2.3", accession_digest="a" * 64)
    assert outcome.disposition is Disposition.STORED
    (instance,) = instances(database)
    assert (instance.state, instance.kind, instance.path) == (
        InstanceState.STORED,
        InstanceKind.IMAGE,
        outcome.stored.relative,
    )
    assert instance.file_sha256 == sha256(b"pixels").hexdigest()
    assert instance.revision_id is None
    (revision,) = revisions(database)
    assert (revision.number, revision.state, revision.opened_at) == (1, RevisionState.OPEN, at(0))
    with database.reading() as session:
        assert session.get_one(Study, "1.9").accession_digest == "a" * 64
    (record,) = Ledger(database).list()
    assert (record.event, record.actor, record.subject, record.study_uid) == (
        "instance-stored",
        "SCANNER@10.0.0.7",
        "1.2.3",
        "1.9",
    )


def test_the_same_bytes_again_are_counted_and_not_stored_twice(store: InstanceStore, database: Database) -> None:
    receive(store, database, "1.2.3")
    outcomes = [receive(store, database, "1.2.3", received_at=at(10 * n)).disposition for n in (1, 2)]
    assert outcomes == [Disposition.REPEAT] * 2
    (instance,) = instances(database)
    assert instance.repeats == 2
    assert len(files(store)) == 1
    assert [r.event for r in Ledger(database).list()] == ["instance-stored", "instance-repeated", "instance-repeated"]
    assert revisions(database)[0].last_instance_at == at(20), "its sender is still at it"


def test_other_bytes_under_the_same_uid_are_kept_apart(store: InstanceStore, database: Database) -> None:
    receive(store, database, "1.2.3")
    assert receive(store, database, "1.2.3", b"other pixels").disposition is Disposition.CONTESTED
    assert receive(store, database, "1.2.3", b"other pixels").disposition is Disposition.REPEAT
    assert [i.state for i in instances(database)] == [InstanceState.STORED, InstanceState.CONTESTED]
    assert len(files(store)) == 2
    assert Ledger(database).list()[1].event == AuditEventType.INSTANCE_CONTESTED


def test_a_late_instance_opens_the_next_revision(store: InstanceStore, database: Database) -> None:
    receive(store, database, "1.2.3")
    close(database)
    receive(store, database, "1.2.3", received_at=at(200))
    assert len(revisions(database)) == 1, "a repeat is nothing new"
    receive(store, database, "1.2.4", received_at=at(300))
    first, second = revisions(database)
    assert (second.number, second.predecessor_id, second.state) == (2, first.id, RevisionState.OPEN)
    assert (second.opened_at, first.state) == (at(300), RevisionState.CLOSED)


def test_a_contested_copy_that_comes_late_opens_the_next_revision_too(store: InstanceStore, database: Database) -> None:
    receive(store, database, "1.2.3")
    close(database)
    receive(store, database, "1.2.3", b"other pixels")
    assert [r.number for r in revisions(database)] == [1, 2]


def test_the_open_revision_follows_its_instances(store: InstanceStore, database: Database) -> None:
    receive(store, database, "1.2.3", received_at=at(50))
    receive(store, database, "1.2.4", priority=Priority.STAT, expected_instances=3, received_at=at(60))
    receive(store, database, "1.2.5", received_at=at(55))
    (revision,) = revisions(database)
    assert (revision.priority, revision.expected_instances) == (Priority.STAT, 3)
    assert (revision.opened_at, revision.last_instance_at) == (at(50), at(60))


def test_our_own_evidence_that_comes_back_opens_no_revision(store: InstanceStore, database: Database) -> None:
    receive(store, database, "1.2.3")
    close(database)
    receive(store, database, "1.2.99", kind=InstanceKind.EVIDENCE, sop_class_uid=SR)
    assert len(revisions(database)) == 1
    assert instances(database)[1].kind is InstanceKind.EVIDENCE


def test_our_own_evidence_is_known_by_its_uid_and_class(store: InstanceStore, database: Database) -> None:
    receive(store, database, "1.2.3")
    close(database)
    with database.transaction() as session:
        revision_id = session.scalars(select(Revision.id)).one()
        begin_analysis(session, revision_id, "m" * 64)
        analysis = save_analysis(session, revision_id, "m" * 64, NewAnalysis("CLEAR", 0.1, [], 0, None, 1.0))
        made = NewEvidence("orthanc", "SR", "2.25.7", SR, "2.25.8", "evidence/1-a/sr.dcm", 1, "e" * 64)
        save_evidence(session, analysis.id, [made])
    report = receive(store, database, "2.25.7", b"report", kind=InstanceKind.OTHER, sop_class_uid=SR)
    assert report.kind is InstanceKind.EVIDENCE
    assert len(revisions(database)) == 1
    # An image cannot hide from its analysis behind the UID of a report.
    assert receive(store, database, "2.25.7", b"image").kind is InstanceKind.IMAGE
    assert len(revisions(database)) == 2


def test_a_batch_ends_as_its_instances_one_by_one_would(store: InstanceStore, database: Database) -> None:
    receive(store, database, "1.2.1")
    batch = [
        ("1.2.1", b"pixels", "1.9"),
        ("1.2.1", b"pixels", "1.9"),
        ("1.2.2", b"pixels", "1.9"),
        ("1.2.2", b"pixels", "1.9"),
        ("1.2.2", b"others", "1.9"),
        ("1.2.3", b"pixels", "1.8"),
    ]
    arrivals = [(keep(store, uid, content), facts(uid, study_uid=study)) for uid, content, study in batch]
    with database.transaction() as session:
        outcomes = record_instances(session, arrivals)
    for outcome in outcomes:
        outcome.settle(store)
    assert [o.disposition.value for o in outcomes] == [
        "repeat",
        "repeat",
        "stored",
        "repeat",
        "contested",
        "stored",
    ]
    found = {(i.sop_instance_uid, i.state.value): i.repeats for i in instances(database)}
    assert found == {("1.2.1", "stored"): 2, ("1.2.2", "stored"): 1, ("1.2.2", "contested"): 0, ("1.2.3", "stored"): 0}
    assert len(files(store)) == 4
    assert [r.study_uid for r in revisions(database)] == ["1.9", "1.8"]
    assert Ledger(database).verify().records == 7


def test_a_batch_of_any_size_takes_the_same_few_statements(
    store: InstanceStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = 0

    def count(method: Callable[..., Any]) -> Callable[..., Any]:
        def counting(self: Direct, *arguments: Any) -> Any:
            nonlocal counted
            counted += method.__name__ == "ask" or bool(arguments[1])
            return method(self, *arguments)

        return counting

    def statements(uids: list[str]) -> int:
        nonlocal counted
        arrivals = [(keep(store, uid), facts(uid)) for uid in uids]
        counted = 0
        with database.direct() as session:
            record_instances(session, arrivals)
        return counted

    for name in ("ask", "run"):
        monkeypatch.setattr(Direct, name, count(getattr(Direct, name)))
    statements(["1.2.0"])
    one = statements(["1.2.1"])
    assert one == statements([f"1.3.{n}" for n in range(50)])
    assert one == 6


def test_facts_that_cannot_be_indexed_are_refused_before_they_reach_the_database() -> None:
    for wrong in ({"study_uid": ""}, {"series_uid": "1" * 65}, {"source_ae": "A\x00"}, {"sop_class_uid": "µ"}):
        with pytest.raises(InstanceRefused) as refusal:
            facts("1.2.3", **wrong)
        assert refusal.value.dicom_status == 0xC000
        assert next(iter(wrong)) in str(refusal.value)


def test_a_file_that_is_gone_is_not_acknowledged(store: InstanceStore, database: Database) -> None:
    stored = keep(store, "1.2.3")
    stored.path.unlink()
    with pytest.raises(StoreFault), database.transaction() as session:
        record_instances(session, [(stored, facts("1.2.3"))])
    assert instances(database) == []


RECEIVER = """
import sys
from pathlib import Path
from storage import Database, InstanceStore
from tests.storage.arrivals import receive

store = InstanceStore(Path(sys.argv[2]), high_watermark=1.0, low_watermark=1.0, reserve_bytes=0)
with Database(sys.argv[1]) as database:
    for number in range(int(sys.argv[4])):
        uid = f"1.{sys.argv[3]}.{number}"
        receive(store, database, uid, uid.encode() * 5000)
        print(uid, flush=True)
"""


def receiver(url: str, store: InstanceStore, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", RECEIVER, url, str(store.root), name, str(count)]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)


def test_a_receiver_that_is_killed_loses_nothing_acknowledged_and_shows_nothing_partial(
    url: str, store: InstanceStore, database: Database
) -> None:
    acknowledged: list[str] = []
    chance = random.Random(7)  # noqa: S311 - when to kill is no secret
    for life in range(4):
        process = receiver(url, store, f"7.{life}", 10_000)
        assert process.stdout is not None
        acknowledged.append(process.stdout.readline().strip())
        time.sleep(chance.uniform(0, 0.15))
        os.kill(process.pid, signal.SIGKILL)
        lines = process.communicate()[0].split("\n")
        acknowledged += [line for line in lines[:-1] if line]
    indexed = {i.sop_instance_uid: i for i in instances(database)}
    assert set(acknowledged) <= set(indexed)
    assert len(indexed) <= len(acknowledged) + 4
    for uid, instance in indexed.items():
        content = store.locate(instance.path).read_bytes()
        assert content == uid.encode() * 5000
        assert sha256(content).hexdigest() == instance.file_sha256
    assert Ledger(database).verify().intact


def test_receivers_side_by_side_neither_lose_nor_double_anything(
    url: str, store: InstanceStore, database: Database
) -> None:
    """Three processes: two send the same instances, one others of the same study."""
    started = [receiver(url, store, name, 15) for name in ("1", "1", "2")]
    assert [process.wait(timeout=120) for process in started] == [0, 0, 0]
    for process in started:
        process.communicate()
    found = instances(database)
    assert sorted(i.sop_instance_uid for i in found) == sorted(f"1.{name}.{n}" for name in "12" for n in range(15))
    assert sum(i.repeats for i in found) == 15
    assert len(files(store)) == 30
    assert [r.number for r in revisions(database)] == [1]
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Study)) == 1
    verified = Ledger(database).verify()
    assert (verified.intact, verified.records) == (True, 45)
