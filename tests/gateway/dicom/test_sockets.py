"""The socket of an association: what has arrived comes in one piece, in TLS too."""

import queue
import socket
import ssl
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from pynetdicom.association import Association

from config.settings import Tls
from gateway.dicom.sockets import GatewaySocket
from gateway.dicom.tls import server_context
from tests.signers import authority, signer

RECORD = 16 * 1024  # bytes that one record of TLS holds at most (RFC 8446 5.1)


def _accepted(connection: socket.socket) -> GatewaySocket:
    association = SimpleNamespace(dul=SimpleNamespace(event_queue=queue.Queue()))
    return GatewaySocket(cast(Association, association), connection, b"")


def _in_tls(folder: Path) -> tuple[socket.socket, ssl.SSLSocket]:
    """A sender and the receiver's end of its connection, their handshake done."""
    made = signer(folder, authority(folder, "Authority"), "localhost", address="127.0.0.1")
    ours = server_context(
        Tls(certificate=made.certificate, private_key=made.private_key, require_client_certificate=False)
    )
    theirs = ssl.create_default_context()
    theirs.check_hostname, theirs.verify_mode = False, ssl.CERT_NONE
    here, there = socket.socketpair()
    here.settimeout(10)
    there.settimeout(10)
    accepted: list[ssl.SSLSocket] = []
    accepting = threading.Thread(target=lambda: accepted.append(ours.wrap_socket(here, server_side=True)))
    accepting.start()
    sender = theirs.wrap_socket(there)
    accepting.join()
    return sender, accepted[0]


def test_records_that_have_arrived_are_handed_on_together(tmp_path: Path) -> None:
    sender, connection = _in_tls(tmp_path)
    with sender:
        receiver = _accepted(connection)
        content = bytes(range(256)) * (4 * RECORD // 256)
        sender.sendall(content)  # four records, which fit the buffers of the connection
        arrived = receiver.fill()
        assert arrived == len(content)
        assert receiver.view[receiver.begin : receiver.end] == content
        assert receiver.fill() is None
        receiver.close()
        receiver.release()


@pytest.mark.parametrize("size", [1, RECORD - 1, RECORD, RECORD + 1])
def test_what_came_before_the_end_of_a_tls_connection_is_not_lost(tmp_path: Path, size: int) -> None:
    sender, connection = _in_tls(tmp_path)
    sender.sendall(b"x" * size)
    sender.close()
    receiver = _accepted(connection)
    assert receiver.fill() == size
    assert receiver.fill() == 0
    receiver.close()
    receiver.release()
