"""Mutated associations and files beside a sound sender: `python -m tests.faults.fuzz --rounds N`, ends in one line.

Associations recorded from real transfers are broken in every way that `mutation` knows and sent to a running receive
role, so many a second as `--rate` says; beside them a sender that does it right stores one new MR image after the
other. Blocks with and without the fuzzer alternate, so that the sound sender's rate is compared with its own of a
moment ago. Counted: processes that died, connections that were neither answered nor closed in time, growth of memory,
what was acknowledged and is gone.
"""

import argparse
import asyncio
import random
import re
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psutil
from pydicom import dcmread
from sqlalchemy import select

from storage.digests import file_digest
from storage.tables import Instance
from tests.faults.harness import REPOSITORY, Gateway
from tests.faults.modality import make_study
from tests.faults.mutation import Pdus, mutated, record

LIMITS = {"acse_timeout": 2, "dimse_timeout": 2, "idle_timeout": 3}
LATE = max(LIMITS.values()) + 5.0  # seconds of silence after which a connection counts as hanging
BLOCK = 8.0  # seconds with the fuzzer, after
ALONE = 3.0  # seconds without
MOST_AT_ONCE = 100
# Which senders stay silent at the end, as a peer that vanished; the others close their side or all of it.
SILENT, ABRUPT = 0.05, 0.15
SENDER = (sys.executable, "-m", "tests.faults.fuzz", "--sender")
_LINE = 65  # bytes of a line of the sound sender's record


@dataclass
class Findings:
    """What a run found."""

    mutated: int = 0
    answered: int = 0
    acknowledged: set[str] = field(default_factory=set)
    unreached: int = 0
    hangs: int = 0
    longest: float = 0.0
    deaths: int = 0
    faults: int = 0  # errors and tracebacks in the service's log
    memory: tuple[int, int] = (0, 0)  # bytes, after the first tenth and at the end
    alone: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    ledger: str = ""

    @property
    def ratio(self) -> float:
        """The sound sender's rate beside the fuzzer to its rate alone, the median of neighbouring blocks."""
        pairs = [beside / alone for beside, alone in zip(self.beside, self.alone, strict=False) if alone]
        return median(pairs) if pairs else 0.0

    @property
    def bad(self) -> bool:
        return bool(self.deaths or self.hangs or self.faults or self.lost or self.ledger)

    def __str__(self) -> str:
        before, after = (size / 1024**2 for size in self.memory)
        return (
            f"{self.mutated} mutated, {self.answered} answered, {self.unreached} not reached, {self.deaths} crashes, "
            f"{self.hangs} hangs (longest {self.longest:.1f} s), {self.faults} faults logged, "
            f"memory {before:.0f} → {after:.0f} MB, sound sender {median(self.alone or [0]):.0f} → "
            f"{median(self.beside or [0]):.0f}/s ({self.ratio:.0%}), ledger {self.ledger or 'intact'}, "
            f"{len(self.acknowledged)} acknowledged, {len(self.lost)} lost"
        )


class Visit:
    """One mutated association: what is sent, how it ends, what came back."""

    def __init__(self, pdus: Pdus, chance: random.Random) -> None:
        self._pdus = pdus
        ends = chance.random()
        self._ends = "silent" if ends < SILENT else "abrupt" if ends < SILENT + ABRUPT else "closed"
        # A sender that does not wait for the association to be accepted is one more mutation.
        self._waits = chance.random() < 0.9
        self.heard = b""
        self.connected = False
        self.hung = False
        self.seconds = 0.0

    async def make(self, port: int) -> None:
        """Come, send, and wait for the gateway to end it."""
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), LATE)
        except (OSError, TimeoutError):
            return
        self.connected = True
        hearing = asyncio.create_task(self._hear(reader))
        try:
            for index, pdu in enumerate(self._pdus):
                writer.write(pdu)
                await asyncio.wait_for(writer.drain(), LATE)
                if index == 0 and self._waits:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(asyncio.shield(self._first_answer(hearing)), 1)
                if hearing.done():
                    break
            if self._ends == "closed" and not hearing.done():
                writer.write_eof()
        except (OSError, TimeoutError):
            pass  # it was cut off while it sent: as good an answer as any
        began = time.monotonic()
        if self._ends != "abrupt":
            try:
                await asyncio.wait_for(hearing, LATE)
            except TimeoutError:
                self.hung = True
            self.seconds = time.monotonic() - began
        hearing.cancel()
        writer.transport.abort()

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                self.heard += data

    async def _first_answer(self, hearing: "asyncio.Task[None]") -> None:
        while not self.heard and not hearing.done():
            await asyncio.sleep(0.002)

    @property
    def acknowledged(self) -> list[str]:
        """SOP Instance UIDs that the gateway answered success for (PS3.7 9.3.1.2)."""
        found, at = [], 0
        while at + 12 <= len(self.heard):
            kind, length = struct.unpack_from(">BxI", self.heard, at)
            if kind == 0x04:
                command = _elements(self.heard[at + 12 : at + 6 + length])
                if command.get(0x0100) == b"\x01\x80" and command.get(0x0900) == b"\0\0":
                    found.append(command.get(0x1000, b"").rstrip(b"\0").decode("ascii", "replace"))
            at += 6 + length
        return found


def _elements(command: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while at + 8 <= len(command):
        _, element, length = struct.unpack_from("<HHI", command, at)
        found[element] = command[at + 8 : at + 8 + length]
        at += 8 + length
    return found


class Sound:
    """The sender that does it right, in a process of its own."""

    def __init__(self, port: int, folder: Path) -> None:
        self._file = folder / "sound.txt"
        self._file.touch()
        self._process = subprocess.Popen([*SENDER, str(port), str(self._file)], cwd=REPOSITORY)

    @property
    def stored(self) -> int:
        return self._file.stat().st_size // _LINE

    def stop(self) -> set[str]:
        """Every UID that was acknowledged."""
        self._process.terminate()
        self._process.wait(20)
        return set(self._file.read_text().split())


def send_soundly(port: int, record_file: Path) -> None:
    """Store new MR images of 128 KB until we are ended; each acknowledged UID is a line."""
    from tests.synthetic import MR, Template, new_study
    from tests.wire import Association, AssociationFailed

    template, identity = Template(*MR), new_study()
    with record_file.open("a") as acknowledged:
        while True:
            try:
                with Association(port, template.sop_class_uid, calling="SOUND") as association:
                    while True:
                        identity = identity.sibling()
                        if association.store(identity.sop_instance_uid, template.dataset(identity)) == 0:
                            acknowledged.write(identity.sop_instance_uid.ljust(_LINE - 1) + "\n")
                            acknowledged.flush()
            except (OSError, AssociationFailed):
                time.sleep(0.1)


def corpus_of(gateway: Gateway, folder: Path, data: Path | None) -> list[Pdus]:
    """Recorded transfers of generated files, and of real ones where they are."""
    small = make_study(folder, edited=False, slices=3, matrix=16)
    large = make_study(folder, edited=True, slices=2, matrix=128, seed=1)
    groups: list[tuple[str, Sequence[Path]]] = [
        ("-xe", small.files[:1]), ("-xi", small.files), ("-xb", small.files[:2]), ("-xe", large.files),
        ("-R", large.files), ("-xd", small.files),
    ]  # fmt: skip
    offered = sorted(data.rglob("*.dcm"))[::97][:60] if data is not None else []
    small_ones = [file for file in offered if file.stat().st_size < 300_000]
    real = [file for file in small_ones if "PixelData" in dcmread(file, force=True)]
    groups += [("-R", [file]) for file in real[:8]]
    corpus = record(gateway.port, groups)
    assert len(corpus) >= 5, "too few associations were recorded"
    return corpus


def receivers(gateway: Gateway) -> list[psutil.Process]:
    """The processes of the receive role, acceptors included."""
    found = []
    for process in psutil.Process(gateway.pid).children(recursive=True):
        with suppress(psutil.Error):
            if "receive" in process.cmdline():
                found.append(process)
    return found


def memory(gateway: Gateway) -> int:
    """Bytes that they take."""
    total = 0
    for process in receivers(gateway):
        with suppress(psutil.Error):
            total += process.memory_info().rss
    return total


async def _attack(
    gateway: Gateway,
    corpus: Sequence[Pdus],
    rounds: int,
    rate: float,
    chance: random.Random,
    sound: Sound,
    found: Findings,
) -> None:
    places = asyncio.Semaphore(MOST_AT_ONCE)
    running: set[asyncio.Task[None]] = set()

    async def visit() -> None:
        one = Visit(mutated(corpus, chance), chance)
        async with places:
            await one.make(gateway.port)
        found.mutated += 1
        found.unreached += not one.connected
        found.answered += bool(one.heard)
        found.hangs += one.hung
        found.longest = max(found.longest, one.seconds)
        found.acknowledged |= set(one.acknowledged)

    begun = 0
    block = min(BLOCK, max(1.5, rounds / rate / 4))
    alone = min(ALONE, block)
    while begun < rounds:
        found.alone.append(await _rate_of(sound, alone))
        stored, since, first = sound.stored, time.monotonic(), begun
        while (passed := time.monotonic() - since) < block and begun < rounds:
            while begun - first < passed * rate and begun < rounds:
                task = asyncio.create_task(visit())
                running.add(task)
                task.add_done_callback(running.discard)
                begun += 1
            await asyncio.sleep(0.01)
        if passed >= 0.5 * block:
            found.beside.append((sound.stored - stored) / passed)
        if not found.memory[0] and begun >= rounds / 10:
            found.memory = memory(gateway), 0
        if rounds > 1000:
            print(f"\r{begun} of {rounds}", end="", file=sys.stderr)
    await asyncio.gather(*running)


async def _rate_of(sound: Sound, seconds: float) -> float:
    await asyncio.sleep(0.3)  # the last block's visitors go
    stored, since = sound.stored, time.monotonic()
    await asyncio.sleep(seconds)
    return (sound.stored - stored) / (time.monotonic() - since)


def run(rounds: int, rate: float, folder: Path, seed: int, data: Path | None = None, **dicom: object) -> Findings:
    """Send `rounds` mutated associations, `rate` a second while the fuzzer runs, and look at what is left."""
    gateway, found = (
        Gateway(folder, dicom={**LIMITS, "max_associations": 256, "max_associations_per_source": 256, **dicom}),
        Findings(),
    )
    gateway.start(roles="receive")
    try:
        corpus = corpus_of(gateway, folder, data)
        before = {process.pid for process in receivers(gateway)}
        sound = Sound(gateway.port, folder)
        try:
            while not sound.stored:
                time.sleep(0.05)
            asyncio.run(_attack(gateway, corpus, rounds, rate, random.Random(seed), sound, found))  # noqa: S311
        finally:
            found.acknowledged |= sound.stop()
        time.sleep(0.5)
        found.memory = found.memory[0], memory(gateway)
        found.deaths = len(before - {process.pid for process in receivers(gateway)})
        with gateway.app() as app:
            with app.database.reading() as session:
                rows = {
                    row.sop_instance_uid: row for row in session.scalars(select(Instance).order_by(Instance.id.desc()))
                }
            for uid in found.acknowledged:
                row = rows.get(uid)
                path = app.store.locate(row.path) if row is not None else None
                if row is None or path is None or not path.is_file() or file_digest(path) != row.file_sha256:
                    found.lost.append(uid)
            verification = app.ledger.verify()
            found.ledger = "" if verification.intact else f"broken: {verification.broken}"
    finally:
        gateway.stop()
        found.deaths += len(re.findall("process died", gateway.log()))
        found.faults = len(re.findall(r"^Traceback|\[(error|critical) *\]", gateway.log(), re.MULTILINE))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000, help="how many mutated associations are sent")
    parser.add_argument("--rate", type=float, default=12, help="how many a second, while the fuzzer runs")
    parser.add_argument("--seed", type=int, default=None, help="to repeat a run's choices, not its timing")
    parser.add_argument("--data", type=Path, default=None, help="folder with real images for the corpus")
    parser.add_argument("--acceptors", type=int, default=None, help="processes on the port; unset: the default")
    parser.add_argument("--keep", type=Path, default=None, help="folder to leave the gateway's files and log in")
    parser.add_argument("--sender", nargs=2, default=None, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.sender:
        send_soundly(int(chosen.sender[0]), Path(chosen.sender[1]))
        return 0
    seed = chosen.seed if chosen.seed is not None else random.randrange(1 << 30)  # noqa: S311
    dicom = {"acceptors": chosen.acceptors} if chosen.acceptors else {}
    with tempfile.TemporaryDirectory(prefix="scanwarden-fuzz-") as temporary:
        folder = chosen.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = run(chosen.rounds, chosen.rate, folder, seed, chosen.data, **dicom)
    print(file=sys.stderr)
    for uid in found.lost:
        print(f"lost: {uid}")
    print(f"seed {seed}, {chosen.rate:g} a second: {found}")
    return 1 if found.bad else 0


if __name__ == "__main__":
    sys.exit(main())
