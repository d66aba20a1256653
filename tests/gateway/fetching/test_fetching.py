"""A study fetched from a real archive enters as if it had been sent, in whatever way the archive is read."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid
from sqlalchemy import select

from gateway.app import App
from gateway.dicom.query import NotExact
from gateway.dicom.scu import Unreachable
from gateway.fetching.fetching import Fetcher, NotFetched, OtherPatient
from gateway.fetching.intake import FETCHED, opened
from gateway.fetching.questions import ask_studies, chosen_archive
from storage import AuditEventType, InstanceState
from storage.digests import file_digest
from storage.tables import Instance, LedgerRow, Revision, RevisionState
from tests.gateway.dicom.conftest import free_port
from tests.gateway.fetching.archives import (
    DCMQRSCP,
    MOVE_AE_TITLE,
    MOVE_PORT,
    destination,
    instances_of,
    put,
    running_dcmqrscp,
    study,
    uid_of,
)
from tests.peers import Orthanc
from tests.remembered import edited, gateway, receive

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def dcmqrscp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    if not DCMQRSCP.is_file():
        pytest.skip("DCMTK is not installed (apt-get install dcmtk)")
    with running_dcmqrscp(tmp_path_factory.mktemp("dcmqrscp")) as port:
        yield port


@pytest.fixture(params=["c-get", "c-move", "dicomweb", "dcmqrscp"])
def archive(request: pytest.FixtureRequest) -> tuple[int, dict[str, Any]]:
    """The DICOM port of an archive, and the settings of the way by which it is read."""
    verification: dict[str, Any] = {"archive": "pacs", "instances_per_second": 1000}
    if request.param == "dcmqrscp":
        return request.getfixturevalue("dcmqrscp"), {"verification": verification}
    running: Orthanc = request.getfixturevalue("orthanc")
    if request.param == "c-move":
        verification |= {"move_ae_title": MOVE_AE_TITLE, "move_port": MOVE_PORT}
    if request.param == "dicomweb":
        verification |= {"dicomweb": f"{running.url}/dicom-web"}
    return running.dicom_port, {"verification": verification}


def fetcher(app: App) -> Fetcher:
    return Fetcher(app, chosen_archive(app.settings), actor="user:ada")


def held(app: App) -> list[Instance]:
    with app.database.reading() as session:
        return list(session.scalars(select(Instance).order_by(Instance.id)))


def recorded(app: App, event: AuditEventType) -> list[dict[str, Any]]:
    return [json.loads(each.details) for each in app.ledger.list(event=event.value, limit=None)]


def test_a_fetched_study_is_found_and_enters_like_any_other(
    archive: tuple[int, dict[str, Any]], tmp_path: Path
) -> None:
    port, settings = archive
    number = generate_uid()[-12:]
    files = study(tmp_path / "study", 3, AccessionNumber=number, PatientID=f"P{number}")
    put(port, files)
    with gateway(tmp_path, destinations=[destination(port)], **settings) as app:
        (found,) = ask_studies(app, chosen_archive(app.settings), {"AccessionNumber": number}, actor="user:ada")
        assert (found.study_uid, found.patient_id, found.birth_date) == (uid_of(files), f"P{number}", "19600102")
        totals: list[int] = []
        got = fetcher(app).into_gateway(found.study_uid, listed=totals.append)
        assert (got.is_whole, got.listed, got.taken, totals) == (True, 2, 2, [2])
        rows = held(app)
        assert {each.sop_instance_uid for each in rows} == instances_of(files)
        assert {(each.source_ae, each.source_address) for each in rows} == {("ARCHIVE", f"{FETCHED}127.0.0.1")}
        assert all(file_digest(app.store.locate(each.path)) == each.file_sha256 for each in rows)
        with app.database.reading() as session:
            assert session.scalars(select(Revision.state)).all() == [RevisionState.OPEN]
        assert len(recorded(app, AuditEventType.INSTANCE_STORED)) == 2
        (told,) = recorded(app, AuditEventType.STUDY_FETCHED)
        assert (told["source"], told["listed"], told["instances"]) == ("pacs", 2, 2)
        assert list((app.store.root / "drafts").iterdir()) == []
        assert app.ledger.verify().intact


def test_a_single_series_is_fetched_alone(archive: tuple[int, dict[str, Any]], tmp_path: Path) -> None:
    port, settings = archive
    files = study(tmp_path / "study", 4)
    other = dcmread(files[1])
    other.SeriesInstanceUID = generate_uid()
    other.save_as(files[1])
    put(port, files)
    with gateway(tmp_path, destinations=[destination(port)], **settings) as app:
        got = fetcher(app).into_folder(uid_of(files), tmp_path / "out", series_uid=str(other.SeriesInstanceUID))
        assert (got.listed, got.taken) == (1, 1)
        (written,) = (tmp_path / "out").iterdir()
        assert written.name == f"{other.SOPInstanceUID}.dcm"
        assert dcmread(written).PixelData == other.PixelData
        assert held(app) == []
        (told,) = recorded(app, AuditEventType.STUDY_EXPORTED)
        assert told["series_uid"] == other.SeriesInstanceUID


def test_no_value_of_a_question_or_an_answer_stands_in_the_ledger(
    at_orthanc: App, orthanc: Orthanc, tmp_path: Path
) -> None:
    put(orthanc.dicom_port, study(tmp_path / "study", 5, PatientID="P-LEDGER", AccessionNumber="A-LEDGER"))
    archive = chosen_archive(at_orthanc.settings)
    assert len(ask_studies(at_orthanc, archive, {"PatientID": "P-LEDGER"}, actor="user:ada")) == 1
    assert ask_studies(at_orthanc, archive, {"PatientID": "p-ledger"}, actor="user:ada") == []
    with at_orthanc.database.reading() as session:
        text = "".join(f"{row.details}{row.subject}" for row in session.scalars(select(LedgerRow)))
    assert not [each for each in ("P-LEDGER", "A-LEDGER", "Secret", "19600102") if each in text]
    first, second = recorded(at_orthanc, AuditEventType.ARCHIVE_QUERIED)
    assert (first["keys"], first["answers"], second["answers"]) == (["PatientID"], 1, 0)
    assert len({first["query_sha256"], second["query_sha256"]}) == 2


def test_a_pattern_is_never_asked_for(at_orthanc: App) -> None:
    for value in ("*", "P?1", "A\\B", ""):
        with pytest.raises(NotExact):
            ask_studies(at_orthanc, chosen_archive(at_orthanc.settings), {"PatientID": value}, actor="user:ada")
    assert recorded(at_orthanc, AuditEventType.ARCHIVE_QUERIED) == []


def test_other_pixels_than_here_are_contested_and_not_overwritten(
    at_orthanc: App, orthanc: Orthanc, tmp_path: Path
) -> None:
    files = study(tmp_path / "study", 6)
    receive(at_orthanc, files)
    edited(files[0], (3, 4, 9, 8)).save_as(files[0])
    put(orthanc.dicom_port, files)
    assert fetcher(at_orthanc).into_gateway(uid_of(files)).is_whole
    states = sorted(each.state for each in held(at_orthanc))
    assert states == [InstanceState.CONTESTED, InstanceState.STORED, InstanceState.STORED]
    assert sum(each.repeats for each in held(at_orthanc)) == 1


def test_what_is_listed_and_does_not_come_is_said(
    at_orthanc: App, orthanc: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gateway.dicom import retrieve

    files = study(tmp_path / "study", 7)
    put(orthanc.dicom_port, files)
    lost = dcmread(files[0]).SOPInstanceUID
    write = retrieve.write_instance

    def writes(event: Any, folder: Path) -> tuple[str, Path]:
        if event.request.AffectedSOPInstanceUID == lost:
            raise OSError("no")
        return write(event, folder)

    monkeypatch.setattr(retrieve, "write_instance", writes)
    got = fetcher(at_orthanc).into_gateway(uid_of(files))
    assert (got.listed, got.taken, got.not_sent, got.is_whole) == (2, 1, [lost], False)
    (told,) = recorded(at_orthanc, AuditEventType.STUDY_FETCHED)
    assert told["not_sent"] == [lost]


def test_nothing_of_another_patient_enters(at_orthanc: App, orthanc: Orthanc, tmp_path: Path) -> None:
    files = study(tmp_path / "study", 8)
    put(orthanc.dicom_port, files)
    with pytest.raises(OtherPatient):
        fetcher(at_orthanc).into_gateway(uid_of(files), accept=lambda _: False)
    assert held(at_orthanc) == []
    (told,) = recorded(at_orthanc, AuditEventType.STUDY_FETCHED)
    assert "not of the patient" in told["failure"]


def test_an_instance_of_another_study_is_refused_by_the_store(at_orthanc: App, tmp_path: Path) -> None:
    files = study(tmp_path / "study", 9)
    (text := tmp_path / "text").write_text("no DICOM")
    with opened(at_orthanc, at_orthanc.settings.destinations[0]) as intake:
        assert "status 0x" in (intake.take(files[0], "1.2.3") or "")
        assert "no DICOM file" in (intake.take(text, "1.2.3") or "")
        assert intake.take(files[0], uid_of(files)) is None
    assert len(held(at_orthanc)) == 1
    assert len(recorded(at_orthanc, AuditEventType.INSTANCE_REFUSED)) == 1


def test_a_full_gateway_and_a_dead_archive_fetch_nothing(
    at_orthanc: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.fetching.fetching.Congestion", lambda *_: lambda: "no space to store")
    with pytest.raises(NotFetched, match="no space"):
        fetcher(at_orthanc).into_gateway("1.2.3")
    monkeypatch.undo()
    with gateway(tmp_path / "other", destinations=[destination(free_port())]) as app, pytest.raises(Unreachable):
        fetcher(app).into_gateway("1.2.3")
    assert list((app.store.root / "drafts").iterdir()) == []
