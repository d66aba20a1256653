"""Whether anything new should come in: watermarks on the disk and on the revisions that wait (promise 8)."""

import threading
import time
from collections.abc import Callable

import structlog

from config.settings import Queues
from storage import Database, InstanceStore, StorageError
from storage.studies import revisions_waiting

log = structlog.get_logger(__name__)

RECHECK_SECONDS = 1.0


class Congestion:
    """Call it: it says in words why new associations are refused now, or None."""

    def __init__(
        self, store: InstanceStore, database: Database, queues: Queues, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
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
