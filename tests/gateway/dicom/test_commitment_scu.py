"""We ask a destination whether it keeps what we sent, and hear its answer wherever it gives it."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.association import Association

from config.settings import Destination
from gateway.dicom.commitment import PUSH_MODEL_INSTANCE, Status
from gateway.dicom.commitment_scu import request_commitment
from gateway.dicom.contexts import COMMITMENT
from gateway.dicom.scu import Refused
from storage import AuditEventType
from storage.commitments import Reference, commitment
from storage.tables import CommitmentState
from tests.gateway.dicom.conftest import MR_IMAGE, Gateway, free_port
from tests.gateway.dicom.test_commitment import request


class Pacs:
    """A destination that commits itself to everything but `lacks`, when and where it is told to."""

    def __init__(self, lacks: Sequence[str] = (), *, status: int = 0) -> None:
        self.port = free_port()
        self.lacks = lacks
        self.status = status
        self.asked: list[Dataset] = []
        self.same_association = True

    @property
    def destination(self) -> Destination:
        return Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=self.port, timeout=5)

    @contextmanager
    def running(self) -> Iterator["Pacs"]:
        ae: Any = AE(ae_title="PACS")
        ae.add_supported_context(COMMITMENT)
        server = ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_N_ACTION, self._action)])
        try:
            yield self
        finally:
            server.shutdown()

    def report(self, asked: Dataset) -> tuple[Dataset, int]:
        information = Dataset()
        information.TransactionUID = asked.TransactionUID
        good = [item for item in asked.ReferencedSOPSequence if item.ReferencedSOPInstanceUID not in self.lacks]
        bad = [item for item in asked.ReferencedSOPSequence if item.ReferencedSOPInstanceUID in self.lacks]
        for item in bad:
            item.FailureReason = 0x0112
        if good:
            information.ReferencedSOPSequence = good
        if bad:
            information.FailedSOPSequence = bad
        return information, 2 if bad else 1

    def call(self, gateway: Gateway, asked: Dataset, ae_title: str = "PACS") -> int:
        """Report on an association to our port; the status of our answer."""
        ae = AE(ae_title=ae_title)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 10
        association = ae.associate(
            "127.0.0.1",
            gateway.port,
            contexts=[build_context(COMMITMENT)],
            ae_title="SCANWARDEN",
            ext_neg=[build_role(COMMITMENT, scp_role=True)],
        )
        assert association.is_established
        assert association.accepted_contexts[0].as_scp
        information, event_type = self.report(asked)
        answer, _ = association.send_n_event_report(information, event_type, COMMITMENT, PUSH_MODEL_INSTANCE)
        association.release()
        return int(answer.Status)

    def _action(self, event: evt.Event) -> tuple[int, Dataset | None]:
        self.asked.append(event.action_information)
        if self.status == 0 and self.same_association:
            threading.Thread(target=self._tell, args=(event.assoc, event.action_information)).start()
        return self.status, None

    def _tell(self, association: Association, asked: Dataset) -> None:
        information, event_type = self.report(asked)
        association.send_n_event_report(information, event_type, COMMITMENT, PUSH_MODEL_INSTANCE)


REFERENCES = (Reference(MR_IMAGE, "1.2.3.1"), Reference(MR_IMAGE, "1.2.3.2"))


def test_a_destination_that_reports_at_once_is_believed(gateway: Gateway) -> None:
    with Pacs().running() as pacs:
        uid = request_commitment(gateway.database, pacs.destination, REFERENCES, "SCANWARDEN")
    with gateway.database.reading() as session:
        row = commitment(session, uid)
    assert (row.state, row.failures) == (CommitmentState.COMMITTED, {})
    assert len(gateway.events(AuditEventType.COMMITMENT_CONFIRMED)) == 1


def test_a_destination_that_lacks_one_fails_for_that_one(gateway: Gateway) -> None:
    with Pacs(["1.2.3.2"]).running() as pacs:
        uid = request_commitment(gateway.database, pacs.destination, REFERENCES, "SCANWARDEN")
    with gateway.database.reading() as session:
        row = commitment(session, uid)
    assert (row.state, row.failures) == (CommitmentState.FAILED, {"1.2.3.2": 0x0112})


def test_a_destination_that_calls_later_is_heard_at_our_port(gateway: Gateway) -> None:
    with Pacs().running() as pacs:
        pacs.same_association = False
        uid = request_commitment(gateway.database, pacs.destination, REFERENCES, "SCANWARDEN", wait=0)
    with gateway.database.reading() as session:
        assert commitment(session, uid).state is CommitmentState.WAITING
    assert pacs.call(gateway, pacs.asked[0]) == 0
    with gateway.database.reading() as session:
        row = commitment(session, uid)
    assert (row.state, row.reporter) == (CommitmentState.COMMITTED, "PACS@127.0.0.1")


def test_a_report_on_a_transaction_that_is_not_ours_is_refused_and_recorded(gateway: Gateway) -> None:
    assert Pacs().call(gateway, request(["1.2.3"], generate_uid())) == Status.INVALID_ARGUMENT
    assert len(gateway.events(AuditEventType.COMMITMENT_REFUSED)) == 1


def test_a_destination_that_refuses_the_request_has_failed(gateway: Gateway) -> None:
    with Pacs(status=0x0213).running() as pacs, pytest.raises(Refused, match="0x0213"):
        request_commitment(gateway.database, pacs.destination, REFERENCES, "SCANWARDEN")
    assert len(gateway.events(AuditEventType.COMMITMENT_DENIED)) == 1
