"""The analyse step with studies that break it, and with copies that contradict each other."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydicom import dcmread, dcmwrite
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from sqlalchemy import select

from config import Settings
from gateway.app import App
from gateway.pipeline import analysing, patience
from gateway.pipeline.analysing import Analyst
from storage import DatabaseUnavailable, InstanceState
from storage.analyses import analysis_of, begin_analysis, save_analysis
from storage.retention import expire_instances
from storage.studies import close_revision
from storage.tables import Analysis, CloseReason, Instance, LedgerRow, Revision, RevisionState
from tests.faults.modality import SentStudy, make_study
from tests.gateway.pipeline.conftest import arrive

LATER = datetime.now(UTC) + timedelta(days=1)


@pytest.fixture
def url() -> None:
    """SQLite alone: nothing here depends on the database."""
    return


@pytest.fixture
def settings(configure: Callable[..., Settings]) -> Settings:
    return configure(analysis={"attempts": 3})


@pytest.fixture
def closed(app: App, tmp_path: Path) -> Callable[[SentStudy], int]:
    def close(study: SentStudy) -> int:
        arrive(app, study.files)
        with app.database.transaction() as session:
            revision = session.scalars(select(Revision.id).where(Revision.study_uid == study.study_uid)).one()
            close_revision(session, revision, CloseReason.QUIET)
        return revision

    return close


def outcome(app: App, revision: int) -> Analysis:
    with app.database.reading() as session:
        return analysis_of(session, revision)


def test_a_study_that_took_its_process_down_too_often_is_abstained_from(
    app: App, analyst: Analyst, closed: Callable[[SentStudy], int], tmp_path: Path
) -> None:
    revision = closed(make_study(tmp_path, edited=True))
    for _ in range(3):  # three processes that died after they had committed their attempt
        with app.database.transaction() as session:
            begin_analysis(session, revision, analyst.model_set)
    analyst.analyse(revision)
    found = outcome(app, revision)
    assert found.verdict == "ABSTAIN"
    assert found.reasons[0].startswith("the analysis took its process down 3 times")


def test_a_study_survives_fewer_deaths_than_that(
    app: App, analyst: Analyst, closed: Callable[[SentStudy], int], tmp_path: Path
) -> None:
    revision = closed(make_study(tmp_path, edited=True))
    for _ in range(2):
        with app.database.transaction() as session:
            begin_analysis(session, revision, analyst.model_set)
    analyst.analyse(revision)
    assert outcome(app, revision).verdict == "SUSPECT"


def test_an_analysis_that_fails_ends_in_a_reason_and_holds_up_nobody(
    app: App,
    analyst: Analyst,
    closed: Callable[[SentStudy], int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken, sound = closed(make_study(tmp_path, edited=True)), closed(make_study(tmp_path, edited=True, seed=1))
    tried = []

    def fail(*_arguments: object, **_named: object) -> None:
        tried.append(1)
        raise KeyError("Phantom^Fault")

    with monkeypatch.context() as patch:
        patch.setattr(analysing, "analyse_study", fail)
        analyst.analyse(broken)
    analyst.analyse(sound)
    assert len(tried) == 3
    assert outcome(app, broken).verdict == "ABSTAIN"
    assert "failed 3 times (KeyError)" in outcome(app, broken).reasons[0]
    assert outcome(app, sound).verdict == "SUSPECT"
    assert "Phantom" not in capsys.readouterr().out  # an error's text may hold a header's value


def copy_of(file: Path, folder: Path, *, brighter: int = 0, transfer_syntax: str = ExplicitVRLittleEndian) -> Path:
    """The same UID again, with other bytes."""
    dataset = dcmread(file)
    dataset.SeriesDescription = "sent again"
    if brighter:
        dataset.PixelData = (dataset.pixel_array + brighter).astype("<u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = UID(transfer_syntax)
    path = folder / f"again-{file.name}"
    dcmwrite(path, dataset, enforce_file_format=True)
    return path


def test_the_same_pixels_in_other_bytes_are_a_duplicate(
    app: App, analyst: Analyst, closed: Callable[[SentStudy], int], tmp_path: Path
) -> None:
    study = make_study(tmp_path, edited=False)
    arrive(app, [*study.files[:1], copy_of(study.files[0], tmp_path, transfer_syntax=ImplicitVRLittleEndian)])
    analyst.analyse(closed(study))
    with app.database.reading() as session:
        states = session.scalars(select(Instance.state).order_by(Instance.id)).all()
    assert sorted(states) == [InstanceState.DUPLICATE] + [InstanceState.STORED] * 5


def test_other_pixels_under_the_same_uid_are_an_incident_that_the_verdict_names(
    app: App, analyst: Analyst, closed: Callable[[SentStudy], int], tmp_path: Path
) -> None:
    study = make_study(tmp_path, edited=False)
    arrive(app, [*study.files[:1], copy_of(study.files[0], tmp_path, brighter=1)])
    revision = closed(study)
    analyst.analyse(revision)
    with app.database.reading() as session:
        states = session.scalars(select(Instance.state).order_by(Instance.id)).all()
        alarms = session.scalars(select(LedgerRow).where(LedgerRow.event == "instance-quarantined")).all()
        path = analysis_of(session, revision).path
    assert sorted(states) == [InstanceState.QUARANTINED] + [InstanceState.STORED] * 5
    assert len(alarms) == 1
    assert path is not None
    assert "same-uid-other-pixels" in (app.store.locate(path) / "analysis.json").read_text()
    assert outcome(app, revision).verdict not in ("CLEAR", "VERIFIED")


def test_a_late_instance_that_is_looked_at_alone_says_so_and_is_not_clear(
    app: App, analyst: Analyst, closed: Callable[[SentStudy], int], tmp_path: Path
) -> None:
    study = make_study(tmp_path, edited=False)
    whole = closed(replace(study, files=study.files[:-1]))
    analyst.analyse(whole)
    with app.database.transaction() as session:
        session.get_one(Revision, whole).state = RevisionState.DONE
    assert expire_instances(app.store, app.database, timedelta(0), now=LATER) == 4
    arrive(app, study.files[-1:])
    with app.database.transaction() as session:
        late = session.scalars(select(Revision.id).where(Revision.id != whole)).one()
        close_revision(session, late, CloseReason.QUIET)
    analyst.analyse(late)
    words = "4 of the study's 5 instances were past their age and deleted"
    assert any(words in reason for reason in outcome(app, late).reasons)
    assert outcome(app, late).verdict not in ("CLEAR", "VERIFIED")
    assert not any("past their age" in reason for reason in outcome(app, whole).reasons)
    with app.database.reading() as session:
        (_, told) = session.scalars(select(LedgerRow.details).where(LedgerRow.event == "analysis-finished")).all()
    assert words in told


def test_an_outage_of_the_database_is_waited_for_and_counts_as_no_attempt(
    app: App,
    analyst: Analyst,
    closed: Callable[[SentStudy], int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patience, "RETRY_SECONDS", 0.01)
    revision = closed(make_study(tmp_path, edited=True))
    save, refusals = save_analysis, iter(range(5))

    def sometimes(*arguments: object, **named: object) -> object:
        if next(refusals, None) is not None:
            raise DatabaseUnavailable("away")
        return save(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(analysing, "save_analysis", sometimes)
    analyst.analyse(revision)
    with app.database.reading() as session:
        row = session.get_one(Revision, revision)
    assert (row.state, row.attempts) == (RevisionState.ANALYSED, 1)
    assert len(list((app.store.root / "analyses").iterdir())) == 6  # the sweep of orphans removes what no row names
