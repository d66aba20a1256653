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
from pynetdicom.fsm import ACTIONS, DT_2, TRANSITION_TABLE, InvalidEventError, StateMachine
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.transport import AssociationServer, AssociationSocket, RequestHandler

from gateway.dicom.contexts import RETIRED_STORAGE, STORAGE_CLASSES, TRANSFER_SYNTAXES, VERIFICATION, answer
from gateway.dicom.dimse import IncomingDataSet
from gateway.dicom.messages import GatewayAssociation
from gateway.dicom.reactor import (
    ARTIM_EXPIRED,
    CLOSING,
    CONNECTION_CLOSED,
    DATA_REQUEST,
    ESTABLISHED,
    INVALID_PDU,
    USER_EVENTS,
    GatewayStateMachine,
)
from tests.gateway.dicom.conftest import MR_IMAGE, Gateway, Modality, mr_image

OVERRIDDEN = [
    (Association._serve_request, ["self", "msg", "context_id"]),
    (Association.run_reactor, ["self"]),
    (Association._run_reactor, ["self"]),
    (Association.kill, ["self"]),
    (DULServiceProvider.start, ["self"]),
    (DULServiceProvider.is_alive, ["self"]),
    (DULServiceProvider.run_reactor, ["self"]),
    (DULServiceProvider.send_pdu, ["self", "primitive"]),
    (DULServiceProvider.receive_pdu, ["self", "wait", "timeout"]),
    (DULServiceProvider.stop_dul, ["self"]),
    (DULServiceProvider._process_recv_primitive, ["self"]),
    (DULServiceProvider._read_pdu_data, ["self"]),
    (DIMSEServiceProvider.send_msg, ["self", "primitive", "context_id"]),
    (AssociationSocket.send, ["self", "bytestream"]),
    (AssociationSocket.close, ["self"]),
    (AssociationServer.server_bind, ["self"]),
    (AssociationServer.server_close, ["self"]),
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


def test_taking_data_in_leaves_the_state_machine_where_it_is() -> None:
    """What the reactor passes over: DT-2 hands the primitive to DIMSE, and nothing else happens (PS3.8 table 9-10)."""
    assert TRANSITION_TABLE["Evt10", "Sta6"] == "DT-2"
    assert ACTIONS["DT-2"][1] is DT_2
    lines = [line.strip() for line in inspect.getsource(DT_2).split('"""')[2].splitlines()]
    assert [line for line in lines if line and not line.startswith("#")] == [
        "pdu = dul._recv_pdu.get(False)",
        'dul.assoc.dimse.receive_primitive(cast("P_DATA", pdu.to_primitive()))',
        'return "Sta6"',
    ]


def test_every_event_that_the_reactor_raises_is_known_where_it_is_raised() -> None:
    for event in (CONNECTION_CLOSED, INVALID_PDU):
        assert (event, ESTABLISHED) in TRANSITION_TABLE
    for state in ("Sta2", CLOSING):
        assert (ARTIM_EXPIRED, state) in TRANSITION_TABLE
        assert (CONNECTION_CLOSED, state) in TRANSITION_TABLE


def test_an_event_of_the_user_stands_for_a_primitive_in_the_queue() -> None:
    source = inspect.getsource(DULServiceProvider._process_recv_primitive)
    assert "self.to_provider_queue.queue[0]" in source  # looked at; the action takes it
    assert all(f'event = "{event}"' in source for event in USER_EVENTS)


def test_only_the_run_loop_that_we_replace_drives_the_upper_layer() -> None:
    """An upgrade that gives it more to do has to be looked at."""
    driven = {"_is_transport_event", "_process_recv_primitive", "do_action", "expired", "restart", "_run_loop_delay"}
    called = set(DULServiceProvider.run_reactor.__code__.co_names)
    assert driven <= called
    assert called - driven <= {
        "_idle_timer", "start", "cast", "socket", "assoc", "_dul_ready", "is_set", "set", "time", "sleep",
        "_kill_thread", "artim_timer", "event_queue", "put", "Exception", "LOGGER", "error", "exception",
        "A_ABORT_RQ", "source", "reason_diagnostic", "send", "encode", "is_aborted", "is_established", "_kill",
        "get", "queue", "Empty", "state_machine",
    }  # fmt: skip
    assert set(Association._run_reactor.__code__.co_names) <= {
        "_is_paused", "_kill", "time", "sleep", "_reactor_checkpoint", "wait", "dimse", "get_msg", "_serve_request",
        "cast", "int", "is_established", "acse", "is_release_requested", "send_release", "LOGGER", "info",
        "is_released", "evt", "trigger", "EVT_RELEASED", "kill", "is_aborted", "dul", "receive_pdu", "EVT_ABORTED",
        "is_alive", "idle_timer_expired", "error", "network_timeout_response", "release", "abort",
    }  # fmt: skip


def test_the_association_starts_its_upper_layer_and_waits_for_it_as_we_know() -> None:
    source = inspect.getsource(Association.run_reactor)
    assert "self.dul.start()" in source
    assert "self._dul_ready.wait()" in source
    assert "self.dul.receive_pdu(wait=True, timeout=self.acse_timeout)" in source


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
