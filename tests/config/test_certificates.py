"""TLS files are looked into before a start, not at the first association."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config.faults import Report


def tls_faults(report: Report) -> dict[str, str]:
    assert all(fault.key.startswith("dicom.tls.") for fault in report.faults)
    return {fault.key.removeprefix("dicom.tls."): fault.problem for fault in report.faults}


def with_tls(group: str) -> str:
    return f"dicom:\n  tls: {group}\n"


def test_a_pair_with_its_authority_is_sound(checked: Callable[..., Report], issue: Callable[..., Any]) -> None:
    pair = issue("gateway")
    report = checked(with_tls(pair.yaml(authorities=issue("hospital").certificate)))
    assert (report.faults, report.warnings) == ((), ())


def test_client_certificates_cannot_be_required_without_authorities(
    checked: Callable[..., Report], issue: Callable[..., Any]
) -> None:
    report = checked(with_tls(issue("gateway").yaml()))
    assert list(tls_faults(report)) == ["authorities"]
    assert "require_client_certificate: false" in report.faults[0].remedy


def test_files_that_do_not_exist_are_all_named(checked: Callable[..., Report], tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    group = f"{{certificate: {missing}, private_key: {missing}, authorities: ~/ca.pem}}"
    report = checked(with_tls(group))
    assert tls_faults(report) == dict.fromkeys(("certificate", "private_key", "authorities"), "does not exist")
    assert report.faults[2].remedy == "write the whole path: ~ is not expanded"


def test_a_key_of_another_certificate_is_a_fault(checked: Callable[..., Report], issue: Callable[..., Any]) -> None:
    pair, other = issue("gateway"), issue("other")
    report = checked(with_tls(pair.yaml(private_key=other.private_key, authorities=pair.certificate)))
    assert tls_faults(report) == {"private_key": f"is not the key of the certificate in {pair.certificate}"}


def test_a_chain_in_the_wrong_order_is_told_from_a_wrong_key(
    checked: Callable[..., Report], issue: Callable[..., Any], tmp_path: Path
) -> None:
    pair, authority = issue("gateway"), issue("hospital")
    chain = tmp_path / "chain.pem"
    chain.write_bytes(authority.certificate.read_bytes() + pair.certificate.read_bytes())
    report = checked(with_tls(pair.yaml(certificate=chain, authorities=authority.certificate)))
    assert tls_faults(report) == {"certificate": "holds the chain in the wrong order"}


def test_a_key_that_everybody_may_read_is_a_fault(checked: Callable[..., Report], issue: Callable[..., Any]) -> None:
    pair = issue("gateway")
    pair.private_key.chmod(0o644)
    report = checked(with_tls(pair.yaml(authorities=pair.certificate)))
    assert tls_faults(report) == {"private_key": "may be read by every user of this machine"}
    assert report.faults[0].remedy == f"run: chmod 600 {pair.private_key}"


def test_a_key_with_a_passphrase_is_a_fault(checked: Callable[..., Report], issue: Callable[..., Any]) -> None:
    pair = issue("gateway", passphrase=b"hunter2")
    report = checked(with_tls(pair.yaml(authorities=pair.certificate)))
    assert tls_faults(report) == {"private_key": "has a passphrase, and nobody is there to type it"}


@pytest.mark.parametrize("content", [b"", b"not PEM", b"\x30\x82\x01\x0a", b"-----BEGIN CERTIFICATE-----\nAA\n"])
def test_a_file_that_is_not_pem_is_a_fault(
    checked: Callable[..., Report], issue: Callable[..., Any], content: bytes
) -> None:
    pair = issue("gateway")
    pair.certificate.write_bytes(content)
    pair.private_key.write_bytes(content)
    report = checked(with_tls(pair.yaml(authorities=issue("hospital").certificate)))
    assert tls_faults(report) == {
        "certificate": "holds no certificate in PEM",
        "private_key": "holds no private key in PEM",
    }


def test_a_certificate_that_is_no_longer_or_not_yet_valid_is_a_fault(
    checked: Callable[..., Report], issue: Callable[..., Any]
) -> None:
    expired, early, ca = issue("expired", begins=-20, days=10), issue("early", begins=5), issue("hospital").certificate
    assert "expired on " in tls_faults(checked(with_tls(expired.yaml(authorities=ca))))["certificate"]
    assert "is valid from " in tls_faults(checked(with_tls(early.yaml(authorities=ca))))["certificate"]


def test_a_certificate_that_expires_soon_is_a_warning(
    checked: Callable[..., Report], issue: Callable[..., Any]
) -> None:
    pair = issue("gateway", days=10)
    report = checked(with_tls(pair.yaml(authorities=issue("hospital").certificate)))
    assert not report.faults
    assert [warning.key for warning in report.warnings] == ["dicom.tls.certificate"]


def test_an_authority_that_expired_is_a_warning(checked: Callable[..., Report], issue: Callable[..., Any]) -> None:
    authority = issue("hospital", begins=-20, days=10)
    report = checked(with_tls(issue("gateway").yaml(authorities=authority.certificate)))
    assert not report.faults
    assert [warning.key for warning in report.warnings] == ["dicom.tls.authorities"]


def test_the_files_of_a_destination_are_looked_into_too(
    checked: Callable[..., Report], issue: Callable[..., Any]
) -> None:
    pair = issue("gateway")
    pair.private_key.chmod(0o644)
    report = checked(f"destinations: [{{name: a, ae_title: PACS, host: pacs.example, port: 2762, tls: {pair.yaml()}}}]")
    assert [fault.key for fault in report.faults] == ["destinations[0].tls.private_key"]
