"""Alerts reach a real HTTP server, all of them, in order; forged and replayed ones are told from genuine ones."""

import http.server
import json
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from config import load_settings
from gateway.alerts import (
    AlertCheck,
    AlertSender,
    AlertSeverity,
    ForgedAlert,
    ReplayedAlert,
    Webhook,
    alert_sender,
    severity_of,
    signed_headers,
)
from storage import AuditEvent, AuditEventType, AuditOutcome, Database, Ledger
from storage.tables import SpoolCursor
from tests.signers import Signatory, authority, signer

SECRET = b"0123456789abcdef0123456789abcdef"


class Receiver:
    """A real HTTP server that can be taken down and put up again on its port."""

    def __init__(self, certificate: Signatory | None = None) -> None:
        self.certificate = certificate
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.status = 204
        self.location = ""
        self.port = 0
        self._server: http.server.ThreadingHTTPServer | None = None

    def up(self) -> None:
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests.append((dict(self.headers), body))
                self.send_response(receiver.status)
                if receiver.location:
                    self.send_header("Location", receiver.location)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_arguments: object) -> None: ...

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        if self.certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate.certificate, self.certificate.private_key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self._server.handle_error = lambda *_request: None  # type: ignore[method-assign]  # who rejects us is meant to
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def down(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    @property
    def url(self) -> str:
        return f"http{'s' if self.certificate else ''}://127.0.0.1:{self.port}/alerts?site=1"

    @property
    def bodies(self) -> list[dict[str, object]]:
        return [json.loads(body) for _, body in self.requests]

    @property
    def seqs(self) -> list[object]:
        return [body["seq"] for body in self.bodies]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    running = Receiver()
    running.up()
    yield running
    running.down()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database(f"sqlite:///{tmp_path}/database.sqlite") as database:
        database.migrate()
        yield database


@pytest.fixture
def sender(database: Database, receiver: Receiver) -> AlertSender:
    return AlertSender(database, Webhook(receiver.url, timeout=2), SECRET, installation="SCANWARDEN")


def incident(database: Database, number: int = 1) -> int:
    event = AuditEvent(
        AuditEventType.INCIDENT_OBSERVED, "scanwarden:analyse", AuditOutcome.SERIOUS_FAILURE,
        study_uid=f"1.2.{number}", details={"rule": "signature-broken", "text": "1 instance", "instances": 1},
    )  # fmt: skip
    return Ledger(database).record(event).seq


def ordinary(database: Database) -> int:
    return Ledger(database).record(AuditEvent(AuditEventType.INSTANCE_STORED, "CT@10.0.0.1", study_uid="1.2.3")).seq


def test_each_incident_arrives_once_in_order_and_nothing_else(
    database: Database, sender: AlertSender, receiver: Receiver
) -> None:
    expected = []
    for number in range(5):
        ordinary(database)
        expected.append(incident(database, number))
    sender()
    sender()
    assert receiver.seqs == expected
    first = receiver.bodies[0]
    assert (first["event"], first["severity"], first["installation"]) == ("incident-observed", "incident", "SCANWARDEN")
    assert first["study_uid"] == "1.2.0"
    record = next(iter(Ledger(database).records(after=expected[0] - 1)))
    assert first["hash"] == record.hash, "an alert that somebody kept is a witness for the ledger"


def test_ordinary_events_send_nothing(database: Database, sender: AlertSender, receiver: Receiver) -> None:
    for _ in range(20):
        ordinary(database)
    sender()
    assert receiver.requests == []


def test_a_receiver_that_is_down_gets_all_of_it_in_order_when_it_is_up(
    database: Database, sender: AlertSender, receiver: Receiver
) -> None:
    before = incident(database)
    sender()
    receiver.down()
    missed = [incident(database, number) for number in range(10)]
    for _ in range(3):
        sender()
    receiver.up()
    sender()
    assert receiver.seqs == [before, *missed]
    events = [record.event for record in Ledger(database).records() if record.event.startswith("alerts-")]
    assert events == ["alerts-lost", "alerts-back"], "one record for each outage, not for each attempt"


@pytest.mark.parametrize("status", [199 + 102, 400, 404, 500, 503])
def test_what_is_no_success_is_sent_again(
    status: int, database: Database, sender: AlertSender, receiver: Receiver
) -> None:
    seq = incident(database)
    receiver.status, receiver.location = status, "http://127.0.0.1:9/elsewhere"
    sender()
    receiver.status = 200
    sender()
    assert receiver.seqs == [seq, seq]


def test_a_sender_that_dies_after_sending_sends_the_same_number_again(database: Database, receiver: Receiver) -> None:
    """Between the receiver's answer and our commit: a duplicate, which its number gives away."""

    class Dying:
        def post(self, body: bytes, headers: dict[str, str]) -> None:
            Webhook(receiver.url).post(body, headers)
            raise KeyboardInterrupt

    seq = incident(database)
    with pytest.raises(KeyboardInterrupt):
        AlertSender(database, Dying(), SECRET, installation="SCANWARDEN")()
    AlertSender(database, Webhook(receiver.url), SECRET, installation="SCANWARDEN")()
    assert receiver.seqs == [seq, seq]
    check = AlertCheck(SECRET)
    check.accept(*receiver.requests[0])
    with pytest.raises(ReplayedAlert):
        check.accept(*receiver.requests[1])


@pytest.mark.parametrize(("minimum", "expected"), [(AlertSeverity.WARNING, 2), (AlertSeverity.INCIDENT, 1)])
def test_the_minimum_severity_decides(
    minimum: AlertSeverity, expected: int, database: Database, receiver: Receiver
) -> None:
    Ledger(database).record(AuditEvent(AuditEventType.ACCESS_REFUSED, "user:eve", AuditOutcome.SERIOUS_FAILURE))
    incident(database)
    AlertSender(database, Webhook(receiver.url), SECRET, installation="S", minimum=minimum)()
    assert len(receiver.requests) == expected


def test_every_security_alert_has_a_severity() -> None:
    """A new kind of event that is a security alert for the collectors is one for the webhook too."""
    for event in AuditEventType:
        if event.event_id.name == "SECURITY_ALERT":
            assert severity_of(event.value, AuditOutcome.SERIOUS_FAILURE) is not None, event
    assert severity_of("verification-differs", AuditOutcome.SERIOUS_FAILURE) is AlertSeverity.INCIDENT


def test_a_genuine_alert_is_accepted_once(database: Database, sender: AlertSender, receiver: Receiver) -> None:
    seq = incident(database)
    sender()
    headers, body = receiver.requests[0]
    check = AlertCheck(SECRET)
    assert check.accept(headers, body).seq == seq


def test_attack_forged_alert(database: Database, sender: AlertSender, receiver: Receiver) -> None:
    """Somebody who can reach the receiver, and does not know the secret, cannot invent or soften an alert."""
    incident(database)
    sender()
    headers, body = receiver.requests[0]
    invented = body.replace(b'"severity":"incident"', b'"severity":"warning"')
    assert invented != body
    for forged in (
        (headers, invented),
        (signed_headers(body, b"guessed" * 8), body),
        ({**headers, "X-Scanwarden-Timestamp": "1"}, body),
        ({**headers, "X-Scanwarden-Signature": ""}, body),
        ({**headers, "X-Scanwarden-Signature": "v1=" + "é" * 64}, body),
        ({}, body),
    ):
        with pytest.raises(ForgedAlert):
            AlertCheck(SECRET).accept(*forged)
    assert AlertCheck(SECRET).accept(headers, body)


def test_attack_replayed_alert(database: Database, sender: AlertSender, receiver: Receiver) -> None:
    """Recorded on its way: at once it is known by its number, later by its timestamp, also after a restart."""
    incident(database)
    sender()
    headers, body = receiver.requests[0]
    check = AlertCheck(SECRET)
    check.accept(headers, body)
    with pytest.raises(ReplayedAlert):
        check.accept(headers, body)
    later = AlertCheck(SECRET, clock=lambda: time.time() + 301)
    with pytest.raises(ForgedAlert, match="timestamp"):
        later.accept(headers, body)
    incident(database, 2)
    sender()
    assert check.accept(*receiver.requests[1]), "the next genuine alert passes"


def test_attack_ledger_rewritten_to_silence_alerts(database: Database, sender: AlertSender, receiver: Receiver) -> None:
    """A cursor that points where another record stands now does not hide what came after."""
    first = incident(database)
    sender()
    with database.transaction() as session:
        row = session.get_one(SpoolCursor, "alerts:webhook")
        row.seq, row.hash = first + 1000, "f" * 64
    second = incident(database, 2)
    sender()
    assert receiver.seqs == [first, first, second]


def test_attack_receiver_that_sends_alerts_elsewhere(
    database: Database, sender: AlertSender, receiver: Receiver
) -> None:
    thief = Receiver()
    thief.up()
    receiver.status, receiver.location = 307, thief.url
    incident(database)
    sender()
    thief.down()
    assert thief.requests == []
    receiver.status = 204
    sender()
    assert len(receiver.requests) == 2


def test_no_patient_data_leaves(database: Database, sender: AlertSender, receiver: Receiver) -> None:
    incident(database)
    sender()
    assert set(receiver.bodies[0]) == {
        "installation", "seq", "hash", "time", "event", "severity", "outcome", "actor", "study_uid", "subject",
        "details", "format",
    }  # fmt: skip


def test_attack_receiver_with_a_certificate_of_somebody_else(database: Database, tmp_path: Path) -> None:
    """Over TLS the receiver has to show that it is the one that was configured, before it gets a byte."""
    trusted, stranger = authority(tmp_path / "trusted"), authority(tmp_path / "stranger")
    real = Receiver(signer(tmp_path / "trusted", trusted, "127.0.0.1", address="127.0.0.1"))
    false = Receiver(signer(tmp_path / "stranger", stranger, "127.0.0.1", address="127.0.0.1"))
    seq = incident(database)
    for receiver in (false, real):
        receiver.up()
        webhook = Webhook(receiver.url, timeout=2, authorities=trusted.certificate)
        AlertSender(database, webhook, SECRET, installation="SCANWARDEN")()
        receiver.down()
    assert (false.seqs, real.seqs) == ([], [seq])


def test_the_settings_make_the_sender(tmp_path: Path, database: Database, receiver: Receiver) -> None:
    secret, file = tmp_path / "secret", tmp_path / "scanwarden.yaml"
    secret.write_bytes(SECRET + b"\n")
    file.write_text(f'alerts: {{url: "{receiver.url}", secret_file: "{secret}", minimum_severity: warning}}\n')
    made = alert_sender(load_settings(file), database, lambda: True)
    assert made is not None
    incident(database)
    made()
    assert AlertCheck(SECRET).accept(*receiver.requests[0])
    file.write_text("{}")
    assert alert_sender(load_settings(file), database, lambda: True) is None
