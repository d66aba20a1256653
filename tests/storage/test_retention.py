"""Files go when they are past their age; what they were stays provable, and incidents stay whole."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from storage import Database, Disposition, InstanceState, InstanceStore, Ledger
from storage.analyses import NewAnalysis, NewEvidence, begin_analysis, save_analysis, save_evidence, stored_copy
from storage.deliveries import plan_deliveries, record_delivered
from storage.retention import expire_evidence, expire_instances
from storage.studies import close_revision, finish_revision
from storage.sweeping import sweep_orphans
from storage.tables import CloseReason, Evidence, Instance, Revision, RevisionState
from tests.storage.arrivals import SR, at, files, receive

DAY = timedelta(days=1)
LATER = at(2 * 24 * 3600)


def finish(database: Database, done: bool = True) -> int:
    with database.transaction() as session:
        revision_id = session.scalars(select(Revision.id).where(Revision.state == RevisionState.OPEN)).one()
        close_revision(session, revision_id, CloseReason.QUIET, now=at(60))
        if done:
            finish_revision(session, revision_id, actor="scanwarden:test")
    return revision_id


def states(database: Database) -> list[InstanceState]:
    with database.reading() as session:
        return list(session.scalars(select(Instance.state).order_by(Instance.id)))


def test_old_files_of_finished_studies_go_and_their_digests_stay(store: InstanceStore, database: Database) -> None:
    receive(store, database, "1.2.3")
    finish(database)
    assert expire_instances(store, database, DAY, now=at(3600)) == 0
    assert expire_instances(store, database, DAY, now=LATER) == 1
    assert files(store) == []
    with database.reading() as session:
        assert stored_copy(session, "1.2.3").file_sha256
    (record,) = Ledger(database).list(event="instances-deleted")
    assert (record.study_uid, record.to_json()["details"]) == ("1.9", {"count": 1})
    assert expire_instances(store, database, DAY, now=LATER) == 0


def test_a_study_with_work_left_keeps_its_files(store: InstanceStore, database: Database) -> None:
    receive(store, database, "1.2.3")
    assert expire_instances(store, database, DAY, now=LATER) == 0
    finish(database, done=False)
    assert expire_instances(store, database, DAY, now=LATER) == 0
    assert len(files(store)) == 1


def test_a_copy_that_an_incident_is_about_stays(store: InstanceStore, database: Database) -> None:
    receive(store, database, "1.2.3")
    other = receive(store, database, "1.2.3", b"other")
    finish(database)
    assert expire_instances(store, database, DAY, now=LATER) == 1
    assert files(store) == [other.stored.relative]


def test_an_expired_instance_that_arrives_again_is_stored_again(store: InstanceStore, database: Database) -> None:
    receive(store, database, "1.2.3")
    finish(database)
    expire_instances(store, database, DAY, now=LATER)
    again = receive(store, database, "1.2.3", received_at=LATER)
    assert again.disposition is Disposition.STORED
    assert states(database) == [InstanceState.STORED]
    assert files(store) == [again.stored.relative]
    finish(database)
    with database.reading() as session:
        assert [r.number for r in session.scalars(select(Revision).order_by(Revision.id))] == [1, 2]
        assert stored_copy(session, "1.2.3").path == again.stored.relative


def test_other_bytes_are_contested_even_when_the_first_copy_has_expired(
    store: InstanceStore, database: Database
) -> None:
    receive(store, database, "1.2.3")
    finish(database)
    expire_instances(store, database, DAY, now=LATER)
    assert receive(store, database, "1.2.3", b"other", received_at=LATER).disposition is Disposition.CONTESTED
    assert states(database) == [InstanceState.EXPIRED, InstanceState.CONTESTED]


def test_a_crash_between_row_and_file_is_made_good_by_the_sweep(
    store: InstanceStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = receive(store, database, "1.2.3").stored.relative
    finish(database)
    with monkeypatch.context() as patch:
        patch.setattr(store, "remove", lambda _path: None)
        expire_instances(store, database, DAY, now=LATER)
    assert files(store) == [left]
    assert sweep_orphans(store, database, older_than=-10).paths == (left,)


def test_evidence_goes_when_it_is_old_and_delivered_everywhere(store: InstanceStore, database: Database) -> None:
    receive(store, database, "1.2.3")
    revision_id = finish(database, done=False)
    with store.draft("evidence", revision_id) as draft:
        (draft.folder / "sr.dcm").write_bytes(b"report")
        path = f"{draft.keep()}/sr.dcm"
    with database.transaction() as session:
        begin_analysis(session, revision_id, "m" * 64)
        analysis = save_analysis(session, revision_id, "m" * 64, NewAnalysis("CLEAR", 0.1, [], 0, None, 1.0))
        made = NewEvidence("orthanc", "SR", "2.25.7", SR, "2.25.8", path, 6, "e" * 64)
        save_evidence(session, analysis.id, [made], now=at(0))
        (planned,) = plan_deliveries(session, revision_id, {"pacs": "orthanc"})
    assert expire_evidence(store, database, DAY, now=LATER) == 0
    with database.transaction() as session:
        record_delivered(session, planned.delivery.id)
    assert expire_evidence(store, database, DAY, now=at(3600)) == 0
    assert expire_evidence(store, database, DAY, now=LATER) == 1
    assert expire_evidence(store, database, DAY, now=LATER) == 0
    assert not store.locate(path).exists()
    with database.reading() as session:
        assert session.scalars(select(Evidence.expired_at)).one() == LATER
    assert Ledger(database).list(event="evidence-deleted")[0].subject == "2.25.7"
