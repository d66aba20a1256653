"""The timetable: one process at a time keeps it, a peer's silence is noticed, the ledger is looked at."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, text

from config import Settings
from gateway.app import App
from gateway.pipeline.keeping import LedgerKeeping
from gateway.pipeline.queues import WorkQueues
from gateway.pipeline.timetable import LEASE_SECONDS, SILENT_AFTER, Timetable
from storage.processes import beat, processes
from storage.studies import close_revision, finish_revision
from storage.tables import CloseReason, Instance, Lease, LedgerRow, Revision
from tests.faults.modality import make_study
from tests.gateway.pipeline.conftest import arrive


@pytest.fixture
def settings(configure: Callable[..., Settings]) -> Settings:
    return configure(retention={"instances": timedelta(days=1)})


@pytest.fixture
def work(app: App) -> Iterator[WorkQueues]:
    with WorkQueues(app.settings) as queues:
        yield queues


def test_two_machines_do_not_keep_the_timetable_at_once(app: App, work: WorkQueues) -> None:
    one, other = Timetable(app, work, "timetable-0@one"), Timetable(app, work, "timetable-0@other")
    one.hold()
    other.hold()
    assert (one.holds, other.holds) == (True, False)
    with app.database.transaction() as session:  # the first one fell silent
        lease = session.scalars(select(Lease)).one()
        lease.expires_at = datetime.now(UTC) - timedelta(seconds=LEASE_SECONDS)
    other.hold()
    one.hold()
    assert (one.holds, other.holds) == (False, True)


def test_who_restarts_keeps_the_timetable_without_waiting(app: App, work: WorkQueues) -> None:
    Timetable(app, work, "timetable-0@one").hold()
    again = Timetable(app, work, "timetable-0@one")
    again.hold()
    assert again.holds


def test_work_of_a_silent_process_is_given_away_at_the_second_look(app: App, work: WorkQueues) -> None:
    timetable = Timetable(app, work, "timetable-0@one")
    long_ago = datetime.now(UTC) - timedelta(seconds=2 * SILENT_AFTER)
    with app.database.transaction() as session:
        for name, moment in (("analyse-0@gone", long_ago), ("analyse-0@here", long_ago), ("deliver-0@here", None)):
            beat(session, name, role="analyse", host="h", pid=1, started_at=long_ago, now=moment)
    timetable.adopt()
    with app.database.transaction() as session:  # after an outage of the database, the living are heard again
        beat(session, "analyse-0@here", role="analyse", host="h", pid=1, started_at=long_ago)
    timetable.adopt()
    with app.database.reading() as session:
        assert [each.executor_id for each in processes(session)] == ["analyse-0@here", "deliver-0@here"]


def test_a_ledger_that_was_changed_is_called_broken(app: App, tmp_path: Path) -> None:
    arrive(app, make_study(tmp_path, edited=False).files)
    keeping = LedgerKeeping(app)
    keeping.verify()
    with app.database.transaction() as session:
        if app.database.is_sqlite:
            names = session.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).scalars().all()
            for name in names:
                session.execute(text(f'DROP TRIGGER "{name}"'))
        else:
            session.execute(text("ALTER TABLE ledger DISABLE TRIGGER USER"))
        session.execute(text("UPDATE ledger SET actor = 'somebody else' WHERE seq = 2"))
    keeping.verify()
    with app.database.reading() as session:
        events = session.scalars(select(LedgerRow.event).order_by(LedgerRow.seq)).all()
    assert events[-2:] == ["ledger-verified", "ledger-broken"]


def test_instances_past_their_age_are_deleted(app: App, work: WorkQueues, tmp_path: Path) -> None:
    study = make_study(tmp_path, edited=False)
    arrive(app, study.files, received_at=datetime.now(UTC) - timedelta(days=2))
    with app.database.transaction() as session:
        revision = session.scalars(select(Revision.id)).one()
        close_revision(session, revision, CloseReason.QUIET)
        finish_revision(session, revision, actor="scanwarden:test")
    Timetable(app, work, "timetable-0@one").retain()
    with app.database.reading() as session:
        paths = session.scalars(select(Instance.path)).all()
    assert len(paths) == 5
    assert not any(app.store.locate(path).exists() for path in paths)
