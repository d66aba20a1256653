"""Every command that shows studies leaves a record of who was shown which."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from config import load_settings
from gateway.app import build, prepare
from gateway.cli import app as scanwarden
from gateway.cli import looks
from storage import DatabaseUnavailable, Ledger, open_database
from storage.baselines import save_baseline
from tests.faults.modality import SentStudy, make_study
from tests.gateway.pipeline.conftest import arrive

DEVICE = "0123456789abcdef" * 2
BASELINE = {"version": 1, "studies": {"MR": 9}, "traits": {"MR": {"private block ACME [1]": 9}}}


@pytest.fixture
def study(tmp_path: Path) -> SentStudy:
    return make_study(tmp_path, edited=False, slices=2, matrix=8)


@pytest.fixture
def config(tmp_path: Path, study: SentStudy) -> Path:
    """A gateway that got one study, which is held for a destination, and that knows a scanner."""
    file = tmp_path / "site.yaml"
    file.write_text(yaml.safe_dump({"store": {"root": str(tmp_path / "var"), "high_watermark": 0.99}}))
    settings = load_settings(file)
    prepare(settings)
    with build(settings) as app:
        arrive(app, study.files)
        with app.database.transaction() as session:
            save_baseline(session, DEVICE, BASELINE, study_uid=study.study_uid, kinds=["MR"])
    return file


@pytest.fixture
def run(config: Path) -> Callable[..., Result]:
    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(scanwarden, [*arguments, "-c", str(config)], catch_exceptions=False)

    return invoke


def recorded(config: Path, event: str) -> list[dict[str, object]]:
    with open_database(load_settings(config)) as database:
        return [json.loads(record.details) for record in Ledger(database).list(event=event)]


def test_status_records_which_studies_it_showed(run: Callable[..., Result], config: Path, study: SentStudy) -> None:
    for arguments in (("status",), ("status", "--json")):
        assert study.study_uid[:12] in run(*arguments).stdout
    look = {"command": "status", "studies": [study.study_uid], "shown": 1}
    assert recorded(config, "studies-listed") == [look, look]


def test_the_health_check_shows_no_study_and_records_nothing(run: Callable[..., Result], config: Path) -> None:
    run("status", "--check")
    assert recorded(config, "studies-listed") == []


def test_a_look_that_cannot_be_recorded_shows_numbers_and_no_study(
    run: Callable[..., Result], study: SentStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> None:
        raise DatabaseUnavailable("the disk is full")

    monkeypatch.setattr("gateway.cli.studies.record_listing", full)
    shown = run("status")
    assert shown.exit_code == 0
    assert "2 stored" in shown.stdout
    assert study.study_uid[:12] not in shown.output
    assert "the disk is full" in shown.output


def test_a_list_without_studies_is_no_look(config: Path) -> None:
    with open_database(load_settings(config)) as database:
        looks.record_listing(database, "forwards list", [])
    assert recorded(config, "studies-listed") == []


def test_a_scanner_is_known_by_the_beginning_of_its_digest_and_forgotten_on_the_record(
    run: Callable[..., Result], config: Path
) -> None:
    (listed,) = json.loads(run("baselines", "list", "--json").stdout)
    assert (listed["device"], listed["studies"]) == (DEVICE, 1)
    assert "private block ACME [1]" in run("baselines", "show", DEVICE[:8]).stdout
    assert run("baselines", "show", "ffff").exit_code == 2
    assert run("baselines", "forget", DEVICE[:8], "--reason", "upgraded in November").exit_code == 0
    assert recorded(config, "baseline-forgotten") == [
        {"device": DEVICE, "studies": 1, "reason": "upgraded in November"}
    ]
    assert json.loads(run("baselines", "list", "--json").stdout) == []
