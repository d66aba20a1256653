"""What the rules decide happens: not looked at, said in the report, more urgent, for some destinations only."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid
from sqlalchemy import func, select

from config import Settings
from gateway.app import App
from gateway.pipeline.analysing import Analyst
from gateway.pipeline.queues import WorkQueues
from gateway.pipeline.revisions import RevisionSweep
from gateway.pipeline.routing import priority_of
from inference.findings import StudyAnalysis
from storage.tables import Analysis, Delivery, Evidence, FirstSeen, LedgerRow, Priority, Revision, RevisionState
from tests.faults.harness import Archive, wait_for
from tests.faults.modality import make_study
from tests.gateway.pipeline.conftest import arrive, working

NOT_SCOUTS = {"name": "no-scouts", "when": {"series_description": ["*scout*"]}, "analyse": False}


@pytest.fixture
def archive() -> Archive:
    return Archive()


@pytest.fixture
def settings(configure: Callable[..., Settings], archive: Archive, request: pytest.FixtureRequest) -> Settings:
    destination: dict[str, Any] = {"name": "archive", "ae_title": "ARCHIVE", "host": "127.0.0.1", "port": archive.port}
    return configure(
        revisions={"quiet_period": 0, "hard_limit": 60}, destinations=[destination], rules=list(request.param)
    )


def carry(app: App, analyst: Analyst, archive: Archive) -> None:
    with archive.running(), working(app, analyst) as work:
        sweep(app, work)
        wait_for(lambda: _states(app) == [RevisionState.DONE], 60, "the revision is done")


def sweep(app: App, work: WorkQueues) -> None:
    started = datetime.now(UTC) - timedelta(days=1)
    RevisionSweep(
        app.database,
        work,
        app.settings.revisions,
        started_at=started,
        prioritise=lambda session, revision: priority_of(app, session, revision),
    )()


def _states(app: App) -> list[RevisionState]:
    with app.database.reading() as session:
        return list(session.scalars(select(Revision.state)))


def _count(app: App, table: Any) -> int:
    with app.database.reading() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


@pytest.mark.parametrize("settings", [[{"name": "nothing", "analyse": False}]], indirect=True)
def test_a_study_that_the_rules_ignore_is_recorded_and_gets_no_evidence(
    app: App, analyst: Analyst, archive: Archive, tmp_path: Path
) -> None:
    study = make_study(tmp_path, edited=True)
    arrive(app, study.files)
    carry(app, analyst, archive)
    assert (_count(app, Analysis), _count(app, Evidence), _count(app, Delivery)) == (0, 0, 0)
    assert _count(app, FirstSeen) == len(study.files)
    with app.database.reading() as session:
        (passed,) = session.scalars(select(LedgerRow).where(LedgerRow.event == "revision-passed-over"))
        assert '"rules":["nothing"]' in passed.details
    assert not archive.order
    assert app.ledger.verify().intact


@pytest.mark.parametrize("settings", [[NOT_SCOUTS]], indirect=True)
def test_a_series_that_is_not_looked_at_is_named_beside_the_verdict(
    app: App, analyst: Analyst, archive: Archive, tmp_path: Path
) -> None:
    study = make_study(tmp_path, edited=False)
    scout = dcmread(study.files[0])
    scout.SeriesInstanceUID, scout.SOPInstanceUID = generate_uid(), generate_uid()
    scout.SeriesDescription = "3-plane Scout"
    scout.file_meta.MediaStorageSOPInstanceUID = scout.SOPInstanceUID
    path = tmp_path / f"{scout.SOPInstanceUID}.dcm"
    scout.save_as(path, enforce_file_format=True)
    arrive(app, [*study.files, path])
    carry(app, analyst, archive)
    with app.database.reading() as session:
        analysis = session.scalars(select(Analysis)).one()
        assert "1 of 2 series were not looked at, as a rule says: no-scouts." in analysis.reasons
        kept = StudyAnalysis.load(app.store.locate(str(analysis.path)))
    assert scout.SeriesInstanceUID not in {each.series_uid for each in kept.series}
    assert [each.evidence["series"] for each in kept.observations if each.rule == "series-not-analysed"] == [
        [scout.SeriesInstanceUID]
    ]
    assert _count(app, FirstSeen) == len(study.files) + 1


@pytest.mark.parametrize("settings", [[{"name": "nobody", "destinations": []}]], indirect=True)
def test_evidence_for_nobody_is_made_and_kept(app: App, analyst: Analyst, archive: Archive, tmp_path: Path) -> None:
    arrive(app, make_study(tmp_path, edited=True).files)
    carry(app, analyst, archive)
    assert _count(app, Evidence) > 0
    assert _count(app, Delivery) == 0


@pytest.mark.parametrize("settings", [[{"name": "urgent", "priority": "stat"}]], indirect=True)
def test_a_rule_makes_a_study_urgent(app: App, analyst: Analyst, tmp_path: Path) -> None:
    arrive(app, make_study(tmp_path, edited=False).files)
    with working(app, analyst) as work:
        sweep(app, work)
    with app.database.reading() as session:
        assert session.scalars(select(Revision.priority)).all() == [Priority.STAT]
