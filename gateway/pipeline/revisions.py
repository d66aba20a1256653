"""The sweep: closes the revisions that are due and sees that every closed one is in the queue (promise 3)."""

from collections.abc import Callable
from datetime import UTC, datetime

import structlog
from sqlalchemy.orm import Session

from config import settings as configuration
from gateway.metrics import Stage, stage_took
from gateway.pipeline.points import Point, reached
from gateway.pipeline.queues import WorkQueues
from storage import Database, Priority, role_actor
from storage.studies import close_revision, fail_revision, revisions_due, unfinished_revisions
from storage.tables import Revision

log = structlog.get_logger(__name__)

_ACTOR = role_actor("timetable")


class RevisionSweep:
    """Call it again and again; each call is whole in itself, and a crash anywhere in it is made good by the next."""

    def __init__(
        self,
        database: Database,
        queues: WorkQueues,
        timing: configuration.Revisions,
        started_at: datetime,
        *,
        prioritise: Callable[[Session, Revision], Priority | None] = lambda _session, _revision: None,
    ) -> None:
        """`started_at`: when the service began to receive; senders get a quiet period from then on to go on.

        `prioritise` says how urgent a revision that is being closed is; None leaves it as it was received.
        """
        self._database = database
        self._queues = queues
        self._timing = timing
        self._prioritise = prioritise
        self._started_at = started_at
        self._enqueued: set[tuple[int, int]] = set()

    def __call__(self, now: datetime | None = None) -> None:
        self.close(now or datetime.now(UTC))
        self.enqueue()

    def close(self, now: datetime) -> None:
        """Close what is due, each revision in a transaction of its own."""
        with self._database.reading() as session:
            due = revisions_due(
                session,
                now,
                quiet_period=self._timing.quiet_period,
                hard_limit=self._timing.hard_limit,
                started_at=self._started_at,
            )
        for each in due:
            with self._database.transaction() as session:
                closed = close_revision(session, each.id, each.reason, now=now)
                if closed is not None:
                    closed.priority = self._prioritise(session, closed) or closed.priority
            if closed is not None:
                stage_took(Stage.QUIET, (now - closed.last_instance_at).total_seconds())
                log.info(
                    "a revision is closed",
                    study_uid=each.study_uid,
                    revision=each.number,
                    reason=each.reason.value,
                    priority=closed.priority.value,
                )
                reached(Point.REVISION_CLOSED)

    def enqueue(self) -> None:
        """Ask for everything that is closed and not finished; asking twice for the same changes nothing."""
        with self._database.reading() as session:
            unfinished = [(each.id, each.runs, each.priority) for each in unfinished_revisions(session)]
        for revision_id, run, priority in unfinished:
            if (revision_id, run) not in self._enqueued:
                self._queues.enqueue_revision(revision_id, priority, run)
                self._enqueued.add((revision_id, run))
                reached(Point.REVISION_ENQUEUED)
        # What is finished will not be asked for again; the set stays as small as the work at hand.
        self._enqueued &= {(revision_id, run) for revision_id, run, _ in unfinished}

    def give_up_failed(self) -> None:
        """Mark revisions whose workflow the engine ended with an error: they would wait for nobody."""
        failed = self._queues.failed()
        with self._database.reading() as session:
            stuck = [each.id for each in unfinished_revisions(session) if (each.id, each.runs) in failed]
        for revision_id in stuck:
            log.error("a revision is given up; `scanwarden retry` starts it again", revision=revision_id)
            with self._database.transaction() as session:
                fail_revision(session, revision_id, "its workflow ended with an error", actor=_ACTOR)
