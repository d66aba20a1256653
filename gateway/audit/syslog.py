"""Syslog: RFC 5424 messages, framed by RFC 5425 over TLS, RFC 6587 over TCP, or one to a datagram (RFC 5426).

Syslog has no acknowledgement. What comes nearest is an orderly end: we say that nothing follows (close_notify, or a
half-closed TCP), and a collector that has read everything closes in turn. One that dies or drops what it has not read
resets the connection instead. So each batch has its own connection, and counts as delivered when that ended well.
"""

import fcntl
import os
import socket
import ssl
import struct
import termios
import time
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from config.settings import Collector
from gateway.alerts.severity import AlertSeverity, severity_of
from gateway.dicom.tls import TlsFault, client_context
from storage import LedgerRecord
from storage.audit.messages import moment

BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # RFC 5424 section 6.4: what follows is UTF-8
NOTICE, WARNING = 5, 4  # the severities of ITI-20
CRITICAL = 2  # an incident, which ITI-20 does not know
_CHUNK = 256 * 1024
_TICK = 0.02


class CollectorFault(Exception):
    """A batch was not confirmed; the message says at which collector, and why. It is sent again."""

    refused = False


class CollectorRefused(CollectorFault):
    """One side did not accept the other's certificate: node authentication failed (PS3.15 A.5.3.11)."""

    refused = True


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before every message (RFC 5424 section 6.2)."""

    facility: int = 10
    message_id: str = "IHE+RFC-3881"
    host: str = "-"
    application: str = "scanwarden"
    process: str = "-"

    def message(self, record: LedgerRecord, xml: bytes) -> bytes:
        """The SYSLOG-MSG of a record, without structured data: ITI-20 has no use for it."""
        priority = 8 * self.facility + _severity(record)
        time = moment(record).isoformat()
        names = " ".join(_printable(name) for name in (self.host, self.application, self.process, self.message_id))
        return f"<{priority}>1 {time} {names} - ".encode("ascii") + BYTE_ORDER_MARK + xml


def _severity(record: LedgerRecord) -> int:
    """RFC 5424 section 6.2.1, so that a collector can wake somebody by the priority alone."""
    alert = severity_of(record.event, record.outcome)
    if alert is AlertSeverity.INCIDENT:
        return CRITICAL
    return NOTICE if alert is None and record.outcome == 0 else WARNING


def framed(message: bytes) -> bytes:
    """A message with its length before it (RFC 5425 section 4.3, octet counting)."""
    return b"%d %b" % (len(message), message)


def _printable(name: str) -> str:
    return "".join(c if "!" <= c <= "~" else "_" for c in name)[:128] or "-"


class Connection:
    """One batch's way to a collector: `send`, then `finish`, which returns only when the batch is confirmed."""

    def __init__(self, collector: Collector) -> None:
        """Connect. Raises CollectorFault."""
        self._collector = collector
        self._where = f"collector {collector.name} ({collector.host}:{collector.port})"
        self._socket = self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _fault: object, _trace: TracebackType | None) -> None:
        if kind is not None and self._collector.transport != "udp":
            # Half a frame must not look like an orderly end.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def send(self, messages: Iterable[bytes]) -> None:
        """Send messages in order. Raises CollectorFault."""
        try:
            if self._collector.transport == "udp":
                for message in messages:
                    self._socket.send(message)
                return
            pending = bytearray()
            for message in messages:
                pending += framed(message)
                if len(pending) >= _CHUNK:
                    self._socket.sendall(pending)
                    pending.clear()
            self._socket.sendall(pending)
        except OSError as fault:
            raise self._broken(fault, "broke the connection") from fault

    def finish(self) -> None:
        """Say that nothing follows, and wait until the collector confirms. Raises CollectorFault."""
        if self._collector.transport == "udp":
            return
        end = time.monotonic() + self._collector.timeout
        try:
            if self._collector.confirmation == "sent":
                self._all_acknowledged(end)
                self._let_go()
                return
            notified = self._say_goodbye()
            self._closed_in_turn(end)
            self._all_acknowledged(end)
        except TimeoutError as fault:
            raise CollectorFault(
                f"{self._where} did not confirm within {self._collector.timeout:g} s; if it never closes a connection "
                "that we have closed, set its `confirmation: sent`"
            ) from fault
        except OSError as fault:
            raise self._broken(fault, "did not confirm") from fault
        if self._collector.confirmation == "close-notify" and not notified:
            raise CollectorFault(
                f"{self._where} closed without TLS's close_notify, which anybody on the way can feign; if it knows no "
                "other way, set its `confirmation: close`"
            )

    def _open(self) -> socket.socket:
        collector = self._collector
        try:
            if collector.transport == "udp":
                return self._datagrams()
            plain = socket.create_connection((collector.host, collector.port), timeout=collector.timeout)
        except OSError as fault:
            raise CollectorFault(f"{self._where} cannot be reached: {fault.strerror or fault}") from fault
        if collector.transport == "tcp":
            return plain
        try:
            return _context(collector).wrap_socket(plain, server_hostname=collector.host)
        except TlsFault as fault:
            plain.close()
            raise CollectorFault(f"{self._where}: {fault}") from fault
        except OSError as fault:
            plain.close()
            raise self._broken(fault, "did not agree on TLS") from fault

    def _datagrams(self) -> socket.socket:
        collector = self._collector
        family, kind, protocol, _, address = socket.getaddrinfo(collector.host, collector.port, type=socket.SOCK_DGRAM)[
            0
        ]
        datagrams = socket.socket(family, kind, protocol)
        datagrams.settimeout(collector.timeout)
        datagrams.connect(address)
        return datagrams

    def _say_goodbye(self) -> bool:
        """End our side; whether the other side answered with TLS's own word."""
        if not isinstance(self._socket, ssl.SSLSocket):
            self._socket.shutdown(socket.SHUT_WR)
            return False
        try:
            self._socket.unwrap()
        except ssl.SSLEOFError:
            return False  # it closed TCP without a close_notify, as rsyslog with GnuTLS does
        except OSError as fault:
            if type(fault) is OSError and fault.errno == 0:
                return False  # the same, as older OpenSSL says it
            raise
        return True

    def _closed_in_turn(self, end: float) -> None:
        # A close_notify alone proves nothing: a collector that is being stopped says it with our messages unread. Only
        # then the kernel adds a reset, which shows here.
        while True:
            self._socket.settimeout(max(_TICK, end - time.monotonic()))
            if not socket.socket.recv(self._socket, 4096):
                return
            if time.monotonic() > end:
                raise TimeoutError

    def _all_acknowledged(self, end: float) -> None:
        # An end that came before our last bytes arrived is no confirmation of them.
        while _unacknowledged(self._socket):
            fault = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if fault:
                raise OSError(fault, os.strerror(fault))
            if time.monotonic() > end:
                raise TimeoutError
            time.sleep(_TICK)

    def _let_go(self) -> None:
        # What the collector sent (session tickets) must be read: closing over it would reset what it has not read yet.
        self._socket.settimeout(0.2)
        try:
            self._say_goodbye()
        except TimeoutError:
            pass
        except ConnectionError as fault:
            raise self._broken(fault, "broke the connection") from fault

    def _broken(self, fault: OSError, what: str) -> CollectorFault:
        if isinstance(fault, ssl.SSLCertVerificationError):
            return CollectorRefused(
                f"{self._where} shows a certificate that is not good: {fault.verify_message}; look who answers there, "
                "and at `authorities` and `host`"
            )
        if isinstance(fault, ssl.SSLError):
            reason = (fault.reason or str(fault)).replace("_", " ").lower()
            kind = CollectorRefused if "alert" in reason and ("cert" in reason or "ca" in reason) else CollectorFault
            return kind(f"{self._where} {what}: {reason}")
        return CollectorFault(f"{self._where} {what}: {fault.strerror or fault}")


def _context(collector: Collector) -> ssl.SSLContext:
    if collector.tls is None:
        raise TlsFault("its `tls` group is missing: give certificate, private_key and authorities")
    return client_context(collector.tls)


def _unacknowledged(stream: socket.socket) -> int:
    """Bytes that the peer's TCP has not acknowledged (SIOCOUTQ)."""
    answer = fcntl.ioctl(stream.fileno(), termios.TIOCOUTQ, struct.pack("i", 0))
    return int(struct.unpack("i", answer)[0])
