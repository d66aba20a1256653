"""The upper layer of an association without threads and sleeps of its own (PS3.8 section 9).

pynetdicom runs two threads for each association that look for work every millisecond. Here the association's thread
drives the same state machine, one `turn` at a time, and sleeps only in the kernel. While the association is
established, P-DATA-TF PDUs are taken apart as their bytes come in, which leaves the state machine where it is
(PS3.8 table 9-10, DT-2); everything else is pynetdicom's. tests/gateway/dicom/test_pynetdicom.py holds what we assume.
"""

import queue
import struct
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import structlog
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import TRANSITION_TABLE, StateMachine
from pynetdicom.pdu import A_ABORT_RQ
from pynetdicom.timer import Timer

from gateway.dicom.pace import Pace
from gateway.dicom.sockets import MAX_PDU_BYTES, GatewaySocket

if TYPE_CHECKING:
    from gateway.dicom.messages import GatewayAssociation

log = structlog.get_logger(__name__)

ESTABLISHED, CLOSING = "Sta6", "Sta13"
DATA_REQUEST = "Evt9"  # from the state machine's user: send P-DATA
USER_EVENTS = frozenset({"Evt7", "Evt8", DATA_REQUEST, "Evt11", "Evt14", "Evt15"})  # each has a primitive that waits
PEER_EVENTS = frozenset({"Evt3", "Evt4", "Evt6", "Evt10", "Evt12", "Evt13", "Evt16"})  # each has a PDU of the peer
CONNECTION_CLOSED = "Evt17"
ARTIM_EXPIRED = "Evt18"
INVALID_PDU = "Evt19"  # to the state machine (PS3.8 table 9-6): answer with A-ABORT

P_DATA_TF = 0x04
HEADER = struct.Struct(">BxL")  # type and length of a PDU
ITEM = struct.Struct(">LBB")  # length and context of a presentation data value, and its message control header
COMMAND, LAST = 0x01, 0x02  # bits of the message control header (PS3.8 E.2)


class SteadyTimer(Timer):
    """A timer that a change of the clock does not disturb, and that does not expire once it is stopped."""

    def __init__(self, timeout: float | None) -> None:
        super().__init__(timeout)
        self._started: float | None = None

    @property
    def expired(self) -> bool:
        """Whether it runs and its time is over."""
        return self._started is not None and self.timeout is not None and self.remaining < 0

    @property
    def remaining(self) -> float:
        """Seconds; those of a whole run when it does not run, 1 when it never expires."""
        if self.timeout is None:
            return 1
        return self.timeout if self._started is None else self.timeout - (time.monotonic() - self._started)

    @property
    def left(self) -> float | None:
        """Seconds until it expires; None when it will not."""
        return self.remaining if self._started is not None and self.timeout is not None else None

    def start(self) -> None:
        """Begin anew."""
        self._started = time.monotonic()

    def stop(self) -> None:
        """Do not expire."""
        self._started = None


class GatewayStateMachine(StateMachine):
    """Drops what its user wants when it is too late for it: an answer, say, to an association that is being aborted.

    PS3.8 table 9-10 has no event 9 in state 13; pynetdicom's own raises.
    """

    def do_action(self, event: str) -> None:
        """Act on `event` in the current state."""
        if event in USER_EVENTS and (event, self.current_state) not in TRANSITION_TABLE:
            with suppress(queue.Empty):  # the same primitive may stand behind several events
                self.dul.to_provider_queue.get(block=False)
            return
        try:
            super().do_action(event)
        except Exception as fault:
            if event in PEER_EVENTS:  # an abort without a source, a fragment in a context that cannot be
                raise UnusablePdu(type(fault).__name__) from fault
            raise


class UnusablePdu(Exception):
    """What the peer sent has the form of a PDU and says what none may say."""


class GatewayUpperLayer(DULServiceProvider):
    """Driven by `turn`, in the thread of its association only; `send_pdu` and `wake` are for every thread."""

    assoc: "GatewayAssociation"
    socket: GatewaySocket
    _idle_timer: SteadyTimer
    artim_timer: SteadyTimer

    def __init__(self, association: "GatewayAssociation", pace: Pace) -> None:
        super().__init__(association)
        self.state_machine = GatewayStateMachine(self)
        self._idle_timer = SteadyTimer(association.network_timeout)
        self.artim_timer = SteadyTimer(association.acse_timeout)
        self._begun = threading.Event()
        self._pace = pace
        self._arrived_at = time.monotonic()
        # What is still to come of the P-DATA-TF PDU that is arriving, and of the item within it
        self._pdu_left = 0
        self._item_left = 0
        self._context_id = 0
        self._control = 0

    def start(self) -> None:
        """Begin; there is no thread of its own."""
        self._begun.set()
        self._idle_timer.start()
        self.assoc._dul_ready.set()

    def is_alive(self) -> bool:
        """Whether turns are still to be taken."""
        return self._begun.is_set() and not self._kill_thread

    def wake(self) -> None:
        """Have a turn that waits look at what there is to do."""
        if self.socket is not None:
            self.socket.wake()

    def send_pdu(self, primitive: Any) -> None:
        """Have a primitive sent."""
        super().send_pdu(primitive)
        if threading.current_thread() is not self.assoc:
            self.wake()

    def receive_pdu(self, wait: bool = False, timeout: float | None = None) -> Any:
        """The next primitive for the association; `wait` takes turns until there is one, or it cannot come any more."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while wait and self.is_alive() and not self.to_user_queue.queue:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                break
            self.turn(left)
        return super().receive_pdu(wait=False)

    def finish(self) -> None:
        """Take turns until the association is idle again: what is to be sent is sent, the connection is closed."""
        while self.is_alive() and not self.stop_dul():
            if not self.has_work and self.state_machine.current_state not in {"Sta2", CLOSING}:
                self.socket.close()  # nothing would ever end it
            self.turn()

    @property
    def has_work(self) -> bool:
        """Whether an event or a primitive waits."""
        return bool(self.event_queue.queue or self.to_provider_queue.queue)

    def turn(self, limit: float | None = None) -> None:
        """Do the next thing there is to do; with nothing to do wait for it, `limit` seconds at most.

        Never raises: a fault of ours ends this association.
        """
        try:
            self._turn(limit)
        except UnusablePdu as fault:
            self.assoc.misused(f"a PDU that cannot be used ({fault})")
            self._cut_off()
        except Exception:
            log.exception("an association is cut off by a fault of ours")
            self._cut_off()

    def _cut_off(self) -> None:
        abort = A_ABORT_RQ()
        abort.source, abort.reason_diagnostic = 0x02, 0x00
        with suppress(Exception):
            self.socket.send(abort.encode())
        self.assoc.is_aborted = True
        self.assoc.is_established = False
        self.assoc._kill = True
        self._kill_thread = True

    def _turn(self, limit: float | None) -> None:
        if self.event_queue.queue:
            self.state_machine.do_action(self.event_queue.get(block=False))
            return
        if self._process_recv_primitive():
            return
        if self.artim_timer.expired:
            self.event_queue.put(ARTIM_EXPIRED)
            return
        state = self.state_machine.current_state
        if state == ESTABLISHED:
            self._receive(limit)
            return
        if self._pdu_left:
            self.socket.skip(self._pdu_left)
            self._pdu_left = self._item_left = 0
        if self.socket.ready:
            self._read_pdu_data()
            self._idle_timer.restart()
        elif state == CLOSING:
            self.socket.close()
        else:
            self.socket.wait(_soonest(limit, self.artim_timer.left, self._idle_timer.left))

    def _receive(self, limit: float | None) -> None:
        """Take in what arrives, and return when a message is whole or there is something else to do."""
        connection, dimse = self.socket, self.assoc.dimse
        while True:
            # What the last system call brought may hold more than one message
            while connection.begin < connection.end:
                if not self._take():
                    break
                if self.event_queue.queue or self.to_provider_queue.queue or dimse.msg_queue.queue:
                    return
                if self._kill_thread or self.assoc._kill:
                    return
            try:
                arrived = connection.fill()
            except OSError:
                arrived = 0
            if arrived:
                self._idle_timer.start()
                self._arrived_at = time.monotonic()
                self._pace.arrived(arrived)
                continue
            if arrived == 0:
                self.event_queue.put(CONNECTION_CLOSED)
            elif self._pace.too_slow:
                self.assoc.misused("a message comes more slowly than dicom.slowest_rate allows", "too_slow")
                self.event_queue.put(INVALID_PDU)
            elif (left := self._stalls_in()) is not None and left < 0:
                self.assoc.misused("nothing more of a message came within dicom.dimse_timeout", "stalled")
                self._cut_off()
            else:
                connection.wait(_soonest(limit, left, self._idle_timer.left, self._too_slow_in()))
            return

    def _stalls_in(self) -> float | None:
        """Seconds until the rest of what began to arrive is waited for no longer; None when nothing did."""
        timeout = self.assoc.dimse_timeout
        arriving = self._pdu_left or self.socket.begin < self.socket.end or self.assoc.dimse.is_receiving
        return self._arrived_at + timeout - time.monotonic() if arriving and timeout is not None else None

    def _too_slow_in(self) -> float | None:
        deadline = self._pace.deadline
        return None if deadline is None else deadline - time.monotonic()

    def _take(self) -> bool:
        """Take the next piece of what lies in the socket's view; False when more has to arrive first."""
        connection = self.socket
        view, begin = connection.view, connection.begin
        held = connection.end - begin
        if not self._pdu_left:
            return self._take_header(view, begin, held)
        if not self._item_left:
            if held < ITEM.size and held < self._pdu_left:
                return False
            if self._pdu_left < ITEM.size:
                return self._invalid()
            length, self._context_id, self._control = ITEM.unpack_from(view, begin)
            if length < 2 or length + 4 > self._pdu_left:
                return self._invalid()
            self._item_left = length - 2
            self._pdu_left -= ITEM.size
            begin += ITEM.size
            held -= ITEM.size
            connection.begin = begin
        size = min(self._item_left, held)
        if size < self._item_left and (not size or (self._control & COMMAND and self._item_left < len(view) // 2)):
            return False
        self._item_left -= size
        self._pdu_left -= size
        connection.begin = begin + size
        control = self._control if not self._item_left else self._control & ~LAST
        self.assoc.dimse.fragment(self._context_id, control, view[begin : begin + size])
        if control & LAST and not self.assoc.dimse.is_receiving:
            self._pace.whole()
            return True
        return True

    def _take_header(self, view: memoryview, begin: int, held: int) -> bool:
        if held < HEADER.size:
            return False
        kind, length = HEADER.unpack_from(view, begin)
        if kind != P_DATA_TF:
            # pynetdicom's: it waits for the whole of it, and all others are short
            self._read_pdu_data()
            self._pace.whole()
            return True
        if length > MAX_PDU_BYTES:
            self.assoc.misused(f"a PDU of {length} bytes; none has more than {MAX_PDU_BYTES}", "pdu_too_long")
            self._cut_off()
            return True
        self._pdu_left = length
        self.socket.begin = begin + HEADER.size
        return True

    def _invalid(self) -> bool:
        self.assoc.misused("a P-DATA-TF whose items have lengths that cannot be", "invalid_pdu")
        self.event_queue.put(INVALID_PDU)
        return True


def _soonest(*seconds: float | None) -> float | None:
    return min((each for each in seconds if each is not None), default=None)
