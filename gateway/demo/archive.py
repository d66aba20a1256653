"""The archive of the demonstration: a real Orthanc when one is installed, else a small C-STORE SCP that keeps files."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from pydicom import dcmread
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt

from gateway.demo.orthanc import OrthancServer, free_ports

ORTHANC_PATHS = "/usr/sbin:/usr/local/sbin:/usr/local/bin:/usr/bin"


class Archive(Protocol):
    """What the demonstration needs of an archive."""

    name: str
    ae_title: str

    @property
    def port(self) -> int:
        """Its DICOM port."""
        ...

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
    return free_ports(1)[0]


class _Orthanc(OrthancServer):
    @property
    def port(self) -> int:
        return self.dicom_port

    def fetch(self, study_uid: str, folder: Path) -> list[Path]:
        query = {"Level": "Instance", "Query": {"StudyInstanceUID": study_uid}}
        folder.mkdir(parents=True, exist_ok=True)
        files = []
        for identifier in json.loads(self.read("/tools/find", query)):
            file = folder / f"{identifier}.dcm"
            file.write_bytes(self.read(f"/instances/{identifier}/file"))
            files.append(file)
        return files


@contextmanager
def _orthanc(program: str, folder: Path) -> Iterator[Archive]:
    archive = _Orthanc(folder, program)
    try:
        archive.start()
        yield archive
    finally:
        archive.stop()


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
