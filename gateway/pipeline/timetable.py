"""The timetable: what is done by the clock, by one process at a time, which a lease in the database names."""

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime

import structlog
from apscheduler.schedulers.background import BackgroundScheduler

from gateway.alerts import alert_sender
from gateway.app import App
from gateway.audit.exporter import Exporter
from gateway.notices import notifiers
from gateway.pipeline.dispatch import DeliverySweep
from gateway.pipeline.keeping import LedgerKeeping
from gateway.pipeline.queues import WorkQueues
from gateway.pipeline.revisions import RevisionSweep
from gateway.pipeline.routing import priority_of
from storage import StorageError
from storage.processes import acquire_lease, forget, release_lease, silent_processes
from storage.retention import expire_evidence, expire_instances
from storage.sweeping import sweep_orphans

log = structlog.get_logger(__name__)

LEASE = "timetable"
LEASE_SECONDS = 20.0
RENEWAL_SECONDS = 5.0
# Six heartbeats; and twice in a row, so that an outage of the database, which silences everybody, adopts nobody.
SILENT_AFTER = 30.0
PEERS_INTERVAL = 10.0
VERIFICATION_LOOK = 10.0  # how often it is asked whether a study is due; its budget decides


class Timetable:
    """Runs the jobs while it holds the lease; another machine's takes over when it does not."""

    def __init__(self, app: App, queues: WorkQueues, holder: str) -> None:
        self._app = app
        self._queues = queues
        self._holder = holder
        self.holds = False
        self._sweep = RevisionSweep(
            app.database,
            queues,
            app.settings.revisions,
            started_at=datetime.now(UTC),
            prioritise=lambda session, revision: priority_of(app, session, revision),
        )
        self._keeping = LedgerKeeping(app)
        self._silent: set[str] = set()
        # A job that is late is done late, and once: on a busy machine none may be left out.
        once = {"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        self._scheduler = BackgroundScheduler(timezone=UTC, job_defaults=once)
        logging.getLogger("apscheduler").setLevel(logging.ERROR)

    def run(self, stop: threading.Event) -> None:
        """Keep the timetable until `stop` is set."""
        settings = self._app.settings
        self.hold()
        self._every(RENEWAL_SECONDS, self.hold, alone=False)
        self._every(settings.revisions.sweep_interval, self._sweep)
        self._every(settings.revisions.sweep_interval, DeliverySweep(self._app, self._queues))
        self._every(PEERS_INTERVAL, self._sweep.give_up_failed)
        self._every(PEERS_INTERVAL, self.adopt)
        self._every(settings.audit.checkpoint_interval, self._keeping.checkpoint, now=True)
        self._every(settings.audit.verify_interval, self._keeping.verify)
        self._every(settings.retention.sweep_interval, self.retain)
        if settings.verification.archive is not None:
            # Imported here: most machines verify nothing, and this brings decoders' names with it.
            from gateway.verification.sampling import Reverification

            reverification = Reverification(self._app, self._queues, stop)
            self._every(VERIFICATION_LOOK, reverification)
        if any(rule.priors for rule in settings.rules):
            from gateway.fetching.background import priors_by_rule

            priors = priors_by_rule(self._app, stop)
            if priors is not None:
                self._every(settings.priors.interval, priors)
        alerts = alert_sender(settings, self._app.database, lambda: self.holds and not stop.is_set())
        if alerts is not None:
            self._every(settings.alerts.interval, alerts)
        for notifier in notifiers(self._app, lambda: self.holds and not stop.is_set()):
            self._every(settings.notification.interval, notifier)
        exporter = Exporter(settings, self._app.database, lambda: self.holds)
        self._scheduler.start()
        exporter.start()
        stop.wait()
        exporter.stop()
        self._scheduler.shutdown(wait=True)
        with self._app.database.transaction() as session:
            release_lease(session, LEASE, self._holder)

    def _every(self, seconds: float, job: Callable[[], None], *, alone: bool = True, now: bool = False) -> None:
        if not seconds:
            return

        def guarded() -> None:
            if alone and not self.holds:
                return
            try:
                job()
            except StorageError as fault:
                log.warning("a job of the timetable waits for its next turn", reason=str(fault))
            except Exception:
                log.exception("a job of the timetable failed")

        first = {"next_run_time": datetime.now(UTC)} if now else {}
        self._scheduler.add_job(guarded, "interval", seconds=seconds, **first)

    def hold(self) -> None:
        """Take or renew the lease."""
        try:
            with self._app.database.transaction() as session:
                holding = acquire_lease(session, LEASE, self._holder, LEASE_SECONDS)
        except StorageError:
            self.holds = False
            raise
        if holding != self.holds:
            log.info("this process keeps the timetable" if holding else "another process keeps the timetable")
        self.holds = holding

    def adopt(self) -> None:
        """Give the unfinished work of executors that fell silent to their peers."""
        with self._app.database.reading() as session:
            silent = {each.executor_id for each in silent_processes(session, SILENT_AFTER)}
        gone, self._silent = sorted(silent & self._silent), silent
        if not gone:
            return
        moved = self._queues.adopt(gone)
        with self._app.database.transaction() as session:
            for executor in gone:
                forget(session, executor)
        log.warning("processes fell silent; their work goes to their peers", executors=gone, workflows=len(moved))

    def retain(self) -> None:
        """Delete what is past its age, and files that a crash left without a row."""
        store, database, ages = self._app.store, self._app.database, self._app.settings.retention
        instances = expire_instances(store, database, ages.instances) if ages.instances is not None else 0
        evidence = expire_evidence(store, database, ages.evidence) if ages.evidence is not None else 0
        orphans = len(sweep_orphans(store, database).paths)
        if instances or evidence or orphans:
            log.info("files are deleted", instances=instances, evidence=evidence, without_a_row=orphans)
