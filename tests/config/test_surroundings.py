"""What the settings point to on this machine."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from config import surroundings
from config.faults import Report


def destination(host: str, port: int = 11112) -> str:
    return f"destinations: [{{name: archive, ae_title: PACS, host: '{host}', port: {port}}}]\n"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1.2.3", "localhost", "LOCALHOST", "::1", "::", socket.gethostname()]
)
def test_a_destination_that_is_ourselves_is_a_fault(checked: Callable[..., Report], host: str) -> None:
    (fault,) = checked(destination(host)).faults
    assert (fault.key, fault.value) == ("destinations[0]", f'"{host}:11112"')
    assert "every evidence object would come back" in fault.problem


@pytest.mark.parametrize(
    "text",
    [
        destination("127.0.0.1", 4242),
        destination("192.0.2.1"),
        destination("pacs.example"),
        destination("127.0.0.2") + "dicom: {host: 127.0.0.1}",
    ],
)
def test_a_destination_elsewhere_is_none_of_it(checked: Callable[..., Report], text: str) -> None:
    assert not checked(text).faults


def test_a_loop_is_found_when_we_listen_on_one_address(checked: Callable[..., Report]) -> None:
    report = checked(destination("localhost") + "dicom: {host: 127.0.0.1}")
    assert [fault.key for fault in report.faults] == ["destinations[0]"]


def test_an_address_that_this_machine_does_not_have_is_a_warning(checked: Callable[..., Report]) -> None:
    report = checked("dicom: {host: 192.0.2.1}")
    assert not report.faults
    assert [warning.key for warning in report.warnings] == ["dicom.host"]


def test_a_low_port_without_the_privilege_is_a_warning(
    checked: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(surroundings, "_first_free_port", lambda: 1024)
    monkeypatch.setattr(surroundings, "_may_bind_low_ports", lambda: False)
    assert [warning.key for warning in checked("dicom: {port: 104}").warnings] == ["dicom.port"]
    assert not checked("dicom: {port: 1024}").warnings


def test_the_store_is_a_folder_that_can_be_made(checked: Callable[..., Report], tmp_path: Path) -> None:
    assert not checked(f"store: {{root: {tmp_path}/new/deep}}").faults
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").touch()
    (fault,) = checked(f"store: {{root: {tmp_path}/file/store}}").faults
    assert (fault.key, fault.problem) == ("store.root", f"{tmp_path}/file is a file")


def test_a_store_that_may_not_be_written_is_a_fault(
    checked: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    (fault,) = checked("").faults
    assert fault.key == "store.root"
    assert "this user may not write in " in fault.problem


def test_a_store_under_a_closed_folder_is_a_fault(
    checked: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", refuse)
    (fault,) = checked("").faults
    assert fault.problem == "this user may not enter a folder above it"


def test_a_disk_that_is_too_full_already_is_a_warning(checked: Callable[..., Report], tmp_path: Path) -> None:
    report = checked(f"store: {{root: {tmp_path}, high_watermark: 0.000002, low_watermark: 0.000001}}")
    assert [warning.key for warning in report.warnings] == ["store.high_watermark"]


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("mysql://u@h/d", "names a database that Scanwarden does not know"),
        ("postgresql+asyncpg://u@h/d", "names a database that Scanwarden does not know"),
        ("postgres://u@h/d", "its scheme has another name"),
        ("postgresql://u@h", "names no database"),
        ("sqlite://", "keeps the database in memory, where no other role and no restart finds it"),
        ("sqlite:///:memory:", "keeps the database in memory, where no other role and no restart finds it"),
        ("index.sqlite", "is no database URL"),
        ("postgresql://u@h:port/d", "is no database URL"),
        ("sqlite:////dev/null/x.sqlite", "/dev/null is a file"),
    ],
)
def test_a_database_that_cannot_work_is_a_fault(checked: Callable[..., Report], url: str, problem: str) -> None:
    (fault,) = checked(f"database: {{url: '{url}'}}").faults
    assert (fault.key, fault.problem) == ("database.url", problem)


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg"])
def test_postgresql_with_a_password_file_is_sound(checked: Callable[..., Report], tmp_path: Path, scheme: str) -> None:
    secret = tmp_path / "password"
    secret.touch(mode=0o600)
    secret.write_text("hunter2\n", encoding="utf-8")
    report = checked(f"database: {{url: '{scheme}://u@h/d', password_file: {secret}}}")
    assert (report.faults, report.warnings) == ((), ())


def test_a_password_file_is_looked_into(checked: Callable[..., Report], tmp_path: Path) -> None:
    secret = tmp_path / "password"
    text = f"database: {{url: 'postgresql://u@h/d', password_file: {secret}}}"
    assert [fault.problem for fault in checked(text).faults] == ["does not exist"]
    secret.touch(mode=0o600)
    assert [fault.problem for fault in checked(text).faults] == ["names an empty file"]
    secret.write_text("hunter2", encoding="utf-8")
    secret.chmod(0o644)
    report = checked(text)
    assert not report.faults
    assert [warning.key for warning in report.warnings] == ["database.password_file"]


def test_a_password_file_for_sqlite_is_a_warning(checked: Callable[..., Report], tmp_path: Path) -> None:
    report = checked(f"database: {{password_file: {tmp_path}/password}}")
    assert not report.faults
    assert [warning.problem for warning in report.warnings] == ["is not used: SQLite has no password"]


def test_two_passwords_are_a_fault(checked: Callable[..., Report], tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.touch(mode=0o600)
    secret.write_text("hunter2", encoding="utf-8")
    report = checked(
        f"database: {{password_file: {secret}}}", {"SCANWARDEN_DATABASE__URL": "postgresql://u:hunter3@h/d"}
    )
    assert [fault.problem for fault in report.faults] == ["gives a second password: the URL has one already"]
