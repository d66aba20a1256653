"""Kills the sender of audit messages, and takes the collector away: `python -m tests.faults.syslog --rounds N`.

A real rsyslog over TLS collects. Events are appended all the time; a process that sends them gets SIGKILL at a random
moment, again and again, and now and then the collector is stopped. Then the collector is down while an hour's events
are appended. What it holds in the end is compared with the ledger, record by record.
"""

import argparse
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from config import Settings
from storage import AuditEvent, AuditEventType, Database, Ledger, peer_actor
from storage.audit import spool
from storage.audit.ledger import append
from tests.peers_rsyslog import Rsyslog

HOUR = 3600  # events: one a second
LONGEST = 0.3  # seconds until a kill: start, handshake, batch, confirmation and rest all lie below


@dataclass(frozen=True)
class Outcome:
    """What the collector holds beside what the ledger holds."""

    events: int
    received: int
    lost: int
    repeated: int
    disordered: int
    forged: int
    around: str = ""
    """The numbers as written around the first one that is out of order, and where the collector was stopped."""

    @property
    def good(self) -> bool:
        return not (self.lost or self.disordered or self.forged)

    def __str__(self) -> str:
        return (
            f"{self.events} events, {self.received} received, {self.lost} lost, {self.repeated} repeated, "
            f"{self.disordered} out of order, {self.forged} unknown{self.around}"
        )


class Trial:
    """One ledger, one collector, and a sender that is killed."""

    def __init__(self, folder: Path, seed: int = 0, driver: str = "ossl") -> None:
        self.random = random.Random(seed)  # noqa: S311 - moments of a test
        self.url = f"sqlite:///{folder}/scanwarden.sqlite"
        self.database = Database(self.url, busy_timeout=30)
        self.database.migrate()
        self.rsyslog = Rsyslog(folder / "rsyslog", driver)
        self.rsyslog.start()
        collector = self.rsyslog.collector(batch=40, backoff_limit=1).model_dump(mode="json")
        self.settings = {"audit": {"collectors": [collector], "collect_interval": 0.02}}
        self._stops: list[int] = []  # messages that it had written when it was stopped
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload(["gateway.audit.exporter"])

    def append(self, count: int) -> None:
        """Events as a receiver would write them, several to a transaction."""
        event = AuditEvent(
            AuditEventType.INSTANCE_STORED, peer_actor("MR1", "10.1.2.3"), study_uid="1.2", subject="1.3"
        )
        while count > 0:
            some = min(count, self.random.randint(1, 8))
            with self.database.transaction() as session:
                append(session, [event] * some)
            count -= some

    def sender(self) -> BaseProcess:
        """A process that sends until it is killed."""
        process = self._processes.Process(target=_send, args=(self.url, self.settings), daemon=True)
        process.start()
        return process

    def round(self) -> None:
        """Append, send, and kill at a random moment; in one of 25 rounds the collector is away meanwhile."""
        away = self.random.random() < 0.04
        if away:
            self._stop()
        self.append(self.random.randint(1, 60))
        process = self.sender()
        end = time.monotonic() + self.random.uniform(0, LONGEST)
        while time.monotonic() < end:
            self.append(self.random.randint(1, 5))
            time.sleep(self.random.uniform(0, 0.02))
        _kill(process)
        if away:
            self.rsyslog.start()

    def outage(self, events: int) -> None:
        """The collector is down while so many events are appended; the sender tries all the time."""
        self._stop()
        process = self.sender()
        self.append(events)
        self.rsyslog.start()
        self._drain()
        _kill(process)

    def finish(self, seconds: float = 120) -> Outcome:
        """Let a sender that nobody kills send the rest, and compare."""
        process = self.sender()
        self._drain(seconds)
        _kill(process)
        self.rsyslog.eventually_has(Ledger(self.database).head().seq)
        self.rsyslog.stop()
        ledger = [(record.seq, record.hash) for record in Ledger(self.database).records()]
        received = self.rsyslog.records()
        first = list(dict.fromkeys(received))
        return Outcome(
            events=len(ledger),
            received=len(set(ledger) & set(received)),
            lost=len(set(ledger) - set(received)),
            repeated=len(received) - len(first),
            disordered=sum(one > other for (one, _), (other, _) in pairwise(first)),
            forged=len(set(received) - set(ledger)),
            around=self._around(received),
        )

    def _around(self, received: list[tuple[int, str]]) -> str:
        seen: set[tuple[int, str]] = set()
        newest = 0
        for place, record in enumerate(received):
            if record not in seen and record[0] < newest:
                near = [number for number, _ in received[max(0, place - 90) : place + 10]]
                return f"; message {place} is {record[0]}, after {near}; the collector stopped after {self._stops}"
            seen.add(record)
            newest = max(newest, record[0])
        return ""

    def _stop(self) -> None:
        self.rsyslog.stop()
        self._stops.append(len(self.rsyslog.sequence()))

    def close(self) -> None:
        self.rsyslog.stop()
        self.database.close()

    def _drain(self, seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with self.database.reading() as session:
                state = spool.states(session, ["archive"])[0]
            if state.waiting == 0 and state.failing_since is None:
                return
            time.sleep(0.05)


def _send(url: str, settings: dict[str, Any]) -> None:
    from gateway.audit.exporter import Exporter

    Exporter(Settings.model_validate(settings), Database(url, busy_timeout=30)).start()
    time.sleep(600)


def _kill(process: BaseProcess) -> None:
    if process.pid is not None:
        os.kill(process.pid, signal.SIGKILL)
    process.join()


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.syslog", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--driver", choices=["ossl", "gtls"], default="ossl", help="rsyslog's TLS library")
    parser.add_argument("--outage", type=int, default=HOUR, help="events while the collector is down; 0: no outage")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="scanwarden-syslog-", ignore_cleanup_errors=True) as folder:
        trial = Trial(Path(folder), chosen.seed, chosen.driver)
        try:
            for number in range(1, chosen.rounds + 1):
                trial.round()
                if number % 20 == 0:
                    print(f"{number} kills, {len(trial.rsyslog.sequence())} messages received", flush=True)
            if chosen.outage:
                trial.outage(chosen.outage)
            outcome = trial.finish()
        finally:
            trial.close()
    print(f"{chosen.rounds} kills, {chosen.outage} events while the collector was down: {outcome}")
    return 0 if outcome.good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
