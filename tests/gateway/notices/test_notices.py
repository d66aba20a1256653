"""A suspect study is told over each channel until somebody has confirmed it, without a patient unless asked for."""

import json
import shutil
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import hl7
import pytest
from sqlalchemy import select

from config import Settings
from gateway.alerts import AlertCheck
from gateway.app import App, build
from gateway.notices import Notifier
from gateway.notices.hl7 import oru
from gateway.notices.message import Message, Patient
from gateway.notices.notifier import notifiers
from gateway.pipeline.retry import retry_failed
from storage import AuditEvent, AuditEventType, Ledger
from storage.tables import LedgerRow, Notice, NoticeState
from tests.faults.harness import free_port
from tests.faults.modality import make_study
from tests.gateway.notices.receivers import MailServer, MllpReceiver
from tests.gateway.pipeline.conftest import arrive
from tests.security.test_alerts import SECRET, Receiver
from tests.signers import authority, signer

STUDY = "1.2.826.0.1.3680043.8.498.1"


@dataclass
class World:
    """A gateway whose clock the test winds."""

    app: App
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        self.notifiers = self.start()
        self.turn()  # a channel begins with what comes after it

    def start(self) -> list[Notifier]:
        found = notifiers(self.app)
        for each in found:
            each._clock = lambda: self.now
        return found

    def turn(self) -> None:
        for each in self.notifiers:
            each()

    def wind(self, seconds: float, step: float = 60) -> None:
        end = self.now + timedelta(seconds=seconds)
        while self.now < end:
            self.now += timedelta(seconds=step)
            self.turn()

    def verdict(self, verdict: str = "SUSPECT", study_uid: str = STUDY) -> None:
        details: dict[str, Any] = {
            "revision": 1, "model_set": "0" * 64, "verdict": verdict, "score": 0.97, "findings": 1,
            "reasons": ["a region looks as if something was added: slices 4 to 9 | clearest on 7", "héé & co"],
        }  # fmt: skip
        event = AuditEvent(AuditEventType.ANALYSIS_FINISHED, "scanwarden:analyse", study_uid=study_uid, details=details)
        Ledger(self.app.database).record(event)

    def notices(self) -> list[Notice]:
        with self.app.database.reading() as session:
            return list(session.scalars(select(Notice).order_by(Notice.id)))

    def states(self) -> list[str]:
        return [each.state.value for each in self.notices()]

    def events(self) -> list[str]:
        with self.app.database.reading() as session:
            found = session.scalars(select(LedgerRow.event).order_by(LedgerRow.seq))
            return [each for each in found if each.startswith("notice")]


Make = Callable[..., World]


@pytest.fixture
def world(tmp_path: Path, migrated: Path) -> Iterator[Make]:
    (tmp_path / "var").mkdir()
    shutil.copy(migrated, tmp_path / "var")
    opened: list[App] = []

    def make(**notification: Any) -> World:
        store = {"root": tmp_path / "var", "high_watermark": 1, "low_watermark": 1, "reserve_bytes": 0}
        opened.append(build(Settings(store=store, notification=notification)))
        return World(opened[-1])

    yield make
    for app in opened:
        app.close()


@pytest.fixture
def receiver() -> Iterator[MllpReceiver]:
    running = MllpReceiver()
    running.up()
    yield running
    running.down()


@pytest.fixture
def mails() -> Iterator[MailServer]:
    running = MailServer()
    running.up()
    yield running
    running.down()


def mllp(receiver: MllpReceiver, **values: Any) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": receiver.port, "timeout": 1, **values}


def smtp(server: MailServer, **values: Any) -> dict[str, Any]:
    plain = {"host": "127.0.0.1", "port": server.port, "starttls": False, "timeout": 2}
    return {**plain, "sender": "gateway@h.example", "recipients": ["it@h.example", "x@h.example"], **values}


def test_a_suspect_study_is_told_once_and_a_clear_one_is_not(world: Make, receiver: MllpReceiver) -> None:
    gateway = world(hl7=mllp(receiver))
    for verdict in ("CLEAR", "ABSTAIN", "REVIEW", "SUSPECT"):
        gateway.verdict(verdict)
    gateway.turn()
    gateway.wind(3600, step=600)
    assert len(receiver.messages) == 1
    assert gateway.states() == ["SENT"]
    assert gateway.events() == ["notice-sent"]


def test_the_least_verdict_is_a_setting(world: Make, receiver: MllpReceiver) -> None:
    gateway = world(hl7=mllp(receiver), minimum_verdict="REVIEW")
    for verdict in ("CLEAR", "ABSTAIN", "REVIEW", "SUSPECT"):
        gateway.verdict(verdict)
    gateway.turn()
    assert len(receiver.messages) == 2


def test_a_new_channel_is_not_told_of_the_past(world: Make, receiver: MllpReceiver) -> None:
    world().verdict()
    gateway = world(hl7=mllp(receiver))
    gateway.turn()
    assert receiver.messages == []
    gateway.verdict()
    gateway.turn()
    assert len(receiver.messages) == 1


def test_another_reader_of_hl7_finds_what_was_written(world: Make, receiver: MllpReceiver) -> None:
    gateway = world(hl7=mllp(receiver, sending_facility="RAD", receiving_application="HIS", receiving_facility="H"))
    gateway.verdict()
    gateway.turn()
    message = hl7.parse(receiver.messages[0])
    assert [str(segment[0]) for segment in message] == ["MSH", "PID", "OBR", *["OBX"] * 8]
    head = message.segment("MSH")
    assert [str(head[n]) for n in (3, 4, 5, 6)] == ["SCANWARDEN", "RAD", "HIS", "H"]
    assert (str(head[9]), str(head[11]), str(head[12])) == ("ORU^R01^ORU_R01", "P", "2.5.1")
    assert len(str(head[10])) <= 20
    assert str(message.segment("PID")[3]) == "WITHHELD^^^SCANWARDEN"
    found = {str(each[3]).split("^")[0]: hl7_text(message, str(each[5])) for each in message.segments("OBX")[:6]}
    assert found["110180"] == STUDY
    assert found["VERDICT"] == "SUSPECT^SUSPECT^99SCANWARDEN"
    assert found["SCORE"] == "0.9700"
    reasons = [hl7_text(message, str(each[5])) for each in message.segments("OBX")[5:]]
    assert reasons == [
        "a region looks as if something was added: slices 4 to 9 | clearest on 7",
        "héé & co",
        "Software result; not a diagnosis.",
    ]
    assert all(str(each[11]) == "P" for each in message.segments("OBX"))
    assert str(message.segment("OBR")[25]) == "P"


def hl7_text(message: Any, text: str) -> str:
    return str(message.unescape(text))


def test_nothing_that_a_header_says_can_forge_a_segment() -> None:
    patient = Patient("Evil\rOBX|9^Name", "1|2^3~4\\5&6\n", "", "20000101", "M", "A|1")
    message = Message(
        "SW", 1, "0" * 64, "2026-11-20T12:00:00+00:00", "1.2", 1, "SUSPECT", None, 0, ("a\rMSA|AA",), patient
    )
    written = oru(message, ("", "", ""), datetime.now(UTC))
    assert [line[:3] for line in written.strip("\r").split("\r")] == ["MSH", "PID", "OBR", *["OBX"] * 7]
    parsed = hl7.parse(written)
    assert hl7_text(parsed, str(parsed.segment("PID")[3])).startswith("1|2^3~4\\5&6")


@pytest.mark.parametrize("code", ["AE", "AR"])
def test_a_negative_acknowledgement_is_tried_again_until_it_is_positive(
    world: Make, receiver: MllpReceiver, code: str
) -> None:
    answers = iter([code] * 3)
    receiver.answer = lambda control: receiver.ack(next(answers, "AA"), control)
    gateway = world(hl7=mllp(receiver))
    gateway.verdict()
    gateway.turn()
    assert [each.failure for each in gateway.notices()] == [f"127.0.0.1:{receiver.port}: acknowledgement {code}"]
    gateway.wind(3600)
    assert gateway.states() == ["SENT"]
    assert len({message.split("|")[9] for message in receiver.messages}) == 1  # the same identifier, four times
    assert len(receiver.messages) == 4
    assert gateway.events() == ["notice-failed", "notice-sent"]


def test_who_always_says_no_ends_as_a_dead_letter_that_a_person_revives_and_holds_up_no_other(
    world: Make, receiver: MllpReceiver
) -> None:
    bad: list[str] = []

    def answer(control: str) -> bytes:
        if not bad:
            bad.append(control)
        return receiver.ack("AR" if control in bad else "AA", control)

    receiver.answer = answer
    gateway = world(hl7=mllp(receiver), attempts=3)
    gateway.verdict()
    gateway.verdict(study_uid="1.2.3")
    gateway.turn()
    assert gateway.states() == ["WAITING", "SENT"]
    gateway.wind(3600)
    assert gateway.states() == ["DEAD", "SENT"]
    assert gateway.events()[-1] == "notice-dead"
    bad[:] = ["none"]
    retry_failed(gateway.app.settings, actor="user:test")
    gateway.wind(60)
    assert gateway.states() == ["SENT", "SENT"]


@pytest.mark.parametrize(
    "said", [None, b"\x0bhello\x1c\r", b"\x0bMSH|^~\\&|\r\x1c\r", b"\x0bMSH|^~\\&|x\rMSA|AA|other\r\x1c\r"]
)
def test_what_is_no_acknowledgement_of_ours_confirms_nothing(
    world: Make, receiver: MllpReceiver, said: bytes | None
) -> None:
    receiver.answer = lambda _control: said
    gateway = world(hl7=mllp(receiver))
    gateway.verdict()
    gateway.turn()
    assert gateway.states() == ["WAITING"]


def test_a_receiver_that_is_slow_is_waited_for_no_longer_than_its_timeout(world: Make, receiver: MllpReceiver) -> None:
    receiver.delay = 1.2
    gateway = world(hl7=mllp(receiver, timeout=0.5))
    for n in range(5):
        gateway.verdict(study_uid=f"1.2.{n}")
    gateway.turn()
    assert receiver.connections == 1  # the others do not wait for the same timeout
    receiver.delay = 0
    gateway.wind(600)
    assert set(gateway.states()) == {"SENT"}


def test_a_receiver_that_is_down_for_an_hour_gets_everything_once_in_order_also_over_a_restart(world: Make) -> None:
    receiver = MllpReceiver()
    receiver.port = free_port()
    gateway = world(hl7=mllp(receiver))
    for n in range(6):
        gateway.verdict(study_uid=f"1.2.{n}")
    gateway.wind(1800)
    gateway.notifiers = gateway.start()  # another process
    gateway.wind(1800)
    assert set(gateway.states()) == {"WAITING"}
    assert sum(each.attempts for each in gateway.notices()) < 40
    receiver.up()
    try:
        gateway.wind(600)
    finally:
        receiver.down()
    assert [message.split("OBX|1|ST|")[1].split("|")[2] for message in receiver.messages] == [
        f"1.2.{n}" for n in range(6)
    ]


def test_a_receiver_that_does_not_come_back_ends_in_dead_letters_after_the_age(world: Make) -> None:
    gateway = world(hl7={"host": "127.0.0.1", "port": free_port(), "timeout": 1}, give_up_after=timedelta(days=1))
    gateway.verdict()
    gateway.wind(30 * 3600, step=5 * 3600)
    assert gateway.states() == ["DEAD"]


def test_hl7_over_tls_trusts_only_its_authority(world: Make, tmp_path: Path) -> None:
    ca, other = authority(tmp_path, "ca"), authority(tmp_path, "other")
    server = signer(tmp_path, ca, "receiver", address="127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.private_key)
    receiver = MllpReceiver(context)
    receiver.up()
    try:
        strange = world(hl7=mllp(receiver, tls=True, authorities=other.certificate))
        strange.verdict()
        strange.turn()
        assert "TLS fails" in str(strange.notices()[0].failure)
        known = world(hl7=mllp(receiver, tls=True, authorities=ca.certificate))
        known.wind(600)
        assert known.states() == ["SENT"]
    finally:
        receiver.down()


def test_the_patient_goes_along_only_where_that_is_switched_on(
    world: Make, receiver: MllpReceiver, mails: MailServer, tmp_path: Path
) -> None:
    gateway = world(hl7=mllp(receiver, include_patient=True), email=smtp(mails))
    study = make_study(tmp_path, edited=False)
    arrive(gateway.app, study.files)
    gateway.verdict(study_uid=study.study_uid)
    gateway.turn()
    from pydicom import dcmread

    header = dcmread(study.files[0])
    written = hl7.parse(receiver.messages[0]).segment("PID")
    assert str(written[3]).split("^")[0] == header.PatientID
    assert str(written[5]).split("^")[0] == str(header.PatientName.family_name)
    assert header.PatientID not in mails.mails[0].as_string()
    assert str(header.PatientName.family_name) not in mails.mails[0].as_string()
    with gateway.app.database.reading() as session:
        kept = " ".join(session.scalars(select(LedgerRow.details)))
    assert str(header.PatientID) not in kept


def test_a_mail_says_verdict_and_reasons_and_names_the_same_message_each_time(world: Make, mails: MailServer) -> None:
    mails.refuse = {"DATA": "451 later"}
    gateway = world(email=smtp(mails))
    gateway.verdict()
    gateway.turn()
    assert "answers 451" in str(gateway.notices()[0].failure)
    assert gateway.notices()[0].refusals == 0
    mails.refuse = {}
    gateway.wind(60)
    (mail,) = mails.mails
    assert mail["Subject"] == f"[Scanwarden] SUSPECT: study {STUDY}"
    assert mail["To"] == "it@h.example, x@h.example"
    text = mail.get_content()
    assert "probability of manipulation 0.97" in text
    assert "héé & co" in text
    assert mail["Message-ID"].endswith("@h.example>")


def test_a_mail_server_that_refuses_is_a_dead_letter_in_the_end_and_one_bad_recipient_is_not(
    world: Make, mails: MailServer
) -> None:
    mails.refuse = {"RCPT": "550 nobody here"}
    gateway = world(email=smtp(mails), attempts=2)
    gateway.verdict()
    gateway.wind(600)
    assert gateway.states() == ["DEAD"]
    assert "refuses every recipient" in str(gateway.notices()[0].failure)


def test_a_mail_goes_encrypted_and_with_a_login(world: Make, tmp_path: Path) -> None:
    ca = authority(tmp_path, "ca")
    server = signer(tmp_path, ca, "mail", address="127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.private_key)
    mails = MailServer(context, ("gateway", "sesame"))
    mails.up()
    password = tmp_path / "password"
    password.write_text("wrong")
    login = {"user": "gateway", "password_file": password, "starttls": True, "authorities": ca.certificate}
    try:
        gateway = world(email=smtp(mails, **login))
        gateway.verdict()
        gateway.turn()
        assert "answers 535" in str(gateway.notices()[0].failure)
        password.write_text("sesame\n")
        gateway.wind(60)
        assert gateway.states() == ["SENT"]
        assert mails.encrypted == [True]
    finally:
        mails.down()


def test_a_mail_server_without_starttls_gets_no_mail(world: Make, mails: MailServer) -> None:
    gateway = world(email=smtp(mails, starttls=True))
    gateway.verdict()
    gateway.turn()
    assert mails.mails == []
    assert gateway.states() == ["WAITING"]


def test_a_webhook_is_signed_as_alerts_are_and_waits_for_a_receiver_that_is_away(world: Make, tmp_path: Path) -> None:
    receiver = Receiver()
    receiver.port = free_port()
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    gateway = world(webhook={"url": f"http://127.0.0.1:{receiver.port}/x", "secret_file": secret})
    gateway.verdict()
    gateway.wind(3600)
    receiver.up()
    try:
        receiver.status = 500
        gateway.wind(600)
        receiver.status = 204
        gateway.wind(600)
    finally:
        receiver.down()
    headers, body = receiver.requests[-1]
    alert = AlertCheck(SECRET).accept(headers, body)
    assert (alert.event, alert.severity, alert.study_uid) == ("analysis-finished", "notice", STUDY)
    assert (alert.details["verdict"], alert.details["score"]) == ("SUSPECT", 0.97)
    assert "patient" not in json.loads(body)["details"]
    assert gateway.states() == ["SENT"]


def test_channels_do_not_wait_for_each_other(world: Make, mails: MailServer) -> None:
    gateway = world(hl7={"host": "127.0.0.1", "port": free_port(), "timeout": 1}, email=smtp(mails))
    gateway.verdict()
    gateway.turn()
    assert {each.channel: each.state for each in gateway.notices()} == {
        "hl7": NoticeState.WAITING,
        "email": NoticeState.SENT,
    }
