"""Sends the ledger to its collectors: one thread for each, so that none waits for another, and no other work for them.

Runs where the timetable runs, while it holds the lease. Whatever happens to a batch, the cursor moves only after the
collector confirmed it; see storage/audit/spool.py.
"""

import os
import socket
import threading
from collections.abc import Callable

import structlog

from config import Settings
from config.settings import Collector
from gateway.audit.syslog import CollectorFault, Connection, Header
from storage import AuditEvent, AuditEventType, AuditOutcome, Database, StorageError, role_actor
from storage.audit import spool
from storage.audit.events import Detail
from storage.audit.ledger import Head, append
from storage.audit.messages import AuditSource, as_xml

log = structlog.get_logger(__name__)

ACTOR = role_actor("timetable")
FIRST_PAUSE = 1.0
STOP_SECONDS = 5.0


def source_of(settings: Settings) -> AuditSource:
    """How our audit messages name us."""
    return AuditSource(
        source_id=settings.audit.source_id or settings.dicom.ae_title,
        site_id=settings.audit.site_id,
        ae_title=settings.dicom.ae_title,
        host=socket.gethostname(),
    )


class Courier:
    """Brings one collector what it lacks."""

    def __init__(self, database: Database, collector: Collector, source: AuditSource) -> None:
        self._database = database
        self._collector = collector
        self._source = source
        self._header = Header(
            collector.facility, collector.message_id, host=source.host or "-", process=str(os.getpid())
        )

    def deliver(self) -> int:
        """Send the next batch and wait for its confirmation; how many events it held. Raises CollectorFault."""
        name = self._collector.name
        with self._database.reading() as session:
            confirmed = spool.cursor(session, name)
            holds = spool.still_holds(session, confirmed)
            records = spool.waiting(session, confirmed.seq, self._collector.batch) if holds else []
        if not holds:
            self._begin_again(confirmed)
            return 0
        if not records:
            return 0
        with Connection(self._collector) as connection:
            connection.send(self._header.message(record, as_xml(record, self._source)) for record in records)
            connection.finish()
        head = Head(records[-1].seq, records[-1].hash)
        with self._database.transaction() as session:
            if spool.confirm(session, name, head):
                append(session, [AuditEvent(AuditEventType.COLLECTOR_BACK, ACTOR, details={"collector": name})])
                log.info("a collector takes messages again", collector=name)
        return len(records)

    def failed(self, fault: CollectorFault) -> None:
        """Write down that the collector does not take messages; the first time in a row into the ledger as well."""
        name = self._collector.name
        refused = fault.refused
        event = AuditEvent(
            AuditEventType.COLLECTOR_REFUSED if refused else AuditEventType.COLLECTOR_LOST,
            ACTOR,
            AuditOutcome.SERIOUS_FAILURE if refused else AuditOutcome.MINOR_FAILURE,
            details={"collector": name, "reason": str(fault)},
        )
        with self._database.transaction() as session:
            if spool.fail(session, name, str(fault)):
                append(session, [event])
                log.warning("a collector takes no messages; they wait in the ledger", reason=str(fault))

    def _begin_again(self, confirmed: Head) -> None:
        """The ledger lacks what a collector has: somebody cut or rewrote it, or put an old backup in its place."""
        name = self._collector.name
        text = f"collector {name} has record {confirmed.seq} with hash {confirmed.hash[:16]}…, the ledger has not"
        log.critical("the ledger is not what was sent; everything is sent again", collector=name, reason=text)
        details: dict[str, Detail] = {"collector": name, "seq": confirmed.seq, "hash": confirmed.hash, "reason": text}
        with self._database.transaction() as session:
            append(
                session, [AuditEvent(AuditEventType.LEDGER_BROKEN, ACTOR, AuditOutcome.MAJOR_FAILURE, details=details)]
            )
            spool.rewind(session, name)


class Exporter:
    """The couriers of all collectors, each in a thread of its own, while `holding` says so."""

    def __init__(self, settings: Settings, database: Database, holding: Callable[[], bool] = lambda: True) -> None:
        source = source_of(settings)
        self._interval = settings.audit.collect_interval
        self._holding = holding
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._keep_sending,
                args=(Courier(database, collector, source), collector),
                name=f"collector-{collector.name}",
                daemon=True,
            )
            for collector in settings.audit.collectors
        ]

    def start(self) -> None:
        """Begin to send."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End after the batches under way; one that takes longer is sent again by who sends next."""
        self._stop.set()
        for thread in self._threads:
            thread.join(STOP_SECONDS)

    def _keep_sending(self, courier: Courier, collector: Collector) -> None:
        pause = after_fault = FIRST_PAUSE
        while not self._stop.is_set():
            try:
                sent = courier.deliver() if self._holding() else 0
                pause, after_fault = (0 if sent == collector.batch else self._interval), FIRST_PAUSE
            except CollectorFault as fault:
                pause, after_fault = after_fault, min(2 * after_fault, collector.backoff_limit)
                self._note(courier, fault)
            except StorageError as fault:
                pause = max(FIRST_PAUSE, self._interval)
                log.warning("audit messages wait for the database", collector=collector.name, reason=str(fault))
            except Exception:
                pause, after_fault = after_fault, min(2 * after_fault, collector.backoff_limit)
                log.exception("audit messages cannot be sent", collector=collector.name)
            self._stop.wait(pause)

    def _note(self, courier: Courier, fault: CollectorFault) -> None:
        try:
            courier.failed(fault)
        except StorageError as outage:
            log.warning("a collector takes no messages", reason=str(fault), database=str(outage))
