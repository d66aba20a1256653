"""The encode step: what had to be corrected in our objects stands in the ledger."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid
from sqlalchemy import select

from gateway.app import App
from gateway.pipeline.analysing import Analyst
from gateway.pipeline.encoding import Encoder
from storage.studies import close_revision, fail_revision, retry_revision, revision_contents
from storage.tables import CloseReason, Revision
from tests.faults.modality import make_study
from tests.gateway.pipeline.conftest import arrive


@pytest.fixture
def url() -> None:
    """SQLite alone: nothing here depends on the database."""
    return


@pytest.mark.parametrize(("sex", "corrected"), [("X", ["PatientSex"]), ("F", None)])
def test_what_of_a_source_header_was_corrected_stands_in_the_ledger_without_its_value(
    app: App, analyst: Analyst, tmp_path: Path, sex: str, corrected: list[str] | None
) -> None:
    study = make_study(tmp_path, edited=False, slices=2, matrix=32)
    for file in study.files:
        dataset = dcmread(file)
        dataset.PatientSex = sex
        dataset.save_as(file)
    arrive(app, study.files)
    with app.database.transaction() as session:
        revision = session.scalars(select(Revision.id)).one()
        close_revision(session, revision, CloseReason.QUIET, now=datetime.now(UTC))
    analyst.analyse(revision)
    Encoder(app, analyst.decoding).encode(revision)
    made = app.ledger.list(event="evidence-created")
    assert made
    assert {json.dumps(json.loads(each.details).get("corrected")) for each in made} == {json.dumps(corrected)}


@pytest.mark.parametrize("brighter", [0, 1])
def test_a_study_of_copies_alone_whose_uids_belong_to_another_study_gets_its_report(
    app: App, analyst: Analyst, tmp_path: Path, brighter: int
) -> None:
    study = make_study(tmp_path, edited=False, slices=2, matrix=32)
    arrive(app, study.files)
    other = generate_uid()
    for file in study.files:
        dataset = dcmread(file)
        dataset.StudyInstanceUID = other
        dataset.PixelData = (dataset.pixel_array + brighter).astype("<u2").tobytes()
        dataset.save_as(file)
    arrive(app, study.files)
    with app.database.transaction() as session:
        revision = session.scalars(select(Revision.id).where(Revision.study_uid == other)).one()
        close_revision(session, revision, CloseReason.QUIET, now=datetime.now(UTC))
    analyst.analyse(revision)
    Encoder(app, analyst.decoding).encode(revision)
    with app.database.reading() as session:
        contents = revision_contents(session, revision)
    assert not contents.instances
    assert len(contents.quarantined if brighter else contents.duplicates) == 2
    made = app.ledger.list(event="evidence-created", study_uid=other)
    assert [json.loads(each.details)["kind"] for each in made] == ["SR"]


def test_a_retry_after_evidence_could_not_be_made_makes_it(app: App, analyst: Analyst, tmp_path: Path) -> None:
    arrive(app, make_study(tmp_path, edited=False, slices=2, matrix=32).files)
    with app.database.transaction() as session:
        revision = session.scalars(select(Revision.id)).one()
        close_revision(session, revision, CloseReason.QUIET, now=datetime.now(UTC))
    analyst.analyse(revision)
    with app.database.transaction() as session:
        fail_revision(session, revision, "OSError at draft.py:1", actor="scanwarden:analyse")
        retry_revision(session, revision, actor="user:operator")
    analyst.analyse(revision)  # as the workflow does
    Encoder(app, analyst.decoding).encode(revision)
    assert app.ledger.list(event="evidence-created")
    assert len(app.ledger.list(event="analysis-finished")) == 1
