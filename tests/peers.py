"""A real Orthanc as PACS: its own folder, free loopback ports, gone at the end. For every test that needs a PACS."""

# ruff: noqa: S310 - the URLs are our own, on loopback

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ORTHANC = "/usr/sbin/Orthanc"
_PLUGINS = Path("/usr/share/orthanc/plugins")


class OrthancFailed(Exception):
    """Orthanc did not start, or answered with an error; the message holds the end of its log."""


class Orthanc:
    """A running Orthanc; also one that can be stopped and started again on the same ports and storage.

    `modalities` are its `DicomModalities` (name → [AE title, host, port]); `options` go into its configuration as
    they are; `environment` goes over ours.
    """

    def __init__(
        self,
        folder: Path,
        *,
        ae_title: str = "ORTHANC",
        modalities: Mapping[str, tuple[str, str, int]] | None = None,
        plugins: tuple[str, ...] = (),
        options: Mapping[str, Any] | None = None,
        program: str = ORTHANC,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.ae_title = ae_title
        self.host = "127.0.0.1"
        self.dicom_port, self.http_port = _free_ports(2)
        self.url = f"http://{self.host}:{self.http_port}"
        self._program = program
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._log = folder / "orthanc.log"
        self._configuration = folder / "orthanc.json"
        folder.mkdir(parents=True, exist_ok=True)
        self.storage = folder / "storage"
        storage = str(self.storage)
        self._configuration.write_text(
            json.dumps(
                {
                    "Name": ae_title,
                    "StorageDirectory": storage,
                    "IndexDirectory": storage,
                    "DicomAet": ae_title,
                    "DicomPort": self.dicom_port,
                    "HttpPort": self.http_port,
                    "RemoteAccessAllowed": False,
                    "AuthenticationEnabled": False,
                    "DicomCheckCalledAet": False,
                    "DicomAlwaysAllowEcho": True,
                    "DicomAlwaysAllowStore": True,
                    "DicomAlwaysAllowFind": True,
                    "DicomAlwaysAllowGet": True,
                    "UnknownSopClassAccepted": True,
                    "OverwriteInstances": True,
                    "SyncStorageArea": False,  # the PACS may forget at a power cut; tests should not wait for disks
                    "DicomModalities": {name: list(peer) for name, peer in (modalities or {}).items()},
                    "Plugins": [str(_PLUGINS / plugin) for plugin in plugins],
                    **(options or {}),
                }
            ),
            encoding="utf-8",
        )

    def start(self, seconds: float = 30) -> None:
        """Start it and wait until both ports answer. Raises OrthancFailed after `seconds`."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, str(self._configuration)], stdout=log, stderr=log, env=self._environment
            )
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise OrthancFailed(f"Orthanc ended with {self._process.returncode}:\n{self._tail()}")
            with suppress(OSError):
                urllib.request.urlopen(f"{self.url}/system", timeout=2).close()
                socket.create_connection((self.host, self.dicom_port), timeout=2).close()
                return
            time.sleep(0.05)
        self.stop()
        raise OrthancFailed(f"Orthanc did not answer within {seconds:.0f} s:\n{self._tail()}")

    @property
    def pid(self) -> int | None:
        """Its process, while it runs."""
        return self._process.pid if self._process is not None else None

    def stop(self, patience: float = 15) -> None:
        """End it, after `patience` seconds by SIGKILL; what it stored stays for the next `start`."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def get(self, path: str) -> Any:
        """The JSON behind a path of its REST interface."""
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return json.load(answer)

    def post(self, path: str, body: Any) -> Any:
        """Send JSON to a path of its REST interface and read the JSON that comes back."""
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), method="POST")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise OrthancFailed(f"POST {path}: {error.code} {error.read().decode(errors='replace')}") from error

    def delete(self, path: str) -> None:
        """Delete what stands behind a path of its REST interface."""
        urllib.request.urlopen(urllib.request.Request(self.url + path, method="DELETE"), timeout=30).close()

    def studies(self) -> list[str]:
        """Study Instance UIDs of everything that it holds."""
        return [study["MainDicomTags"]["StudyInstanceUID"] for study in self.get("/studies?expand")]

    def instances(self, study_uid: str, modality: str | None = None) -> list[str]:
        """SOP Instance UIDs that it holds of a study; `modality` narrows to SEG or SR, for example."""
        query = {"StudyInstanceUID": study_uid} | ({"Modality": modality} if modality else {})
        return sorted(found["MainDicomTags"]["SOPInstanceUID"] for found in self._find(query))

    def file(self, sop_instance_uid: str) -> bytes:
        """The instance as a Part 10 file, as it would send it on. Raises KeyError when it has none, or several."""
        found = self._find({"SOPInstanceUID": sop_instance_uid})
        if len(found) != 1:
            raise KeyError(f"Orthanc holds {len(found)} instances {sop_instance_uid}")
        with urllib.request.urlopen(f"{self.url}/instances/{found[0]['ID']}/file", timeout=60) as answer:
            content: bytes = answer.read()
        return content

    def send(self, study_uid: str, modality: str) -> None:
        """Make it C-STORE a whole study to one of its `modalities`."""
        found = self.post("/tools/find", {"Level": "Study", "Query": {"StudyInstanceUID": study_uid}})
        self.post(f"/modalities/{modality}/store", {"Resources": found, "Synchronous": True})

    def _find(self, query: Mapping[str, str]) -> list[Any]:
        found: list[Any] = self.post("/tools/find", {"Level": "Instance", "Query": query, "Expand": True})
        return found

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-3000:]


@contextmanager
def running_orthanc(**arguments: Any) -> Iterator[Orthanc]:
    """An Orthanc that lives as long as the block; arguments as for `Orthanc`, without the folder."""
    folder = Path(tempfile.mkdtemp(prefix="scanwarden-orthanc-"))
    orthanc = Orthanc(folder, **arguments)
    try:
        orthanc.start()
        yield orthanc
    finally:
        orthanc.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
