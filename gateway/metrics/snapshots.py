"""What each process counted, as a small file a second, and the sum of them all.

    run/metrics@HOST/receive.prom        one process's measures in Prometheus' text format, its pid in the first line
    run/metrics@HOST/receive.past.prom   what dead processes of that name had counted: a counter never falls

A file that cannot be written (a full disk) costs its figures, and never the process: nothing here maps memory into a
file, where a full disk would be a signal that kills.
"""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog
from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from config import Settings
from gateway.metrics.measures import REGISTRY

log = structlog.get_logger(__name__)

INTERVAL = 1.0
PULSE_INTERVAL = 5.0  # a file that is older than a few of them belongs to a process that hangs


def folder(settings: Settings) -> Path:
    """Where the processes of this machine leave what they counted."""
    return settings.store.root / "run" / f"metrics@{socket.gethostname()}"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one process had counted, and when it last said so."""

    name: str
    pid: int | None  # None: of processes that are dead
    age: float
    """Seconds since the process was last heard."""
    metrics: list[Metric]

    @property
    def lives(self) -> bool:
        """Whether its process does."""
        return self.pid is not None and _lives(self.pid)


class Publisher:
    """Leaves what this process counts under `name`; one living process a name."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / f"{name}.prom"
        self._past = folder / f"{name}.past.prom"
        self._said = b""
        self._failing = False
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._inherit()
        except OSError as fault:
            self._complain(fault)

    def publish(self) -> None:
        """Write what is new, or only that we live. Never raises."""
        text = b"# pid %d\n" % os.getpid() + generate_latest(REGISTRY)
        try:
            if text == self._said:
                if time.time() - self._path.stat().st_mtime > PULSE_INTERVAL:
                    os.utime(self._path)
                return
            _replace(self._path, text)
        except OSError as fault:
            self._said = b""
            self._complain(fault)
        else:
            self._said, self._failing = text, False

    @contextmanager
    def running(self) -> Iterator[None]:
        """Publish every second from a thread of its own, and once more at the end."""
        ended = threading.Event()

        def run() -> None:
            while True:
                self.publish()
                if ended.wait(INTERVAL):
                    return

        thread = threading.Thread(target=run, daemon=True, name="metrics")
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(timeout=5)
            self.publish()

    def _inherit(self) -> None:
        former = [path for path in (self._past, self._path) if path.exists()]
        if self._path in former:
            counted = merged([snapshot for path in former if (snapshot := _read(path)) is not None], living=False)
            _replace(self._past, generate_latest(Sum(counted)))
            self._path.unlink(missing_ok=True)

    def _complain(self, fault: OSError) -> None:
        if not self._failing:
            log.warning("what this process counts is not published", reason=fault.strerror or str(fault))
        self._failing = True


def forget_the_dead(folder: Path) -> None:
    """Remove what earlier runs of the service had counted; once, before any process starts. Never raises."""
    with suppress(OSError):
        for path in folder.iterdir():
            snapshot = _read(path)
            if snapshot is None or not snapshot.lives:
                path.unlink(missing_ok=True)


def read_snapshots(folder: Path) -> list[Snapshot]:
    """What every process of this machine had counted a second ago."""
    try:
        paths = sorted(folder.glob("*.prom"))
    except OSError:
        return []
    return [snapshot for path in paths if (snapshot := _read(path)) is not None]


def merged(snapshots: list[Snapshot], *, living: bool = True) -> list[Metric]:
    """The sum of what was counted; gauges only of processes that live."""
    found: dict[str, Metric] = {}
    sums: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for snapshot in snapshots:
        alive = living and snapshot.lives
        for metric in snapshot.metrics:
            if metric.type == "gauge" and (not alive or metric.name.endswith("_created")):
                continue
            found.setdefault(metric.name, metric)
            values = sums.setdefault(metric.name, {})
            for sample in metric.samples:
                key = sample.name, tuple(sorted(sample.labels.items()))
                values[key] = values.get(key, 0.0) + sample.value
    result = []
    for name, metric in found.items():
        total = Metric(name, metric.documentation, metric.type)
        for (sample_name, labels), value in sums[name].items():
            total.add_sample(sample_name, dict(labels), value)
        result.append(total)
    return result


class Sum:
    """Metrics as prometheus_client wants them to write them."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        return self._metrics


def _read(path: Path) -> Snapshot | None:
    try:
        text = path.read_text(encoding="utf-8")
        age = max(0.0, time.time() - path.stat().st_mtime)
        metrics = list(text_string_to_metric_families(text))
    except (OSError, ValueError):
        return None  # being replaced, or cut off by a full disk
    pid = None
    if text.startswith("# pid "):
        digits = text[6:].partition("\n")[0]
        pid = int(digits) if digits.isdigit() else None
    return Snapshot(path.name.partition(".")[0], pid, age, metrics)


def _replace(path: Path, text: bytes) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_bytes(text)
    temporary.replace(path)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
