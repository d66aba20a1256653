"""A C-STORE user on a bare socket: nothing between a test and what the receiver said, and a clock on each response.

It speaks as much of the upper layer (PS3.8 section 9.3) and of DIMSE (PS3.7 section 9.1.1) as sending takes, one
request at a time, and does it in few instructions, so that what is measured is the receiver.
"""

import socket
import ssl
import struct
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

SUCCESS = 0x0000
_APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
_IMPLEMENTATION = b"1.2.826.0.1.3680043.9.3811.9.9"
_LONGEST_SEND = 131072


class AssociationFailed(Exception):
    """No answer came where one was due: what was on its way has not been acknowledged."""


class Rejected(AssociationFailed):
    """A-ASSOCIATE-RJ; `reason` is (result, source, diagnostic) as in PS3.8 table 9-21."""

    def __init__(self, result: int, source: int, diagnostic: int) -> None:
        super().__init__(f"rejected: result {result}, source {source}, reason {diagnostic}")
        self.reason = (result, source, diagnostic)


class Association:
    """An association that stores; open it with `with`, which releases it at the end."""

    def __init__(
        self,
        port: int,
        sop_class_uid: str,
        transfer_syntax: str = "1.2.840.10008.1.2.1",
        *,
        called: str = "SCANWARDEN",
        calling: str = "MODALITY",
        timeout: float = 30.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Raises Rejected, AssociationFailed, and OSError when nobody listens."""
        self._sop_class = sop_class_uid.encode()
        self._message = 0
        self.response_seconds: list[float] = []
        connection = socket.create_connection(("127.0.0.1", port), timeout)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket = tls.wrap_socket(connection) if tls is not None else connection
            self._longest = self._agree(_request(called, calling, self._sop_class, transfer_syntax.encode())) - 6
        except BaseException:
            connection.close()
            raise

    def store(self, sop_instance_uid: str, dataset: bytes) -> int:
        """Send one instance and wait for the response: its status. Raises AssociationFailed, OSError."""
        self._message = self._message % 0xFFFF + 1
        parts = [_pdu(_command(self._message, self._sop_class, sop_instance_uid.encode()), 0x03)]
        view = memoryview(dataset)
        for start in range(0, len(view), self._longest):
            last = start + self._longest >= len(view)
            parts.append(_pdu(bytes(view[start : start + self._longest]), 0x02 if last else 0x00))
        begun = time.perf_counter()
        self._socket.sendall(b"".join(parts))
        kind, body = self._read()
        self.response_seconds.append(time.perf_counter() - begun)
        if kind != 0x04:
            raise AssociationFailed(f"PDU {kind:#04x} came in place of a response")
        return _status(body[6:])

    def release(self) -> None:
        """End in order; what the other side makes of it does not matter any more."""
        try:
            self._socket.sendall(struct.pack(">BxI4x", 0x05, 4))
            self._read()
        except (OSError, AssociationFailed):
            pass
        finally:
            self.close()

    def close(self) -> None:
        """Drop the connection."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.release()
        else:
            self.close()

    def _agree(self, request: bytes) -> int:
        """Ask for the association; the longest PDU that we shall send."""
        self._socket.sendall(request)
        kind, body = self._read()
        if kind == 0x03:
            raise Rejected(*body[1:4])
        if kind != 0x02:
            raise AssociationFailed(f"PDU {kind:#04x} came in answer to the association's request")
        return min(_longest_pdu(body) or _LONGEST_SEND, _LONGEST_SEND)

    def _read(self) -> tuple[int, bytes]:
        kind, length = struct.unpack(">BxI", self._exactly(6))
        return kind, self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        content = bytearray()
        while len(content) < count:
            piece = self._socket.recv(count - len(content))
            if not piece:
                raise AssociationFailed("the connection was closed")
            content += piece
        return bytes(content)


def _request(called: str, calling: str, sop_class: bytes, transfer_syntax: bytes) -> bytes:
    context = b"\x01\x00\x00\x00" + _item(0x30, sop_class) + _item(0x40, transfer_syntax)
    user = _item(0x51, struct.pack(">I", _LONGEST_SEND)) + _item(0x52, _IMPLEMENTATION)
    body = struct.pack(">HH16s16s32x", 1, 0, called.encode().ljust(16), calling.encode().ljust(16))
    body += _item(0x10, _APPLICATION_CONTEXT) + _item(0x20, context) + _item(0x50, user)
    return struct.pack(">BxI", 0x01, len(body)) + body


def _item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(content)) + content


def _longest_pdu(accepted: bytes) -> int:
    """The maximum length of the A-ASSOCIATE-AC; raises AssociationFailed when our context was not accepted."""
    position, longest = 68, 0
    while position + 4 <= len(accepted):
        kind, length = struct.unpack_from(">BxH", accepted, position)
        body = accepted[position + 4 : position + 4 + length]
        if kind == 0x21 and body[2] != 0:
            raise AssociationFailed(f"the presentation context was refused: {body[2]}")
        if kind == 0x50 and body[:1] == b"\x51":
            longest = int.from_bytes(body[4:8], "big")
        position += 4 + length
    return longest


def _command(message: int, sop_class: bytes, sop_instance: bytes) -> bytes:
    elements = b"".join(
        struct.pack("<HHI", 0, element, len(value)) + value
        for element, value in (
            (0x0002, _even(sop_class)),
            (0x0100, struct.pack("<H", 0x0001)),
            (0x0110, struct.pack("<H", message)),
            (0x0700, struct.pack("<H", 0)),
            (0x0800, struct.pack("<H", 1)),
            (0x1000, _even(sop_instance)),
        )
    )
    return struct.pack("<HHII", 0, 0, 4, len(elements)) + elements


def _even(value: bytes) -> bytes:
    return value + b"\0" * (len(value) % 2)


def _pdu(fragment: bytes, control: int) -> bytes:
    return struct.pack(">BxIIBB", 0x04, len(fragment) + 6, len(fragment) + 2, 1, control) + fragment


def _status(command: bytes) -> int:
    position = 0
    while position + 8 <= len(command):
        group, element, length = struct.unpack_from("<HHI", command, position)
        if (group, element) == (0x0000, 0x0900):
            return int.from_bytes(command[position + 8 : position + 8 + length], "little")
        position += 8 + length
    raise AssociationFailed("the response has no status")


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of `values` lie; no interpolation."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
