"""A patient's earlier studies: the right ones and no others, by hand and by rule, so many and no more."""

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import copy
from typing import Any

import pytest
from pydicom import dcmread
from sqlalchemy import select

from gateway.app import App
from gateway.dicom.query import StudyFound
from gateway.dicom.scu import Unreachable
from gateway.fetching import priors as finding
from gateway.fetching import questions
from gateway.fetching.background import PriorsByRule
from gateway.fetching.priors import NoPatient, find_priors
from gateway.fetching.questions import chosen_archive
from gateway.pipeline.routing import priority_of
from gateway.verification.archive import DicomArchive, keep_list
from storage import InstanceState
from storage.patients import KEY_FILE, patient_digest, patient_key
from storage.priors import is_prior
from storage.studies import close_revision
from storage.tables import (
    CloseReason,
    Instance,
    LedgerRow,
    Prior,
    PriorSearch,
    PriorState,
    Revision,
    RevisionState,
    SearchState,
    StudyPatient,
)
from tests.gateway.dicom.conftest import free_port
from tests.gateway.fetching.archives import destination, put, study, uid_of
from tests.peers import Orthanc
from tests.remembered import gateway, receive

NOON = datetime(2030, 3, 1, 12, 0, tzinfo=UTC)
RULES = [{"name": "compare", "when": {"modality": ["MR"]}, "priority": "stat", "priors": 3}]


class Shelf:
    """An archive that holds files by study, in the place of its network."""

    def __init__(self) -> None:
        self.studies: dict[str, list[Path]] = {}
        self.fetched: list[str] = []
        self.down = self.says_otherwise = False

    def add(self, files: list[Path]) -> str:
        self.studies[uid_of(files)] = files
        return uid_of(files)

    def found(self, keys: Any) -> list[StudyFound]:
        if self.down:
            raise Unreachable("pacs: no connection")
        listed = []
        for uid, files in self.studies.items():
            header = dcmread(files[0], stop_before_pixels=True)
            born = "19600102" if self.says_otherwise else str(header.PatientBirthDate)
            one = StudyFound(uid, str(header.StudyDate), "", "", str(header.PatientID), "", "", born, ("MR",))
            listed.append(one)
        return [each for each in listed if each.patient_id == keys["PatientID"]]

    def fetch(self, study_uid: str, folder: Path, *, pace: Callable[[], None], **_: Any) -> None:
        if self.down:
            raise Unreachable("pacs: no connection")
        self.fetched.append(study_uid)
        listed, files = {}, {}
        for number, file in enumerate(self.studies.get(study_uid, [])):
            pace()
            header = dcmread(file, stop_before_pixels=True)
            copy(file, folder / f"{number}.dcm")
            listed[str(header.SOPInstanceUID)] = str(header.SOPClassUID)
            files[str(header.SOPInstanceUID)] = f"{number}.dcm"
        keep_list(folder, listed, files)


class Night:
    """A gateway with rules, a shelf, and a clock."""

    def __init__(self, app: App, shelf: Shelf) -> None:
        self.app, self.shelf, self.now = app, shelf, NOON
        self.job = PriorsByRule(app, threading.Event(), now=lambda: self.now)

    def take(self, files: Sequence[Path]) -> str:
        """A study arrives and its revision is closed."""
        study_uid = receive(self.app, files)
        self.close(study_uid)
        return study_uid

    def close(self, study_uid: str) -> None:
        with self.app.database.transaction() as session:
            query = select(Revision).where(Revision.study_uid == study_uid, Revision.state == RevisionState.OPEN)
            revision = session.scalars(query).one()
            closed = close_revision(session, revision.id, CloseReason.QUIET, now=self.now)
            assert closed is not None
            closed.priority = priority_of(self.app, session, closed) or closed.priority

    def turns(self, count: int = 8, minutes: float = 1) -> None:
        for _ in range(count):
            self.job()
            self.now += timedelta(minutes=minutes)

    def rows(self, table: Any) -> list[Any]:
        with self.app.database.reading() as session:
            return list(session.scalars(select(table)))

    def priors(self) -> dict[str, PriorState]:
        return {each.prior_uid: each.state for each in self.rows(Prior)}


def a_night(folder: Path, monkeypatch: pytest.MonkeyPatch, **limits: int) -> Iterator[Night]:
    shelf = Shelf()

    class Asked:
        def studies(self, keys: Any) -> list[StudyFound]:
            return shelf.found(keys)

        def with_series(self, found: StudyFound) -> StudyFound:
            return found

    monkeypatch.setattr(questions, "questions_to", lambda *_: Asked())
    monkeypatch.setattr(finding, "questions_to", lambda *_: Asked())
    monkeypatch.setattr(DicomArchive, "fetch", lambda _, *arguments, **named: shelf.fetch(*arguments, **named))
    settings: dict[str, Any] = {
        "destinations": [destination(104)],
        "verification": {"instances_per_second": 10000},
        "priors": {"archive": "pacs", **limits},
        "rules": RULES,
    }
    with gateway(folder, **settings) as app:
        yield Night(app, shelf)


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Night]:
    yield from a_night(tmp_path, monkeypatch, **getattr(request, "param", {}))


def years(folder: Path, shelf: Shelf, count: int, **elements: Any) -> list[str]:
    """Earlier studies on the shelf, the newest first."""
    whose = elements.get("PatientID", "")
    return [
        shelf.add(study(folder / f"{100 + n}-{whose}", 100 + n, StudyDate=f"{2020 - n}0101", **elements))
        for n in range(count)
    ]


@pytest.mark.peers
def test_earlier_studies_of_the_very_patient_the_like_ones_first(
    at_orthanc: App, orthanc: Orthanc, tmp_path: Path
) -> None:
    def one(seed: int, **elements: Any) -> str:
        files = study(tmp_path / str(seed), seed, **{"PatientID": "P-MANY", **elements})
        put(orthanc.dicom_port, files)
        return uid_of(files)

    old_head = one(20, StudyDate="20190101")
    new_knee = one(21, StudyDate="20220101", BodyPartExamined="KNEE")
    new_head = one(22, StudyDate="20210101")
    one(23, StudyDate="20200101", PatientBirthDate="19600103")
    one(24, StudyDate="20400101")
    one(25, StudyDate="20200101", PatientID="P-MANY2")
    study_uid = receive(at_orthanc, study(tmp_path / "now", 26, PatientID="P-MANY", StudyDate="20260101"))
    found = find_priors(at_orthanc, chosen_archive(at_orthanc.settings), study_uid, actor="user:ada")
    assert [each.study_uid for each in found.studies] == [new_head, old_head, new_knee]
    assert found.left_out == {"another birth date": 1, "not earlier": 1}
    assert found.studies[0].body_parts == ("BRAIN",)


@pytest.mark.parametrize("elements", [{"PatientBirthDate": ""}, {"PatientID": ""}, {"PatientIdentityRemoved": "YES"}])
def test_nothing_is_guessed_of_somebody_who_is_not_named(
    night: Night, tmp_path: Path, elements: dict[str, Any]
) -> None:
    years(tmp_path, night.shelf, 1, **elements)
    study_uid = night.take(study(tmp_path / "now", 1, StudyDate="20260101", **elements))
    with pytest.raises(NoPatient, match="names no patient"):
        find_priors(night.app, chosen_archive(night.app.settings), study_uid, actor="user:ada")
    night.turns()
    assert (night.shelf.fetched, night.rows(StudyPatient)) == ([], [])
    assert [each.state for each in night.rows(PriorSearch)] == [SearchState.DONE]


def test_a_rule_fetches_the_newest_priors_as_routine_and_they_ask_for_none(night: Night, tmp_path: Path) -> None:
    earlier = years(tmp_path, night.shelf, 5)
    current = night.take(study(tmp_path / "now", 1, StudyDate="20260101"))
    night.turns()
    assert night.shelf.fetched == earlier[:3]
    assert night.priors() == dict.fromkeys(earlier[:3], PriorState.FETCHED)
    for uid in earlier[:3]:
        night.close(uid)
    night.turns()
    assert night.shelf.fetched == earlier[:3], "a prior asks for its own priors"
    priorities = {each.study_uid: each.priority.value for each in night.rows(Revision)}
    assert priorities == {current: "stat", **dict.fromkeys(earlier[:3], "routine")}
    with night.app.database.reading() as session:
        assert [is_prior(session, uid) for uid in (current, *earlier[:4])] == [False, True, True, True, False]
    text = "".join(f"{row.details}{row.subject}" for row in night.rows(LedgerRow))
    assert "P-1" not in text
    assert "19600102" not in text
    assert night.app.ledger.verify().intact


def test_a_study_that_no_rule_asks_for_has_no_priors_fetched(night: Night, tmp_path: Path) -> None:
    years(tmp_path, night.shelf, 2)
    night.take(study(tmp_path / "now", 1, StudyDate="20260101", Modality="CT"))
    night.turns()
    assert (night.shelf.fetched, [each.state for each in night.rows(PriorSearch)]) == ([], [SearchState.NONE])


def test_a_second_revision_asks_for_nothing_again(night: Night, tmp_path: Path) -> None:
    years(tmp_path, night.shelf, 1)
    files = study(tmp_path / "now", 1, slices=3, StudyDate="20260101")
    night.take(files[:2])
    night.turns()
    night.take(files[2:])
    night.turns()
    assert len(night.shelf.fetched) == 1
    assert sorted(each.state for each in night.rows(PriorSearch)) == [SearchState.DONE, SearchState.NONE]


@pytest.mark.parametrize("night", [{"studies_per_hour": 2}], indirect=True)
def test_no_more_priors_than_the_hour_allows(night: Night, tmp_path: Path) -> None:
    years(tmp_path, night.shelf, 3)
    years(tmp_path, night.shelf, 3, PatientID="P-2")
    night.take(study(tmp_path / "now", 1, StudyDate="20260101"))
    night.take(study(tmp_path / "too", 2, StudyDate="20260101", PatientID="P-2"))
    night.turns(50)
    assert len(night.shelf.fetched) == 2
    night.turns(60)
    assert len(night.shelf.fetched) == 4


@pytest.mark.parametrize("night", [{"per_patient": 2}], indirect=True)
def test_no_more_priors_of_a_patient_than_the_day_allows(night: Night, tmp_path: Path) -> None:
    years(tmp_path, night.shelf, 4)
    years(tmp_path, night.shelf, 2, PatientID="P-2")
    for n in range(3):
        night.take(study(tmp_path / f"now{n}", n, StudyDate=f"2026010{n + 1}"))
    night.take(study(tmp_path / "too", 7, StudyDate="20260101", PatientID="P-2"))
    night.turns(30)
    assert len(night.shelf.fetched) == 4
    assert any("priors.per_patient" in (each.failure or "") for each in night.rows(PriorSearch))


def test_an_archive_that_is_down_is_asked_again_and_less_often(night: Night, tmp_path: Path) -> None:
    (prior,) = years(tmp_path, night.shelf, 1)
    night.shelf.down = True
    night.take(study(tmp_path / "now", 1, StudyDate="20260101"))
    night.turns(20)
    assert [each.attempts for each in night.rows(PriorSearch)] == [5]
    night.shelf.down = False
    night.turns(20)
    assert night.priors() == {prior: PriorState.FETCHED}


@pytest.mark.parametrize("night", [{"attempts": 2}], indirect=True)
def test_a_prior_that_does_not_come_is_given_up_and_stays_marked(
    night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (prior,) = years(tmp_path, night.shelf, 1)
    night.take(study(tmp_path / "now", 1, StudyDate="20260101"))
    files, night.shelf.studies[prior] = night.shelf.studies[prior], []
    assert files
    listed = StudyFound(prior, "20200101", patient_id="P-1", birth_date="19600102")
    monkeypatch.setattr(night.shelf, "found", lambda _: [listed])
    night.turns(10)
    assert night.priors() == {prior: PriorState.DEAD}
    with night.app.database.reading() as session:
        assert is_prior(session, prior)


def test_what_comes_is_of_the_patient_or_nothing_of_it_enters(night: Night, tmp_path: Path) -> None:
    """The archive lists one birth date, and the headers hold another."""
    night.shelf.says_otherwise = True
    (prior,) = years(tmp_path, night.shelf, 1, PatientBirthDate="19991231")
    current = night.take(study(tmp_path / "now", 1, StudyDate="20260101"))
    night.turns(3)
    assert night.priors() == {prior: PriorState.REFUSED}
    assert {each.study_uid for each in night.rows(Instance)} == {current}


def test_a_crash_after_the_fetch_repeats_it_and_doubles_nothing(
    night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (prior,) = years(tmp_path, night.shelf, 1)
    night.take(study(tmp_path / "now", 1, StudyDate="20260101"))

    class Killed(BaseException):
        pass

    def dies(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("gateway.fetching.background.finish_prior", dies)
        with pytest.raises(Killed):
            night.job()
    with night.app.database.reading() as session:
        assert is_prior(session, prior), "it is marked before it is known to be whole"
    night.turns(2)
    assert night.shelf.fetched == [prior, prior]
    arrived = [each for each in night.rows(Instance) if each.study_uid == prior]
    assert [(each.state, each.repeats) for each in arrived] == [(InstanceState.STORED, 1)] * 2


def test_who_has_the_database_alone_cannot_try_patients_on_it(night: Night, tmp_path: Path) -> None:
    root = night.app.store.root
    key = patient_key(root)
    assert key == patient_key(root)
    assert (root / KEY_FILE).stat().st_mode & 0o077 == 0
    digest = patient_digest(key, "P-1", "", "19600102")
    assert digest == patient_digest(key, " P-1", "", "19600102 ")
    others = {patient_digest(key, "P-1", "X", "19600102"), patient_digest(bytes(32), "P-1", "", "19600102")}
    assert digest not in others
    assert patient_digest(key, "P-1", "", "") is None


def test_a_dead_archive_costs_a_reason_and_nothing_else(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"destinations": [destination(free_port(), timeout=2)], "rules": RULES}
    with gateway(tmp_path, **settings) as app:
        night = Night(app, Shelf())
        night.take(study(tmp_path / "now", 1, StudyDate="20260101"))
        night.turns(1)
        (search,) = night.rows(PriorSearch)
        assert (search.state, search.attempts) == (SearchState.WAITING, 1)
        assert "no connection" in (search.failure or "")
