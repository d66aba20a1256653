"""Attacks on what the service opens beside C-STORE: commitment, passing on, STOW-RS, and the figures that it shows."""

import re
import threading
from hashlib import sha256
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid
from sqlalchemy import select

from config import Settings
from gateway.alerts.severity import AlertSeverity, severity_of
from gateway.app import App, build, prepare
from gateway.dicom.commitment import Status
from gateway.metrics.snapshots import Publisher, folder
from gateway.pipeline import analysing
from gateway.pipeline.forwarding import Forwarder
from storage import AuditEventType, LedgerRecord
from storage.analyses import analysis_of
from storage.commitments import ask, commitment
from storage.forwarding import counts
from storage.studies import close_revision
from storage.tables import Analysis, CloseReason, CommitmentState, ForwardState, Instance, Revision
from tests.faults.harness import Archive, wait_for
from tests.faults.modality import make_study
from tests.faults.service import bright_pixels
from tests.gateway.dicom.conftest import Start as StartPort
from tests.gateway.dicom.conftest import mr_image
from tests.gateway.dicom.test_commitment import request
from tests.gateway.dicom.test_commitment_scu import REFERENCES, Pacs
from tests.gateway.pipeline.conftest import arrive
from tests.gateway.web.conftest import Start as StartWeb
from tests.gateway.web.conftest import part10

TOKEN, OTHER = "a" * 32, "b" * 32


def alert(record: LedgerRecord) -> AlertSeverity | None:
    return severity_of(record.event, record.outcome)


def test_attack_a_peer_commits_itself_in_the_name_of_the_destination(start: StartPort) -> None:
    """Whoever learnt the transaction could make us believe that the PACS keeps what it has lost."""
    pacs = Pacs()
    gateway = start(destinations=[pacs.destination.model_copy(update={"ae_title": "ARCHIVE"})])
    with gateway.database.transaction() as session:
        uid = ask(session, "pacs", REFERENCES)
    wanted = request([each.sop_instance_uid for each in REFERENCES], uid)

    def state() -> CommitmentState:
        with gateway.database.reading() as session:
            return commitment(session, uid).state

    assert pacs.call(gateway, wanted) == Status.INVALID_ARGUMENT  # it calls itself PACS
    assert pacs.call(gateway, request(["1.2.3.1"], generate_uid())) == Status.INVALID_ARGUMENT
    assert state() is CommitmentState.WAITING
    (told,) = gateway.events(AuditEventType.COMMITMENT_REFUSED)  # the first in a minute; the second is counted
    assert alert(told) is AlertSeverity.WARNING
    # The twin: the destination itself.
    assert pacs.call(gateway, wanted, ae_title="ARCHIVE") == 0
    assert state() is CommitmentState.COMMITTED


def test_attack_a_file_is_altered_before_it_is_passed_on(tmp_path: Path) -> None:
    files = make_study(tmp_path, edited=False, slices=2, matrix=8).files
    archive = Archive()
    settings = Settings.model_validate(
        {
            "store": {"root": tmp_path / "var", "high_watermark": 1, "low_watermark": 1, "reserve_bytes": 0},
            "destinations": [{"name": "pacs", "ae_title": "ARCHIVE", "host": "127.0.0.1", "port": archive.port}],
            "forwarding": {"routes": [{"destination": "pacs"}], "backoff": 0.05, "interval": 0.02},
        }
    )
    prepare(settings)
    stop = threading.Event()
    with archive.running(), build(settings) as app:
        arrive(app, files)
        altered, sound = _paths(app)
        content = bytearray(altered.read_bytes())
        content[-9] ^= 1
        altered.write_bytes(content)
        sender = threading.Thread(target=Forwarder(app, "deliver-0@here").run, args=(stop,))
        sender.start()
        try:
            wait_for(lambda: _numbers(app) == {ForwardState.SENT: 1, ForwardState.DEAD: 1}, 20, "both are decided on")
        finally:
            stop.set()
            sender.join()
        (incident,) = app.ledger.list(event=AuditEventType.INSTANCE_DAMAGED)
        kept = dcmread(sound)
    assert archive.order == [files[1].stem]  # the altered one never left
    assert (incident.subject, alert(incident)) == (files[0].stem, AlertSeverity.INCIDENT)
    assert kept.SOPInstanceUID == files[1].stem
    assert archive.digests[files[1].stem] == {sha256(_data_set(sound)).hexdigest()}


def test_attack_a_file_is_made_harmless_before_it_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The PACS has the edited image; whoever holds our disk shows the detector another one."""
    monkeypatch.setattr(analysing, "detectors_for", lambda *_, **__: (bright_pixels(),))
    monkeypatch.setattr(analysing, "image_model_for", lambda *_, **__: None)
    edited, twin = (make_study(tmp_path, edited=edited, slices=3) for edited in (True, False))
    settings = Settings(store={"root": tmp_path / "var", "high_watermark": 1, "low_watermark": 1, "reserve_bytes": 0})
    prepare(settings)
    with build(settings) as app:
        analyst = analysing.Analyst(app)
        try:
            for study in (edited, twin):
                arrive(app, study.files)
            for path in _paths(app)[:3]:
                harmless = dcmread(path)
                harmless.PixelData = (harmless.pixel_array % 1000).tobytes()
                harmless.save_as(path)
            found = {study: _analysed(app, analyst, study.study_uid) for study in (edited, twin)}
            (incident,) = app.ledger.list(event=AuditEventType.INCIDENT_OBSERVED)
            with app.database.reading() as session:
                seen = set(session.scalars(select(Instance.sop_instance_uid).where(Instance.pixel_sha256.is_not(None))))
        finally:
            analyst.decoding.close()
    assert found[edited].verdict == "REVIEW"
    assert "3 files in our own store are not what was received" in found[edited].reasons[0]
    assert (incident.study_uid, alert(incident)) == (edited.study_uid, AlertSeverity.INCIDENT)
    assert seen == {file.stem for file in twin.files}  # what was put there is nothing that was first seen
    assert not any("our own store" in reason for reason in found[twin].reasons)


@pytest.mark.parametrize(
    ("source", "authorization", "status"),
    [
        ("127.0.0.2", "", 401),
        ("127.0.0.2", f"Bearer {OTHER}", 401),
        ("127.0.0.2", f"Basic {TOKEN}", 401),
        ("127.0.0.3", f"Bearer {TOKEN}", 401),
        ("127.0.0.1", f"Bearer {TOKEN}", 403),
    ],
)
def test_attack_an_instance_over_http_without_the_token_of_its_place(
    start_web: StartWeb, tmp_path: Path, source: str, authorization: str, status: int
) -> None:
    tokens = [tmp_path / "one", tmp_path / "other"]
    for file, token in zip(tokens, (TOKEN, OTHER), strict=True):
        file.write_text(token)
    sources = [
        {"ae_title": "SITE_A", "token_file": tokens[0], "addresses": ["127.0.0.2"]},
        {"ae_title": "SITE_B", "token_file": tokens[1], "addresses": ["127.0.0.3"]},
    ]
    web = start_web(stow=True, stow_sources=sources)
    image = part10(mr_image())
    headers = {"authorization": authorization} if authorization else {}
    assert web.stow(image, source=source, **headers).status == status
    assert web.instances() == []
    assert web.files() == []
    event = AuditEventType.LOGIN_REFUSED if status == 401 else AuditEventType.ACCESS_REFUSED
    assert [alert(each) for each in web.events(event)] == [AlertSeverity.WARNING]
    # The twin: the same image from its place with its token.
    assert web.stow(image, source="127.0.0.2", authorization=f"Bearer {TOKEN}").status == 200
    assert [row.source_ae for row in web.instances()] == ["SITE_A"]


def test_attack_a_name_smuggled_into_what_the_figures_show(start_web: StartWeb) -> None:
    """What a sender can choose must not become a label: figures leave the house more easily than studies."""
    web = start_web(stow=True)
    before = web.ask("/metrics").body.decode()
    image = mr_image(PatientID="SMUGGLED-1", StationName="SMUGGLED-2", InstitutionName="SMUGGLED-3")
    assert web.stow(part10(image), user_agent="SMUGGLED-4", x_forwarded_for="SMUGGLED-5").status == 200
    assert web.stow(b"SMUGGLED-6").status == 409
    assert web.ask("/SMUGGLED-7").status == 404
    Publisher(folder(web.app.settings), "web").publish()
    page = web.ask("/metrics").body.decode()
    assert page != before  # the twin: what may be shown is
    assert "SMUGGLED" not in page
    assert "Secret" not in page
    assert not re.search(r"\d+(\.\d+){4}", page)


def _paths(app: App) -> list[Path]:
    with app.database.reading() as session:
        return [app.store.locate(path) for path in session.scalars(select(Instance.path).order_by(Instance.id))]


def _analysed(app: App, analyst: analysing.Analyst, study_uid: str) -> Analysis:
    with app.database.transaction() as session:
        revision = session.scalars(select(Revision.id).where(Revision.study_uid == study_uid)).one()
        close_revision(session, revision, CloseReason.QUIET)
    analyst.analyse(revision)
    with app.database.reading() as session:
        return analysis_of(session, revision)


def _numbers(app: App) -> dict[ForwardState, int]:
    with app.database.reading() as session:
        return dict(counts(session).get("pacs", {}))


def _data_set(file: Path) -> bytes:
    """What follows the header of the file."""
    content = file.read_bytes()
    length = int.from_bytes(content[140:144], "little")
    return content[144 + length :]
