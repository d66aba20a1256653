"""`/metrics`: what the processes counted, and what only the database, the disk and the kernel know."""

import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

import psutil
import structlog
from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from config import Settings
from gateway.metrics.measures import OTHER
from gateway.metrics.snapshots import Snapshot, Sum, folder, merged, read_snapshots
from storage import Database, InstanceStore, StorageError
from storage.figures import Figures, figures
from storage.tables import DeliveryState, RevisionState

log = structlog.get_logger(__name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_UNDELIVERED = frozenset({DeliveryState.WAITING, DeliveryState.SENT})  # sent: the archive has not committed itself yet
FRESH_SECONDS = 2.0  # two collectors, or an impatient one, cost the database one look


class Exposition:
    """Puts the page together."""

    def __init__(self, settings: Settings, database: Database, store: InstanceStore) -> None:
        self._settings, self._database, self._store = settings, database, store
        self._figures: Figures | None = None
        self._figures_at = float("-inf")

    def page(self) -> bytes:
        """Everything in Prometheus' text format; what cannot be known now is left out, and `…_database_up` says so."""
        snapshots = read_snapshots(folder(self._settings))
        metrics = [*merged(snapshots), *self._of_database(), *self._of_disk(), *self._of_processes(snapshots)]
        return generate_latest(Sum(metrics))

    def _of_database(self) -> Iterator[Metric]:
        found = self._look()
        yield _gauge("scanwarden_database_up", "Whether the database answers.", 0 if found is None else 1)
        if found is None:
            return
        revisions = GaugeMetricFamily(
            "scanwarden_revisions", "Revisions that are not finished, or failed.", labels=("state",)
        )
        for state in RevisionState:
            if state is not RevisionState.DONE:
                revisions.add_metric((state.value.lower(),), found.revisions.get(state, 0))
        yield revisions
        yield self._queues(found)
        waited = 0.0
        if found.oldest_unanalysed is not None:
            waited = max(0.0, (datetime.now(UTC) - found.oldest_unanalysed).total_seconds())
        yield _gauge(
            "scanwarden_oldest_unanalysed_revision_seconds", "Age of the oldest revision that waits; 0: none.", waited
        )
        yield self._deliveries(found)
        yield _gauge("scanwarden_ledger_records", "Records in the ledger.", found.ledger_records)
        yield _gauge(
            "scanwarden_ledger_records_unsigned",
            "Records behind the last checkpoint.",
            found.ledger_records - found.checkpoint_records,
        )
        if found.checkpoint_time is not None:
            age = (datetime.now(UTC) - found.checkpoint_time).total_seconds()
            yield _gauge("scanwarden_ledger_checkpoint_age_seconds", "Age of the last checkpoint.", max(0.0, age))

    def _queues(self, found: Figures) -> Metric:
        queues = GaugeMetricFamily("scanwarden_queue_depth", "What waits for a role.", labels=("queue",))
        queues.add_metric(("analyse",), found.revisions.get(RevisionState.CLOSED, 0))
        queues.add_metric(("encode",), found.revisions.get(RevisionState.ANALYSED, 0))
        waiting = sum(count for (state, _), count in found.deliveries.items() if state in _UNDELIVERED)
        queues.add_metric(("deliver",), waiting)
        return queues

    def _deliveries(self, found: Figures) -> Metric:
        known = {each.name for each in self._settings.destinations}
        counts: Counter[tuple[str, str]] = Counter()
        for (state, destination), count in found.deliveries.items():
            counts[state.value.lower(), destination if destination in known else OTHER] += count
        family = GaugeMetricFamily(
            "scanwarden_deliveries", "Deliveries of evidence objects.", labels=("state", "destination")
        )
        for labels, count in sorted(counts.items()):
            family.add_metric(labels, count)
        return family

    def _of_disk(self) -> Iterator[Metric]:
        try:
            room = self._store.headroom()
        except StorageError:
            return
        yield _gauge("scanwarden_disk_free_bytes", "Free bytes on the store's disk.", room.free)
        yield _gauge("scanwarden_disk_total_bytes", "Size of the store's disk.", room.total)
        yield _gauge("scanwarden_disk_used_ratio", "Share of the store's disk in use.", room.used_share)
        limit = self._settings.store.high_watermark
        yield _gauge("scanwarden_disk_watermark_ratio", "Share from which on instances are refused.", limit)

    def _of_processes(self, snapshots: list[Snapshot]) -> Iterator[Metric]:
        memory = GaugeMetricFamily(
            "scanwarden_process_resident_bytes", "Resident memory of a process.", labels=("process",)
        )
        silence = GaugeMetricFamily(
            "scanwarden_process_silence_seconds", "Seconds since a process was last heard.", labels=("process",)
        )
        for snapshot in snapshots:
            if snapshot.pid is None:
                continue
            try:
                resident = psutil.Process(snapshot.pid).memory_info().rss
            except psutil.Error:
                continue
            memory.add_metric((snapshot.name,), resident)
            silence.add_metric((snapshot.name,), snapshot.age)
        yield memory
        yield silence

    def _look(self) -> Figures | None:
        if time.monotonic() - self._figures_at > FRESH_SECONDS:
            try:
                with self._database.reading() as session:
                    self._figures = figures(session)
            except StorageError as fault:
                log.warning("the database does not answer a collector of metrics", reason=str(fault))
                self._figures = None
            self._figures_at = time.monotonic()
        return self._figures


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)
