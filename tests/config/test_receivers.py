"""Evidence over the web, commitments and notices that cannot arrive, or that others read, are said at the start."""

from collections.abc import Callable
from pathlib import Path

import pytest

from config.faults import Report

Checked = Callable[..., Report]


def said(report: Report) -> tuple[set[str], set[str]]:
    return {fault.key for fault in report.faults}, {warning.key for warning in report.warnings}


def secret(tmp_path: Path, text: str = "0123456789abcdef0123456789abcdef", mode: int = 0o600) -> Path:
    path = tmp_path / "secret"
    path.write_text(text)
    path.chmod(mode)
    return path


def destination(rest: str) -> str:
    return f"destinations:\n- {{name: pacs, {rest}}}\n"


def test_a_destination_over_the_web_is_four_lines(checked: Checked) -> None:
    report = checked(destination("dicomweb: 'https://pacs.example/dicom-web', transport: stow, profile: orthanc"))
    assert said(report) == (set(), set())


@pytest.mark.parametrize(
    ("rest", "fault", "warning"),
    [
        ("ae_title: A, host: h, port: 104, transport: stow", {"dicomweb"}, set()),
        ("dicomweb: 'https://p.example/x', transport: stow, commitment: true", {"commitment"}, set()),
        ("dicomweb: 'http://p.example/x', transport: stow", set(), {"dicomweb"}),
        ("dicomweb: 'http://127.0.0.1/x', transport: stow", set(), set()),
        ("dicomweb: 'https://p.example/x', ae_title: A, host: h, port: 104", set(), {"dicomweb"}),
        (
            "dicomweb: 'https://p.example/x', transport: stow, authorization_file: /nowhere",
            {"authorization_file"},
            set(),
        ),
    ],
)
def test_what_a_destination_lacks_is_said(checked: Checked, rest: str, fault: set[str], warning: set[str]) -> None:
    faults, warnings = said(checked(destination(rest)))
    assert faults == {f"destinations[0].{key}" for key in fault}
    assert warnings == {f"destinations[0].{key}" for key in warning}


def test_a_token_that_everybody_may_read_is_a_fault(checked: Checked, tmp_path: Path) -> None:
    web = "dicomweb: 'https://p.example/x', transport: stow, authorization_file: "
    assert said(checked(destination(f"{web}{secret(tmp_path)}"))) == (set(), set())
    faults, _ = said(checked(destination(f"{web}{secret(tmp_path, mode=0o644)}")))
    assert faults == {"destinations[0].authorization_file"}


def test_a_notice_goes_nowhere_in_clear_without_a_word(checked: Checked, tmp_path: Path) -> None:
    key = secret(tmp_path)
    good = (
        f"notification:\n  webhook: {{url: 'https://r.example/x', secret_file: {key}}}\n"
        "  hl7: {host: his.example, tls: true, include_patient: true}\n"
        f"  email: {{host: m.example, sender: a@b.example, recipients: [c@d.example], user: u, password_file: {key}}}\n"
    )
    assert said(checked(good)) == (set(), set())
    bad = (
        f"notification:\n  backoff: 900\n  webhook: {{url: 'http://r.example/x', secret_file: {key}}}\n"
        "  hl7: {host: his.example, include_patient: true}\n"
        "  email: {host: m.example, starttls: false, sender: a@b.example, recipients: ['a b'], user: u}\n"
    )
    assert said(checked(bad)) == (
        {
            "notification.backoff",
            "notification.webhook.url",
            "notification.email.recipients[0]",
            "notification.email.password_file",
        },
        {"notification.hl7.include_patient", "notification.email.starttls"},
    )
    short = f"notification: {{webhook: {{url: 'https://r.example/x', secret_file: {secret(tmp_path, 'short')}}}}}\n"
    assert said(checked(short))[0] == {"notification.webhook.secret_file"}


def test_nothing_is_passed_on_to_a_destination_without_a_title(checked: Checked) -> None:
    web = "dicomweb: 'https://p.example/x', transport: stow"
    route = "forwarding: {routes: [{destination: pacs}]}\n"
    assert said(checked(destination(web) + route))[0] == {"forwarding.routes[0].destination"}
    assert said(checked(destination(f"{web}, ae_title: A, host: h, port: 104") + route))[0] == set()
