"""What was first seen is written once, on both databases, and does not fit the ledger when somebody changes it."""

import json

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from storage import AuditEventType, Database, InstanceStore, Ledger
from storage.firstseen import STUDY, Standing, first_seen, record_first_seen
from storage.studies import close_revision
from storage.tables import CloseReason, Instance, Revision, Root
from tests.storage.arrivals import receive

GROUPS = {"image": "1" * 64}


def closed(database: Database, study_uid: str = "1.9") -> int:
    """Close the open revision and write its digests down; its number in the database."""
    with database.transaction() as session:
        revision = session.scalars(select(Revision).where(Revision.state == "OPEN", Revision.study_uid == study_uid))
        number = revision.one().id
        close_revision(session, number, CloseReason.QUIET)
        instances = session.scalars(select(Instance.id).where(Instance.study_uid == study_uid)).all()
        record_first_seen(session, number, dict.fromkeys(instances, GROUPS))
    return number


def standing(database: Database, study_uid: str = "1.9") -> Standing:
    with database.reading() as session:
        return first_seen(session, study_uid).standing


def test_count_and_root_of_series_and_study_stand_in_database_and_ledger(
    database: Database, store: InstanceStore
) -> None:
    receive(store, database, "1.1", b"a")
    receive(store, database, "1.2", b"b", series_uid="1.9.2")
    closed(database)
    (event,) = Ledger(database).list(event=AuditEventType.DIGESTS_RECORDED.value)
    details = json.loads(event.details)
    with database.reading() as session:
        roots = {row.series_uid: (row.instances, row.root) for row in session.scalars(select(Root))}
    assert set(roots) == {STUDY, "1.9.1", "1.9.2"}
    assert roots[STUDY] == (details["instances"], details["root"]) == (2, details["root"])
    assert {uid: root for uid, (_, root) in roots.items() if uid} == details["series"]
    assert standing(database) is Standing.PROVED


def test_a_repeat_after_a_crash_writes_nothing_twice(database: Database, store: InstanceStore) -> None:
    receive(store, database, "1.1")
    number = closed(database)
    with database.transaction() as session:
        record_first_seen(session, number, {})
    assert len(Ledger(database).list(event=AuditEventType.DIGESTS_RECORDED.value)) == 1


def test_each_revision_has_its_root_and_the_earlier_ones_stay(database: Database, store: InstanceStore) -> None:
    receive(store, database, "1.1", b"a")
    closed(database)
    receive(store, database, "1.2", b"b")
    closed(database)
    with database.reading() as session:
        query = select(Root.revision, Root.instances).where(Root.series_uid == STUDY).order_by(Root.revision)
        assert session.execute(query).all() == [(1, 1), (2, 2)]
    assert standing(database) is Standing.PROVED


@pytest.mark.parametrize("table", ["first_seen", "roots"])
@pytest.mark.parametrize("change", ["UPDATE {} SET study_uid = '1'", "DELETE FROM {}"])
def test_the_database_refuses_to_change_what_was_first_seen(
    database: Database, store: InstanceStore, table: str, change: str
) -> None:
    receive(store, database, "1.1")
    closed(database)
    with pytest.raises(DBAPIError, match="first-seen digests stay"), database.transaction() as session:
        session.execute(text(change.format(table)))


def test_a_second_copy_never_takes_the_place_of_the_first(database: Database, store: InstanceStore) -> None:
    receive(store, database, "1.1", b"first")
    closed(database)
    receive(store, database, "1.1", b"second")
    closed(database)
    with database.reading() as session:
        found = first_seen(session, "1.9")
    assert found.standing is Standing.PROVED
    (seen,) = found.instances.values()
    assert len(seen.others) == 1
    with database.reading() as session:
        first = session.scalars(select(Instance).order_by(Instance.id)).first()
        assert first is not None
        assert seen.file_sha256 == first.file_sha256


def test_an_index_that_was_changed_is_contradicted_by_the_arrival_in_the_ledger(
    database: Database, store: InstanceStore
) -> None:
    receive(store, database, "1.1", b"a")
    receive(store, database, "1.2", b"b")
    assert standing(database) is Standing.PROVED
    with database.transaction() as session:
        session.execute(
            text("UPDATE instances SET file_sha256 = :other WHERE sop_instance_uid = '1.1'"), {"other": "0" * 64}
        )
    assert standing(database) is Standing.CONTRADICTED


def test_an_instance_that_was_removed_from_the_index_is_missed(database: Database, store: InstanceStore) -> None:
    receive(store, database, "1.1", b"a")
    receive(store, database, "1.2", b"b")
    with database.transaction() as session:
        session.execute(text("DELETE FROM instances WHERE sop_instance_uid = '1.2'"))
    assert standing(database) is Standing.CONTRADICTED


def test_a_row_that_somebody_added_never_arrived(database: Database, store: InstanceStore) -> None:
    receive(store, database, "1.1", b"a")
    closed(database)
    with database.transaction() as session:
        session.execute(
            text(
                "INSERT INTO first_seen SELECT '1.7', sop_class_uid, study_uid, series_uid, transfer_syntax, 2, "
                "file_sha256, pixel_sha256, attributes, recorded_at FROM first_seen"
            )
        )
    with database.reading() as session:
        found = first_seen(session, "1.9")
    assert found.standing is Standing.CONTRADICTED
    assert "instance 1.7 stands in the database and never arrived" in found.contradictions


def test_a_ledger_that_was_shortened_says_nothing_and_accuses_nobody(database: Database, store: InstanceStore) -> None:
    receive(store, database, "1.1", b"a")
    closed(database)
    receive(store, database, "2.1", b"b", study_uid="2.9")
    on = "" if database.is_sqlite else " ON ledger"
    with database.transaction() as session:  # as storage.audit.segments does it, with the record kept in a file
        session.execute(text(f"DROP TRIGGER ledger_refuses_delete{on}"))
        session.execute(text("DELETE FROM ledger WHERE study_uid = '1.9'"))
    assert standing(database) is Standing.UNPROVED
    assert standing(database, "2.9") is Standing.PROVED
