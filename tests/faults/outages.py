"""What a receiver lives on goes away and comes back: `python -m tests.faults.outages --rounds N`.

The disk is full, read-only or fails to sync, the database is locked or down, handles run out, the clock is set back.
Senders go on all the while. Each outage has to be told to them with a status or a rejection that means "later", nothing
that was acknowledged may be lost, and the same processes have to go on when it is over. A full disk is a real one
(tmpfs) when root runs this; the rest is done to the process by broken_disk.c, by prlimit and by a second writer.
"""

import argparse
import errno
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import geteuid, posix_fallocate
from pathlib import Path
from typing import Any

import psutil

from tests.faults.harness import Gateway, wait_for
from tests.faults.receiving import Findings, compare
from tests.faults.senders import Senders, Told
from tests.peers_postgres import PostgresqlServer, postgresql_programs, postgresql_server
from tests.wire import SUCCESS

SHIM = Path(__file__).with_name("broken_disk.c")
ORDER = "SCANWARDEN_TEST_DISK"
SENDERS = 4
DISK_BYTES = 512 * 1024**2
LATER = {0xA700, 0xA701, 0x0110}  # out of resources (PS3.4 B.2.3); processing failure (PS3.7 C.5.15)
TRANSIENT = 2  # PS3.8 table 9-21
BUSY_TIMEOUT = 1.0
LONGEST_EFFECT, LONGEST_RECOVERY = 15.0, 45.0
DAY = 86400


def compiler() -> str | None:
    """A C compiler, which broken_disk.c takes."""
    return shutil.which("cc") or shutil.which("gcc")


@dataclass
class Site:
    """A service, and where to break what it stands on."""

    gateway: Gateway
    senders: Senders
    root: Path
    order: Path
    mounted: bool
    server: PostgresqlServer | None = None

    def orders(self, calls: str, fault: int, part: str = "", seconds: int = 0) -> None:
        """Make calls that concern `part` of the store fail; see broken_disk.c."""
        new = self.order.with_suffix(".new")
        new.write_text(f"{calls} {fault} {self.root}{part} {seconds}")
        new.rename(self.order)


@dataclass(frozen=True)
class Outage:
    """A way to break it, for as long as the block lasts; `refuses` unless nobody should notice."""

    name: str
    breaks: Callable[[Site], Any]
    refuses: bool = True


@dataclass
class Report:
    """One outage as the senders saw it."""

    name: str
    told: Told
    recovery_seconds: float
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.name}: {self.told.words()}; accepting again after {self.recovery_seconds:.1f} s"


@contextmanager
def disk_full(site: Site) -> Iterator[None]:
    """No byte is left."""
    ballast = site.root / "ballast"
    with ballast.open("wb") as file:
        free = shutil.disk_usage(site.root).free
        while free:
            try:
                posix_fallocate(file.fileno(), file.seek(0, 2), free)
            except OSError as fault:
                if fault.errno != errno.ENOSPC:
                    raise
                free //= 2
    yield
    ballast.unlink()


@contextmanager
def ordered(site: Site, calls: str, fault: int, part: str = "", seconds: int = 0) -> Iterator[None]:
    """Calls fail."""
    site.orders(calls, fault, part, seconds)
    yield
    site.order.unlink()


@contextmanager
def database_locked(site: Site) -> Iterator[None]:
    """Another writer holds SQLite's only lock for longer than we wait."""
    other = sqlite3.connect(site.root / "scanwarden.sqlite", isolation_level=None, timeout=20)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.execute("ROLLBACK")
    other.close()


@contextmanager
def out_of_handles(site: Site) -> Iterator[None]:
    """No acceptor may open anything more."""
    before = []
    for process in site.gateway.processes("receive"):
        soft, hard = process.rlimit(psutil.RLIMIT_NOFILE)
        before.append((process, soft, hard))
        process.rlimit(psutil.RLIMIT_NOFILE, (process.num_fds() + 1, hard))
    yield
    for process, soft, hard in before:
        process.rlimit(psutil.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def database_down(site: Site) -> Iterator[None]:
    """PostgreSQL is stopped at once and started again."""
    assert site.server is not None
    site.server.stop()
    yield
    site.server.start()


ON_SQLITE = (
    Outage("full disk", lambda site: disk_full(site) if site.mounted else ordered(site, "wo", errno.ENOSPC)),
    Outage("no space at a write", lambda site: ordered(site, "w", errno.ENOSPC)),
    Outage("read-only disk", lambda site: ordered(site, "wor", errno.EROFS)),
    Outage("fsync of a file fails", lambda site: ordered(site, "s", errno.EIO, "/instances")),
    Outage("fsync of the database fails", lambda site: ordered(site, "s", errno.EIO, "/scanwarden.sqlite")),
    Outage("database locked by another writer", database_locked),
    Outage("out of file handles", out_of_handles),
    Outage("clock set back a day", lambda site: ordered(site, "-", 0, "", -DAY), refuses=False),
)
ON_POSTGRESQL = (Outage("PostgreSQL down", database_down),)


def rounds(
    number: int, folder: Path, seed: int, *, seconds: float = 0, tell: Callable[[str], None] = lambda _: None
) -> Findings:
    """Go `number` times through every outage, on SQLite and, where it is installed, on PostgreSQL.

    Each lasts until the senders have met it, and for `seconds` at least.
    """
    with site(folder / "sqlite", seed) as place:
        findings = outages(ON_SQLITE, number, place, seconds, tell)
    programs = postgresql_programs()
    if programs is None:
        tell("PostgreSQL is not installed: its outage is left out")
        return findings
    with postgresql_server(programs) as server, site(folder / "postgresql", seed, server=server) as place:
        return findings + outages(ON_POSTGRESQL, number, place, seconds, tell)


@contextmanager
def site(folder: Path, seed: int, *, server: PostgresqlServer | None = None) -> Iterator[Site]:
    """A service on a disk and a database of its own, with senders."""
    root = folder / "var"
    root.mkdir(parents=True)
    mounted = geteuid() == 0 and _mount(root)
    shim = folder / "broken_disk.so"
    found = compiler()
    if found is None:
        raise RuntimeError("no C compiler for tests/faults/broken_disk.c (apt-get install gcc)")
    subprocess.run([found, "-shared", "-fPIC", "-O1", "-o", str(shim), str(SHIM), "-ldl"], check=True)
    store, database = {"reserve_bytes": 0}, {"busy_timeout": BUSY_TIMEOUT}
    gateway = Gateway(folder, url=server.new_database() if server else None, store=store, database=database)
    order = folder / "order"
    senders = None
    try:
        gateway.start(roles="receive", environment={"LD_PRELOAD": str(shim), ORDER: str(order)})
        senders = Senders(gateway.port, SENDERS, seed)
        yield Site(gateway, senders, root, order, mounted, server)
    finally:
        if senders is not None:
            senders.end()
        gateway.kill()
        if mounted:
            subprocess.run(["umount", "-l", str(root)], check=False)


def _mount(root: Path) -> bool:
    """A disk of its own, so that it can be full; False where containers forbid it."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(root)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def outages(kinds: Sequence[Outage], number: int, place: Site, seconds: float, tell: Callable[[str], None]) -> Findings:
    """Go `number` times through outages at one place, which is stopped and compared at the end."""
    faults: list[str] = []
    _acknowledges(place, place.senders.now(), 20, LONGEST_RECOVERY)
    pids = {each.pid for each in place.gateway.processes("receive")}
    for _ in range(number):
        for outage in kinds:
            report = _outage(outage, place, seconds)
            tell(str(report))
            faults += [f"{outage.name}: {fault}" for fault in report.faults]
    if pids != {each.pid for each in place.gateway.processes("receive")}:
        faults.append("a process was started again")
    place.senders.rest()
    wait_for(lambda: place.senders.idle, 60, "everything that was begun is acknowledged")
    code = place.gateway.stop()
    if code != 0:
        faults.append(f"the service ended with {code}")
    findings = compare(place.gateway, place.senders.told)
    findings.kills, findings.faults = number * len(kinds), [*findings.faults, *faults]
    return findings


def _outage(outage: Outage, place: Site, seconds: float) -> Report:
    before = place.senders.now()
    faults = []
    with outage.breaks(place):
        begun, told, met = time.monotonic(), Told(), False
        while not met and time.monotonic() < begun + max(seconds, LONGEST_EFFECT):
            time.sleep(0.05)
            told = place.senders.since(before)
            met = (_refusals(told) >= 10) if outage.refuses else (len(told.acknowledged) >= 50)
        time.sleep(max(0.0, begun + seconds - time.monotonic()))
        told = place.senders.since(before)
        if not met:
            faults.append(f"had no effect: {told.words()}" if outage.refuses else f"stopped us: {told.words()}")
    wrong = {status for status in told.statuses if status != SUCCESS} - LATER
    faults += [f"answered with {status:#06x}" for status in sorted(wrong)]
    faults += [f"rejected for good: {reason}" for reason in told.rejections if reason[0] != TRANSIENT]
    if told.unanswered:
        faults.append(f"{told.unanswered} left without an answer")
    if not outage.refuses and _refusals(told):
        faults.append(f"was noticed: {told.words()}")
    begun = time.monotonic()
    if not _acknowledges(place, place.senders.now(), 20, LONGEST_RECOVERY):
        faults.append(f"no recovery within {LONGEST_RECOVERY:.0f} s")
    return Report(outage.name, told, time.monotonic() - begun, faults)


def _refusals(told: Told) -> int:
    refused = sum(count for status, count in told.statuses.items() if status != SUCCESS)
    return refused + sum(told.rejections.values()) + told.broken


def _acknowledges(place: Site, before: Told, count: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while len(place.senders.since(before).acknowledged) < count:
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1, help="how often each outage happens")
    parser.add_argument("--seconds", type=float, default=0, help="how long each lasts at least")
    parser.add_argument("--seed", type=int, default=1, help="for what the senders choose")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scanwarden-outages-") as folder:
        findings = rounds(
            chosen.rounds,
            Path(folder),
            chosen.seed,
            seconds=chosen.seconds,
            tell=lambda text: print(text, file=sys.stderr, flush=True),
        )
    for fault in findings.all:
        print(fault)
    print(str(findings).replace("kills", "outages"))
    return 1 if findings.all else 0


if __name__ == "__main__":
    sys.exit(main())
