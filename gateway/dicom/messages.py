"""An accepted association: C-ECHO and C-STORE, whose data set goes straight to its file (PS3.7 9.1.1, 9.1.5).

pynetdicom gathers a message in memory without a limit and leaves a request that it finds invalid without an answer.
Here a data set flows into the sink that its receiver opens, and every C-STORE request gets a status. What is overridden
are `Association._serve_request`, `DIMSEServiceProvider.receive_primitive` and `StateMachine.do_action`;
tests/gateway/dicom/test_pynetdicom.py holds what we assume of them.
"""

import queue
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from types import MappingProxyType
from typing import Any, Protocol

import structlog
from pynetdicom import AE, evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.fsm import TRANSITION_TABLE, StateMachine

from gateway.dicom.association import Ticket
from gateway.dicom.contexts import NOT_STORAGE, VERIFICATION

log = structlog.get_logger(__name__)

PRIORITY_HIGH = 1  # (0000,0700), PS3.7 E.1
MAX_OTHER_BYTES = 64 * 1024  # of a data set that belongs to no C-STORE request and to no handler
MAX_HANDLED_BYTES = 16 * 1024**2  # of one that belongs to a handler: a commitment request for 100,000 instances
MAX_WAITING = 4  # requests of a sender that does not wait for answers; asynchronous operations are not negotiated
DATA_REQUEST = "Evt9"  # from the state machine's user: send P-DATA
INVALID_PDU = "Evt19"  # to the state machine (PS3.8 table 9-6): answer with A-ABORT
UID_KEYWORDS = ("AffectedSOPClassUID", "AffectedSOPInstanceUID")


class Sink(Protocol):
    """Takes a data set as it arrives. `write` never raises: what goes wrong is told when the answer is due."""

    def write(self, data: bytes) -> None: ...

    def discard(self) -> None:
        """Forget it; after it was taken over by the store this does nothing."""


@dataclass(frozen=True, slots=True)
class StoreCommand:
    """What the command set of a C-STORE request says; UIDs as sent, whatever they hold."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: str
    high_priority: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """A C-STORE response."""

    status: int
    comment: str | None = None


class Receiver(Protocol):
    """What an association does with its requests."""

    def open(self, command: StoreCommand) -> Sink:
        """A place for the data set that begins to arrive. Never raises."""

    def store(self, ticket: Ticket, command: StoreCommand, sink: Sink | None) -> Answer:
        """Take a whole data set (None: the request had none), durably or not at all. Never raises."""

    def echoed(self, ticket: Ticket) -> None: ...

    def misused(self, ticket: Ticket, reason: str) -> None:
        """A request that is neither; the association is aborted."""


class RequestHandler(Protocol):
    """Serves the messages of one type on the contexts of one abstract syntax, in the association's thread.

    `message` is a DIMSE primitive of pynetdicom: a request, or the response to a request that was sent with
    `association.dimse.send_msg`, which any thread may do. Whatever it raises aborts the association.
    """

    def __call__(self, association: "GatewayAssociation", message: Any, context_id: int) -> None: ...


Handlers = Mapping[tuple[str, type], RequestHandler]  # (abstract syntax, class of the DIMSE primitive)
NO_HANDLERS: Handlers = MappingProxyType({})


class IncomingDataSet(BytesIO):
    """Stands where pynetdicom gathers a message's data set, and passes it on."""

    def __init__(self, open_sink: Callable[[], Sink | None], max_bytes: Callable[[], int] | None = None) -> None:
        """`max_bytes`, asked at the first fragment: what is kept in memory when there is no sink."""
        super().__init__()
        self._open_sink: Callable[[], Sink | None] | None = open_sink
        self._max_bytes = max_bytes
        self._limit = MAX_OTHER_BYTES
        self.too_long = False
        self.sink: Sink | None = None
        self.uids_as_sent: dict[str, str] = {}

    def write(self, data: Any, /) -> int:
        """Pass a fragment on."""
        if self._open_sink is not None:
            self.sink = self._open_sink()
            self._open_sink = None
            if self._max_bytes is not None:
                self._limit = self._max_bytes()
        if self.sink is not None:
            self.sink.write(data)
        elif not self.too_long and self.tell() + len(data) <= self._limit:
            super().write(data)
        else:
            self.too_long = True
        return len(data)

    def discard(self) -> None:
        """Forget what arrived."""
        if self.sink is not None:
            self.sink.discard()


class GatewayDimse(DIMSEServiceProvider):
    """Puts an IncomingDataSet under each message before its first fragment."""

    assoc: "GatewayAssociation"

    def receive_primitive(self, primitive: Any) -> None:
        """Take one P-DATA."""
        if self.message is None:
            if self.msg_queue.qsize() >= MAX_WAITING:
                self.dul.event_queue.put(INVALID_PDU)
                return
            message = self.message = DIMSEMessage()
            message.data_set = IncomingDataSet(
                lambda: self.assoc.open_sink(message), lambda: self.assoc.max_bytes(message)
            )
        try:
            super().receive_primitive(primitive)
        except Exception:
            # Left alone it would end the reactor's thread without an A-ABORT
            log.warning("a message cannot be decoded; its association is aborted", exc_info=True)
            self.dul.event_queue.put(INVALID_PDU)


class GatewayStateMachine(StateMachine):
    """Drops an answer that is ready only when its association is being aborted (PS3.8 9.2: no event 9 in state 13).

    pynetdicom's own raises, which ends the thread that is to wait for the peer's close.
    """

    def do_action(self, event: str) -> None:
        """Act on `event` in the current state."""
        if event == DATA_REQUEST and (event, self.current_state) not in TRANSITION_TABLE:
            with suppress(queue.Empty):  # the same primitive may stand behind several events
                self.dul.to_provider_queue.get(block=False)
            return
        super().do_action(event)


class GatewayAssociation(Association):
    """One peer's association with us, from its admitted request to its end."""

    def __init__(
        self,
        ae: AE,
        receiver: Receiver,
        on_end: Callable[["GatewayAssociation"], None],
        handlers: Handlers = NO_HANDLERS,
    ) -> None:
        super().__init__(ae, MODE_ACCEPTOR)
        self.dimse = GatewayDimse(self)
        self.dul.state_machine = GatewayStateMachine(self.dul)
        self.ticket: Ticket | None = None
        self.serving = False
        self._receiver = receiver
        self._on_end = on_end
        self._handlers_of_requests = handlers
        self.bind(evt.EVT_DIMSE_RECV, _keep_long_uids)
        self.bind(evt.EVT_CONN_CLOSE, _wake)

    @property
    def is_busy(self) -> bool:
        """Whether a message is arriving or being answered."""
        return self.serving or self.dimse.message is not None or not self.dimse.msg_queue.empty()

    def run_reactor(self) -> None:
        """The association's thread."""
        try:
            super().run_reactor()
        finally:
            self._clear()
            if self.ticket is not None:
                self.ticket.close()
            self._on_end(self)

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

    def _command(self, sop_class: str, sop_instance: str, context_id: int | None) -> StoreCommand | None:
        context = self._accepted_cx.get(context_id or 0)
        if context is None or context.abstract_syntax in NOT_STORAGE:
            return None
        return StoreCommand(sop_class, sop_instance, str(context.transfer_syntax[0]))

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
        )
        if command is None:
            self._receiver.misused(ticket, "C-STORE on a context that was not accepted for it")
            self.abort()
            return
        if request.Priority == PRIORITY_HIGH:
            command = StoreCommand(
                command.sop_class_uid, command.sop_instance_uid, command.transfer_syntax, high_priority=True
            )
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
        """Forget a data set that will never be whole, and messages that nobody answers."""
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


def _wake(event: evt.Event) -> None:
    """A request that cannot be decoded leaves the association's thread waiting for it: tell it that none will come."""
    if event.assoc.requestor.primitive is None:
        waiting: Any = event.assoc.dul.to_user_queue  # None is no primitive, and that is the point
        waiting.put(None)


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
