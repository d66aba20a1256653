"""A password never appears: not in a fault, not in a warning, not in what is shown, not in an exception."""

import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from config import load_settings
from config.check import check
from config.faults import HIDDEN, Report, shown_url, url_has_password
from config.show import effective, effective_yaml

SECRET = "hunter2SECRET"


@pytest.mark.parametrize(
    "text",
    [
        f"database: {{url: 'postgresql://u:{SECRET}@h/d'}}",
        f"database: {{url: 'postgresql://u:{SECRET}@@h/d'}}",
        f"database: {{url: 'postgresql://u:a/{SECRET}@h/d'}}",
        f"database: {{url: 'postgresql://u:#{SECRET}@h/d'}}",
        f"database: {{url: 'postgresql://h/d?user=u&password={SECRET}'}}",
        f"database: {{url: 'postgresql://u:{SECRET}'}}",
        f"database: {{url: 'postgresql:u:{SECRET}@h/d'}}",
        f"database: {{url: 'u:{SECRET}@h/d'}}",
        f"database: {{url: {SECRET}}}",
        f"database: {{url: [{SECRET}]}}",
        f"database: {{url: {{password: {SECRET}}}}}",
        f"database: {{password: {SECRET}}}",
        f"database: {{password_file: {SECRET}, url: 'postgresql://u@h/d'}}",
        f"database: 'postgresql://u:{SECRET}@h/d'",
        f"database: ['postgresql://u:{SECRET}@h/d']",
        f"db_password: {SECRET}",
        f"store: {{root: 'postgresql://u:{SECRET}@h/d', api_token: {SECRET}}}",
        f"database: {{url: *{SECRET}}}",
        f"database: {{url: !{SECRET} x}}",
        f"database: {{url: 'postgresql://u:{SECRET}@h/d'\nlog: x",
        f'dicom: {{tls: {{certificate: x, private_key: "-----BEGIN PRIVATE KEY-----\\n{SECRET}"}}}}',
    ],
)
def test_no_fault_shows_a_password(checked: Callable[..., Report], text: str) -> None:
    report = checked(text)
    assert report.faults
    assert SECRET not in repr(report) + str(report.as_dict())
    assert not any(SECRET in str(fault) for fault in (*report.faults, *report.warnings))


@pytest.mark.parametrize("name", ["SCANWARDEN_DATABASE__PASSWORD", "SCANWARDEN_DB_PASSWORD", "SCANWARDEN_DATABASE"])
def test_no_fault_shows_a_variable_of_unknown_meaning(checked: Callable[..., Report], name: str) -> None:
    report = checked("", {name: SECRET})
    assert report.faults or report.warnings
    assert SECRET not in repr(report) + str(report.as_dict())


def test_a_password_in_the_file_is_a_fault_that_says_where_it_belongs(checked: Callable[..., Report]) -> None:
    (fault,) = checked(f"database: {{url: 'postgresql://u:{SECRET}@h/d'}}").faults
    assert fault.value == '"postgresql://u:***@h/d"'
    assert "database.password_file" in fault.remedy
    assert "SCANWARDEN_DATABASE__URL" in fault.remedy


def test_what_is_shown_has_no_password(checked: Callable[..., Report]) -> None:
    report = checked("", {"SCANWARDEN_DATABASE__URL": f"postgresql://u:{SECRET}@h/d"})
    settings = report.require()
    assert SECRET not in effective_yaml(report) + str(effective(settings)) + repr(settings) + settings.model_dump_json()
    assert effective(settings)["database"]["url"] == "postgresql://u:***@h/d"


def test_a_traceback_of_a_start_has_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANWARDEN_DATABASE__PASSWORD", SECRET)
    with pytest.raises(ValidationError) as raised:
        load_settings(None)
    assert SECRET not in "".join(traceback.format_exception(raised.value))


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
@example("@")
@example("a@b:c")
@example("?password=x")
def test_a_url_is_shown_without_its_password_whatever_that_is(password: str) -> None:
    marked = f"{SECRET}{password}{SECRET}"
    url = f"postgresql://user:{marked}@host/database"
    assert SECRET not in shown_url(url)
    assert url_has_password(url)


def test_a_url_without_a_password_is_shown_whole() -> None:
    for url in ("sqlite:////var/lib/scanwarden/index.sqlite", "postgresql://u@h:5432/d?sslmode=require"):
        assert shown_url(url) == url
        assert not url_has_password(url)
    assert shown_url("postgresql://h/d?password=x&sslmode=require") == "postgresql://h/d?password=***&sslmode=require"
    assert shown_url("postgresql://u:x") == HIDDEN


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=8))
def test_a_password_of_any_characters_stays_hidden(tmp_path_factory: pytest.TempPathFactory, password: str) -> None:
    path = tmp_path_factory.getbasetemp() / "secret.yaml"
    marked = f"{SECRET}{password}"
    path.write_text(
        yaml.safe_dump({"database": {"url": f"postgresql://u:{marked}@h/d", "passwrd": marked}}), encoding="utf-8"
    )
    report = check(path, environment={})
    assert report.faults
    assert SECRET not in repr(report)
