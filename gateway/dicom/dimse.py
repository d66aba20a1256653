"""Messages as their fragments arrive: a data set flows on to whoever takes it (PS3.7 6.3, PS3.8 annex E).

pynetdicom gathers a message in memory without a limit. Here a usual C-STORE request never becomes an object of
pynetdicom's, its data set goes to its sink piece by piece from the buffer that the socket was read into, and its answer
is written by hand. All other messages take pynetdicom's way, with an IncomingDataSet under them.
"""

import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import structlog
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import P_DATA

from gateway.dicom.commands import MAX_RESPONSE, StoreRequest, store_response
from gateway.dicom.reactor import COMMAND, INVALID_PDU, LAST, GatewayUpperLayer
from gateway.dicom.requests import Answer, Sink, StoreCommand

if TYPE_CHECKING:
    from gateway.dicom.messages import GatewayAssociation

log = structlog.get_logger(__name__)

MAX_OTHER_BYTES = 64 * 1024  # of a data set that belongs to no C-STORE request and to no handler
MAX_HANDLED_BYTES = 16 * 1024**2  # of one that belongs to a handler: a commitment request for 100,000 instances
MAX_WAITING = 4  # requests of a sender that does not wait for answers; asynchronous operations are not negotiated


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


@dataclass(slots=True)
class Arriving:
    """A C-STORE request whose data set flows into its sink."""

    request: StoreRequest
    context_id: int
    command: StoreCommand
    sink: Sink


class GatewayDimse(DIMSEServiceProvider):
    """Takes fragments as they arrive: those of a usual C-STORE request itself, all others as pynetdicom does."""

    assoc: "GatewayAssociation"

    def __init__(self, association: "GatewayAssociation") -> None:
        super().__init__(association)
        self.arriving: Arriving | None = None
        self._answers_fit: bool | None = None  # any answer of ours in one PDU of the peer's; None: not asked yet
        self._sending = threading.RLock()  # fragments of two messages must not mix (PS3.8 annex E)

    @property
    def dul(self) -> GatewayUpperLayer:
        """Our upper layer."""
        return self.assoc.dul

    @property
    def is_receiving(self) -> bool:
        """Whether a message is here in part."""
        return self.arriving is not None or self.message is not None

    def fragment(self, context_id: int, control: int, data: memoryview) -> None:
        """Take a fragment, or a piece of one without the mark of the last; `data` lives until this returns."""
        arriving = self.arriving
        if arriving is None:
            if self.message is None and control & 3 == COMMAND | LAST:
                arriving = self.arriving = self.assoc.begin(context_id, bytes(data))
                if arriving is not None:
                    return
            primitive = P_DATA()
            primitive.presentation_data_value_list.append((context_id, bytes([control]) + data))
            self.receive_primitive(primitive)
        elif control & COMMAND:
            self.dul.event_queue.put(INVALID_PDU)
        else:
            arriving.sink.write(data)
            if control & LAST:
                self.arriving = None
                self.assoc.finish(arriving)

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
        except Exception as fault:  # noqa: BLE001 - whatever pynetdicom stumbles over
            # Not the fault's text: it may hold what was sent (promise 7)
            self.assoc.misused(f"a message that cannot be decoded ({type(fault).__name__})")
            self.dul.event_queue.put(INVALID_PDU)

    def send_msg(self, primitive: Any, context_id: int) -> None:
        """Send a message; any thread may."""
        with self._sending:
            super().send_msg(primitive, context_id)

    def answer_store(self, arriving: Arriving, answer: Answer) -> None:
        """Send a C-STORE response, at once where nothing else waits to be sent."""
        with self._sending:
            upper = self.assoc.dul
            if self._answers_fit is None:  # the association is established: it will not change
                self._answers_fit = (self.maximum_pdu_size or MAX_RESPONSE) >= MAX_RESPONSE
            if self._answers_fit and not upper.to_provider_queue.queue and self.assoc.is_open:
                try:
                    pdu = store_response(arriving.context_id, arriving.request, answer.status, answer.comment)
                except (ValueError, struct.error):  # a comment or a status that takes more care
                    pass
                else:
                    upper.socket.send(pdu)
                    return
            request = arriving.request
            response = C_STORE()
            response.MessageIDBeingRespondedTo = request.message_id
            response.AffectedSOPClassUID = request.sop_class_uid
            response.AffectedSOPInstanceUID = request.sop_instance_uid
            response.Status = answer.status
            response.ErrorComment = answer.comment  # type: ignore[assignment]
            self.send_msg(response, arriving.context_id)
