"""Deliveries to peers that refuse, stall, break off, warn, lose their disk, or come back: everything arrives once."""

import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE, AllStoragePresentationContexts, evt
from sqlalchemy import select

from config import Settings
from gateway.app import App, build, prepare
from gateway.pipeline.delivery import Courier
from gateway.pipeline.dispatch import DeliverySweep
from gateway.pipeline.queues import WorkQueues
from storage import Database
from storage.circuits import LOST_AFTER
from storage.deliveries import Turn
from storage.tables import Circuit, CircuitState, Delivery, DeliveryState, LedgerRow, Revision, RevisionState
from tests.faults.harness import Archive, free_port, wait_for
from tests.gateway.dicom.test_stow import WebArchive
from tests.planted import Planted, plant


@dataclass
class World:
    """A gateway whose clock the test winds, and whose queue is a list: what is due is attempted in order."""

    app: App
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    asked: list[Turn] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.courier = Courier(self.app, clock=lambda: self.now)
        self.courier._notary._wait = 0.5
        world = self

        class Queue:
            def enqueue_delivery(self, turn: Turn) -> None:
                world.asked.append(turn)

        queue: Any = Queue()
        self.sweep = DeliverySweep(self.app, queue, clock=lambda: self.now)

    def plan(self, **arguments: Any) -> Planted:
        planted = plant(self.app, **arguments)
        self.courier.plan(planted.revision_id)
        return planted

    def turn(self) -> int:
        """One look for what is due, and the attempts that it asks for; how many there were."""
        self.asked.clear()
        self.sweep()
        for turn in list(self.asked):
            self.courier.attempt(turn.revision_id, turn.destination)
        return len(self.asked)

    def wind(self, seconds: float, step: float = 60) -> int:
        """Let time pass; how many attempts that brought."""
        attempts, end = 0, self.now + timedelta(seconds=seconds)
        while self.now < end:
            self.now += timedelta(seconds=step)
            attempts += self.turn()
        return attempts

    def deliveries(self, destination: str = "pacs") -> list[Delivery]:
        with self.app.database.reading() as session:
            query = select(Delivery).where(Delivery.destination == destination).order_by(Delivery.id)
            return list(session.scalars(query))

    def states(self, destination: str = "pacs") -> list[str]:
        return [each.state.value for each in self.deliveries(destination)]

    def circuit(self, destination: str = "pacs") -> Circuit | None:
        with self.app.database.reading() as session:
            return session.get(Circuit, destination)

    def revisions(self) -> set[RevisionState]:
        with self.app.database.reading() as session:
            return set(session.scalars(select(Revision.state)))

    def events(self) -> list[str]:
        with self.app.database.reading() as session:
            return list(session.scalars(select(LedgerRow.event).order_by(LedgerRow.seq)))


Make = Callable[..., World]


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with every table, to be copied: migrations are not what these tests are about."""
    path = tmp_path_factory.mktemp("template") / "scanwarden.sqlite"
    with Database(f"sqlite:///{path}") as database:
        database.migrate()
    return path


@pytest.fixture
def world(tmp_path: Path, migrated: Path) -> Iterator[Make]:
    opened: list[App] = []
    (tmp_path / "var").mkdir()
    shutil.copy(migrated, tmp_path / "var")

    def make(*ports: int, **values: Any) -> World:
        destinations = [
            {"name": name, "ae_title": "PACS", "host": "127.0.0.1", "port": port, "timeout": 5, **values}
            for name, port in zip(("pacs", "other", "third"), ports, strict=False)
        ]
        settings = Settings(
            store={"root": tmp_path / "var", "high_watermark": 1, "low_watermark": 1, "reserve_bytes": 0},
            destinations=destinations,
        )
        app = build(settings)
        opened.append(app)
        return World(app)

    yield make
    for app in opened:
        app.close()


@pytest.fixture
def archive() -> Archive:
    return Archive()


def test_what_is_stored_is_delivered_once_and_the_report_comes_after_its_regions(world: Make, archive: Archive) -> None:
    gateway = world(archive.port)
    planted = gateway.plan(kinds=("KOS", "SR", "SC", "SEG"))
    with archive.running():
        assert gateway.turn() == 1
        assert gateway.wind(3600) == 0
    assert archive.order == [planted.objects[kind] for kind in ("SEG", "SC", "SR", "KOS")]
    assert gateway.revisions() == {RevisionState.DONE}


@pytest.mark.parametrize(
    ("status", "warning"), [(0xB000, "0xB000"), (0xB006, "0xB006"), (0xB007, "0xB007"), (0x0111, None)]
)
def test_a_warning_and_a_duplicate_are_delivered(
    world: Make, archive: Archive, status: int, warning: str | None
) -> None:
    archive.answer = lambda _uid: status
    gateway = world(archive.port)
    gateway.plan()
    with archive.running():
        gateway.turn()
    assert {(each.state, each.warning) for each in gateway.deliveries()} == {(DeliveryState.DELIVERED, warning)}


@pytest.mark.parametrize("status", [0xA900, 0xC000, 0xC123, 0x0122, 0x0124])
def test_what_is_refused_for_good_is_a_dead_letter_at_once_with_its_reason(
    world: Make, archive: Archive, status: int
) -> None:
    asked = []

    def answer(uid: str) -> int:
        asked.append(uid)
        return status

    archive.answer = answer
    gateway = world(archive.port)
    gateway.plan()
    with archive.running():
        gateway.turn()
        assert gateway.wind(7200) == 0
    assert len(asked) == 2
    assert {(each.state, each.failure) for each in gateway.deliveries()} == {
        (DeliveryState.DEAD, f"status 0x{status:04X}")
    }
    assert gateway.revisions() == {RevisionState.FAILED}


def test_a_report_still_arrives_where_the_regions_are_refused_for_good(world: Make, archive: Archive) -> None:
    gateway = world(archive.port)
    planted = gateway.plan()
    archive.answer = lambda uid: 0xC000 if uid == planted.objects["SEG"] else 0
    with archive.running():
        gateway.turn()
    assert gateway.states() == ["DEAD", "DELIVERED"]


def test_a_report_waits_for_regions_that_are_refused_for_now(world: Make, archive: Archive) -> None:
    gateway = world(archive.port)
    planted = gateway.plan()
    answers = iter([0x0110, 0x0110])
    archive.answer = lambda uid: next(answers, 0) if uid == planted.objects["SEG"] else 0
    with archive.running():
        gateway.turn()
        assert archive.order == []
        gateway.wind(600)
    assert archive.order == [planted.objects["SEG"], planted.objects["SR"]]


def test_a_peer_that_accepts_none_of_the_classes_gets_no_second_call(world: Make) -> None:
    entity = AE(ae_title="PACS")
    entity.add_supported_context("1.2.840.10008.5.1.4.1.1.4")
    server: Any = entity.start_server(("127.0.0.1", 0), block=False)
    try:
        gateway = world(server.server_address[1])
        gateway.plan()
        gateway.turn()
        assert gateway.wind(7200) == 0
    finally:
        server.shutdown()
    assert gateway.states() == ["DEAD", "DEAD"]
    assert "accepts none of the objects' SOP classes" in str(gateway.deliveries()[0].failure)


def test_what_was_acknowledged_before_a_peer_broke_off_is_not_sent_again(world: Make) -> None:
    received: list[str] = []

    def keep(event: evt.Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)  # type: ignore[union-attr]
        if len(received) == 1 and uid not in received:
            received.append("broken off")
            event.assoc.abort()
            return 0
        received.append(uid)
        return 0

    with peer(keep) as port:
        gateway = world(port)
        planted = gateway.plan()
        gateway.turn()
        assert gateway.states() == ["DELIVERED", "WAITING"]
        gateway.wind(60)
    assert received == [planted.objects["SEG"], "broken off", planted.objects["SR"]]
    assert gateway.revisions() == {RevisionState.DONE}


def test_an_object_at_which_a_peer_always_breaks_off_ends_as_a_dead_letter_and_holds_up_no_other(world: Make) -> None:
    poison: list[str] = []
    received: list[str] = []

    def keep(event: evt.Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)  # type: ignore[union-attr]
        if uid in poison:
            event.assoc.abort()
        else:
            received.append(uid)
        return 0

    with peer(keep) as port:
        gateway = world(port, attempts=4)
        bad, good = gateway.plan(kinds=("SR",)), gateway.plan(kinds=("SR",))
        poison.append(bad.objects["SR"])
        gateway.wind(7200)
    assert received == [good.objects["SR"]]
    assert gateway.states() == ["DEAD", "DELIVERED"]
    assert gateway.deliveries()[0].refusals == 4


def test_an_archive_that_comes_back_after_an_hour_gets_everything_once_and_cost_one_probe_at_a_time(
    world: Make, archive: Archive
) -> None:
    gateway = world(archive.port, timeout=1)
    planted = [gateway.plan() for _ in range(8)]
    first = gateway.turn()
    assert first == 8  # all were on their way when it fell silent; three failures were enough to know
    assert sum(each.attempts > 0 for each in gateway.deliveries()) == 6
    probes = gateway.wind(3600, step=150)
    assert probes <= 12
    state = gateway.circuit()
    assert state is not None
    assert state.state is CircuitState.OPEN
    with archive.running():
        gateway.wind(1800, step=150)
    assert sorted(archive.order) == sorted(uid for each in planted for uid in each.objects.values())
    for each in planted:
        assert archive.order.index(each.objects["SEG"]) < archive.order.index(each.objects["SR"])
    assert set(gateway.states()) == {"DELIVERED"}
    assert gateway.events().count("destination-lost") == 1
    assert gateway.events().count("destination-back") == 1


def test_an_archive_without_room_is_waited_for_and_nothing_is_held_against_the_objects(
    world: Make, archive: Archive
) -> None:
    asked: list[str] = []

    def full(uid: str) -> int:
        asked.append(uid)
        return 0xA700

    archive.answer = full
    gateway = world(archive.port, attempts=2)
    planted = [gateway.plan() for _ in range(4)]
    with archive.running():
        gateway.turn()
        gateway.wind(4 * 3600, step=900)
        assert set(gateway.states()) == {"WAITING"}
        assert 3 < len(asked) < 30
        archive.answer = lambda _uid: 0
        gateway.wind(1800, step=450)
    assert sorted(archive.order) == sorted(uid for each in planted for uid in each.objects.values())
    assert len(archive.order) == len(set(archive.order)) == 8


def test_an_archive_that_does_not_come_back_ends_in_dead_letters_after_the_age(world: Make) -> None:
    gateway = world(free_port(), give_up_after=timedelta(days=1), timeout=1, circuit_failures=1, backoff_limit=14400)
    for _ in range(3):
        gateway.plan(kinds=("SR",))
    gateway.wind(29 * 3600, step=7200)
    assert set(gateway.states()) == {"DEAD"}
    assert all("no connection" in str(each.failure) for each in gateway.deliveries())


def test_a_dead_destination_leaves_the_others_alone(world: Make, archive: Archive) -> None:
    gateway = world(free_port(), archive.port, timeout=1)
    for _ in range(10):
        gateway.plan(kinds=("SR",))
    with archive.running():
        gateway.turn()
    assert set(gateway.states("other")) == {"DELIVERED"}
    assert set(gateway.states("pacs")) == {"WAITING"}
    assert gateway.circuit("other") is None


def test_what_is_planned_for_a_dead_destination_costs_no_workflow(world: Make) -> None:
    gateway = world(free_port(), timeout=1, circuit_failures=1)
    gateway.plan(kinds=("SR",))
    gateway.turn()
    assert gateway.courier.plan(plant(gateway.app, kinds=("SR",)).revision_id) == []
    assert gateway.turn() == 0
    assert gateway.wind(60) > 0


def test_a_peer_that_never_answers_costs_one_timeout_at_a_time(world: Make) -> None:
    stop = threading.Event()
    calls: list[str] = []

    def stall(event: evt.Event) -> int:
        calls.append(str(event.request.AffectedSOPInstanceUID))  # type: ignore[union-attr]
        stop.wait(5)
        return 0

    with peer(stall) as port:
        gateway = world(port, timeout=0.5, attempts=50)
        for _ in range(5):
            gateway.plan(kinds=("SR",))
        assert gateway.turn() == 5
        assert len(calls) <= 3
        gateway.wind(1800, step=150)
        assert len(calls) < 12
        stop.set()
        gateway.wind(1800, step=150)
    assert set(gateway.states()) == {"DELIVERED"}


def test_a_probe_whose_process_died_is_followed_by_another(world: Make, archive: Archive) -> None:
    gateway = world(archive.port, timeout=1, circuit_failures=1)
    gateway.plan(kinds=("SR",))
    gateway.plan(kinds=("SR",))
    gateway.turn()
    gateway.now += timedelta(hours=1)
    gateway.sweep()  # the probe is asked for, and its process dies
    with archive.running():
        assert gateway.wind(LOST_AFTER.total_seconds() / 2) == 0
        gateway.wind(LOST_AFTER.total_seconds())
    assert len(archive.order) == 1
    state = gateway.circuit()
    assert state is not None
    assert state.state is CircuitState.CLOSED


def test_a_destination_that_is_no_longer_configured_becomes_a_dead_letter(world: Make, archive: Archive) -> None:
    gateway = world(archive.port)
    gateway.plan()
    gateway.courier._destinations.clear()
    gateway.sweep._destinations.clear()
    gateway.turn()
    assert {(each.state.value, each.failure) for each in gateway.deliveries()} == {
        ("DEAD", "the destination is no longer configured")
    }


def test_a_verdict_below_what_the_profile_asks_for_is_kept_and_not_delivered(tmp_path: Path) -> None:
    settings = Settings(
        store={"root": tmp_path / "var", "high_watermark": 1, "low_watermark": 1, "reserve_bytes": 0},
        profiles=[{"name": "alarms", "extends": "orthanc", "only_from": "SUSPECT"}],
        destinations=[{"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104, "profile": "alarms"}],
    )
    with build(settings) as app:
        app.database.migrate()
        gateway = World(app)
        gateway.plan(profile="alarms", verdict="CLEAR")
        assert gateway.states() == []
        assert gateway.revisions() == {RevisionState.DONE}
        alarmed = gateway.plan(profile="alarms")
        assert gateway.states() == ["WAITING", "WAITING"]
        # Who has the alarm must hear that the study's next revision is clear.
        gateway.plan(profile="alarms", verdict="CLEAR", kinds=("SR",), after=alarmed)
        assert gateway.states() == ["WAITING", "WAITING", "WAITING"]


def test_a_turn_that_was_asked_for_twice_is_one_workflow(world: Make, archive: Archive) -> None:
    from gateway.pipeline import queues

    gateway = world(archive.port)
    queues.prepare(gateway.app.settings)
    gateway.plan(kinds=("SR",))
    with WorkQueues(gateway.app.settings) as work:
        gateway.sweep()
        for _ in range(2):
            work.enqueue_delivery(gateway.asked[0])
        assert work.count(queues.DELIVER_QUEUE).waiting == 1


@pytest.mark.parametrize(("transport", "profile"), [("stow", "orthanc"), (None, "web")])
def test_an_archive_over_the_web_gets_regions_and_report_and_is_waited_for_when_it_is_busy(
    tmp_path: Path, migrated: Path, transport: str | None, profile: str
) -> None:
    archive = WebArchive()
    (tmp_path / "var").mkdir()
    shutil.copy(migrated, tmp_path / "var")
    settings = Settings(
        store={"root": tmp_path / "var", "high_watermark": 1, "low_watermark": 1, "reserve_bytes": 0},
        profiles=[{"name": "web", "extends": "orthanc", "transport": "stow"}],
        destinations=[{"name": "pacs", "dicomweb": archive.url, "transport": transport, "profile": profile}],
    )
    try:
        with build(settings) as app:
            gateway = World(app)
            planted = gateway.plan(profile=profile)
            archive.answer = lambda: (503, None)
            gateway.turn()
            assert gateway.states() == ["WAITING", "WAITING"]
            archive.answer = lambda: (200, None)
            gateway.wind(60)
            assert gateway.states() == ["DELIVERED", "DELIVERED"]
            bodies = [body for _, _, body in archive.requests]
            sent = [kind for body in bodies for kind, uid in planted.objects.items() if uid.encode() in body]
            assert sent == ["SEG", "SEG", "SR"]
    finally:
        archive.close()


def test_a_destination_that_takes_its_time_takes_no_place_of_another(tmp_path: Path, archive: Archive) -> None:
    """With the real queue, and one place for each destination."""
    from config.settings import Role
    from gateway.pipeline import queues
    from gateway.pipeline.workflow import register_deliveries

    stop = threading.Event()
    asked: list[str] = []

    def stall(event: evt.Event) -> int:
        asked.append(str(event.request.AffectedSOPInstanceUID))  # type: ignore[union-attr]
        stop.wait(60)
        return 0

    with peer(stall) as port, archive.running():
        settings = Settings(
            store={"root": tmp_path / "var", "high_watermark": 1, "low_watermark": 1, "reserve_bytes": 0},
            queues={"deliveries": 1, "polling_interval": 0.05},
            destinations=[
                {"name": "slow", "ae_title": "PACS", "host": "127.0.0.1", "port": port, "timeout": 60},
                {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": archive.port},
            ],
        )
        prepare(settings)
        with build(settings) as app:
            courier = Courier(app)
            for _ in range(4):
                courier.plan(plant(app, kinds=("SR",)).revision_id)
            worker = queues.Worker(settings, queues.executor_id(Role.DELIVER), [queues.DELIVER_QUEUE])
            register_deliveries(worker, app)
            worker.start()
            try:
                with WorkQueues(settings) as work:
                    DeliverySweep(app, work)()
                    wait_for(lambda: len(archive.order) == 4, 60, "the other one gets everything")
                    assert len(asked) == 1
                    stop.set()
                    wait_for(lambda: len(asked) == 4, 60, "the slow one, too")
                    wait_for(lambda: work.count(queues.DELIVER_QUEUE).running == 0, 60, "all is written down")
            finally:
                stop.set()
                worker.stop(5)


class peer:  # noqa: N801 - reads as a function
    """A C-STORE SCP that answers as `store` says; its port."""

    def __init__(self, store: Callable[[evt.Event], int]) -> None:
        entity: Any = AE(ae_title="PACS")
        entity.supported_contexts = AllStoragePresentationContexts
        self._server: Any = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])

    def __enter__(self) -> int:
        return int(self._server.server_address[1])

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
