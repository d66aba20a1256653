"""Passing on what comes in: the gateway as a router in line, store-and-forward, in order, before any analysis.

The receive path knows nothing of it: this looks for instances that are newer than a destination's cursor. Each
destination has a thread, an association that stays open while there is work, and its own pauses, so that a dead one
holds up nobody. A destination that takes nothing is waited for without an end; one instance that it refuses becomes a
dead letter after `forwarding.attempts`, and those behind it pass.
"""

import random
import threading
import time
from collections.abc import Callable, Sequence
from hashlib import file_digest

import structlog

from config.settings import Destination, Forwarding, Settings
from gateway.app import App
from gateway.dicom.conduit import Conduit, Pair, StoredInstance
from gateway.dicom.contexts import MAX_CONTEXTS
from gateway.dicom.scu import ConnectionBroken, SendError
from gateway.dicom.statuses import Judgement, judge
from storage import (
    AuditEvent,
    AuditEventType,
    AuditOutcome,
    Database,
    InstanceState,
    StorageError,
    role_actor,
)
from storage.audit.ledger import append
from storage.forwarding import (
    EXPIRED,
    Passage,
    Wanted,
    anything_decided,
    forget_sent,
    newer,
    next_passages,
    open_cursors,
    queue_new,
    record_refused,
    record_sent,
    record_stall,
    release_held,
)
from storage.processes import acquire_lease, release_lease

log = structlog.get_logger(__name__)

LEASE = "forwarding"
LEASE_SECONDS = 20.0
BATCH = 64  # instances between two transactions; a kill sends at most these twice
BATCH_SECONDS = 1.0
FORGET_SECONDS = 3600.0
JITTER = 0.25
DAMAGED = "its file is not what was acknowledged"


def routes(settings: Settings) -> list[tuple[Destination, Wanted]]:
    """Where instances are passed on to, and which."""
    known = {each.name: each for each in settings.destinations}
    return [
        (
            known[route.destination],
            Wanted(
                route.destination,
                route.sources,
                None if route.back_to_sender else known[route.destination].ae_title,
                settings.forwarding.contested == "hold",
            ),
        )
        for route in settings.forwarding.routes
        if route.destination in known
    ]


def begin(settings: Settings, database: Database) -> None:
    """Before any role starts: from now on everything that comes in is passed on."""
    with database.transaction() as session:
        open_cursors(session, [wanted.destination for _, wanted in routes(settings)])


class Forwarder:
    """All routes of an installation, in the deliver role of one process, which a lease names."""

    def __init__(self, app: App, holder: str) -> None:
        self._app = app
        self._holder = holder
        self._routes = routes(app.settings)
        self._lanes = [Lane(app, destination) for destination, _ in self._routes]

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set."""
        if not self._routes:
            return
        threads = [
            threading.Thread(target=lane.run, args=(stop,), name="forwarding", daemon=True) for lane in self._lanes
        ]
        for thread in threads:
            thread.start()
        leased_at = forgot_at = float("-inf")
        while not stop.is_set():
            try:
                now = time.monotonic()
                if now - leased_at > LEASE_SECONDS / 3:
                    self._hold()
                    leased_at = now
                if self._lanes[0].holds:
                    self.queue()
                    if now - forgot_at > FORGET_SECONDS:
                        self._forget()
                        forgot_at = now
            except StorageError as fault:
                log.warning("forwarding waits", reason=str(fault))
            except Exception:
                log.exception("forwarding stumbles and goes on")
            stop.wait(self._app.settings.forwarding.interval)
        for thread in threads:
            thread.join(timeout=max(destination.timeout for destination, _ in self._routes))
        try:
            with self._app.database.transaction() as session:
                release_lease(session, LEASE, self._holder)
        except StorageError as fault:
            log.warning("a lease runs out by itself", reason=str(fault))

    def queue(self) -> None:
        """Queue what has come in, and let go what was held and is decided on."""
        with self._app.database.reading() as session:
            behind = newer(session, [wanted for _, wanted in self._routes])
            decided = anything_decided(session)
        if not behind and not decided:
            return
        with self._app.database.transaction() as session:
            for wanted in behind:
                queue_new(session, wanted)
            if decided:
                release_held(session)
        for lane in self._lanes:
            lane.wake.set()

    def _hold(self) -> None:
        with self._app.database.transaction() as session:
            holds = acquire_lease(session, LEASE, self._holder, LEASE_SECONDS)
        until = time.monotonic() + LEASE_SECONDS
        for lane in self._lanes:
            lane.holds_until = until if holds else float("-inf")

    def _forget(self) -> None:
        with self._app.database.transaction() as session:
            forget_sent(session, self._app.settings.forwarding.keep)


class Lane:
    """The way to one destination."""

    def __init__(self, app: App, destination: Destination, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._destination = destination
        self._limits: Forwarding = app.settings.forwarding
        self._clock = clock
        self._conduit: Conduit | None = None
        self._used_at = 0.0
        self._pairs: dict[Pair, None] = {}  # what was sent lately, newest last: proposed again
        self._failures = 0  # in a row, of the destination as a whole
        self.holds_until = float("-inf")
        self.wake = threading.Event()

    @property
    def holds(self) -> bool:
        """Whether this process is the one that sends."""
        return self._clock() < self.holds_until

    def run(self, stop: threading.Event) -> None:
        """Send until `stop` is set."""
        try:
            while not stop.is_set():
                pause = self._turn(stop)
                if pause:
                    self.wake.clear()
                    (stop.wait if self._failures else self.wake.wait)(pause)
        finally:
            self._hang_up()

    def step(self, stop: threading.Event) -> bool:
        """Send one batch; whether there was one. Raises the SendError that stops the destination as a whole."""
        with self._app.database.reading() as session:
            batch = next_passages(session, self._destination.name, BATCH)
        if batch:
            self._send(batch, stop)
        return bool(batch)

    def _turn(self, stop: threading.Event) -> float:
        """One batch, and the seconds to wait before the next."""
        if not self.holds:
            self._hang_up()
            return self._limits.interval
        try:
            worked = self.step(stop)
        except SendError as fault:
            return self._stalled(str(fault))
        except StorageError as fault:
            log.warning("forwarding waits", destination=self._destination.name, reason=str(fault))
            return 2.0
        except Exception:
            log.exception("forwarding stumbles and goes on", destination=self._destination.name)
            self._hang_up()
            return 2.0
        if worked:
            return 0.0
        if self._conduit is not None and self._clock() - self._used_at > self._limits.idle_timeout:
            self._hang_up()
        return self._limits.interval

    def _send(self, batch: Sequence[Passage], stop: threading.Event) -> None:
        sent: list[Passage] = []
        began = self._clock()
        try:
            for each in batch:
                if stop.is_set() or not self.holds:
                    return
                refusal = self._send_one(each, batch)
                if refusal is None:
                    sent.append(each)
                    continue
                with self._app.database.transaction() as session:
                    record_refused(session, each, refusal, pause=self._pause_of(each, refusal))
                    if refusal == DAMAGED:
                        append(session, [_damage(each)])
                log.warning(
                    "an instance is not passed on",
                    destination=self._destination.name,
                    sop_instance_uid=each.instance.sop_instance_uid,
                    reason=refusal,
                )
                if self._clock() - began > BATCH_SECONDS:
                    return
        finally:
            if sent:
                with self._app.database.transaction() as session:
                    record_sent(session, self._destination.name, sent)
                self._back()

    def _send_one(self, passage: Passage, batch: Sequence[Passage]) -> str | None:
        """Why the destination does not take this instance; None: it has it. Raises SendError."""
        row = passage.instance
        path = self._app.store.locate(row.path)
        if row.state is InstanceState.EXPIRED:
            return EXPIRED
        try:
            with path.open("rb") as file:
                if file_digest(file, "sha256").hexdigest() != row.file_sha256:
                    return DAMAGED
        except OSError as fault:
            return f"its file cannot be read: {fault.strerror or fault}"
        instance = StoredInstance(path, row.sop_class_uid, row.sop_instance_uid, row.transfer_syntax)
        conduit = self._open(instance.pair, batch)
        if not conduit.accepts(instance.pair):
            return f"the destination accepts no SOP class {instance.sop_class_uid} in {instance.transfer_syntax}"
        try:
            status = conduit.send(instance)
        except ConnectionBroken as fault:
            self._conduit = None
            # What always breaks the association must not stand in the way for ever.
            with self._app.database.transaction() as session:
                pause = 0.0 if passage.forward.attempts + 1 < self._destination.attempts else None
                record_refused(session, passage, str(fault), pause=pause)
            raise
        except OSError as fault:
            self._conduit = None
            return f"its file cannot be read: {fault.strerror or fault}"
        self._used_at = self._clock()
        judgement = judge(status)
        if judgement is Judgement.STORED:
            return None
        if judgement is Judgement.NO_ROOM:  # so it is for the next one, and the order is kept
            self._hang_up()
            raise OutOfResources(f"{self._destination.name} is out of resources (status 0x{status:04X})")
        return f"status 0x{status:04X}"

    def _open(self, pair: Pair, batch: Sequence[Passage]) -> Conduit:
        """The open association, or a new one when it was not asked for this pair or has ended in the meantime."""
        idle = self._clock() - self._used_at > 0.5
        if self._conduit is not None and (pair not in self._conduit.offered or (idle and not self._conduit.is_alive)):
            self._hang_up()
        if self._conduit is None:
            for other in [(each.instance.sop_class_uid, each.instance.transfer_syntax) for each in batch] + [pair]:
                self._pairs.pop(other, None)
                self._pairs[other] = None
            newest = list(self._pairs)[-MAX_CONTEXTS:]
            self._pairs = dict.fromkeys(newest)
            self._conduit = Conduit(self._destination, self._app.settings.dicom.ae_title, newest[::-1])
        return self._conduit

    def _hang_up(self) -> None:
        conduit, self._conduit = self._conduit, None
        if conduit is not None:
            conduit.close()

    def _pause_of(self, passage: Passage, refusal: str) -> float | None:
        """Seconds until this instance is tried again; None: never."""
        attempt = passage.forward.attempts + 1
        if refusal in (EXPIRED, DAMAGED) or attempt >= self._limits.attempts:
            return None
        return self._backoff(attempt)

    def _backoff(self, attempt: int) -> float:
        pause = min(self._limits.backoff_limit, self._limits.backoff * 2.0 ** min(attempt - 1, 64))
        return pause * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret

    def _stalled(self, failure: str) -> float:
        """The destination takes nothing: say so once, and wait longer each time."""
        self._failures += 1
        pause = self._backoff(self._failures)
        name = self._destination.name
        log.warning("nothing can be passed on", destination=name, reason=failure, next_attempt_seconds=round(pause, 1))
        if self._failures == 1:
            self._tell(failure)
        return pause

    def _back(self) -> None:
        if self._failures:
            self._failures = 0
            log.info("instances are passed on again", destination=self._destination.name)
            self._tell(None)

    def _tell(self, failure: str | None) -> None:
        try:
            with self._app.database.transaction() as session:
                record_stall(session, self._destination.name, failure)
        except StorageError as fault:
            log.warning("an audit event is lost", reason=str(fault))


def _damage(passage: Passage) -> AuditEvent:
    """Somebody, or a disk, changed what we had acknowledged: more than a dead letter."""
    row = passage.instance
    return AuditEvent(
        AuditEventType.INSTANCE_DAMAGED,
        role_actor("deliver"),
        AuditOutcome.SERIOUS_FAILURE,
        study_uid=row.study_uid,
        subject=row.sop_instance_uid,
        details={"reason": DAMAGED, "file_sha256": row.file_sha256},
    )


class OutOfResources(SendError):
    """The destination has no room for anything now (`statuses.Judgement.NO_ROOM`)."""
