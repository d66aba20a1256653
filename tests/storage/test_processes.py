"""Heartbeats and leases: who is alive, and who may do what only one may do."""

from storage import Database
from storage.processes import acquire_lease, beat, forget, processes, release_lease, silent_processes
from tests.storage.arrivals import NOON, at


def test_a_process_that_stops_beating_is_silent_until_it_is_forgotten(database: Database) -> None:
    for seconds, name in ((0, "analyse-0@a"), (0, "receive-0@a"), (50, "receive-0@a")):
        with database.transaction() as session:
            beat(session, name, role=name[:7], host="a", pid=1, started_at=NOON, now=at(seconds))
    with database.reading() as session:
        assert [p.executor_id for p in processes(session)] == ["analyse-0@a", "receive-0@a"]
        assert [p.executor_id for p in silent_processes(session, 30, now=at(55))] == ["analyse-0@a"]
    with database.transaction() as session:
        forget(session, "analyse-0@a")
    with database.reading() as session:
        assert [p.executor_id for p in processes(session)] == ["receive-0@a"]


def test_a_lease_has_one_holder_until_it_runs_out(database: Database) -> None:
    def acquire(holder: str, seconds: float) -> bool:
        with database.transaction() as session:
            return acquire_lease(session, "timetable", holder, 30, now=at(seconds))

    assert acquire("a", 0)
    assert not acquire("b", 29)
    assert acquire("a", 29), "its holder renews it"
    assert not acquire("b", 58)
    assert acquire("b", 59)
    assert not acquire("a", 60)


def test_only_its_holder_gives_a_lease_back(database: Database) -> None:
    with database.transaction() as session:
        assert acquire_lease(session, "timetable", "a", 30, now=NOON)
        release_lease(session, "timetable", "b")
    with database.transaction() as session:
        assert not acquire_lease(session, "timetable", "b", 30, now=NOON)
        release_lease(session, "timetable", "a")
    with database.transaction() as session:
        assert acquire_lease(session, "timetable", "b", 30, now=NOON)
