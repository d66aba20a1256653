"""An accepted association: C-ECHO and C-STORE, whose data set goes straight to its file (PS3.7 9.1.1, 9.1.5).

pynetdicom leaves a request that it finds invalid without an answer; here every C-STORE request gets a status. The
association's thread drives its upper layer itself (`reactor.py`) and takes messages apart as they arrive (`dimse.py`).
"""

import threading
from collections.abc import Callable
from typing import Any, cast

import structlog
from pynetdicom import AE, evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.association import Association
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.transport import AddressInformation

from gateway.dicom.association import Ticket
from gateway.dicom.commands import read_store_request
from gateway.dicom.contexts import NOT_STORAGE, VERIFICATION
from gateway.dicom.dimse import (
    MAX_HANDLED_BYTES,
    MAX_OTHER_BYTES,
    MAX_WAITING,
    Arriving,
    GatewayDimse,
    IncomingDataSet,
)
from gateway.dicom.pace import Pace
from gateway.dicom.reactor import ESTABLISHED, INVALID_PDU, GatewayUpperLayer
from gateway.dicom.requests import NO_HANDLERS, Answer, Handlers, Prepared, Receiver, RequestHandler, Sink, StoreCommand

__all__ = ["Answer", "GatewayAssociation", "Handlers", "Receiver", "RequestHandler", "Sink", "StoreCommand"]

log = structlog.get_logger(__name__)

PRIORITY_HIGH = 1  # (0000,0700), PS3.7 E.1
CHECKPOINT_SECONDS = 1.0  # after which an association that another thread holds up looks again
UID_KEYWORDS = ("AffectedSOPClassUID", "AffectedSOPInstanceUID")


class GatewayAssociation(Association):
    """One peer's association with us, from its admitted request to its end."""

    dimse: GatewayDimse
    dul: GatewayUpperLayer

    def __init__(
        self,
        ae: AE,
        receiver: Receiver,
        on_end: Callable[["GatewayAssociation"], None],
        handlers: Handlers = NO_HANDLERS,
        slowest_rate: int = 0,
    ) -> None:
        """`slowest_rate`: bytes a second that a message must bring (gateway/dicom/pace.py)."""
        super().__init__(ae, MODE_ACCEPTOR)
        self.dimse = GatewayDimse(self)
        self.dul = GatewayUpperLayer(self, Pace(slowest_rate, self.dimse_timeout))
        self.ticket: Ticket | None = None
        self.serving = False
        self._prepared: Prepared | None = None  # for the next data set
        self._impatience = 0  # requests in a row that were followed by another before their answer
        self._receiver = receiver
        self._on_end = on_end
        self._handlers_of_requests = handlers
        self.bind(evt.EVT_DIMSE_RECV, _keep_long_uids)

    @property
    def is_busy(self) -> bool:
        """Whether a message is arriving or being answered."""
        return self.serving or self.dimse.is_receiving or not self.dimse.msg_queue.empty()

    @property
    def is_open(self) -> bool:
        """Whether P-DATA may be sent."""
        return not self._sent_release and self.dul.state_machine.current_state == ESTABLISHED

    @property
    def peer_address(self) -> str:
        """Where it comes from."""
        return cast(AddressInformation, self.requestor.address_info).address

    def run_reactor(self) -> None:
        """The association's thread."""
        try:
            super().run_reactor()
        finally:
            self._clear()
            if self.ticket is not None:
                self.ticket.close()
            if self.dul.socket is not None:
                self.dul.socket.release()
            self._on_end(self)

    def _run_reactor(self) -> None:
        """Serve until the end, as pynetdicom's does, but in this thread alone."""
        while not self._kill:
            self._is_paused = True
            self.dul.turn(None if self._reactor_checkpoint.is_set() else CHECKPOINT_SECONDS)
            if self._reactor_checkpoint.is_set():  # else another thread waits for an answer from the peer
                self._is_paused = False
                context_id, message = self.dimse.get_msg(block=False)
                if message is not None:
                    self._serve_request(message, cast(int, context_id))
            if self.is_established and self.acse.is_release_requested():
                self.acse.send_release(is_response=True)
                self.is_released = True
                self.is_established = False
                evt.trigger(self, evt.EVT_RELEASED, {})
                self.kill()
            elif self.acse.is_aborted():
                self.dul.receive_pdu(wait=False)
                self.is_aborted = True
                self.is_established = False
                evt.trigger(self, evt.EVT_ABORTED, {})
                self.kill()
            elif not self.dul.is_alive():
                self.kill()
            elif self.dul.idle_timer_expired():
                self.abort()
        self.dul.finish()

    def kill(self) -> None:
        """End it; what waits to be sent goes first."""
        self._reactor_checkpoint.set()
        self._kill = True
        self.is_established = False
        self._is_paused = True
        if threading.current_thread() is self:
            self.dul.finish()
        else:
            self.dul.wake()
            self.join()

    def begin(self, context_id: int, command_set: bytes) -> Arriving | None:
        """A usual C-STORE request whose data set comes next; None when pynetdicom has to look at it."""
        if self.ticket is None or self._sent_release:
            return None
        request = read_store_request(command_set)
        if request is None:
            return None
        command = self._command(
            request.sop_class_uid, request.sop_instance_uid, context_id, high_priority=request.priority == PRIORITY_HIGH
        )
        if command is None:
            return None
        prepared, self._prepared = self._prepared, None
        return Arriving(request, context_id, command, self._receiver.open(command, prepared))

    def finish(self, arriving: Arriving) -> None:
        """Store what has arrived, and answer."""
        if self.ticket is None:
            raise RuntimeError("nothing is received before the association is admitted")
        self.serving = True
        try:
            answer = self._receiver.store(self.ticket, arriving.command, arriving.sink)
            self._count_the_impatient()
            self.dimse.answer_store(arriving, answer)
        finally:
            self.serving = False
        # The sender takes its time to read the answer and to find the next instance: use it.
        if self._prepared is None and self.is_open:
            self._prepared = self._receiver.prepare()

    def misused(self, text: str, reason: str = "request_not_offered") -> None:
        """Note what ends this association; a peer that was not admitted has its refusal already."""
        if self.ticket is not None:
            self._receiver.misused(self.ticket, text, reason)

    def open_sink(self, message: DIMSEMessage) -> Sink | None:
        """A sink for the data set of `message`; None when it is no C-STORE request on a context that we accepted."""
        if not isinstance(message, C_STORE_RQ) or self.ticket is None:
            return None
        command = self._command(
            str(message.command_set.get("AffectedSOPClassUID") or ""),
            str(message.command_set.get("AffectedSOPInstanceUID") or ""),
            message.context_id,
        )
        return self._receiver.open(command) if command is not None else None

    def _count_the_impatient(self) -> None:
        """Abort a sender that goes on without waiting for its answers: they would pile up in its socket, unread."""
        self._impatience = self._impatience + 1 if self.dul.socket.ready else 0
        if self._impatience > MAX_WAITING:
            self.dul.event_queue.put(INVALID_PDU)

    def _command(
        self, sop_class: str, sop_instance: str, context_id: int | None, *, high_priority: bool = False
    ) -> StoreCommand | None:
        context = self._accepted_cx.get(context_id or 0)
        if context is None or context.abstract_syntax in NOT_STORAGE:
            return None
        return StoreCommand(sop_class, sop_instance, str(context.transfer_syntax[0]), high_priority)

    def _serve_request(self, msg: Any, context_id: int) -> None:
        if self._sent_release or self.ticket is None:
            return
        self.serving = True
        try:
            if isinstance(msg, C_STORE) and msg.MessageIDBeingRespondedTo is None and msg.MessageID is not None:
                self._store(self.ticket, msg, context_id)
            elif isinstance(msg, C_ECHO) and msg.is_valid_request and self._is_verification(context_id):
                self._receiver.echoed(self.ticket)
                super()._serve_request(msg, context_id)
            elif (handler := self._handler(type(msg), context_id)) is not None:
                self._handle(self.ticket, handler, msg, context_id)
            else:
                self._receiver.misused(self.ticket, f"{type(msg).__name__.replace('_', '-')} is not offered here")
                self.abort()
        finally:
            self.serving = False

    def max_bytes(self, message: DIMSEMessage) -> int:
        """How much of the data set of `message` is kept in memory."""
        context = self._accepted_cx.get(message.context_id or 0)
        served = context is not None and any(
            syntax == context.abstract_syntax for syntax, _ in self._handlers_of_requests
        )
        return MAX_HANDLED_BYTES if served else MAX_OTHER_BYTES

    def _handler(self, kind: type, context_id: int) -> RequestHandler | None:
        context = self._accepted_cx.get(context_id)
        return None if context is None else self._handlers_of_requests.get((str(context.abstract_syntax), kind))

    def _handle(self, ticket: Ticket, handler: RequestHandler, message: Any, context_id: int) -> None:
        data_set = next((each for each in vars(message).values() if isinstance(each, IncomingDataSet)), None)
        if data_set is not None and data_set.too_long:
            self._receiver.misused(ticket, f"a request's data set is longer than {MAX_HANDLED_BYTES} bytes")
            self.abort()
            return
        try:
            handler(self, message, context_id)
        except Exception:
            log.exception("a request could not be served; its association is aborted")
            self.abort()

    def _is_verification(self, context_id: int) -> bool:
        context = self._accepted_cx.get(context_id)
        return context is not None and context.abstract_syntax == VERIFICATION

    def _store(self, ticket: Ticket, request: C_STORE, context_id: int) -> None:
        incoming = request.DataSet
        as_sent = incoming.uids_as_sent if isinstance(incoming, IncomingDataSet) else {}
        sink = incoming.sink if isinstance(incoming, IncomingDataSet) else None
        command = self._command(
            as_sent.get("AffectedSOPClassUID") or str(request.AffectedSOPClassUID or ""),
            as_sent.get("AffectedSOPInstanceUID") or str(request.AffectedSOPInstanceUID or ""),
            context_id,
            high_priority=request.Priority == PRIORITY_HIGH,
        )
        if command is None:
            self._receiver.misused(ticket, "C-STORE on a context that was not accepted for it")
            self.abort()
            return
        answer = self._receiver.store(ticket, command, sink)
        response = C_STORE()
        response.MessageID = request.MessageID
        response.MessageIDBeingRespondedTo = request.MessageID
        response.AffectedSOPClassUID = request.AffectedSOPClassUID
        response.AffectedSOPInstanceUID = request.AffectedSOPInstanceUID
        response.Status = answer.status
        response.ErrorComment = answer.comment  # type: ignore[assignment]
        self.dimse.send_msg(response, context_id)

    def _clear(self) -> None:
        """Forget a data set that will never be whole, what was prepared, and messages that nobody answers."""
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            prepared.discard()
        arriving, self.dimse.arriving = self.dimse.arriving, None
        if arriving is not None:
            log.warning("an association ended within a data set", address=self.peer_address)
            arriving.sink.discard()
        message = self.dimse.message
        if message is not None and isinstance(message.data_set, IncomingDataSet):
            if message.data_set.sink is not None and self.ticket is not None:
                log.warning("an association ended within a data set", address=self.ticket.caller.address)
            message.data_set.discard()
        while not self.dimse.msg_queue.empty():
            _, waiting = self.dimse.msg_queue.get_nowait()
            data_set = getattr(waiting, "DataSet", None)
            if isinstance(data_set, IncomingDataSet):
                data_set.discard()


def _keep_long_uids(event: evt.Event) -> None:
    """Shorten UIDs that pynetdicom would abort for, so that they get a status; the text is kept aside."""
    message = event.message
    if not isinstance(message, C_STORE_RQ) or not isinstance(message.data_set, IncomingDataSet):
        return
    for keyword in UID_KEYWORDS:
        text = str(message.command_set.get(keyword) or "")
        if len(text) > 64:
            message.data_set.uids_as_sent[keyword] = text
            setattr(message.command_set, keyword, text[:64])
