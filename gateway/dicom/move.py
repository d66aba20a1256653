"""Reading an archive that knows C-MOVE alone (PS3.4 C.4.2): to a port of our own that is open while it sends.

Not to the gateway's receivers: what comes back for a verification never becomes a study, and needs no rule to tell the
two apart. The port has its own AE title, which the archive has to know, and takes nothing but what this request caused.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from ssl import SSLContext

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context, evt
from pynetdicom.dimse_primitives import C_STORE

from config.settings import Destination
from gateway.dicom.contexts import STORAGE_CLASSES, TRANSFER_SYNTAXES
from gateway.dicom.quiet import quiet_pynetdicom
from gateway.dicom.retrieve import (
    Fetched,
    final_status,
    find_instances,
    in_our_words,
    keep_instance,
    retrieve_query,
)
from gateway.dicom.scu import Unreachable, associated

MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
NOT_OURS = 0x0124
_MESSAGE_ID = 1


@dataclass(frozen=True, slots=True)
class MoveTarget:
    """Where the archive sends to: an AE title that it knows, at an address of ours."""

    ae_title: str
    host: str
    port: int
    tls: SSLContext | None = None


def move_study(
    destination: Destination,
    calling_ae_title: str,
    study_uid: str,
    folder: Path,
    target: MoveTarget,
    *,
    pace: Callable[[], None] = lambda: None,
    series_uid: str | None = None,
    listed: Callable[[int], None] = lambda _: None,
) -> Fetched:
    """Fetch a study, or one of its series, into `folder`: C-FIND for what there is, then C-MOVE to `target`.

    `pace` and `listed` as for `retrieve.get_study`. Raises SendError.
    """
    fetched = Fetched(find_instances(destination, calling_ae_title, study_uid, series_uid))
    listed(len(fetched.listed))
    if not fetched.listed:
        return fetched
    caller = destination.calling_ae_title or calling_ae_title

    def keep(event: evt.Event) -> int:
        if not _caused_by(event, caller, fetched):
            return NOT_OURS
        pace()
        return keep_instance(event, folder, fetched)

    contexts = [build_context(MOVE, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])]
    with _listening(target, destination, keep), associated(destination, calling_ae_title, contexts) as association:
        query = retrieve_query(study_uid, series_uid)
        last = None
        with in_our_words(destination):
            for status, _ in association.send_c_move(query, target.ae_title, MOVE, msg_id=_MESSAGE_ID):
                last = status
    final_status(destination, "C-MOVE", last, fetched)
    return fetched


def _caused_by(event: evt.Event, caller: str, fetched: Fetched) -> bool:
    """Whether an object is a sub-operation of our request (PS3.7 9.1.1.1): nobody else's store comes in here."""
    request = event.request
    if not isinstance(request, C_STORE):
        return False
    originator = request.MoveOriginatorApplicationEntityTitle
    if originator is not None:
        return str(originator).strip() == caller and request.MoveOriginatorMessageID in (None, _MESSAGE_ID)
    return str(request.AffectedSOPInstanceUID) in fetched.listed


@contextmanager
def _listening(target: MoveTarget, destination: Destination, keep: Callable[[evt.Event], int]) -> Iterator[None]:
    quiet_pynetdicom()
    ae = AE(ae_title=target.ae_title)
    ae.require_called_aet = True
    ae.require_calling_aet = [destination.ae_title]
    ae.maximum_associations = 1
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = destination.timeout or None
    for uid in sorted(STORAGE_CLASSES):
        ae.add_supported_context(uid, sorted(TRANSFER_SYNTAXES))
    try:
        server = ae.start_server(
            (target.host, target.port), block=False, ssl_context=target.tls, evt_handlers=[(evt.EVT_C_STORE, keep)]
        )
    except OSError as fault:
        text = f"port {target.port} for C-MOVE cannot be opened: {fault.strerror or fault}"
        raise Unreachable(f"{text}; another program has it") from fault
    try:
        yield
    finally:
        if server is not None:
            server.shutdown()
