"""The words of storage commitment: what its requests and reports hold, read strictly (PS3.4 J.3)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from io import BytesIO

from pydicom import Dataset
from pynetdicom.dsutils import decode, encode
from pynetdicom.presentation import PresentationContext, build_context

from gateway.dicom.contexts import COMMITMENT, ECHO_SYNTAXES
from gateway.dicom.header import is_uid
from storage.commitments import Reference

PUSH_MODEL_INSTANCE = "1.2.840.10008.1.20.1.1"  # its well-known instance
REQUEST_COMMITMENT = 1  # action type (J.3.2.1)
ALL_COMMITTED, SOME_FAILED = 1, 2  # event types (J.3.3.1)


class Status(IntEnum):
    """Statuses of N-ACTION and N-EVENT-REPORT that we give (PS3.7 10.1.1.1.8, 10.1.4.1.10)."""

    SUCCESS = 0x0000
    PROCESSING_FAILURE = 0x0110
    NO_SUCH_INSTANCE = 0x0112
    NO_SUCH_EVENT_TYPE = 0x0113
    INVALID_ARGUMENT = 0x0115
    NO_SUCH_CLASS = 0x0118
    NO_SUCH_ACTION = 0x0123
    RESOURCE_LIMITATION = 0x0213


class Reason(IntEnum):
    """Failure reasons of one instance (PS3.3 C.14.1.1)."""

    PROCESSING_FAILURE = 0x0110
    NO_SUCH_INSTANCE = 0x0112
    CLASS_INSTANCE_CONFLICT = 0x0119
    DUPLICATE_TRANSACTION = 0x0131


class RequestRefused(Exception):
    """A request or report that we do not act on, and the status that it is answered with."""

    def __init__(self, status: Status, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """The action information of a request (table J.3-1)."""

    transaction_uid: str
    references: tuple[Reference, ...]

    def data_set(self) -> Dataset:
        """As it is sent."""
        information = Dataset()
        information.TransactionUID = self.transaction_uid
        information.ReferencedSOPSequence = [_item(each) for each in self.references]
        return information


@dataclass(frozen=True, slots=True)
class Report:
    """The event information of a report (table J.3-2)."""

    transaction_uid: str
    committed: tuple[Reference, ...]
    failed: Mapping[Reference, int] = field(default_factory=dict)

    @property
    def event_type(self) -> int:
        return SOME_FAILED if self.failed else ALL_COMMITTED

    def data_set(self) -> Dataset:
        """As it is sent; an empty sequence is left out, as the table wants it."""
        information = Dataset()
        information.TransactionUID = self.transaction_uid
        if self.committed:
            information.ReferencedSOPSequence = [_item(each) for each in self.committed]
        if self.failed:
            items = [_item(each) for each in self.failed]
            for item, reason in zip(items, self.failed.values(), strict=True):
                item.FailureReason = reason
            information.FailedSOPSequence = items
        return information


def read_request(data: BytesIO | None, transfer_syntax: str, most: int) -> Request:
    """The request in a data set. Raises RequestRefused: malformed, or for more than `most` instances."""
    information = _decoded(data, transfer_syntax)
    uid = _transaction(information)
    references = _references(information.get("ReferencedSOPSequence"), "Referenced SOP Sequence")
    if not references:
        raise RequestRefused(Status.INVALID_ARGUMENT, "Referenced SOP Sequence has no item")
    if len(references) > most:
        raise RequestRefused(
            Status.RESOURCE_LIMITATION, f"{len(references)} instances, the limit is {most} (commitment.max_instances)"
        )
    return Request(uid, tuple(dict.fromkeys(references)))


def read_report(data: BytesIO | None, transfer_syntax: str) -> Report:
    """The report in a data set. Raises RequestRefused when it is malformed."""
    information = _decoded(data, transfer_syntax)
    uid = _transaction(information)
    committed = _references(information.get("ReferencedSOPSequence"), "Referenced SOP Sequence")
    items = information.get("FailedSOPSequence") or []
    failed = _references(items, "Failed SOP Sequence")
    reasons = [item.get("FailureReason") for item in items]
    return Report(
        uid,
        tuple(committed),
        {
            each: reason if isinstance(reason, int) else Reason.PROCESSING_FAILURE
            for each, reason in zip(failed, reasons, strict=True)
        },
    )


def commitment_context() -> PresentationContext:
    """The context to ask, and to be asked, on."""
    return build_context(COMMITMENT, list(ECHO_SYNTAXES[:2]))


def _item(reference: Reference) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = reference.sop_class_uid
    item.ReferencedSOPInstanceUID = reference.sop_instance_uid
    return item


def _transaction(information: Dataset) -> str:
    uid = str(information.get("TransactionUID") or "")
    if not is_uid(uid):
        raise RequestRefused(Status.INVALID_ARGUMENT, "Transaction UID is missing or no UID")
    return uid


def _references(items: Sequence[Dataset] | None, name: str) -> list[Reference]:
    found = [
        Reference(str(item.get("ReferencedSOPClassUID") or ""), str(item.get("ReferencedSOPInstanceUID") or ""))
        for item in _datasets(items, name)
    ]
    if not all(is_uid(each.sop_class_uid) and is_uid(each.sop_instance_uid) for each in found):
        raise RequestRefused(Status.INVALID_ARGUMENT, f"an item of {name} has no UID, or one that is none")
    return found


def _datasets(items: Sequence[Dataset] | None, name: str) -> Iterable[Dataset]:
    if items is None:
        return ()
    if isinstance(items, str | bytes) or not all(isinstance(item, Dataset) for item in items):
        raise RequestRefused(Status.INVALID_ARGUMENT, f"{name} is no sequence")
    return items


def _decoded(data: BytesIO | None, transfer_syntax: str) -> Dataset:
    if data is None or not data.getbuffer().nbytes:
        raise RequestRefused(Status.INVALID_ARGUMENT, "the message has no data set")
    try:
        data.seek(0)
        found = decode(data, transfer_syntax == ECHO_SYNTAXES[0], transfer_syntax != ECHO_SYNTAXES[2])
        for element in found.iterall():  # pydicom reads what is nested only when it is asked for
            del element
    except Exception as error:
        raise RequestRefused(Status.INVALID_ARGUMENT, "the data set cannot be read") from error
    return found


def encoded(information: Dataset, transfer_syntax: str) -> bytes:
    """The bytes of a request or report in one of ECHO_SYNTAXES."""
    data = encode(information, transfer_syntax == ECHO_SYNTAXES[0], transfer_syntax != ECHO_SYNTAXES[2])
    if data is None:
        raise ValueError("a message about storage commitment cannot be encoded")
    return data
