"""OHIF's pages and the archive's DICOMweb behind one address, because a browser lets pages read only their own site."""

import json
import mimetypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.peers import Orthanc

DICOMWEB = "/dicom-web"
# As in OHIF's own default.js, but for the addresses and the question to those who use it for the first time.
CONFIGURATION = {
    "routerBasename": None,
    "extensions": [],
    "modes": [],
    "showStudyList": True,
    "maxNumberOfWebWorkers": 2,
    "showCPUFallbackMessage": False,
    "strictZSpacingForVolumeViewport": True,
    "investigationalUseDialog": {"option": "never"},
    "defaultDataSourceName": "dicomweb",
    "dataSources": [
        {
            "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
            "sourceName": "dicomweb",
            "configuration": {
                "friendlyName": "Orthanc",
                "name": "orthanc",
                "qidoRoot": DICOMWEB,
                "wadoRoot": DICOMWEB,
                "wadoUriRoot": "/wado",
                "qidoSupportsIncludeField": False,
                "imageRendering": "wadors",
                "thumbnailRendering": "wadors",
                "enableStudyLazyLoad": True,
                "supportsFuzzyMatching": False,
                "supportsWildcard": True,
                "omitQuotationForMultipartRequest": True,
                "bulkDataURI": {"enabled": True},
            },
        }
    ],
}


@contextmanager
def open_site(pages: Path, archive: Orthanc) -> Iterator[str]:
    """Serve them on a free loopback port; gives the address."""

    class Handler(_Handler):
        folder = pages
        peer = archive

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, name="viewer-site")
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30  # the browser keeps its connections open; the server waits for its threads at the end
    folder: Path
    peer: Orthanc

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/app-config.js":
            self._answer(200, "text/javascript", f"window.config = {json.dumps(CONFIGURATION)};".encode())
        elif path.startswith((DICOMWEB + "/", "/wado")):
            self._pass_on()
        else:
            file = self.folder / path.lstrip("/")
            if not file.is_file() or not file.resolve().is_relative_to(self.folder.resolve()):
                file = self.folder / "index.html"  # the viewer's own addresses, /viewer say
            self._answer(200, mimetypes.guess_type(file.name)[0] or "application/octet-stream", file.read_bytes())

    def _pass_on(self) -> None:
        connection = HTTPConnection(self.peer.host, self.peer.http_port, timeout=60)
        try:
            headers = {"Accept": self.headers.get("Accept", "*/*"), "Host": self.headers["Host"]}
            connection.request("GET", self.path, headers=headers)
            answer = connection.getresponse()
            kind = answer.getheader("Content-Type") or "application/octet-stream"
            self._answer(answer.status, kind, answer.read())
        finally:
            connection.close()

    def _answer(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        # Without these two a page has no shared memory, and OHIF's loaders need it.
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Say nothing: addresses hold UIDs."""
