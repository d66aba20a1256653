"""What a report says of the patient's other studies, and that it says it of nobody else's."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from gateway.app import App
from gateway.pipeline import analysing
from gateway.pipeline.analysing import Analyst
from gateway.pipeline.related import PRIORS_KNOWN
from inference.findings import Severity, StudyAnalysis
from storage.patients import KEY_FILE
from storage.priors import last_verdict
from storage.tables import Analysis
from tests.faults.service import bright_pixels
from tests.gateway.fetching.archives import study
from tests.gateway.pipeline.test_first_seen import closed
from tests.remembered import gateway, receive


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    with gateway(tmp_path) as opened:
        yield opened


@pytest.fixture
def analyst(app: App, monkeypatch: pytest.MonkeyPatch) -> Iterator[Analyst]:
    monkeypatch.setattr(analysing, "detectors_for", lambda *_, **__: (bright_pixels(),))
    monkeypatch.setattr(analysing, "image_model_for", lambda *_, **__: None)
    made = Analyst(app)
    yield made
    made.decoding.close()


def told(app: App, analyst: Analyst, files: list[Path]) -> tuple[str, list[str]]:
    """A study arrives and is analysed: its UID, and what its analysis says of prior studies."""
    study_uid = receive(app, files)
    revision = closed(app, study_uid)
    analyst.analyse(revision)
    with app.database.reading() as session:
        path = session.scalars(select(Analysis.path).where(Analysis.revision_id == revision)).one()
    analysis = StudyAnalysis.load(app.store.locate(str(path)))
    observed = [each for each in analysis.observations if each.rule == PRIORS_KNOWN]
    assert all(each.severity is Severity.INFO for each in observed)
    return study_uid, [each.text for each in observed]


def test_a_report_names_the_prior_studies_that_are_here_with_their_verdicts(
    app: App, analyst: Analyst, tmp_path: Path
) -> None:
    before, nothing = told(app, analyst, study(tmp_path / "before", 1))
    _, of_a_stranger = told(app, analyst, study(tmp_path / "stranger", 2, PatientID="P-2"))
    _, of_a_namesake = told(app, analyst, study(tmp_path / "namesake", 3, PatientBirthDate="19600103"))
    _, sentences = told(app, analyst, study(tmp_path / "now", 4))
    assert (nothing, of_a_stranger, of_a_namesake) == ([], [], [])
    with app.database.reading() as session:
        verdict = last_verdict(session, before)
    assert verdict is not None
    assert sentences == [f"One prior study of this patient known here: {before} ({verdict})."]


def test_a_key_that_is_damaged_costs_the_sentence_and_no_analysis(app: App, analyst: Analyst, tmp_path: Path) -> None:
    told(app, analyst, study(tmp_path / "before", 1))
    assert told(app, analyst, study(tmp_path / "between", 3))[1] != []
    (app.store.root / KEY_FILE).write_bytes(b"short")
    assert told(app, analyst, study(tmp_path / "now", 2))[1] == []
