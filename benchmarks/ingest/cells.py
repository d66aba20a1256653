"""A cell: one kind of image, so many associations, one setting of the network. Every receiver in turns, run by run."""

import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.ingest import limit as limit_module
from benchmarks.ingest.receivers import DCMTK, LIMIT, ORTHANC, PLAIN, Conditions, Receiver, Starter
from tests.faults.modality import STORESCU
from tests.synthetic import CT, MR, Template, new_study
from tests.wire import Association

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - what is sent must not keep the disk busy that is measured
KINDS = {"CT": CT, "MR": MR}
NAGLE_SHARE = 4  # with Nagle's algorithm on, an instance may take 40 ms: a quarter of the instances is enough


@dataclass(frozen=True)
class Cell:
    """What is varied."""

    kind: str
    associations: int
    nodelay: bool
    tls: bool

    def __str__(self) -> str:
        network = "TCP_NODELAY=1" if self.nodelay else "as Debian ships"
        return f"{self.kind}, {self.associations} at once, {network}, TLS {'on' if self.tls else 'off'}"

    def target(self, peer: str) -> float | None:
        """What our rate is to be, in multiples of a peer's (issue 4)."""
        faster = 1.5 if self.kind == "CT" else 1.0
        return {ORTHANC: faster if self.nodelay else 10.0, PLAIN: 2.0, DCMTK: 0.8}.get(peer)


@dataclass
class Measured:
    """A cell's rates by receiver, instances a second, and what went wrong instead."""

    cell: Cell
    rates: dict[str, list[float]] = field(default_factory=dict)
    cpu_seconds: dict[str, list[float]] = field(default_factory=dict)
    """Of the receiver, an instance."""
    faults: dict[str, str] = field(default_factory=dict)
    response_seconds: dict[str, list[float]] = field(default_factory=dict)

    def rate(self, name: str) -> float | None:
        """The median; None for a receiver that lost something or broke."""
        return median(self.rates[name]) if name not in self.faults and self.rates.get(name) else None


def measure(
    cell: Cell, conditions: Conditions, starters: Mapping[str, Starter], *, runs: int, instances: int, folder: Path
) -> Measured:
    """Run a cell: `runs` times every receiver in turns, after one run that warms up; then each one's response times."""
    found = Measured(cell)
    template = Template(*KINDS[cell.kind])
    count = instances if cell.nodelay else max(cell.associations, instances // NAGLE_SHARE)
    with ExitStack() as stack:
        receivers = []
        for name, start in starters.items():
            own = folder / name.split()[0]
            own.mkdir(parents=True)
            stack.callback(shutil.rmtree, own, ignore_errors=True)
            receivers.append(stack.enter_context(start(own, conditions)))
        for run in range(runs + 1):
            for turn in range(len(receivers)):
                receiver = receivers[(run + turn) % len(receivers)]
                if receiver.name in found.faults:
                    continue
                try:
                    rate, cpu_seconds = _run(receiver, template, cell.associations, count, conditions)
                except (SendingFailed, RuntimeError) as fault:
                    found.faults[receiver.name] = str(fault)
                    continue
                if run:
                    found.rates.setdefault(receiver.name, []).append(rate)
                    found.cpu_seconds.setdefault(receiver.name, []).append(cpu_seconds)
        if not cell.tls and cell.nodelay:
            for receiver in receivers:
                if receiver.name != LIMIT and receiver.name not in found.faults:
                    found.response_seconds[receiver.name] = _response_times(
                        receiver, template, cell.associations, count
                    )
    return found


class SendingFailed(Exception):
    """A sender was not told success for each instance, or the receiver does not hold what it acknowledged."""


def _run(
    receiver: Receiver, template: Template, associations: int, count: int, conditions: Conditions
) -> tuple[float, float]:
    """Instances a second, and the receiver's CPU seconds an instance."""
    before, cpu_before = receiver.count(), receiver.cpu_seconds()
    each = count // associations
    with _files(template, associations, each) as folders:
        begun = time.perf_counter()
        if receiver.name == LIMIT:
            limit_module.send(receiver.port, folders, conditions.tls.arguments if conditions.tls else ())
        else:
            _storescu(receiver, folders, conditions)
        seconds = time.perf_counter() - begun
    cpu_seconds = receiver.cpu_seconds() - cpu_before
    if receiver.name == DCMTK:
        os.sync()  # what it left in memory is not for the next receiver to write
    held = receiver.count() - before
    if held != each * associations:
        raise SendingFailed(f"{each * associations} acknowledged, {held} held")
    return each * associations / seconds, cpu_seconds / (each * associations)


def _storescu(receiver: Receiver, folders: Sequence[Path], conditions: Conditions) -> None:
    tls: list[str] = []
    if conditions.tls is not None:
        certificate, key, trusted = conditions.tls.arguments
        tls = ["+tls", key, certificate, "+cf", trusted]
    command = [STORESCU, "-pdu", "131072", "-R", *tls, "-aec", receiver.called, "+sd", "127.0.0.1", str(receiver.port)]
    senders = [
        subprocess.Popen(
            [*command, str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=conditions.environment,
        )
        for folder in folders
    ]
    said = [sender.communicate(timeout=300)[0] for sender in senders]
    for sender, text in zip(senders, said, strict=True):
        if sender.returncode:
            raise SendingFailed(f"storescu ended with {sender.returncode}: {text[-300:].strip()}")


@contextmanager
def _files(template: Template, folders: int, each: int) -> Iterator[list[Path]]:
    """A study in each of `folders` folders, in memory."""
    where = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="scanwarden-ingest-", dir=where) as name:
        made = []
        for number in range(folders):
            folder = Path(name) / str(number)
            folder.mkdir()
            identity = new_study()
            for _ in range(each):
                (folder / f"{identity.sop_instance_uid}.dcm").write_bytes(template.file(identity))
                identity = identity.sibling()
            made.append(folder)
        yield made


def _response_times(receiver: Receiver, template: Template, associations: int, count: int) -> list[float]:
    """Seconds from the first byte of a request to its response, by a sender that does nothing else."""
    seconds: list[float] = []

    def send() -> None:
        identity = new_study()
        with Association(receiver.port, template.sop_class_uid, called=receiver.called) as association:
            for _ in range(count // associations):
                if association.store(identity.sop_instance_uid, template.dataset(identity)) != 0:
                    return
                identity = identity.sibling()
            seconds.extend(association.response_seconds)

    senders = [threading.Thread(target=send) for _ in range(associations)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    return seconds
