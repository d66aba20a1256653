"""Files without a row go, and only those that nobody is about to index."""

import pytest

from storage import Database, Disposition, InstanceStore, Ledger, StoreFault, points, record_instance
from storage.analyses import NewAnalysis, NewEvidence, begin_analysis, save_analysis, save_evidence
from storage.studies import close_revision
from storage.sweeping import sweep_orphans
from storage.tables import CloseReason, Instance
from tests.storage.arrivals import SR, facts, files, keep, receive


def kept_folder(store: InstanceStore, kind: str, revision_id: int) -> str:
    with store.draft(kind, revision_id) as draft:  # type: ignore[arg-type]
        (draft.folder / "file").write_text(kind)
        return draft.keep()


def test_a_file_whose_row_was_never_committed_is_removed_and_audited(store: InstanceStore, database: Database) -> None:
    kept = receive(store, database, "1.2.3").stored
    orphan = keep(store, "1.2.4")
    assert sweep_orphans(store, database).paths == (), "both are young"
    found = sweep_orphans(store, database, older_than=-10, remove=False)
    assert (found.paths, found.removed) == ((orphan.relative,), False)
    assert sweep_orphans(store, database, older_than=-10).paths == (orphan.relative,)
    assert files(store) == [kept.relative]
    (record,) = Ledger(database).list(event="files-swept")
    assert record.to_json()["details"] == {"count": 1, "paths": [orphan.relative]}


class Killed(BaseException):
    """Ends a receiver where it stands, as far as a test can without a process of its own."""


@pytest.mark.parametrize("point", [points.Point.RENAMED, points.Point.FILE_SYNCED, points.Point.FOLDER_SYNCED])
def test_a_file_whose_receiver_died_before_its_row_is_no_instance(
    store: InstanceStore, database: Database, monkeypatch: pytest.MonkeyPatch, point: points.Point
) -> None:
    """Its bytes may not even be durable; it lies where instances lie, but nothing looks for it there."""

    def die(reached: points.Point) -> None:
        if reached is point:
            raise Killed

    kept = receive(store, database, "1.2.3").stored
    with monkeypatch.context() as patch:
        patch.setattr(points, "listener", die)
        with pytest.raises(Killed):
            keep(store, "1.2.3", b"half")
    assert len(files(store)) == 2
    with database.reading() as session:
        assert [row.path for row in session.query(Instance)] == [kept.relative]
    assert receive(store, database, "1.2.3", b"half and half").disposition is Disposition.CONTESTED
    assert len(sweep_orphans(store, database, older_than=-10).paths) == 1
    assert len(files(store)) == 2


def test_a_receiver_that_was_slower_than_the_sweep_does_not_acknowledge(
    store: InstanceStore, database: Database
) -> None:
    stored = keep(store, "1.2.4")
    sweep_orphans(store, database, older_than=-10)
    with pytest.raises(StoreFault), database.transaction() as session:
        record_instance(session, stored, facts("1.2.4"))


def test_result_folders_stay_as_long_as_a_row_names_them(store: InstanceStore, database: Database) -> None:
    receive(store, database, "1.2.3")
    analysis_path, evidence_path = kept_folder(store, "analyses", 1), kept_folder(store, "evidence", 1)
    lost = {kept_folder(store, "analyses", 1), kept_folder(store, "evidence", 1), kept_folder(store, "analyses", 2)}
    with database.transaction() as session:
        close_revision(session, 1, CloseReason.QUIET)
        begin_analysis(session, 1, "m" * 64)
        analysis = save_analysis(session, 1, "m" * 64, NewAnalysis("CLEAR", 0.1, [], 0, analysis_path, 1.0))
        made = NewEvidence("orthanc", "SR", "2.25.7", SR, "2.25.8", f"{evidence_path}/file", 1, "e" * 64)
        save_evidence(session, analysis.id, [made])
    assert set(sweep_orphans(store, database, older_than=-10).paths) == lost
    assert store.locate(analysis_path).is_dir()
    assert store.locate(evidence_path).is_dir()
    assert not any(store.locate(path).exists() for path in lost)
