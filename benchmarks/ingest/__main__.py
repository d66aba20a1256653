"""Instances a second, durable and indexed, beside the peers: `python -m benchmarks.ingest [--json] [--quick] [--soak]`.

The sender is DCMTK's storescu with PDUs of 131072 bytes, the images CT of 512 KB and MR of 128 KB, every run a study of
its own for each association. Every receiver stands on the same disk and takes its turn in every run; what it
acknowledged is counted in its index after each. The machine's own limit (loopback, SHA-256, fsync) is measured beside
them. `--soak` holds 64 associations open and sends 100,000 small instances.
"""

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.ingest.cells import KINDS, Cell, Measured, measure
from benchmarks.ingest.receivers import DCMTK, LIMIT, ORTHANC, OURS, PLAIN, STARTERS, Conditions, certificates
from benchmarks.ingest.soak import soak
from tests.wire import percentile


def main() -> int:
    """Run and print; 1 when a cell is an error."""
    chosen = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # which ends the receivers too
    cells = [
        Cell(kind, associations, nodelay == "on", tls == "on")
        for nodelay, tls, kind, associations in product(chosen.nodelay, chosen.tls, chosen.kind, chosen.associations)
    ]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="scanwarden-ingest-", dir=chosen.folder) as name:
        folder = Path(name)
        if chosen.soak:
            rows += soak(folder, associations=chosen.soak_associations, instances=chosen.soak_instances)
        else:
            credentials = certificates(folder / "certificates")
            for number, cell in enumerate(cells):
                conditions = Conditions(cell.nodelay, credentials if cell.tls else None)
                print(f"{number + 1} of {len(cells)}: {cell}", file=sys.stderr, flush=True)
                found = measure(
                    cell,
                    conditions,
                    {name: STARTERS[name] for name in chosen.receivers},
                    runs=chosen.runs,
                    instances=chosen.instances,
                    folder=folder / str(number),
                )
                rows += [*_rows(found)]
    if chosen.json:
        print(json.dumps({"name": "ingest", "machine": machine(), "rows": rows}))
    else:
        _print(rows)
    return 1 if any("error" in row for row in rows) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="one association, TCP_NODELAY=1, no TLS; under a minute")
    parser.add_argument("--soak", action="store_true", help="64 associations at once, 100,000 small instances")
    parser.add_argument("--runs", type=int, help="runs of each cell that count (default 5)")
    parser.add_argument("--instances", type=int, help="instances a run (default 240; a quarter where Nagle is on)")
    parser.add_argument("--kind", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--associations", nargs="+", type=int, help="at once (default 1 4)")
    parser.add_argument("--nodelay", nargs="+", choices=["on", "off"], help="TCP_NODELAY=1 for all, or as Debian ships")
    parser.add_argument("--tls", nargs="+", choices=["on", "off"])
    parser.add_argument("--receivers", nargs="+", choices=[OURS, ORTHANC, PLAIN, DCMTK, LIMIT])
    parser.add_argument("--folder", type=Path, help="where the receivers keep what they get (default: temporary)")
    parser.add_argument("--soak-associations", type=int, help="associations of the soak (default 64)")
    parser.add_argument("--soak-instances", type=int, help="instances of the soak (default 100,000)")
    chosen = parser.parse_args()
    quick = chosen.quick
    chosen.runs = chosen.runs or (3 if quick else 5)
    chosen.instances = chosen.instances or (120 if quick else 240)
    chosen.associations = chosen.associations or ([1] if quick else [1, 4])
    chosen.nodelay = chosen.nodelay or (["on"] if quick else ["on", "off"])
    chosen.tls = chosen.tls or (["off"] if quick else ["off", "on"])
    chosen.receivers = chosen.receivers or (
        [OURS, ORTHANC, PLAIN, LIMIT] if quick else [OURS, ORTHANC, PLAIN, DCMTK, LIMIT]
    )
    chosen.soak_associations = chosen.soak_associations or (16 if quick else 64)
    chosen.soak_instances = chosen.soak_instances or (3_000 if quick else 100_000)
    return chosen


def _rows(found: Measured) -> Iterator[dict[str, Any]]:
    for name, fault in found.faults.items():
        yield {**_row(str(found.cell), None, name, None, "instances/s"), "error": fault}
    ours = found.rate(OURS)
    for peer in found.rates:
        if peer != OURS and peer not in found.faults:
            row = _row(str(found.cell), ours, peer, found.rate(peer), "instances/s")
            target = found.cell.target(peer)
            if target is not None and row["ratio"] is not None:
                row |= {"target": target, "met": row["ratio"] >= target}
            yield row
    for peer, seconds in found.cpu_seconds.items():
        if peer != OURS and OURS in found.cpu_seconds:
            own = 1000 * median(found.cpu_seconds[OURS])
            yield _row(f"{found.cell}: receiver's CPU", own, peer, 1000 * median(seconds), "ms an instance")
    for name, share in (("median", 0.5), ("p99", 0.99)):
        values = {peer: 1000 * percentile(each, share) for peer, each in found.response_seconds.items() if each}
        for peer, value in values.items():
            if peer != OURS and OURS in values:
                yield _row(f"{found.cell}: {name} of the response", values[OURS], peer, value, "ms")


def _row(case: str, ours: float | None, peer: str, value: float | None, unit: str) -> dict[str, Any]:
    return {
        "case": case,
        "ours": None if ours is None else round(ours, 2),
        "peer": peer,
        "peer_value": None if value is None else round(value, 2),
        "ratio": round(ours / value, 3) if ours is not None and value else None,
        "unit": unit,
    }


def _print(rows: Sequence[dict[str, Any]]) -> None:
    table = Table("case", "ours", "peer", "its value", "ratio", "target", "unit")
    for row in rows:
        target = "" if "target" not in row else f"{row['target']:g} {'met' if row['met'] else 'MISSED'}"
        numbers = ["" if row[key] is None else f"{row[key]:,.4g}" for key in ("ours", "peer_value", "ratio")]
        table.add_row(row["case"], numbers[0], row["peer"], numbers[1], numbers[2], target, row["unit"])
    console = Console()
    console.width = max(console.width, 140)
    where = machine()
    console.print(f"{where['processor']}, {where['cores']} cores, load {where['load']}", table)
    judged = [row for row in rows if "target" in row]
    console.print(f"{sum(row['met'] for row in judged)} of {len(judged)} targets met")
    rates = [row for row in rows if row["unit"] == "instances/s"]
    limits = [row["ratio"] for row in rates if row["peer"] == LIMIT and row["ratio"] is not None]
    if limits:
        console.print(f"{100 * median(limits):.0f} % of the machine's limit in the median cell")
    for row in rows:
        if "error" in row:
            console.print(f"ERROR  {row['case']}, {row['peer']}: {row['error']}")


def machine() -> dict[str, Any]:
    """Where it was measured."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": [round(each, 1) for each in os.getloadavg()],
        "python": platform.python_version(),
        "system": platform.system(),
    }


if __name__ == "__main__":
    sys.exit(main())
