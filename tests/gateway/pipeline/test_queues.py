"""The durable queues: order, repetition, and what becomes of work whose process is gone."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy

from config import Settings
from config.settings import Role
from gateway.app import App
from gateway.handover import hand_down
from gateway.pipeline import queues
from storage import workflow_database_url
from tests.faults.harness import wait_for


@pytest.fixture
def work(app: App) -> Iterator[queues.WorkQueues]:
    with queues.WorkQueues(app.settings) as open_queues:
        yield open_queues


@contextmanager
def noting(settings: Settings) -> Iterator[list[int]]:
    """A worker that notes which revisions it was given."""
    order: list[int] = []

    def note(revision_id: int, run: int, priority: str) -> None:
        order.append(revision_id)

    worker = queues.Worker(settings, queues.executor_id(Role.ANALYSE), [queues.ANALYSE_QUEUE])
    worker.workflow(queues.REVISION_WORKFLOW, note)
    worker.start()
    try:
        yield order
    finally:
        worker.stop(0)


def test_stat_overtakes_routine_that_waits(app: App, work: queues.WorkQueues) -> None:
    for revision, priority in ((1, "routine"), (2, "routine"), (3, "stat")):
        work.enqueue_revision(revision, priority)
    with noting(app.settings) as order:
        wait_for(lambda: len(order) == 3, 20, "three revisions run")
    assert order == [3, 1, 2]


def test_asking_twice_runs_once_and_a_retry_runs_again(app: App, work: queues.WorkQueues) -> None:
    with noting(app.settings) as order:
        for revision, run in ((7, 0), (7, 0), (8, 0), (7, 0), (7, 1), (9, 0)):
            work.enqueue_revision(revision, "routine", run)
        wait_for(lambda: 9 in order, 20, "all revisions run")
    assert order == [7, 8, 7, 9]


UNFINISHED = """
import sys, time
from gateway.handover import take_over
from gateway.pipeline import queues
worker = queues.Worker(take_over(sys.argv[1]), "analyse-0@gone", [queues.ANALYSE_QUEUE])
def hang(revision_id: int, run: int, priority: str) -> None:
    print("begun", flush=True)
    time.sleep(60)
worker.workflow(queues.REVISION_WORKFLOW, hang)
worker.start()
time.sleep(60)
"""


def test_a_peer_takes_up_what_a_dead_executor_began(app: App, work: queues.WorkQueues) -> None:
    """Also the contract with the two calls of DBOS's database that `adopt` makes."""
    work.enqueue_revision(1, "routine")
    arguments = [sys.executable, "-c", UNFINISHED, hand_down(app.settings)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as dying:
        assert dying.stdout is not None
        assert dying.stdout.readline() == b"begun\n"
        dying.kill()
    with noting(app.settings) as order:
        work.enqueue_revision(2, "routine")
        wait_for(lambda: order == [2], 20, "the peer works")
        # its own is done; the dead one's goes on running, for nobody has noticed
        wait_for(lambda: work.count(queues.ANALYSE_QUEUE).running == 1, 20, "the peer's own is ended")
        assert work.adopt(["analyse-0@gone"]) == ["revision-1-0"]
        assert work.adopt(["analyse-0@gone"]) == []
        wait_for(lambda: order == [2, 1], 20, "the peer takes it up")


def test_a_workflow_that_broke_is_known_by_its_revision_and_run(app: App, work: queues.WorkQueues) -> None:
    def broken(revision_id: int, run: int, priority: str) -> None:
        raise KeyError(revision_id)

    worker = queues.Worker(app.settings, queues.executor_id(Role.ANALYSE), [queues.ANALYSE_QUEUE])
    worker.workflow(queues.REVISION_WORKFLOW, broken)
    worker.start()
    try:
        work.enqueue_revision(5, "routine", run=2)
        wait_for(lambda: work.failed() == {(5, 2)}, 20, "the workflow breaks")
    finally:
        worker.stop(0)


def test_nothing_in_the_workflow_database_is_pickled(app: App, work: queues.WorkQueues) -> None:
    work.enqueue_revision(1, "routine")
    with noting(app.settings) as order:
        wait_for(lambda: order == [1], 20, "a revision runs")
    engine = sqlalchemy.create_engine(workflow_database_url(app.settings))
    table = "workflow_status" if engine.dialect.name == "sqlite" else "dbos.workflow_status"
    with engine.connect() as connection:
        rows = connection.execute(sqlalchemy.text(f"SELECT inputs, output FROM {table}")).all()  # noqa: S608
    engine.dispose()
    assert rows
    for text in (text for row in rows for text in row if text is not None):
        json.loads(text)
