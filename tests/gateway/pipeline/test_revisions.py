"""The sweep: what it closes, and that what is closed is asked for, whatever happened in between."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from config import Settings
from gateway.app import App
from gateway.pipeline.revisions import RevisionSweep
from storage import Priority
from storage.studies import retry_revision
from storage.tables import CloseReason, Revision, RevisionState
from tests.faults.modality import add_slices, make_study
from tests.gateway.pipeline.conftest import arrive

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LONG_AGO = NOON - timedelta(days=1)


class RecordingQueues:
    """Remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, str, int]] = []
        self.broken: set[tuple[int, int]] = set()

    def enqueue_revision(self, revision_id: int, priority: str, run: int = 0) -> None:
        self.asked.append((revision_id, priority, run))

    def failed(self) -> set[tuple[int, int]]:
        return self.broken


@pytest.fixture
def settings(configure: Callable[..., Settings]) -> Settings:
    return configure(revisions={"quiet_period": 60, "hard_limit": 600})


@pytest.fixture
def asked() -> RecordingQueues:
    return RecordingQueues()


@pytest.fixture
def sweep(app: App, asked: RecordingQueues) -> RevisionSweep:
    return RevisionSweep(app.database, asked, app.settings.revisions, started_at=LONG_AGO)  # type: ignore[arg-type]


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def revisions(app: App) -> list[Revision]:
    with app.database.reading() as session:
        return list(session.scalars(select(Revision).order_by(Revision.id)))


def test_a_study_is_taken_after_the_quiet_period_and_not_before(
    app: App, sweep: RevisionSweep, asked: RecordingQueues, tmp_path: Path
) -> None:
    arrive(app, make_study(tmp_path, edited=False).files, received_at=NOON)
    sweep(at(59))
    assert asked.asked == []
    sweep(at(61))
    [revision] = revisions(app)
    assert (revision.state, revision.close_reason) == (RevisionState.CLOSED, CloseReason.QUIET)
    assert asked.asked == [(revision.id, "routine", 0)]


def test_an_expected_number_of_instances_closes_at_once(app: App, sweep: RevisionSweep, tmp_path: Path) -> None:
    arrive(app, make_study(tmp_path, edited=False, slices=5).files, received_at=NOON, expected_instances=5)
    sweep(at(0))
    assert revisions(app)[0].close_reason is CloseReason.EXPECTED


def test_a_sender_that_never_pauses_is_cut_at_the_hard_limit(app: App, sweep: RevisionSweep, tmp_path: Path) -> None:
    study = make_study(tmp_path, edited=False, slices=3)
    arrive(app, study.files[:1], received_at=NOON)
    arrive(app, study.files[1:], received_at=at(590))
    sweep(at(599))
    assert revisions(app)[0].state is RevisionState.OPEN
    sweep(at(601))
    assert revisions(app)[0].close_reason is CloseReason.LIMIT


def test_what_arrives_late_opens_the_next_revision_which_knows_its_predecessor(
    app: App, sweep: RevisionSweep, asked: RecordingQueues, tmp_path: Path
) -> None:
    study = make_study(tmp_path, edited=False)
    arrive(app, study.files, received_at=NOON)
    sweep(at(61))
    arrive(app, add_slices(study, 2).files, received_at=at(100))
    sweep(at(161))
    first, second = revisions(app)
    assert (second.number, second.predecessor_id, second.state) == (2, first.id, RevisionState.CLOSED)
    assert [each[0] for each in asked.asked] == [first.id, second.id]


def test_after_a_restart_senders_get_a_quiet_period_to_go_on(app: App, asked: RecordingQueues, tmp_path: Path) -> None:
    arrive(app, make_study(tmp_path, edited=False).files, received_at=NOON)
    restarted = RevisionSweep(app.database, asked, app.settings.revisions, started_at=at(3600))  # type: ignore[arg-type]
    restarted(at(3601))
    assert revisions(app)[0].state is RevisionState.OPEN
    restarted(at(3661))
    assert revisions(app)[0].state is RevisionState.CLOSED


def test_a_crash_between_closing_and_asking_is_made_good(
    app: App, sweep: RevisionSweep, asked: RecordingQueues, tmp_path: Path
) -> None:
    arrive(app, make_study(tmp_path, edited=False).files, received_at=NOON)
    sweep.close(at(61))
    assert asked.asked == []
    after_the_crash = RevisionSweep(app.database, asked, app.settings.revisions, started_at=at(62))  # type: ignore[arg-type]
    after_the_crash(at(63))
    assert len(asked.asked) == 1


def test_stat_is_asked_for_first(app: App, sweep: RevisionSweep, asked: RecordingQueues, tmp_path: Path) -> None:
    for priority in (Priority.ROUTINE, Priority.STAT):
        arrive(app, make_study(tmp_path, edited=False).files, received_at=NOON, priority=priority)
    sweep(at(61))
    assert [priority for _, priority, _ in asked.asked] == ["stat", "routine"]


def test_a_revision_whose_workflow_broke_is_given_up_and_a_retry_asks_again(
    app: App, sweep: RevisionSweep, asked: RecordingQueues, tmp_path: Path
) -> None:
    arrive(app, make_study(tmp_path, edited=False).files, received_at=NOON)
    sweep(at(61))
    [revision] = revisions(app)
    asked.broken.add((revision.id, 0))
    sweep.give_up_failed()
    [revision] = revisions(app)
    assert revision.state is RevisionState.FAILED
    with app.database.transaction() as session:
        retry_revision(session, revision.id, actor="user:test")
    sweep(at(62))
    sweep.give_up_failed()
    assert asked.asked[-1] == (revision.id, "routine", 1)
    assert revisions(app)[0].state is RevisionState.CLOSED
