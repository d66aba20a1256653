"""Who may look: anybody on this machine, elsewhere only who shows a token or a certificate."""

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from config import Settings
from config.check import check
from config.faults import Report
from gateway.app import CannotStart, build
from gateway.web import server
from storage import AuditEventType
from tests.faults.harness import wait_for
from tests.gateway.web.conftest import HOST, Start, Web

TOKEN = "t" * 32
Check = Callable[[str], Report]


@pytest.fixture
def checked(tmp_path: Path) -> Check:
    """What `scanwarden config check` says of a section `web`."""

    def run(text: str) -> Report:
        file = tmp_path / "scanwarden.yaml"
        file.write_text(f"store: {{root: {tmp_path / 'var'}}}\n{text}")
        return check(file)

    return run


def test_on_loopback_nobody_is_asked(web: Web) -> None:
    assert [web.ask(path).status for path in ("/healthz", "/metrics")] == [200, 200]


def test_with_a_token_nobody_gets_in_without_it(start: Start, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")
    web = start(token_file=tmp_path / "token")
    for path in ("/healthz", "/readyz", "/metrics"):
        assert web.ask(path).status == 401
        assert web.ask(path, authorization=f"Bearer {TOKEN[:-1]}x").status == 401
        assert web.ask(path, authorization=f"Basic {TOKEN}").status == 401
        assert web.ask(path, authorization=f"Bearer {TOKEN}").status in (200, 503)
    refusals = web.events(AuditEventType.LOGIN_REFUSED)
    assert [(each.actor, json.loads(each.details)["reason"]) for each in refusals] == [("HTTP@127.0.0.1", "web_token")]
    assert web.ask("/healthz").headers["www-authenticate"] == "Bearer"
    web.parts.trail.tick()
    assert [each.actor for each in web.events(AuditEventType.LOGIN)] == ["HTTP@127.0.0.1"]  # once for all three


def test_the_service_does_not_open_itself_to_the_network_without_a_login(tmp_path: Path) -> None:
    app = build(Settings(web={"host": "0.0.0.0"}, store={"root": tmp_path}))  # noqa: S104
    with app, pytest.raises(CannotStart, match=r"web\.host: 0\.0\.0\.0 opens .* `web\.token_file"):
        server.serve(app)


@pytest.mark.parametrize("token", ["short", "ä" * 20])
def test_a_token_that_is_none_stops_the_start(tmp_path: Path, start: Start, token: str) -> None:
    (tmp_path / "token").write_text(token)
    with pytest.raises(CannotStart, match="token"):
        start(token_file=tmp_path / "token")


def test_a_port_in_use_stops_the_start(web: Web) -> None:
    with pytest.raises(CannotStart, match=r"web\.port: cannot listen"):
        server.listening(web.app.settings.web)


def test_what_contradicts_itself_is_a_fault(checked: Check, tmp_path: Path) -> None:
    faults = {
        "web: {host: 0.0.0.0}": "web.host",
        "web: {port: 11112}": "web.port",
        "web: {token_file: nowhere}": "web.token_file",
        "web: {stow: true, stow_sources: [{ae_title: A, addresses: [10.0.0.0/8]}]}": "web.stow_sources[0].addresses",
        "web: {stow: true, stow_sources: [{ae_title: A, certificate_subject: a}]}": (
            "web.stow_sources[0].certificate_subject"
        ),
        "dicom: {sources: [{ae_title: A, trusted: true, certificate_subject: a}]}\n"
        "web: {stow: true, stow_sources: [{ae_title: A}]}": "web.stow_sources[0].ae_title",
    }
    for text, key in faults.items():
        assert key in {fault.key for fault in checked(text).faults}, text


def test_a_token_lets_the_port_be_opened(checked: Check, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    report = checked(f"web: {{host: 0.0.0.0, token_file: {tmp_path / 'token'}}}")
    assert not [fault for fault in report.faults if fault.key.startswith("web")]
    assert [warning.key for warning in report.warnings if warning.key.startswith("web")] == ["web.tls"]


def test_no_page_describes_the_service_and_no_answer_is_kept(web: Web) -> None:
    assert [web.ask(path).status for path in ("/", "/docs", "/openapi.json", "/dicom-web/studies")] == [404] * 4
    assert web.ask("/healthz").headers["cache-control"] == "no-store"


def test_attack_a_client_that_never_ends_its_request_is_cut_off(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.2)
    with (
        socket.create_connection((HOST, web.port), timeout=20) as silent,
        socket.create_connection((HOST, web.port), timeout=20) as slow,
    ):
        slow.sendall(b"GET /healthz HTTP/1.1\r\nX: ")
        assert [each.recv(100) for each in (silent, slow)] == [b"", b""]
    assert web.ask("/healthz").status == 200


def test_attack_more_connections_than_allowed_are_refused_and_the_next_is_served(start: Start) -> None:
    web = start(max_requests=4)
    crowd = [socket.create_connection((HOST, web.port), timeout=20) for _ in range(6)]
    try:
        wait_for(lambda: len(web.server.server_state.connections) >= 6, 10, "the crowd is in")
        assert web.ask("/healthz").status == 503
    finally:
        for each in crowd:
            each.close()
    wait_for(lambda: not web.server.server_state.connections, 10, "the crowd is gone")
    assert web.ask("/healthz").status == 200


def test_attack_a_header_that_claims_another_address_is_not_believed(start: Start) -> None:
    web = start(stow=True, stow_sources=[{"ae_title": "SITE", "addresses": ["127.0.0.2"]}])
    assert web.stow(b"", x_forwarded_for="127.0.0.2").status == 403
