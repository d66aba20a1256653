"""The durable workflows: one carries a revision from analysis to planned deliveries, one is one attempt to deliver.

An attempt that failed neither sleeps nor asks for the next one: it writes down when the delivery is due again, and the
sweep (`gateway/pipeline/dispatch.py`) asks for what is due.
"""

import traceback

import structlog
from dbos._error import DBOSException

from gateway.app import App
from gateway.pipeline.analysing import Analyst
from gateway.pipeline.delivery import Courier
from gateway.pipeline.encoding import Encoder
from gateway.pipeline.patience import patiently
from gateway.pipeline.points import Point, reached
from gateway.pipeline.queues import (
    DELIVERY_WORKFLOW,
    REVISION_WORKFLOW,
    VERIFICATION_WORKFLOW,
    Worker,
    delivery_options,
)
from gateway.verification.compare import Elsewhere
from gateway.verification.sampling import compare_or_fail
from storage.studies import fail_revision

log = structlog.get_logger(__name__)

_ACTOR = "scanwarden:analyse"


def register_revisions(worker: Worker, app: App, analyst: Analyst) -> None:
    """Let `worker` run the workflow of a revision."""
    encoder, courier = Encoder(app, analyst.decoding), Courier(app)

    def revision(revision_id: int, run: int, priority: str) -> None:
        try:
            worker.step("analyse", analyst.analyse, revision_id)
            worker.step("encode", encoder.encode, revision_id)
            # At once, and not with the next sweep, which asks for the same turns by the same names.
            for destination, number in worker.step("plan", courier.plan, revision_id):
                options = delivery_options(revision_id, destination, run, number, priority)
                worker.enqueue(options, revision_id, destination, run, number, priority)
            reached(Point.DELIVERIES_ENQUEUED)
        except DBOSException:
            raise  # the workflow engine's own; the sweep notices (`RevisionSweep.give_up_failed`)
        except Exception as error:  # noqa: BLE001 - a defect of ours must end in a state that somebody sees
            _give_up(app, revision_id, error)

    worker.workflow(REVISION_WORKFLOW, revision)


def register_verifications(worker: Worker, app: App, elsewhere: Elsewhere | None = None) -> None:
    """Let `worker` run the comparisons that need decoding, which `elsewhere` does in place of this process."""

    def verification(number: int) -> None:
        try:
            worker.step("compare", compare_or_fail, app, number, elsewhere)
        except DBOSException:
            raise
        except Exception as error:  # noqa: BLE001 - the timetable closes what stays open, and tries the study again
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}"
            log.error("a verification failed", verification=number, error=type(error).__name__, where=where)  # noqa: TRY400

    worker.workflow(VERIFICATION_WORKFLOW, verification)


def register_deliveries(worker: Worker, app: App) -> None:
    """Let `worker` run the attempts to deliver."""
    courier = Courier(app)

    def delivery(revision_id: int, destination: str, run: int, number: int, priority: str) -> None:  # noqa: ARG001 - one signature for all that was ever enqueued
        try:
            worker.step("attempt", courier.attempt, revision_id, destination)
        except DBOSException:
            raise
        except Exception as error:  # noqa: BLE001
            _give_up(app, revision_id, error)

    worker.workflow(DELIVERY_WORKFLOW, delivery)


def _give_up(app: App, revision_id: int, error: Exception) -> None:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    name, where = type(error).__name__, f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}"
    log.error(
        "a revision is given up; `scanwarden retry` starts it again", revision=revision_id, error=name, where=where
    )
    patiently(_fail, app, revision_id, f"{name} at {where}")


def _fail(app: App, revision_id: int, failure: str) -> None:
    with app.database.transaction() as session:
        fail_revision(session, revision_id, failure, actor=_ACTOR)
