"""Asking a destination whether it keeps what we sent (PS3.4 J, we as SCU).

For the delivery:

    uid = request_commitment(database, destination, references, "SCANWARDEN", wait=5)
    with database.reading() as session:
        row = commitment(session, uid)      # storage.commitments
    row.state                               # CommitmentState: WAITING, COMMITTED, FAILED
    row.failures                            # failure reason by SOP Instance UID, where it failed

WAITING means that the destination accepted the request and reports later, on an association that it opens to our DICOM
port; the receive role then writes the same row (its AE title and address have to stand in `dicom.sources`, and the
destination has to know ours). How long to wait for that, and when to ask again (a new transaction), the caller decides.
"""

import threading
from collections.abc import Callable, Sequence
from typing import cast

import structlog
from pydicom import Dataset
from pynetdicom import evt
from pynetdicom.dimse_primitives import N_EVENT_REPORT

from config.settings import Destination
from gateway.dicom.commitment import (
    PUSH_MODEL_INSTANCE,
    REQUEST_COMMITMENT,
    Request,
    RequestRefused,
    Status,
    commitment_context,
    read_report,
)
from gateway.dicom.contexts import COMMITMENT as PUSH_MODEL
from gateway.dicom.scu import ConnectionBroken, Refused, associated
from storage import Database, NotFound, StorageError, peer_actor
from storage.commitments import Reference, ask, record_refusal, record_report

log = structlog.get_logger(__name__)

SAME_ASSOCIATION_SECONDS = 5.0


def request_commitment(
    database: Database,
    destination: Destination,
    references: Sequence[Reference],
    calling_ae_title: str,
    *,
    wait: float = SAME_ASSOCIATION_SECONDS,
) -> str:
    """Ask a destination to commit itself to `references`, and wait up to `wait` seconds on the same association.

    Returns the Transaction UID of a request that the destination accepted. Raises a SendError when it cannot be asked
    (Unreachable, Rejected, ConnectionBroken) or refuses to be (Refused; all its instances are then FAILED), and
    DatabaseUnavailable.
    """
    with database.transaction() as session:
        uid = ask(session, destination.name, references)
    reported = threading.Event()

    def report(event: evt.Event) -> tuple[int, Dataset | None]:
        """What the destination tells on this association."""
        status = Status.SUCCESS
        try:
            found = read_report(
                cast(N_EVENT_REPORT, event.request).EventInformation, str(event.context.transfer_syntax)
            )
            with database.transaction() as session:
                record_report(
                    session,
                    found.transaction_uid,
                    [each.sop_instance_uid for each in found.committed],
                    {each.sop_instance_uid: reason for each, reason in found.failed.items()},
                    reporter=peer_actor(destination.ae_title, destination.host),
                )
        except (RequestRefused, NotFound) as fault:
            log.warning("a report about storage commitment is refused", destination=destination.name, reason=str(fault))
            status = fault.status if isinstance(fault, RequestRefused) else Status.INVALID_ARGUMENT
        except StorageError as fault:  # it has to be told again
            log.warning("a report about storage commitment is not kept", reason=str(fault))
            status = Status.PROCESSING_FAILURE
        else:
            if found.transaction_uid == uid:
                reported.set()
        return int(status), None

    context = commitment_context()
    with associated(
        destination, calling_ae_title, [context], handlers=[(evt.EVT_N_EVENT_REPORT, report)]
    ) as association:
        try:
            answer, _ = association.send_n_action(
                Request(uid, tuple(references)).data_set(),
                REQUEST_COMMITMENT,
                PUSH_MODEL,
                PUSH_MODEL_INSTANCE,
            )
        except RuntimeError as error:  # the association is gone
            raise ConnectionBroken(f"{destination.name} ended the association") from error
        if "Status" not in answer:
            raise ConnectionBroken(
                f"{destination.name} gives no answer to a request for storage commitment; look at its log"
            )
        code = int(answer.Status)
        if code != Status.SUCCESS:
            with database.transaction() as session:
                record_refusal(session, uid, code)
            raise Refused(f"{destination.name} refuses a request for storage commitment: status 0x{code:04X}", code)
        if wait > 0:
            _wait(reported, wait, lambda: bool(association.is_established))
    return uid


def _wait(reported: threading.Event, seconds: float, alive: Callable[[], bool]) -> None:
    """Until the report is kept, the time is over, or the association has ended."""
    left = seconds
    while left > 0 and alive() and not reported.wait(min(0.2, left)):
        left -= 0.2
