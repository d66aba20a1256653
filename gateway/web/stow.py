"""Store over HTTP: STOW-RS (PS3.18 10.5), each instance durable and indexed before the answer names it as stored."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from config.settings import StowSource
from gateway.dicom.association import Caller
from gateway.dicom.congestion import Congestion
from gateway.dicom.header import is_uid
from gateway.dicom.refusals import STATUS_CANNOT_UNDERSTAND, STATUS_SUCCESS
from gateway.dicom.scp import StorageService
from gateway.web.access import Sender
from gateway.web.stow_parts import DICOM, MOST_PARTS, Body, BodyMalformed, Result, TooManyParts

if TYPE_CHECKING:
    from gateway.web.app import WebApp

log = structlog.get_logger(__name__)

DICOM_JSON = "application/dicom+json"
RETRY_SECONDS = "30"
_JSON_TYPES = frozenset({"", "*/*", "application/*", "application/json", DICOM_JSON})


@dataclass(frozen=True, slots=True)
class Visitor:
    """A sender over HTTP as the store knows senders."""

    caller: Caller
    source: StowSource | None


def stow(parts: "WebApp") -> APIRouter:
    """The two resources of the store transaction."""
    app = parts.app
    patience = max(app.settings.database.busy_timeout, 1.0)
    service = StorageService(app.settings.dicom, app.database, app.store, parts.trail, patience=patience)
    congestion = Congestion(app.store, app.database, app.settings.queues)
    router = APIRouter(prefix="/dicom-web")

    async def store(request: Request, study_uid: str | None) -> Response:
        sender = await run_in_threadpool(parts.door.sender, request)  # it may write to the ledger
        boundary = _boundary(request, study_uid)
        refused = "the service is stopping" if parts.draining else await run_in_threadpool(congestion)
        if refused is not None:
            log.warning("no instance is taken over HTTP", peer=sender.ae_title, reason=refused)
            raise HTTPException(503, refused, {"Retry-After": RETRY_SECONDS})
        body = _body(boundary, service, parts, sender, study_uid)
        complaint = ""
        try:
            await _take(request, body, app.settings.dicom.dimse_timeout)
        except (BodyMalformed, TimeoutError) as fault:
            complaint = str(fault) or "no further byte in time (dicom.dimse_timeout)"
        except TooManyParts:
            complaint = f"more than {MOST_PARTS} instances in a request; send the others in another one"
        except ClientDisconnect:
            log.warning("a sender left within its request", peer=sender.ae_title, stored=_stored(body.results))
            return Response(status_code=400)  # which nobody reads
        finally:
            body.abandon()
        return _answer(body.results, complaint)

    @router.post("/studies")
    async def any_study(request: Request) -> Response:
        return await store(request, None)

    @router.post("/studies/{study_uid}")
    async def one_study(request: Request, study_uid: str) -> Response:
        return await store(request, study_uid)

    return router


async def _take(request: Request, body: Body, patience: float) -> None:
    """Feed the whole body; the disk is waited for in another thread, and the sender's window closes meanwhile."""
    stream = request.stream()
    while True:
        async with asyncio.timeout(patience):
            chunk = await anext(stream, None)
        if chunk is None:
            break
        if chunk:
            await run_in_threadpool(body.feed, chunk)
    body.end()


def _body(boundary: bytes, service: StorageService, parts: "WebApp", sender: Sender, study_uid: str | None) -> Body:
    caller = Caller(sender.address, sender.ae_title, parts.app.settings.dicom.ae_title)
    limit = parts.app.settings.dicom.max_instance_bytes
    try:
        return Body(boundary, service, parts.trail, Visitor(caller, sender.source), study_uid=study_uid, limit=limit)
    except BodyMalformed as fault:
        raise HTTPException(400, str(fault)) from fault


def _boundary(request: Request, study_uid: str | None) -> bytes:
    """The boundary of a request that we understand. Raises HTTPException 400, 406 or 415."""
    if study_uid is not None and not is_uid(study_uid):
        raise HTTPException(400, "the study in the path is no UID (PS3.5 9.1)")
    accepted = {each.partition(";")[0].strip().lower() for each in request.headers.get("accept", "").split(",")}
    if not accepted & _JSON_TYPES:
        raise HTTPException(406, f"the answer is {DICOM_JSON}")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise HTTPException(415, "no Content-Encoding is understood")
    kind, options = parse_options_header(request.headers.get("content-type"))
    inner = options.get(b"type", DICOM.encode()).decode("latin-1").lower()
    if kind.lower() != b"multipart/related" or inner != DICOM:
        raise HTTPException(415, f'instances are taken as multipart/related; type="{DICOM}"')
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise HTTPException(400, "the Content-Type names no boundary")
    return boundary


def _answer(results: Sequence[Result], complaint: str) -> Response:
    """The Store Instances Response Module (PS3.18 I.2) and the status that sums it up (PS3.18 10.5.3)."""
    stored = [each for each in results if each.status == STATUS_SUCCESS]
    failed = [each for each in results if each.status != STATUS_SUCCESS]
    if not results:
        return JSONResponse({"detail": complaint or "the request brings no instance"}, 400)
    module: dict[str, Any] = {"00081190": {"vr": "UR"}}  # nothing is retrieved from here
    if failed or complaint:
        items = [_failed(each) for each in failed]
        if complaint:
            items.append(_failed(Result(None, None, STATUS_CANNOT_UNDERSTAND, complaint)))
        module["00081198"] = {"vr": "SQ", "Value": items}
    if stored:
        module["00081199"] = {"vr": "SQ", "Value": [_referenced(each) for each in stored]}
    status = _status(stored, failed, complaint)
    headers = {"Retry-After": RETRY_SECONDS} if status == 503 else None
    return JSONResponse(module, status, headers, media_type=DICOM_JSON)


def _status(stored: Sequence[Result], failed: Sequence[Result], complaint: str) -> int:
    if stored:
        return 202 if failed or complaint else 200
    if complaint:
        return 400
    if all(each.too_large for each in failed):
        return 413
    if all(each.status >> 8 == 0xA7 and not each.too_large for each in failed):
        return 503
    return 409


def _referenced(result: Result) -> dict[str, Any]:
    return _named(result) | {"00081190": {"vr": "UR"}}


def _failed(result: Result) -> dict[str, Any]:
    item = _named(result) | {"00081197": {"vr": "US", "Value": [result.status]}}
    if result.comment:
        item["00000902"] = {"vr": "LO", "Value": [result.comment[:64]]}
    return item


def _named(result: Result) -> dict[str, Any]:
    uids = {"00081150": result.sop_class_uid, "00081155": result.sop_instance_uid}
    return {tag: {"vr": "UI", "Value": [uid]} for tag, uid in uids.items() if uid is not None}


def _stored(results: Sequence[Result]) -> int:
    return sum(each.status == STATUS_SUCCESS for each in results)
