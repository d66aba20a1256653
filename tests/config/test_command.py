"""`scanwarden config`: the answer first, every fault with its remedy, an exit code for scripts."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from config.reference import reference

SECRET = "hunter2SECRET"


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> "Command":
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCANWARDEN_CONFIG", raising=False)
    return Command()


class Command:
    def __call__(self, *arguments: str, **environment: str) -> Result:
        from gateway.cli.config import app

        return CliRunner().invoke(app, arguments, env=environment)


def file(text: str) -> str:
    Path("scanwarden.yaml").write_text(text, encoding="utf-8")
    return "scanwarden.yaml"


def test_a_sound_file_ends_with_zero(command: Command) -> None:
    result = command("check", file("dicom: {port: 104}"))
    assert result.exit_code == 0
    assert "ok: scanwarden.yaml can be used" in result.stdout


def test_faults_end_with_one_and_are_all_listed(command: Command) -> None:
    text = f"dicom: {{port: 0, prot: 1}}\ndatabase: {{url: 'postgresql://u:{SECRET}@h/d'}}"
    result = command("check", file(text))
    assert result.exit_code == 1
    assert result.stdout.startswith("the configuration cannot be used: 3 faults\n")
    for words in ("dicom.port = 0", "dicom.prot = 1", "did you mean `port`?", "database.url", "→ give a whole number"):
        assert words in result.stdout
    assert SECRET not in result.output


def test_json_says_the_same_for_a_script(command: Command) -> None:
    result = command("check", file("dicom: {port: 0, sources: [{ae_title: A, addresses: [0.0.0.0/0]}]}"), "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert told["ok"] is False
    assert [(fault["key"], fault["value"], fault["where"]) for fault in told["faults"]] == [
        ("dicom.port", "0", "scanwarden.yaml line 1")
    ]
    assert [warning["key"] for warning in told["warnings"]] == ["dicom.sources[0].addresses[0]"]


def test_markup_in_a_value_is_shown_as_it_is(command: Command) -> None:
    assert 'dicom.port = "[bold]x[/]"' in command("check", file("dicom: {port: '[bold]x[/]'}")).stdout


def test_the_file_may_come_from_the_environment(command: Command) -> None:
    name = file("dicom: {port: 0}")
    assert command("check", SCANWARDEN_CONFIG=name).exit_code == 1
    assert command("show", SCANWARDEN_CONFIG=name).exit_code == 1


def test_a_profile_or_model_that_is_not_installed_is_a_fault(command: Command) -> None:
    text = "destinations: [{name: a, ae_title: P, host: pacs.example, port: 104, profile: nowhere}]"
    assert "give one of: " in command("check", file(text)).stdout


def test_show_prints_what_is_in_effect_and_no_secret(command: Command) -> None:
    variables = {"SCANWARDEN_DATABASE__URL": f"postgresql://u:{SECRET}@h/d"}
    name = file("dicom: {port: 104}")
    shown = command("show", "--config", name, **variables)
    assert shown.exit_code == 0
    assert yaml.safe_load(shown.stdout)["dicom"]["port"] == 104
    as_json = json.loads(command("show", "-c", name, "--json", **variables).stdout)
    assert as_json["settings"] == yaml.safe_load(shown.stdout)
    assert as_json["origins"] == {
        "dicom.port": "scanwarden.yaml line 1",
        "database.url": "SCANWARDEN_DATABASE__URL",
    }
    assert SECRET not in shown.output + json.dumps(as_json)


def test_show_of_a_faulty_file_is_the_list_of_faults(command: Command) -> None:
    result = command("show", "-c", file("dicom: {port: 0}"))
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "dicom.port = 0" in result.stderr


def test_reference_is_written_where_told(command: Command) -> None:
    assert command("reference").stdout == reference()
    assert command("reference", "--output", "here.md").exit_code == 0
    assert Path("here.md").read_text(encoding="utf-8") == reference()
    assert command("reference", "--output", "missing/here.md").exit_code == 1
