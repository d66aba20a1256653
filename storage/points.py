"""Numbered places on the way of an instance, so that a fault test can stop a receiver at each as a power cut would.

Nothing happens at a point unless a test has put its own function into `listener`. gateway/pipeline/points.py has those
of a revision.
"""

from collections.abc import Callable
from enum import StrEnum


class Point(StrEnum):
    """In the order in which an instance passes them; the last is reached by those that answer with success."""

    INCOMING_CREATED = "incoming-created"  # an empty file, its lock held
    FIRST_BYTES_WRITTEN = "first-bytes-written"  # once an instance
    BYTES_WRITTEN = "bytes-written"  # after each further fragment
    LAST_BYTES_WRITTEN = "last-bytes-written"  # the header was read and is sound
    RENAMED = "renamed"  # under its final name, not durable
    FILE_SYNCED = "file-synced"
    FOLDER_SYNCED = "folder-synced"  # durable, in no index
    TRANSACTION_BEGUN = "transaction-begun"  # the writers' lock is held
    INDEXED = "indexed"  # rows and events are written, not committed
    COMMITTED = "committed"
    SETTLED = "settled"  # the file of a repeat is gone
    ANSWERING = "answering"  # the next step is the answer


listener: Callable[[Point], None] | None = None


def reached(point: Point) -> None:
    """Say that a process has come to `point`."""
    if listener is not None:
        listener(point)
