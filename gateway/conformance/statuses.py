"""Status codes that we send, read off the errors that carry them, and what we make of those of others (PS3.7 C)."""

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import TypeVar

from gateway.dicom import move, retrieve
from gateway.dicom.association import PERMANENT, AssociationRejected
from gateway.dicom.commitment import Reason, Status
from gateway.dicom.refusals import STATUS_SUCCESS, RefusedInstance, StoreUnavailable
from gateway.dicom.statuses import Judgement, judge
from gateway.web import stow_parts
from storage.errors import DatabaseUnavailable, InstanceRefused, SchemaMismatch, StoreFault, StoreFull

Base = TypeVar("Base")
_PROMISE = re.compile(r" \(promise \d+\)")  # of our design, which readers do not have

# Of storage, those that a C-STORE can meet; the sender hears their status with words of our own.
_STORAGE_FAULTS = (StoreFull, DatabaseUnavailable, StoreFault, InstanceRefused, SchemaMismatch)

_COMMITMENT: Mapping[Status, str] = {
    Status.SUCCESS: "the request is kept, durably; the report follows",
    Status.PROCESSING_FAILURE: "the database does not answer; ask again",
    Status.NO_SUCH_INSTANCE: "the instance is not the push model's well-known one",
    Status.NO_SUCH_EVENT_TYPE: "a report of another type than 1 or 2",
    Status.INVALID_ARGUMENT: "no sound data set, transaction UID or references; a transaction that is not ours",
    Status.NO_SUCH_CLASS: "not the push model, or storage commitment is switched off (`commitment.offered`)",
    Status.NO_SUCH_ACTION: "another action than 1",
    Status.RESOURCE_LIMITATION: "more instances than `commitment.max_instances`, or `commitment.max_requests` wait",
}
_REASONS: Mapping[Reason, str] = {
    Reason.PROCESSING_FAILURE: "our file is damaged, or copies with this UID contradict each other",
    Reason.NO_SUCH_INSTANCE: "never received, deleted for its age, or only in quarantine",
    Reason.CLASS_INSTANCE_CONFLICT: "stored under another SOP class",
    Reason.DUPLICATE_TRANSACTION: "the transaction UID was used for another request",
}
_JUDGEMENTS: Mapping[Judgement, str] = {
    Judgement.STORED: "delivered; a warning is recorded with the comment",
    Judgement.NO_ROOM: "kept, and tried again when the destination has room; not counted as an attempt",
    Judgement.NEVER: "a dead letter with the reason; not sent again",
    Judgement.AGAIN: "tried again with growing pauses, up to `destinations[].attempts` times",
}


def hexadecimal(status: int) -> str:
    """As the standard and our logs write it."""
    return f"0x{status:04X}"


def store_rows() -> Iterator[tuple[str, str, str]]:
    """Status, our name for the reason, and its meaning: of C-STORE, and of the instances of a STOW-RS request."""
    yield hexadecimal(STATUS_SUCCESS), "", "The instance is durable and indexed; its audit event is written."
    rows = {
        (each.dicom_status, each.reason, _meaning(each) + ("" if _is_dimse(each) else " STOW-RS only."))
        for each in _family(RefusedInstance)
        if each is not StoreUnavailable  # which takes the status of what is behind it
    }
    rows |= {(each.dicom_status, StoreUnavailable.reason, _meaning(each)) for each in _STORAGE_FAULTS}
    yield from ((hexadecimal(status), reason, meaning) for status, reason, meaning in sorted(rows))


def retrieved_rows() -> Iterator[tuple[str, str]]:
    """What we answer to a C-STORE that a C-GET or C-MOVE of ours caused."""
    yield hexadecimal(STATUS_SUCCESS), "kept"
    yield hexadecimal(retrieve.CANNOT_STORE), "it cannot be written, or its UID is none"
    yield hexadecimal(move.NOT_OURS), "C-MOVE: not caused by our request (PS3.7 9.1.1.1)"


def rejection_rows() -> Iterator[tuple[str, str, int, str, str]]:
    """Result, source, reason, our name for it and its meaning, of an A-ASSOCIATE-RJ."""
    for each in _family(AssociationRejected):
        result = "1, permanent" if each.result == PERMANENT else "2, transient"
        yield result, f"{each.source}", each.diagnostic, each.reason, _meaning(each)


def commitment_rows() -> Iterator[tuple[str, str, str]]:
    """What we answer to N-ACTION and N-EVENT-REPORT."""
    yield from ((hexadecimal(each), _words(each.name), _COMMITMENT[each]) for each in Status)


def failure_rows() -> Iterator[tuple[str, str, str]]:
    """Failure Reason of an instance that we do not commit ourselves to."""
    yield from ((hexadecimal(each), _words(each.name), _REASONS[each]) for each in Reason)


def judged_rows() -> Iterator[tuple[str, str]]:
    """What we do about each status that a destination gives us."""
    for judgement, meaning in _JUDGEMENTS.items():
        yield "any other" if judgement is Judgement.AGAIN else ", ".join(_ranges(judgement)), meaning


def _ranges(judgement: Judgement) -> Iterator[str]:
    first = None
    for status in range(0x10001):
        if status <= 0xFFFF and judge(status) is judgement:
            first = status if first is None else first
        elif first is not None:
            last = status - 1
            yield hexadecimal(first) if first == last else f"{hexadecimal(first)} to {hexadecimal(last)}"
            first = None


def _family(base: type[Base]) -> Iterator[type[Base]]:
    """Every kind of an error that is raised, by its place in the source."""
    for each in base.__subclasses__():
        yield each
        yield from _family(each)


def _meaning(kind: type) -> str:
    said = " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split())
    return _PROMISE.sub("", said)


def _is_dimse(kind: type[RefusedInstance]) -> bool:
    return kind.__module__ != stow_parts.__name__ and kind.reason != "study_mismatch"


def _words(name: str) -> str:
    return name.replace("_", " ").lower()
