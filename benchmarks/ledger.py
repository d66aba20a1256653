"""What the ledger costs and how fast it is verified: `python -m benchmarks.ledger [--json] [--quick]`.

Appending: instances are kept and indexed as the receiver does it (rename, fsync, fsync, one transaction of
`Database.direct` for what arrives together), with the ledger and with its append left out, in turns. Verification: the
whole of chain, tree and checkpoints on one core, by its CPU time and its wall time. There is no peer with a ledger;
where a limit was set by the project, it stands as the peer's value.
"""

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from rich.console import Console
from rich.table import Table

from storage import AuditEvent, AuditEventType, Database, InstanceFacts, InstanceStore, record_instances
from storage.audit.archive import Archive
from storage.audit.checkpoints import Checkpoints
from storage.audit.keys import KeyFolder
from storage.audit.ledger import append
from storage.audit.tree import prove
from storage.audit.verification import verify_ledger

ACTOR = "user:benchmark"
INSTANCE_BYTES = 512 * 1024  # a CT slice of 512 × 512 pixels of 16 bits


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="small sizes, under a minute")
    parser.add_argument("--events", type=int, help="events to verify (default 1,000,000)")
    parser.add_argument("--folder", type=Path, help="where to work (default: the system's temporary folder)")
    chosen = parser.parse_args()
    events = chosen.events or (20_000 if chosen.quick else 1_000_000)
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        folder = Path(name)
        rows = [
            *(row for batch in (1, 16) for row in ingest(folder, batch, rounds=4 if chosen.quick else 12)),
            *verification(folder, events),
        ]
    if chosen.json:
        print(json.dumps({"name": "ledger", "machine": machine(), "rows": rows}))
        return
    table = Table("case", "ours", "peer", "peer's value", "ratio", "unit")
    for row in rows:
        table.add_row(row["case"], *(_number(row[key]) for key in ("ours", "peer", "peer_value", "ratio")), row["unit"])
    console = Console()
    console.width = max(console.width, 130)
    console.print(f"{machine()['processor']}, {machine()['cores']} cores, load {machine()['load']}", table)


def ingest(folder: Path, batch: int, rounds: int) -> Iterator[dict[str, Any]]:
    """Instances a second, with the ledger and without, in turns so that both meet the same disk."""
    store = InstanceStore(folder / f"store-{batch}", high_watermark=1.0, low_watermark=1.0, reserve_bytes=0)
    rates: dict[bool, list[float]] = {True: [], False: []}
    with Database(f"sqlite:///{folder}/ingest-{batch}.sqlite") as database:
        database.migrate()
        content = os.urandom(INSTANCE_BYTES)
        number = 0
        for turn in range(2 * rounds + 2):
            with_ledger = turn % 2 == 0
            with ledger_or_not(with_ledger):
                begun = time.perf_counter()
                for _ in range(32 // batch):
                    receive(store, database, content, range(number, number + batch))
                    number += batch
                rate = 32 / (time.perf_counter() - begun)
            if turn >= 2:  # the first two warm up
                rates[with_ledger].append(rate)
    shutil.rmtree(store.root)
    ours, without = median(rates[True]), median(rates[False])
    cost = 100 * (1 - ours / without)
    yield row(f"ingest with the ledger, {batch} in a transaction", ours, "without the ledger", without, "instances/s")
    yield row(f"cost of appending, {batch} in a transaction", cost, "limit", 10.0, "%")


def receive(store: InstanceStore, database: Database, content: bytes, numbers: range) -> None:
    """Keep and index instances that arrive together."""
    arrivals = []
    for number in numbers:
        uid = f"1.2.826.0.1.3680043.8.498.{number}"
        with store.incoming() as upload:
            upload.write(content)
            arrivals.append((upload.keep(uid), facts(uid, number)))
    with database.direct() as session:
        record_instances(session, arrivals)


def facts(uid: str, number: int) -> InstanceFacts:
    study = f"1.2.826.0.1.3680043.8.498.7.{number // 200}"
    return InstanceFacts(
        sop_instance_uid=uid,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        study_uid=study,
        series_uid=f"{study}.1",
        transfer_syntax="1.2.840.10008.1.2.1",
        source_ae="SCANNER",
        source_address="10.0.0.7",
    )


@contextmanager
def ledger_or_not(with_ledger: bool) -> Iterator[None]:
    """The same code, with the append taken out when asked."""
    if with_ledger:
        yield
    else:
        with patch("storage.reception.append", lambda _session, _events: []):
            yield


def verification(folder: Path, events: int) -> Iterator[dict[str, Any]]:
    """Fill a ledger, sign it, verify it, prove from it."""
    with Database(f"sqlite:///{folder}/ledger.sqlite") as database:
        database.migrate()
        checkpoints = Checkpoints(Archive(database, folder / "ledger"), KeyFolder(folder / "keys"))
        appending = timed(lambda: fill(database, events))
        yield row(f"append {events:,} events, 1,000 in a transaction", events / appending[0], None, None, "events/s")
        signing = timed(lambda: checkpoints.take(ACTOR))
        yield row(f"first checkpoint over {events:,} events", signing[0], None, None, "s")
        fill(database, 500)
        again = timed(lambda: checkpoints.take(ACTOR))
        yield row("checkpoint 500 events later", again[0], None, None, "s")
        progress = Progress(events)
        walls, cores, found = measured(lambda: verify_ledger(checkpoints, progress=progress))
        assert found.intact, found.breaks
        limit = 60.0 * events / 1_000_000
        yield row(f"verify {events:,} events, CPU time of the one core", cores, "limit", limit, "s")
        yield row(f"verify {events:,} events, wall time", walls, "limit", limit, "s")
        newest = checkpoints.covering(events // 2)
        seconds, proof = timed(lambda: prove(checkpoints.archive, events // 2, newest))
        size = len(json.dumps(proof, separators=(",", ":")))
        yield row(f"proof of one of {events:,} events, with its checkpoint", size, "limit", 2048, "bytes")
        whole = {"record": checkpoints.archive.record(events // 2).to_json(), "proof": proof}
        size = len(json.dumps(whole, separators=(",", ":")))
        yield row("the same with the record that it proves", size, None, None, "bytes")
        yield row("time to make it", seconds, None, None, "s")
        file = (folder / "ledger.sqlite").stat().st_size
        yield row("database", file / events, None, None, "bytes/event")


def fill(database: Database, events: int) -> None:
    """Events as a receiver records them."""
    for start in range(0, events, 1000):
        with database.transaction() as session:
            append(session, [event(number) for number in range(start, min(start + 1000, events))])


def event(number: int) -> AuditEvent:
    study = f"1.2.826.0.1.3680043.8.498.7.{number // 200}"
    return AuditEvent(
        AuditEventType.INSTANCE_STORED,
        actor="SCANNER@10.0.0.7",
        study_uid=study,
        subject=f"1.2.826.0.1.3680043.8.498.{number}",
        details={
            "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
            "series_uid": f"{study}.1",
            "transfer_syntax": "1.2.840.10008.1.2.1",
            "file_sha256": f"{number:064x}",
            "size": 526_336,
        },
    )


class Progress:
    """A line on standard error every tenth."""

    def __init__(self, events: int) -> None:
        self._step = max(1, events // 10)
        self._next = self._step

    def __call__(self, done: int) -> None:
        if done >= self._next:
            print(f"verified {done:,}", file=sys.stderr)
            self._next += self._step


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.perf_counter()
    result = work()
    return time.perf_counter() - begun, result


def measured(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Wall seconds, CPU seconds of this process, result."""
    core = time.process_time()
    wall, result = timed(work)
    return wall, time.process_time() - core, result


def row(case: str, ours: float, peer: str | None, value: float | None, unit: str) -> dict[str, Any]:
    ratio = None if not value else round(ours / value, 4)
    return {"case": case, "ours": round(ours, 4), "peer": peer, "peer_value": value, "ratio": ratio, "unit": unit}


def machine() -> dict[str, Any]:
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": [round(each, 1) for each in os.getloadavg()],
        "python": platform.python_version(),
        "system": platform.system(),
    }


def _number(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.3f}".rstrip("0").rstrip(".")
    return "" if value is None else str(value)


if __name__ == "__main__":
    main()
