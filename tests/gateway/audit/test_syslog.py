"""The sender takes nothing for delivered that a collector may not have read."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from config import Settings
from config.settings import Collector
from gateway.audit.exporter import Courier, Exporter
from gateway.audit.syslog import BYTE_ORDER_MARK, CollectorFault, Header, framed
from storage import Database, Ledger, LedgerRecord
from storage.audit import spool
from storage.audit.messages import AuditSource
from tests.gateway.audit.conftest import Fill

RECORD = LedgerRecord(3, "2026-11-20T09:00:00.5+00:00", "instance-stored", 0, "a", None, None, "{}", "0" * 64, "1" * 64)


@contextmanager
def collecting(behave: Callable[[socket.socket], object]) -> Iterator[Collector]:
    """A collector over plain TCP that does with each connection what the test wants."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    behave(connection)

        threading.Thread(target=serve, daemon=True).start()
        port = server.getsockname()[1]
        yield Collector(name="archive", host="127.0.0.1", port=port, transport="tcp", timeout=1)
        server.shutdown(socket.SHUT_RDWR)


def read_all(connection: socket.socket) -> bytes:
    content = b""
    while chunk := connection.recv(65536):
        content += chunk
    return content


def confirmed(database: Database) -> int:
    with database.reading() as session:
        return spool.cursor(session, "archive").seq


def test_a_header_is_what_rfc_5424_and_iti_20_say() -> None:
    header = Header(host="gateway.example", process="17")
    start = b"1 2026-11-20T09:00:00.500000+00:00 gateway.example scanwarden 17 IHE+RFC-3881 - "
    assert header.message(RECORD, b"<x/>") == b"<85>" + start + BYTE_ORDER_MARK + b"<x/>"
    failed = LedgerRecord(**{name: getattr(RECORD, name) for name in RECORD.__slots__} | {"outcome": 8})
    assert header.message(failed, b"").startswith(b"<84>1 ")
    incident = LedgerRecord(**{n: getattr(failed, n) for n in RECORD.__slots__} | {"event": "verification-differs"})
    assert header.message(incident, b"").startswith(b"<82>1 ")
    assert Header(4, "DICOM+RFC3881").message(RECORD, b"").startswith(b"<37>1 ")


def test_a_frame_begins_with_its_length_in_octets() -> None:
    assert framed("é".encode()) == b"2 \xc3\xa9"


def test_a_header_holds_no_space_or_line_end_of_a_host_name() -> None:
    message = Header(host="a b\nc\u00e9").message(RECORD, b"")
    assert message.split(b" ")[2] == b"a_b_c_"


def test_a_collector_that_reads_to_the_end_and_closes_confirms(database: Database, fill: Fill) -> None:
    taken: list[bytes] = []
    with collecting(lambda connection: taken.append(read_all(connection))) as collector:
        last = fill(5)
        assert Courier(database, collector, AuditSource()).deliver() == 5
    assert confirmed(database) == last
    assert taken[-1].count(b"IHE+RFC-3881") == 5


def close_at_once(connection: socket.socket) -> None:
    connection.close()


def close_with_a_reset(connection: socket.socket) -> None:
    connection.recv(100)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def close_when_half_is_read(connection: socket.socket) -> None:
    connection.recv(100)
    connection.close()


def never_read(connection: socket.socket) -> None:
    threading.Event().wait(3)


def read_and_never_close(connection: socket.socket) -> None:
    read_all(connection)
    threading.Event().wait(3)


@pytest.mark.parametrize(
    "behave", [close_at_once, close_with_a_reset, close_when_half_is_read, never_read, read_and_never_close]
)
def test_what_a_collector_may_not_have_read_is_not_confirmed(
    database: Database, fill: Fill, behave: Callable[[socket.socket], None]
) -> None:
    fill(50)
    with collecting(behave) as collector, pytest.raises(CollectorFault):
        Courier(database, collector, AuditSource()).deliver()
    assert confirmed(database) == 0


def test_a_frozen_collector_with_a_large_batch_times_out(database: Database, fill: Fill) -> None:
    fill(5000)
    with collecting(never_read) as collector, pytest.raises(CollectorFault):
        Courier(database, collector.model_copy(update={"batch": 5000}), AuditSource()).deliver()
    assert confirmed(database) == 0


def test_a_collector_that_never_closes_is_served_when_the_settings_say_so(database: Database, fill: Fill) -> None:
    last = fill(50)
    with collecting(read_and_never_close) as collector:
        lenient = collector.model_copy(update={"confirmation": "sent"})
        assert Courier(database, lenient, AuditSource()).deliver() == 50
    assert confirmed(database) == last


def test_datagrams_carry_one_message_each(database: Database, fill: Fill) -> None:
    fill(3)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        collector = Collector(name="archive", host="127.0.0.1", port=server.getsockname()[1], transport="udp")
        assert Courier(database, collector, AuditSource()).deliver() == 3
        datagrams = [server.recv(65536) for _ in range(3)]
    assert all(datagram.startswith(b"<85>1 ") and datagram.endswith(b"</AuditMessage>") for datagram in datagrams)


def test_an_outage_stands_in_the_ledger_once_and_so_does_its_end(database: Database, fill: Fill) -> None:
    fill(1)
    with collecting(read_all) as collector:
        courier = Courier(database, collector, AuditSource())
        for _ in range(3):
            courier.failed(CollectorFault("nobody answers"))
        with database.reading() as session:
            state = spool.states(session, ["archive"])[0]
        assert (state.waiting, state.failure) == (2, "nobody answers")
        while courier.deliver():
            pass
    events = [record.event for record in Ledger(database).records()]
    assert events == ["instance-stored", "collector-lost", "collector-back"]
    with database.reading() as session:
        state = spool.states(session, ["archive"])[0]
    assert (state.waiting, state.failing_since, state.failure) == (0, None, None)


def test_only_who_holds_the_timetable_sends(database: Database, fill: Fill) -> None:
    last = fill(3)
    holding = threading.Event()
    with collecting(read_all) as collector:
        settings = Settings.model_validate(
            {"audit": {"collectors": [collector.model_dump(mode="json")], "collect_interval": 0.01}}
        )
        exporter = Exporter(settings, database, holding.is_set)
        exporter.start()
        time.sleep(0.2)
        assert confirmed(database) == 0
        holding.set()
        end = time.monotonic() + 10
        while confirmed(database) < last and time.monotonic() < end:
            time.sleep(0.01)
        exporter.stop()
    assert confirmed(database) == last
