"""Studies that break decoders: they end in a reason, and the analysing process does not notice."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom import dcmread, dcmwrite

from gateway.app import App
from gateway.decoding import DecodingProcess
from gateway.pipeline.analysing import Analyst
from storage.analyses import analysis_of
from storage.studies import close_revision
from storage.tables import CloseReason, Revision
from tests.faults.modality import SentStudy, make_study
from tests.gateway.decoding.breaking import CRASHES, SWELLS
from tests.gateway.pipeline.conftest import arrive


@pytest.fixture
def url() -> None:
    """SQLite alone: nothing here depends on the database."""
    return


@pytest.fixture
def breaking(analyst: Analyst) -> Iterator[Analyst]:
    analyst.decoding = DecodingProcess(
        memory_limit=1 << 30, timeout=20, command=(sys.executable, "-m", "tests.gateway.decoding.breaking")
    )
    yield analyst
    analyst.decoding.close()


@pytest.fixture
def close(app: App) -> Callable[[SentStudy], int]:
    def arrived(study: SentStudy) -> int:
        arrive(app, study.files)
        with app.database.transaction() as session:
            revision = session.query(Revision.id).where(Revision.study_uid == study.study_uid).scalar()
            close_revision(session, revision, CloseReason.QUIET)
        return int(revision)

    return arrived


@pytest.mark.parametrize(("number", "says"), [(CRASHES, "its decoder crashed"), (SWELLS, "analysis.decoder_memory")])
def test_attack_a_study_that_breaks_the_decoder_is_abstained_from_and_costs_no_attempt(
    app: App, breaking: Analyst, close: Callable[[SentStudy], int], tmp_path: Path, number: int, says: str
) -> None:
    bad, sound = make_study(tmp_path, edited=True), make_study(tmp_path, edited=True, seed=1)
    for file in bad.files:
        dataset = dcmread(file)
        dataset.InstanceNumber = number
        dcmwrite(file, dataset, enforce_file_format=True)
    revisions = [close(bad), close(sound)]
    for revision in revisions:
        breaking.analyse(revision)
    with app.database.reading() as session:
        outcomes = [analysis_of(session, revision) for revision in revisions]
        attempts = [session.get_one(Revision, revision).attempts for revision in revisions]
    assert [outcome.verdict for outcome in outcomes] == ["ABSTAIN", "SUSPECT"]
    assert says in " ".join(outcomes[0].reasons)
    assert attempts == [1, 1]
