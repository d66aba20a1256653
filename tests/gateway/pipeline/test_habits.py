"""The service learns what each scanner always writes, from studies that nothing speaks against, each of them once."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread
from sqlalchemy import select, update

from gateway.app import App
from gateway.pipeline import habits
from gateway.pipeline.analysing import Analyst
from gateway.pipeline.habits import devices_of, learn, teaches
from inference.findings import Observation, Severity, StudyAnalysis, Verdict
from storage.analyses import analysis_of
from storage.studies import close_revision
from storage.tables import CloseReason, DeviceBaseline, Lesson, Revision, RevisionState
from tests.faults.modality import SentStudy, add_slices, make_study
from tests.gateway.pipeline.conftest import arrive

ENOUGH = 8  # studies that the rule asks for
RULE = "private-block-missing"


@pytest.fixture
def url() -> None:
    """SQLite alone: storage's own tests hold both databases to the same contract."""
    return


def of_scanner(study: SentStudy, *, block: bool = True, serial: str = "4711") -> SentStudy:
    """The study as one scanner writes it, with its private block or without."""
    for file in study.files:
        dataset = dcmread(file)
        dataset.DeviceSerialNumber = serial
        if block:
            dataset.private_block(0x0029, "PHANTOM HEADER", create=True).add_new(1, "LO", "protocol")
        dataset.save_as(file)
    return study


@pytest.fixture
def sent(app: App, analyst: Analyst, tmp_path: Path) -> Callable[..., tuple[str, set[str]]]:
    """Sends a study through reception and analysis; its verdict and the rules that spoke."""

    def send(*, block: bool = True, edited: bool = False, serial: str = "4711") -> tuple[str, set[str]]:
        study = of_scanner(make_study(tmp_path, edited=edited, slices=3), block=block, serial=serial)
        return outcome(app, analysed(app, analyst, study))

    return send


def analysed(app: App, analyst: Analyst, study: SentStudy) -> int:
    arrive(app, [file for file in study.files if file.is_file()])
    with app.database.transaction() as session:
        query = select(Revision.id).where(Revision.study_uid == study.study_uid, Revision.state == RevisionState.OPEN)
        revision = session.scalars(query).one()
        close_revision(session, revision, CloseReason.QUIET)
    analyst.analyse(revision)
    return revision


def outcome(app: App, revision: int) -> tuple[str, set[str]]:
    with app.database.reading() as session:
        found = analysis_of(session, revision)
    assert found.verdict is not None
    assert found.path is not None
    written = json.loads((app.store.locate(found.path) / "analysis.json").read_text())
    return found.verdict, {each["rule"] for each in written["observations"]}


def learnt(app: App) -> int:
    with app.database.reading() as session:
        return sum(session.scalars(select(DeviceBaseline.studies)))


def test_a_block_that_the_scanner_always_wrote_is_missed(app: App, sent: Callable[..., tuple[str, set[str]]]) -> None:
    for _ in range(ENOUGH):
        verdict, rules = sent()
        assert verdict == "CLEAR"
        assert RULE not in rules
    assert sent(block=False)[0] == "REVIEW"
    assert RULE in sent(block=False)[1]  # again: the study before has not taught that this is normal
    assert learnt(app) == ENOUGH


def test_an_untouched_twin_stays_quiet(sent: Callable[..., tuple[str, set[str]]]) -> None:
    for _ in range(ENOUGH):
        sent()
    assert sent() == ("CLEAR", sent()[1] - {RULE})
    assert RULE not in sent(block=False, serial="another scanner")[1]


def test_a_few_studies_are_no_habit(sent: Callable[..., tuple[str, set[str]]]) -> None:
    for _ in range(ENOUGH - 1):
        sent()
    verdict, rules = sent(block=False)
    assert verdict == "CLEAR"
    assert RULE not in rules


def test_a_suspect_study_teaches_nothing(app: App, sent: Callable[..., tuple[str, set[str]]]) -> None:
    for _ in range(ENOUGH):
        assert sent(edited=True)[0] == "SUSPECT"
    assert learnt(app) == 0
    assert RULE not in sent(block=False)[1]


@pytest.mark.parametrize(
    ("verdict", "severity", "may"),
    [
        (Verdict.CLEAR, Severity.INFO, True),
        (Verdict.VERIFIED, Severity.INFO, True),
        (Verdict.ABSTAIN, Severity.INFO, True),
        (Verdict.ABSTAIN, Severity.WARNING, False),
        (Verdict.ABSTAIN, Severity.INCIDENT, False),
        (Verdict.REVIEW, Severity.INFO, False),
        (Verdict.SUSPECT, Severity.INFO, False),
    ],
)
def test_only_what_nothing_speaks_against_teaches(verdict: Verdict, severity: Severity, may: bool) -> None:
    observation = Observation("rule", severity, "text")
    analysis = StudyAnalysis("1.2", verdict, 0.1, reasons=(), observations=(observation,))
    assert teaches(analysis) is may


def test_a_step_that_is_repeated_counts_once(app: App, analyst: Analyst, tmp_path: Path) -> None:
    study = of_scanner(make_study(tmp_path, edited=False, slices=3))
    revision = analysed(app, analyst, study)
    with app.database.transaction() as session:  # as after a crash, and as after `scanwarden retry`
        session.execute(update(Revision).where(Revision.id == revision).values(state=RevisionState.CLOSED))
    analyst.analyse(revision)
    with app.database.transaction() as session:
        path = analysis_of(session, revision).path
        assert path is not None
        learn(session, StudyAnalysis.load(app.store.locate(path)), devices_of(study.files))
    assert learnt(app) == 1
    with app.database.reading() as session:
        (row,) = session.scalars(select(DeviceBaseline))
    assert set(row.baseline["studies"].values()) == {1}


def test_a_further_revision_is_no_further_study(app: App, analyst: Analyst, tmp_path: Path) -> None:
    study = of_scanner(make_study(tmp_path, edited=False, slices=3))
    analysed(app, analyst, study)
    later = of_scanner(add_slices(study, 2))
    localiser = dcmread(later.files[0])
    localiser.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    localiser.save_as(later.files[0])
    analysed(app, analyst, later)
    assert learnt(app) == 1
    with app.database.reading() as session:
        (row,) = session.scalars(select(DeviceBaseline))
        (lesson,) = session.scalars(select(Lesson))
    assert set(row.baseline["studies"].values()) == {1}
    assert set(row.baseline["studies"]) == set(lesson.kinds)
    assert len(lesson.kinds) == 2


def test_a_baseline_that_cannot_be_read_is_learnt_anew(app: App, sent: Callable[..., tuple[str, set[str]]]) -> None:
    sent()
    sent()
    with app.database.transaction() as session:
        session.execute(update(DeviceBaseline).values(baseline={"version": 99}))
    assert sent()[0] == "CLEAR"
    assert learnt(app) == 1


def test_a_study_that_invents_scanners_teaches_nothing(app: App, tmp_path: Path) -> None:
    study = of_scanner(make_study(tmp_path, edited=False, slices=1))
    (members,) = devices_of(study.files).values()
    analysis = StudyAnalysis(study.study_uid, Verdict.CLEAR, 0.1, reasons=())
    arrive(app, study.files)
    invented = {str(number): [replace(members[0])] for number in range(habits._MOST_DEVICES + 1)}
    with app.database.transaction() as session:
        learn(session, analysis, invented)
    assert learnt(app) == 0


def test_no_serial_number_is_kept(app: App, sent: Callable[..., tuple[str, set[str]]]) -> None:
    sent(serial="SERIAL-4711")
    with app.database.reading() as session:
        (row,) = session.scalars(select(DeviceBaseline))
    assert "SERIAL" not in row.device + json.dumps(row.baseline)
