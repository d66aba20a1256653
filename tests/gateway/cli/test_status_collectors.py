"""`scanwarden status` says how far each collector of audit messages is."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from config import load_settings
from gateway.app import prepare
from gateway.cli import app
from storage import AuditEvent, AuditEventType, Ledger, open_database
from storage.audit import spool


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A gateway with one event and a collector that does not answer."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "scanwarden.yaml"
    collector = {"name": "siem", "host": "siem.example", "transport": "tcp"}
    file.write_text(yaml.safe_dump({"store": {"root": str(tmp_path / "var")}, "audit": {"collectors": [collector]}}))
    settings = load_settings(file)
    prepare(settings)
    with open_database(settings) as database:
        Ledger(database).record(AuditEvent(AuditEventType.APPLICATION_STARTED, actor="scanwarden:test"))
        with database.transaction() as session:
            spool.fail(session, "siem", "nobody answers")
    return file


def test_status_shows_what_waits_for_a_collector_and_why(config: Path) -> None:
    shown = CliRunner().invoke(app, ["status", "-c", str(config), "--json"], catch_exceptions=False)
    (facts,) = json.loads(shown.stdout)["collectors"]
    assert (facts["collector"], facts["confirmed"]) == ("siem", 0)
    assert facts["waiting"] >= 1
    assert facts["oldest_waiting"] is not None
    assert facts["failure"] == "nobody answers"
    words = CliRunner().invoke(app, ["status", "-c", str(config)], catch_exceptions=False).stdout
    assert "takes none since" in words
    assert "nobody answers" in words
