"""The environment wins over the file, and a misspelt variable does not pass for a set one."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from config import load_settings
from config.faults import Report


def test_a_variable_wins_over_the_file_and_leaves_the_rest(checked: Callable[..., Report]) -> None:
    report = checked(
        "dicom: {port: 104, ae_title: FILE}\nlog: {level: error}",
        {"SCANWARDEN_DICOM__PORT": "105", "SCANWARDEN_LOG__FORMAT": "json"},
    )
    settings = report.require()
    assert (settings.dicom.port, settings.dicom.ae_title) == (105, "FILE")
    assert (settings.log.level, settings.log.format) == ("error", "json")
    assert report.origins == {
        "dicom.port": "SCANWARDEN_DICOM__PORT",
        "dicom.ae_title": "scanwarden.yaml line 1",
        "log.level": "scanwarden.yaml line 2",
        "log.format": "SCANWARDEN_LOG__FORMAT",
    }


def test_a_start_reads_the_environment_as_the_check_does(
    checked: Callable[..., Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {
        "SCANWARDEN_DICOM__PORT": "105",
        "SCANWARDEN_DICOM__SOURCES": '[{"ae_title": "CT1", "addresses": ["10.0.0.1"]}]',
        "scanwarden_store": '{"root": "elsewhere"}',
        "SCANWARDEN_RETENTION__INSTANCES": "90d",
    }
    report = checked("dicom: {port: 104, sources: [{ae_title: A}, {ae_title: B}]}", variables)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert report.require() == load_settings(tmp_path / "scanwarden.yaml")
    assert [source.ae_title for source in report.require().dicom.sources] == ["CT1"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SCANWARDEN_DICOM__PROT", "SCANWARDEN_DICOM__PORT"),
        ("SCANWARDEN_DCIOM__PORT", "SCANWARDEN_DICOM__PORT"),
        ("SCANWARDEN_DICOM_PORT", "SCANWARDEN_DICOM__PORT"),
        ("SCANWARDEN_STORE__QUIET_PERIOD", "SCANWARDEN_REVISIONS__QUIET_PERIOD"),
    ],
)
def test_a_misspelt_variable_is_a_fault(checked: Callable[..., Report], name: str, meant: str) -> None:
    (fault,) = checked("", {name: "hunter2"}).faults
    assert (fault.key, fault.value) == (name, "(not shown)")
    assert fault.remedy == f"did you mean {meant}?"


@pytest.mark.parametrize("name", ["SCANWARDEN_SERVICE_HOST", "SCANWARDEN_PORT_11112_TCP_ADDR", "SCANWARDEN_PORT"])
def test_variables_of_an_orchestrator_do_not_stop_a_start(checked: Callable[..., Report], name: str) -> None:
    report = checked("", {name: "tcp://10.0.0.1:11112"})
    assert not report.faults
    assert [warning.key for warning in report.warnings] == [name]


def test_other_programs_and_our_own_option_are_left_alone(checked: Callable[..., Report]) -> None:
    report = checked("", {"SCANWARDEN_CONFIG": "x.yaml", "HOME": "/", "SCANWARDENS__X": "1"})
    assert (report.faults, report.warnings) == ((), ())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SCANWARDEN_DICOM__SOURCES", "CT1"),
        ("SCANWARDEN_DICOM__SOURCES", '{"ae_title": "CT1"}'),
        ("SCANWARDEN_DICOM", "[1]"),
        ("SCANWARDEN_DICOM", "null"),
        ("SCANWARDEN_DESTINATIONS", "[" * 100_000),
    ],
)
def test_a_group_or_list_that_is_not_json_is_a_fault(checked: Callable[..., Report], name: str, value: str) -> None:
    report = checked("", {name: value, "SCANWARDEN_DICOM__PORT": "104"})
    (fault,) = report.faults
    assert (fault.where, fault.value) == (name, "(not shown)")
    assert "JSON" in fault.problem


def test_a_password_in_the_environment_is_in_its_place(checked: Callable[..., Report]) -> None:
    report = checked(
        "database: {url: 'postgresql://u@h/d'}", {"SCANWARDEN_DATABASE__URL": "postgresql://u:hunter2@h/d"}
    )
    url = report.require().database.url
    assert url is not None
    assert url.get_secret_value() == "postgresql://u:hunter2@h/d"


def test_the_process_environment_is_what_counts_unless_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from config.check import check

    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("SCANWARDEN_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SCANWARDEN_DICOM__PORT", "105")
    assert check(None).require().dicom.port == 105
