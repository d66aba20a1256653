"""What is negotiated in fact is what the conformance statement says: by a running receiver, and by what we propose."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from pydicom import Dataset
from pydicom._uid_dict import UID_dictionary
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE, SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext

from config.settings import Destination
from gateway.conformance import associations
from gateway.dicom import contexts
from gateway.dicom.commitment_scu import request_commitment
from gateway.dicom.conduit import Conduit
from gateway.dicom.move import MoveTarget, move_study
from gateway.dicom.part10 import IMPLEMENTATION_CLASS_UID
from gateway.dicom.query import DimseQuestions
from gateway.dicom.retrieve import find_instances, get_study
from gateway.dicom.scu import SendError, SendingEntity, echo
from storage.commitments import Reference
from tests.gateway.dicom.conftest import MR_IMAGE, Gateway, free_port

COMMITTED = (Path(__file__).resolve().parents[3] / "docs" / "conformance.md").read_text(encoding="utf-8")
ACCEPTANCE = COMMITTED.partition("##### 7.2.1.4")[2].partition("#### 7.2.2")[0]
Pair = tuple[str, str]


def uids_of(rows: str) -> list[str]:
    """The UIDs at the ends of the rows of a table."""
    return re.findall(r"\| `([0-9.]+)` \|$", rows, re.MULTILINE)


def test_the_tables_list_every_class_and_syntax_once() -> None:
    classes, _, syntaxes = ACCEPTANCE.partition("| Group |")
    assert sorted(uids_of(classes)) == sorted(contexts.STORAGE_CLASSES)
    assert sorted(uids_of(syntaxes)) == sorted(contexts.TRANSFER_SYNTAXES)


def negotiate(gateway: Gateway, proposed: Sequence[PresentationContext], **options: Any) -> Association:
    ae = SendingEntity(ae_title="PEER")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 30
    association = ae.associate("127.0.0.1", gateway.port, list(proposed), ae_title="SCANWARDEN", **options)
    if association.is_established:
        association.release()
    return association


def accepted(gateway: Gateway, pairs: Sequence[Pair]) -> Iterator[Pair]:
    """Of SOP classes and transfer syntaxes, proposed one by one, those that the receiver accepts."""
    for start in range(0, len(pairs), 128):
        batch = [build_context(sop_class, syntax) for sop_class, syntax in pairs[start : start + 128]]
        for context in negotiate(gateway, batch).accepted_contexts:
            yield str(context.abstract_syntax), str(context.transfer_syntax[0])


def test_a_receiver_accepts_every_storage_context_of_the_tables(gateway: Gateway) -> None:
    """Each class in each syntax, in a context of its own."""
    classes, _, syntaxes = ACCEPTANCE.partition("| Group |")
    said = [(sop_class, syntax) for sop_class in uids_of(classes) for syntax in uids_of(syntaxes)]
    assert set(accepted(gateway, said)) == set(said)


def test_a_receiver_accepts_nothing_beside_the_tables(gateway: Gateway) -> None:
    """Every other UID that pydicom has, as an abstract syntax and as a transfer syntax."""
    storage = associations.storage()
    other_classes = set(UID_dictionary) - set(storage) - {each.abstract_syntax for each in associations.accepted()}
    other_syntaxes = set(UID_dictionary) - contexts.TRANSFER_SYNTAXES
    strange = [(uid, contexts.ECHO_SYNTAXES[0]) for uid in sorted(other_classes)]
    strange += [(MR_IMAGE, uid) for uid in sorted(other_syntaxes)]
    assert set(accepted(gateway, strange)) == set()


def test_a_receiver_accepts_the_other_contexts_of_the_tables(gateway: Gateway) -> None:
    said = {(each.abstract_syntax, syntax) for each in associations.accepted() for syntax in each.syntaxes}
    every = [
        (each.abstract_syntax, str(syntax)) for each in associations.accepted() for syntax in contexts.TRANSFER_SYNTAXES
    ]
    assert set(accepted(gateway, every)) == said


def test_a_receiver_accepts_the_roles_that_the_statement_says(gateway: Gateway) -> None:
    """Both of storage commitment; of storage the requestor can only be SCU."""
    uids = (contexts.COMMITMENT, MR_IMAGE)
    proposed = [build_context(uid, contexts.ECHO_SYNTAXES[0]) for uid in uids]
    roles = [build_role(uid, scu_role=True, scp_role=True) for uid in uids]
    association = negotiate(gateway, proposed, ext_neg=roles)
    found = {str(each.abstract_syntax): (each.as_scu, each.as_scp) for each in association.accepted_contexts}
    assert found == {contexts.COMMITMENT: (True, True), MR_IMAGE: (True, False)}


def test_a_receiver_names_its_implementation_and_limits(gateway: Gateway) -> None:
    answer = negotiate(gateway, [contexts.verification_context()]).acceptor
    assert f"`{answer.implementation_class_uid}`" in COMMITTED
    assert f"`{answer.implementation_version_name}`" in COMMITTED
    assert f"| `dicom.max_pdu` | `{answer.maximum_length}` |" in COMMITTED
    assert answer.asynchronous_operations == (1, 1)


@dataclass
class Peer:
    """An archive that takes down what is proposed to it, lists one image, and gives none."""

    destination: Destination
    requests: list[A_ASSOCIATE] = field(default_factory=list)

    def proposed(self) -> set[tuple[str, tuple[str, ...], str]]:
        """Abstract syntax, transfer syntaxes and role of every context that was proposed."""
        found = set()
        for request in self.requests:
            roles = {
                str(item.sop_class_uid): "SCP" if item.scp_role else "SCU"
                for item in request.user_information
                if isinstance(item, SCP_SCU_RoleSelectionNegotiation)
            }
            for context in request.presentation_context_definition_list:
                uid = str(context.abstract_syntax)
                syntaxes = tuple(str(syntax) for syntax in context.transfer_syntax)
                found.add((uid, syntaxes, roles.get(uid, "SCU")))
        return found


@pytest.fixture
def peer() -> Iterator[Peer]:
    noted = Peer(Destination(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=free_port(), timeout=10))
    ae = AE(ae_title="ARCHIVE")
    for each in associations.proposed():
        ae.add_supported_context(each.abstract_syntax, list(each.syntaxes))

    def note(event: evt.Event) -> None:
        noted.requests.append(cast(A_ASSOCIATE, event.assoc.requestor.primitive))

    def listed(event: evt.Event) -> Iterator[tuple[int, Dataset]]:
        answer = Dataset()
        answer.SeriesInstanceUID, answer.SOPInstanceUID, answer.SOPClassUID = "2.25.2", "2.25.3", MR_IMAGE
        yield 0xFF00, answer

    def none(event: evt.Event) -> Iterator[tuple[int, None] | int]:
        yield 0

    server = ae.start_server(
        ("127.0.0.1", noted.destination.port),
        block=False,
        evt_handlers=[(evt.EVT_REQUESTED, note), (evt.EVT_C_FIND, listed), (evt.EVT_C_GET, none)],
    )
    assert server is not None
    yield noted
    server.shutdown()


def test_we_propose_what_the_statement_says(peer: Peer, gateway: Gateway, tmp_path: Path) -> None:
    """Beside storage. What tells the result of a commitment is in test_commitment."""
    archive, study = peer.destination, "2.25.1"
    target = MoveTarget("FETCH", "127.0.0.1", free_port())
    attempts: list[Callable[[], object]] = [
        lambda: echo(archive, "US"),
        lambda: DimseQuestions(archive, "US").studies({"StudyInstanceUID": study}),
        lambda: find_instances(archive, "US", study),
        lambda: get_study(archive, "US", study, tmp_path),
        lambda: move_study(archive, "US", study, tmp_path, target),
        lambda: request_commitment(gateway.database, archive, [Reference(MR_IMAGE, "2.25.3")], "US", wait=0),
    ]
    for attempt in attempts:
        with suppress(SendError):
            attempt()
    said = {(e.abstract_syntax, e.syntaxes, e.role) for e in associations.proposed() if e.role == "SCU"}
    storage = {each for each in peer.proposed() if each[0] == MR_IMAGE}
    assert peer.proposed() - storage == said
    # C-GET's own: one syntax a context, as SCP, all of them, because there is one class
    assert storage == {(MR_IMAGE, (syntax,), "SCP") for syntax in contexts.TRANSFER_SYNTAXES}
    for request in peer.requests:
        assert request.maximum_length_received == 16382
        assert request.implementation_class_uid == IMPLEMENTATION_CLASS_UID


def test_what_is_passed_on_is_proposed_as_it_was_received(peer: Peer) -> None:
    pairs = [(MR_IMAGE, syntax) for syntax in sorted(contexts.TRANSFER_SYNTAXES)]
    Conduit(peer.destination, "US", pairs).close()
    assert peer.proposed() == {(sop_class, (syntax,), "SCU") for sop_class, syntax in pairs}
    (request,) = peer.requests
    assert f"{request.maximum_length_received} bytes announced where instances are passed on" in COMMITTED
