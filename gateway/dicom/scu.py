"""Sending: C-STORE and C-ECHO to a destination (PS3.4 B, A), each object in its own transfer syntax, byte for byte.

One association carries many objects. A peer's answer becomes an outcome for each object; what prevents answers becomes
an error: nobody there, rejected, or lost on the way.
"""

import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE, SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AddressInformation, AssociationSocket

from config.settings import Destination
from gateway.dicom.association import PERMANENT
from gateway.dicom.contexts import ECHO_SYNTAXES, propose, verification_context
from gateway.dicom.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from gateway.dicom.quiet import quiet_pynetdicom
from gateway.dicom.sockets import ClosingSocket
from gateway.dicom.statuses import Judgement, is_warning, judge
from gateway.dicom.tls import TlsFault, client_context

log = structlog.get_logger(__name__)

_REASONS: Mapping[tuple[int, int], str] = {
    (1, 1): "no reason given",
    (1, 2): "application context not supported",
    (1, 3): "calling AE title not recognised",
    (1, 7): "called AE title not recognised",
    (2, 1): "no reason given",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}
MAX_MESSAGE_ID = 65535


class SendError(Exception):
    """Something kept objects from being delivered; the message names the destination and what to look at."""

    transient = True


class Unreachable(SendError):
    """No connection, no TLS, or no answer in time."""


class ConnectionBroken(SendError):
    """The association ended before an object was answered; whether the peer keeps it is not known.

    `path` is that object's file, where there was one on its way.
    """

    def __init__(self, text: str, path: Path | None = None) -> None:
        super().__init__(text)
        self.path = path


class Rejected(SendError):
    """The peer does not accept the association (PS3.8 table 9-21)."""

    def __init__(self, text: str, *, permanent: bool) -> None:
        super().__init__(text)
        self.transient = not permanent


class NothingAccepted(Rejected):
    """The peer accepts the association and none of the SOP classes in it: there is no use in another try."""

    def __init__(self, text: str) -> None:
        super().__init__(text, permanent=True)


class Refused(SendError):
    """The peer answered one object with a failure (PS3.4 B.2.3); some are worth another try."""

    def __init__(self, text: str, status: int | None) -> None:
        super().__init__(text)
        self.status = status
        self.transient = judge(status) in (Judgement.NO_ROOM, Judgement.AGAIN)


@dataclass(frozen=True, slots=True)
class SendOutcome:
    """What became of one file. `status` is the peer's; None: it was never offered, `comment` says why."""

    path: Path
    sop_instance_uid: str | None
    status: int | None
    comment: str = ""

    @property
    def judgement(self) -> Judgement:
        """What is to be done about it."""
        return judge(self.status)

    @property
    def stored(self) -> bool:
        """Whether the peer has it: success, a warning, which `comment` tells, or because it had it before."""
        return self.judgement is Judgement.STORED

    def raise_for_status(self) -> None:
        """Raise Refused unless the peer has it."""
        if not self.stored:
            what = f"status 0x{self.status:04X}" if self.status is not None else "not sent"
            raise Refused(f"{self.sop_instance_uid or self.path}: {what}: {self.comment or 'no comment'}", self.status)


@dataclass(frozen=True, slots=True)
class _Object:
    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: str


def send(
    files: Iterable[Path],
    destination: Destination,
    calling_ae_title: str,
    *,
    wanted: Callable[[Path], bool] = lambda _: True,
) -> Iterator[SendOutcome]:
    """Send files in one association (more when they need over 128 contexts); an outcome for each, as it is known.

    `calling_ae_title` is `dicom.ae_title`; the destination's own `calling_ae_title` wins. `wanted` is asked before each
    file is sent, when the outcomes before it are known; one that is not wanted has no outcome. Raises Unreachable,
    Rejected or ConnectionBroken, after which the files without an outcome are not delivered. Ending the iteration early
    releases the association.
    """
    objects = []
    for path in files:
        found = _describe(path)
        if isinstance(found, SendOutcome):
            yield found
        else:
            objects.append(found)
    waiting = objects
    for contexts in propose((each.sop_class_uid, each.transfer_syntax) for each in objects):
        offered = {(str(c.abstract_syntax), str(c.transfer_syntax[0])) for c in contexts}
        now = [each for each in waiting if (each.sop_class_uid, each.transfer_syntax) in offered]
        waiting = [each for each in waiting if (each.sop_class_uid, each.transfer_syntax) not in offered]
        if not now:
            continue  # only fallbacks of an earlier group
        with associated(destination, calling_ae_title, contexts) as association:
            for number, each in enumerate(now):
                if not wanted(each.path):
                    continue
                yield _send_one(association, destination, each, number % MAX_MESSAGE_ID + 1)


def echo(destination: Destination, calling_ae_title: str) -> float:
    """C-ECHO; the seconds from the connection to the answer. Raises the SendError that says why there is none."""
    started = time.monotonic()
    with associated(destination, calling_ae_title, [verification_context()]) as association:
        status = association.send_c_echo()
        if "Status" not in status:
            raise ConnectionBroken(f"{_name(destination)} does not answer C-ECHO; look at its log")
        if status.Status != 0:
            raise Refused(f"{_name(destination)} answers C-ECHO with status 0x{status.Status:04X}", int(status.Status))
    return time.monotonic() - started


def _describe(path: Path) -> "_Object | SendOutcome":
    try:
        meta = read_file_meta_info(path)
        return _Object(
            path,
            str(meta.MediaStorageSOPClassUID),
            str(meta.MediaStorageSOPInstanceUID),
            str(meta.TransferSyntaxUID),
        )
    except (InvalidDicomError, AttributeError, ValueError, EOFError):
        return SendOutcome(path, None, None, "not a DICOM file (PS3.10): no file meta information")
    except OSError as error:
        return SendOutcome(path, None, None, f"cannot be read: {error.strerror}")


def _send_one(association: Association, destination: Destination, each: _Object, message_id: int) -> SendOutcome:
    accepted = {(str(c.abstract_syntax), str(c.transfer_syntax[0])) for c in association.accepted_contexts}
    as_it_is = (each.sop_class_uid, each.transfer_syntax) in accepted
    implicit = each.transfer_syntax in ECHO_SYNTAXES[:2] and (each.sop_class_uid, ECHO_SYNTAXES[0]) in accepted
    if not as_it_is and not implicit:
        return SendOutcome(
            each.path,
            each.sop_instance_uid,
            None,
            f"the destination accepts no SOP class {each.sop_class_uid} in transfer syntax {each.transfer_syntax}",
        )
    try:
        content: Path | Dataset = each.path if as_it_is else dcmread(each.path)
        status = association.send_c_store(content, msg_id=message_id)
    except RuntimeError as error:  # the association is gone
        raise _broken(destination, each) from error
    except (ValueError, AttributeError, OSError, InvalidDicomError) as error:
        return SendOutcome(each.path, each.sop_instance_uid, None, f"cannot be encoded for sending: {error}")
    if "Status" not in status:
        raise _broken(destination, each)
    code = int(status.Status)
    comment = str(status.get("ErrorComment", "") or "")
    if code and not comment:
        comment = "stored with a warning" if is_warning(code) else "the destination gives no comment"
    return SendOutcome(each.path, each.sop_instance_uid, code, comment)


def _broken(destination: Destination, each: _Object) -> ConnectionBroken:
    return ConnectionBroken(
        f"{_name(destination)} ended the association or gave no answer within {destination.timeout:g} s "
        f"for {each.sop_instance_uid}; look at its log",
        each.path,
    )


class SendingEntity(AE):
    """An application entity whose sockets close, and do not wait for a full packet (Nagle) before they send."""

    def _create_socket(
        self, assoc: Association, address: AddressInformation, tls_args: tuple[ssl.SSLContext, str] | None
    ) -> AssociationSocket:
        created = ClosingSocket(assoc, address=address)
        created.tls_args = tls_args
        if created.socket is not None:
            created.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return created


@contextmanager
def associated(
    destination: Destination,
    calling_ae_title: str,
    contexts: list[PresentationContext],
    *,
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
    handlers: Sequence[evt.EventHandlerType] = (),
) -> Iterator[Association]:
    """An association for as long as the block runs; `roles` and `handlers` are for objects that come back in it.

    Raises the SendError that says why there is none.
    """
    quiet_pynetdicom()
    # Raw bytes from the file, never decoded and encoded again. Process-wide, and right for everything that we send.
    _config.STORE_SEND_CHUNKED_DATASET = True
    try:
        tls = client_context(destination.tls) if destination.tls is not None else None
    except TlsFault as fault:
        raise Unreachable(f"{_name(destination)}: {fault}") from fault
    association = _associate(destination, calling_ae_title, contexts, tls, roles, handlers)
    try:
        if not association.is_established:
            raise _why_not(association, destination, tls)
        yield association
    finally:
        if association.is_established:
            association.release()


def _associate(
    destination: Destination,
    calling_ae_title: str,
    contexts: list[PresentationContext],
    tls: ssl.SSLContext | None,
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation],
    handlers: Sequence[evt.EventHandlerType],
) -> Association:
    ae = SendingEntity(ae_title=destination.calling_ae_title or calling_ae_title)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    timeout = destination.timeout or None
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = timeout
    try:
        return ae.associate(
            destination.host,
            destination.port,
            contexts=contexts,
            ae_title=destination.ae_title,
            ext_neg=list(roles),
            evt_handlers=list(handlers),
            tls_args=(tls, destination.host) if tls is not None else None,
        )
    except OSError as error:  # the host name has no address
        raise Unreachable(f"{_name(destination)}: {error.strerror or error}; check the host name") from error


def _why_not(association: Association, destination: Destination, tls: ssl.SSLContext | None) -> SendError:
    answer = association.acceptor.primitive
    if association.is_rejected and isinstance(answer, A_ASSOCIATE):
        permanent = answer.result == PERMANENT
        reason = _REASONS.get((answer.result_source or 0, answer.diagnostic or 0), "reason unknown")
        return Rejected(
            f"{_name(destination)} rejects the association {'for good' if permanent else 'for now'}: {reason}",
            permanent=permanent,
        )
    if isinstance(answer, A_ASSOCIATE):
        return NothingAccepted(f"{_name(destination)} accepts none of the objects' SOP classes")
    return Unreachable(f"{_name(destination)}: {_connection_fault(destination, tls)}")


def _connection_fault(destination: Destination, tls: ssl.SSLContext | None) -> str:
    """What a second try, without pynetdicom, shows: its own errors only go to a log."""
    try:
        with socket.create_connection((destination.host, destination.port), destination.timeout or None) as raw:
            if tls is not None:
                with tls.wrap_socket(raw, server_hostname=destination.host) as secured:
                    # A refused client certificate shows with the first read after the handshake (RFC 8446 4.4.2.4)
                    secured.settimeout(1.0)
                    secured.recv(1)
    except ssl.SSLError as error:
        return f"TLS fails: {error.reason or error}; check the certificates on both sides"
    except TimeoutError:
        pass
    except OSError as error:
        return f"no connection: {error.strerror or error}; check host, port and firewall"
    return f"no answer to the association request within {destination.timeout:g} s, or it was aborted; look at its log"


def _name(destination: Destination) -> str:
    return f"{destination.name} ({destination.ae_title} at {destination.host}:{destination.port})"
