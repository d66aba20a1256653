"""Who calls over HTTP: a bearer token or a verified certificate; on loopback nobody is asked by default.

A refusal is an audit event, the first in a minute by itself and the others as a count; so is who came in by a token or
certificate, once in an hour (PS3.15 A.5.3.13, User Authentication).
"""

import hmac
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from fastapi import HTTPException, Request

from config.settings import StowSource, Web
from gateway.app import CannotStart
from gateway.dicom.trail import Trail
from storage import AuditEvent, AuditEventType, peer_actor

SHORTEST_TOKEN = 16
LOGIN_SECONDS = 3600.0  # a monitor asks every few seconds: one record for that long
_MOST_CALLERS = 1000  # that are remembered
LOCAL_SENDER = "STOW-RS"  # the name of a sender on this machine while no sources are configured


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends instances over HTTP."""

    ae_title: str
    address: str
    source: StowSource | None = None


class Doorkeeper:
    """The tokens, read once at the start, and the decisions."""

    def __init__(self, web: Web, trail: Trail) -> None:
        """Raises CannotStart when a token cannot be read or is too short."""
        self._trail = trail
        self._came_in: dict[tuple[str, str], float] = {}
        self._remembering = threading.Lock()
        self._token = read_token(web.token_file) if web.token_file is not None else None
        self._sources: Sequence[tuple[StowSource, str | None]] = [
            (source, read_token(source.token_file) if source.token_file is not None else None)
            for source in web.stow_sources
        ]

    def observer(self, request: Request) -> None:
        """Let in who may see health and metrics. Raises HTTPException 401."""
        if self._token is None:
            return
        if not same(_bearer(request), self._token):
            self._refused(request, "web_token", AuditEventType.LOGIN_REFUSED)
            raise HTTPException(401, "a bearer token is needed (web.token_file)", {"WWW-Authenticate": "Bearer"})
        event = self._login("HTTP", address_of(request), "token")
        if event is not None:
            self._trail.write_later(event)  # whoever asks how the database is does not wait for it

    def sender(self, request: Request) -> Sender:
        """Who sends. Raises HTTPException 401 or 403."""
        address = address_of(request)
        if not self._sources:
            if is_loopback(address):
                return Sender(LOCAL_SENDER, address)
            self._refused(request, "stow_source")
            raise HTTPException(403, "no web.stow_sources are configured, so only this machine itself may send")
        placed = [(source, token) for source, token in self._sources if source.admits(address)]
        if not placed:
            self._refused(request, "stow_address")
            raise HTTPException(403, "no source in web.stow_sources calls from this address")
        given, subject = _bearer(request), request.scope.get("state", {}).get("subject")
        for source, token in placed:
            certified = source.certificate_subject is None or source.certificate_subject == subject
            if certified and (token is None or same(given, token)):
                known_by = "token" if token is not None else "certificate" if source.certificate_subject else "address"
                event = self._login(source.ae_title, address, known_by) if known_by != "address" else None
                if event is not None:
                    self._trail.write(event)
                return Sender(source.ae_title, address, source)
        self._refused(request, "stow_token", AuditEventType.LOGIN_REFUSED)
        raise HTTPException(401, "the token or certificate is no source's", {"WWW-Authenticate": "Bearer"})

    def _login(self, name: str, address: str, known_by: str) -> AuditEvent | None:
        """The event that somebody came in; None where it was told within the hour."""
        now = time.monotonic()
        with self._remembering:
            told = self._came_in.get((name, address))
            if told is not None and now - told < LOGIN_SECONDS:
                return None
            if len(self._came_in) >= _MOST_CALLERS:
                self._came_in.clear()
            self._came_in[name, address] = now
        return AuditEvent(AuditEventType.LOGIN, peer_actor(name, address), details={"by": known_by})

    def _refused(self, request: Request, reason: str, event: AuditEventType = AuditEventType.ACCESS_REFUSED) -> None:
        self._trail.meeting(event, "HTTP", address_of(request), reason, {})


def read_token(path: Path) -> str:
    """The bearer token in a file. Raises CannotStart when there is none worth the name."""
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as fault:
        raise CannotStart(f"{path}: the token cannot be read; check the path and its owner") from fault
    if len(token) < SHORTEST_TOKEN:
        raise CannotStart(f"{path}: the token has fewer than {SHORTEST_TOKEN} characters; use: openssl rand -hex 32")
    return token


def same(given: str, token: str) -> bool:
    """Compared in a time that tells nothing of how much was right."""
    return hmac.compare_digest(given.encode(), token.encode())


def address_of(request: Request) -> str:
    """The caller's address, as the connection says."""
    return request.client.host if request.client is not None else "unknown"


def is_loopback(address: str) -> bool:
    try:
        found = ip_address(address)
    except ValueError:
        return False
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
