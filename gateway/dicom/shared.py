"""A small table in a file that every acceptor process of this machine maps: what one of them counts, all of them see.

Each process holds a lock on a byte of its own for as long as it lives, so that the others know what a dead one left
behind. The locks belong to the open file (fcntl(2), F_OFD_SETLK): the kernel lets go of them however a process ends.
"""

import contextlib
import errno
import fcntl
import mmap
import os
import secrets
import socket
import struct
import threading
import time
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

_FLOCK = struct.Struct("hhqqi4x")  # type, whence, start, length, pid (0 for locks of an open file)
_PATIENCE = 0.5  # seconds; the lock is held for microseconds
_MUTEX = 0  # the byte that is locked while the table is looked at and changed
_MEMBERS = 1  # the first byte that a process may hold

NO_ADDRESS = bytes(16)


class SharedTable:
    """`size` bytes, zeros at first; `view` is theirs. Without a folder it is this process's alone."""

    def __init__(self, folder: Path | None, name: str, size: int) -> None:
        """A folder that cannot be written is a warning: each process counts for itself then."""
        self._threads = threading.Lock()
        self._file = -1
        self.me = 1 + secrets.randbelow(2**31 - 2)
        if folder is not None:
            try:
                self._open(folder, name, size)
            except OSError as fault:
                log.warning("limits count for each acceptor alone", folder=str(folder), reason=fault.strerror)
                self._forget()
        self._map = mmap.mmap(self._file, size) if self._file >= 0 else mmap.mmap(-1, size)
        self.view = memoryview(self._map)

    def _open(self, folder: Path, name: str, size: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}-{size}@{socket.gethostname()}.table"
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # Reserved now: on a disk that is full later, a hole in a mapped file would be a SIGBUS.
        os.posix_fallocate(self._file, 0, size)
        while not self._lock(_MEMBERS + self.me):
            self.me = 1 + secrets.randbelow(2**31 - 2)

    @contextlib.contextmanager
    def exclusively(self) -> Iterator[None]:
        """Look and change with nobody between; a process that was stopped within it holds the others up briefly."""
        with self._threads:
            held = self._file < 0 or self._wait_for_mutex()
            try:
                yield
            finally:
                if held and self._file >= 0:
                    self._unlock(_MUTEX)

    def lives(self, member: int) -> bool:
        """Whether the process that called itself `member` is still there."""
        if member == self.me or self._file < 0:
            return member == self.me
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _MEMBERS + member, 1, 0)
        answer = fcntl.fcntl(self._file, fcntl.F_OFD_GETLK, asked)
        return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)

    def close(self) -> None:
        """Let go of everything; what this process entered counts no more."""
        with self._threads:
            self.view.release()
            self._map.close()
            self._forget()

    def _forget(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _wait_for_mutex(self) -> bool:
        end = time.monotonic() + _PATIENCE
        while not self._lock(_MUTEX):
            if time.monotonic() > end:
                return False
            time.sleep(0.0002)
        return True

    def _lock(self, byte: int) -> bool:
        try:
            fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0))
        except OSError as fault:
            if fault.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True

    def _unlock(self, byte: int) -> None:
        fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, byte, 1, 0))


def packed(address: str) -> bytes:
    """An address as 16 bytes, IPv4 as IPv6 maps it; what is no address shares one place."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return b"\xff" * 16
    return (found if isinstance(found, IPv6Address) else IPv6Address(f"::ffff:{found}")).packed


def unpacked(address: bytes) -> str:
    """The text of what `packed` gave."""
    found = IPv6Address(address)
    return str(found.ipv4_mapped or found)
