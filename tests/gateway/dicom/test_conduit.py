"""The association that passes files on: over TLS, kept open, and with peers that say anything but an answer."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ

from config.settings import Destination
from gateway.dicom.conduit import Conduit, StoredInstance
from gateway.dicom.contexts import MAX_CONTEXTS
from gateway.dicom.part10 import file_meta
from gateway.dicom.scu import ConnectionBroken, Rejected, Unreachable
from tests.gateway.dicom.conftest import MR_IMAGE, Gateway, Start, encoded, free_port, mr_image
from tests.gateway.dicom.test_tls import Authority, hospital  # noqa: F401 - a fixture

PAIR = (MR_IMAGE, str(ExplicitVRLittleEndian))


def to(port: int, **other: object) -> Destination:
    values = {"name": "pacs", "ae_title": "SCANWARDEN", "host": "127.0.0.1", "port": port, "timeout": 5, **other}
    return Destination.model_validate(values)


def stored(folder: Path, *, size: int = 128) -> StoredInstance:
    """A file as our store has it."""
    side = max(8, int((size / 2) ** 0.5))
    image = mr_image(Rows=side, Columns=side, PixelData=bytes(2 * side * side))
    uid = str(image.SOPInstanceUID)
    path = folder / f"{uid}.dcm"
    path.write_bytes(file_meta(MR_IMAGE, uid, PAIR[1]) + encoded(image))
    return StoredInstance(path, MR_IMAGE, uid, PAIR[1])


def test_many_files_of_many_fragments_pass_on_one_association(gateway: Gateway, tmp_path: Path) -> None:
    conduit = Conduit(to(gateway.port), "ROUTER", [PAIR])
    files = [stored(tmp_path, size=size) for size in (128, 1_000_000, 50_000)]
    assert [conduit.send(each) for each in files] == [0, 0, 0]
    assert gateway.receiver.open_associations == 1
    assert conduit.is_alive
    conduit.close()
    kept = [gateway.store.locate(each.path).read_bytes() for each in gateway.instances()]
    assert kept == [each.path.read_bytes() for each in files]  # the header too: both sides are ours


def test_over_tls_an_association_that_rests_is_known_to_live(
    start: Start,
    hospital: Authority,  # noqa: F811 - as above
    tmp_path: Path,
) -> None:
    gateway = start(tls=hospital.issue("gateway"))
    conduit = Conduit(to(gateway.port, host="localhost", tls=hospital.issue("router")), "ROUTER", [PAIR])
    for _ in range(3):
        assert conduit.is_alive  # TLS 1.3 sends tickets of its own accord
        assert conduit.send(stored(tmp_path)) == 0
    conduit.close()


def test_a_title_that_is_not_theirs_is_rejected_for_good(gateway: Gateway) -> None:
    with pytest.raises(Rejected, match="for good") as rejection:
        Conduit(to(gateway.port, ae_title="WRONG"), "ROUTER", [PAIR])
    assert not rejection.value.transient


def test_nobody_there_is_unreachable() -> None:
    with pytest.raises(Unreachable, match="no connection"):
        Conduit(to(free_port()), "ROUTER", [PAIR])


def test_a_class_that_is_not_taken_is_known_before_it_is_sent(gateway: Gateway) -> None:
    conduit = Conduit(to(gateway.port), "ROUTER", [PAIR, ("1.2.3.4", PAIR[1])])
    assert (conduit.accepts(PAIR), conduit.accepts(("1.2.3.4", PAIR[1]))) == (True, False)
    conduit.close()


@contextmanager
def peer(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A peer that accepts an association as it should, and then does as it likes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                head = connection.recv(6, socket.MSG_WAITALL)
                body = connection.recv(struct.unpack(">L", head[2:])[0], socket.MSG_WAITALL)
                request = A_ASSOCIATE_RQ()
                request.decode(head + body)
                primitive = request.to_primitive()
                primitive.result = 0
                for context in primitive.presentation_context_definition_list:
                    context.result = 0
                primitive.presentation_context_definition_results_list = primitive.presentation_context_definition_list
                accepted = A_ASSOCIATE_AC()
                accepted.from_primitive(primitive)
                connection.sendall(accepted.encode())
                connection.recv(65536)  # the whole request
                answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBL", kind, 0, len(body)) + body


def response(status: int, message_id: int = 1, command: int = 0x8001) -> bytes:
    elements = [(0x0100, command), (0x0120, message_id), (0x0800, 0x0101), (0x0900, status)]
    content = b"".join(struct.pack("<HHLH", 0, number, 2, value) for number, value in elements)
    return pdu(4, struct.pack(">LBB", len(content) + 2, 1, 3) + content)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (pdu(7, bytes(4)), "aborts the association"),
        (pdu(5, bytes(4)), "releases the association in place of an answer"),
        (b"", "closes the connection"),
        (pdu(2, b"x"), "sends a PDU of type 2"),
        (struct.pack(">BBL", 4, 0, 2**31), "sends a PDU of 2147483648 bytes"),
        (pdu(4, struct.pack(">LBB", 2**20, 1, 3)), "sends a PDV that does not fit its PDU"),
        (pdu(4, struct.pack(">LBB", 10, 1, 3) + b"\xff" * 8), "sends a command set that cannot be read"),
    ],
)
def test_a_peer_that_gives_no_answer_breaks_the_association_and_nothing_else(
    answer: bytes, says: str, tmp_path: Path
) -> None:
    with peer(lambda connection: connection.sendall(answer)) as port:
        conduit = Conduit(to(port), "ROUTER", [PAIR])
        with pytest.raises(ConnectionBroken, match=says):
            conduit.send(stored(tmp_path))


def test_a_peer_that_stalls_is_left_after_the_timeout(tmp_path: Path) -> None:
    done = threading.Event()
    with peer(lambda _: (done.wait(10), None)[1]) as port:
        conduit = Conduit(to(port, timeout=0.2), "ROUTER", [PAIR])
        with pytest.raises(ConnectionBroken, match=r"no answer within 0\.2 s"):
            conduit.send(stored(tmp_path))
        done.set()


def test_an_answer_to_another_request_is_passed_over(tmp_path: Path) -> None:
    parts = response(0, message_id=7) + response(0, command=0x8030) + response(0xC123)
    with peer(lambda connection: connection.sendall(parts)) as port:
        conduit = Conduit(to(port), "ROUTER", [PAIR])
        assert conduit.send(stored(tmp_path)) == 0xC123
        conduit.close()


def test_a_file_that_is_none_of_ours_is_not_sent_and_the_peer_is_told(gateway: Gateway, tmp_path: Path) -> None:
    instance = stored(tmp_path)
    instance.path.write_bytes(b"no DICOM")
    conduit = Conduit(to(gateway.port), "ROUTER", [PAIR])
    with pytest.raises(OSError, match="no File Meta Information"):
        conduit.send(instance)
    assert not conduit.is_alive
    assert gateway.instances() == []


def test_a_peer_is_offered_no_more_contexts_than_there_are(gateway: Gateway) -> None:
    pairs = [PAIR, *((f"1.2.3.{number}", PAIR[1]) for number in range(200))]
    conduit = Conduit(to(gateway.port), "ROUTER", pairs)
    assert len(conduit.offered) == MAX_CONTEXTS
    conduit.close()
