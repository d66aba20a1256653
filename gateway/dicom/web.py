"""Reading an archive over DICOMweb: QIDO-RS for what it lists, WADO-RS for the instances (PS3.18 10.6, 10.4).

With the standard library alone, and without following redirects: the archive is who the settings say. Parts go to disk
as they arrive, in whatever transfer syntax the archive keeps them; nothing is decoded.
"""

import http.client
import json
import re
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from pydicom.filereader import read_file_meta_info

from gateway.dicom.header import is_uid
from gateway.dicom.retrieve import Fetched, Listed
from gateway.dicom.scu import ConnectionBroken, Refused, Unreachable

PAGE = 1000
_CHUNK = 1 << 18
_MOST_HEADER = 1 << 16
_ACCEPT = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_BOUNDARY = re.compile(r'boundary="?([^";]+)"?', re.IGNORECASE)


def get_study_by_web(
    url: str,
    study_uid: str,
    folder: Path,
    *,
    timeout: float,
    tls: ssl.SSLContext | None = None,
    authorization: str | None = None,
    max_bytes: int = 4 * 1024**3,
    pace: Callable[[], None] = lambda: None,
    series_uid: str | None = None,
    listed: Callable[[int], None] = lambda _: None,
) -> Fetched:
    """Fetch a study, or one of its series, into `folder` from the DICOMweb root `url`.

    `authorization` is the header's value. `pace` is called before each instance is read; the archive has to wait, since
    nobody takes its bytes. `listed` hears how many there are. An instance above `max_bytes` ends it. Raises SendError.
    """
    for each in (study_uid, series_uid):
        if each is not None and not is_uid(each):
            raise ValueError(f"{each!r} is no UID")
    headers = {"Authorization": authorization} if authorization else {}
    path = f"/studies/{study_uid}" + (f"/series/{series_uid}" if series_uid is not None else "")
    fetched = Fetched(_listed(url, path, headers, timeout, tls))
    listed(len(fetched.listed))
    if not fetched.listed:
        return fetched
    with _answer(url, path, {**headers, "Accept": _ACCEPT}, timeout, tls) as answer:
        if answer.status in (204, 404):
            return fetched
        boundary = _BOUNDARY.search(answer.getheader("Content-Type") or "")
        if boundary is None:
            raise Refused(f"{url} answers WADO-RS without a multipart body; look at its log", None)
        parts = _Parts(answer, boundary[1].encode("ascii", "replace"), max_bytes)
        while parts.next():
            pace()
            file_path = folder / f"{token_hex(16)}.dcm"
            with file_path.open("xb") as file:
                parts.copy_to(file.write)
            uid = _uid(file_path)
            if uid is not None:
                fetched.files[uid] = file_path
    return fetched


class _Parts:
    """The parts of a multipart body (RFC 2046 5.1), one after the other, never a whole one in memory."""

    def __init__(self, answer: http.client.HTTPResponse, boundary: bytes, limit: int) -> None:
        self._answer, self._limit = answer, limit
        self._mark = b"\r\n--" + boundary
        self._buffer = b"\r\n"  # the first boundary has no line before it
        self._inside = False

    def next(self) -> bool:
        """Go to the next part's content; False at the end."""
        if not self._inside:
            self.copy_to(lambda _: None)  # the preamble
        self._inside = True
        while len(self._buffer) < 2:
            self._read()
        if self._buffer.startswith(b"--"):
            return False
        while b"\r\n\r\n" not in self._buffer:
            if len(self._buffer) > _MOST_HEADER:
                raise ConnectionBroken("the archive's answer has a part without an end of its header")
            self._read()
        self._buffer = self._buffer.partition(b"\r\n\r\n")[2]
        return True

    def copy_to(self, write: Callable[[bytes], object]) -> None:
        """Hand on the content up to the next boundary."""
        written = 0
        while (at := self._buffer.find(self._mark)) < 0:
            ready = len(self._buffer) - len(self._mark)
            if ready > 0:
                self._bound(written + ready)
                write(self._buffer[:ready])
                written += ready
                self._buffer = self._buffer[ready:]
            self._read()
        self._bound(written + at)
        write(self._buffer[:at])
        self._buffer = self._buffer[at + len(self._mark) :]

    def _bound(self, size: int) -> None:
        if size > self._limit:
            raise ConnectionBroken(f"the archive sends an instance of more than {self._limit} bytes; it is cut off")

    def _read(self) -> None:
        more = self._answer.read1(_CHUNK)
        if not more:
            raise ConnectionBroken("the archive's answer ends before its last boundary; look at its log")
        self._buffer += more


def search_by_web(
    url: str,
    path: str,
    parameters: Mapping[str, str],
    *,
    timeout: float,
    tls: ssl.SSLContext | None = None,
    authorization: str | None = None,
    most: int = PAGE,
) -> Sequence[Mapping[str, Any]]:
    """What QIDO-RS answers to a search (PS3.18 10.6), at most `most` of it. Raises SendError."""
    headers = {"Authorization": authorization} if authorization else {}
    query = urlencode({**parameters, "limit": str(most)}, quote_via=quote)
    return [each for each in _page(url, f"{path}?{query}", headers, timeout, tls) if isinstance(each, dict)][:most]


def _listed(
    url: str, path: str, headers: Mapping[str, str], timeout: float, tls: ssl.SSLContext | None
) -> dict[str, Listed]:
    found: dict[str, Listed] = {}
    while True:
        query = f"{path}/instances?includefield=00080016&limit={PAGE}&offset={len(found)}"
        page = _page(url, query, headers, timeout, tls)
        before = len(found)
        for each in page:
            uid = value_of(each, "00080018")
            if is_uid(uid):
                found[uid] = Listed(uid, value_of(each, "00080016"), value_of(each, "0020000E"))
        # Fewer than asked for is the end; so is a page that says nothing new, from a server that knows no offset.
        if len(page) < PAGE or len(found) == before:
            return found


def _page(
    url: str, query: str, headers: Mapping[str, str], timeout: float, tls: ssl.SSLContext | None
) -> Sequence[Any]:
    with _answer(url, query, {**headers, "Accept": "application/dicom+json"}, timeout, tls) as answer:
        if answer.status in (204, 404):
            return []
        try:
            page = json.loads(answer.read())
        except ValueError as fault:
            raise Refused(f"{url} answers QIDO-RS with something that is no JSON", None) from fault
    return page if isinstance(page, list) else []


def value_of(answer: Any, tag: str) -> str:
    """The first value of an element in the DICOM JSON model, as text; empty without one."""
    values = answer.get(tag, {}).get("Value") if isinstance(answer, dict) else None
    return str(values[0]) if values else ""


@contextmanager
def _answer(
    url: str, path: str, headers: Mapping[str, str], timeout: float, tls: ssl.SSLContext | None
) -> Iterator[http.client.HTTPResponse]:
    root = urlsplit(url)
    host = root.hostname or ""
    connection = (
        http.client.HTTPSConnection(host, root.port, timeout=timeout, context=tls or ssl.create_default_context())
        if root.scheme == "https"
        else http.client.HTTPConnection(host, root.port, timeout=timeout)
    )
    try:
        connection.request("GET", root.path.rstrip("/") + path, headers=dict(headers))
        answer = connection.getresponse()
        if answer.status not in (200, 204, 206, 404):
            raise Refused(f"{url} answers with HTTP status {answer.status}; look at its log", None)
        yield answer
    except ssl.SSLError as fault:
        raise Unreachable(f"{url}: TLS fails: {fault.reason or fault}; check the certificates on both sides") from fault
    except TimeoutError as fault:
        raise ConnectionBroken(f"{url}: no answer within {timeout:g} s; look at its log") from fault
    except OSError as fault:
        raise Unreachable(f"{url}: {fault.strerror or fault}; check host, port and firewall") from fault
    except http.client.HTTPException as fault:
        raise ConnectionBroken(f"{url}: {type(fault).__name__} in its answer; look at its log") from fault
    finally:
        connection.close()


def _uid(path: Path) -> str | None:
    """The UID in the file's own header; None when it is none, and the instance counts as not sent."""
    try:
        uid = str(read_file_meta_info(path).MediaStorageSOPInstanceUID)
    except Exception:  # noqa: BLE001 - whatever was sent is no Part 10 file
        return None
    return uid if is_uid(uid) else None
