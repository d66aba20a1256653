"""What arrives together is committed together, and fails apart."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from storage import Database, DatabaseUnavailable, Disposition, Index, InstanceStore, Ledger, Outcome, StoreFault
from storage import points as points_module
from storage.direct import Direct
from storage.points import Point
from storage.tables import Instance
from tests.storage.arrivals import facts, files, keep


@pytest.fixture
def index(store: InstanceStore, database: Database) -> Index:
    return Index(database, store, patience=20)


class Held:
    """Holds the first transaction open until everybody else has queued; counts transactions."""

    def __init__(self, index: Index, database: Database, monkeypatch: pytest.MonkeyPatch, others: int) -> None:
        self.transactions = 0
        direct = database.direct

        @contextmanager
        def counted() -> Iterator[Direct]:
            self.transactions += 1
            if self.transactions == 1:
                while len(index._waiting) < others:
                    threading.Event().wait(0.002)
            with direct() as session:
                yield session

        monkeypatch.setattr(database, "direct", counted)


def record_all(index: Index, store: InstanceStore, uids: list[str], spoil: str | None = None) -> dict[str, object]:
    """Index every UID in a thread of its own; the outcome or the exception of each."""
    found: dict[str, object] = {}

    def one(uid: str) -> None:
        stored = keep(store, uid)
        if uid == spoil:
            stored.path.unlink()
        try:
            found[uid] = index.record(stored, facts(uid))
        except Exception as fault:  # noqa: BLE001 - it is what is asked for
            found[uid] = fault

    threads = [threading.Thread(target=one, args=(uid,)) for uid in uids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_what_waits_for_a_transaction_shares_the_next_one(
    index: Index, store: InstanceStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(index, database, monkeypatch, others=7)
    found = record_all(index, store, [f"1.2.{n}" for n in range(8)])
    assert held.transactions == 2
    assert all(isinstance(each, Outcome) and each.disposition is Disposition.STORED for each in found.values())
    assert Ledger(database).verify().records == 8


def test_an_instance_at_fault_fails_alone(
    index: Index, store: InstanceStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    Held(index, database, monkeypatch, others=4)
    found = record_all(index, store, [f"1.2.{n}" for n in range(5)], spoil="1.2.3")
    faults = {uid for uid, each in found.items() if isinstance(each, StoreFault)}
    assert faults == {"1.2.3"}
    assert len(files(store)) == 4
    assert Ledger(database).verify().records == 4


def test_nobody_is_told_of_success_when_the_commit_of_all_fails(
    index: Index, store: InstanceStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a commit may have happened all the same: the files stay, for the sweep to judge."""
    Held(index, database, monkeypatch, others=2)
    counted = database.direct

    @contextmanager
    def failing() -> Iterator[Direct]:
        with counted() as session:
            yield session
            raise DatabaseUnavailable("disk I/O error")

    monkeypatch.setattr(database, "direct", failing)
    found = record_all(index, store, ["1.2.1", "1.2.2", "1.2.3"])
    assert [type(each) for each in found.values()] == [DatabaseUnavailable] * 3
    assert len(set(map(id, found.values()))) == 3
    assert len(files(store)) == 3


def test_an_instance_that_waits_too_long_is_refused_and_not_indexed_later(
    store: InstanceStore, database: Database
) -> None:
    index = Index(database, store, patience=0.1)
    with database.transaction():
        first = threading.Thread(target=record_all, args=(index, store, ["1.2.1"]))
        first.start()
        while not index._led:
            threading.Event().wait(0.002)
        second = record_all(index, store, ["1.2.2"])
    first.join()
    assert isinstance(second["1.2.2"], DatabaseUnavailable)
    assert second["1.2.2"].dicom_status == 0xA700
    with database.reading() as session:
        assert [row.sop_instance_uid for row in session.query(Instance)] == ["1.2.1"]
    assert len(files(store)) == 1


def test_the_way_of_an_instance_passes_its_points_in_their_order(
    index: Index, store: InstanceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Durable before indexed, indexed before committed, committed before it is told (promise 1)."""
    passed: list[Point] = []
    monkeypatch.setattr(points_module, "listener", passed.append)
    index.record(keep(store, "1.2.3"), facts("1.2.3"))
    assert passed == [
        Point.INCOMING_CREATED,
        Point.FIRST_BYTES_WRITTEN,
        Point.LAST_BYTES_WRITTEN,
        Point.RENAMED,
        Point.FILE_SYNCED,
        Point.FOLDER_SYNCED,
        Point.TRANSACTION_BEGUN,
        Point.INDEXED,
        Point.COMMITTED,
    ]


def test_nothing_is_told_before_others_can_see_it(
    index: Index, store: InstanceStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the last statement and the commit the row is ours alone; when the way goes on, it is everybody's."""
    seen: dict[Point, int] = {}

    def look(point: Point) -> None:
        with database.reading() as session:
            seen[point] = session.query(Instance).count()

    stored = keep(store, "1.2.3")
    monkeypatch.setattr(points_module, "listener", look)
    index.record(stored, facts("1.2.3"))
    assert seen == {Point.TRANSACTION_BEGUN: 0, Point.INDEXED: 0, Point.COMMITTED: 1}
