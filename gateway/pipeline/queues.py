"""The durable queues between the roles: everything that knows DBOS stands here.

Workflows are found by name, so that a process can enqueue what only another process can run. Their arguments and
results are JSON, never pickle: whoever can write to the database must not be able to run code in a worker.
"""

import logging
import re
import socket
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer, EnqueueOptions
from sqlalchemy import make_url

from config import Settings
from config.settings import Role
from gateway.pipeline.patience import patiently
from storage import workflow_database_url
from storage.deliveries import Turn

APPLICATION = "scanwarden"
# Workers only take workflows of their own version. It changes only when the order of steps does, never with a release,
# so that an upgraded worker finishes what its predecessor began.
WORKFLOW_VERSION = "1"

ANALYSE_QUEUE = "analyse"
# Has a partition for each destination, so that none takes the places of another.
DELIVER_QUEUE = "deliveries"
REVISION_WORKFLOW = "revision"
DELIVERY_WORKFLOW = "delivery"
VERIFICATION_WORKFLOW = "verification"

PRIORITIES = {"stat": 1, "routine": 10}
LAST_PRIORITY = 100  # re-verification: when no study waits
# Far above `analysis.attempts`, which decides about a study that keeps killing its process: this ends other loops.
MOST_STARTS = 1000
_WORKFLOW_IDS = re.compile(r"revision-(\d+)-(\d+)"), re.compile(r"deliver-(\d+)-.+-(\d+)-\d+")

P = ParamSpec("P")
R = TypeVar("R")


def executor_id(role: Role, index: int = 0, host: str | None = None) -> str:
    """The same after a restart, so that a process takes up its own unfinished workflows at once."""
    return f"{role.value}-{index}@{host or socket.gethostname()}"


def prepare(settings: Settings) -> None:
    """Create or upgrade DBOS's tables and declare the queues; once, before any role starts."""
    url = workflow_database_url(settings)
    quieten()
    DBOS.migrate(url)
    if url.startswith("sqlite"):
        _keep_a_write_ahead_log(url)
    with WorkQueues(settings) as queues:
        queues.declare(settings)


def _keep_a_write_ahead_log(url: str) -> None:
    """Readers stop waiting for writers; the mode is kept in the file."""
    with suppress(sqlite3.OperationalError):  # another process is in the file: it has done this
        connection = sqlite3.connect(make_url(url).database or "", timeout=30)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.close()


def quieten() -> None:
    """Leave DBOS's warnings and errors, send its advertising away."""
    logging.getLogger("dbos").setLevel(logging.WARNING)


@dataclass(frozen=True)
class Waiting:
    """How much of a queue is not finished."""

    waiting: int
    running: int
    delayed: int


class WorkQueues:
    """Puts work into the queues and looks into them; runs none of it."""

    def __init__(self, settings: Settings) -> None:
        self._client = DBOSClient(
            system_database_url=workflow_database_url(settings),
            serializer=DBOSPortableJSONSerializer(),
            application_name=APPLICATION,
        )

    def __enter__(self) -> "WorkQueues":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._client.destroy()

    def declare(self, settings: Settings) -> None:
        """Write the queues' limits where every worker reads them."""
        interval = settings.queues.polling_interval
        self._client.register_queue(ANALYSE_QUEUE, worker_concurrency=1, polling_interval_sec=interval)
        self._client.register_queue(
            DELIVER_QUEUE, partition_worker_concurrency=settings.queues.deliveries, polling_interval_sec=interval
        )

    def enqueue_revision(self, revision_id: int, priority: str, run: int = 0) -> None:
        """Ask for what a closed revision needs; a second request for the same `run` changes nothing."""
        options: EnqueueOptions = {
            "workflow_name": REVISION_WORKFLOW,
            "queue_name": ANALYSE_QUEUE,
            "workflow_id": f"revision-{revision_id}-{run}",
            "priority": PRIORITIES[priority],
            "app_version": WORKFLOW_VERSION,
        }
        self._client.enqueue(options, revision_id, run, priority)

    def enqueue_delivery(self, turn: Turn) -> None:
        """Ask for one attempt of what is due; a second request for the same turn changes nothing."""
        options = delivery_options(turn.revision_id, turn.destination, turn.run, turn.number, turn.priority)
        self._client.enqueue(options, turn.revision_id, turn.destination, turn.run, turn.number, turn.priority)

    def enqueue_verification(self, number: int) -> None:
        """Ask for the comparison of a fetched study; a second request for it changes nothing."""
        options: EnqueueOptions = {
            "workflow_name": VERIFICATION_WORKFLOW,
            "queue_name": ANALYSE_QUEUE,
            "workflow_id": f"verification-{number}",
            "priority": LAST_PRIORITY,
            "app_version": WORKFLOW_VERSION,
        }
        self._client.enqueue(options, number)

    def count(self, queue: str) -> Waiting:
        """What stands in `queue` now."""
        states = [status.status for status in self._client.list_queued_workflows(queue_name=queue, load_input=False)]
        return Waiting(states.count("ENQUEUED"), states.count("PENDING"), states.count("DELAYED"))

    def failed(self, limit: int = 1000) -> set[tuple[int, int]]:
        """Revisions, each with its run, that a workflow ended for with an error; nothing takes them up by itself."""
        found = self._client.list_workflows(
            status=["ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"], limit=limit, sort_desc=True, load_input=False
        )
        matches = (pattern.fullmatch(status.workflow_id) for status in found for pattern in _WORKFLOW_IDS)
        return {(int(match[1]), int(match[2])) for match in matches if match is not None}

    def adopt(self, executor_ids: Sequence[str]) -> list[str]:
        """Give the unfinished workflows of executors that are gone back to their queues; return their ids."""
        # DBOS offers this only to its conductor; a test in `test_queues.py` holds these two calls to what they do here.
        database = self._client._sys_db
        return [
            pending.workflow_id
            for executor in executor_ids
            for pending in database.get_pending_workflows(executor, WORKFLOW_VERSION)
            if database.reenqueue_for_recovery(pending.workflow_id, [executor], ANALYSE_QUEUE)
        ]


def delivery_options(revision_id: int, destination: str, run: int, number: int, priority: str) -> EnqueueOptions:
    """How one attempt of a delivery is enqueued; `number` tells the turns of a run apart."""
    return {
        "workflow_name": DELIVERY_WORKFLOW,
        "queue_name": DELIVER_QUEUE,
        "queue_partition_key": destination,
        "workflow_id": f"deliver-{revision_id}-{destination}-{run}-{number}",
        "priority": PRIORITIES[priority],
        "app_version": WORKFLOW_VERSION,
    }


class Worker:
    """Runs the workflows of some queues in this process until it is stopped."""

    def __init__(self, settings: Settings, executor: str, queues: Iterable[str]) -> None:
        quieten()
        DBOS(
            config={
                "name": APPLICATION,
                "system_database_url": workflow_database_url(settings),
                "serializer": DBOSPortableJSONSerializer(),
                "executor_id": executor,
                "application_version": WORKFLOW_VERSION,
                "run_migrations": False,
                "log_level": "WARNING",
            }
        )
        self._queues = list(queues)

    def workflow(self, name: str, function: Callable[..., None]) -> None:
        """Register what runs under `name`; before `start`."""
        DBOS.workflow(name=name, max_recovery_attempts=MOST_STARTS)(function)

    @staticmethod
    def step(name: str, function: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
        """Run a step of the workflow that runs here; once it has returned, a recovery does not run it again."""

        def once() -> R:
            return patiently(function, *arguments, **named)

        result: R = DBOS.run_step({"name": name}, once)
        return result

    @staticmethod
    def enqueue(options: EnqueueOptions, *arguments: str | int) -> None:
        """Put a workflow into a queue from inside another one."""
        DBOS.enqueue_workflow_with_options(options, *arguments)

    def start(self) -> None:
        """Take up this executor's unfinished workflows, then what waits in the queues."""
        DBOS.listen_queues(self._queues)
        DBOS.launch()

    def stop(self, patience: float) -> None:
        """Take nothing new, and wait up to `patience` seconds for what runs."""
        DBOS.destroy(workflow_completion_timeout_sec=int(patience), destroy_registry=True)
