"""A gateway that can be killed, an archive that remembers, and the comparison of both with what senders were told."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import psutil
import yaml
from pydicom import dcmread
from pynetdicom import AE, AllStoragePresentationContexts, evt
from sqlalchemy import select

from config import Settings, load_settings
from gateway.app import App, build
from storage.digests import file_digest
from storage.tables import Analysis, Evidence, Instance, InstanceState, Revision, RevisionState
from tests.faults import service

REPOSITORY = Path(__file__).resolve().parent.parent.parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Whether a connection to that port of loopback is taken."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def wait_for(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Wait until `condition` is true; fails with `what` did not happen."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.05)


@dataclass
class Archive:
    """A C-STORE SCP that keeps what it gets in memory: each object's study, modality and the digests it came with."""

    port: int = field(default_factory=free_port)
    ae_title: str = "ARCHIVE"
    studies: dict[str, str] = field(default_factory=dict)
    modalities: dict[str, str] = field(default_factory=dict)
    digests: dict[str, set[str]] = field(default_factory=dict)
    answer: Callable[[str], int] = lambda _uid: 0x0000
    order: list[str] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator["Archive"]:
        entity: Any = AE(ae_title=self.ae_title)
        entity.supported_contexts = AllStoragePresentationContexts
        server = entity.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )
        try:
            yield self
        finally:
            server.shutdown()

    def _store(self, event: evt.Event) -> int:
        dataset = event.dataset
        uid = str(dataset.SOPInstanceUID)
        status = self.answer(uid)
        if status == 0x0000:
            self.studies[uid] = str(dataset.StudyInstanceUID)
            self.modalities[uid] = str(dataset.Modality)
            self.digests.setdefault(uid, set()).add(sha256(event.encoded_dataset(include_meta=False)).hexdigest())
            self.order.append(uid)
        return status

    def of(self, study_uid: str, modality: str) -> list[str]:
        """The objects of one kind that it has of a study."""
        return [uid for uid, study in self.studies.items() if study == study_uid and self.modalities[uid] == modality]


class Gateway:
    """The service in its own process group of processes, on a folder and a port of its own."""

    def __init__(
        self, folder: Path, archives: Sequence[Archive] = (), *, url: str | None = None, **sections: Mapping[str, Any]
    ) -> None:
        """`sections` go over the settings of a fault test: short periods, many attempts of an analysis."""
        self.port = free_port()
        self._log = folder / "service.log"
        self._file = folder / "scanwarden.yaml"
        self._process: subprocess.Popen[bytes] | None = None
        settings: dict[str, dict[str, Any]] = {
            "dicom": {"host": "127.0.0.1", "port": self.port},
            "web": {"port": free_port()},
            "store": {"root": str(folder / "var"), "high_watermark": 0.99, "low_watermark": 0.98},
            "revisions": {"quiet_period": 0.5, "sweep_interval": 0.1},
            "queues": {"polling_interval": 0.1},
            # A service that is killed again and again is no poison study.
            "analysis": {"attempts": 1000},
            "log": {"level": "info"},
        }
        for name, section in sections.items():
            settings.setdefault(name, {}).update(section)
        destinations = [
            {
                "name": f"archive-{number}",
                "ae_title": archive.ae_title,
                "host": "127.0.0.1",
                "port": archive.port,
                "backoff": 0.2,
                "backoff_limit": 1,
                "attempts": 1000,
                "timeout": 5,
            }
            | dict(sections.get("destination", {}))
            for number, archive in enumerate(archives)
        ]
        settings.pop("destination", None)
        self._environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        if url is not None:
            self._environment["SCANWARDEN_DATABASE__URL"] = url
            settings["database"] = {}
        self._file.write_text(yaml.safe_dump({**settings, "destinations": destinations}))
        self._url = url

    @property
    def settings(self) -> Settings:
        settings = load_settings(self._file)
        if self._url is None:
            return settings
        return Settings(**{**settings.model_dump(), "database": {"url": self._url}})

    def app(self) -> App:
        """The same store and database, to look into."""
        return build(self.settings)

    def start(
        self,
        *,
        kill_at: str = "",
        kill_after: int = 1,
        kill_alone: bool = False,
        poison: str = "",
        wait: bool = True,
        roles: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start the service, to die at a point or of a study; by default all roles, and wait until it listens."""
        variables = {
            **self._environment,
            service.KILL_AT: kill_at,
            service.KILL_AFTER: str(kill_after),
            service.KILL_ALONE: "1" if kill_alone else "",
            service.POISON: poison,
            **(environment or {}),
        }
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.service", "serve", str(self._file), *([roles] if roles else [])],
                cwd=REPOSITORY,
                env=variables,
                stderr=log,
                stdout=log,
            )
        if wait:
            wait_for(lambda: self.listens or not self.runs, 60, f"the service starts ({self._log})")

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def listens(self) -> bool:
        return listens(self.port)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def role(self, name: str) -> psutil.Process | None:
        """The process of a role, when it lives."""
        if not self.runs:
            return None
        for child in psutil.Process(self.pid).children():
            try:
                if name in child.cmdline():
                    return child
            except psutil.Error:
                continue
        return None

    def processes(self, name: str) -> list[psutil.Process]:
        """The living processes of a role, whoever started them."""
        found = []
        with suppress(psutil.Error):
            for child in psutil.Process(self.pid).children(recursive=True) if self.runs else []:
                with suppress(psutil.Error):
                    if name in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                        found.append(child)
        return found

    @property
    def alive(self) -> bool:
        """Whether the service's supervisor runs."""
        return self._process is not None and self._process.poll() is None

    def died(self, seconds: float) -> bool:
        """Wait for the end of the service by a kill of its own."""
        assert self._process is not None
        try:
            return self._process.wait(seconds) == -signal.SIGKILL
        except subprocess.TimeoutExpired:
            return False

    def kill(self) -> None:
        """SIGKILL to the supervisor; the kernel ends its roles."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self, seconds: float = 60) -> int:
        """SIGTERM, and the exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(seconds)

    def log(self) -> str:
        return self._log.read_text(errors="replace")


@dataclass
class Findings:
    """What a comparison found."""

    acknowledged: int
    found: int
    lost: list[str]
    faults: list[str]

    def __str__(self) -> str:
        return f"{self.acknowledged} acknowledged, {self.found} found, {len(self.lost)} lost"


def settled(gateway: Gateway, studies: int) -> bool:
    """Whether every revision of at least `studies` studies is done."""
    with gateway.app() as app, app.database.reading() as session:
        revisions = session.scalars(select(Revision)).all()
    done = {each.study_uid for each in revisions if each.state is RevisionState.DONE}
    return len(done) >= studies and all(each.state is RevisionState.DONE for each in revisions)


def compare(gateway: Gateway, archives: Sequence[Archive], acknowledged: set[str]) -> Findings:
    """Hold what the senders were told against disk, index, ledger and archives.

    Every acknowledged instance is indexed and on disk as it came; every revision has exactly one report, and regions
    where it has a finding, in every archive; nothing came twice with other content; the ledger's chain holds.
    """
    faults: list[str] = []
    with gateway.app() as app, app.database.reading() as session:
        stored = {each.sop_instance_uid: each for each in session.scalars(select(Instance))}
        lost = []
        for uid in acknowledged:
            row = stored.get(uid)
            file = app.store.locate(row.path) if row is not None else None
            if row is None or file is None or not file.is_file() or file_digest(file) != row.file_sha256:
                lost.append(uid)
            elif str(dcmread(file, stop_before_pixels=True).SOPInstanceUID) != uid:
                faults.append(f"{uid} is another instance on disk")
        faults += [
            f"{each.sop_instance_uid} is {each.state}" for each in stored.values() if each.state != InstanceState.STORED
        ]
        revisions = session.scalars(select(Revision)).all()
        analyses = {each.revision_id: each for each in session.scalars(select(Analysis))}
        faults += [
            f"revision {each.number} of {each.study_uid} is {each.state}"
            for each in revisions
            if each.state is not RevisionState.DONE
        ]
        reports = Counter(each.study_uid for each in revisions)
        regions = Counter(each.study_uid for each in revisions if each.id in analyses and analyses[each.id].findings)
        made = set(session.scalars(select(Evidence.sop_instance_uid)))
        verification = app.ledger.verify()
    if not verification.intact:
        faults.append(f"ledger: {verification.broken}")
    for archive in archives:
        for study_uid in reports:
            found = len(archive.of(study_uid, "SR")), len(archive.of(study_uid, "SEG"))
            if found != (reports[study_uid], regions[study_uid]):
                faults.append(
                    f"{study_uid}: {found} SR and SEG in the archive, not {reports[study_uid], regions[study_uid]}"
                )
        faults += [f"{uid} arrived with {len(d)} contents" for uid, d in archive.digests.items() if len(d) != 1]
        faults += [f"{uid} is in the archive and unknown to us" for uid in archive.studies if uid not in made]
    return Findings(len(acknowledged), len(acknowledged) - len(lost), lost, faults)
