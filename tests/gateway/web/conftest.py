"""The web application on a real port, with a real store behind it and clients that can also misbehave."""

import http.client
import io
import json
import shutil
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from sqlalchemy import select
from uvicorn import Server

from config import Settings
from gateway.app import App, build
from gateway.web.app import Draining, WebApp, create_app
from gateway.web.server import http_server, listening
from storage import AuditEventType, Database, LedgerRecord
from storage.processes import beat
from storage.tables import Instance
from tests.faults.harness import free_port

HOST = "127.0.0.1"


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def stored(self) -> list[str]:
        """SOP Instance UIDs of a STOW answer's ReferencedSOPSequence."""
        return [item["00081155"]["Value"][0] for item in self.json.get("00081199", {}).get("Value", [])]

    @property
    def failed(self) -> list[int]:
        """Reasons of a STOW answer's FailedSOPSequence."""
        return [item["00081197"]["Value"][0] for item in self.json.get("00081198", {}).get("Value", [])]


@dataclass
class Web:
    """A running web application and what lies behind it."""

    app: App
    parts: WebApp
    port: int
    server: Server

    def ask(
        self,
        path: str,
        body: Any = None,
        *,
        tls: ssl.SSLContext | None = None,
        source: str = HOST,
        **headers: str,
    ) -> Answer:
        """GET, or POST where there is a body; `content_type="…"` becomes a header."""
        kind: Any = http.client.HTTPConnection if tls is None else http.client.HTTPSConnection
        options = {} if tls is None else {"context": tls}
        with closing(kind(HOST, self.port, timeout=20, source_address=(source, 0), **options)) as connection:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request("GET" if body is None else "POST", path, body, named)
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())

    def stow(self, *images: bytes, path: str = "/dicom-web/studies", boundary: str = "XX", **options: Any) -> Answer:
        options.setdefault("content_type", f'multipart/related; type="application/dicom"; boundary={boundary}')
        return self.ask(path, multipart(*images, boundary=boundary), **options)

    def instances(self) -> list[Instance]:
        with self.app.database.reading() as session:
            return list(session.scalars(select(Instance).order_by(Instance.id)))

    def events(self, event: AuditEventType) -> list[LedgerRecord]:
        return self.app.ledger.list(event=event.value, limit=None)

    def files(self) -> list[Path]:
        """Every file that holds or held an instance."""
        folders = (self.app.store.root / "instances", self.app.store.root / "incoming")
        return [path for folder in folders for path in folder.rglob("*") if path.is_file()]

    def beats(self, *roles: str, host: str = "elsewhere", at: datetime | None = None) -> None:
        """Heartbeats of processes of these roles."""
        with self.app.database.transaction() as session:
            for role in roles:
                moment = at or datetime.now(UTC)
                beat(session, f"{role}-0@{host}", role=role, host=host, pid=1, started_at=moment, now=moment)


def part10(image: Dataset) -> bytes:
    """The image as a Part 10 file."""
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = io.BytesIO()
    dcmwrite(file, image, enforce_file_format=True)
    return file.getvalue()


def multipart(*parts: bytes, boundary: str = "XX") -> bytes:
    """A whole body of multipart/related."""
    opening = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    return b"".join(opening + part + b"\r\n" for part in parts) + f"--{boundary}--\r\n".encode()


Start = Callable[..., Web]


@pytest.fixture
def start(tmp_path: Path, migrated: Path) -> Iterator[Start]:
    """Opens web applications: `start(stow=True)` with settings of `web`, other sections by name as `store={…}`."""
    running: list[tuple[Web, threading.Thread, Database]] = []

    def open_port(sections: dict[str, Any] | None = None, **web: Any) -> Web:
        port = free_port()
        settings = Settings.model_validate(
            {
                "web": {"host": HOST, "port": port, "check_timeout": 2, **web},
                "dicom": {"host": HOST, "port": free_port()},
                "store": {"root": tmp_path / f"var{len(running)}", "high_watermark": 1.0, "low_watermark": 1.0},
                "database": {"busy_timeout": 1},
                **(sections or {}),
            }
        )
        settings.store.root.mkdir(parents=True, exist_ok=True)
        shutil.copy(migrated, settings.store.root)
        app = build(settings)
        probing = build(settings).database
        parts = WebApp(app, probing, Draining())
        server = http_server(settings.web, create_app(parts))
        listener = listening(settings.web)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        found = Web(app, parts, port, server)
        running.append((found, thread, probing))
        end = time.monotonic() + 20
        while not server.started and time.monotonic() < end:
            time.sleep(0.01)
        return found

    yield open_port
    for web, thread, probing in running:
        web.server.should_exit = True
        thread.join(timeout=40)
        web.parts.close()
        probing.close()
        web.app.close()


@pytest.fixture
def web(start: Start) -> Web:
    """One application on defaults, on loopback."""
    return start()


@pytest.fixture
def store(start: Start) -> Web:
    """One that takes instances from this machine."""
    return start(stow=True)
