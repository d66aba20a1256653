"""C-STORE: durable and indexed, or refused with a status, a reason and an audit event (PS3.4 B.2).

The data set goes to its file as it arrives; the header is read from there, the file is kept, and file, row and audit
event are durable before the answer is success (promise 1). Nothing in here lets an exception reach the association.
"""

import mmap
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, suppress

import structlog

from config.settings import Dicom
from gateway.dicom.association import Admitted, Ticket
from gateway.dicom.header import MoreNeeded, is_uid
from gateway.dicom.inspection import InspectedInstance, check_command, inspect
from gateway.dicom.messages import Answer, Sink, StoreCommand
from gateway.dicom.part10 import file_meta
from gateway.dicom.refusals import (
    STATUS_SUCCESS,
    DataSetMalformed,
    HandlerFailed,
    InstanceTooLarge,
    MemoryShort,
    RefusedInstance,
    StoreUnavailable,
)
from gateway.dicom.requests import Prepared
from gateway.dicom.trail import Trail, printable
from gateway.metrics import instance_received, instance_refused
from storage import (
    AuditEvent,
    AuditEventType,
    AuditOutcome,
    Database,
    DatabaseUnavailable,
    Index,
    InstanceFacts,
    InstanceStore,
    Outcome,
    Priority,
    StorageError,
    StoredFile,
    StoreFull,
    Upload,
    peer_actor,
)
from storage.points import Point, reached

log = structlog.get_logger(__name__)

HEAD_BYTES = 32 * 1024  # of a data set, kept in memory: the header of most images ends before


class DataSetFile:
    """A data set on its way into the store, after the Part 10 header that we write (PS3.10 7.1)."""

    def __init__(
        self,
        store: InstanceStore,
        command: StoreCommand,
        limit: int,
        *,
        prepared: Upload | None = None,
        no_memory: bool = False,
    ) -> None:
        """`prepared`: the file to use, which is removed when it cannot be."""
        self.fault: RefusedInstance | None = None
        self._limit = limit
        self._left = limit
        self._head = b""
        self._entered: AbstractContextManager[Upload] | None = None
        self._upload: Upload | None = None
        try:
            if no_memory:
                raise MemoryShort("no memory to receive this; send again later")
            check_command(command)
        except RefusedInstance as fault:
            self.fault = fault
            if prepared is not None:
                prepared.discard()
            return
        try:
            self._entered = store.incoming(prepared)
            self._upload = self._entered.__enter__()
            header = file_meta(command.sop_class_uid, command.sop_instance_uid, command.transfer_syntax)
            self._upload.write(header)
            self._offset = len(header)
        except Exception as fault:  # noqa: BLE001 - a sink never raises; the answer says what went wrong
            self._fail(fault)

    def write(self, data: bytes | memoryview) -> None:
        """Append a fragment; after a fault it is dropped."""
        if self.fault is not None or self._upload is None:
            return
        self._left -= len(data)
        if self._left < 0:
            self._fail(InstanceTooLarge(self._limit))
            return
        if not self._head:
            self._head = bytes(data[:HEAD_BYTES])
        try:
            self._upload.write(data)
        except Exception as fault:  # noqa: BLE001 - as above
            self._fail(fault)

    def inspect(self, command: StoreCommand) -> InspectedInstance:
        """Read the header of what arrived. Raises the RefusedInstance that it deserves."""
        if self.fault is not None:
            raise self.fault
        if self._upload is None or self._upload.size <= self._offset:
            raise DataSetMalformed("the data set is empty")
        with suppress(MoreNeeded):
            return inspect(command, self._head, max_bytes=self._limit, total=self._upload.size - self._offset)
        with (
            self._upload.path.open("rb") as file,
            closing(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) as whole,
            memoryview(whole) as view,
            view[self._offset :] as data,
        ):
            return inspect(command, data, max_bytes=self._limit)

    def keep(self, sop_instance_uid: str) -> StoredFile:
        """Make it durable under its final name."""
        if self._upload is None:
            raise RuntimeError("this data set was discarded")
        return self._upload.keep(sop_instance_uid)

    def discard(self) -> None:
        """Remove the file unless it was kept."""
        entered, self._entered = self._entered, None
        self._upload = None
        if entered is not None:
            entered.__exit__(None, None, None)

    def _fail(self, fault: Exception) -> None:
        self.fault = in_our_words(fault)
        self.discard()


class StorageService:
    """What the associations of one receiving process do with their requests."""

    def __init__(
        self,
        dicom: Dicom,
        database: Database,
        store: InstanceStore,
        trail: Trail,
        *,
        patience: float,
        short_of_memory: Callable[[], bool] = lambda: False,
    ) -> None:
        """`patience`: seconds that one instance waits for its turn to be indexed."""
        self._short_of_memory = short_of_memory
        self._limit = dicom.max_instance_bytes
        self._store = store
        self._trail = trail
        self._indexed = Index(database, store, patience=patience)

    def prepare(self) -> Upload | None:
        """A file for a data set that may come; None when that has to wait."""
        return None if self._short_of_memory() else self._store.prepare()

    def open(self, command: StoreCommand, prepared: Prepared | None = None) -> Sink:
        """A file for the data set that begins to arrive."""
        file = prepared if isinstance(prepared, Upload) else None
        return DataSetFile(self._store, command, self._limit, prepared=file, no_memory=self._short_of_memory())

    def store(self, ticket: Admitted, command: StoreCommand, sink: Sink | None) -> Answer:
        """Keep a data set, or say why not."""
        try:
            self._store_or_raise(ticket, command, sink)
        except Exception as fault:  # noqa: BLE001 - whatever it is, the sender gets a status and the association goes on
            refusal = in_our_words(fault)
            self._refused(ticket, command, refusal, fault)
            return Answer(refusal.dicom_status, refusal.comment)
        finally:
            if sink is not None:
                sink.discard()
        reached(Point.ANSWERING)
        return Answer(STATUS_SUCCESS)

    def echoed(self, ticket: Ticket) -> None:
        """Note a C-ECHO."""
        caller = ticket.caller
        self._trail.meeting(
            AuditEventType.CONNECTION_TESTED,
            caller.calling_ae_title,
            caller.address,
            "c_echo",
            {},
            AuditOutcome.SUCCESS,
        )

    def misused(self, ticket: Ticket, text: str, reason: str = "request_not_offered") -> None:
        """Note what ends an association before its time."""
        caller = ticket.caller
        log.warning("association aborted", peer=printable(caller.calling_ae_title), address=caller.address, reason=text)
        self._trail.meeting(
            AuditEventType.ASSOCIATION_REFUSED,
            caller.calling_ae_title,
            caller.address,
            reason,
            {"text": text},
        )

    def _store_or_raise(self, ticket: Admitted, command: StoreCommand, sink: Sink | None) -> None:
        begun = time.perf_counter()
        if not isinstance(sink, DataSetFile):
            check_command(command)
            raise DataSetMalformed("the request has no data set")
        found = sink.inspect(command)
        facts = _facts(ticket, command, found)
        outcome = self._index(sink.keep(found.sop_instance_uid), facts)
        source = ticket.source.ae_title if ticket.source is not None else None
        seconds = time.perf_counter() - begun
        instance_received(outcome.disposition.value, outcome.kind.value, source, outcome.stored.size, seconds)

    def _index(self, stored: StoredFile, facts: InstanceFacts) -> Outcome:
        outcome = self._indexed.record(stored, facts)
        try:
            outcome.settle(self._store)
            reached(Point.SETTLED)
        except StorageError as fault:  # it is stored: the sender must not hear otherwise
            log.warning("the file of a repeat stays until the next sweep", reason=str(fault))
        log.debug(
            "instance received",
            outcome=outcome.disposition.value,
            kind=outcome.kind.value,
            sop_instance_uid=facts.sop_instance_uid,
            study_uid=facts.study_uid,
            peer=facts.source_ae,
            bytes=stored.size,
        )
        return outcome

    def _refused(self, ticket: Admitted, command: StoreCommand, refusal: RefusedInstance, fault: Exception) -> None:
        instance_refused(refusal.reason)
        caller = ticket.caller
        uid = command.sop_instance_uid if is_uid(command.sop_instance_uid) else None
        details = {"reason": refusal.reason, "status": f"0x{refusal.dicom_status:04X}", "comment": refusal.comment}
        if is_uid(command.sop_class_uid):
            details["sop_class_uid"] = command.sop_class_uid
        log.warning(
            "instance refused",
            sop_instance_uid=uid,
            study_uid=refusal.study_uid,
            peer=printable(caller.calling_ae_title),
            address=caller.address,
            **details,
        )
        if isinstance(refusal, StoreUnavailable | MemoryShort) and not isinstance(fault, DatabaseUnavailable):
            # Written once a minute and counted: a sender that tries again and again must not use up the reserve that
            # is kept for the ledger
            reason, title = refusal.reason, caller.calling_ae_title
            self._trail.meeting(AuditEventType.INSTANCE_REFUSED, title, caller.address, reason, details)
            return
        event = AuditEvent(
            AuditEventType.INSTANCE_REFUSED,
            peer_actor(printable(caller.calling_ae_title), caller.address),
            AuditOutcome.MINOR_FAILURE,
            study_uid=refusal.study_uid,
            subject=uid,
            details=details,
        )
        if isinstance(fault, DatabaseUnavailable):
            self._trail.write_later(event)
        else:
            self._trail.write(event)


_COMMENTS: dict[type[StorageError], str] = {
    StoreFull: "no space to store this; send again later",
    DatabaseUnavailable: "the index does not answer; send again later",
}


def in_our_words(fault: Exception) -> RefusedInstance:
    """The refusal that a fault becomes; what is none of ours is told as a failure without its text."""
    if isinstance(fault, RefusedInstance):
        return fault
    if isinstance(fault, StorageError):
        refusal = StoreUnavailable(_COMMENTS.get(type(fault), "cannot store now; send again later"))
        refusal.dicom_status = fault.dicom_status
        return refusal
    log.error("a fault of ours while receiving", exc_info=fault)
    return HandlerFailed("internal fault; see the receiver's log")


def _facts(ticket: Admitted, command: StoreCommand, found: InspectedInstance) -> InstanceFacts:
    asked = ticket.source.priority if ticket.source is not None else None
    stat = asked == "stat" if asked is not None else command.high_priority
    return InstanceFacts(
        sop_instance_uid=found.sop_instance_uid,
        sop_class_uid=found.sop_class_uid,
        study_uid=found.study_uid,
        series_uid=found.series_uid,
        transfer_syntax=found.transfer_syntax,
        source_ae=printable(ticket.caller.calling_ae_title),
        source_address=ticket.caller.address,
        kind=found.kind,
        priority=Priority.STAT if stat else Priority.ROUTINE,
        expected_instances=found.expected_instances,
        accession_digest=found.accession_digest,
    )
