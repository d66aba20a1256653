"""Whose turn it is to write to a SQLite file: the right goes from process to process in a fraction of a millisecond.

SQLite lets one process write and the others sleep, longer each time, without an order: of two receivers one may wait a
second. Here the writers stand in line before they ask SQLite. The line is two locked files: who holds `-next` comes
after who holds `-turn`, so whoever has just written cannot push in again. The kernel frees the locks of a process that
dies. Who waits also listens for a word from who is done; it only saves time, nothing depends on its coming.

The line is a courtesy: SQLite's own lock decides, with or without it.
"""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock
from hashlib import sha256
from pathlib import Path

_UNTOLD = 0.02  # seconds until one that waits looks by itself: the other may have died
_DEAF = 0.002  # the same where it cannot be told


class Turn:
    """The line before one SQLite file; for one thread at a time."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._places: tuple[_Place, _Place] | None = None

    def take(self, seconds: float) -> bool:
        """Wait for the turn for at most `seconds`; whether it came. Without the files it always does."""
        if self._places is None:
            with suppress(OSError):
                self._places = self._opened()
        if self._places is None:
            return True
        following, turn = self._places
        deadline = time.monotonic() + seconds
        with suppress(_NoLocks):
            if not following.taken(deadline):
                return False
            try:
                return turn.taken(deadline)
            finally:
                following.leave()
        return True

    def give(self) -> None:
        """Let the next one write."""
        if self._places is not None:
            self._places[1].leave()

    def close(self) -> None:
        """Leave the line for good."""
        places, self._places = self._places, None
        for place in places or ():
            place.close()

    def __del__(self) -> None:
        self.close()

    def _opened(self) -> tuple["_Place", "_Place"]:
        following = _Place(self._database, "-next")
        try:
            return following, _Place(self._database, "-turn")
        except OSError:
            following.close()
            raise


class _NoLocks(Exception):
    """The file system knows no locks of this kind."""


class _Place:
    """A locked file, and a name in the kernel (unix(7), abstract) under which who waits for it can be told."""

    def __init__(self, database: Path, suffix: str) -> None:
        name = sha256(os.fsencode(database.resolve())).hexdigest()[:32]
        self._address = f"\0scanwarden-{name}{suffix}".encode()
        self._handle = _open(database, suffix)
        self._voice = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._voice.setblocking(False)

    def taken(self, deadline: float) -> bool:
        if self._is_free():
            return True
        with self._listening() as ear:
            while not self._is_free():
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                if ear is None:
                    time.sleep(min(left, _DEAF))
                    continue
                ear.settimeout(min(left, _UNTOLD))
                with suppress(OSError):
                    ear.recv(1)
        return True

    def leave(self) -> None:
        with suppress(OSError):
            flock(self._handle, LOCK_UN)
            self._voice.sendto(b".", self._address)

    def close(self) -> None:
        os.close(self._handle)
        self._voice.close()

    def _is_free(self) -> bool:
        try:
            flock(self._handle, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as fault:
            raise _NoLocks from fault
        return True

    @contextmanager
    def _listening(self) -> Iterator[socket.socket | None]:
        """One at a time listens; there are no such names outside Linux."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
            try:
                ear.bind(self._address)
            except OSError:
                yield None
            else:
                yield ear


def _open(database: Path, suffix: str) -> int:
    handle = os.open(f"{database}{suffix}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    with suppress(OSError):
        # As SQLite does with its own: what a person with every right creates must not lock the service out.
        owner = database.stat()
        if os.geteuid() == 0:
            os.fchown(handle, owner.st_uid, owner.st_gid)
        os.fchmod(handle, owner.st_mode & 0o666)
    return handle
