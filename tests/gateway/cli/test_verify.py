"""`scanwarden verify` ends in an answer and an exit code; every look is in the ledger."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydicom import dcmread
from typer.testing import CliRunner, Result

from config import load_settings
from gateway.app import build, prepare
from gateway.cli import app
from gateway.verification.archive import DicomArchive
from storage import AuditEventType
from tests.gateway.verification.test_sampling import Shelf
from tests.remembered import edited, phantom, remember

Run = Callable[..., Result]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A gateway that has seen one study, whose files lie in `study`; its archive is `pacs`."""
    file = tmp_path / "scanwarden.yaml"
    destination = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}
    settings = {
        "store": {"root": str(tmp_path / "var"), "high_watermark": 1.0, "low_watermark": 0.99, "reserve_bytes": 0},
        "destinations": [destination],
        "verification": {"archive": "pacs", "instances_per_second": 10000},
    }
    file.write_text(yaml.safe_dump(settings))
    loaded = load_settings(file)
    prepare(loaded)
    with build(loaded) as gateway:
        remember(gateway, phantom(tmp_path / "study", 5, slices=3, matrix=32))
    return file


@pytest.fixture
def run(tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCANWARDEN_CONFIG", str(config))

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(app, arguments, catch_exceptions=False)

    return invoke


@pytest.fixture
def files(config: Path) -> list[Path]:
    return sorted((config.parent / "study").rglob("*.dcm"))


@pytest.fixture
def shelf(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """In the place of the archive's network."""
    shelf = Shelf()
    shelf.files[str(dcmread(files[0]).StudyInstanceUID)] = files
    monkeypatch.setattr(DicomArchive, "fetch", lambda _, *arguments, **named: shelf.fetch(*arguments, **named))
    return shelf


def events(config: Path, event: AuditEventType) -> list[Any]:
    with build(load_settings(config)) as gateway:
        return gateway.ledger.list(event=event.value, limit=None)


def test_a_folder_as_it_was_sent_ends_with_0_and_the_look_is_recorded(run: Run, config: Path) -> None:
    result = run("verify", "study")
    assert result.exit_code == 0
    assert "3 as-first-seen" in " ".join(result.stdout.split())
    (event,) = events(config, AuditEventType.VERIFICATION_PASSED)
    assert event.actor.startswith("user:")
    assert event.subject == "files"


def test_an_edited_file_ends_with_1_and_says_where(run: Run, config: Path, files: list[Path]) -> None:
    edited(files[1], (3, 4, 10, 9)).save_as(files[1])
    result = run("verify", "study")
    assert result.exit_code == 1
    assert "rows 3-9, columns 4-8 (35 pixels)" in " ".join(result.stdout.split())
    facts = json.loads(run("verify", "study", "--json").stdout)
    (altered,) = (each for each in facts[0]["instances"] if each["state"] == "altered")
    assert altered["region"]["box"] == [3, 4, 10, 9]
    assert len(events(config, AuditEventType.VERIFICATION_DIFFERS)) == 2


def test_a_part_of_a_study_is_an_incident_unless_it_is_called_a_part(run: Run, files: list[Path]) -> None:
    assert run("verify", str(files[0])).exit_code == 1
    assert run("verify", str(files[0]), "--partial").exit_code == 0


def test_an_unknown_study_ends_with_4(run: Run, tmp_path: Path) -> None:
    phantom(tmp_path / "other", 6, slices=2, matrix=32)
    assert run("verify", "other").exit_code == 4
    assert run("verify", "1.2.3.4").exit_code == 4


def test_what_cannot_be_verified_ends_with_2(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for arguments in (["empty"], ["no-such-thing"], [], ["study", "--all"], ["1.2.3", "--destination", "nobody"]):
        result = run("verify", *arguments)
        assert result.exit_code == 2, arguments
        assert "Traceback" not in result.output


def test_a_study_is_fetched_from_the_archive_and_compared(run: Run, shelf: Shelf, files: list[Path]) -> None:
    (study_uid,) = shelf.files
    assert run("verify", study_uid).exit_code == 0
    shelf.files[study_uid] = files[:2]
    result = run("verify", study_uid, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)[0]["counts"] == {"as-first-seen": 2, "missing": 1}
    shelf.down = True
    assert run("verify", study_uid).exit_code == 2


def test_a_full_sweep_shows_in_the_coverage_and_goes_on_where_it_was(run: Run, shelf: Shelf) -> None:
    assert json.loads(run("verify", "--coverage", "--json").stdout)["share"] == 0
    swept = json.loads(run("verify", "--all", "--json").stdout)
    assert (swept["as_first_seen"], swept["coverage"]["share"]) == (1, 1)
    found = json.loads(run("verify", "--coverage", "--json").stdout)
    assert (found["share"], found["studies"], found["differing"]) == (1, 1, 0)
    assert json.loads(run("verify", "--all", "--skip-hours", "1", "--json").stdout)["studies"] == 0
    assert json.loads(run("status", "--json").stdout)["verification"]["share"] == 1
    assert "100.0% of pacs verified in the last 90 days" in " ".join(run("status").stdout.split())


def test_a_sweep_of_an_archive_that_is_down_is_no_success(run: Run, shelf: Shelf) -> None:
    shelf.down = True
    result = run("verify", "--all", "--json")
    assert result.exit_code == 2
    assert len(json.loads(result.stdout)["not_verified"]) == 1
