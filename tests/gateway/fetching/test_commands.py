"""`scanwarden fetch`, `priors` and `study` at the terminal: an answer, an exit code, and a look in the ledger."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import select
from typer.testing import CliRunner, Result

from config import load_settings
from gateway.access.people import Account
from gateway.app import build, prepare
from gateway.cli import app, options
from storage.tables import Instance, LedgerRow, Prior
from tests.gateway.fetching.archives import destination, instances_of, put, study, uid_of
from tests.peers import Orthanc
from tests.remembered import remember

Run = Callable[..., Result]
pytestmark = pytest.mark.peers


@pytest.fixture
def config(tmp_path: Path, orthanc: Orthanc) -> Path:
    """A gateway that has run, and the archive that it fetches from."""
    file = tmp_path / "scanwarden.yaml"
    settings = {
        "store": {"root": str(tmp_path / "var"), "high_watermark": 1.0, "low_watermark": 0.99, "reserve_bytes": 0},
        "destinations": [destination(orthanc.dicom_port)],
        "verification": {"instances_per_second": 10000},
        "access": {"people": [{"user": name, "role": role} for name, role in PEOPLE.items()]},
    }
    file.write_text(yaml.safe_dump(settings))
    prepare(load_settings(file))
    return file


PEOPLE = {"vera": "viewer", "rob": "radiologist", "sam": "security"}


@pytest.fixture
def run(config: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(config.parent)
    monkeypatch.setenv("SCANWARDEN_CONFIG", str(config))
    monkeypatch.setenv("COLUMNS", "300")

    def invoke(who: str, *arguments: str) -> Result:
        monkeypatch.setattr(options, "account_of_this_process", lambda: Account(who))
        return CliRunner().invoke(app, arguments, catch_exceptions=False)

    return invoke


def rows(config: Path, table: Any) -> list[Any]:
    with build(load_settings(config)) as gateway, gateway.database.reading() as session:
        return list(session.scalars(select(table)))


def test_a_study_is_fetched_by_its_number_into_a_folder_or_the_gateway(
    run: Run, config: Path, orthanc: Orthanc, tmp_path: Path
) -> None:
    files = study(tmp_path / "study", 40, AccessionNumber="A-40", PatientID="P-40")
    put(orthanc.dicom_port, files)
    result = run("rob", "fetch", "--accession", "A-40", "--output", "out")
    assert (result.exit_code, "2 of 2" in result.output) == (0, True), result.output
    assert {each.stem for each in (tmp_path / "out").iterdir()} == instances_of(files)
    assert rows(config, Instance) == []
    listed = run("rob", "fetch", "--patient", "P-40", "--list")
    assert (listed.exit_code, "Secret^Person" in listed.stdout, uid_of(files) in listed.stdout) == (0, True, True)
    facts = json.loads(run("rob", "fetch", uid_of(files), "--json").stdout)
    assert (facts["to"], facts["listed"], facts["taken"], facts["not_sent"]) == ("gateway", 2, 2, [])
    assert len(rows(config, Instance)) == 2
    text = "".join(f"{row.details}{row.subject}" for row in rows(config, LedgerRow))
    assert not [each for each in ("A-40", "P-40", "Secret") if each in text]


def test_what_cannot_be_fetched_ends_with_a_reason_and_its_code(run: Run, config: Path, tmp_path: Path) -> None:
    assert run("rob", "fetch", "1.2.3.4").exit_code == 4
    assert run("rob", "fetch", "--accession", "nobody-has-it").exit_code == 4
    for arguments in (
        [],
        ["no-uid"],
        ["1.2.3", "--patient", "P"],
        ["--patient", "P"],
        ["--accession", "A*"],
        ["1.2.3", "--from", "nobody"],
    ):
        result = run("rob", "fetch", *arguments)
        assert (result.exit_code, "Traceback" in result.output) == (2, False), arguments
    assert run("rob", "priors", "1.2.3.4").exit_code == 2


def test_attack_somebody_without_the_right_sees_or_moves_patients(run: Run, config: Path) -> None:
    """Who looks after the proof may see what the archive lists, and brings nothing in or out."""
    for arguments in (["1.2.3"], ["1.2.3", "--output", "out"], ["--patient", "P-40", "--list"]):
        assert run("vera", "fetch", *arguments).exit_code == 3
    assert run("vera", "priors", "1.2.3").exit_code == 3
    for arguments in (["fetch", "1.2.3"], ["fetch", "1.2.3", "--output", "out"], ["priors", "1.2.3", "--fetch", "1"]):
        assert run("sam", *arguments).exit_code == 3
    assert run("sam", "fetch", "--patient", "nobody", "--list").exit_code == 4


def test_priors_are_listed_fetched_and_named_beside_their_study(
    run: Run, config: Path, orthanc: Orthanc, tmp_path: Path
) -> None:
    earlier = [study(tmp_path / f"e{n}", 50 + n, PatientID="P-50", StudyDate=f"202{n}0101") for n in range(2)]
    for files in earlier:
        put(orthanc.dicom_port, files)
    oldest, newest = (uid_of(files) for files in earlier)
    with build(load_settings(config)) as gateway:
        current = remember(gateway, study(tmp_path / "now", 60, PatientID="P-50", StudyDate="20260101"))
    facts = json.loads(run("rob", "priors", current, "--json").stdout)
    assert [(each["study_uid"], each["here"], each["verdict"]) for each in facts["priors"]] == [
        (newest, False, None),
        (oldest, False, None),
    ]
    assert rows(config, Prior) == []
    result = run("rob", "priors", current, "--fetch", "1")
    assert (result.exit_code, "fetched, 2 instances" in result.output) == (0, True), result.output
    again = json.loads(run("rob", "priors", current, "--fetch", "1", "--json").stdout)
    assert [(each["here"], each["first_seen"], each["verified"], each["fetch"]) for each in again["priors"]] == [
        (True, "proved", None, "is here already"),
        (False, None, None, None),
    ]
    (told,) = json.loads(run("rob", "study", current, "--json").stdout)["priors"]
    assert (told["study_uid"], told["state"], told["verdict"]) == (newest, "FETCHED", None)
    assert f"prior study {newest}: no verdict yet" in run("rob", "study", current).stdout
