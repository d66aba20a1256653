"""The machine's own limit: the same bytes over loopback, hashed, written and fsynced, with nothing else in the way.

`python -m benchmarks.ingest.limit PORT FOLDER [CERTIFICATE KEY AUTHORITY]` receives, a process a connection. A file is
its length in eight bytes and its content; the answer is one byte when it is on disk.
"""

import multiprocessing
import os
import signal
import socket
import ssl
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from types import FrameType
from uuid import uuid4

from config.settings import Tls
from gateway.dicom.tls import client_context, server_context

_PIECE = 131072


def main(arguments: Sequence[str]) -> None:
    """Serve until killed."""
    folder = Path(arguments[1])
    tls = server_context(_tls(arguments[2:])) if len(arguments) > 2 else None
    signal.signal(signal.SIGCHLD, _bury)
    with socket.create_server(("127.0.0.1", int(arguments[0]))) as port:
        while True:
            connection, _ = port.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if os.fork() == 0:
                port.close()
                _receive(tls.wrap_socket(connection, server_side=True) if tls else connection, folder)
                os._exit(0)
            connection.close()


def _bury(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a handler
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _receive(connection: socket.socket, folder: Path) -> None:
    piece = bytearray(_PIECE)
    view = memoryview(piece)
    while head := connection.recv(8, 0 if isinstance(connection, ssl.SSLSocket) else socket.MSG_WAITALL):
        left = struct.unpack(">Q", head)[0]
        digest = sha256()
        with (folder / uuid4().hex).open("wb", buffering=0) as file:
            while left:
                count = connection.recv_into(view, min(left, _PIECE))
                digest.update(view[:count])
                file.write(view[:count])
                left -= count
            os.fsync(file.fileno())
        connection.sendall(b"\1")


def send(port: int, folders: Sequence[Path], credentials: Sequence[str]) -> None:
    """Send what is in each folder over a connection of its own, all at once. Raises RuntimeError when one fails."""
    forking = multiprocessing.get_context("fork")
    senders = [forking.Process(target=_send, args=(port, folder, credentials)) for folder in folders]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    if any(sender.exitcode for sender in senders):
        raise RuntimeError("the measurement of the machine's limit failed")


def _send(port: int, folder: Path, credentials: Sequence[str]) -> None:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if credentials:
        connection = client_context(_tls(credentials)).wrap_socket(connection, server_hostname="127.0.0.1")
    for file in folder.iterdir():
        content = file.read_bytes()
        connection.sendall(struct.pack(">Q", len(content)))
        connection.sendall(content)
        if connection.recv(1) != b"\1":
            raise SystemExit(1)
    connection.close()


def _tls(credentials: Sequence[str]) -> Tls:
    certificate, key, authority = map(Path, credentials)
    return Tls(certificate=certificate, private_key=key, authorities=authority, require_client_certificate=True)


if __name__ == "__main__":
    main(sys.argv[1:])
