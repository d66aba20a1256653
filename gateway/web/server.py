"""The HTTP port from its opening to its drained end; uvicorn underneath, TLS after BCP 195 as on the DICOM port."""

import asyncio
import signal
import socket
import ssl
from contextlib import closing
from types import FrameType
from typing import Any

import h11
import structlog
from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from config.settings import Web
from gateway.app import App, CannotStart
from gateway.dicom.tls import TlsFault, common_name, server_context
from gateway.web.app import Draining, WebApp, create_app
from gateway.web.readiness import impatient
from storage import open_database

log = structlog.get_logger(__name__)

DRAIN_SECONDS = 25  # below the supervisor's patience
HEAD_SECONDS = 15.0  # for a whole request line with its headers


class Connection(H11Protocol):
    """One connection: knows the caller's certificate, and does not wait for ever for the head of a request."""

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Note whose certificate it is; each request finds it as `request.state.subject`."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "subject": common_name(transport.get_extra_info("peercert"))}
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        """Take bytes; uvicorn's own timers only run between two requests."""
        super().data_received(data)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer with the connection."""
        self._forget_timer()
        super().connection_lost(exc)

    def _watch_head(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._forget_timer()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def _too_slow(self) -> None:
        self._head_timer = None
        if self.conn.their_state is h11.IDLE and (self.cycle is None or self.cycle.response_complete):
            self.transport.abort()

    def _forget_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def serve(app: App) -> None:
    """Answer HTTP until SIGTERM; SIGUSR1 says that the service drains. Raises CannotStart."""
    web = app.settings.web
    if not web.on_this_machine and not web.asks_who_calls:
        raise CannotStart(
            f"web.host: {web.host} opens health and metrics to the network, and nobody is asked who they are; "
            "name a file with a token in `web.token_file`, ask for certificates with `web.tls`, or use 127.0.0.1"
        )
    draining = Draining()

    def drain(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a handler
        draining.begin()

    signal.signal(signal.SIGUSR1, drain)
    # Probes have a patience of their own: a database that hangs must be told in seconds.
    with (
        open_database(impatient(app.settings)) as database,
        closing(WebApp(app, database, draining)) as parts,
        listening(web) as listener,
    ):
        http_server(web, create_app(parts)).run([listener])
    log.info("the HTTP port is closed")


def http_server(web: Web, application: Any) -> Server:
    tls = web.tls
    context: ssl.SSLContext | None = None
    if tls is not None:
        try:
            context = server_context(tls)
        except TlsFault as fault:
            raise CannotStart(f"web.tls: {fault}") from fault
    config = Config(
        application,
        http=Connection,
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,  # a path or a query may name a patient
        proxy_headers=False,  # who calls is what the connection says, not what a header claims
        server_header=False,
        limit_concurrency=web.max_requests,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        ssl_context_factory=None if context is None else lambda _config, _default: context,
    )
    return Server(config)


def listening(web: Web) -> socket.socket:
    family = socket.AF_INET6 if ":" in web.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((web.host, web.port))
    except OSError as fault:
        listener.close()
        raise CannotStart(
            f"web.port: cannot listen on {web.host}:{web.port} ({fault.strerror}); "
            "stop what uses it or choose another port"
        ) from fault
    log.info("answering HTTP", host=web.host, port=web.port, tls=web.tls is not None, stow=web.stow)
    return listener
