"""Anchors: append-only files outside the database that hold every checkpoint, one JSON object in a line.

A file is opened with O_APPEND only, and a line is fsync'd before it counts. What an outage kept from a file is appended
with the next checkpoint. The files prove most where the database's administrator cannot write: on another machine, or
with the append-only attribute (`chattr +a`).
"""

import fcntl
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from storage.audit.checkpoint import Checkpoint, CheckpointUnreadable
from storage.errors import StorageError, from_os_error

_TAIL = 4096


@dataclass(frozen=True, slots=True)
class Anchored:
    """What a file holds; `fault` says in words why it cannot be what we wrote."""

    path: Path
    checkpoints: tuple[Checkpoint, ...]
    fault: str | None = None

    @property
    def last(self) -> Checkpoint | None:
        return self.checkpoints[-1] if self.checkpoints else None


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
                return Anchored(path, tuple(found), f"line {number} is no checkpoint")
            continue
        if found and (checkpoint.number, checkpoint.previous) != (found[-1].number + 1, found[-1].digest):
            text = f"line {number} holds checkpoint {checkpoint.number}, which does not follow {found[-1].number}"
            return Anchored(path, tuple(found), f"{text}: replayed, left out or forged")
        found.append(checkpoint)
    return Anchored(path, tuple(found))


class AnchorUnreadable(StorageError):
    """A file with checkpoints cannot be read at all."""


def _torn(path: Path) -> bytes:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size == 0:
            return b""
        file.seek(size - 1)
        return b"" if file.read(1) == b"\n" else b"\n"
