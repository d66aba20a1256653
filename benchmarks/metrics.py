"""What counting costs the receive path: `python -m benchmarks.metrics [--json] [--quick]`.

Ours is what is called for one instance (two counters and a histogram, found by their labels); the peer is the same
three observations in prometheus-client's multiprocess mode, with its files mapped into memory, its labels looked up
beforehand. Both in microseconds, the median of seven runs, in a process each.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.ledger import machine

RUNS = 7


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="fewer observations")
    parser.add_argument("--mapped", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.mapped:
        print(mapped(chosen.mapped))
        return
    times = 20_000 if chosen.quick else 200_000
    mine, theirs = ours(times), in_another_process(times)
    snapshot = publishing(200)
    rows: list[dict[str, Any]] = [
        {
            "case": "one instance counted",
            "ours": mine,
            "peer": "prometheus-client, multiprocess",
            "peer_value": theirs,
            "ratio": mine / theirs,
            "unit": "µs",
        },
        {
            "case": "figures written, once a second",
            "ours": snapshot,
            "peer": "",
            "peer_value": None,
            "ratio": None,
            "unit": "µs",
        },
    ]
    if chosen.json:
        print(json.dumps({"name": "metrics", "machine": machine(), "rows": rows}))
        return
    table = Table("case", "ours", "peer", "peer's value", "ratio", "unit")
    for row in rows:
        numbers = ["" if row[key] is None else f"{row[key]:.2f}" for key in ("ours", "peer_value", "ratio")]
        table.add_row(row["case"], numbers[0], row["peer"], numbers[1], numbers[2], row["unit"])
    Console().print(table)


def ours(times: int) -> float:
    """Microseconds of one call."""
    from gateway.metrics import instance_received

    def run() -> float:
        begun = time.perf_counter()
        for _ in range(times):
            instance_received("stored", "image", "CT1", 524_288, 0.02)
        return (time.perf_counter() - begun) / times * 1e6

    return median(run() for _ in range(RUNS))


def mapped(times: int) -> float:
    """The same in a process whose values are mapped into files."""
    from prometheus_client import Counter, Histogram

    names = ("outcome", "kind", "source")
    labels = ("stored", "image", "CT1")
    instances = Counter("instances", "Instances.", names).labels(*labels)
    size = Counter("bytes", "Bytes.", names).labels(*labels)
    seconds = Histogram("seconds", "Seconds.", ("stage",)).labels("receive")

    def run() -> float:
        begun = time.perf_counter()
        for _ in range(times):
            instances.inc()
            size.inc(524_288)
            seconds.observe(0.02)
        return (time.perf_counter() - begun) / times * 1e6

    return median(run() for _ in range(RUNS))


def in_another_process(times: int) -> float:
    """`mapped`, where prometheus-client decides at its import that it maps."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": folder}
        command = [sys.executable, "-m", "benchmarks.metrics", "--mapped", str(times)]
        return float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def publishing(times: int) -> float:
    """Microseconds of one file that is written because something was counted."""
    from pathlib import Path

    from gateway.metrics import instance_received
    from gateway.metrics.snapshots import Publisher

    with tempfile.TemporaryDirectory() as folder:
        publisher = Publisher(Path(folder), "receive")
        spent = []
        for _ in range(times):
            instance_received("stored", "image", "CT1", 524_288, 0.02)
            begun = time.perf_counter()
            publisher.publish()
            spent.append(time.perf_counter() - begun)
        return median(spent) * 1e6


if __name__ == "__main__":
    main()
