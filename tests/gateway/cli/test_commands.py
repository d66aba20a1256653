"""Commands end in an answer, a reason and an exit code that a script can rely on; never in a traceback."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner, Result

from config import load_settings
from gateway.app import prepare
from gateway.cli import app
from models.tampering.phantom import make_phantom_study
from storage import AuditEvent, AuditEventType, Ledger, open_database

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in an empty folder, without the environment's own configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCANWARDEN_CONFIG", raising=False)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(app, arguments, catch_exceptions=False)

    return invoke


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The configuration of a gateway that has been started once and has recorded one event."""
    file = tmp_path / "scanwarden.yaml"
    file.write_text(yaml.safe_dump({"store": {"root": str(tmp_path / "var")}}))
    settings = load_settings(file)
    prepare(settings)
    database = open_database(settings)
    Ledger(database).record(AuditEvent(AuditEventType.APPLICATION_STARTED, actor="scanwarden:test"))
    database.close()
    return file


def test_a_command_that_looks_makes_no_database(run: Run, tmp_path: Path) -> None:
    for command in (["status"], ["study", "1.2.3"], ["retry"], ["audit", "verify"], ["audit", "list"]):
        result = run(*command)
        assert result.exit_code == 2, command
        assert "there is no database" in " ".join(result.stderr.split())
    assert not (tmp_path / "var" / "scanwarden.sqlite").exists()


def test_a_configuration_fault_stops_the_start_with_the_list_of_faults(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("dicom: {prot: 1, port: 99999999}\ndestinations: 7\n")
    result = run("serve", "--config", "bad.yaml")
    assert result.exit_code == 2
    for key in ("dicom.prot", "dicom.port", "destinations"):
        assert key in result.stderr
    assert "Traceback" not in result.output


def test_serve_refuses_a_role_that_does_not_exist(run: Run) -> None:
    assert run("serve", "--roles", "receive,dance").exit_code == 2


def test_status_of_a_gateway_that_received_nothing(run: Run, config: Path) -> None:
    facts = json.loads(run("status", "-c", str(config), "--json").stdout)
    assert (facts["studies"], facts["instances"], facts["newest"], facts["ledger_records"]) == (0, {}, [], 1)
    assert {name: check["ok"] for name, check in facts["checks"].items()} == {
        "database": True,
        "ledger": True,
        "disk": True,
        "dicom_port": False,
        "analyse_role": False,
    }
    shown = run("status", "-c", str(config)).stdout
    assert "ledger" in shown
    assert "not ready analyse_role" in shown


def test_the_health_check_fails_while_nobody_listens(run: Run, config: Path) -> None:
    result = run("status", "--check", "-c", str(config))
    assert result.exit_code == 1
    assert "not ready dicom_port: no process receives" in result.stdout


def test_an_unknown_study_is_a_fault_and_not_an_empty_answer(run: Run, config: Path) -> None:
    result = run("study", "1.2.3", "-c", str(config))
    assert result.exit_code == 2
    assert "1.2.3" in result.stderr


def test_verifying_and_listing_the_ledger_are_recorded_in_it(run: Run, config: Path) -> None:
    assert json.loads(run("audit", "verify", "-c", str(config), "--json").stdout)["records"] == 1
    records = json.loads(run("audit", "list", "-c", str(config), "--json").stdout)
    assert [record["event"] for record in records] == ["application-started", "ledger-verified"]
    again = json.loads(run("audit", "list", "-c", str(config), "--json").stdout)
    assert again[-1]["event"] == "audit-log-used"
    assert again[-1]["actor"].startswith("user:")
    shown = run("audit", "list", "-c", str(config)).stdout  # 80 columns, as where there is no screen
    assert all(f"{each['event']}  success  {each['actor']}" in shown for each in again)
    assert '{"records":' in shown


def test_a_ledger_that_somebody_changed_ends_with_1_and_names_the_record(run: Run, config: Path) -> None:
    with closing(sqlite3.connect(config.parent / "var" / "scanwarden.sqlite")) as connection:
        connection.execute("DROP TRIGGER ledger_refuses_update")
        connection.execute("UPDATE ledger SET actor = 'nobody' WHERE seq = 1")
        connection.commit()
    result = run("audit", "verify", "-c", str(config))
    assert result.exit_code == 1
    assert "broken at record 1" in result.stdout


def test_send_says_who_could_not_be_reached(run: Run, tmp_path: Path) -> None:
    make_phantom_study(tmp_path / "study", np.random.default_rng(1), slices=2, matrix=64)
    result = run("send", "study", "--port", "9", "--called", "NOBODY")
    assert result.exit_code == 2
    assert "0 of 2 stored" in " ".join(result.stderr.split())
    assert run("send", "nowhere").exit_code == 2


def test_send_to_a_destination_that_is_not_configured_names_those_that_are(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x.dcm").write_bytes(b"")
    result = run("send", "x.dcm", "--to", "pacs")
    assert result.exit_code == 2
    assert "known: none" in " ".join(result.stderr.split())


def test_tamper_never_writes_over_files(run: Run, tmp_path: Path) -> None:
    make_phantom_study(tmp_path / "study", np.random.default_rng(1), slices=8, matrix=96)
    assert run("tamper", "study", "copy", "--family", "telea", "--new-uids").exit_code == 0
    assert len(list((tmp_path / "copy").glob("*.dcm"))) == 8
    assert run("tamper", "study", "copy", "--family", "telea").exit_code == 2
    assert run("tamper", "study", "other", "--family", "nonsense").exit_code == 2


def test_models_list_says_whether_weights_match_their_card(run: Run) -> None:
    rows = json.loads(run("models", "list", "--json").stdout)
    assert rows
    assert all(row["weights_match"] for row in rows)


def test_analyse_of_what_is_not_dicom_abstains_with_the_reason(run: Run, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "note.txt").write_text("no image")
    result = run("analyse", "folder", "--json")
    assert result.exit_code in (0, 2)
    assert "Traceback" not in result.output
    if result.exit_code == 0:
        assert {row["verdict"] for row in json.loads(result.stdout)} == {"ABSTAIN"}
    assert run("analyse", "nowhere").exit_code == 2


def test_analyse_writes_what_scripts_rely_on(run: Run, tmp_path: Path) -> None:
    make_phantom_study(tmp_path / "study", np.random.default_rng(2), slices=6, matrix=128)
    result = run("analyse", "study", "--json", "--output", "out")
    assert result.exit_code == 0
    (row,) = json.loads(result.stdout)
    keys = {"study_uid", "verdict", "score", "reasons", "findings", "slices", "observations", "models", "seconds"}
    assert keys <= row.keys()  # keys are only added
    masks = np.load(tmp_path / "out" / "masks.npz")["class"]
    assert masks.dtype == np.uint8
    written = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert any(name.endswith(".dcm") for name in written), written


def test_analyse_writes_what_a_destination_would_get(run: Run, tmp_path: Path) -> None:
    make_phantom_study(tmp_path / "study", np.random.default_rng(2), slices=2, matrix=64)
    assert run("analyse", "study", "--output", "out", "--profile", "legacy").exit_code == 0
    kinds = {file.name.split("-")[0] for file in (tmp_path / "out").glob("*.dcm")}
    assert kinds == {"SC"}
    assert run("analyse", "study", "--output", "other", "--profile", "nonsense").exit_code == 2
