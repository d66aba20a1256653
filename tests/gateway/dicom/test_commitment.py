"""A peer deletes its copies on our word: what we answer, when, where to, and what we do not answer for."""

import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from pydicom import Dataset
from pydicom.uid import UID, generate_uid
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from sqlalchemy import update

from gateway.app import App
from gateway.dicom.commitment import PUSH_MODEL_INSTANCE, Reason, Status
from gateway.dicom.contexts import COMMITMENT
from gateway.pipeline.committing import Committer
from storage import AuditEventType, Ledger
from storage.tables import CommitmentRequest, Instance, InstanceState, RequestState
from tests.gateway.dicom.conftest import MR_IMAGE, Gateway, Modality, Start, eventually, free_port, mr_image

Results = dict[str, int | None]  # failure reason by SOP instance; None: committed


@dataclass
class Peer:
    """A modality that asks, and that can be called back."""

    reports: dict[str, Results] = field(default_factory=dict)
    events: list[int] = field(default_factory=list)
    answer: int = 0x0000
    here: threading.Event = field(default_factory=threading.Event)

    def handle(self, event: evt.Event) -> tuple[int, Dataset | None]:
        if self.answer != 0:
            return self.answer, None
        told = event.event_information
        results: Results = {str(item.ReferencedSOPInstanceUID): None for item in told.get("ReferencedSOPSequence", [])}
        for item in told.get("FailedSOPSequence", []):
            results[str(item.ReferencedSOPInstanceUID)] = int(item.FailureReason)
        self.reports[str(told.TransactionUID)] = results
        self.events.append(int(cast(N_EVENT_REPORT, event.request).EventTypeID or 0))
        self.here.set()
        return 0x0000, None

    @contextmanager
    def listening(self, port: int) -> Iterator[None]:
        ae: Any = AE(ae_title="MODALITY")
        ae.add_supported_context(COMMITMENT, scu_role=True, scp_role=True)
        server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, self.handle)])
        try:
            yield
        finally:
            server.shutdown()

    @contextmanager
    def associated(self, gateway: Gateway) -> Iterator[Association]:
        ae = AE(ae_title="MODALITY")
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 10
        association = ae.associate(
            "127.0.0.1",
            gateway.port,
            contexts=[build_context(COMMITMENT)],
            ae_title="SCANWARDEN",
            evt_handlers=[(evt.EVT_N_EVENT_REPORT, self.handle)],
        )
        assert association.is_established
        try:
            yield association
        finally:
            if association.is_established:
                association.release()


def request(uids: Sequence[str], transaction: str, sop_class: str = MR_IMAGE) -> Dataset:
    information = Dataset()
    information.TransactionUID = transaction
    information.ReferencedSOPSequence = []
    for uid in uids:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
        information.ReferencedSOPSequence.append(item)
    return information


def ask(association: Association, information: Dataset | None, **other: Any) -> int:
    """The status of an N-ACTION."""
    values = {"action_type": 1, "class_uid": COMMITMENT, "instance_uid": PUSH_MODEL_INSTANCE, **other}
    answer, _ = association.send_n_action(information, **values)
    return int(answer.Status)


@contextmanager
def answering(gateway: Gateway) -> Iterator[Committer]:
    """The deliver role's part, while the block runs."""
    app = App(gateway.settings, gateway.database, gateway.store, Ledger(gateway.database))
    committer = Committer(app, "deliver-0@here")
    stop = threading.Event()
    thread = threading.Thread(target=committer.run, args=(stop,))
    thread.start()
    try:
        yield committer
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def peer() -> Peer:
    return Peer()


@pytest.fixture
def held(gateway: Gateway) -> list[str]:
    """Instances that MODALITY has sent."""
    modality = Modality(gateway)
    images = [mr_image() for _ in range(3)]
    for image in images:
        assert modality.store(image)[0] == 0
    modality.close()
    return [str(image.SOPInstanceUID) for image in images]


def requests(gateway: Gateway) -> list[CommitmentRequest]:
    with gateway.database.reading() as session:
        return list(session.query(CommitmentRequest).order_by(CommitmentRequest.id))


def told(gateway: Gateway, peer: Peer, uids: Sequence[str], sop_class: str = MR_IMAGE) -> Results:
    """Ask, and hear the result on the same association."""
    transaction = generate_uid()
    peer.here.clear()
    with peer.associated(gateway) as association, answering(gateway):
        assert ask(association, request(uids, transaction, sop_class)) == 0
        assert peer.here.wait(10)
        assert eventually(lambda: requests(gateway)[-1].state is RequestState.REPORTED)
    return peer.reports[transaction]


def test_what_is_stored_is_committed_to_on_the_same_association(gateway: Gateway, peer: Peer, held: list[str]) -> None:
    assert told(gateway, peer, held) == dict.fromkeys(held)
    assert peer.events == [1]
    assert len(gateway.events(AuditEventType.COMMITMENT_REPORTED)) == 1


def test_what_was_never_received_is_failed_beside_what_was(gateway: Gateway, peer: Peer, held: list[str]) -> None:
    stranger = generate_uid()
    assert told(gateway, peer, [*held, stranger]) == dict.fromkeys(held) | {stranger: Reason.NO_SUCH_INSTANCE}
    assert peer.events == [2]


def test_an_instance_of_another_class_is_failed(gateway: Gateway, peer: Peer, held: list[str]) -> None:
    ct = "1.2.840.10008.5.1.4.1.1.2"
    assert told(gateway, peer, held[:1], ct) == {held[0]: Reason.CLASS_INSTANCE_CONFLICT}


@pytest.mark.parametrize("damage", ["altered", "shortened", "gone"])
def test_a_file_that_is_no_longer_what_was_acknowledged_is_failed_and_an_incident(
    gateway: Gateway, peer: Peer, held: list[str], damage: str
) -> None:
    path = gateway.store.locate(gateway.instances()[0].path)
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-1] + (b"\xff" if damage == "altered" else b""))
    assert told(gateway, peer, held) == {held[0]: Reason.PROCESSING_FAILURE, held[1]: None, held[2]: None}
    (event,) = gateway.events(AuditEventType.INSTANCE_DAMAGED)
    assert (event.subject, event.outcome) == (held[0], 8)


def test_an_instance_whose_file_is_past_its_age_is_failed(gateway: Gateway, peer: Peer, held: list[str]) -> None:
    with gateway.database.transaction() as session:
        session.execute(update(Instance).values(state=InstanceState.EXPIRED))
    assert set(told(gateway, peer, held).values()) == {Reason.NO_SUCH_INSTANCE}


def _second_copy(gateway: Gateway, uid: str, state: InstanceState, source: str) -> None:
    first = next(each for each in gateway.instances() if each.sop_instance_uid == uid)
    copy = first.path.replace(".dcm", "-second.dcm")
    shutil.copy(gateway.store.locate(first.path), gateway.store.locate(copy))
    facts = {
        name: getattr(first, name)
        for name in ("sop_instance_uid", "sop_class_uid", "study_uid", "series_uid", "transfer_syntax", "kind", "size")
    }
    with gateway.database.transaction() as session:
        session.add(
            Instance(
                **facts,
                state=state,
                path=copy,
                file_sha256=first.file_sha256[::-1] if state is not InstanceState.DUPLICATE else "0" * 64,
                source_ae=source,
                source_address="127.0.0.1",
                received_at=first.received_at,
                repeats=0,
            )
        )


@pytest.mark.parametrize("state", [InstanceState.CONTESTED, InstanceState.QUARANTINED])
@pytest.mark.parametrize("source", ["MODALITY", "STRANGER"])
def test_of_copies_that_contradict_each_other_only_the_sender_of_the_stored_one_gets_our_word(
    gateway: Gateway, peer: Peer, held: list[str], state: InstanceState, source: str
) -> None:
    _second_copy(gateway, held[0], state, source)
    expected = None if source == "STRANGER" else Reason.PROCESSING_FAILURE
    assert told(gateway, peer, held[:1]) == {held[0]: expected}


def test_a_peer_that_sent_no_copy_gets_no_word_about_contradicting_ones(
    gateway: Gateway, peer: Peer, held: list[str]
) -> None:
    with gateway.database.transaction() as session:
        session.execute(update(Instance).values(source_ae="OTHER"))
    assert told(gateway, peer, held[:1]) == {held[0]: None}
    _second_copy(gateway, held[0], InstanceState.QUARANTINED, "STRANGER")
    assert told(gateway, peer, held[:1]) == {held[0]: Reason.PROCESSING_FAILURE}


def test_a_peers_own_duplicate_is_read_too(gateway: Gateway, peer: Peer, held: list[str]) -> None:
    _second_copy(gateway, held[0], InstanceState.DUPLICATE, "MODALITY")  # its digest is not that of its file
    assert told(gateway, peer, held[:1]) == {held[0]: Reason.PROCESSING_FAILURE}


def _with_callback(start: Start, port: int, **commitment: Any) -> Gateway:
    source = {"ae_title": "MODALITY", "host": "127.0.0.1", "port": port}
    gateway = start(sources=[source])
    limits = {"backoff": 0.05, "timeout": 5, **commitment}
    _set_limits(gateway, limits)
    return gateway


def _set_limits(gateway: Gateway, values: dict[str, Any]) -> None:
    """Of the receiver and of the deliver role that is started after this."""
    limits = gateway.settings.commitment.model_copy(update=values)
    gateway.settings = gateway.settings.model_copy(update={"commitment": limits})
    gateway.receiver._commitment._limits = limits


def _asked_and_gone(gateway: Gateway, peer: Peer) -> str:
    """Ask, and end the association at once."""
    transaction = generate_uid()
    with peer.associated(gateway) as association:
        assert ask(association, request([generate_uid()], transaction)) == 0
    return transaction


def test_a_peer_that_has_hung_up_is_called_back(start: Start, peer: Peer) -> None:
    port = free_port()
    gateway = _with_callback(start, port)
    transaction = _asked_and_gone(gateway, peer)
    with peer.listening(port), answering(gateway):
        assert peer.here.wait(10)
        assert eventually(lambda: requests(gateway)[0].state is RequestState.REPORTED)
    assert list(peer.reports) == [transaction]


def test_a_peer_that_is_away_is_called_until_it_is_back(start: Start, peer: Peer) -> None:
    port = free_port()
    gateway = _with_callback(start, port, attempts=1000)
    _asked_and_gone(gateway, peer)
    with answering(gateway):
        assert eventually(lambda: requests(gateway)[0].attempts >= 2)
        with peer.listening(port):
            assert eventually(lambda: requests(gateway)[0].state is RequestState.REPORTED)


def test_a_report_that_nobody_takes_becomes_a_dead_letter(start: Start, peer: Peer) -> None:
    port = free_port()
    gateway = _with_callback(start, port, attempts=3)
    peer.answer = 0x0110
    _asked_and_gone(gateway, peer)
    with peer.listening(port), answering(gateway):
        assert eventually(lambda: requests(gateway)[0].state is RequestState.DEAD)
    assert requests(gateway)[0].attempts == 3
    assert len(gateway.events(AuditEventType.COMMITMENT_DEAD)) == 1


def test_a_peer_that_nobody_can_call_is_a_dead_letter_and_may_ask_again(gateway: Gateway, peer: Peer) -> None:
    _asked_and_gone(gateway, peer)
    with answering(gateway):
        assert eventually(lambda: requests(gateway)[0].state is RequestState.DEAD)
    assert "dicom.sources" in str(requests(gateway)[0].failure)


def test_a_request_that_comes_again_is_one_request_and_another_one_under_its_uid_fails(
    gateway: Gateway, peer: Peer, held: list[str]
) -> None:
    transaction = generate_uid()
    with peer.associated(gateway) as association:
        assert ask(association, request(held, transaction)) == 0
        assert ask(association, request(held, transaction)) == 0
        assert len(requests(gateway)) == 1
        with answering(gateway):
            assert peer.here.wait(10)
            peer.here.clear()
            assert eventually(lambda: requests(gateway)[0].state is RequestState.REPORTED)
            assert ask(association, request(held[:1], transaction)) == 0
            assert peer.here.wait(10)
            assert peer.reports[transaction] == {held[0]: Reason.DUPLICATE_TRANSACTION}
            peer.here.clear()
            assert ask(association, request(held, transaction)) == 0  # the first once more: looked at again
            assert peer.here.wait(10)
            assert peer.reports[transaction] == dict.fromkeys(held)


def _without(keyword: str) -> Dataset:
    information = request([generate_uid()], generate_uid())
    delattr(information, keyword)
    return information


@pytest.mark.parametrize(
    ("information", "other", "status"),
    [
        (None, {}, Status.INVALID_ARGUMENT),
        (_without("TransactionUID"), {}, Status.INVALID_ARGUMENT),
        (_without("ReferencedSOPSequence"), {}, Status.INVALID_ARGUMENT),
        (request([], generate_uid()), {}, Status.INVALID_ARGUMENT),
        (request(["1.2.3"], generate_uid(), sop_class=""), {}, Status.INVALID_ARGUMENT),
        (request([generate_uid() for _ in range(5)], generate_uid()), {}, Status.RESOURCE_LIMITATION),
        (request(["1.2.3"], generate_uid()), {"action_type": 2}, Status.NO_SUCH_ACTION),
        (request(["1.2.3"], generate_uid()), {"instance_uid": UID("1.2.3")}, Status.NO_SUCH_INSTANCE),
    ],
)
def test_a_request_that_cannot_be_served_gets_a_status_and_the_association_goes_on(
    start: Start, peer: Peer, information: Dataset | None, other: dict[str, Any], status: Status
) -> None:
    gateway = start()
    _set_limits(gateway, {"max_instances": 4})
    with peer.associated(gateway) as association:
        assert ask(association, information, **other) == status
        assert ask(association, request(["1.2.3"], generate_uid())) == 0
    gateway.receiver._trail.tick(closing=True)
    assert len(gateway.events(AuditEventType.COMMITMENT_REFUSED)) == 1


def test_more_requests_than_may_wait_are_refused_for_now(gateway: Gateway, peer: Peer) -> None:
    _set_limits(gateway, {"max_requests": 2})
    with peer.associated(gateway) as association:
        statuses = [ask(association, request(["1.2.3"], generate_uid())) for _ in range(3)]
    assert statuses == [0, 0, Status.RESOURCE_LIMITATION]


def test_a_long_request_does_not_hold_up_a_short_one(gateway: Gateway, peer: Peer, held: list[str]) -> None:
    long, short = generate_uid(), generate_uid()
    _set_limits(gateway, {"bytes_per_second": gateway.instances()[0].size * 100})
    many = [_another_row(gateway, number) for number in range(200)]
    with peer.associated(gateway) as association:
        assert ask(association, request(many, long)) == 0
        assert ask(association, request(held[:1], short)) == 0
        with answering(gateway):
            assert eventually(lambda: len(peer.reports) == 2, 20)
    assert list(peer.reports) == [short, long]


def _another_row(gateway: Gateway, number: int) -> str:
    first = gateway.instances()[0]
    uid = f"1.2.3.{number}"
    path = first.path.replace(".dcm", f"-{number}.dcm")
    shutil.copy(gateway.store.locate(first.path), gateway.store.locate(path))
    names = [column.name for column in Instance.__table__.columns if column.name not in ("id", "revision_id")]
    values = {name: getattr(first, name) for name in names} | {"sop_instance_uid": uid, "path": path}
    with gateway.database.transaction() as session:
        session.add(Instance(**values))
    return uid
