"""The web application: which path is answered by what, and what every answer has in common."""

import os
import threading
from contextlib import suppress
from pathlib import Path

import structlog
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.app import App
from gateway.dicom.trail import Trail
from gateway.web.access import Doorkeeper
from gateway.web.exposition import CONTENT_TYPE, Exposition
from gateway.web.readiness import Readiness
from storage import Database, Ledger, StorageError

log = structlog.get_logger(__name__)

TRAIL_SECONDS = 1.0
HEADERS = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))


class Draining:
    """Whether the service takes nothing new any more."""

    def __init__(self) -> None:
        self._begun = False

    def __bool__(self) -> bool:
        return self._begun

    def begin(self) -> None:
        """From now on; a signal handler may call it."""
        self._begun = True


class WebApp:
    """What the endpoints work with, and its end."""

    def __init__(self, app: App, database: Database, draining: Draining) -> None:
        """`database`: for probes, with a short patience. Raises CannotStart for a token that is none."""
        self.app = app
        self.draining = draining
        self.trail = Trail(Ledger(app.database))
        self.door = Doorkeeper(app.settings.web, self.trail)
        self.readiness = Readiness(app.settings, database, app.store)
        self.exposition = Exposition(app.settings, database, app.store)
        self.supervisor = os.getppid()
        self._ended = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True, name="web-trail")
        self._ticker.start()

    def close(self) -> None:
        """Write what is still counted; let go of the threads."""
        self._ended.set()
        self._ticker.join(timeout=5)
        self.readiness.close()
        self.trail.tick(closing=True)

    def _tick(self) -> None:
        while not self._ended.wait(TRAIL_SECONDS):
            try:
                self.trail.tick()
            except StorageError as fault:
                log.warning("audit events wait", reason=str(fault))
            except Exception as fault:  # noqa: BLE001 - the next second is another try
                log.error("audit events were not written", error=type(fault).__name__)  # noqa: TRY400


def create_app(parts: WebApp) -> ASGIApp:
    """The application; no page of its own describes it, because that would load scripts from elsewhere."""
    application = FastAPI(title="Scanwarden", docs_url=None, redoc_url=None, openapi_url=None)
    application.add_exception_handler(Exception, _failed)
    application.include_router(_observed(parts))
    if parts.app.settings.web.stow:
        from gateway.web.stow import stow  # only where it is used: it brings the receive path with it

        application.include_router(stow(parts))
    return Answering(application)


def _observed(parts: WebApp) -> APIRouter:
    def admit(request: Request) -> None:
        parts.door.observer(request)

    router = APIRouter(dependencies=[Depends(admit)])

    @router.get("/healthz")
    def healthz() -> Response:
        alive = os.getppid() == parts.supervisor and _runs(parts.supervisor)
        return JSONResponse({"alive": alive, "supervisor": "lives" if alive else "is gone"}, 200 if alive else 503)

    @router.get("/readyz")
    def readyz() -> Response:
        checks = {each.name: {"ok": each.ok, "text": each.text} for each in parts.readiness.look()}
        if parts.draining:
            checks["draining"] = {"ok": False, "text": "the service is stopping and takes nothing new"}
        ready = all(each["ok"] for each in checks.values())
        return JSONResponse({"ready": ready, "checks": checks}, 200 if ready else 503)

    @router.get("/metrics")
    def metrics() -> Response:
        return Response(parts.exposition.page(), media_type=CONTENT_TYPE)

    return router


class Answering:
    """Around every answer: no cache keeps it, and no fault of ours gets as far as uvicorn, which would log its text.

    Plain ASGI, so that a body streams through it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *HEADERS]}
            await send(message)

        # Starlette raises a fault again after `_failed` has logged and answered it.
        with suppress(Exception):
            await self._app(scope, receive, sending)


async def _failed(_request: Request, fault: Exception) -> Response:
    """A fault of ours, told and logged without the values that its text may quote."""
    log.error("a request failed", error=type(fault).__name__, where=_place(fault))
    return JSONResponse({"detail": "internal fault; see the service's log"}, 500)


def _place(fault: Exception) -> str:
    trace = fault.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace is not None else "?"


def _runs(pid: int) -> bool:
    """Whether a process exists and is neither dead nor stopped."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state not in "ZTXx"
