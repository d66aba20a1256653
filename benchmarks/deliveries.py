"""Whether one dead and one slow destination hold up two healthy ones.

`python -m benchmarks.deliveries [--json] [--quick]`: 1,000 deliveries (125 revisions, a SEG and an SR each) to four
destinations: two are DCMTK storescp, one is a closed port, one answers each C-STORE after three seconds. The peer is
the same gateway with the two healthy destinations alone, in turns with it. The deliver role and the sweep run as they
do in the service, on SQLite, with the default settings; a second pair of rows polls the queue ten times as often.
"""

import argparse
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table
from sqlalchemy import func, select

from config import Settings
from config.settings import Role
from gateway.app import build, prepare
from gateway.pipeline import queues
from gateway.pipeline.delivery import Courier
from gateway.pipeline.dispatch import DeliverySweep
from gateway.pipeline.workflow import register_deliveries
from storage.tables import Delivery, DeliveryState
from tests.planted import plant

HEALTHY = ("healthy-1", "healthy-2")
TARGET = 0.9
SLOW_SECONDS = 3.0
LONGEST = 600.0
STORESCP = "/usr/bin/storescp"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def storescp(folder: Path) -> Iterator[int]:
    """DCMTK's archive, which keeps nothing; a process for each association."""
    port = free_port()
    command = [STORESCP, "--fork", "+xa", "--ignore", "-od", str(folder), str(port)]
    with running(command, port):
        yield port


@contextmanager
def slow_archive() -> Iterator[int]:
    """An archive that takes three seconds for each object, in a process of its own."""
    port = free_port()
    with running([sys.executable, "-m", "benchmarks.deliveries", "--slow-archive", str(port)], port):
        yield port


@contextmanager
def running(command: list[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "TCP_NODELAY": "1"}
    )
    try:
        end = time.monotonic() + 120
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if time.monotonic() > end or process.poll() is not None:
                    raise SystemExit(f"{command[0]} does not listen") from None
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(10)


def be_slow(port: int) -> None:
    from pynetdicom import AE, AllStoragePresentationContexts, evt

    def store(_event: evt.Event) -> int:
        time.sleep(SLOW_SECONDS)
        return 0

    entity: Any = AE(ae_title="SLOW")
    entity.supported_contexts = AllStoragePresentationContexts
    entity.maximum_associations = 100
    entity.start_server(("127.0.0.1", port), evt_handlers=[(evt.EVT_C_STORE, store)])


def destination(name: str, port: int) -> dict[str, object]:
    return {"name": name, "ae_title": "ANY", "host": "127.0.0.1", "port": port}


def measure(revisions: int, *, trouble: bool, polling: float) -> dict[str, float]:
    """Deliveries a second at each healthy destination, until it has everything."""
    folder = Path(tempfile.mkdtemp(prefix="scanwarden-deliveries-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        (folder / "archive").mkdir()
        found = [destination(name, stack.enter_context(storescp(folder / "archive"))) for name in HEALTHY]
        if trouble:
            found += [
                destination("dead", free_port()),
                destination("slow", stack.enter_context(slow_archive())),
            ]
        settings = Settings(
            store={"root": folder / "var", "high_watermark": 1, "low_watermark": 1, "reserve_bytes": 0},
            queues={"polling_interval": polling},
            destinations=found,
        )
        prepare(settings)
        app = stack.enter_context(build(settings))
        courier = Courier(app)
        for _ in range(revisions):
            courier.plan(plant(app).revision_id)
        worker = queues.Worker(settings, queues.executor_id(Role.DELIVER), [queues.DELIVER_QUEUE])
        register_deliveries(worker, app)
        work = stack.enter_context(queues.WorkQueues(settings))
        stop = threading.Event()
        sweep = DeliverySweep(app, work)

        def keep_sweeping() -> None:
            while not stop.is_set():
                sweep()
                stop.wait(settings.revisions.sweep_interval)

        sweeping = threading.Thread(target=keep_sweeping)
        started, end = datetime.now(UTC), time.monotonic() + LONGEST
        worker.start()
        sweeping.start()
        try:
            while True:
                with app.database.reading() as session:
                    query = (
                        select(Delivery.destination, func.count(), func.max(Delivery.delivered_at))
                        .where(Delivery.state == DeliveryState.DELIVERED, Delivery.destination.in_(HEALTHY))
                        .group_by(Delivery.destination)
                    )
                    done = {name: (count, last) for name, count, last in session.execute(query)}
                if len(done) == len(HEALTHY) and all(count == 2 * revisions for count, _ in done.values()):
                    break
                if time.monotonic() > end:
                    raise SystemExit(f"not delivered within {LONGEST:.0f} s: {done}")
                time.sleep(0.25)
        finally:
            stop.set()
            sweeping.join()
            worker.stop(3 * SLOW_SECONDS)  # what the slow one has in hand
        return {
            name: count / (last - started).total_seconds() for name, (count, last) in done.items() if last is not None
        }


def compare(revisions: int, rounds: int, polling: float, label: str) -> list[dict[str, Any]]:
    """Alone and in bad company, in turns; the median of each."""
    alone: list[dict[str, float]] = []
    beside: list[dict[str, float]] = []
    for _ in range(rounds):
        alone.append(measure(revisions, trouble=False, polling=polling))
        beside.append(measure(revisions, trouble=True, polling=polling))
    return [
        row(
            f"{name}, {revisions * 8} deliveries to four destinations, {label}",
            statistics.median(each[name] for each in beside),
            statistics.median(each[name] for each in alone),
        )
        for name in HEALTHY
    ]


def row(case: str, ours: float, peer: float) -> dict[str, Any]:
    return {
        "case": case,
        "ours": round(ours, 2),
        "peer": "the two healthy destinations alone",
        "peer_value": round(peer, 2),
        "ratio": round(ours / peer, 3),
        "unit": "deliveries/s",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--quick", action="store_true", help="200 deliveries once, at the default polling interval")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each, of which the median counts")
    parser.add_argument("--slow-archive", type=int, metavar="PORT", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.slow_archive:
        be_slow(chosen.slow_archive)
        return
    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    revisions, rounds = (25, 1) if chosen.quick else (125, chosen.rounds)
    rows = compare(revisions, rounds, 0.5, "default settings")
    if not chosen.quick:
        rows += compare(revisions, rounds, 0.05, "polling every 0.05 s")
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB"
    if chosen.json:
        print(json.dumps({"name": "deliveries", "machine": machine, "rows": rows}, indent=2))
        return
    table = Table(title=f"Healthy destinations beside a dead and a slow one, target {TARGET} ({machine})")
    for column in ("case", "deliveries/s", "alone", "ratio"):
        table.add_column(column, justify="left" if column == "case" else "right")
    for each in rows:
        table.add_row(each["case"], f"{each['ours']:.2f}", f"{each['peer_value']:.2f}", f"{each['ratio']:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
