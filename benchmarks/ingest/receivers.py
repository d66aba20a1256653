"""What is measured: ours and its peers, each started as its users start it, on a folder of its own on the same disk."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml
from sqlalchemy import func, select

from config import load_settings
from gateway.app import build
from storage.digests import file_digest
from storage.tables import Instance
from tests.faults.harness import REPOSITORY, free_port, listens, wait_for
from tests.peers import Orthanc
from tests.signers import authority, signer

STORESCP = "/usr/bin/storescp"
OURS, ORTHANC, PLAIN, DCMTK, LIMIT = "Scanwarden", "Orthanc", "plain pynetdicom", "storescp --fork", "machine's limit"
_START_SECONDS = 60


class ReceiverFailed(Exception):
    """A receiver did not start, or does not hold what it acknowledged."""


@dataclass(frozen=True)
class Certificates:
    """One side's certificate and key, and the authority that signed both sides'; DCMTK's order of arguments differs."""

    certificate: Path
    private_key: Path
    authority: Path

    @property
    def arguments(self) -> tuple[str, str, str]:
        return str(self.certificate), str(self.private_key), str(self.authority)


@dataclass(frozen=True)
class Conditions:
    """What holds for every program of a cell: Nagle's algorithm off in DCMTK's network code, TLS."""

    nodelay: bool
    tls: Certificates | None

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name != "TCP_NODELAY"}
        return kept | ({"TCP_NODELAY": "1"} if self.nodelay else {})


@dataclass(frozen=True)
class Receiver:
    """A receiver that runs."""

    name: str
    port: int
    called: str
    count: Callable[[], int]
    pid: int | None

    def memory(self) -> tuple[int, int]:
        """Resident bytes of the processes that receive, and of the one that started them."""
        first = psutil.Process(self.pid)
        return sum(_resident(each) for each in first.children(recursive=True)), _resident(first)

    def cpu_seconds(self) -> float:
        """CPU time of all its processes so far, those that ended included: it hardly minds what else runs here."""
        first = psutil.Process(self.pid)
        return sum(_cpu_seconds(each) for each in (first, *first.children(recursive=True)))


def certificates(folder: Path) -> Certificates:
    """An authority and a certificate for both sides: what is measured is TLS, not who may call."""
    by = authority(folder, "Benchmark Authority")
    made = signer(folder, by, "localhost", address="127.0.0.1")
    return Certificates(made.certificate, made.private_key, by.certificate)


@contextmanager
def ours(folder: Path, conditions: Conditions, **dicom: object) -> Iterator[Receiver]:
    """`scanwarden serve --roles receive` on its defaults, SQLite and the store beside it; `dicom` goes over them."""
    port = free_port()
    network: dict[str, object] = {"host": "127.0.0.1", "port": port, **dicom}
    if conditions.tls is not None:
        certificate, key, trusted = conditions.tls.arguments
        network["tls"] = {"certificate": certificate, "private_key": key, "authorities": trusted}
    file = folder / "scanwarden.yaml"
    file.write_text(yaml.safe_dump({"dicom": network, "store": {"root": str(folder / "var")}}))
    settings = load_settings(file)
    command = ["-c", "from gateway.cli import main; main()", "serve", "--roles", "receive", "--config", str(file)]
    with _program([sys.executable, *command], folder, conditions, port) as pid, build(settings) as app:

        def count() -> int:
            with app.database.reading() as session:
                return session.scalar(select(func.count()).select_from(Instance)) or 0

        yield Receiver(OURS, port, "SCANWARDEN", count, pid)
        with app.database.reading() as session:
            for row in session.scalars(select(Instance)):
                if file_digest(app.store.locate(row.path)) != row.file_sha256:
                    raise ReceiverFailed(f"{OURS}: {row.sop_instance_uid} is not what was indexed")


@contextmanager
def orthanc(folder: Path, conditions: Conditions) -> Iterator[Receiver]:
    """Debian's Orthanc, its index in SQLite as shipped, each file fsynced before it answers."""
    options: dict[str, object] = {"SyncStorageArea": True}
    if conditions.nodelay:  # tuned as well as we know; otherwise its own 16 KB
        options["MaximumPduLength"] = 131072
    if conditions.tls is not None:
        certificate, key, trusted = conditions.tls.arguments
        options |= {
            "DicomTlsEnabled": True,
            "DicomTlsCertificate": certificate,
            "DicomTlsPrivateKey": key,
            "DicomTlsTrustedCertificates": trusted,
        }
    server = Orthanc(folder / "orthanc", options=options, environment=conditions.environment)
    try:
        server.start()
        yield Receiver(
            ORTHANC,
            server.dicom_port,
            server.ae_title,
            lambda: int(server.get("/statistics")["CountInstances"]),
            server.pid,
        )
    finally:
        server.stop(patience=0)  # its folder goes with it


@contextmanager
def plain(folder: Path, conditions: Conditions) -> Iterator[Receiver]:
    """pynetdicom as its documentation shows it, with an fsync of each file."""
    with _served(PLAIN, "benchmarks.ingest.plain", folder, conditions) as receiver:
        yield receiver


@contextmanager
def limit(folder: Path, conditions: Conditions) -> Iterator[Receiver]:
    """Loopback, SHA-256, write and fsync."""
    with _served(LIMIT, "benchmarks.ingest.limit", folder, conditions) as receiver:
        yield receiver


@contextmanager
def storescp(folder: Path, conditions: Conditions) -> Iterator[Receiver]:
    """DCMTK's receiver, a process an association. Not durable: it never calls fsync."""
    port, held = free_port(), folder / "held"
    held.mkdir()
    tls: list[str] = []
    if conditions.tls is not None:
        certificate, key, trusted = conditions.tls.arguments
        tls = ["+tls", key, certificate, "+cf", trusted]
    command = [STORESCP, "--fork", "-pdu", "131072", *tls, "-od", str(held), str(port)]
    with _program(command, folder, conditions, port) as pid:
        yield Receiver(DCMTK, port, "STORESCP", lambda: len(os.listdir(held)), pid)  # noqa: PTH208 - only counted


Starter = Callable[[Path, Conditions], AbstractContextManager[Receiver]]
STARTERS: Mapping[str, Starter] = {
    OURS: ours,
    ORTHANC: orthanc,
    PLAIN: plain,
    DCMTK: storescp,
    LIMIT: limit,
}


@contextmanager
def _served(name: str, module: str, folder: Path, conditions: Conditions) -> Iterator[Receiver]:
    port, held = free_port(), folder / "held"
    held.mkdir()
    tls = conditions.tls.arguments if conditions.tls is not None else ()
    with _program([sys.executable, "-m", module, str(port), str(held), *tls], folder, conditions, port) as pid:
        yield Receiver(name, port, "PLAIN", lambda: len(os.listdir(held)), pid)  # noqa: PTH208 - only counted


@contextmanager
def _program(command: Sequence[str], folder: Path, conditions: Conditions, port: int) -> Iterator[int]:
    log = folder / "log"
    with log.open("wb") as output:
        # In our session, as Orthanc and the senders are: Linux shares the cores out by session first.
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=output, stderr=output, env=conditions.environment)
    try:
        wait_for(lambda: listens(port) or process.poll() is not None, _START_SECONDS, f"{command[0]} starts")
        if process.poll() is not None:
            raise ReceiverFailed(f"{' '.join(command)} ended:\n{log.read_text(errors='replace')[-2000:]}")
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()  # the kernel ends our roles with their supervisor
            process.wait()


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)
