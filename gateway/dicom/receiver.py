"""The receive role: the DICOM port from its opening to its drained end.

Several processes serve one port: each of them is one Receiver, and their limits count together.
"""

import signal
import socket
import threading
import time
from types import FrameType
from typing import Self, cast

import structlog
from pynetdicom import AE, evt
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.transport import AddressInformation

from config import Settings
from gateway.dicom.association import PERMANENT, Admission, AssociationRejected, Caller, CallerUnknown
from gateway.dicom.commitment_scp import CommitmentService
from gateway.dicom.congestion import Congestion, MemoryWatermark
from gateway.dicom.connections import ConnectionHandler, GatewayServer
from gateway.dicom.contexts import answer
from gateway.dicom.failures import Failures
from gateway.dicom.messages import GatewayAssociation, RequestHandler
from gateway.dicom.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from gateway.dicom.places import Places
from gateway.dicom.port import open_port
from gateway.dicom.quiet import quiet_pynetdicom
from gateway.dicom.scp import StorageService
from gateway.dicom.sockets import GatewaySocket
from gateway.dicom.tls import expiry_warning, server_context
from gateway.dicom.trail import Trail, printable
from storage import AuditEventType, Database, InstanceStore, Ledger

log = structlog.get_logger(__name__)

DRAIN_SECONDS = 20.0  # below the supervisor's patience
IDLE_BEFORE_ABORT = 1.0  # seconds without a message after which a drain ends an association
TICK = 1.0
CERTIFICATES_EVERY = 24 * 3600.0
# Refusals of a connection that say nothing against its peer
NO_FAILURES = frozenset({"connection_limit", "connection_lost"})
CONTEXT_UNKNOWN = 3  # abstract syntax not supported (PS3.8 9.3.3.2)


class PortUnavailable(OSError):
    """The DICOM port cannot be opened; the message says what to change."""


class Receiver:
    """One DICOM port. `start` opens it, `drain` closes it in order; a context manager does both."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        store: InstanceStore,
        listening: socket.socket | None = None,
    ) -> None:
        """`listening` holds the port, if somebody took it. Raises TlsFault when the certificates cannot be used."""
        quiet_pynetdicom()
        dicom = self._dicom = settings.dicom
        self._trail = Trail(Ledger(database))
        run = store.root / "run"  # where the acceptors of a machine meet
        self._places = Places(run, most=3 * dicom.max_associations)
        self._memory = MemoryWatermark(dicom.memory_watermark, self._places)
        self._service = StorageService(
            dicom,
            database,
            store,
            self._trail,
            patience=max(settings.database.busy_timeout, 1.0),
            short_of_memory=self._memory,
        )
        self._congestion = Congestion(store, database, settings.queues, memory=self._memory)
        self._failures = Failures(
            run,
            limit=dicom.failure_limit,
            window=dicom.failure_window,
            pause=dicom.failure_pause,
            exempt=dicom.failure_exempt,
        )
        self._admission = Admission(dicom, congested=self._congested, places=self._places)
        self._tls = server_context(dicom.tls) if dicom.tls is not None else None
        self._commitment = CommitmentService(settings, database, self._trail)
        # Beyond C-STORE and C-ECHO
        self._handlers: dict[tuple[str, type], RequestHandler] = self._commitment.handlers()
        self._listening = listening
        self._server: GatewayServer | None = None
        self._associations: set[GatewayAssociation] = set()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def port(self) -> int:
        """The port that is open."""
        if self._server is None:
            raise RuntimeError("the receiver is not started")
        return int(self._server.server_address[1])

    @property
    def open_associations(self) -> int:
        """Associations that are open."""
        return self._admission.open

    @property
    def connections_waiting(self) -> int:
        """Connections without an association yet."""
        return self._server.waiting if self._server is not None else 0

    def start(self) -> None:
        """Open the port and serve it in the background. Raises PortUnavailable."""
        dicom = self._dicom
        ae = AE(ae_title=dicom.ae_title)
        ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        ae.maximum_pdu_size = dicom.max_pdu
        ae.acse_timeout = dicom.acse_timeout or None
        ae.dimse_timeout = dicom.dimse_timeout or None
        ae.network_timeout = dicom.idle_timeout or None
        ae.maximum_associations = 1_000_000  # Admission counts, by address too
        try:
            listening = self._listening or open_port(dicom.host, dicom.port)
            self._server = GatewayServer(
                ae,
                listening,
                tls=self._tls,
                request_timeout=dicom.acse_timeout or None,
                transfer_timeout=dicom.dimse_timeout or None,
                max_connections=2 * dicom.max_associations,
                max_connections_per_address=2 * dicom.max_associations_per_source,
                make_association=self._associate,
                on_refused_connection=self._refused_connection,
                places=self._places,
                failures=self._failures,
            )
        except OSError as error:
            raise PortUnavailable(
                f"dicom.port: cannot listen on {dicom.host}:{dicom.port} ({error.strerror or error}); "
                "stop what uses it or choose another port"
            ) from error
        self._memory()  # which makes us known to the other acceptors
        self._threads = [
            threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="dicom-port"),
            threading.Thread(target=self._tick, name="dicom-trail", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        log.info("listening", ae_title=dicom.ae_title, host=dicom.host, port=self.port, tls=self._tls is not None)

    def drain(self, seconds: float = DRAIN_SECONDS) -> None:
        """Close the port, let open transfers finish for at most `seconds`, then end what is left."""
        if self._server is None:
            return
        self._server.shutdown()
        deadline = time.monotonic() + seconds
        busy_at: dict[GatewayAssociation, float] = {}
        while (open_now := self._snapshot()) and time.monotonic() < deadline:
            now = time.monotonic()
            for association in open_now:
                if association.is_busy:
                    busy_at[association] = now
                elif now - busy_at.setdefault(association, now) > IDLE_BEFORE_ABORT:
                    association.abort(block=False)
                    busy_at[association] = now
            time.sleep(0.02)
        for association in self._snapshot():
            log.warning("an association is cut off by the drain", address=association.requestor.address)
            association.abort(block=False)
        deadline = time.monotonic() + 2
        while self._snapshot() and time.monotonic() < deadline:
            time.sleep(0.02)
        self._closing.set()
        for thread in self._threads:
            thread.join(timeout=5)
        self._tell_refusals_over(all_of_them=True)
        self._commitment.close()
        self._trail.tick(closing=True)
        self._failures.close()
        self._places.close()
        self._server = None
        log.info("the DICOM port is closed")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.drain()

    def _snapshot(self) -> list[GatewayAssociation]:
        with self._lock:
            return list(self._associations)

    def _tick(self) -> None:
        looked_at = float("-inf")
        while not self._closing.wait(TICK):
            try:
                if time.monotonic() - looked_at > CERTIFICATES_EVERY:
                    looked_at = time.monotonic()
                    self._look_at_certificates()
                self._memory()
                self._tell_refusals_over()
                self._trail.tick()
            except Exception:
                log.exception("counted audit events were not written")

    def _look_at_certificates(self) -> None:
        """A service runs for months: what `config check` said at its start says nothing about today."""
        text = expiry_warning(self._dicom.tls) if self._dicom.tls is not None else None
        if text is not None:
            log.error("TLS will end: get new certificates and restart", reason=text)

    def _congested(self) -> str | None:
        if self._server is None:
            return "the receiver is stopping"
        return self._congestion()

    def _associate(
        self, handler: ConnectionHandler, connection: socket.socket, received: bytes, subject: str | None
    ) -> GatewayAssociation:
        """An association over `connection`, whose request is `received`; it decides about it in its own thread."""
        ae = handler.ae
        association = GatewayAssociation(
            ae, self._service, self._ended, self._handlers, slowest_rate=self._dicom.slowest_rate
        )
        association._server = handler.server
        association.name = f"AcceptorThread@{handler.client_address[0]}"
        association.set_socket(GatewaySocket(association, connection, received))
        association.acceptor.maximum_length = ae.maximum_pdu_size
        association.acceptor.ae_title = handler.server.ae_title
        association.acceptor.address_info = handler.local
        association.acceptor.implementation_class_uid = ae.implementation_class_uid
        association.acceptor.implementation_version_name = ae.implementation_version_name
        association.acceptor.supported_contexts = list(handler.server.contexts)
        association.requestor.address_info = handler.remote
        association.bind(evt.EVT_REQUESTED, self._requested, [subject])
        association.bind(evt.EVT_ACCEPTED, self._accepted)
        with self._lock:
            self._associations.add(association)
        return association

    def _ended(self, association: GatewayAssociation) -> None:
        with self._lock:
            self._associations.discard(association)
        if association.requestor.primitive is None and association.requestor.address_info is not None:
            address = association.requestor.address_info.address
            self._refused_connection(address, "request_malformed", "an association request that cannot be decoded")

    def _requested(self, event: evt.Event, subject: str | None) -> None:
        """Admit the caller or send its rejection. pynetdicom swallows what is raised here, so it fails closed."""
        association = cast(GatewayAssociation, event.assoc)
        request = cast(A_ASSOCIATE, association.requestor.primitive)
        caller = Caller(
            address=cast(AddressInformation, association.requestor.address_info).address,
            calling_ae_title=str(request.calling_ae_title),
            called_ae_title=str(request.called_ae_title),
            certificate_subject=subject,
        )
        try:
            association.ticket = self._admission.admit(caller)
            association.acceptor.supported_contexts = answer(request.presentation_context_definition_list)
            self._failures.succeeded(caller.address)
        except AssociationRejected as rejection:
            self._reject(association, caller, rejection)
            if rejection.result == PERMANENT:
                self._failed(caller.address)
        except Exception:
            log.exception("an association request could not be judged")
            self._reject(association, caller, CallerUnknown("internal fault"))

    def _reject(self, association: GatewayAssociation, caller: Caller, rejection: AssociationRejected) -> None:
        association.acse.send_reject(rejection.result, rejection.source, rejection.diagnostic)
        log.warning(
            "association rejected",
            peer=printable(caller.calling_ae_title),
            called=printable(caller.called_ae_title),
            address=caller.address,
            reason=str(rejection),
        )
        self._trail.meeting(
            AuditEventType.ASSOCIATION_REFUSED,
            caller.calling_ae_title,
            caller.address,
            rejection.reason,
            {"called_ae_title": printable(caller.called_ae_title), "text": str(rejection)},
        )
        association.kill()  # returns when the rejection is sent: the association's thread closes the socket next

    def _accepted(self, event: evt.Event) -> None:
        association = cast(GatewayAssociation, event.assoc)
        unknown = [
            str(context.abstract_syntax)
            for context in association.rejected_contexts
            if context.result == CONTEXT_UNKNOWN
        ]
        if unknown and association.ticket is not None:
            caller = association.ticket.caller
            self._trail.meeting(
                AuditEventType.ASSOCIATION_REFUSED,
                caller.calling_ae_title,
                caller.address,
                "sop_class_not_offered",
                {"sop_classes": unknown[:16], "contexts_accepted": len(association.accepted_contexts)},
            )

    def _refused_connection(self, address: str, reason: str, text: str) -> None:
        log.warning("connection refused", address=address, reason=text)
        self._trail.meeting(AuditEventType.ASSOCIATION_REFUSED, "", address, reason, {"text": text})
        if reason not in NO_FAILURES:
            self._failed(address)

    def _failed(self, address: str) -> None:
        """One more failed attempt; the one that is too many closes the door for a while, and that is an event."""
        failures = self._failures.failed(address)
        if failures is None:
            return
        pause = self._dicom.failure_pause
        log.warning("an address fails too often; its connections are refused", address=address, seconds=pause)
        self._trail.meeting(
            AuditEventType.ASSOCIATION_REFUSED,
            "",
            address,
            "failure_limit",
            {"failures": failures, "refused_seconds": int(pause)},
        )

    def _tell_refusals_over(self, *, all_of_them: bool = False) -> None:
        for pause in self._failures.over(all_of_them=all_of_them):
            details = {"connections_refused": pause.refused}
            self._trail.meeting(AuditEventType.ASSOCIATION_REFUSED, "", pause.address, "failure_limit_over", details)


def start(
    settings: Settings,
    database: Database,
    store: InstanceStore,
    *,
    stop: threading.Event | None = None,
    listening: socket.socket | None = None,
) -> None:
    """Receive until SIGTERM or SIGINT, or until `stop` is set; then drain. Raises PortUnavailable and TlsFault.

    `listening` as for Receiver.
    """
    ending = stop or threading.Event()

    def end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a handler
        ending.set()

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, end)
        signal.signal(signal.SIGINT, end)
    with Receiver(settings, database, store, listening):
        while not ending.wait(1.0):
            pass
