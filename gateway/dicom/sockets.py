"""The sockets of associations: bounded when we receive, and closed for certain on both sides."""

import contextlib
import socket

from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket

MAX_PDU_BYTES = 1024**2 + 1024  # a sender that ignores our limit gets this much and no more


class ClosingSocket(AssociationSocket):
    """pynetdicom leaves a socket open whose peer went first: its close stands behind a shutdown that fails then."""

    def _shutdown_socket(self) -> None:
        with contextlib.suppress(Exception):
            super()._shutdown_socket()
        if self.socket is not None:
            with contextlib.suppress(OSError):
                self.socket.close()


class GatewaySocket(ClosingSocket):
    """A connection whose association request is already read; holds at most one PDU in memory."""

    def __init__(self, association: Association, connection: socket.socket, received: bytes) -> None:
        super().__init__(association, client_socket=connection)
        self._received = received

    @property
    def ready(self) -> bool:
        """Whether something can be read."""
        return bool(self._received) or bool(super().ready)

    def recv(self, nr_bytes: int) -> bytearray:
        """Read `nr_bytes`, fewer when the peer closes. Raises OSError for a PDU that is larger than any we take."""
        if nr_bytes > MAX_PDU_BYTES:
            raise OSError(f"a PDU of {nr_bytes} bytes, the limit is {MAX_PDU_BYTES}")
        if self.socket is None:
            raise OSError("the connection is closed")
        if self._received:
            taken, self._received = self._received[:nr_bytes], self._received[nr_bytes:]
            return bytearray(taken)
        buffer = bytearray(nr_bytes)
        view = memoryview(buffer)
        got = 0
        while got < nr_bytes:
            count = self.socket.recv_into(view[got:])
            if not count:
                break
            got += count
        view.release()
        del buffer[got:]
        return buffer
