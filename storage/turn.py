"""Whose turn it is to write to a SQLite file: the right goes from process to process in a fraction of a millisecond.

SQLite lets one process write and the others sleep, longer each time, without an order: of two receivers one may wait a
second. Here the writers stand in line before they ask SQLite. The line is two locked files: who holds `-next` comes
after who holds `-turn`, so whoever has just written cannot push in again. The kernel frees the locks of a process that
dies. The line is a courtesy: SQLite's own lock decides, with or without it.
"""

import os
import time
from contextlib import suppress
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock
from pathlib import Path

_SHORTEST, _LONGEST = 0.000_1, 0.002  # seconds between two looks; a kernel that wakes us has no time limit to offer


class Turn:
    """The line before one SQLite file; for one thread at a time."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._handles: tuple[int, int] | None = None

    def take(self, seconds: float) -> bool:
        """Wait for the turn for at most `seconds`; whether it came. Without the files it always does."""
        if self._handles is None:
            with suppress(OSError):
                self._handles = self._opened()
        if self._handles is None:
            return True
        following, turn = self._handles
        deadline = time.monotonic() + seconds
        with suppress(_NoLocks):
            if not _locked(following, deadline):
                return False
            try:
                return _locked(turn, deadline)
            finally:
                flock(following, LOCK_UN)
        return True

    def give(self) -> None:
        """Let the next one write."""
        if self._handles is not None:
            with suppress(OSError):
                flock(self._handles[1], LOCK_UN)

    def close(self) -> None:
        """Leave the line for good."""
        handles, self._handles = self._handles, None
        for handle in handles or ():
            os.close(handle)

    def _opened(self) -> tuple[int, int]:
        following = _open(self._database, "-next")
        try:
            return following, _open(self._database, "-turn")
        except OSError:
            os.close(following)
            raise


class _NoLocks(Exception):
    """The file system knows no locks of this kind."""


def _locked(handle: int, deadline: float) -> bool:
    pause = _SHORTEST
    while True:
        try:
            flock(handle, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(pause)
            pause = min(pause * 1.1, _LONGEST)
        except OSError as fault:
            raise _NoLocks from fault
        else:
            return True


def _open(database: Path, suffix: str) -> int:
    handle = os.open(f"{database}{suffix}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    with suppress(OSError):
        # As SQLite does with its own: what a person with every right creates must not lock the service out.
        owner = database.stat()
        if os.geteuid() == 0:
            os.fchown(handle, owner.st_uid, owner.st_gid)
        os.fchmod(handle, owner.st_mode & 0o666)
    return handle
