"""The ledger's commands from start to end: sign, verify, prove, rotate, export, report, search, seal."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from config import load_settings
from gateway.app import build, prepare
from gateway.cli import app
from gateway.pipeline.keeping import LedgerKeeping
from storage import AuditEvent, AuditEventType, AuditOutcome
from storage.audit.ledger import LedgerRecord, append
from storage.audit.tree import proves

Run = Callable[..., Result]
STUDY = "1.2.3"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `scanwarden audit …` on a gateway that recorded some events."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCANWARDEN_CONFIG", raising=False)
    config = tmp_path / "scanwarden.yaml"
    config.write_text(yaml.safe_dump({"store": {"root": str(tmp_path / "var")}}))
    settings = load_settings(config)
    prepare(settings)
    with build(settings) as service, service.database.transaction() as session:
        append(session, [event(number) for number in range(20)])

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["audit", *arguments, "-c", str(config)], catch_exceptions=False)

    return invoke


def event(number: int) -> AuditEvent:
    return AuditEvent(
        AuditEventType.INSTANCE_QUARANTINED if number == 7 else AuditEventType.INSTANCE_STORED,
        "<script>alert(1)</script>@10.0.0.9" if number == 9 else "SCANNER@10.0.0.7",
        outcome=AuditOutcome.SERIOUS_FAILURE if number == 7 else AuditOutcome.SUCCESS,
        study_uid=STUDY if number % 2 else "1.2.4",
        subject=f"1.2.3.{number}",
    )


def facts(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_sign_verify_prove_and_rotate(run: Run, tmp_path: Path) -> None:
    assert "No checkpoint signs them yet" in run("verify").stdout
    first = facts(run("checkpoint", "--json"))
    found = facts(run("verify", "--json"))
    assert (found["intact"], found["signed_up_to"], found["anchored"]) == (True, first["seq"], 1)
    told = facts(run("prove", "5"))
    assert proves(told["proof"], LedgerRecord.from_json(told["record"]))
    assert run("keys", "rotate").exit_code == 0
    keys = facts(run("keys", "list", "--json"))
    assert [key["previous"] for key in keys] == [None, keys[0]["key_id"]]
    assert facts(run("prove", "--growth", "1", "2"))["old"] == first
    stick = tmp_path / "stick.json"
    stick.write_text(json.dumps(first))
    pem = tmp_path / "var" / "ledger" / "keys" / f"{keys[0]['key_id']}.pem"
    assert run("verify", "--checkpoint", str(stick), "--key", str(pem)).exit_code == 0
    assert facts(run("verify", "--from", "3", "--to", "9", "--json"))["records"] == 7


def test_a_fault_is_an_answer_and_exit_code_2(run: Run, tmp_path: Path) -> None:
    for arguments in (
        ["prove"],
        ["prove", "5"],
        ["prove", "5", "--growth", "1", "2"],
        ["report", "x.html"],
        ["verify", "--from", "1", "--key", "x.pem"],
        ["verify", "--key", "absent.pem"],
        ["verify", "--from", "999"],
        ["export", "out", "--no-checkpoint"],
        ["prove", "--growth", "1", "2"],
    ):
        result = run(*arguments)
        assert result.exit_code == 2, (arguments, result.output)
        assert "scanwarden:" in result.stderr
    assert run("verify", "--checkpoint", "absent.json").exit_code == 1
    for file in (tmp_path / "var" / "keys").glob("*"):
        file.unlink()


def test_a_missing_private_key_is_named(run: Run, tmp_path: Path) -> None:
    run("checkpoint")
    for file in (tmp_path / "var" / "keys").glob("*.pem"):
        file.unlink()
    result = run("checkpoint")
    assert result.exit_code == 2
    assert "--lost" in result.stderr
    assert run("keys", "rotate", "--lost").exit_code == 0
    assert run("verify").exit_code == 1


def test_an_export_has_what_an_outsider_needs(run: Run, tmp_path: Path) -> None:
    made = facts(run("export", "out", "--study", STUDY, "--format", "xml", "--json"))
    assert (made["records"], made["beyond"]) == (10, 0)
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names >= {"records.jsonl", "proofs.jsonl", "checkpoint.json", "checkpoint.sig", "keys", "messages.xml"}
    assert run("export", "out").exit_code == 2, "a folder that holds something is not written over"
    records = facts(run("list", "--event", "ledger-exported", "--json"))
    assert [record["study_uid"] for record in records] == [STUDY]


class Page(HTMLParser):
    """What a page would load or run."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]


def test_a_report_is_one_page_that_loads_and_runs_nothing(run: Run, tmp_path: Path) -> None:
    run("checkpoint")
    assert run("report", "r.html", "--study", STUDY).exit_code == 0
    text = (tmp_path / "r.html").read_text()
    page = Page()
    page.feed(text)
    assert "script" not in page.tags
    assert page.links == []
    assert "&lt;script&gt;" in text
    assert "The ledger is intact" in text
    assert "instance-quarantined" in text


def test_a_report_on_a_broken_ledger_says_so_first(run: Run, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "var" / "scanwarden.sqlite")) as connection:
        connection.execute("DROP TRIGGER ledger_refuses_update")
        connection.execute("UPDATE ledger SET actor = 'nobody' WHERE seq = 3")
        connection.commit()
    assert "broken" in run("report", "r.html", "--study", STUDY).stdout
    assert "cannot be relied on" in (tmp_path / "r.html").read_text()
    assert run("checkpoint").exit_code == 2, "and nothing is signed on top of it"


def test_search_looks_into_every_field(run: Run) -> None:
    assert [record["seq"] for record in facts(run("search", "1.2.3.19", "--json"))] == [20]
    assert [record["seq"] for record in facts(run("search", "--failures", "--json"))] == [8]
    assert len(facts(run("search", "--study", STUDY, "--event", "instance-stored", "--json"))) == 9
    assert facts(run("search", "--until", "2001-01-01", "--json")) == []


def test_too_little_to_seal_is_an_answer(run: Run) -> None:
    assert "Nothing to seal" in run("seal", "--older-than-days", "0").stdout


def test_the_timetable_signs_and_verifies_and_alarms_once(run: Run, tmp_path: Path) -> None:
    settings = load_settings(tmp_path / "scanwarden.yaml")
    with build(settings) as service:
        keeping = LedgerKeeping(service)
        keeping.checkpoint()
        keeping.checkpoint()
        keeping.verify()
        events = [record.event for record in service.ledger.list(limit=3)]
        assert events == ["ledger-key-published", "ledger-checkpointed", "ledger-verified"]
        with service.database.transaction() as session:
            from sqlalchemy import text

            session.execute(text("DROP TRIGGER ledger_refuses_update"))
            session.execute(text("UPDATE ledger SET actor = 'nobody' WHERE seq = 22"))
        keeping.checkpoint()
        keeping.checkpoint()
        assert [r.event for r in service.ledger.list(limit=2)] == ["ledger-verified", "ledger-broken"]
        keeping.verify()
        assert [r.outcome for r in service.ledger.list(limit=2)] == [12, 12]
