"""What makes signatures, alerts or access useless is said at the start, each with its remedy."""

from collections.abc import Callable
from pathlib import Path

import pytest

from config import security
from config.faults import Report
from tests.signers import authority, signer

Checked = Callable[..., Report]


def faults(report: Report) -> set[str]:
    return {fault.key for fault in report.faults}


def test_a_source_cannot_have_to_sign_when_nobody_is_trusted(checked: Checked, tmp_path: Path) -> None:
    source = "dicom: {sources: [{ae_title: CT, require_signature: true}]}\n"
    assert faults(checked(source)) == {"dicom.sources[0].require_signature"}
    trusted = authority(tmp_path)
    assert not checked(source + f"signatures: {{authorities: {trusted.certificate}}}\n").faults


def test_a_source_is_not_trusted_by_its_name_alone(checked: Checked) -> None:
    assert faults(checked("dicom: {sources: [{ae_title: CT, trusted: true}]}\n")) == {"dicom.sources[0].trusted"}


def test_the_key_that_signs_has_to_be_rsa_and_its_certificates(checked: Checked, tmp_path: Path) -> None:
    by = authority(tmp_path)
    one, other, small = signer(tmp_path, by, "one"), signer(tmp_path, by, "other"), signer(tmp_path, by, "s", bits=1024)

    def ours(certificate: Path, key: Path) -> set[str]:
        return faults(checked(f'signatures: {{ours: {{certificate: "{certificate}", private_key: "{key}"}}}}\n'))

    assert ours(one.certificate, one.private_key) == set()
    assert ours(one.certificate, other.private_key) == {"signatures.ours.private_key"}
    assert ours(small.certificate, small.private_key) == {"signatures.ours.private_key"}


@pytest.mark.parametrize("url", ["http://alerts.example/x", "ftp://alerts.example", "alerts.example"])
def test_alerts_go_over_tls(url: str, checked: Checked, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s" * 64)
    (tmp_path / "secret").chmod(0o600)
    section = 'alerts: {{url: "{}", secret_file: "{}"}}\n'
    assert faults(checked(section.format(url, tmp_path / "secret"))) == {"alerts.url"}
    assert not checked(section.format("https://alerts.example/x", tmp_path / "secret")).faults
    assert not checked(section.format("http://127.0.0.1:8080/x", tmp_path / "secret")).faults


def test_alerts_need_a_secret_that_is_one(checked: Checked, tmp_path: Path) -> None:
    assert faults(checked('alerts: {url: "https://alerts.example"}\n')) == {"alerts.secret_file"}
    secret = tmp_path / "secret"
    section = f'alerts: {{url: "https://alerts.example", secret_file: "{secret}"}}\n'
    secret.write_text("s" * 31)
    secret.chmod(0o600)
    assert faults(checked(section)) == {"alerts.secret_file"}
    secret.write_text("s" * 32)
    assert not checked(section).faults
    secret.chmod(0o644)
    assert faults(checked(section)) == {"alerts.secret_file"}


def test_a_person_is_a_user_or_a_group(checked: Checked) -> None:
    people = "access: {{people: [{{user: ada, role: administrator}}, {}]}}\n"
    assert not checked(people.format("{group: radiology, role: radiologist}")).faults
    for wrong in ("{role: viewer}", "{user: a, group: b, role: viewer}"):
        assert faults(checked(people.format(wrong))) == {"access.people[1]"}
    assert faults(checked(people.format("{user: a, role: king}"))) == {"access.people[1].role"}
    assert [each.key for each in checked("access: {people: [{user: a, role: viewer}]}\n").warnings] == ["access.people"]


def test_an_object_store_needs_its_extra_and_tls(checked: Checked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security, "find_spec", lambda _: object())
    assert not checked("audit: {s3: {bucket: ledger}}\n").faults
    assert not checked("audit: {s3: {bucket: ledger, endpoint_url: 'https://objects.example'}}\n").faults
    assert not checked("audit: {s3: {bucket: ledger, endpoint_url: 'http://127.0.0.1:9000'}}\n").faults
    plain = "audit: {s3: {bucket: ledger, endpoint_url: 'http://objects.example'}}\n"
    assert faults(checked(plain)) == {"audit.s3.endpoint_url"}
    monkeypatch.setattr(security, "find_spec", lambda _: None)
    (fault,) = checked("audit: {s3: {bucket: ledger}}\n").faults
    assert (fault.key, fault.problem) == ("audit.s3", "needs boto3, which is not installed")
    assert "scanwarden[s3]" in fault.remedy


@pytest.mark.parametrize(
    "line",
    ["access_key: AKIA", "secret_access_key: hunter2", "endpoint_url: 'https://user:hunter2@objects.example'"],
)
def test_credentials_of_an_object_store_are_refused_in_the_file(
    checked: Checked, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setattr(security, "find_spec", lambda _: object())
    report = checked(f"audit: {{s3: {{bucket: ledger, {line}}}}}\n")
    assert faults(report) == {f"audit.s3.{line.split(':')[0]}"}
    assert "hunter2" not in str(report)
