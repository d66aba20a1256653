"""The encode step: what had to be corrected in our objects stands in the ledger."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom import dcmread
from sqlalchemy import select

from gateway.app import App
from gateway.pipeline.analysing import Analyst
from gateway.pipeline.encoding import Encoder
from storage.studies import close_revision
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
