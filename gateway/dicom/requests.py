"""What passes between an association and whoever serves its requests."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from gateway.dicom.association import Ticket

if TYPE_CHECKING:
    from gateway.dicom.messages import GatewayAssociation


class Sink(Protocol):
    """Takes a data set as it arrives. `write` never raises: what goes wrong is told when the answer is due."""

    def write(self, data: bytes | memoryview) -> None:
        """Take a piece; `data` is a view of a buffer that is used again as soon as this returns."""

    def discard(self) -> None:
        """Forget it; after it was taken over by the store this does nothing."""


class Prepared(Protocol):
    """What a receiver has made ready for a data set that may never come."""

    def discard(self) -> None:
        """It did not come."""


@dataclass(frozen=True, slots=True)
class StoreCommand:
    """What the command set of a C-STORE request says; UIDs as sent, whatever they hold."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: str
    high_priority: bool = False
    study_uid: str | None = None
    """The study that a STOW-RS request is for (PS3.18 10.5.1): an instance of another is refused."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A C-STORE response."""

    status: int
    comment: str | None = None


class Receiver(Protocol):
    """What an association does with its requests."""

    def prepare(self) -> Prepared | None:
        """What takes time and can be done before the next data set arrives. Never raises."""

    def open(self, command: StoreCommand, prepared: Prepared | None = None) -> Sink:
        """A place for the data set that begins to arrive; takes over what was prepared. Never raises."""

    def store(self, ticket: Ticket, command: StoreCommand, sink: Sink | None) -> Answer:
        """Take a whole data set (None: the request had none), durably or not at all. Never raises."""

    def echoed(self, ticket: Ticket) -> None: ...

    def misused(self, ticket: Ticket, text: str, reason: str = "request_not_offered") -> None:
        """What a peer may not do; its association is aborted. `reason` names it in the ledger."""


class RequestHandler(Protocol):
    """Serves the messages of one type on the contexts of one abstract syntax, in the association's thread.

    `message` is a DIMSE primitive of pynetdicom: a request, or the response to a request that was sent with
    `association.dimse.send_msg`, which any thread may do. Whatever it raises aborts the association.
    """

    def __call__(self, association: "GatewayAssociation", message: Any, context_id: int) -> None: ...


Handlers = Mapping[tuple[str, type], RequestHandler]  # (abstract syntax, class of the DIMSE primitive)
NO_HANDLERS: Handlers = MappingProxyType({})
