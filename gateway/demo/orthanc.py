"""Orthanc as a process: a folder and free loopback ports of its own; stopped and started on the same storage."""

# ruff: noqa: S310 - the URLs are our own, on loopback

import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

LONGEST_START = 30.0


class OrthancFailed(Exception):
    """Orthanc did not start, or answered with an error; the message holds the end of its log."""


class OrthancServer:
    """One Orthanc that takes whatever is sent to it; `options` go into its configuration as they are."""

    name = "Orthanc"
    host = "127.0.0.1"

    def __init__(
        self,
        folder: Path,
        program: str,
        *,
        ae_title: str = "ORTHANC",
        options: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`environment` goes over ours."""
        self.ae_title = ae_title
        self.dicom_port, self.http_port = free_ports(2)
        self.url = f"http://{self.host}:{self.http_port}"
        self.storage = folder / "storage"
        self._program, self._environment = program, {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._log, self._configuration = folder / "orthanc.log", folder / "orthanc.json"
        folder.mkdir(parents=True, exist_ok=True)
        configuration = {
            "Name": ae_title,
            "StorageDirectory": str(self.storage),
            "IndexDirectory": str(self.storage),
            "DicomAet": ae_title,
            "DicomPort": self.dicom_port,
            "HttpPort": self.http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAlwaysAllowStore": True,
            "Plugins": [],
            **(options or {}),
        }
        self._configuration.write_text(json.dumps(configuration, indent=2), encoding="utf-8")

    def start(self, seconds: float = LONGEST_START) -> None:
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

    def read(self, path: str, body: Any = None) -> bytes:
        """What stands behind a path of its REST interface; with a `body`, what comes back for that JSON."""
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data), timeout=60) as answer:
            content: bytes = answer.read()
        return content

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-3000:]


def free_ports(count: int) -> list[int]:
    """TCP ports of this machine's loopback that nobody listens on right now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()
