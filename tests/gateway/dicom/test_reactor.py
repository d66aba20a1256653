"""An association driven by one thread: however its bytes are cut, whatever comes between, asleep when nothing does."""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from io import BytesIO
from itertools import count, pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pynetdicom.dimse_messages import C_STORE_RQ, C_STORE_RSP, DIMSEMessage
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode
from pynetdicom.pdu import P_DATA_TF

from gateway.dicom.commands import StoreRequest, read_store_request, store_response
from gateway.dicom.dimse import MAX_WAITING
from gateway.dicom.places import Kind, Places
from gateway.dicom.reactor import GatewayUpperLayer, SteadyTimer
from gateway.dicom.receiver import Receiver
from tests import wire
from tests.gateway.dicom.conftest import MR_IMAGE, Gateway, Modality, encoded, eventually, mr_image

NUMBERS = count(10**9)
REQUEST = StoreRequest(7, 0, MR_IMAGE, "1.2.3.4")


@pytest.fixture
def line(gateway: Gateway) -> Iterator[wire.Association]:
    """An association of which every byte is ours."""
    with wire.Association(gateway.port, MR_IMAGE) as association:
        yield association


def item(control: int, data: bytes) -> bytes:
    return struct.pack(">LBB", len(data) + 2, 1, control) + data


def pdu(*items: bytes) -> bytes:
    body = b"".join(items)
    return struct.pack(">BxL", 4, len(body)) + body


def command_set(**values: object) -> bytes:
    """A C-STORE request's, as pynetdicom writes it, changed by `values` (None: element absent)."""
    request = C_STORE()
    request.MessageID = 7
    request.AffectedSOPClassUID = MR_IMAGE
    request.AffectedSOPInstanceUID = "1.2.3.4"
    request.Priority = 0
    request.DataSet = BytesIO(b"\0\0")
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    for keyword, value in values.items():
        if value is None:
            delattr(message.command_set, keyword)
        else:
            setattr(message.command_set, keyword, value)
    return with_length(message.command_set)


def with_length(command: Dataset) -> bytes:
    command.CommandGroupLength = 0
    command.CommandGroupLength = len(encode(command, True, True) or b"") - 12
    return encode(command, True, True) or b""


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_however_its_bytes_are_cut_a_data_set_arrives_whole(gateway: Gateway, data: st.DataObject) -> None:
    """Fragments of any length, several to a PDU, and the stream broken anywhere."""
    image = mr_image(
        SOPInstanceUID=f"1.2.3.{next(NUMBERS)}",  # always as long: where it can be cut is drawn from its length
        StudyInstanceUID="1.2.3",
        SeriesInstanceUID="1.2.3.4",
        PixelData=bytes(range(256)) * 32,
        Rows=64,
        Columns=64,
    )
    content = encoded(image)
    ends = [*sorted(data.draw(st.sets(st.integers(1, len(content) - 1), max_size=5))), len(content)]
    command = command_set(AffectedSOPInstanceUID=image.SOPInstanceUID)
    half = data.draw(st.integers(0, len(command)))
    items = [item(1, command[:half]), item(3, command[half:])] if half < len(command) else [item(3, command)]
    for begin, end in pairwise([0, *ends]):
        items.append(item(2 if end == len(content) else 0, content[begin:end]))
    stream = b""
    while items:
        together = data.draw(st.integers(1, len(items)))
        stream += pdu(*items[:together])
        del items[:together]
    breaks = [0, *sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=6))), len(stream)]
    with wire.Association(gateway.port, MR_IMAGE) as line:
        for begin, end in pairwise(breaks):
            line._socket.sendall(stream[begin:end])
            time.sleep(0.001)
        kind, body = line._read()
    assert (kind, wire._status(body[6:])) == (4, 0)
    (stored,) = [each for each in gateway.instances() if each.sop_instance_uid == image.SOPInstanceUID]
    assert dcmread(gateway.store.locate(stored.path)).PixelData == image.PixelData


@pytest.mark.parametrize(
    "broken",
    [
        struct.pack(">BxL", 4, 3) + b"\0\0\0",  # no room for an item
        struct.pack(">BxL", 4, 6) + struct.pack(">LBB", 1, 1, 0),  # an item without its own header
        struct.pack(">BxL", 4, 8) + struct.pack(">LBB", 100, 1, 0) + b"\0\0",  # an item that is longer than its PDU
        pdu(item(3, command_set()), item(0, bytes(10)), item(3, command_set())),  # a command within a data set
        pdu(item(0, bytes(10))) + pdu(item(2, bytes(10))),  # a data set without its command
    ],
)
def test_what_is_no_message_is_aborted_and_leaves_nothing(
    gateway: Gateway, line: wire.Association, broken: bytes
) -> None:
    line._socket.sendall(broken)
    kind, _ = line._read()
    assert kind == 7
    assert eventually(lambda: gateway.receiver.open_associations == 0)
    assert gateway.files() == []


def test_many_instances_in_one_write_are_answered_one_after_the_other(gateway: Gateway, line: wire.Association) -> None:
    images = [mr_image() for _ in range(MAX_WAITING)]
    line._socket.sendall(
        b"".join(
            pdu(item(3, command_set(AffectedSOPInstanceUID=each.SOPInstanceUID)), item(2, encoded(each)))
            for each in images
        )
    )
    assert [wire._status(line._read()[1][6:]) for _ in images] == [0] * len(images)
    assert [each.sop_instance_uid for each in gateway.instances()] == [each.SOPInstanceUID for each in images]


def test_an_idle_association_sleeps_in_the_kernel(
    gateway: Gateway, modality: Modality, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert modality.store(mr_image())[0] == 0
    turns: list[float | None] = []
    turn = GatewayUpperLayer._turn

    def counted(layer: GatewayUpperLayer, limit: float | None) -> None:
        turns.append(limit)
        turn(layer, limit)

    monkeypatch.setattr(GatewayUpperLayer, "_turn", counted)
    time.sleep(0.3)
    assert len(turns) <= 1
    assert modality.store(mr_image())[0] == 0
    (association,) = gateway.receiver._snapshot()
    assert not association.dul.native_id  # pynetdicom's second thread was never started


def test_another_thread_can_send_while_the_association_sleeps(gateway: Gateway, line: wire.Association) -> None:
    (association,) = gateway.receiver._snapshot()
    response = C_STORE()
    response.MessageIDBeingRespondedTo = 9
    response.AffectedSOPClassUID = MR_IMAGE
    response.AffectedSOPInstanceUID = "1.2.3"
    response.Status = 0xA700
    association.dimse.send_msg(response, 1)
    kind, body = line._read()
    assert (kind, wire._status(body[6:])) == (4, 0xA700)


def test_an_abort_from_another_thread_reaches_the_peer(gateway: Gateway, line: wire.Association) -> None:
    (association,) = gateway.receiver._snapshot()
    association.abort()
    assert line._read()[0] == 7
    assert not association.is_alive()
    assert gateway.receiver.open_associations == 0


def test_a_timer_knows_nothing_of_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    timer = SteadyTimer(10)
    assert timer.left is None
    timer.start()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert not timer.expired
    assert 9 < timer.remaining <= 10
    began = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: began + 11)
    assert timer.expired
    timer.stop()
    assert not timer.expired


def test_a_usual_request_is_read_without_pynetdicom() -> None:
    assert read_store_request(command_set()) == REQUEST
    moved = command_set(MoveOriginatorApplicationEntityTitle="PACS", MoveOriginatorMessageID=3)
    assert read_store_request(moved) == REQUEST


@pytest.mark.parametrize(
    "unusual",
    [
        command_set(CommandField=0x0030),
        command_set(CommandDataSetType=0x0101),
        command_set(Priority=7),
        command_set(MessageID=None),
        command_set().replace(b"1.2.3.4", b"1.2.A.4"),
        command_set(ErrorComment="what is this"),
        command_set() + command_set(),
        command_set()[:-1],
        command_set()[:20],
        b"",
        bytes(200),
    ],
)
def test_an_unusual_request_is_left_to_pynetdicom(unusual: bytes) -> None:
    assert read_store_request(unusual) is None


@given(content=st.binary(max_size=200))
def test_no_command_set_is_too_odd_to_be_read(content: bytes) -> None:
    read_store_request(content)


@given(
    message_id=st.integers(0, 0xFFFF),
    status=st.sampled_from([0x0000, 0xA700, 0xA900, 0xC000, 0x0110, 0xB000]),
    comment=st.none() | st.text(st.characters(min_codepoint=33, max_codepoint=91), min_size=1, max_size=64),
    context_id=st.integers(0, 127).map(lambda number: 2 * number + 1),
)
def test_an_answer_is_written_as_pynetdicom_writes_it(
    message_id: int, status: int, comment: str | None, context_id: int
) -> None:
    response = C_STORE()
    response.MessageIDBeingRespondedTo = message_id
    response.AffectedSOPClassUID = MR_IMAGE
    response.AffectedSOPInstanceUID = "1.2.3.4"
    response.Status = status
    response.ErrorComment = comment  # type: ignore[assignment]
    message = C_STORE_RSP()
    message.primitive_to_message(response)
    (primitive,) = message.encode_msg(context_id, 16384)
    request = StoreRequest(message_id, 0, MR_IMAGE, "1.2.3.4")
    assert store_response(context_id, request, status, comment) == P_DATA_TF(primitive).encode()
    assert len(store_response(context_id, request, status, comment)) <= 512
    assert isinstance(message, DIMSEMessage)


def test_acceptors_share_a_port_that_stays_open_when_one_of_them_closes(gateway: Gateway) -> None:
    server = gateway.receiver._server
    assert server is not None
    assert server.socket is not None
    beside = Receiver(gateway.settings, gateway.database, gateway.store, server.socket.dup())
    beside.start()
    try:
        gateway.receiver.drain(seconds=0.5)
        with wire.Association(beside.port, MR_IMAGE) as line:
            image = mr_image()
            assert line.store(image.SOPInstanceUID, encoded(image)) == 0
    finally:
        beside.drain(seconds=0.5)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", gateway.settings.dicom.port), 1)


def test_an_acceptor_knows_how_far_it_is_ahead_of_the_idlest(gateway: Gateway) -> None:
    folder = gateway.store.root / "elsewhere"
    busy, idle = Places(folder, most=8), Places(folder, most=8)
    for each in (busy, idle):
        each.memory(1)
    held = [busy.take(Kind.ASSOCIATION, f"10.0.0.{n}", total=8, per_address=8) for n in range(3)]
    held.append(idle.take(Kind.CONNECTION, "10.0.0.9", total=8, per_address=8))
    assert busy.ahead(Kind.CONNECTION, Kind.ASSOCIATION) == 2
    assert idle.ahead(Kind.CONNECTION, Kind.ASSOCIATION) == 0
    idle.close()  # as when its process dies
    assert busy.ahead(Kind.CONNECTION, Kind.ASSOCIATION) == 0
    busy.close()


def test_no_thread_and_no_handle_is_left_of_an_association(gateway: Gateway) -> None:
    handles = Path("/proc/self/fd")
    Modality(gateway).close()
    assert eventually(lambda: gateway.receiver._snapshot() == [])
    before = threading.active_count(), len(list(handles.iterdir()))
    for _ in range(5):
        with wire.Association(gateway.port, MR_IMAGE) as line:
            line._socket.sendall(pdu(item(3, command_set()), item(0, bytes(100))))
    assert eventually(lambda: (threading.active_count(), len(list(handles.iterdir()))) <= before)
