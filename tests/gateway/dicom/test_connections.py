"""Whatever connects to the port: garbage, port checks, half a request, a stall; nobody else notices."""

import socket
import struct
import threading
import time
from collections.abc import Iterator

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.dicom.connections import ABORT_UNEXPECTED_PDU
from gateway.dicom.sockets import MAX_PDU_BYTES
from tests.gateway.dicom.conftest import Gateway, Modality, Start, eventually, mr_image


@pytest.fixture
def visitor(gateway: Gateway) -> Iterator[socket.socket]:
    """A TCP connection to the port."""
    with socket.create_connection(("127.0.0.1", gateway.port), 10) as connection:
        yield connection


def until_closed(connection: socket.socket) -> bytes:
    """What the gateway says until it closes."""
    heard = b""
    try:
        while chunk := connection.recv(4096):
            heard += chunk
    except ConnectionResetError:
        pass
    return heard


def serves(gateway: Gateway) -> bool:
    sender = Modality(gateway)
    status, _ = sender.store(mr_image())
    sender.close()
    return status == 0


def test_port_checks_leave_no_event_and_no_thread(gateway: Gateway) -> None:
    assert serves(gateway)
    before = threading.active_count()
    for _ in range(200):
        socket.create_connection(("127.0.0.1", gateway.port), 10).close()
    assert eventually(lambda: threading.active_count() <= before)
    assert gateway.events_of_peers() == []
    assert serves(gateway)


@pytest.mark.parametrize(
    "first",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03",
        b"\x04\0\0\0\0\x10" + bytes(16),
    ],
)
def test_what_is_no_association_request_is_aborted_and_noted(
    gateway: Gateway, visitor: socket.socket, first: bytes
) -> None:
    visitor.sendall(first)
    assert until_closed(visitor) in {ABORT_UNEXPECTED_PDU, b""}
    assert gateway.refused_associations()[0]["reason"] == "not_dicom"
    assert serves(gateway)


def test_a_request_that_says_it_is_huge_is_not_waited_for(gateway: Gateway, visitor: socket.socket) -> None:
    visitor.sendall(struct.pack(">BBL", 1, 0, 0xFFFFFFF0))
    assert until_closed(visitor) == ABORT_UNEXPECTED_PDU
    assert serves(gateway)


@pytest.mark.parametrize("body", [bytes(200), b"\0\1" + bytes(66), b"\0\1\0\0" + b"A" * 64, b""])
def test_attack_requests_that_cannot_be_decoded_do_not_pile_up(gateway: Gateway, body: bytes) -> None:
    """Within the 30 seconds of `acse_timeout`, in which pynetdicom would keep a thread for each."""
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", gateway.port), 10) as caller:
            caller.sendall(struct.pack(">BBL", 1, 0, len(body)) + body)
            until_closed(caller)
    assert eventually(lambda: gateway.receiver._snapshot() == [])
    assert serves(gateway)


def test_half_a_request_is_noted(gateway: Gateway, visitor: socket.socket) -> None:
    visitor.sendall(struct.pack(">BBL", 1, 0, 200) + bytes(50))
    visitor.shutdown(socket.SHUT_WR)
    assert until_closed(visitor) == b""
    assert gateway.refused_associations()[0]["reason"] == "request_incomplete"
    assert serves(gateway)


def test_attack_a_caller_that_sends_drop_by_drop_is_cut_off(start: Start) -> None:
    gateway = start(acse_timeout=0.4)
    with socket.create_connection(("127.0.0.1", gateway.port), 10) as slow:
        slow.sendall(struct.pack(">BBL", 1, 0, 200))
        try:
            for _ in range(100):
                slow.sendall(b"\0")
                time.sleep(0.05)
        except OSError:
            pass
        assert until_closed(slow) == b""
    assert gateway.refused_associations()[0]["reason"] == "request_timeout"
    assert serves(gateway)


@pytest.mark.parametrize("first", [b"", b"\1"], ids=["nothing", "a byte"])
def test_attack_a_caller_that_stays_silent_is_cut_off_and_told_why(start: Start, first: bytes) -> None:
    gateway = start(acse_timeout=0.4)
    with socket.create_connection(("127.0.0.1", gateway.port), 10) as silent:
        silent.sendall(first)
        assert until_closed(silent) == b""
    assert gateway.refused_associations()[0]["reason"] == "request_timeout"
    assert serves(gateway)


def test_attack_connections_without_a_request_do_not_keep_others_out(start: Start) -> None:
    gateway = start(max_associations=4, max_associations_per_source=2)
    held = [socket.create_connection(("127.0.0.1", gateway.port), 10) for _ in range(4)]
    for each in held:
        each.sendall(b"\x01")
    with socket.create_connection(("127.0.0.1", gateway.port), 10) as surplus:
        surplus.sendall(b"\x01")
        assert until_closed(surplus) == b""
    for each in held:
        each.close()
    assert eventually(lambda: not gateway.receiver.connections_waiting)
    assert serves(gateway)


def test_attack_a_pdu_larger_than_announced_ends_its_association_only(gateway: Gateway) -> None:
    beside, attacker = Modality(gateway), Modality(gateway)
    attacker.raw.sendall(struct.pack(">BBL", 4, 0, MAX_PDU_BYTES + 1) + bytes(1000))
    attacker.association.join(timeout=10)
    assert not attacker.association.is_established
    assert beside.store(mr_image())[0] == 0
    beside.close()
    assert eventually(lambda: gateway.receiver.open_associations == 0)


@pytest.mark.parametrize(
    "pdu",
    [
        struct.pack(">BBLBBBB", 7, 0, 4, 0, 0, 63, 0),  # A-ABORT from a source that there is not
        struct.pack(">BBL", 4, 0, 8) + struct.pack(">LBB", 4, 2, 3) + b"\0\0",  # in a context of an even number
    ],
    ids=["abort", "context"],
)
def test_attack_a_pdu_that_says_what_none_may_ends_its_association_and_is_noted(gateway: Gateway, pdu: bytes) -> None:
    attacker = Modality(gateway)
    attacker.raw.sendall(pdu)
    assert eventually(lambda: gateway.receiver.open_associations == 0)
    assert "cannot be" in gateway.refused_associations()[0]["text"]
    assert serves(gateway)


def test_attack_a_data_set_that_trickles_is_cut_off(start: Start) -> None:
    """Byte by byte, within every timeout that looks at single reads."""
    gateway = start(dimse_timeout=0.5, slowest_rate=4096)
    sender = Modality(gateway)
    image = mr_image(PixelData=bytes(65536), Rows=256, Columns=128)
    sender.association.dul.send_pdu(sender.parts(image)[0])
    data = sender.parts(image)[1:]
    try:
        for part in data:
            value = part.presentation_data_value_list[0][1]
            pdv = struct.pack(">LB", len(value) + 1, 1) + value
            sender.raw.sendall(struct.pack(">BBL", 4, 0, len(pdv)) + pdv)
            time.sleep(0.2)
            if gateway.receiver.open_associations == 0:
                break
        else:
            pytest.fail("256 bytes in 0.2 s went on to the end")
    except OSError:
        pass
    assert eventually(lambda: gateway.receiver.open_associations == 0)
    assert eventually(lambda: gateway.files() == [])
    assert [each["reason"] for each in gateway.refused_associations()] == ["too_slow"]
    assert serves(gateway)


def test_an_association_that_says_nothing_is_closed(start: Start) -> None:
    gateway = start(idle_timeout=0.5)
    Modality(gateway)
    assert eventually(lambda: gateway.receiver.open_associations == 0)
    assert serves(gateway)


def test_attack_an_association_that_is_agreed_and_left_half_open_is_closed(start: Start) -> None:
    """No byte and no end comes: the peer's machine is gone. Of the kernel's own means each connection has both."""
    gateway = start(idle_timeout=0.5, dimse_timeout=7)
    sender = Modality(gateway)
    (association,) = gateway.receiver._snapshot()
    wrapped = association.dul.socket
    assert wrapped is not None
    assert wrapped.socket is not None
    options = [
        wrapped.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        wrapped.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
        wrapped.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
    ]
    assert options == [1, 30, 7000]
    assert eventually(lambda: gateway.receiver.open_associations == 0)
    assert eventually(lambda: not sender.association.is_established)


def test_port_checks_by_the_hundred_leave_no_memory_and_no_handle(gateway: Gateway) -> None:
    def checked(times: int) -> tuple[int, int]:
        for _ in range(times):
            socket.create_connection(("127.0.0.1", gateway.port), 10).close()
        assert eventually(lambda: not gateway.receiver.connections_waiting)
        return psutil.Process().memory_info().rss, psutil.Process().num_fds()

    before, handles = checked(100)
    after, handles_after = checked(500)
    assert after - before < 4 * 1024**2
    assert handles_after - handles < 8


def test_a_sender_that_vanishes_within_a_data_set_leaves_nothing(gateway: Gateway) -> None:
    sender = Modality(gateway)
    sender.begin(mr_image())
    assert eventually(lambda: len(gateway.files()) == 1)
    sender.raw.shutdown(socket.SHUT_RDWR)
    assert eventually(lambda: gateway.files() == [])
    assert eventually(lambda: gateway.receiver.open_associations == 0)
    assert serves(gateway)


def test_attack_a_sender_that_stalls_within_a_pdu_is_cut_off(start: Start) -> None:
    gateway = start(dimse_timeout=0.3)
    sender = Modality(gateway)
    sender.raw.sendall(struct.pack(">BBLLBB", 4, 0, 1000, 996, 1, 1) + bytes(10))
    assert eventually(lambda: gateway.receiver.open_associations == 0)
    assert [each["reason"] for each in gateway.refused_associations()] == ["stalled"]
    assert serves(gateway)


def test_attack_items_that_do_not_fit_their_pdu_end_the_association(gateway: Gateway) -> None:
    sender = Modality(gateway)
    sender.raw.sendall(struct.pack(">BBL", 4, 0, 1000) + bytes(10))
    assert eventually(lambda: gateway.receiver.open_associations == 0)
    assert [each["reason"] for each in gateway.refused_associations()] == ["invalid_pdu"]
    assert serves(gateway)


def test_attack_a_pdu_longer_than_any_is_not_read(gateway: Gateway) -> None:
    sender = Modality(gateway)
    sender.raw.sendall(struct.pack(">BBL", 4, 0, 2**31) + bytes(1000))
    assert eventually(lambda: gateway.receiver.open_associations == 0)
    assert [each["reason"] for each in gateway.refused_associations()] == ["pdu_too_long"]
    assert serves(gateway)


def test_attack_a_sender_that_never_waits_for_answers_is_aborted(gateway: Gateway) -> None:
    """Requests that pile up would each hold a file open."""
    sender = Modality(gateway)
    for _ in range(200):
        sender.post(mr_image(PixelData=bytes(4096), Rows=32, Columns=64))
    assert eventually(lambda: sender.association.is_aborted or not sender.association.is_alive())
    assert eventually(lambda: gateway.receiver.open_associations == 0)
    assert not list((gateway.store.root / "incoming").iterdir())
    assert serves(gateway)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(min_size=1, max_size=400), as_pdu=st.booleans())
def test_no_bytes_take_the_port_down(gateway: Gateway, data: bytes, as_pdu: bool) -> None:
    framed = struct.pack(">BBL", 1, 0, len(data)) + data if as_pdu else data
    with socket.create_connection(("127.0.0.1", gateway.port), 10) as visitor:
        try:
            visitor.sendall(framed)
            visitor.shutdown(socket.SHUT_WR)
            until_closed(visitor)
        except OSError:
            pass
    with socket.create_connection(("127.0.0.1", gateway.port), 10):
        pass


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300), control=st.sampled_from([0, 1, 2, 3]))
def test_no_message_takes_the_port_down(gateway: Gateway, data: bytes, control: int) -> None:
    sender = Modality(gateway)
    pdv = struct.pack(">LBB", len(data) + 2, 1, control) + data
    sender.raw.sendall(struct.pack(">BBL", 4, 0, len(pdv)) + pdv)
    sender.association.abort()
    assert eventually(lambda: gateway.receiver.open_associations == 0)
