"""Storage commitment at our port: requests of peers, and reports of the destinations that we asked (PS3.4 J).

A request is kept and answered at once; the deliver role looks at the files (gateway/pipeline/committing.py). As long as
the association that a request came on is open, its report goes out there: we are its SCP, so no role selection is
needed. A destination that calls us with a report is an SCP that opened the association, which it may as we accept both
roles.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import structlog
from pydicom.uid import UID
from pynetdicom.dimse_primitives import N_ACTION, N_EVENT_REPORT

from config import Settings
from gateway.dicom.commitment import (
    ALL_COMMITTED,
    PUSH_MODEL_INSTANCE,
    REQUEST_COMMITMENT,
    SOME_FAILED,
    Report,
    RequestRefused,
    Status,
    encoded,
    read_report,
    read_request,
)
from gateway.dicom.contexts import COMMITMENT as PUSH_MODEL
from gateway.dicom.messages import GatewayAssociation, RequestHandler
from gateway.dicom.trail import Trail, printable
from storage import AuditEventType, Database, NotFound, StorageError, peer_actor, role_actor
from storage.commitment_requests import (
    TooManyRequests,
    answered,
    hold_requests,
    receive_request,
    record_not_reported,
    record_reported,
)
from storage.commitments import Reference, commitment, record_report
from storage.tables import CommitmentRequest

log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.1  # between two looks for results that an open association waits for
HOLD_SECONDS = 10.0  # a receiver that dies gives the report to the deliver role after so long
CONFIRM_SECONDS = 30.0  # for a peer to confirm a report
_RECEIVE = role_actor("receive")


@dataclass
class _Open:
    """A request whose association is still there."""

    association: GatewayAssociation
    context_id: int
    transfer_syntax: str
    told: int | None = None  # message ID of the report that was sent


class CommitmentService:
    """Storage commitment for the associations of one receiving process."""

    def __init__(
        self, settings: Settings, database: Database, trail: Trail, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits = settings.commitment
        self._titles = {each.name: each.ae_title for each in settings.destinations}
        self._database = database
        self._trail = trail
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[int, _Open] = {}  # by the number of the request
        self._held_at = clock()
        self._wanted = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def handlers(self) -> dict[tuple[str, type], RequestHandler]:
        """What a receiver has to serve for it."""
        return {(PUSH_MODEL, N_ACTION): self.asked, (PUSH_MODEL, N_EVENT_REPORT): self.event}

    def asked(self, association: GatewayAssociation, message: Any, context_id: int) -> None:
        """A peer asks us: keep the request, answer, and remember the association for the report."""
        if message.MessageIDBeingRespondedTo is not None:
            return
        syntax = _syntax(association, context_id)
        try:
            request_id = self._keep(association, message, syntax)
            status = Status.SUCCESS
        except RequestRefused as refusal:
            request_id, status = None, refusal.status
            self._refused(association, status, str(refusal))
        except TooManyRequests as fault:
            request_id, status = None, Status.RESOURCE_LIMITATION
            self._refused(association, status, str(fault))
        except StorageError as fault:
            log.warning("a request for storage commitment cannot be kept", reason=str(fault))
            request_id, status = None, Status.PROCESSING_FAILURE
        response = N_ACTION()
        _address(response, message, status)
        response.ActionTypeID = message.ActionTypeID
        association.dimse.send_msg(response, context_id)
        if request_id is not None:
            with self._lock:
                self._open[request_id] = _Open(association, context_id, syntax)
                if self._thread is None:
                    self._thread = threading.Thread(target=self._watch, name="commitment", daemon=True)
                    self._thread.start()
            self._wanted.set()

    def event(self, association: GatewayAssociation, message: Any, context_id: int) -> None:
        """A report of a destination that we asked, or a peer's confirmation of ours."""
        if message.MessageIDBeingRespondedTo is not None:
            self._confirmed(association, message)
            return
        status = self._reported(association, message, _syntax(association, context_id))
        response = N_EVENT_REPORT()
        _address(response, message, status)
        response.EventTypeID = message.EventTypeID
        association.dimse.send_msg(response, context_id)

    def close(self) -> None:
        """Leave every report that is not told yet to the deliver role."""
        self._stop.set()
        self._wanted.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
        try:
            self._release(list(self._open))
        except StorageError as fault:  # then it waits until what it holds them for is over
            log.warning("reports of storage commitment are told later", reason=str(fault))

    def _keep(self, association: GatewayAssociation, message: N_ACTION, syntax: str) -> int:
        if not self._limits.offered:
            raise RequestRefused(Status.NO_SUCH_CLASS, "storage commitment is not offered (commitment.offered)")
        if message.RequestedSOPClassUID != PUSH_MODEL:
            raise RequestRefused(Status.NO_SUCH_CLASS, "the requested SOP class is not the push model")
        if message.RequestedSOPInstanceUID != PUSH_MODEL_INSTANCE:
            raise RequestRefused(Status.NO_SUCH_INSTANCE, "the requested SOP instance is not the push model's")
        if message.ActionTypeID != REQUEST_COMMITMENT:
            raise RequestRefused(Status.NO_SUCH_ACTION, "the push model has action type 1 only")
        request = read_request(message.ActionInformation, syntax, self._limits.max_instances)
        title, address = _caller(association)
        with self._database.transaction() as session:
            return receive_request(
                session,
                request.transaction_uid,
                request.references,
                ae_title=title,
                address=address,
                hold=HOLD_SECONDS,
                most=self._limits.max_requests,
            )

    def _refused(self, association: GatewayAssociation, status: Status, text: str) -> None:
        title, address = _caller(association)
        log.warning("a request for storage commitment is refused", peer=title, address=address, reason=text)
        details: dict[str, str | int | list[str]] = {"status": f"0x{status:04X}", "text": text}
        self._trail.meeting(AuditEventType.COMMITMENT_REFUSED, title, address, status.name.lower(), details)

    def _reported(self, association: GatewayAssociation, message: N_EVENT_REPORT, syntax: str) -> Status:
        title, address = _caller(association)
        if message.EventTypeID not in (ALL_COMMITTED, SOME_FAILED):
            self._refused(association, Status.NO_SUCH_EVENT_TYPE, "the push model has event types 1 and 2 only")
            return Status.NO_SUCH_EVENT_TYPE
        try:
            report = read_report(message.EventInformation, syntax)
            with self._database.transaction() as session:
                self._hold_to_the_asked(commitment(session, report.transaction_uid).destination, title)
                record_report(
                    session,
                    report.transaction_uid,
                    [each.sop_instance_uid for each in report.committed],
                    {each.sop_instance_uid: reason for each, reason in report.failed.items()},
                    reporter=peer_actor(title, address),
                )
        except NotFound:
            self._refused(association, Status.INVALID_ARGUMENT, "a report on a transaction that is not ours")
            return Status.INVALID_ARGUMENT
        except RequestRefused as refusal:
            self._refused(association, refusal.status, str(refusal))
            return refusal.status
        except StorageError as fault:  # it has to be told again
            log.warning("a report about storage commitment is not kept", reason=str(fault))
            return Status.PROCESSING_FAILURE
        return Status.SUCCESS

    def _hold_to_the_asked(self, destination: str, title: str) -> None:
        """Whoever may call us is not whoever we asked. Raises RequestRefused."""
        if self._titles.get(destination, title) != title:
            raise RequestRefused(Status.INVALID_ARGUMENT, f"a report on what {destination} was asked for")

    def _confirmed(self, association: GatewayAssociation, message: N_EVENT_REPORT) -> None:
        with self._lock:
            found = [
                number
                for number, each in self._open.items()
                if each.association is association and each.told == message.MessageIDBeingRespondedTo
            ]
            for number in found:
                del self._open[number]
        for number in found:
            status = int(message.Status or 0)
            with self._database.transaction() as session:
                if status == Status.SUCCESS:
                    record_reported(session, number, same_association=True, actor=_RECEIVE)
                else:
                    record_not_reported(session, number, f"the report is answered with 0x{status:04X}", pause=0)

    def _watch(self) -> None:
        """Tell open associations what became of their requests; the service's only thread."""
        while not self._stop.is_set():
            self._wanted.wait()
            if self._stop.wait(LOOK_SECONDS):
                return
            try:
                self._look()
            except StorageError as fault:
                log.warning("results of storage commitment wait for the database", reason=str(fault))
            except Exception:
                log.exception("results of storage commitment cannot be told")

    def _look(self) -> None:
        with self._lock:
            now_open = dict(self._open)
            if not now_open:
                self._wanted.clear()
                return
        ended = [number for number, each in now_open.items() if not each.association.is_established]
        self._release(ended)
        waiting = [number for number, each in now_open.items() if each.told is None and number not in ended]
        with self._database.reading() as session:
            ready = answered(session, waiting)
        for row in ready:
            self._tell(row, now_open[row.id])
        if self._clock() - self._held_at > HOLD_SECONDS / 3:
            self._held_at = self._clock()
            with self._lock:
                waiting = [number for number, each in self._open.items() if each.told is None]
            if waiting:
                with self._database.transaction() as session:
                    hold_requests(session, waiting, HOLD_SECONDS)

    def _tell(self, row: CommitmentRequest, each: _Open) -> None:
        """Send the report of a request on the association that it came on."""
        with self._database.transaction() as session:
            hold_requests(session, [row.id], CONFIRM_SECONDS)
        report = report_of(row)
        message = N_EVENT_REPORT()
        with self._lock:  # message IDs of ours on this association: any number that is not in use there
            used = {other.told for other in self._open.values() if other.association is each.association}
            each.told = message.MessageID = next(number for number in range(1, 65536) if number not in used)
        message.AffectedSOPClassUID = UID(PUSH_MODEL)
        message.AffectedSOPInstanceUID = UID(PUSH_MODEL_INSTANCE)
        message.EventTypeID = report.event_type
        message.EventInformation = BytesIO(encoded(report.data_set(), each.transfer_syntax))
        if each.association.is_established:
            each.association.dimse.send_msg(message, each.context_id)

    def _release(self, numbers: list[int]) -> None:
        """Their associations have ended: the deliver role calls the peers."""
        if not numbers:
            return
        with self._lock:
            for number in numbers:
                self._open.pop(number, None)
        with self._database.transaction() as session:
            hold_requests(session, numbers, 0)


def report_of(row: CommitmentRequest) -> Report:
    """The report about a request that is answered."""
    references = [Reference(sop_class, instance) for sop_class, instance in row.references]
    return Report(
        row.transaction_uid,
        tuple(each for each in references if each.sop_instance_uid not in row.failures),
        {each: row.failures[each.sop_instance_uid] for each in references if each.sop_instance_uid in row.failures},
    )


def _address(response: N_ACTION | N_EVENT_REPORT, request: Any, status: Status) -> None:
    """What every answer about the one instance of storage commitment says (PS3.4 J.3)."""
    response.MessageIDBeingRespondedTo = request.MessageID
    response.AffectedSOPClassUID = UID(PUSH_MODEL)
    response.AffectedSOPInstanceUID = UID(PUSH_MODEL_INSTANCE)
    response.Status = int(status)


def _caller(association: GatewayAssociation) -> tuple[str, str]:
    if association.ticket is None:
        raise RequestRefused(Status.PROCESSING_FAILURE, "the association is not admitted")
    caller = association.ticket.caller
    return printable(caller.calling_ae_title), caller.address


def _syntax(association: GatewayAssociation, context_id: int) -> str:
    return str(association._accepted_cx[context_id].transfer_syntax[0])
