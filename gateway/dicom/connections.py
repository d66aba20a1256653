"""From a TCP connection to a DICOM association, without letting a stranger hold anything that others need.

pynetdicom shakes hands for TLS in its accepting thread and starts two threads for whoever connects. Here the handshake
and the whole A-ASSOCIATE-RQ come first, in a thread of the connection with a deadline; port checks, strangers and
garbage end there.
"""

import contextlib
import errno
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from socketserver import TCPServer
from threading import Lock
from typing import Any

import structlog
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from gateway.dicom.contexts import verification_context
from gateway.dicom.failures import Failures
from gateway.dicom.places import Full, Kind, Places
from gateway.dicom.tls import common_name

log = structlog.get_logger(__name__)

ASSOCIATE_RQ = 0x01
MAX_REQUEST_BYTES = 1024**2  # 128 contexts with every transfer syntax make about 200 kB
ABORT_UNEXPECTED_PDU = bytes.fromhex("07000000000400000202")  # A-ABORT, provider, unexpected PDU (PS3.8 9.3.8)
LATE = "no whole association request in time (dicom.acse_timeout)"
BACKLOG = 128
COURTESY = 0.002  # seconds for each connection that we have more than the idlest acceptor
MOST_AHEAD = 5
# A peer whose machine or cable vanished: asked after half a minute of silence, given up 30 s later.
KEEPALIVE = {socket.TCP_KEEPIDLE: 30, socket.TCP_KEEPINTVL: 10, socket.TCP_KEEPCNT: 3}


class NotDicom(Exception):
    """The first bytes are no association request, or they do not come in time; `reason` names it in the ledger."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class PortChecked(Exception):
    """Connected and closed without a byte, as load balancers do; no event."""


class ConnectionHandler(RequestHandler):
    """One connection until its association begins."""

    server: "GatewayServer"

    def handle(self) -> None:
        address = str(self.client_address[0])
        if self.server.refuses(address):
            slam(self.request)
            return
        with self.server.counted(address) as place:
            if not place:
                self._end(address, "connection_limit", "too many connections")
                return
            try:
                connection, subject = self._secured()
                received = read_request(connection, self.server.request_timeout)
            except PortChecked:
                self.server.shutdown_request(self.request)
                return
            except NotDicom as fault:
                self._end(address, fault.reason, str(fault))
                return
            except TimeoutError:  # not a byte, or a TLS handshake that does not end
                self._end(address, "request_timeout", LATE)
                return
            except OSError as fault:
                self._end(address, "connection_lost", fault.strerror or type(fault).__name__)
                return
            connection.settimeout(self.server.transfer_timeout)
            association = self.server.make_association(self, connection, received, subject)
            association.start()

    def _secured(self) -> tuple[socket.socket, str | None]:
        """The connection, in TLS where configured, and the common name of the caller's certificate."""
        raw: socket.socket = self.request
        raw.settimeout(self.server.request_timeout)
        notice_the_dead(raw, self.server.transfer_timeout)
        if not raw.recv(1, socket.MSG_PEEK):
            raise PortChecked
        if self.server.tls is None:
            return raw, None
        try:
            connection = self.server.tls.wrap_socket(raw, server_side=True)
        except ssl.SSLError as error:
            reason = (error.reason or "failed").replace("_", " ").lower()
            raise NotDicom("tls", f"TLS handshake: {reason}") from error
        self.request = connection
        return connection, common_name(connection.getpeercert())

    def _end(self, address: str, reason: str, text: str) -> None:
        self.server.on_refused_connection(address, reason, text)
        self.server.shutdown_request(self.request)


def notice_the_dead(connection: socket.socket, timeout: float | None) -> None:
    """Have the kernel end a connection whose peer vanished: by keepalive, and by answers that nobody confirms."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE.items():
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
    if timeout is not None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(timeout * 1000))


def slam(connection: socket.socket) -> None:
    """Close with a reset: nothing lingers here for a peer that is not spoken to."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def read_request(connection: socket.socket, timeout: float | None) -> bytes:
    """The caller's whole A-ASSOCIATE-RQ, `timeout` seconds at most for all of it.

    Raises PortChecked when not a byte comes, NotDicom when it is something else, OSError when the connection breaks.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    received = _read(connection, 6, deadline)
    kind, _, length = struct.unpack(">BBL", received)
    if kind != ASSOCIATE_RQ or length > MAX_REQUEST_BYTES:
        with contextlib.suppress(OSError):
            connection.sendall(ABORT_UNEXPECTED_PDU)
        raise NotDicom("not_dicom", "the first bytes are no association request")
    return received + _read(connection, length, deadline, begun=True)


def _read(connection: socket.socket, count: int, deadline: float | None, *, begun: bool = False) -> bytes:
    received = bytearray()
    while len(received) < count:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise NotDicom("request_timeout", LATE)
            connection.settimeout(left)
        try:
            chunk = connection.recv(count - len(received))
        except TimeoutError:
            continue
        if not chunk:
            if not received and not begun:
                raise PortChecked
            raise NotDicom("request_incomplete", "closed within its association request")
        received += chunk
    return bytes(received)


class GatewayServer(ThreadedAssociationServer):
    """The listening port. Accepts, counts and hands on; never waits for a peer itself."""

    daemon_threads = True

    def __init__(
        self,
        ae: AE,
        listening: socket.socket,
        *,
        tls: ssl.SSLContext | None,
        request_timeout: float | None,
        transfer_timeout: float | None,
        max_connections: int,
        max_connections_per_address: int,
        make_association: Callable[[ConnectionHandler, socket.socket, bytes, str | None], Association],
        on_refused_connection: Callable[[str, str, str], None],
        places: Places | None = None,
        failures: Failures | None = None,
    ) -> None:
        """`listening` holds the port, and is closed with us; other processes may listen to it, too.

        `places` and `failures` are those of the machine; without them this port counts alone and forgives all.
        """
        self._listening = listening
        self.tls = tls
        self.request_timeout = request_timeout
        self.transfer_timeout = transfer_timeout
        self.make_association = make_association
        self.on_refused_connection = on_refused_connection
        self._max_connections = max_connections
        self._max_connections_per_address = max_connections_per_address
        self._places = places or Places(None, most=max_connections)
        self._failures = failures
        self._waiting = 0
        self._waiting_lock = Lock()
        super().__init__(
            ae, listening.getsockname()[:2], ae.ae_title, [verification_context()], request_handler=ConnectionHandler
        )

    def server_bind(self) -> None:
        """Take what holds the port in place of a socket of our own."""
        if self.socket is not None:
            self.socket.close()
        self.socket = self._listening
        self.server_address = self._listening.getsockname()[:2]

    def server_activate(self) -> None:
        """Listen, if no other process does so already."""
        self._listening.listen(BACKLOG)

    def server_close(self) -> None:
        """Close our share of the port. A shutdown of the socket, as pynetdicom does it, would close the others' too."""
        if self.socket is not None:
            self.socket.close()

    @property
    def waiting(self) -> int:
        """Connections that have no association yet."""
        with self._waiting_lock:
            return self._waiting

    def refuses(self, address: str) -> bool:
        """Whether `address` failed too often of late."""
        return self._failures is not None and self._failures.refuses(address)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept only: the TLS handshake is the connection's own business."""
        if self.socket is None:
            raise OSError("the port is closed")
        ahead = self._places.ahead(Kind.CONNECTION, Kind.ASSOCIATION)
        if ahead > 0:
            time.sleep(min(ahead, MOST_AHEAD) * COURTESY)  # another acceptor of this port has fewer to serve
        try:
            return self.socket.accept()
        except OSError as error:
            if error.errno in {errno.EMFILE, errno.ENFILE}:
                # The connection stays in the backlog; without a pause the loop would spin on it
                log.error("out of file handles: no connection can be accepted")  # noqa: TRY400
                time.sleep(0.1)
            raise

    def shutdown(self) -> None:
        """Stop accepting and close the port; open associations go on."""
        TCPServer.shutdown(self)
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """A fault in a connection's thread: log it, the port stays open."""
        log.exception("a connection failed", address=str(client_address[0]))

    @contextlib.contextmanager
    def counted(self, address: str) -> Iterator[bool]:
        """Count a connection that has no association yet; False when there are too many of them."""
        try:
            place = self._places.take(
                Kind.CONNECTION, address, total=self._max_connections, per_address=self._max_connections_per_address
            )
        except Full:
            yield False
            return
        with self._waiting_lock:
            self._waiting += 1
        try:
            yield True
        finally:
            place.close()
            with self._waiting_lock:
                self._waiting -= 1
