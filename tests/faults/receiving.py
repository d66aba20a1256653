"""SIGKILL to the receive path: `python -m tests.faults.receiving --rounds N`, ends in what was acknowledged and found.

Half of the kills fall at the numbered points of storage/points.py, each in turn, the others at random moments; some end
the whole service, some one acceptor under a living supervisor. Senders go on all the while. At the end, what they were
told is held against disk, index and ledger. `--services` runs so many services beside each other, each with its own
store, so that a start of one overlaps the life of another.
"""

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import cycle, islice
from pathlib import Path

import psutil
from sqlalchemy import select

from config.settings import Dicom
from storage.points import Point
from storage.tables import Instance, LedgerRow
from tests.faults.harness import Gateway, wait_for
from tests.faults.senders import Senders, Told
from tests.synthetic import dataset_of

SENDERS = 4
LONGEST_LIFE = 1.5  # seconds from the opening of the port to a random kill
DEATHS_OF_A_LIFE = 4  # kills of acceptors before the whole service is killed too
PATIENCE = 60.0
# A point that most instances pass is met after some of them; a repeat is settled now and then only.
RARE = {Point.SETTLED: 1}


@dataclass
class Findings:
    """What the comparison found; every list is empty when all promises held."""

    kills: int = 0
    acknowledged: int = 0
    lost: list[str] = field(default_factory=list)
    partial: list[str] = field(default_factory=list)
    ledger: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def __add__(self, other: "Findings") -> "Findings":
        return Findings(
            self.kills + other.kills,
            self.acknowledged + other.acknowledged,
            self.lost + other.lost,
            self.partial + other.partial,
            self.ledger + other.ledger,
            self.faults + other.faults,
        )

    @property
    def all(self) -> list[str]:
        return [*self.lost, *self.partial, *self.ledger, *self.faults]

    def __str__(self) -> str:
        found = self.acknowledged - len(self.lost)
        return (
            f"{self.kills} kills: {self.acknowledged} acknowledged, {found} found, {len(self.lost)} lost, "
            f"{len(self.partial)} partial, {len(self.ledger)} ledger breaks"
        )


class Victim:
    """A service that is killed again and again while senders use it."""

    def __init__(self, folder: Path, number: int, points: Iterator[Point], seed: int, first: int = 0) -> None:
        """`first`: with which kind of life it begins, so that services beside each other differ."""
        self._points, self._left, self.kills, self._first = points, number, 0, first
        self._chance = random.Random(seed)  # noqa: S311 - no secret
        dicom = {"acceptors": 2} if "acceptors" in Dicom.model_fields else {}
        self.gateway = Gateway(folder, dicom=dicom)
        self.senders = Senders(self.gateway.port, SENDERS, seed)
        self.faults: list[str] = []

    def run(self, tell: Callable[[], None]) -> Findings:
        """Kill, then let the senders finish what they owe, and compare."""
        kinds = (self._service_at_a_point, self._acceptors_at_random, self._acceptors_at_a_point, self._at_random)
        lives = islice(cycle(kinds), self._first, None)
        try:
            while self.kills < self._left:
                before = self.kills
                next(lives)()
                self.gateway.kill()
                for _ in range(before, self.kills):
                    tell()
            self.gateway.start(roles="receive")
            self.senders.rest()
            wait_for(lambda: self.senders.idle, 120, "everything that was begun is acknowledged")
            code = self.gateway.stop()
        finally:
            self.senders.end()
            self.gateway.kill()
        if code != 0:
            self.faults.append(f"the service ended with {code}")
        findings = compare(self.gateway, self.senders.told)
        findings.kills, findings.faults = self.kills, [*findings.faults, *self.faults]
        return findings

    def _service_at_a_point(self) -> None:
        point = next(self._points)
        self.gateway.start(kill_at=point, kill_after=self._passing(point), roles="receive")
        if not self.gateway.died(PATIENCE):
            self.faults.append(f"the service never came to {point}")
        self.kills += 1

    def _at_random(self) -> None:
        self.gateway.start(wait=self._chance.random() < 0.8, roles="receive")
        time.sleep(self._chance.uniform(0, LONGEST_LIFE))
        self.gateway.kill()
        self.kills += 1

    def _acceptors_at_a_point(self) -> None:
        point = next(self._points)
        self.gateway.start(kill_at=point, kill_after=self._passing(point), kill_alone=True, roles="receive")
        born: set[psutil.Process] = set()
        end = time.monotonic() + PATIENCE
        while len(gone := {each for each in born if not each.is_running()}) < 2:
            born.update(self.gateway.processes("receive"))
            if time.monotonic() > end:
                break
            time.sleep(0.02)
        if not gone:
            self.faults.append(f"no acceptor came to {point}")
        self._and_the_rest(len(gone))

    def _acceptors_at_random(self) -> None:
        self.gateway.start(kill_alone=True, roles="receive")
        deaths = 0
        for _ in range(DEATHS_OF_A_LIFE):
            with suppress(AssertionError):
                wait_for(lambda: self.gateway.processes("receive"), 5, "an acceptor lives")
            time.sleep(self._chance.uniform(0, LONGEST_LIFE))
            for victim in self.gateway.processes("receive")[:1]:
                with suppress(psutil.NoSuchProcess):
                    victim.kill()
                    deaths += 1
        self._and_the_rest(deaths)

    def _and_the_rest(self, deaths: int) -> None:
        if not self.gateway.runs:
            self.faults.append("the supervisor ended with its acceptor")
        time.sleep(self._chance.uniform(0, 0.3))
        self.gateway.kill()
        self.kills += deaths + 1

    def _passing(self, point: Point) -> int:
        return RARE.get(point) or self._chance.randint(1, 20)


def compare(gateway: Gateway, told: Told) -> Findings:
    """Hold what the senders were told against disk, index and ledger.

    Each row's file is whole, and one that was sent; each acknowledged copy has its row and its event; the chain holds.
    """
    found = Findings(acknowledged=len(told.acknowledged))
    with gateway.app() as app, app.database.reading() as session:
        rows = session.scalars(select(Instance)).all()
        written = {
            (row.subject, json.loads(row.details).get("file_sha256"))
            for row in session.scalars(select(LedgerRow).where(LedgerRow.event.like("instance-%")))
        }
        held: dict[tuple[str, str], str] = {}
        for row in rows:
            file = app.store.locate(row.path)
            content = file.read_bytes() if file.is_file() else b""
            if len(content) != row.size or sha256(content).hexdigest() != row.file_sha256:
                found.partial.append(f"{row.sop_instance_uid}: {len(content)} bytes on disk, {row.size} in the index")
                continue
            copy = row.sop_instance_uid, sha256(dataset_of(content)).hexdigest()
            if copy not in told.sent:
                found.faults.append(f"{row.sop_instance_uid}: nobody sent what is in the index")
            if copy in held:
                found.faults.append(f"{row.sop_instance_uid}: the same copy is in the index twice")
            held[copy] = row.file_sha256
        verification = app.ledger.verify()
    found.lost = [uid for uid, digest in told.acknowledged if (uid, digest) not in held]
    found.ledger = [f"{uid}: no event names it" for (uid, _), digest in held.items() if (uid, digest) not in written]
    if not verification.intact:
        found.ledger.append(f"ledger: {verification.broken}")
    return found


def rounds(number: int, folder: Path, seed: int, *, services: int = 1, report: bool = False) -> Findings:
    """Kill `number` times, over so many services at once, and compare."""
    points, lock = cycle(Point), threading.Lock()
    done = 0

    def next_points() -> Iterator[Point]:
        while True:
            with lock:
                point = next(points)
            yield point

    def tell() -> None:
        nonlocal done
        with lock:
            done += 1
        if report:
            print(f"\r{done} kills, of {number} at least", end="", file=sys.stderr, flush=True)

    found: list[Findings] = []

    def run(each: int) -> None:
        own = folder / str(each)
        own.mkdir()
        share = number // services + (each < number % services)
        try:
            found.append(Victim(own, share, next_points(), seed + 1000 * each, first=2 * each).run(tell))
        except Exception as fault:  # noqa: BLE001 - a harness that fails has found something
            found.append(Findings(faults=[f"service {each}: {type(fault).__name__}: {fault}"]))

    threads = [threading.Thread(target=run, args=(each,)) for each in range(services)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(found, Findings())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=48, help="how often something is killed")
    parser.add_argument("--services", type=int, default=2, help="services beside each other")
    parser.add_argument("--seed", type=int, default=None, help="to repeat a run's choices, not its timing")
    chosen = parser.parse_args()
    seed = chosen.seed if chosen.seed is not None else random.randrange(1 << 30)  # noqa: S311
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="scanwarden-receiving-") as folder:
        findings = rounds(chosen.rounds, Path(folder), seed, services=chosen.services, report=True)
    print(f"\n{time.monotonic() - begun:.0f} s", file=sys.stderr)
    for fault in findings.all:
        print(fault)
    if findings.all:
        print(f"seed {seed}")
    print(findings)
    return 1 if findings.all else 0


if __name__ == "__main__":
    sys.exit(main())
