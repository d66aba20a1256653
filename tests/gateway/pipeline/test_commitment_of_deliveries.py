"""Done means that the destination has committed itself, where that is asked for: a real Orthanc, and worse ones."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from pynetdicom import AE, AllStoragePresentationContexts, evt

from gateway.dicom.contexts import COMMITMENT
from gateway.dicom.receiver import Receiver
from storage.tables import RevisionState
from tests.faults.harness import free_port, wait_for
from tests.gateway.dicom.test_commitment_scu import Pacs
from tests.gateway.pipeline.world import Make
from tests.peers import running_orthanc


class Archive(Pacs):
    """Stores what it gets, in memory, and answers for it as it is told."""

    def __init__(
        self, lacks: Sequence[str] = (), *, status: int = 0, silent: bool = False, offers: bool = True
    ) -> None:
        super().__init__(lacks, status=status)
        self.same_association = not silent
        self.offers = offers
        self.received: list[str] = []

    @contextmanager
    def running(self) -> Iterator["Archive"]:
        entity: Any = AE(ae_title="PACS")
        for context in AllStoragePresentationContexts[:100]:
            entity.add_supported_context(context.abstract_syntax)
        for uid in ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.33"):
            entity.add_supported_context(uid)
        if self.offers:
            entity.add_supported_context(COMMITMENT)

        def store(event: evt.Event) -> int:
            self.received.append(str(event.request.AffectedSOPInstanceUID))  # type: ignore[union-attr]
            return 0

        server = entity.start_server(
            ("127.0.0.1", self.port),
            block=False,
            evt_handlers=[(evt.EVT_C_STORE, store), (evt.EVT_N_ACTION, self._action)],
        )
        try:
            yield self
        finally:
            server.shutdown()


@pytest.fixture
def make(world: Make) -> Callable[..., Any]:
    return lambda port, **values: world(port, commitment=True, commitment_timeout=600, **values)


@pytest.mark.peers
def test_a_real_orthanc_commits_itself_before_a_delivery_is_done_and_gets_again_what_it_lost(
    world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    modality = {"AET": "SCANWARDEN", "Host": "127.0.0.1", "Port": free_port(), "AllowStorageCommitment": True}
    with running_orthanc(options={"DicomModalities": {"gateway": modality}}) as orthanc:
        gateway = world(orthanc.dicom_port, commitment=True, ae_title="ORTHANC")
        settings = gateway.app.settings
        dicom = settings.dicom.model_copy(update={"port": modality["Port"], "host": "127.0.0.1"})
        receiver = Receiver(settings.model_copy(update={"dicom": dicom}), gateway.app.database, gateway.app.store)
        receiver.start()
        try:
            planted = gateway.plan()
            gateway.turn()  # Orthanc reports on an association that it opens
            wait_for(lambda: gateway.turn() == 0 and set(gateway.states()) == {"DELIVERED"}, 20, "Orthanc reports")
            assert set(orthanc.instances(planted.study_uid)) == set(planted.objects.values())
            assert gateway.revisions() == {RevisionState.DONE}
            assert gateway.events().count("commitment-confirmed") == 1

            lost = gateway.plan(kinds=("SR",))
            with monkeypatch.context() as too_late:
                too_late.setattr(gateway.courier._notary, "ask", lambda *_: True)
                gateway.turn()
            query = {"Level": "Instance", "Query": {"SOPInstanceUID": lost.objects["SR"]}}
            (found,) = orthanc.post("/tools/find", query)
            orthanc.delete(f"/instances/{found}")
            gateway.wind(4000, step=4000)
            wait_for(lambda: gateway.turn() == 0 and gateway.states()[-1] == "WAITING", 20, "Orthanc lacks it")
            assert "not committed: reason 0x0112" in str(gateway.deliveries()[-1].failure)
            gateway.wind(60)
            wait_for(lambda: gateway.turn() == 0 and set(gateway.states()) == {"DELIVERED"}, 20, "it gets it again")
            assert orthanc.instances(lost.study_uid) == [lost.objects["SR"]]
        finally:
            receiver.drain(seconds=1)


def test_a_report_on_the_same_association_makes_it_done(make: Callable[..., Any]) -> None:
    with Archive().running() as archive:
        gateway = make(archive.port)
        gateway.plan()
        gateway.turn()
        wait_for(lambda: gateway.turn() == 0 and set(gateway.states()) == {"DELIVERED"}, 10, "the report counts")
    assert len(archive.received) == 2
    assert len(archive.asked) == 1


def test_what_is_not_committed_is_sent_again_and_only_that(make: Callable[..., Any]) -> None:
    with Archive().running() as archive:
        gateway = make(archive.port)
        planted = gateway.plan()
        archive.lacks = [planted.objects["SR"]]
        gateway.turn()
        wait_for(lambda: gateway.turn() == 0 and gateway.states() == ["DELIVERED", "WAITING"], 10, "one is missing")
        archive.lacks = []
        gateway.wind(60)
        wait_for(lambda: gateway.turn() == 0 and set(gateway.states()) == {"DELIVERED"}, 10, "it comes again")
    assert archive.received == [planted.objects["SEG"], planted.objects["SR"], planted.objects["SR"]]


def test_a_destination_that_never_reports_is_asked_again_and_then_sent_to_again_until_it_is_given_up(
    make: Callable[..., Any],
) -> None:
    with Archive(silent=True).running() as archive:
        gateway = make(archive.port, attempts=2)
        gateway.plan(kinds=("SR",))
        gateway.turn()
        assert gateway.states() == ["SENT"]
        gateway.wind(3 * 605, step=605)
        assert (len(archive.received), len(archive.asked)) == (1, 3)
        gateway.wind(605, step=605)
        assert len(archive.received) == 2
        gateway.wind(5 * 605, step=605)
    assert gateway.states() == ["DEAD"]
    assert "no commitment after 3 requests" in str(gateway.deliveries()[0].failure)
    assert gateway.revisions() == {RevisionState.FAILED}


def test_a_destination_without_commitment_is_a_dead_letter_that_says_so(make: Callable[..., Any]) -> None:
    with Archive(offers=False).running() as archive:
        gateway = make(archive.port)
        gateway.plan(kinds=("SR",))
        gateway.turn()
    assert gateway.states() == ["DEAD"]
    assert gateway.deliveries()[0].failure == "it is stored, and the destination knows no storage commitment"
    assert len(archive.received) == 1


def test_a_destination_that_is_away_when_it_is_asked_is_asked_when_it_is_back(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Archive()
    gateway = make(archive.port, timeout=1)
    planted = gateway.plan(kinds=("SR",))
    with archive.running(), monkeypatch.context() as away:
        away.setattr(gateway.courier._notary, "ask", lambda *_: True)
        gateway.turn()
    assert gateway.states() == ["SENT"]
    gateway.wind(3600, step=900)
    with archive.running():
        gateway.wind(3600, step=900)
        wait_for(lambda: gateway.turn() == 0 and set(gateway.states()) == {"DELIVERED"}, 10, "it is asked")
    assert archive.received == [planted.objects["SR"]]
