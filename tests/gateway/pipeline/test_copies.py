"""Copies of an image: where two of one UID differ, and the same pixels under another UID, as the ledger tells it."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.uid import generate_uid
from sqlalchemy import select

from config import Settings
from gateway.alerts.severity import AlertSeverity, severity_of
from gateway.app import App
from gateway.pipeline.analysing import Analyst
from storage import AuditEventType, Ledger
from storage.analyses import analysis_of
from storage.studies import close_revision
from storage.tables import CloseReason, Revision, RevisionState
from tests.faults.modality import make_study
from tests.gateway.pipeline.conftest import arrive

LATER = datetime.now(UTC) + timedelta(days=1)


@pytest.fixture
def url() -> None:
    """SQLite alone: nothing here depends on the database."""
    return


@pytest.fixture
def settings(configure: Callable[..., Settings]) -> Settings:
    return configure()


def changed(file: Path, folder: Path, change: Callable[[Dataset], None]) -> Path:
    """A copy of a file with a change."""
    dataset = dcmread(file)
    change(dataset)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    folder.mkdir(exist_ok=True)
    path = folder / f"{dataset.SOPInstanceUID}.dcm"
    dcmwrite(path, dataset, enforce_file_format=True)
    return path


def analyse(app: App, analyst: Analyst) -> list[dict[str, Any]]:
    """Close and analyse what is open; the observations of each result."""
    observations = []
    with app.database.transaction() as session:
        opened = list(session.scalars(select(Revision).where(Revision.state == RevisionState.OPEN)))
        for revision in opened:
            close_revision(session, revision.id, CloseReason.QUIET, now=LATER)
    for revision in opened:
        analyst.analyse(revision.id)
        with app.database.reading() as session:
            path = analysis_of(session, revision.id).path
        assert path is not None
        observations += json.loads((app.store.locate(path) / "analysis.json").read_text())["observations"]
    return observations


def told(app: App, event: AuditEventType) -> list[dict[str, Any]]:
    return [json.loads(each.details) for each in Ledger(app.database).list(event=event.value, limit=None)]


def brighten(rows: slice, columns: slice) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        pixels = dataset.pixel_array.copy()
        pixels[rows, columns] += 5
        dataset.PixelData = pixels.tobytes()

    return change


def new_uid(dataset: Dataset) -> None:
    dataset.SOPInstanceUID = generate_uid()


def new_study(dataset: Dataset) -> None:
    dataset.SOPInstanceUID, dataset.StudyInstanceUID = generate_uid(), generate_uid()


def test_an_incident_tells_where_the_pixels_of_two_copies_differ(app: App, analyst: Analyst, tmp_path: Path) -> None:
    study = make_study(tmp_path, edited=False)
    second = changed(study.files[2], tmp_path / "again", brighten(slice(10, 14), slice(20, 30)))
    arrive(app, [*study.files, second])
    analyse(app, analyst)
    (details,) = told(app, AuditEventType.INSTANCE_QUARANTINED)
    assert details["difference"] == "rows 10 to 13, columns 20 to 29, frame 1"
    assert (details["difference_rows"], details["difference_columns"]) == ([10, 14], [20, 30])
    assert (details["difference_pixels"], details["largest_difference"]) == (40, 5.0)
    assert details["content"] != details["other_content"]
    assert details["first_file_sha256"] != details["file_sha256"]


def test_an_incident_whose_copies_cannot_be_compared_says_so(app: App, analyst: Analyst, tmp_path: Path) -> None:
    study = make_study(tmp_path, edited=False)

    def shrink(dataset: Dataset) -> None:
        dataset.Rows = dataset.Columns = 32
        dataset.PixelData = dataset.PixelData[: 32 * 32 * 2]

    def cut(dataset: Dataset) -> None:
        dataset.PixelData = dataset.PixelData[:100]

    arrive(
        app,
        [*study.files, changed(study.files[0], tmp_path / "a", shrink), changed(study.files[1], tmp_path / "b", cut)],
    )
    analyse(app, analyst)
    told_of = [details["difference"] for details in told(app, AuditEventType.INSTANCE_QUARANTINED)]
    assert sorted(told_of) == ["another matrix: 32×32 in place of 64×64", "one of the copies cannot be decoded"]


def test_pixels_that_come_again_under_another_uid_are_observed_and_told_once(
    app: App, analyst: Analyst, tmp_path: Path
) -> None:
    study = make_study(tmp_path, edited=False)
    arrive(app, study.files)
    analyse(app, analyst)
    assert told(app, AuditEventType.PIXELS_REPEATED) == []
    again = changed(study.files[1], tmp_path / "again", new_uid)
    arrive(app, [again])
    (found,) = [each for each in analyse(app, analyst) if each["rule"] == "same-pixels-other-uid"]
    assert (found["severity"], found["sop_instance_uids"]) == ("info", [again.stem])
    assert found["evidence"]["first_instances"] == [study.files[1].stem]
    (details,) = told(app, AuditEventType.PIXELS_REPEATED)
    assert (details["instances"], details["other_study"]) == ([again.stem], False)
    arrive(app, [changed(study.files[0], tmp_path / "more", brighten(slice(0, 1), slice(0, 1)))])
    analyse(app, analyst)
    assert len(told(app, AuditEventType.PIXELS_REPEATED)) == 1


def test_an_image_of_another_study_asks_for_a_look(app: App, analyst: Analyst, tmp_path: Path) -> None:
    study = make_study(tmp_path, edited=False)
    arrive(app, study.files)
    analyse(app, analyst)
    arrive(app, [changed(study.files[1], tmp_path / "again", new_study)])
    (found,) = [each for each in analyse(app, analyst) if each["rule"] == "same-pixels-other-uid"]
    assert found["severity"] == "warning"
    assert found["evidence"]["first_studies"] == [study.study_uid]
    (record,) = Ledger(app.database).list(event=AuditEventType.PIXELS_REPEATED.value, limit=None)
    assert severity_of(record.event, record.outcome) is AlertSeverity.WARNING
    assert severity_of(record.event, 0) is None
