"""An association that passes stored files on as they are: no thread, no decoding, no byte of a data set altered.

pynetdicom makes and reads the PDUs of the negotiation. What follows is written here, because a requestor of pynetdicom
sleeps in two polling loops: a C-STORE request (PS3.7 9.3.1.1) is a command and the file's data set in P-DATA-TF PDUs
(PS3.8 9.3.5), and one response is awaited before the next request.
"""

import os
import socket
import ssl
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import build_context

from config.settings import Destination
from gateway.dicom.association import PERMANENT
from gateway.dicom.contexts import MAX_CONTEXTS
from gateway.dicom.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from gateway.dicom.scu import ConnectionBroken, Rejected, Unreachable
from gateway.dicom.tls import TlsFault, client_context

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
ACCEPTED, REJECTED, DATA, RELEASE_RQ, RELEASE_RP, ABORT = 2, 3, 4, 5, 6, 7  # PDU types (PS3.8 9.3.1)
OUR_PDU = 16_384  # responses are short
SMALLEST_PDU = 1024
LARGEST_PDU = 262_144  # that we send, where the peer sets no limit
MOST_RESPONSE = 65_536  # bytes of an answer of the peer
COMMAND, LAST = 1, 2  # bits of a message control header (PS3.8 E.2)
HEADER = 12  # PDU type and length, PDV length, context, control header

Pair = tuple[str, str]
"""SOP class and transfer syntax."""


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """A Part 10 file of ours, and what the index says of it."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: str

    @property
    def pair(self) -> Pair:
        return self.sop_class_uid, self.transfer_syntax


class Conduit:
    """One association with a destination, for many instances, one after the other."""

    def __init__(self, destination: Destination, calling_ae_title: str, pairs: Sequence[Pair]) -> None:
        """Propose a context for each of `pairs` (at most 128). Raises Unreachable and Rejected."""
        self.offered = frozenset(pairs[:MAX_CONTEXTS])
        self._destination = destination
        self._name = f"{destination.name} ({destination.ae_title} at {destination.host}:{destination.port})"
        self._contexts: dict[Pair, int] = {}
        self._message_id = 0
        self._socket = self._connect()
        try:
            self._negotiate(calling_ae_title, list(pairs[:MAX_CONTEXTS]))
        except BaseException:
            self._socket.close()
            raise

    def accepts(self, pair: Pair) -> bool:
        """Whether the destination takes this SOP class in this transfer syntax."""
        return pair in self._contexts

    @property
    def is_alive(self) -> bool:
        """Whether the peer has neither released, aborted nor closed: between two messages it has nothing to say."""
        try:
            self._socket.settimeout(0)
            self._socket.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            self._socket.settimeout(self._destination.timeout)
            return True
        except OSError:
            pass
        return False

    def send(self, instance: StoredInstance) -> int:
        """Send a file's data set, byte for byte; the peer's status.

        Raises ConnectionBroken when there is none, and OSError when our own file cannot be read; the association is
        then closed.
        """
        self._message_id = self._message_id % 65_535 + 1
        try:
            with instance.path.open("rb", buffering=0) as file:
                offset = _data_set_offset(file.read(144))
                size = os.fstat(file.fileno()).st_size - offset
                handle = file.fileno()
                self._send_message(
                    self._contexts[instance.pair], _store_request(instance, self._message_id), handle, offset, size
                )
            return self._response()
        except _Lost as fault:
            self._socket.close()
            raise ConnectionBroken(f"{self._name} {fault} for {instance.sop_instance_uid}; look at its log") from fault
        except BaseException:
            self._abort()
            raise

    def close(self) -> None:
        """Release the association (PS3.8 9.3.6); a peer that does not answer is left behind."""
        try:
            self._socket.settimeout(min(self._destination.timeout, 5.0))
            self._socket.sendall(struct.pack(">BBLL", RELEASE_RQ, 0, 4, 0))
            while self._pdu()[0] not in (RELEASE_RP, ABORT):
                pass
        except (OSError, _Lost):
            pass
        finally:
            self._socket.close()

    def _connect(self) -> socket.socket:
        there = self._destination
        try:
            tls = client_context(there.tls) if there.tls is not None else None
        except TlsFault as fault:
            raise Unreachable(f"{self._name}: {fault}") from fault
        try:
            raw = socket.create_connection((there.host, there.port), there.timeout)
            try:
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return raw if tls is None else tls.wrap_socket(raw, server_hostname=there.host)
            except BaseException:
                raw.close()
                raise
        except ssl.SSLError as error:
            why = f"TLS fails: {error.reason or error}; check the certificates on both sides"
            raise Unreachable(f"{self._name}: {why}") from error
        except OSError as error:
            why = f"no connection: {error.strerror or error}; check host, port and firewall"
            raise Unreachable(f"{self._name}: {why}") from error

    def _negotiate(self, calling_ae_title: str, pairs: list[Pair]) -> None:
        request = _association_request(self._destination, calling_ae_title, pairs)
        try:
            self._socket.sendall(request)
            kind, body = self._pdu()
        except (_Lost, OSError) as fault:
            raise Unreachable(
                f"{self._name}: no answer to the association request: {fault}; look at its log"
            ) from fault
        whole = struct.pack(">BBL", kind, 0, len(body)) + body
        if kind == REJECTED:
            rejection = A_ASSOCIATE_RJ()
            rejection.decode(whole)
            permanent = rejection.result == PERMANENT
            raise Rejected(
                f"{self._name} rejects the association {'for good' if permanent else 'for now'}: "
                f"{rejection.reason_str.lower()}",
                permanent=permanent,
            )
        if kind != ACCEPTED:
            raise Unreachable(f"{self._name} aborts the association request; look at its log")
        accepted = A_ASSOCIATE_AC()
        try:
            accepted.decode(whole)
            primitive = accepted.to_primitive()
        except Exception as error:
            raise Unreachable(f"{self._name}: its answer to the association request cannot be read") from error
        longest = int(primitive.maximum_length_received or 0)
        if 0 < longest < SMALLEST_PDU:
            raise Unreachable(f"{self._name}: takes PDUs of {longest} bytes only; set at least {SMALLEST_PDU} there")
        self._fragment = min(longest or LARGEST_PDU, LARGEST_PDU) - 6
        for context in primitive.presentation_context_definition_results_list:
            number = int(context.context_id or 0)
            place = (number - 1) // 2
            if context.result == 0 and 0 <= place < len(pairs):
                self._contexts[pairs[place]] = number

    def _send_message(self, context_id: int, command: bytes, file: int, offset: int, size: int) -> None:
        """Command and data set; the first part of the data set leaves with the command."""
        buffer = bytearray(HEADER + len(command) + HEADER + self._fragment)
        filled = _frame(buffer, 0, context_id, COMMAND | LAST, command)
        view = memoryview(buffer)
        try:
            while True:
                count = min(self._fragment, size)
                begin = filled + HEADER
                got = os.preadv(file, [view[begin : begin + count]], offset) if count else 0
                if got != count:
                    raise OSError(f"the file has {got} bytes where {count} were expected")
                size -= count
                offset += count
                _frame_header(buffer, filled, context_id, 0 if size else LAST, count)
                try:
                    self._socket.sendall(view[: begin + count])
                except OSError as fault:
                    raise _Lost(f"breaks off ({fault.strerror or fault})") from fault
                filled = 0
                if not size:
                    return
        finally:
            view.release()

    def _response(self) -> int:
        """The status of the response to the request that was sent last."""
        command = b""
        while True:
            kind, body = self._pdu()
            if kind == DATA:
                for control, part in _values(body):
                    if not control & COMMAND:
                        continue
                    command += part
                    if len(command) > MOST_RESPONSE:
                        raise _Lost("sends an answer without an end")
                    if control & LAST:
                        found = _status(command, self._message_id)
                        command = b""
                        if found is not None:
                            return found
            elif kind == RELEASE_RQ:
                with suppress(OSError):
                    self._socket.sendall(struct.pack(">BBLL", RELEASE_RP, 0, 4, 0))
                raise _Lost("releases the association in place of an answer")
            elif kind == ABORT:
                raise _Lost("aborts the association")
            else:
                raise _Lost(f"sends a PDU of type {kind} in place of an answer")

    def _pdu(self) -> tuple[int, bytes]:
        kind, _, length = struct.unpack(">BBL", self._read(6))
        if length > MOST_RESPONSE:
            raise _Lost(f"sends a PDU of {length} bytes")
        return kind, self._read(length)

    def _read(self, count: int) -> bytes:
        got = b""
        while len(got) < count:
            try:
                part = self._socket.recv(count - len(got))
            except TimeoutError as fault:
                raise _Lost(f"gives no answer within {self._destination.timeout:g} s") from fault
            except OSError as fault:
                raise _Lost(f"breaks off ({fault.strerror or fault})") from fault
            if not part:
                raise _Lost("closes the connection")
            got += part
        return got

    def _abort(self) -> None:
        with suppress(OSError):
            self._socket.sendall(struct.pack(">BBLBBBB", ABORT, 0, 4, 0, 0, 0, 0))
        self._socket.close()


class _Lost(Exception):
    """The peer is gone, in words that follow its name."""


def _association_request(destination: Destination, calling_ae_title: str, pairs: Sequence[Pair]) -> bytes:
    request = A_ASSOCIATE()
    request.application_context_name = APPLICATION_CONTEXT
    request.calling_ae_title = destination.calling_ae_title or calling_ae_title
    request.called_ae_title = destination.ae_title
    contexts = [build_context(sop_class, syntax) for sop_class, syntax in pairs]
    for place, context in enumerate(contexts):
        context.context_id = 2 * place + 1
    request.presentation_context_definition_list = contexts
    length = MaximumLengthNotification()
    length.maximum_length_received = OUR_PDU
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    version = ImplementationVersionNameNotification()
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    request.user_information = [length, implementation, version]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(request)
    return bytes(pdu.encode())


def _store_request(instance: StoredInstance, message_id: int) -> bytes:
    """The command set, implicit VR little endian (PS3.7 6.3.1, table 9.3-1); priority medium."""
    elements = b"".join(
        [
            _element(0x0002, _uid(instance.sop_class_uid)),
            _element(0x0100, b"\x01\x00"),
            _element(0x0110, struct.pack("<H", message_id)),
            _element(0x0700, b"\x00\x00"),
            _element(0x0800, b"\x01\x00"),  # anything but 0x0101: a data set follows
            _element(0x1000, _uid(instance.sop_instance_uid)),
        ]
    )
    return _element(0x0000, struct.pack("<L", len(elements))) + elements


def _element(number: int, value: bytes) -> bytes:
    return struct.pack("<HHL", 0x0000, number, len(value)) + value


def _uid(uid: str) -> bytes:
    text = uid.encode("ascii")
    return text + b"\0" * (len(text) % 2)


def _data_set_offset(head: bytes) -> int:
    """Where the data set begins in a file of ours: after preamble, prefix and File Meta Information (PS3.10 7.1)."""
    if len(head) < 144 or head[128:140] != b"DICM\x02\x00\x00\x00UL\x04\x00":
        raise OSError("the file has no File Meta Information with its length")
    return 144 + int(struct.unpack("<L", head[140:144])[0])


def _frame(buffer: bytearray, at: int, context_id: int, control: int, content: bytes) -> int:
    """Put a PDU with one PDV into `buffer`; where it ends."""
    _frame_header(buffer, at, context_id, control, len(content))
    buffer[at + HEADER : at + HEADER + len(content)] = content
    return at + HEADER + len(content)


def _frame_header(buffer: bytearray, at: int, context_id: int, control: int, count: int) -> None:
    struct.pack_into(">BBLLBB", buffer, at, DATA, 0, count + 6, count + 2, context_id, control)


def _values(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Control header and content of each PDV of a P-DATA-TF PDU."""
    at = 0
    while at + 6 <= len(body):
        (length,) = struct.unpack_from(">L", body, at)
        if length < 2 or at + 4 + length > len(body):
            raise _Lost("sends a PDV that does not fit its PDU")
        yield body[at + 5], body[at + 6 : at + 4 + length]
        at += 4 + length


def _status(command: bytes, message_id: int) -> int | None:
    """The status of a C-STORE response to `message_id`; None for what answers something else."""
    values: dict[int, int] = {}
    at = 0
    while at + 8 <= len(command):
        group, element, length = struct.unpack_from("<HHL", command, at)
        if group != 0 or at + 8 + length > len(command):
            raise _Lost("sends a command set that cannot be read")
        if length == 2:
            values[element] = struct.unpack_from("<H", command, at + 8)[0]
        at += 8 + length
    if values.get(0x0100) != 0x8001 or values.get(0x0120) != message_id or 0x0900 not in values:
        return None
    return values[0x0900]
