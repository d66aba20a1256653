"""What the service tells its init system: systemd's notification protocol, sd_notify(3), a datagram each.

Without NOTIFY_SOCKET in the environment nothing is sent.
"""

import os
import socket
import time
from collections.abc import Mapping

import structlog

log = structlog.get_logger(__name__)


class InitSystem:
    """The init system's end of the line."""

    def __init__(self, environment: Mapping[str, str] = os.environ, pid: int | None = None) -> None:
        """`pid`: of the process whose watchdog it is; this one's unless told otherwise."""
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._interval = _watchdog_interval(environment, os.getpid() if pid is None else pid)
        self._fed_at = float("-inf")

    def ready(self, status: str) -> None:
        """The service does its work."""
        self._send(f"READY=1\nSTATUS={status}")

    def stopping(self, seconds: float) -> None:
        """The service drains; it will be done within `seconds`."""
        self._send(f"STOPPING=1\nSTATUS=finishing what is open\nEXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def alive(self) -> None:
        """Feed the watchdog, as often as it wants; call it from the loop that must not hang."""
        if self._interval is not None and time.monotonic() - self._fed_at >= self._interval:
            self._fed_at = time.monotonic()
            self._send("WATCHDOG=1")

    def _send(self, state: str) -> None:
        if not self._address:
            return
        # A name that begins with @ lies in the abstract namespace (unix(7))
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
                line.sendto(state.encode(), address)
        except OSError as fault:
            log.warning("the init system does not hear us", reason=fault.strerror or str(fault))


def _watchdog_interval(environment: Mapping[str, str], pid: int) -> float | None:
    """A third of the time after which systemd would kill us; None where it does not watch this process."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    meant = environment.get("WATCHDOG_PID", str(pid))
    return int(microseconds) / 3e6 if microseconds.isdigit() and meant == str(pid) else None
