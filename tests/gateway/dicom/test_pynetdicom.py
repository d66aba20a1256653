"""What we override in pynetdicom, held still: an upgrade that moves it fails here and not in a hospital."""

import inspect
from io import BytesIO

import pytest
from pynetdicom import build_context
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import InvalidEventError, StateMachine
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.transport import AssociationServer, AssociationSocket, RequestHandler

from gateway.dicom.contexts import RETIRED_STORAGE, STORAGE_CLASSES, TRANSFER_SYNTAXES, VERIFICATION, answer
from gateway.dicom.dimse import IncomingDataSet
from gateway.dicom.messages import GatewayAssociation
from gateway.dicom.reactor import DATA_REQUEST, GatewayStateMachine
from tests.gateway.dicom.conftest import MR_IMAGE, Gateway, Modality, mr_image

OVERRIDDEN = [
    (Association._serve_request, ["self", "msg", "context_id"]),
    (Association.run_reactor, ["self"]),
    (DIMSEServiceProvider.receive_primitive, ["self", "primitive"]),
    (StateMachine.do_action, ["self", "event"]),
    (AssociationSocket.recv, ["self", "nr_bytes"]),
    (AssociationSocket._shutdown_socket, ["self"]),
    (AssociationServer.get_request, ["self"]),
    (AssociationServer.shutdown, ["self"]),
    (RequestHandler.handle, ["self"]),
    (ApplicationEntity._create_socket, ["self", "assoc", "address", "tls_args"]),
]


@pytest.mark.parametrize(("function", "parameters"), OVERRIDDEN, ids=[f.__qualname__ for f, _ in OVERRIDDEN])
def test_what_we_override_has_the_signature_that_we_know(function: object, parameters: list[str]) -> None:
    assert callable(function)
    assert list(inspect.signature(function).parameters) == parameters


def test_a_message_takes_our_sink_for_its_data_set() -> None:
    """`decode_msg` writes each fragment to `data_set` and turns the message into its class before the first."""
    seen: list[type] = []
    message = DIMSEMessage()
    message.data_set = IncomingDataSet(lambda: seen.append(type(message)))
    source = inspect.getsource(DIMSEMessage.decode_msg)
    assert "self.data_set).write(data[1:])" in source
    assert source.index("self.__class__ = ") < source.index("self.data_set).write(")
    assert isinstance(message.data_set, BytesIO)
    assert issubclass(C_STORE_RQ, DIMSEMessage)


def test_invalid_messages_are_answered_by_the_state_machines_event_19() -> None:
    assert 'event_queue.put("Evt19")' in inspect.getsource(DIMSEServiceProvider.receive_primitive)
    assert "Evt19" in inspect.getsource(DULServiceProvider._read_pdu_data)


def test_an_association_of_ours_is_in_use(gateway: Gateway, modality: Modality) -> None:
    assert modality.store(mr_image())[0] == 0
    (association,) = gateway.receiver._snapshot()
    assert isinstance(association, GatewayAssociation)
    assert association.dimse.assoc is association


def test_every_storage_class_and_transfer_syntax_is_offered() -> None:
    assert len(STORAGE_CLASSES) >= 170 + len(RETIRED_STORAGE)
    assert len(TRANSFER_SYNTAXES) >= 45
    proposed = [build_context(uid, sorted(TRANSFER_SYNTAXES)) for uid in sorted(STORAGE_CLASSES)]
    offered = {str(c.abstract_syntax): {str(s) for s in c.transfer_syntax} for c in answer(proposed)}
    assert offered == {uid: set(TRANSFER_SYNTAXES) for uid in STORAGE_CLASSES}


def test_the_senders_order_of_syntaxes_decides() -> None:
    order = ["1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.1", "1.2.3.4", "1.2.840.10008.1.2"]
    (context,) = answer([build_context(MR_IMAGE, order)])
    assert [str(s) for s in context.transfer_syntax] == [order[0], order[1], order[3]]


def test_what_is_not_storage_is_not_offered() -> None:
    (context,) = answer([build_context("1.2.840.10008.5.1.4.1.2.2.1", ["1.2.840.10008.1.2"])])
    assert context.abstract_syntax == VERIFICATION


@pytest.mark.parametrize("sop_class", sorted(RETIRED_STORAGE.values())[:2])
def test_a_retired_class_is_stored(gateway: Gateway, sop_class: str) -> None:
    sender = Modality(gateway, sop_class)
    assert sender.store(mr_image(SOPClassUID=sop_class)) == (0, "")
    sender.close()


def test_an_answer_to_an_aborted_association_is_dropped_and_ends_no_thread(
    gateway: Gateway, modality: Modality
) -> None:
    assert modality.store(mr_image())[0] == 0
    (association,) = gateway.receiver._snapshot()
    assert isinstance(association.dul.state_machine, GatewayStateMachine)
    upper_layer = DULServiceProvider(modality.association)  # of its own: no thread reads its queue
    for machine in (StateMachine(upper_layer), GatewayStateMachine(upper_layer)):
        machine.current_state = "Sta13"
        upper_layer.to_provider_queue.put(P_DATA())
        if type(machine) is StateMachine:
            with pytest.raises(InvalidEventError):
                machine.do_action(DATA_REQUEST)
            upper_layer.to_provider_queue.get()
        else:
            machine.do_action(DATA_REQUEST)
            machine.do_action(DATA_REQUEST)  # pynetdicom may ask twice for one primitive
            assert upper_layer.to_provider_queue.empty()
            assert machine.current_state == "Sta13"
