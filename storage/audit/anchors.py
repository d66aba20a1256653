"""Anchors: what holds every checkpoint outside the database. Here: files, one JSON object in a line.

A file is opened with O_APPEND only, and a line is fsync'd before it counts. What an outage kept from a file is appended
with the next checkpoint. The files prove most where the database's administrator cannot write: on another machine, or
with the append-only attribute (`chattr +a`).
"""

import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from storage.audit.checkpoint import Checkpoint, CheckpointUnreadable
from storage.errors import StorageError, from_os_error

_TAIL = 4096


@dataclass(frozen=True, slots=True)
class Anchored:
    """What an anchor holds; `fault` says in words why it cannot be what we wrote."""

    where: str
    checkpoints: tuple[Checkpoint, ...]
    fault: str | None = None

    @property
    def last(self) -> Checkpoint | None:
        return self.checkpoints[-1] if self.checkpoints else None


class Anchor(Protocol):
    """A place outside the database that gets every checkpoint, in order."""

    @property
    def name(self) -> str:
        """What the ledger calls it."""

    @property
    def where(self) -> str:
        """Where a person finds it."""

    def last(self, near: int) -> Checkpoint | None:
        """The newest checkpoint that it holds; the database's newest has number `near`. Raises StorageError."""

    def append(self, checkpoints: Sequence[Checkpoint]) -> int:
        """Add those that it lacks, from the first on; says how many. Raises StorageError."""

    def read(self, known: Mapping[int, Checkpoint]) -> Anchored | None:
        """All that it holds, None when it was never begun; a fault is in the answer.

        `known` are the database's checkpoints, for an anchor that need not fetch what is provably the same.
        """


@dataclass(frozen=True, slots=True)
class FileAnchor:
    """An append-only file."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def where(self) -> str:
        return str(self.path)

    def last(self, near: int) -> Checkpoint | None:  # noqa: ARG002 - a file's end is found at once
        return last_anchored(self.path)

    def append(self, checkpoints: Sequence[Checkpoint]) -> int:
        return append_anchored(self.path, checkpoints)

    def read(self, known: Mapping[int, Checkpoint]) -> Anchored | None:  # noqa: ARG002 - a file is read whole
        return held_in(self.path) if self.path.exists() else None


def last_anchored(path: Path) -> Checkpoint | None:
    """The newest checkpoint in a file; None for a file that is not there or is empty. Raises StorageError."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL))
            lines = file.read().splitlines()
    except FileNotFoundError:
        return None
    except OSError as fault:
        raise from_os_error(fault, "cannot read the anchor", path) from fault
    for line in reversed(lines):  # a torn last line is what a crash leaves; the one before it counts
        try:
            return Checkpoint.from_json(json.loads(line))
        except (ValueError, CheckpointUnreadable):
            continue
    return None


def append_anchored(path: Path, checkpoints: Sequence[Checkpoint]) -> int:
    """Append those checkpoints that come after the file's last; says how many. Raises StorageError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    except OSError as fault:
        raise from_os_error(fault, "cannot open the anchor", path) from fault
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        last = last_anchored(path)
        new = [each for each in checkpoints if last is None or each.number > last.number]
        if new:
            torn = _torn(path)
            os.write(descriptor, torn + b"".join(each.line() for each in new))
            os.fsync(descriptor)
    except OSError as fault:
        raise from_os_error(fault, "cannot append to the anchor", path) from fault
    finally:
        os.close(descriptor)
    return len(new)


def read_anchored(path: Path) -> Anchored:
    """Everything that a file holds: an anchor, or one checkpoint that was kept elsewhere. Raises AnchorUnreadable."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as fault:
        raise AnchorUnreadable(f"{path}: cannot be read ({fault.strerror})") from fault
    found: list[Checkpoint] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            checkpoint = Checkpoint.from_json(json.loads(line))
        except (ValueError, CheckpointUnreadable):
            if number < len(lines):  # not the torn end of a write that a crash cut short
                return Anchored(str(path), tuple(found), f"line {number} is no checkpoint")
            continue
        if found and (checkpoint.number, checkpoint.previous) != (found[-1].number + 1, found[-1].digest):
            text = f"line {number} holds checkpoint {checkpoint.number}, which does not follow {found[-1].number}"
            return Anchored(str(path), tuple(found), f"{text}: replayed, left out or forged")
        found.append(checkpoint)
    return Anchored(str(path), tuple(found))


def held_in(path: Path) -> Anchored:
    """Everything that a file holds; that it cannot be read, or holds nothing, is a fault like another."""
    try:
        found = read_anchored(path)
    except AnchorUnreadable as fault:
        return Anchored(str(path), (), str(fault))
    if not found.checkpoints and found.fault is None:
        return Anchored(str(path), (), "holds no checkpoint")
    return found


class AnchorUnreadable(StorageError):
    """A file with checkpoints cannot be read at all."""


def _torn(path: Path) -> bytes:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size == 0:
            return b""
        file.seek(size - 1)
        return b"" if file.read(1) == b"\n" else b"\n"
