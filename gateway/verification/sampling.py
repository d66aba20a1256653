"""The timetable's share: which study of the archive is verified next, and when. It decodes nothing.

Most turns take the study that was not verified for the longest time, so that every study has its turn; chance picks the
others, so that nobody can know when a study's turn is over for a long while.
"""

import secrets
import shutil
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from gateway.app import App
from gateway.verification.archive import Archive, archive_of
from gateway.verification.budget import Pace, Spacing, Stopped
from gateway.verification.checking import ArchiveBusy, Checker, NotVerified, compare_fetched
from gateway.verification.compare import Elsewhere, StudyComparison
from storage.tables import Verification
from storage.verifications import (
    TIMETABLE,
    abandoned,
    eligible_studies,
    eligible_study,
    fail_verification,
    oldest_verified,
    waiting,
)

log = structlog.get_logger(__name__)

# A study that could not be fetched or was verified just now is left alone for so long.
REST = timedelta(hours=6)
# Far above the time that any study takes: its process is dead.
ABANDONED_AFTER = timedelta(hours=24)


class Queue(Protocol):
    """Where comparisons go that need decoding."""

    def enqueue_verification(self, number: int) -> None: ...


class Reverification:
    """Verifies one study of the configured archive whenever the budget allows it."""

    def __init__(
        self,
        app: App,
        queue: Queue,
        stop: threading.Event,
        *,
        archive: Archive | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        pace: Callable[[], None] | None = None,
    ) -> None:
        """Raises NoSuchArchive when the settings name none that exists."""
        limits = app.settings.verification
        self._app, self._queue, self._now = app, queue, now
        self._archive = archive or archive_of(app.settings)
        self._spacing = Spacing(limits.studies_per_hour)
        # Parts of a million: a choice by chance that an attacker cannot foresee, without a float in it.
        self._random = round(limits.random_share * 1_000_000)
        pace = pace or Pace(limits.instances_per_second, wait=stop.wait)
        self._checker = Checker(app, self._archive, actor=TIMETABLE, pace=pace)

    def __call__(self) -> None:
        """Verify the next study if one is due; at most one."""
        now = self._now()
        self._close_abandoned(now)
        with self._app.database.reading() as session:
            started = _last_started(session, self._archive.name)
            if not self._spacing.due(started.timestamp() if started else None, now.timestamp()):
                return
            handed_over = [row.id for row in waiting(session)]
            study_uid = self._choose(session, now)
        for number in handed_over:  # a crash between handing over and queueing is made good here
            self._queue.enqueue_verification(number)
        if study_uid is None:
            return
        try:
            result = self._checker.check(study_uid, decode=False, now=now)
        except ArchiveBusy:
            return
        except NotVerified as fault:
            log.warning("a study of the archive could not be verified", study_uid=study_uid, reason=str(fault))
            return
        except Stopped:
            return
        if isinstance(result, int):
            self._queue.enqueue_verification(result)
        else:
            _tell(result)

    def _choose(self, session: Session, now: datetime) -> str | None:
        if secrets.randbelow(1_000_000) < self._random:
            count = eligible_studies(session)
            return eligible_study(session, secrets.randbelow(count)) if count else None
        found = oldest_verified(session, self._archive.name, not_tried_since=now - REST)
        return found[0] if found else None

    def _close_abandoned(self, now: datetime) -> None:
        with self._app.database.reading() as session:
            dead = [(row.id, row.path) for row in abandoned(session, now - ABANDONED_AFTER)]
        for number, path in dead:
            with self._app.database.transaction() as session:
                fail_verification(session, number, "its process ended before the study was compared", now=now)
            if path is not None:
                shutil.rmtree(self._app.store.locate(path), ignore_errors=True)


def compare_or_fail(app: App, number: int, elsewhere: Elsewhere | None = None) -> None:
    """The analyse role's share: compare a fetched study; one that the archive did not give whole is only noted."""
    try:
        found = compare_fetched(app, number, elsewhere)
        if found is not None:
            _tell(found)
    except NotVerified as fault:
        log.warning("a study of the archive could not be verified", verification=number, reason=str(fault))


def _tell(found: StudyComparison) -> None:
    if found.differs:
        log.error("a study in the archive is not what was first seen", study_uid=found.study_uid, **found.counts)


def _last_started(session: Session, archive: str) -> datetime | None:
    """When the timetable last asked the archive; what persons ask for has a budget of its own."""
    query = select(func.max(Verification.started_at)).where(
        Verification.archive == archive, Verification.actor == TIMETABLE
    )
    return session.scalar(query)
