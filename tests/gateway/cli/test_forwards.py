"""`scanwarden forwards` says where instances stay, and sends them on again."""

import json
from pathlib import Path

import yaml
from typer.testing import CliRunner

from config import load_settings
from gateway.app import build, prepare
from gateway.cli import app as scanwarden
from gateway.pipeline.forwarding import Forwarder
from storage.forwarding import next_passages, record_refused
from tests.faults.modality import make_study
from tests.gateway.pipeline.conftest import arrive


def test_a_dead_letter_is_listed_with_its_reason_and_can_be_sent_again(tmp_path: Path) -> None:
    config = tmp_path / "site.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "store": {"root": str(tmp_path / "var"), "high_watermark": 0.99, "low_watermark": 0.98},
                "destinations": [{"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 4242}],
                "forwarding": {"routes": [{"destination": "pacs"}]},
            }
        )
    )
    settings = load_settings(config)
    prepare(settings)
    files = make_study(tmp_path, edited=False, slices=2, matrix=8).files
    with build(settings) as app:
        arrive(app, files)
        Forwarder(app, "test").queue()
        with app.database.transaction() as session:
            first, _ = next_passages(session, "pacs", 10)
            record_refused(session, first, "status 0xC000", pause=None)
    runner = CliRunner()
    told = json.loads(
        runner.invoke(scanwarden, ["forwards", "list", "-c", str(config), "--json"], catch_exceptions=False).stdout
    )
    assert told["destinations"][0] | {"oldest_waiting_seconds": 0} == {
        "destination": "pacs",
        "waiting": 1,
        "dead": 1,
        "oldest_waiting_seconds": 0,
    }
    assert [(each["sop_instance_uid"], each["failure"]) for each in told["instances"]] == [
        (files[0].stem, "status 0xC000")
    ]
    assert (
        "1 waiting, 1 dead"
        in runner.invoke(scanwarden, ["forwards", "list", "-c", str(config)], catch_exceptions=False).stdout
    )
    again = runner.invoke(scanwarden, ["forwards", "retry", "-c", str(config)], catch_exceptions=False)
    assert again.stdout == "1 instances are passed on again\n"
    told = json.loads(
        runner.invoke(scanwarden, ["forwards", "list", "-c", str(config), "--json"], catch_exceptions=False).stdout
    )
    assert told["instances"] == []
