"""WADO-RS from a server that misbehaves: whatever it answers becomes a plain reason, and nothing is followed."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pydicom import dcmread

from gateway.dicom.scu import ConnectionBroken, Refused, SendError, Unreachable
from gateway.dicom.web import get_study_by_web
from tests.gateway.dicom.conftest import free_port
from tests.remembered import phantom

Answer = tuple[int, dict[str, str], bytes]


class Server:
    """Answers as `listing` and `study` say, the body in pieces of `piece` bytes."""

    def __init__(self) -> None:
        self.listing: Answer = (204, {}, b"")
        self.study: Answer = (204, {}, b"")
        self.piece = 1 << 16
        self.seen: list[tuple[str, str | None]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.seen.append((self.path, self.headers.get("Authorization")))
                status, headers, body = server.listing if "/instances" in self.path else server.study
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                for start in range(0, len(body), server.piece):
                    self.wfile.write(body[start : start + server.piece])

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/dicom-web"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def holds(self, files: list[Path], boundary: str = "b") -> None:
        """Serve these files as a study."""
        listed = [
            {
                "00080018": {"vr": "UI", "Value": [str(dataset.SOPInstanceUID)]},
                "00080016": {"vr": "UI", "Value": [str(dataset.SOPClassUID)]},
            }
            for dataset in map(dcmread, files)
        ]
        self.listing = (200, {"Content-Type": "application/dicom+json"}, json.dumps(listed).encode())
        parts = [f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode() + f.read_bytes() for f in files]
        body = b"\r\n".join([*parts, f"--{boundary}--\r\n".encode()])
        self.study = (
            200,
            {"Content-Type": f'multipart/related; type="application/dicom"; boundary="{boundary}"'},
            body,
        )

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    opened = Server()
    yield opened
    opened.close()


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return phantom(tmp_path / "study", 4, slices=3, matrix=32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (made := tmp_path / "got").mkdir()
    return made


@pytest.mark.parametrize("piece", [3, 7, 1 << 16])
def test_files_arrive_byte_for_byte_however_the_answer_is_cut(
    server: Server, files: list[Path], folder: Path, piece: int
) -> None:
    server.holds(files, boundary="-x-boundary")
    server.piece = piece
    got = get_study_by_web(server.url, "1.2", folder, timeout=10, authorization="Bearer abc")
    assert {file.read_bytes() for file in got.files.values()} == {file.read_bytes() for file in files}
    assert set(got.listed) == set(got.files)
    assert {authorization for _, authorization in server.seen} == {"Bearer abc"}


def test_the_pace_holds_before_each_instance(server: Server, files: list[Path], folder: Path) -> None:
    server.holds(files)
    times: list[float] = []
    get_study_by_web(server.url, "1.2", folder, timeout=5, pace=lambda: times.append(time.monotonic()))
    assert len(times) == 3


def cut(server: Server) -> None:
    status, headers, body = server.study
    server.study = (status, headers, body[:-40])


def elsewhere(server: Server) -> None:
    server.study = (302, {"Location": "http://127.0.0.1:1/"}, b"")


def refused(server: Server) -> None:
    server.listing = (401, {}, b"")


def no_multipart(server: Server) -> None:
    server.study = (200, {"Content-Type": "text/html"}, b"<html>")


def no_json(server: Server) -> None:
    server.listing = (200, {}, b"<html>")


@pytest.mark.parametrize(
    ("breaks", "error"),
    [(cut, ConnectionBroken), (elsewhere, Refused), (refused, Refused), (no_multipart, Refused), (no_json, Refused)],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_a_wrong_answer_is_a_reason(
    server: Server, files: list[Path], folder: Path, breaks: Callable[[Server], None], error: type[SendError]
) -> None:
    server.holds(files)
    breaks(server)
    with pytest.raises(error):
        get_study_by_web(server.url, "1.2", folder, timeout=5)


@pytest.mark.parametrize("piece", [100, 1 << 16])
def test_an_endless_instance_is_cut_off(server: Server, files: list[Path], folder: Path, piece: int) -> None:
    server.holds(files)
    server.piece = piece
    with pytest.raises(ConnectionBroken, match="more than 1000 bytes"):
        get_study_by_web(server.url, "1.2", folder, timeout=5, max_bytes=1000)


def test_a_server_that_lists_and_sends_nothing_is_told_apart_from_an_empty_archive(
    server: Server, files: list[Path], folder: Path
) -> None:
    assert get_study_by_web(server.url, "1.2", folder, timeout=5).listed == {}
    server.holds(files)
    server.study = (404, {}, b"")
    got = get_study_by_web(server.url, "1.2", folder, timeout=5)
    assert (len(got.listed), got.files) == (3, {})


def test_nobody_there_is_told(folder: Path) -> None:
    with pytest.raises(Unreachable, match="check host, port"):
        get_study_by_web(f"http://127.0.0.1:{free_port()}", "1.2", folder, timeout=5)


def test_a_uid_that_is_none_never_reaches_a_url(folder: Path) -> None:
    with pytest.raises(ValueError, match="no UID"):
        get_study_by_web("http://127.0.0.1:1", "1.2/../../x", folder, timeout=5)
