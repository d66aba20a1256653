"""SIGKILL at random: `python -m tests.faults.kills --rounds N`, ends in what was acknowledged, found and lost.

In each round the service starts, studies arrive, and supervisor or one role dies at some moment between the start and
the delivery. What was not acknowledged is sent again, as a modality would.
"""

import argparse
import random
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

from tests.faults.harness import Archive, Findings, Gateway, compare, settled, wait_for
from tests.faults.modality import SentStudy, make_study, send

LONGEST_LIFE = 9.0
ROLES = ("receive", "analyse", "deliver", "timetable")


class Modality(threading.Thread):
    """Sends its studies until every instance is acknowledged."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._waiting: list[SentStudy] = []
        self._lock = threading.Lock()
        self.acknowledged: set[str] = set()
        self.start()

    def offer(self, study: SentStudy) -> None:
        with self._lock:
            self._waiting.append(study)

    @property
    def idle(self) -> bool:
        with self._lock:
            return not self._waiting

    def run(self) -> None:
        while True:
            with self._lock:
                study = self._waiting[0] if self._waiting else None
            if study is None:
                time.sleep(0.05)
                continue
            files = [file for file in study.files if file.stem not in self.acknowledged]
            self.acknowledged |= {file.stem for file in send(files, self._port)}
            if all(file.stem in self.acknowledged for file in study.files):
                with self._lock:
                    self._waiting.pop(0)
            else:
                time.sleep(0.2)


def rounds(number: int, folder: Path, seed: int, *, url: str | None = None, report: bool = False) -> Findings:
    """Kill the service `number` times and compare."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    archive = Archive()
    with archive.running():
        gateway = Gateway(folder, [archive], url=url)
        modality = Modality(gateway.port)
        studies = 0
        for done in range(number):
            if not gateway.runs:
                gateway.start(wait=chance.random() < 0.7)
            for _ in range(chance.randint(0, 2)):
                modality.offer(make_study(folder, edited=chance.random() < 0.5, seed=chance.randrange(1 << 30)))
                studies += 1
            time.sleep(chance.uniform(0, LONGEST_LIFE))
            victim = gateway.role(chance.choice(ROLES)) if chance.random() < 0.4 else None
            if victim is not None:
                with suppress(psutil.NoSuchProcess):
                    victim.kill()
            else:
                gateway.kill()
            if report:
                print(
                    f"\r{done + 1} of {number} kills, {len(modality.acknowledged)} acknowledged",
                    end="",
                    file=sys.stderr,
                )
        if not gateway.runs:
            gateway.start()
        wait_for(lambda: modality.idle, 120, "everything is acknowledged")
        wait_for(lambda: settled(gateway, studies), 240, "every revision is done")
        code = gateway.stop()
        findings = compare(gateway, [archive], modality.acknowledged)
    if code != 0:
        findings.faults.append(f"the service ended with {code}")
    return findings


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="how often the service is killed")
    parser.add_argument("--seed", type=int, default=None, help="to repeat a run's choices, not its timing")
    chosen = parser.parse_args()
    seed = chosen.seed if chosen.seed is not None else random.randrange(1 << 30)  # noqa: S311
    with tempfile.TemporaryDirectory(prefix="scanwarden-kills-") as folder:
        findings = rounds(chosen.rounds, Path(folder), seed, report=True)
    print(file=sys.stderr)
    for fault in (*findings.lost, *findings.faults):
        print(fault)
    if findings.lost or findings.faults:
        print(f"seed {seed}")
    print(findings)
    return 1 if findings.lost or findings.faults else 0


if __name__ == "__main__":
    sys.exit(main())
