"""Storing over DICOMweb: STOW-RS (PS3.18 10.5), one object a request on one connection, byte for byte.

One object a request, so that each has an answer of its own: what an archive acknowledged before it broke off is known,
and a report is not on its way before its regions are there. Nothing follows a redirect: the archive is who the settings
say.
"""

import http.client
import json
import ssl
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import urlsplit

from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info

from config.settings import Destination
from gateway.dicom.scu import ConnectionBroken, Rejected, SendOutcome, Unreachable
from gateway.dicom.statuses import is_warning
from gateway.dicom.tls import TlsFault, client_context

_CHUNK = 1 << 18
_MOST_ANSWER = 1 << 20
_REFERENCED, _FAILED = "00081199", "00081198"
_UID, _WARNING, _FAILURE = "00081155", "00081196", "00081197"
PROCESSING_FAILURE = 0x0110
# HTTP statuses without a word about the object, and the DICOM status that asks for the same.
_STATUSES = {400: 0xC000, 409: PROCESSING_FAILURE, 413: 0xA900, 415: 0x0122, 507: 0xA700}


def store(
    files: Iterable[Path], destination: Destination, *, wanted: Callable[[Path], bool] = lambda _: True
) -> Iterator[SendOutcome]:
    """Send files to `destination.dicomweb`; an outcome for each, as it is known, with the reason as a DICOM status.

    `wanted` is asked before each file is sent. Raises Unreachable, Rejected or ConnectionBroken, after which the files
    without an outcome are not delivered.
    """
    connection = _Connection(destination)
    try:
        for path in files:
            if wanted(path):
                yield connection.store(path)
    finally:
        connection.close()


class _Connection:
    """Kept open from one object to the next; opened again where the archive closes it after each."""

    def __init__(self, destination: Destination) -> None:
        self._url = destination.dicomweb or ""
        self._name = f"{destination.name} ({self._url})"
        self._timeout = destination.timeout
        self._headers = _authorization(destination, self._name)
        root = urlsplit(self._url)
        self._target = root.path.rstrip("/") + "/studies"
        host = root.hostname or ""
        try:
            tls = client_context(destination.tls) if destination.tls is not None else None
        except TlsFault as fault:
            raise Unreachable(f"{self._name}: {fault}") from fault
        self._connection = (
            http.client.HTTPSConnection(
                host, root.port, timeout=self._timeout, context=tls or ssl.create_default_context()
            )
            if root.scheme == "https"
            else http.client.HTTPConnection(host, root.port, timeout=self._timeout)
        )

    def close(self) -> None:
        self._connection.close()

    def store(self, path: Path) -> SendOutcome:
        try:
            uid = str(read_file_meta_info(path).MediaStorageSOPInstanceUID)
            size = path.stat().st_size
        except (InvalidDicomError, AttributeError, ValueError, EOFError):
            return SendOutcome(path, None, None, "not a DICOM file (PS3.10): no file meta information")
        except OSError as error:
            return SendOutcome(path, None, None, f"cannot be read: {error.strerror}")
        self._connect()
        try:
            status, content = self._post(path, size)
        except TimeoutError as fault:
            self.close()
            raise ConnectionBroken(f"{self._name}: no answer within {self._timeout:g} s for {uid}", path) from fault
        except (OSError, http.client.HTTPException) as fault:
            self.close()
            raise ConnectionBroken(f"{self._name} broke off at {uid}: {type(fault).__name__}", path) from fault
        return self._outcome(path, uid, status, content)

    def _connect(self) -> None:
        if self._connection.sock is not None:
            return
        try:
            self._connection.connect()
        except ssl.SSLError as fault:
            text = f"{self._name}: TLS fails: {fault.reason or fault}; check the certificates on both sides"
            raise Unreachable(text) from fault
        except OSError as fault:
            text = f"{self._name}: no connection: {fault.strerror or fault}; check host, port and firewall"
            raise Unreachable(text) from fault

    def _post(self, path: Path, size: int) -> tuple[int, bytes]:
        boundary = token_hex(16)
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        tail = f"\r\n--{boundary}--\r\n".encode()

        def body() -> Iterator[bytes]:
            yield head
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    yield chunk
            yield tail

        headers = {
            **self._headers,
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Content-Length": str(len(head) + size + len(tail)),
            "Accept": "application/dicom+json",
        }
        self._connection.request("POST", self._target, body(), headers)
        answer = self._connection.getresponse()
        content = answer.read(_MOST_ANSWER)
        if answer.read(1):
            self.close()  # more than anybody says about one object: what follows is not read
        return answer.status, content

    def _outcome(self, path: Path, uid: str, status: int, content: bytes) -> SendOutcome:
        if status in (401, 403, 404, 405, 407) or 300 <= status < 400:
            raise Rejected(f"{self._name} answers STOW-RS with HTTP status {status}; look at its log", permanent=True)
        if status in (429, 502, 503, 504):
            raise Rejected(f"{self._name} answers STOW-RS with HTTP status {status}: not now", permanent=False)
        said = _reason_for(content, uid)
        if said is not None:
            comment = "" if said == 0 else "stored with a warning" if is_warning(said) else f"HTTP status {status}"
            return SendOutcome(path, uid, said, comment)
        if status == 200:  # PS3.18 table 10.5.3-1: every instance is stored
            return SendOutcome(path, uid, 0, "")
        reason = PROCESSING_FAILURE if status == 202 else _STATUSES.get(status, PROCESSING_FAILURE)
        return SendOutcome(path, uid, reason, f"HTTP status {status} without a word about the object")


def _authorization(destination: Destination, name: str) -> dict[str, str]:
    if destination.authorization_file is None:
        return {}
    try:
        value = destination.authorization_file.read_text(encoding="utf-8").strip()
    except OSError as fault:
        raise Unreachable(f"{name}: the authorization file cannot be read: {fault.strerror}") from fault
    return {"Authorization": value}


def _reason_for(content: bytes, uid: str) -> int | None:
    """The status of this object in a Store Instances Response Module (PS3.18 10.5.3.1.1); None: not mentioned."""
    try:
        said = json.loads(content)
    except ValueError:
        return None
    said = said[0] if isinstance(said, list) and said else said
    if not isinstance(said, dict):
        return None
    for item in _items(said, _FAILED):
        if _first(item, _UID) == uid:
            return _number(_first(item, _FAILURE), PROCESSING_FAILURE)
    for item in _items(said, _REFERENCED):
        if _first(item, _UID) == uid:
            return _number(_first(item, _WARNING), 0)
    return None


def _items(said: dict[str, Any], tag: str) -> list[Any]:
    value = said.get(tag)
    items = value.get("Value") if isinstance(value, dict) else None
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _first(item: dict[str, Any], tag: str) -> Any:
    value = item.get(tag)
    values = value.get("Value") if isinstance(value, dict) else None
    return values[0] if isinstance(values, list) and values else None


def _number(value: Any, otherwise: int) -> int:
    try:
        return int(value) & 0xFFFF
    except (TypeError, ValueError):
        return otherwise
