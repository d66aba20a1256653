"""`scanwarden deliveries`: what waits is seen with its reason, and every look and every resend is recorded."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from config import load_settings
from gateway.app import App, build
from gateway.cli import app as commands
from gateway.pipeline.delivery import Courier
from storage import AuditEventType, Ledger
from storage.deliveries import consignments, take
from tests.faults.harness import Archive, free_port
from tests.planted import Planted, plant

Run = Callable[..., Result]


@pytest.fixture
def archive() -> Archive:
    return Archive()


@pytest.fixture
def gateway(tmp_path: Path, archive: Archive) -> Iterator[App]:
    def destination(name: str, port: int) -> dict[str, object]:
        return {
            "name": name,
            "ae_title": "PACS",
            "host": "127.0.0.1",
            "port": port,
            "timeout": 2,
            "circuit_failures": 1,
        }

    settings = {
        "store": {"root": str(tmp_path / "var")},
        "destinations": [destination("pacs", archive.port), destination("dead", free_port())],
    }
    (tmp_path / "scanwarden.yaml").write_text(yaml.safe_dump(settings))
    with build(load_settings(tmp_path / "scanwarden.yaml")) as app:
        app.database.migrate()
        yield app


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("SCANWARDEN_CONFIG", str(tmp_path / "scanwarden.yaml"))
    monkeypatch.setenv("COLUMNS", "250")
    return lambda *arguments: CliRunner().invoke(commands, ["deliveries", *arguments], catch_exceptions=False)


@pytest.fixture
def delivered(gateway: App, archive: Archive) -> Planted:
    """A study that the living archive has and the dead one has not."""
    planted = plant(gateway)
    courier = Courier(gateway)
    courier.plan(planted.revision_id)
    with archive.running():
        for name in ("pacs", "dead"):
            courier.attempt(planted.revision_id, name)
    return planted


def events(app: App) -> list[tuple[str, str | None]]:
    return [(each.event, each.actor.partition(":")[0]) for each in Ledger(app.database).list(limit=None)]


def test_the_list_says_who_does_not_answer_and_why_and_when_it_is_tried_again(run: Run, delivered: Planted) -> None:
    facts = json.loads(run("--json").stdout)
    by_name = {each["name"]: each for each in facts["destinations"]}
    assert by_name["pacs"]["counts"] == {"DELIVERED": 2}
    assert by_name["dead"]["counts"] == {"WAITING": 2}
    assert by_name["dead"]["circuit"] == "OPEN"
    assert "Connection refused" in by_name["dead"]["reason"]
    assert by_name["dead"]["next_probe_at"]
    assert [each["state"] for each in facts["deliveries"]].count("WAITING") == 2
    assert "dead: does not answer since" in run().stdout


def test_the_list_is_narrowed_by_study_destination_and_state(run: Run, delivered: Planted) -> None:
    def ids(*options: str) -> list[int]:
        return [each["id"] for each in json.loads(run("--json", *options).stdout)["deliveries"]]

    assert len(ids()) == 4
    assert len(ids("--destination", "dead")) == len(ids("--state", "waiting")) == 2
    assert ids("--study", "1.2.3") == []
    assert len(ids("--study", delivered.study_uid, "--limit", "3")) == 3


def test_a_look_at_a_study_or_a_delivery_is_recorded(run: Run, gateway: App, delivered: Planted) -> None:
    shown = json.loads(run("show", "1", "--json").stdout)
    assert (shown["study_uid"], shown["state"], shown["attempts"]) == (delivered.study_uid, "DELIVERED", 1)
    run("--study", delivered.study_uid)
    assert events(gateway).count((AuditEventType.STUDY_ACCESSED.value, "user")) == 2
    assert run("show", "99").exit_code == 2


def test_a_study_is_sent_again_and_a_person_stands_for_it_in_the_ledger(
    run: Run, gateway: App, archive: Archive, delivered: Planted
) -> None:
    assert "2 deliveries are sent again" in run("resend", delivered.study_uid, "--destination", "pacs").stdout
    assert events(gateway).count((AuditEventType.DELIVERY_RETRIED.value, "user")) == 2
    with archive.running():
        Courier(gateway).attempt(delivered.revision_id, "pacs")
    kinds = [archive.modalities[uid] for uid in archive.order]
    assert kinds == ["SEG", "SR", "SEG", "SR"]
    with gateway.database.reading() as session:
        assert {each.delivery.state.value for each in consignments(session, delivered.revision_id, "pacs")} == {
            "DELIVERED"
        }


def test_a_dead_letter_is_sent_again_by_its_number(run: Run, gateway: App, archive: Archive) -> None:
    archive.answer = lambda _uid: 0xC000
    planted = plant(gateway, kinds=("SR",))
    courier = Courier(gateway)
    courier.plan(planted.revision_id)
    with archive.running():
        courier.attempt(planted.revision_id, "pacs")
        archive.answer = lambda _uid: 0
        number = next(each["id"] for each in json.loads(run("--json", "--state", "dead").stdout)["deliveries"])
        assert "1 deliveries are sent again" in run("resend", str(number)).stdout
        courier.attempt(planted.revision_id, "pacs")
    assert archive.order == [planted.objects["SR"]]


def test_what_is_on_its_way_is_not_sent_a_second_time(run: Run, gateway: App) -> None:
    from storage.deliveries import due_turns

    planted = plant(gateway)
    Courier(gateway).plan(planted.revision_id)
    with gateway.database.transaction() as session:
        take(session, due_turns(session, "pacs", None, 10))
    result = run("resend", planted.study_uid, "--destination", "pacs")
    assert result.exit_code == 2


def test_a_destination_or_study_that_nobody_knows_is_a_fault(run: Run, delivered: Planted) -> None:
    assert run("resend", delivered.study_uid, "--destination", "nowhere").exit_code == 2
    assert run("resend", "1.2.3").exit_code == 2
