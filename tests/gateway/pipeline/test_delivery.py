"""Deliveries to peers that refuse, stall, break off, warn, lose their disk, or come back: everything arrives once."""

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE, evt

from config import Settings
from gateway.app import build
from storage.circuits import LOST_AFTER
from storage.tables import CircuitState, DeliveryState, RevisionState
from tests.faults.harness import Archive, free_port
from tests.gateway.pipeline.world import Make, World, peer
from tests.planted import plant


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
