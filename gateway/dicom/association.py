"""Who may associate with us: called and calling AE title, address, certificate, and how many at once (PS3.8 9.3.4)."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from types import TracebackType
from typing import Protocol, Self

from config.settings import Dicom, Source, StowSource
from gateway.dicom.places import Full, Kind, Place, Places
from gateway.metrics import association_closed, association_opened

PERMANENT, TRANSIENT = 1, 2
SERVICE_USER, PRESENTATION = 1, 3
CALLING_NOT_RECOGNISED, CALLED_NOT_RECOGNISED = 3, 7
TEMPORARY_CONGESTION, LOCAL_LIMIT_EXCEEDED = 1, 2


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks for an association, as far as the connection and the request tell."""

    address: str
    calling_ae_title: str
    called_ae_title: str
    certificate_subject: str | None = None  # common name of its TLS certificate, verified


class AssociationRejected(Exception):
    """An association that is not accepted: result, source and reason of its A-ASSOCIATE-RJ (PS3.8 table 9-21)."""

    result = PERMANENT
    source = SERVICE_USER
    diagnostic = CALLING_NOT_RECOGNISED
    reason = "rejected"


class CalledTitleUnknown(AssociationRejected):
    """It calls an AE title that is not ours."""

    diagnostic = CALLED_NOT_RECOGNISED
    reason = "called_ae_title"


class CallerUnknown(AssociationRejected):
    """No source has its AE title, or it calls from another address or with another certificate than the source's."""

    reason = "calling_ae_title"


class LimitExceeded(AssociationRejected):
    """As many associations as we hold at once are open; the caller may try again."""

    result = TRANSIENT
    source = PRESENTATION
    diagnostic = LOCAL_LIMIT_EXCEEDED
    reason = "association_limit"


class Congested(LimitExceeded):
    """The disk, a queue or our memory is above its watermark (promise 8); the caller may try again."""

    reason = "watermark"


class Admitted(Protocol):
    """Who may send, however that was decided: on an association or over HTTP."""

    @property
    def caller(self) -> Caller: ...

    @property
    def source(self) -> Source | StowSource | None: ...


class Ticket:
    """An admitted association; counts until it is closed."""

    def __init__(self, admission: "Admission", caller: Caller, source: Source | None, place: Place) -> None:
        self.caller = caller
        self.source = source
        self._admission: Admission | None = admission
        self._place = place
        association_opened(source.ae_title if source is not None else None)

    def close(self) -> None:
        """Give the place to the next; a second time does nothing."""
        admission, self._admission = self._admission, None
        if admission is not None:
            self._place.close()
            admission.leave()
            association_closed()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Admission:
    """The allow-list and the limits of one receiving process; the limits count for all of its machine."""

    def __init__(
        self, dicom: Dicom, *, congested: Callable[[], str | None] = lambda: None, places: Places | None = None
    ) -> None:
        """`congested` says in words why nothing new should come in now, or None; `places` are the machine's."""
        self._dicom = dicom
        self._congested = congested
        self._places = places or Places(None, most=dicom.max_associations)
        self._lock = threading.Lock()
        self._open = 0

    @property
    def open(self) -> int:
        """Associations that are open in this process."""
        with self._lock:
            return self._open

    def admit(self, caller: Caller) -> Ticket:
        """Let `caller` in, or raise the AssociationRejected that tells it why not.

        Titles and sources come first: a stranger does not learn how busy we are.
        """
        if caller.called_ae_title.strip() != self._dicom.ae_title:
            raise CalledTitleUnknown(f"called AE title is not {self._dicom.ae_title}")
        source = self._source(caller)
        congestion = self._congested()
        if congestion is not None:
            raise Congested(congestion)
        try:
            place = self._places.take(
                Kind.ASSOCIATION,
                caller.address,
                total=self._dicom.max_associations,
                per_address=self._dicom.max_associations_per_source,
            )
        except Full as full:
            whose = f" from {caller.address} (dicom.max_associations_per_source)" if full.of_address else ""
            raise LimitExceeded(f"{full.limit} associations are open{whose or ' (dicom.max_associations)'}") from full
        with self._lock:
            self._open += 1
        return Ticket(self, caller, source, place)

    def leave(self) -> None:
        """One association is over."""
        with self._lock:
            self._open -= 1

    def _source(self, caller: Caller) -> Source | None:
        if not self._dicom.sources:
            if _is_loopback(caller.address):
                return None
            raise CallerUnknown("no dicom.sources are configured, so only this machine itself may send")
        title = caller.calling_ae_title.strip()
        named = [source for source in self._dicom.sources if source.ae_title == title]
        if not named:
            raise CallerUnknown("no source in dicom.sources has this calling AE title")
        placed = [source for source in named if source.admits(caller.address)]
        if not placed:
            raise CallerUnknown("the source with this AE title calls from other addresses")
        for source in placed:
            if source.certificate_subject is None or source.certificate_subject == caller.certificate_subject:
                return source
        raise CallerUnknown("the source with this AE title has another certificate")


def _is_loopback(address: str) -> bool:
    try:
        found = ip_address(address)
    except ValueError:
        return False
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return (mapped or found).is_loopback
