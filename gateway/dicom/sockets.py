"""The sockets of associations: bounded when we receive, and closed for certain on both sides."""

import contextlib
import os
import select
import socket
import ssl
import threading
import time

from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket

MAX_PDU_BYTES = 1024**2 + 1024  # a sender that ignores our limit gets this much and no more
BUFFER_BYTES = 256 * 1024  # what one system call can bring; two PDUs of the default size


class ClosingSocket(AssociationSocket):
    """pynetdicom leaves a socket open whose peer went first: its close stands behind a shutdown that fails then."""

    def _shutdown_socket(self) -> None:
        with contextlib.suppress(Exception):
            super()._shutdown_socket()
        if self.socket is not None:
            with contextlib.suppress(OSError):
                self.socket.close()


class GatewaySocket(ClosingSocket):
    """A connection whose association request is already read.

    It never blocks but in `wait`, which any thread ends with `wake`. What has arrived lies in `view` from `begin` to
    `end`: whoever takes some of it moves `begin`.
    """

    def __init__(self, association: Association, connection: socket.socket, received: bytes) -> None:
        """`received` comes before what is still to be read. Raises OSError when file handles have run out."""
        super().__init__(association, client_socket=connection)
        self._patience = connection.gettimeout()  # seconds for what has to be whole before anything else can happen
        self._is_tls = isinstance(connection, ssl.SSLSocket)
        self.view = memoryview(bytearray(max(BUFFER_BYTES, len(received))))
        self.view[: len(received)] = received
        self.begin, self.end = 0, len(received)
        self._unwanted = 0
        self._alarm = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._alarm_lock = threading.Lock()
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        self._poll.register(self._alarm, select.POLLIN)
        connection.setblocking(False)

    def wake(self) -> None:
        """End a `wait`, now or the next."""
        with self._alarm_lock:  # its number may be an instance's file as soon as it is closed
            if self._alarm >= 0:
                os.eventfd_write(self._alarm, 1)

    def release(self) -> None:
        """Close what `wake` and `wait` need; the association's thread calls it last."""
        with self._alarm_lock:
            alarm, self._alarm = self._alarm, -1
            if alarm >= 0:
                os.close(alarm)
        self.begin = self.end = 0
        self.view = memoryview(b"")

    def wait(self, seconds: float | None) -> None:
        """Until something arrives, somebody wakes us, or `seconds` (None: any time) are over."""
        if self.socket is None:
            return
        if not self._is_tls or not self.socket.pending():  # type: ignore[attr-defined]
            self._rearm()
            for handle, _ in self._poll.poll(None if seconds is None else max(0.0, seconds) * 1000 + 1):
                if handle == self._alarm:
                    os.eventfd_read(self._alarm)

    def fill(self) -> int | None:
        """Bring what has arrived into `view`: bytes (0: the peer closed), or None when there is nothing yet.

        Raises OSError when the connection is broken.
        """
        if self.socket is None:
            raise OSError("the connection is closed")
        if self.begin == self.end:
            self.begin = self.end = 0
        elif self.end > len(self.view) // 2:
            left = bytes(self.view[self.begin : self.end])
            self.view[: len(left)] = left
            self.begin, self.end = 0, len(left)
        room = self.view[self.end :]
        count = self._receive(self.socket, room)
        if count and self._is_tls:
            # A read brings one record, of 16 KiB at most: gather what has arrived before it is handed on
            while count < len(room) and (more := self._receive(self.socket, room[count:])):
                count += more
        if count:
            self.end += count
            if self._unwanted:
                dropped = min(self._unwanted, self.end - self.begin)
                self._unwanted -= dropped
                self.begin += dropped
        return count

    def skip(self, count: int) -> None:
        """Drop the next `count` bytes: the rest of a PDU that nobody wants any more."""
        held = min(count, self.end - self.begin)
        self.begin += held
        self._unwanted += count - held

    @property
    def ready(self) -> bool:
        """Whether something can be read."""
        if self.begin < self.end:
            return True
        if self.socket is None or not self._is_connected:
            return False
        if self._is_tls and self.socket.pending():  # type: ignore[attr-defined]
            return True
        return any(handle != self._alarm for handle, _ in self._poll.poll(0))

    def recv(self, nr_bytes: int) -> bytearray:
        """Read `nr_bytes`, fewer when the peer closes.

        Raises OSError for a PDU that is larger than any we take, TimeoutError when it does not come in time.
        """
        if nr_bytes > MAX_PDU_BYTES:
            raise OSError(f"a PDU of {nr_bytes} bytes, the limit is {MAX_PDU_BYTES}")
        taken = bytearray()
        deadline = None if self._patience is None else time.monotonic() + self._patience
        while True:
            count = min(nr_bytes - len(taken), self.end - self.begin)
            taken += self.view[self.begin : self.begin + count]
            self.begin += count
            if len(taken) == nr_bytes:
                return taken
            arrived = self.fill()
            if arrived == 0:
                return taken
            if arrived is None:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError("a PDU is not whole in time (dicom.dimse_timeout)")
                self.wait(left)

    def send(self, bytestream: bytes) -> None:
        """Send all of it, or have the state machine told that the connection is closed."""
        if self.socket is None:
            return
        view = memoryview(bytestream)
        try:
            while view:
                try:
                    view = view[self.socket.send(view) :]
                except (BlockingIOError, ssl.SSLWantWriteError):
                    self._wait_for(select.POLLOUT)
                except ssl.SSLWantReadError:
                    self._wait_for(select.POLLIN)
        except (OSError, ValueError):
            self.event_queue.put("Evt17")

    def _receive(self, connection: socket.socket, room: memoryview) -> int | None:
        try:
            return connection.recv_into(room)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        except ssl.SSLWantWriteError:
            self._wait_for(select.POLLOUT)
            return None
        except ssl.SSLEOFError:
            return 0
        except ValueError as fault:  # TLS, after another thread closed it
            raise OSError("the connection is closed") from fault

    def _wait_for(self, event: int) -> None:
        if self.socket is None:
            raise OSError("the connection is closed")
        poll = select.poll()
        poll.register(self.socket, event)
        if not poll.poll(None if self._patience is None else self._patience * 1000):
            raise TimeoutError("the peer does not read what we send")

    def _rearm(self) -> None:
        """Have what arrived confirmed at once.

        The kernel forgets this after each answer. A sender with Nagle's algorithm on, as Debian builds DCMTK, waits for
        it with the end of every PDU, and a delayed confirmation takes 40 ms.
        """
        assert self.socket is not None  # noqa: S101 - `wait` asked
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
