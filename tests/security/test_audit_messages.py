"""Attacks on the audit messages and on their way to a collector; beside each, the untouched twin that stays quiet."""

import json
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import text

from config import Settings
from config.settings import Collector
from gateway.audit.exporter import Courier, Exporter
from gateway.audit.syslog import CollectorFault, CollectorRefused, Connection, Header, framed
from storage import AuditEvent, AuditEventType, Database, Ledger, LedgerRecord, peer_actor
from storage.audit import spool
from storage.audit.ledger import append, canonical, verify_chain
from storage.audit.messages import AuditSource, as_xml
from tests.audit_messages import Message
from tests.peers_rsyslog import Authority, Rsyslog, installed

SOURCE = AuditSource("gateway-1", host="gateway.example")
HEADER = Header(host="gateway.example")
with_rsyslog = pytest.mark.skipif(not installed("ossl"), reason="rsyslog is not here (apt-get install rsyslog-openssl)")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database(f"sqlite:///{tmp_path}/scanwarden.sqlite", busy_timeout=20) as database:
        database.migrate()
        yield database


@pytest.fixture
def rsyslog(tmp_path: Path) -> Iterator[Rsyslog]:
    server = Rsyslog(tmp_path / "rsyslog")
    server.start()
    yield server
    server.stop()


def fill(database: Database, count: int = 5) -> int:
    event = AuditEvent(AuditEventType.INSTANCE_STORED, peer_actor("MR1", "10.1.2.3"), study_uid="1.2", subject="1.2.3")
    with database.transaction() as session:
        return append(session, [event] * count)[-1].seq


def plain_record(**fields: object) -> LedgerRecord:
    record = LedgerRecord(
        seq=1,
        time="2026-11-20T09:00:00.000000+00:00",
        event="instance-stored",
        outcome=0,
        actor=peer_actor("MR1", "10.1.2.3"),
        study_uid="1.2.3",
        subject="1.2.3.4",
        details=json.dumps({"reason": "none"}),
        previous_hash="0" * 64,
        hash="1" * 64,
    )
    return replace(record, **fields)  # type: ignore[arg-type]


def confirmed(database: Database, name: str = "archive") -> int:
    with database.reading() as session:
        return spool.cursor(session, name).seq


def events(database: Database) -> list[str]:
    return [record.event for record in Ledger(database).records()]


# What a stranger writes where we only copy: a second syslog message, a second XML message, things no eye can see.
INJECTIONS = {
    "a line end and a message of its own": "MR1\n<85>1 2026-11-20T09:00:00Z gateway scanwarden - IHE+RFC-3881 - <ok/>",
    "a frame of its own": "MR1 30 <85>1 - g s - IHE+RFC-3881 - x",
    "an end of the attribute": '"/><AuditMessage><EventIdentification EventOutcomeIndicator="0"/>',
    "an end of the element": "</EventOutcomeDescription></AuditMessage><AuditMessage>",
    "an entity": "<!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/passwd'>]>&a;",
    "a CDATA section": "]]><![CDATA[",
    "control characters": "MR1\x00\x07\x1b[2J\x7f\x85\u2028",
    "text that turns around": "MR1\u202egnp.exe\u200b",
    "lone surrogates": "MR1\ud800\udfff",
}


@pytest.mark.parametrize("injection", INJECTIONS.values(), ids=INJECTIONS.keys())
@pytest.mark.parametrize("place", ["actor", "study_uid", "subject", "event", "time", "details", "hash"])
def test_attack_text_of_a_peer_never_leaves_its_place_in_the_message(injection: str, place: str) -> None:
    # Straight into the row, past the ledger's own cleaning: the message must not depend on it.
    value = json.dumps({"reason": injection, injection: "x"}) if place == "details" else injection
    attacked, twin = plain_record(**{place: value, "outcome": 4}), plain_record(outcome=4)
    xml, untouched = as_xml(attacked, SOURCE), as_xml(twin, SOURCE)
    for message in (HEADER.message(attacked, xml), HEADER.message(twin, untouched)):
        assert not any(byte < 0x20 for byte in message)
        assert message.count(b"<85>") + message.count(b"<84>") == 1
        assert message.count(b"<AuditMessage>") == 1
        assert message.split(b"\xef\xbb\xbf")[0].count(b" ") == 7
    shape = [element.tag for element in Message(xml).root.iter()]
    assert shape.count("EventIdentification") == shape.count("AuditMessage") == 1
    if place not in ("event", "study_uid", "subject", "details"):  # those change what the message rightly says
        assert shape == [element.tag for element in Message(untouched).root.iter()]
    visible = "".join(Message(xml).all("//@UserID | //@ParticipantObjectID | //EventOutcomeDescription/text()"))
    assert visible.isprintable()


@with_rsyslog
def test_attack_injected_line_ends_and_frames_make_no_second_message_at_a_collector(rsyslog: Rsyslog) -> None:
    records = [plain_record(seq=number, actor=each) for number, each in enumerate(INJECTIONS.values(), 1)]
    records.append(plain_record(seq=len(records) + 1))
    with Connection(rsyslog.collector()) as connection:
        connection.send(HEADER.message(record, as_xml(record, SOURCE)) for record in records)
        connection.finish()
    rsyslog.stop()
    assert rsyslog.sequence() == [record.seq for record in records]
    assert len(rsyslog.received.read_text(encoding="utf-8").splitlines()) == len(records)


def test_attack_a_flood_of_details_stays_within_what_a_collector_takes() -> None:
    flood = {f"key{number}": "x" * 100_000 for number in range(500)}
    assert len(as_xml(plain_record(details=json.dumps(flood), actor="A" * 100_000), SOURCE)) < 32 * 1024
    twin = Message(as_xml(plain_record(), SOURCE))
    assert "left-out" not in twin.details("110180")


@with_rsyslog
def test_attack_a_collector_with_a_certificate_of_its_own_gets_no_event(
    database: Database, rsyslog: Rsyslog, tmp_path: Path
) -> None:
    last = fill(database)
    ours = Authority(tmp_path / "ours", "ours").issue("gateway.example")
    courier = Courier(database, rsyslog.collector(tls=ours), SOURCE)
    with pytest.raises(CollectorRefused) as fault:
        courier.deliver()
    courier.failed(fault.value)
    assert (confirmed(database), rsyslog.sequence()) == (0, [])
    alert = list(Ledger(database).records())[-1]
    assert Message(as_xml(alert, SOURCE)).types == ["110126", "collector-refused"]
    # The twin: the same ledger, the collector's true authority.
    assert Courier(database, rsyslog.collector(), SOURCE).deliver() == last + 1
    assert events(database)[-1] == "collector-back"


@with_rsyslog
def test_attack_a_good_certificate_of_another_host_gets_no_event(database: Database, rsyslog: Rsyslog) -> None:
    fill(database)
    with pytest.raises(CollectorRefused, match="certificate that is not good"):
        Courier(database, rsyslog.collector(host="localhost"), SOURCE).deliver()
    assert confirmed(database) == 0
    assert Courier(database, rsyslog.collector(host="127.0.0.1"), SOURCE).deliver() == 5


def test_attack_a_collector_that_speaks_no_tls_gets_no_event(database: Database, tmp_path: Path) -> None:
    fill(database)
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                heard.append(connection.recv(65536))
                connection.sendall(b"220 ready\r\n")

        threading.Thread(target=answer, daemon=True).start()
        tls = Authority(tmp_path / "tls").issue("gateway.example")
        collector = Collector(name="archive", host="127.0.0.1", port=server.getsockname()[1], tls=tls, timeout=2)
        with pytest.raises(CollectorFault, match="did not agree on TLS"):
            Courier(database, collector, SOURCE).deliver()
    assert b"AuditMessage" not in heard[0]
    assert confirmed(database) == 0


class Proxy:
    """Somebody on the way: passes a TLS connection through, or swallows what is said and feigns an orderly end."""

    def __init__(self, port: int, *, swallow: bool) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._target, self._swallow = port, swallow
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with self._server:
            near, _ = self._server.accept()
        far = socket.create_connection(("127.0.0.1", self._target))
        said = 0
        with near, far:
            while True:
                ready, _, _ = select.select([near, far], [], [], 1)
                if not ready:
                    return
                for each in ready:
                    content = each.recv(65536)
                    if not content:
                        return
                    said += len(content) if each is near else 0
                    # A handshake with a certificate is some 2 kB of ours; what follows is the audit trail.
                    if each is near and self._swallow and said > 4000:
                        continue
                    (far if each is near else near).sendall(content)


@with_rsyslog
@pytest.mark.parametrize("swallow", [True, False], ids=["attack", "twin"])
def test_attack_a_feigned_orderly_end_confirms_nothing_where_close_notify_is_asked(
    database: Database, rsyslog: Rsyslog, swallow: bool
) -> None:
    last = fill(database, 200)
    port = Proxy(rsyslog.port, swallow=swallow).port
    courier = Courier(database, rsyslog.collector(port=port, confirmation="close-notify", timeout=4), SOURCE)
    if not swallow:
        assert courier.deliver() == 200
        assert rsyslog.eventually_has(last) == list(range(1, last + 1))
        return
    with pytest.raises(CollectorFault, match="without TLS's close_notify"):
        courier.deliver()
    assert confirmed(database) == 0


def findings(received: Sequence[LedgerRecord]) -> dict[str, list[int]]:
    """What somebody sees who has the collector's file and nothing else."""
    hashes: dict[int, set[str]] = {}
    found: dict[str, list[int]] = {"repeated": [], "forged": [], "missing": []}
    for record in received:
        known = hashes.setdefault(record.seq, set())
        if record.hash in known:
            found["repeated"].append(record.seq)
        elif known or not _hash_fits(record):
            found["forged"].append(record.seq)
        known.add(record.hash)
    found["missing"] = sorted(set(range(1, max(hashes) + 1)) - set(hashes))
    return found


def _hash_fits(record: LedgerRecord) -> bool:
    return sha256(bytes.fromhex(record.previous_hash) + canonical(record)).hexdigest() == record.hash


@with_rsyslog
def test_attack_a_replayed_frame_is_recognised_and_so_is_a_forged_and_a_dropped_one(
    database: Database, rsyslog: Rsyslog
) -> None:
    fill(database, 6)
    records = list(Ledger(database).records())
    forged = replace(records[3], subject="9.9.9")
    frames = [*records[:4], records[2], forged, records[5]]  # 3 again, 4 forged, 5 left out
    with Connection(rsyslog.collector()) as connection:
        connection.send(HEADER.message(record, as_xml(record, SOURCE)) for record in frames)
        connection.finish()
    rsyslog.stop()
    received = [Message(line.split("\ufeff")[1].encode()).record for line in rsyslog.lines()]
    found = findings(received)
    assert found["repeated"][0] == 3
    assert found["missing"] == [5]
    assert not verify_chain(iter(received)).intact
    # The forged one bears the hash of the true one, and its content does not fit it.
    assert [record.subject for record in received if not _hash_fits(record)] == ["9.9.9"]
    assert findings(records) == {"repeated": [], "forged": [], "missing": []}


def test_attack_cut_frames_never_look_like_an_orderly_end(tmp_path: Path) -> None:
    """A sender that breaks off inside a frame resets; the collector has no whole message and no end."""
    ends: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def read() -> None:
            for _ in range(2):
                connection, _ = server.accept()
                with connection:
                    try:
                        while connection.recv(4096):
                            pass
                        ends.append("end")
                    except ConnectionResetError:
                        ends.append("reset")

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        collector = Collector(name="archive", host="127.0.0.1", port=server.getsockname()[1], transport="tcp")
        message = HEADER.message(plain_record(), b"<x/>")
        with suppress(RuntimeError), Connection(collector) as connection:
            connection._socket.sendall(framed(message)[:20])
            raise RuntimeError
        with Connection(collector) as connection:
            connection.send([message])
            connection.finish()
        reader.join(5)
    assert ends == ["reset", "end"]


def _rewrite(database: Database, statement: str) -> None:
    """As somebody with every right on the database."""
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA query_only=OFF")
        for trigger in ("ledger_refuses_update", "ledger_refuses_delete", "ledger_grows_at_its_head"):
            connection.execute(text(f"DROP TRIGGER IF EXISTS {trigger}"))
        connection.execute(text(statement))
        connection.commit()


def patiently(courier: Courier, attempts: int = 20) -> int:
    """Deliver as the exporter does: a collector that stumbles is asked again."""
    for _ in range(attempts):
        try:
            return courier.deliver()
        except CollectorFault:
            time.sleep(0.2)
    return courier.deliver()


@with_rsyslog
@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM ledger WHERE seq > 3",
        "UPDATE ledger SET hash = replace(hash, substr(hash, 1, 4), 'ffff') WHERE seq = 5",
        None,
    ],
    ids=["cut", "rewritten", "twin"],
)
def test_attack_a_ledger_that_is_not_what_was_sent_is_an_incident_and_both_pasts_are_collected(
    database: Database, rsyslog: Rsyslog, statement: str | None
) -> None:
    fill(database, 5)
    courier = Courier(database, rsyslog.collector(), SOURCE)
    assert patiently(courier) == 5
    if statement is None:
        fill(database, 1)
        assert [patiently(courier), patiently(courier)] == [1, 0]
        assert "ledger-broken" not in events(database)
        return
    _rewrite(database, statement)
    while patiently(courier) or confirmed(database) == 0:
        pass
    assert events(database)[-1] == "ledger-broken"
    rsyslog.stop()
    hashes: dict[int, set[str]] = {}
    for number, digest in rsyslog.records():
        hashes.setdefault(number, set()).add(digest)
    assert any(len(each) > 1 for each in hashes.values())


@with_rsyslog
def test_attack_a_collector_that_reads_nothing_holds_up_neither_the_ledger_nor_its_neighbour(
    database: Database, rsyslog: Rsyslog
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        trap = Collector(name="trap", host="127.0.0.1", port=frozen.getsockname()[1], transport="tcp", timeout=30)
        collectors = [each.model_dump(mode="json") for each in (trap, rsyslog.collector())]
        settings = Settings.model_validate({"audit": {"collectors": collectors, "collect_interval": 0.05}})
        exporter = Exporter(settings, database)
        exporter.start()
        last = fill(database, 50)
        assert rsyslog.eventually_has(last) == list(range(1, last + 1))
        assert confirmed(database, "trap") == 0
        end = time.monotonic() + 10
        while confirmed(database) < last and time.monotonic() < end:
            time.sleep(0.05)
        assert confirmed(database) == last
    exporter.stop()


def test_attack_old_tls_is_not_spoken(tmp_path: Path) -> None:
    from gateway.dicom.tls import client_context

    context = client_context(Authority(tmp_path).issue("gateway.example"))
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
