"""Who calls over HTTP: a bearer token or a verified certificate; on loopback nobody is asked by default.

A refusal is an audit event, the first in a minute by itself and the others as a count.
"""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from fastapi import HTTPException, Request

from config.settings import StowSource, Web
from gateway.app import CannotStart
from gateway.dicom.trail import Trail
from storage import AuditEventType

SHORTEST_TOKEN = 16
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
        self._token = read_token(web.token_file) if web.token_file is not None else None
        self._sources: Sequence[tuple[StowSource, str | None]] = [
            (source, read_token(source.token_file) if source.token_file is not None else None)
            for source in web.stow_sources
        ]

    def observer(self, request: Request) -> None:
        """Let in who may see health and metrics. Raises HTTPException 401."""
        if self._token is not None and not same(_bearer(request), self._token):
            self._refused(request, "web_token")
            raise HTTPException(401, "a bearer token is needed (web.token_file)", {"WWW-Authenticate": "Bearer"})

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
                return Sender(source.ae_title, address, source)
        self._refused(request, "stow_token")
        raise HTTPException(401, "the token or certificate is no source's", {"WWW-Authenticate": "Bearer"})

    def _refused(self, request: Request, reason: str) -> None:
        self._trail.meeting(AuditEventType.ACCESS_REFUSED, "HTTP", address_of(request), reason, {})


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
