"""Whether anything new should come in: watermarks on disk, memory and the revisions that wait (promise 8)."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from config.settings import Queues
from gateway.dicom.places import Places
from storage import Database, InstanceStore, StorageError
from storage.studies import revisions_waiting

log = structlog.get_logger(__name__)

RECHECK_SECONDS = 1.0
STATM = Path("/proc/self/statm")
RELIEF = 0.9  # share of the memory's watermark below which there is room again


def private_memory() -> int:
    """Bytes of this process that are no file's: what it could give back (proc(5), statm)."""
    _, resident, shared, *_ = STATM.read_text().split()
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


class MemoryWatermark:
    """Call it: whether the receivers of this machine take more memory than they should."""

    def __init__(
        self,
        limit: int,
        places: Places,
        *,
        measure: Callable[[], int] = private_memory,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limit = limit
        self._places = places
        self._measure = measure
        self._clock = clock
        self._lock = threading.Lock()
        self._measured_at = float("-inf")
        self._short = False

    def __call__(self) -> bool:
        """Measured at most once a second; from the watermark on until it has fallen below RELIEF of it."""
        with self._lock:
            if self._clock() - self._measured_at < RECHECK_SECONDS:
                return self._short
            self._measured_at = self._clock()
            taken = self._places.memory(self._measure())
            self._short = taken >= (self.limit * RELIEF if self._short else self.limit)
            return self._short


class Congestion:
    """Call it: it says in words why new associations are refused now, or None."""

    def __init__(
        self,
        store: InstanceStore,
        database: Database,
        queues: Queues,
        *,
        memory: MemoryWatermark | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._memory = memory
        self._store = store
        self._database = database
        self._queues = queues
        self._clock = clock
        self._lock = threading.Lock()
        self._counted_at = float("-inf")
        self._crowded = False

    def __call__(self) -> str | None:
        try:
            self._store.check_headroom()
        except StorageError as fault:
            log.warning("no new association", reason=str(fault))
            return "no space to store"
        if self._memory is not None and self._memory():
            return f"the receivers take more than {self._memory.limit:,} bytes of memory (dicom.memory_watermark)"
        return f"{self._queues.high_watermark} revisions wait (queues.high_watermark)" if self._is_crowded() else None

    def _is_crowded(self) -> bool:
        """From the high watermark on, until fewer than the low one wait; counted at most once a second."""
        with self._lock:
            if self._clock() - self._counted_at < RECHECK_SECONDS:
                return self._crowded
            self._counted_at = self._clock()
        try:
            with self._database.reading() as session:
                waiting = revisions_waiting(session)
        except StorageError as fault:
            # Let it in: each instance is then refused with a status of its own, and the sender keeps its association
            log.warning("the revisions that wait cannot be counted", reason=str(fault))
            return False
        high, low = self._queues.high_watermark, self._queues.low_watermark
        limit = min(low, high) if self._crowded else high
        self._crowded = waiting >= limit
        return self._crowded
