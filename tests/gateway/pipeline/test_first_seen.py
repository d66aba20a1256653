"""The analyst writes down what it saw first: digests of every instance and the root of every revision."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.app import App
from gateway.pipeline import analysing
from gateway.pipeline.analysing import Analyst
from storage import AuditEventType
from storage.attributes import GROUPS
from storage.firstseen import Standing, first_seen
from storage.studies import close_revision
from storage.tables import CloseReason, Revision, RevisionState
from tests.remembered import gateway, phantom, receive


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    with gateway(tmp_path) as opened:
        yield opened


def closed(app: App, study_uid: str) -> int:
    with app.database.transaction() as session:
        revision = session.query(Revision).filter_by(study_uid=study_uid, state=RevisionState.OPEN).one().id
        close_revision(session, revision, CloseReason.QUIET)
    return revision


def test_an_analysis_records_digests_and_roots_once_for_each_revision(
    app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(analysing, "detectors_for", lambda *_, **__: ())
    monkeypatch.setattr(analysing, "image_model_for", lambda *_, **__: None)
    analyst = Analyst(app)
    files = phantom(tmp_path / "study", 2, slices=3, matrix=32)
    study_uid = receive(app, files[:2])
    analyst.analyse(closed(app, study_uid))
    receive(app, files[2:])
    analyst.analyse(closed(app, study_uid))
    records = app.ledger.list(event=AuditEventType.DIGESTS_RECORDED.value)
    assert [json.loads(record.details)["instances"] for record in records] == [2, 3]
    with app.database.reading() as session:
        found = first_seen(session, study_uid)
    assert found.standing is Standing.PROVED
    assert all(set(each.attributes) == set(GROUPS) and each.pixel_sha256 for each in found.instances.values())


def test_a_study_that_is_given_up_still_has_its_roots(
    app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(analysing, "detectors_for", lambda *_, **__: ())
    monkeypatch.setattr(analysing, "image_model_for", lambda *_, **__: None)

    def breaks(*_: object) -> None:
        raise RuntimeError("a defect")

    analyst = Analyst(app)
    monkeypatch.setattr(Analyst, "_take_digests", breaks)
    study_uid = receive(app, phantom(tmp_path / "study", 2, slices=2, matrix=32))
    analyst.analyse(closed(app, study_uid))
    (record,) = app.ledger.list(event=AuditEventType.DIGESTS_RECORDED.value)
    assert json.loads(record.details)["instances"] == 2
