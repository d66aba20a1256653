"""One POST to the receiver: no proxy, no redirect, no cookie; what is not a 2xx did not arrive."""

import ssl
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit


class NotDelivered(Exception):
    """The receiver did not confirm an alert; it is sent again. `status`: its answer, where it gave one."""

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class Webhook:
    """The receiver's address. A redirect is a refusal: it would take alerts to somebody whom nobody configured."""

    def __init__(self, url: str, *, timeout: float = 10.0, authorities: Path | None = None) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._timeout = timeout
        self._context = ssl.create_default_context(cafile=authorities) if parts.scheme == "https" else None

    def post(self, body: bytes, headers: Mapping[str, str]) -> None:
        """Send one alert and read the answer. Raises NotDelivered."""
        connection = self._connection()
        try:
            connection.request("POST", self._target, body, {**headers, "User-Agent": "Scanwarden"})
            answer = connection.getresponse()
            answer.read(4096)
        except (OSError, HTTPException, ValueError) as fault:
            raise NotDelivered(f"{self._host}: {type(fault).__name__}: {fault}") from fault
        finally:
            connection.close()
        if not 200 <= answer.status < 300:
            raise NotDelivered(f"{self._host} answered {answer.status}", answer.status)

    def _connection(self) -> HTTPConnection:
        if self._context is not None:
            return HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._context)
        return HTTPConnection(self._host, self._port, timeout=self._timeout)
