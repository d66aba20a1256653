"""The archive of the demonstration: a real Orthanc when one is installed, else a small C-STORE SCP that keeps files."""

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from pydicom import dcmread
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt

ORTHANC_PATHS = "/usr/sbin:/usr/local/sbin:/usr/local/bin:/usr/bin"
_START_SECONDS = 30


class Archive(Protocol):
    """What the demonstration needs of an archive."""

    name: str
    ae_title: str
    port: int

    def fetch(self, study_uid: str, folder: Path) -> list[Path]:
        """Copy what the archive holds of a study into `folder` as Part 10 files."""
        ...


@contextmanager
def open_archive(folder: Path) -> Iterator[Archive]:
    """An archive that lives in `folder` as long as the context does."""
    program = shutil.which("Orthanc", path=ORTHANC_PATHS)
    with _orthanc(program, folder) if program else _stand_in(folder) as archive:
        yield archive


def free_port() -> int:
    """A TCP port of this machine's loopback that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class _Orthanc:
    name = "Orthanc"
    ae_title = "ORTHANC"

    def __init__(self, port: int, http_port: int) -> None:
        self.port = port
        self._root = f"http://127.0.0.1:{http_port}"

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(self._root + path, timeout=10) as answer:  # noqa: S310 - our own loopback address
            content: bytes = answer.read()
        return content

    def alive(self) -> bool:
        try:
            return bool(self._get("/system"))
        except OSError:
            return False

    def fetch(self, study_uid: str, folder: Path) -> list[Path]:
        query = json.dumps({"Level": "Instance", "Query": {"StudyInstanceUID": study_uid}}).encode()
        request = urllib.request.Request(self._root + "/tools/find", data=query)  # noqa: S310 - our own loopback address
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            identifiers: list[str] = json.load(answer)
        folder.mkdir(parents=True, exist_ok=True)
        files = []
        for identifier in identifiers:
            file = folder / f"{identifier}.dcm"
            file.write_bytes(self._get(f"/instances/{identifier}/file"))
            files.append(file)
        return files


@contextmanager
def _orthanc(program: str, folder: Path) -> Iterator[Archive]:
    folder.mkdir(parents=True, exist_ok=True)
    archive = _Orthanc(free_port(), free_port())
    configuration = {
        "Name": "scanwarden-demo",
        "StorageDirectory": str(folder / "orthanc"),
        "IndexDirectory": str(folder / "orthanc"),
        "DicomAet": archive.ae_title,
        "DicomPort": archive.port,
        "HttpPort": int(archive._root.rsplit(":", 1)[1]),
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAlwaysAllowStore": True,
        "Plugins": [],
    }
    file = folder / "orthanc.json"
    file.write_text(json.dumps(configuration, indent=2), encoding="utf-8")
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen([program, str(file)], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not archive.alive():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Orthanc did not start; see {folder / 'orthanc.log'}")
            time.sleep(0.1)
        yield archive
    finally:
        process.terminate()
        process.wait(timeout=20)


class _StandIn:
    name = "a stand-in archive (install Orthanc to see a real one)"
    ae_title = "ARCHIVE"

    def __init__(self, port: int, folder: Path) -> None:
        self.port = port
        self._folder = folder

    def keep(self, event: evt.Event) -> int:
        (self._folder / f"{event.file_meta.MediaStorageSOPInstanceUID}.dcm").write_bytes(event.encoded_dataset())
        return 0x0000

    def fetch(self, study_uid: str, folder: Path) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        held = sorted(self._folder.glob("*.dcm"))
        wanted = [file for file in held if dcmread(file, stop_before_pixels=True).StudyInstanceUID == study_uid]
        return [Path(shutil.copy(file, folder)) for file in wanted]


@contextmanager
def _stand_in(folder: Path) -> Iterator[Archive]:
    folder.mkdir(parents=True, exist_ok=True)
    archive = _StandIn(free_port(), folder)
    entity: Any = AE(ae_title=archive.ae_title)
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES)
    server = entity.start_server(
        ("127.0.0.1", archive.port), block=False, evt_handlers=[(evt.EVT_C_STORE, archive.keep)]
    )
    try:
        yield archive
    finally:
        server.shutdown()
