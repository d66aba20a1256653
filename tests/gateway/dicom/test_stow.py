"""STOW-RS out: to a real Orthanc byte for byte, and to an archive of the test that answers in every way there is."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from config.settings import Destination
from gateway.dicom.scu import ConnectionBroken, Rejected, Unreachable
from gateway.dicom.statuses import Judgement
from gateway.dicom.stow import store
from tests.gateway.dicom.conftest import free_port
from tests.gateway.dicom.test_receiving import data_set_bytes
from tests.gateway.dicom.test_scu import written
from tests.peers import Orthanc, running_orthanc
from tests.signers import authority, signer

UID = "00081155"


def destination(url: str, **values: object) -> Destination:
    return Destination.model_validate({"name": "pacs", "dicomweb": url, "transport": "stow", "timeout": 5, **values})


class WebArchive:
    """An HTTP server that answers as it is told; `answer` gets the UID of what arrived."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.connections = 0
        self.answer: Callable[[], tuple[int, Any] | None] = lambda: (200, None)
        archive = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                archive.connections += 1
                super().setup()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                archive.requests.append((self.path, dict(self.headers), body))
                said = archive.answer()
                if said is None:
                    self.close_connection = True
                    self.connection.close()
                    return
                status, content = said
                payload = b"" if content is None else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, *_arguments: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        scheme = "http"
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            scheme = "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}/dicom-web"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def archive() -> Iterator[WebArchive]:
    running = WebArchive()
    yield running
    running.close()


def said(uid: str, *, failed: int | None = None, warning: int | None = None) -> dict[str, Any]:
    item: dict[str, Any] = {UID: {"vr": "UI", "Value": [uid]}}
    if failed is not None:
        return {"00081198": {"vr": "SQ", "Value": [{**item, "00081197": {"vr": "US", "Value": [failed]}}]}}
    if warning is not None:
        item["00081196"] = {"vr": "US", "Value": [warning]}
    return {"00081199": {"vr": "SQ", "Value": [item]}}


@pytest.fixture(scope="module")
def orthanc() -> Iterator[Orthanc]:
    with running_orthanc(plugins=("libOrthancDicomWeb.so",)) as running:
        yield running


@pytest.mark.peers
def test_a_real_orthanc_has_what_was_stored_byte_for_byte(orthanc: Orthanc, tmp_path: Path) -> None:
    files = [written(tmp_path, f"{n}.dcm", StudyInstanceUID="1.2.826.9.1", PatientID="P1") for n in range(3)]
    outcomes = list(store(files, destination(f"{orthanc.url}/dicom-web")))
    assert [(o.path, o.status, o.stored) for o in outcomes] == [(f, 0, True) for f in files]
    for outcome in outcomes:
        copy = tmp_path / "copy.dcm"
        copy.write_bytes(orthanc.file(str(outcome.sop_instance_uid)))
        assert data_set_bytes(copy) == data_set_bytes(outcome.path)
    again = list(store(files[:1], destination(f"{orthanc.url}/dicom-web")))
    assert again[0].stored
    assert len(orthanc.instances("1.2.826.9.1")) == 3


@pytest.mark.peers
def test_a_real_orthanc_says_which_object_it_does_not_take(orthanc: Orthanc, tmp_path: Path) -> None:
    good = written(tmp_path, "good.dcm")
    bad = tmp_path / "bad.dcm"
    bad.write_bytes(good.read_bytes()[:400])
    (first, second) = store([bad, good], destination(f"{orthanc.url}/dicom-web"))
    assert not first.stored
    assert second.stored


def test_objects_go_over_one_connection_in_order_with_the_authorization(archive: WebArchive, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("Bearer abc\n")
    files = [written(tmp_path, f"{n}.dcm") for n in range(4)]
    outcomes = list(store(files, destination(archive.url, authorization_file=token), wanted=lambda p: p != files[2]))
    assert [o.path for o in outcomes] == [files[0], files[1], files[3]]
    assert archive.connections == 1
    for (path, headers, body), file in zip(archive.requests, [files[0], files[1], files[3]], strict=True):
        assert path == "/dicom-web/studies"
        assert headers["Authorization"] == "Bearer abc"
        assert headers["Content-Type"].startswith('multipart/related; type="application/dicom"; boundary=')
        assert file.read_bytes() in body


@pytest.mark.parametrize(
    ("status", "make", "expected", "judgement"),
    [
        (200, lambda uid: said(uid), 0, Judgement.STORED),
        (200, lambda uid: [said(uid)], 0, Judgement.STORED),
        (202, lambda uid: said(uid, warning=0xB007), 0xB007, Judgement.STORED),
        (200, lambda uid: said(uid, failed=0xA700), 0xA700, Judgement.NO_ROOM),
        (409, lambda uid: said(uid, failed=0x0111), 0x0111, Judgement.STORED),
        (409, lambda uid: said(uid, failed=0x0122), 0x0122, Judgement.NEVER),
        (202, lambda uid: said(uid, failed=0xC122), 0xC122, Judgement.NEVER),
        (409, lambda uid: said(uid, failed=0x0110), 0x0110, Judgement.AGAIN),
        (202, lambda _: said("1.2.3"), 0x0110, Judgement.AGAIN),
        (409, lambda _: None, 0x0110, Judgement.AGAIN),
        (400, lambda _: None, 0xC000, Judgement.NEVER),
        (413, lambda _: None, 0xA900, Judgement.NEVER),
        (415, lambda _: None, 0x0122, Judgement.NEVER),
        (507, lambda _: None, 0xA700, Judgement.NO_ROOM),
        (500, lambda _: None, 0x0110, Judgement.AGAIN),
        (409, lambda _: {"00081198": {"Value": ["nonsense", {UID: 7}]}, "00081199": 5}, 0x0110, Judgement.AGAIN),
    ],
)
def test_each_answer_of_ps3_18_is_taken_for_what_it_means(
    archive: WebArchive,
    tmp_path: Path,
    status: int,
    make: Callable[[str], Any],
    expected: int,
    judgement: Judgement,
) -> None:
    from pydicom import dcmread

    file = written(tmp_path)
    uid = str(dcmread(file).SOPInstanceUID)
    archive.answer = lambda: (status, make(uid))
    (outcome,) = store([file], destination(archive.url))
    assert (outcome.status, outcome.judgement) == (expected, judgement)


@pytest.mark.parametrize(
    ("status", "transient"), [(401, False), (403, False), (404, False), (302, False), (503, True), (429, True)]
)
def test_an_archive_that_refuses_us_says_nothing_of_the_object(
    archive: WebArchive, tmp_path: Path, status: int, transient: bool
) -> None:
    archive.answer = lambda: (status, None)
    with pytest.raises(Rejected, match=str(status)) as rejected:
        list(store([written(tmp_path)], destination(archive.url)))
    assert rejected.value.transient is transient
    assert len(archive.requests) == 1


def test_an_archive_that_breaks_off_names_the_object_that_was_on_its_way(archive: WebArchive, tmp_path: Path) -> None:
    files = [written(tmp_path, f"{n}.dcm") for n in range(3)]
    archive.answer = lambda: (200, None) if len(archive.requests) < 2 else None
    outcomes = store(files, destination(archive.url))
    assert next(outcomes).path == files[0]
    with pytest.raises(ConnectionBroken) as broken:
        next(outcomes)
    assert broken.value.path == files[1]


def test_nobody_there_and_a_certificate_of_somebody_else_are_unreachable(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="no connection"):
        list(store([written(tmp_path)], destination(f"http://127.0.0.1:{free_port()}")))
    ca, other = authority(tmp_path, "ca"), authority(tmp_path, "other")
    server = signer(tmp_path, ca, "server", address="127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.private_key)
    archive = WebArchive(context)
    try:
        ours = {"certificate": server.certificate, "private_key": server.private_key}
        with pytest.raises(Unreachable, match="TLS fails"):
            list(store([written(tmp_path)], destination(archive.url, tls={**ours, "authorities": other.certificate})))
        (outcome,) = store([written(tmp_path)], destination(archive.url, tls={**ours, "authorities": ca.certificate}))
        assert outcome.stored
    finally:
        archive.close()


def test_a_destination_over_the_web_needs_no_title_and_no_port() -> None:
    made = destination("https://pacs.example/dicom-web")
    assert (made.ae_title, made.host, made.port) == ("DICOMWEB", "pacs.example", 443)
