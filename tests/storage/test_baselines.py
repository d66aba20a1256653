"""A device's baseline is kept for the next study, and no study counts twice in it."""

import json

from storage import Database, InstanceStore, Ledger
from storage.baselines import baselines_of, forget_baseline, kinds_taught, save_baseline
from storage.tables import DeviceBaseline
from tests.storage.arrivals import NOON, at, receive

DEVICE = "d" * 32
JSON = {"version": 1, "studies": {"MR\\AXIAL": 1}, "traits": {"MR\\AXIAL": {"private block \0 \u00dc \ud800": 1}}}


def taught(database: Database, study_uid: str, *kinds: str) -> None:
    with database.transaction() as session:
        save_baseline(session, DEVICE, JSON, study_uid=study_uid, kinds=kinds, now=NOON)


def test_what_was_learnt_is_there_for_the_next_study(database: Database, store: InstanceStore) -> None:
    receive(store, database, "1.1")
    taught(database, "1.9", "MR")
    with database.reading() as session:
        assert baselines_of(session, [DEVICE, "another"]) == {DEVICE: JSON}
        assert session.get_one(DeviceBaseline, DEVICE).updated_at == NOON


def test_a_study_counts_once_and_each_of_its_kinds_is_remembered(database: Database, store: InstanceStore) -> None:
    receive(store, database, "1.1")
    receive(store, database, "1.2", study_uid="1.8")
    taught(database, "1.9", "localiser")
    taught(database, "1.9", "volume")
    taught(database, "1.8", "volume")
    with database.reading() as session:
        assert session.get_one(DeviceBaseline, DEVICE).studies == 2
        assert kinds_taught(session, DEVICE, "1.9") == {"localiser", "volume"}
        assert kinds_taught(session, DEVICE, "1.8") == {"volume"}
        assert kinds_taught(session, "another", "1.9") == frozenset()


def test_a_new_lesson_replaces_the_baseline(database: Database, store: InstanceStore) -> None:
    receive(store, database, "1.1")
    taught(database, "1.9", "MR")
    with database.transaction() as session:
        save_baseline(session, DEVICE, {"version": 2}, study_uid="1.9", kinds=["CT"], now=at(60))
    with database.reading() as session:
        assert baselines_of(session, [DEVICE]) == {DEVICE: {"version": 2}}
        assert session.get_one(DeviceBaseline, DEVICE).updated_at == at(60)


def test_a_forgotten_device_begins_anew(database: Database, store: InstanceStore) -> None:
    receive(store, database, "1.1")
    taught(database, "1.9", "MR")
    with database.transaction() as session:
        assert forget_baseline(session, DEVICE, actor="user:ada", reason="upgraded")
        assert not forget_baseline(session, "another", actor="user:ada", reason="never learnt")
    with database.reading() as session:
        assert baselines_of(session, [DEVICE]) == {}
        assert kinds_taught(session, DEVICE, "1.9") == frozenset()
    (told,) = Ledger(database).list(event="baseline-forgotten")
    assert (told.actor, told.subject) == ("user:ada", DEVICE)
    assert json.loads(told.details) == {"device": DEVICE, "studies": 1, "reason": "upgraded"}


def test_a_study_that_names_very_many_scanners_is_answered(database: Database, store: InstanceStore) -> None:
    receive(store, database, "1.1")
    taught(database, "1.9", "MR")
    with database.reading() as session:
        assert list(baselines_of(session, [*map(str, range(70_000)), DEVICE])) == [DEVICE]
