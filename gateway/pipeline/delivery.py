"""The deliver step: one attempt to send what still waits for one destination, and when it is due again.

Every object is recorded by itself, as soon as its answer is known: what a destination acknowledged is not sent again,
however the attempt ends. What a failure says of the object counts against the object (`attempts`); what it says of the
destination goes to its circuit, and all that waits for it waits at no cost (docs/decisions/0004).
"""

import random
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from config.settings import Destination
from gateway.app import App
from gateway.dicom.scu import ConnectionBroken, NothingAccepted, SendError, SendOutcome, send
from gateway.dicom.statuses import Judgement, is_warning
from gateway.dicom.stow import store
from gateway.metrics import Stage, stage_took
from gateway.pipeline.notary import Notary
from gateway.pipeline.patience import patiently
from gateway.pipeline.points import Point, reached
from gateway.pipeline.routing import route_of
from gateway.results.profiles import profile_named
from storage.analyses import analysis_of
from storage.circuits import circuits, leave_to_try, record_answer, record_trouble, release_probe
from storage.deliveries import (
    Consignment,
    consignments,
    due_turns,
    plan_deliveries,
    put_off,
    record_attempt,
    record_delivered,
    record_failure,
    record_sent,
    told_before,
)
from storage.studies import finish_revision, revision_contents, revision_of
from storage.tables import CircuitState, DeliveryState, RevisionState

log = structlog.get_logger(__name__)

JITTER = 0.25
_ACTOR = "scanwarden:deliver"
_MOST_TURNS = 1000


def _now() -> datetime:
    return datetime.now(UTC)


class Courier:
    """Plans deliveries and attempts them."""

    def __init__(self, app: App, *, clock: Callable[[], datetime] = _now) -> None:
        self._app = app
        self._clock = clock
        self._destinations = {each.name: each for each in app.settings.destinations}
        self._notary = Notary(app, clock=clock)

    def plan(self, revision_id: int) -> list[tuple[str, int]]:
        """Write down what goes where; a revision with nothing to deliver is done.

        Names each destination that something is due at, with the number of its turn. One that does not answer is left
        to the sweep: what is planned for it costs no workflow.
        """
        with self._app.database.transaction() as session:
            if revision_of(session, revision_id).state is RevisionState.DONE:
                return []  # the rules left nothing to look at, or another run was here
            verdict = analysis_of(session, revision_id).verdict
            routing = route_of(self._app, revision_contents(session, revision_id).instances)
            meant = routing.destinations([each.name for each in self._app.settings.destinations])
            told = told_before(session, revision_id)  # who has an alarm must hear that it is over
            profiles = {
                each.name: each.profile
                for each in self._app.settings.destinations
                if each.name in told or (each.name in meant and self._wants(each, verdict))
            }
            planned = plan_deliveries(session, revision_id, profiles, now=self._clock())
            dead = {each.destination for each in circuits(session) if each.state is not CircuitState.CLOSED}
            names = sorted({each.delivery.destination for each in planned} - dead)
            turns = [
                turn
                for name in names
                for turn in due_turns(session, name, self._clock(), _MOST_TURNS, revision_id=revision_id)
            ]
            finish_revision(session, revision_id, actor=_ACTOR)
        reached(Point.DELIVERIES_PLANNED)
        return [(turn.destination, turn.number) for turn in turns]

    def _wants(self, destination: Destination, verdict: str | None) -> bool:
        return verdict is None or profile_named(destination.profile, self._app.settings.profiles).wants(verdict)

    def attempt(self, revision_id: int, name: str) -> None:
        """Send what waits for a destination in one association, regions before the report that refers to them.

        What is not delivered afterwards is due again at some time, or a dead letter with its reason.
        """
        destination = self._destinations.get(name)
        if destination is None:
            self._give_up(revision_id, name, "the destination is no longer configured")
            return
        with self._app.database.transaction() as session:
            now = self._clock()
            until = leave_to_try(session, name, revision_id, now)
            waiting = [] if until is not None else consignments(session, revision_id, name, waiting=True)
            if until is not None:
                put_off(session, revision_id, name, until)
            for each in waiting:
                each.delivery.attempts = record_attempt(session, each.delivery.id, now=now)
            study_uid = revision_of(session, revision_id).study_uid
        if until is not None:
            return
        if not waiting and not self._notary.pending(revision_id, destination):
            with self._app.database.transaction() as session:
                release_probe(session, name, revision_id, self._clock())
            return
        reached(Point.DELIVERY_BEGUN)
        trip = _Trip(self._app, destination, revision_id, waiting, self._clock)
        if waiting:
            trip.go()
        if trip.trouble is None:
            trip.have_it_confirmed(self._notary)
        reached(Point.DELIVERY_SENT)
        patiently(trip.conclude)
        reached(Point.DELIVERY_RECORDED)
        trip.tell(log.bind(study_uid=study_uid, destination=name, objects=len(waiting)))

    def _give_up(self, revision_id: int, name: str, reason: str) -> None:
        with self._app.database.transaction() as session:
            for each in consignments(session, revision_id, name):
                if each.delivery.state in (DeliveryState.WAITING, DeliveryState.SENT):
                    record_failure(session, each.delivery.id, reason, dead=True)
        log.error("evidence cannot be delivered and is given up", destination=name, reason=reason)


class _Trip:
    """One attempt: what was sent, what the destination said, and what follows from it."""

    def __init__(
        self,
        app: App,
        destination: Destination,
        revision_id: int,
        waiting: Sequence[Consignment],
        clock: Callable[[], datetime],
    ) -> None:
        self._app = app
        self._destination = destination
        self._revision_id = revision_id
        self._clock = clock
        self._left = {app.store.locate(each.evidence.path): each for each in waiting}
        self._failures: dict[int, str] = {}
        self._dead: list[str] = []
        self._pause: float | None = None
        self._answered = False
        self.trouble: str | None = None

    def go(self) -> None:
        """Send; each outcome is recorded as it comes."""
        try:
            for outcome in self._outcomes():
                each = self._left[outcome.path]
                self._answered = True
                patiently(self._record, each, outcome)
                if outcome.judgement is Judgement.NO_ROOM:
                    self.trouble = f"status 0x{outcome.status:04X}: no room"
                    break
        except NothingAccepted as fault:
            self._answered = True
            patiently(self._refuse_all, str(fault))
        except ConnectionBroken as fault:
            culprit = self._left.get(fault.path) if fault.path is not None else None
            if culprit is not None:
                patiently(self._fail, culprit, str(fault), refusal=True)
            if not self._answered:
                self.trouble = str(fault)
        except SendError as fault:
            self.trouble = str(fault)

    def have_it_confirmed(self, notary: Notary) -> None:
        """Ask for storage commitment where that is wanted."""
        try:
            if notary.ask(self._revision_id, self._destination):
                self._answered = True
        except SendError as fault:
            self.trouble = str(fault)

    def conclude(self) -> None:
        """When what is left is due again, and what the attempt says of the destination."""
        now = self._clock()
        with self._app.database.transaction() as session:
            waiting = consignments(session, self._revision_id, self._destination.name, waiting=True)
            for each in waiting:
                reason = self.trouble or self._failures.get(each.delivery.id)
                if reason is not None and now - each.delivery.planned_at > self._destination.give_up_after:
                    record_failure(session, each.delivery.id, reason, dead=True, now=now)
                    self._dead.append(reason)
                elif self.trouble is not None and each.delivery.id not in self._failures:
                    record_failure(session, each.delivery.id, self.trouble, now=now)
            if self.trouble is not None:
                record_trouble(
                    session,
                    self._destination.name,
                    self._revision_id,
                    self.trouble,
                    now,
                    most_failures=self._destination.circuit_failures,
                    pause=lambda probe: backoff(self._destination, probe),
                )
            elif self._answered:
                record_answer(session, self._destination.name, now)
            else:
                release_probe(session, self._destination.name, self._revision_id, now)
            left = [each for each in waiting if each.delivery.state is DeliveryState.WAITING]
            if left:
                attempt = max(each.delivery.attempts for each in left)
                self._pause = backoff(self._destination, attempt)
                until = now + timedelta(seconds=self._pause)
                put_off(session, self._revision_id, self._destination.name, until, (DeliveryState.WAITING,))
            patience = self._destination.commitment_timeout if self.trouble is None else backoff(self._destination, 1)
            until = now + timedelta(seconds=patience)
            put_off(session, self._revision_id, self._destination.name, until, (DeliveryState.SENT,))

    def tell(self, story: structlog.typing.FilteringBoundLogger) -> None:
        """What a person reads of it."""
        reason = self.trouble or next(iter(self._failures.values()), None)
        if self._dead:
            story.error("evidence cannot be delivered and is given up; `scanwarden retry`", reason=self._dead[0])
        if self._pause is not None:
            story.warning("evidence is not delivered yet", reason=reason, next_attempt_seconds=round(self._pause, 1))
        elif not self._dead:
            story.info("evidence is sent" if self._destination.commitment else "evidence is delivered")

    def _outcomes(self) -> Iterator[SendOutcome]:
        """In the order of sending; a report stays behind while something that it refers to does."""
        paths = list(self._left)
        if speaks_web(self._destination, self._app):
            return store(paths, self._destination, wanted=self._may_follow)
        return send(paths, self._destination, self._app.settings.dicom.ae_title, wanted=self._may_follow)

    def _may_follow(self, path: Path) -> bool:
        each = self._left[path]
        return not any(
            each.waits_for(other) and other.delivery.state is DeliveryState.WAITING
            for other in self._left.values()
            if other is not each
        )

    def _record(self, each: Consignment, outcome: SendOutcome) -> None:
        judgement = outcome.judgement
        if judgement is Judgement.STORED:
            warning = f"0x{outcome.status:04X}" if is_warning(outcome.status) else None
            with self._app.database.transaction() as session:
                keep = record_sent if self._destination.commitment else record_delivered
                each.delivery.state = keep(session, each.delivery.id, warning=warning).state
            stage_took(Stage.DELIVERY, (datetime.now(UTC) - each.delivery.planned_at).total_seconds())
            return
        # The peer's own words may name a patient; the ledger gets its status (promise 7).
        reason = outcome.comment if outcome.status is None else f"status 0x{outcome.status:04X}"
        self._fail(
            each,
            reason,
            refusal=judgement is Judgement.AGAIN,
            dead=judgement is Judgement.NEVER,
        )

    def _fail(self, each: Consignment, reason: str, *, refusal: bool = False, dead: bool = False) -> None:
        spent = refusal and each.delivery.refusals + 1 >= self._destination.attempts
        with self._app.database.transaction() as session:
            failed = record_failure(session, each.delivery.id, reason, refusal=refusal, dead=dead or spent)
            each.delivery.state = failed.state
        self._failures[each.delivery.id] = reason
        if failed.state is DeliveryState.DEAD:
            self._dead.append(reason)

    def _refuse_all(self, reason: str) -> None:
        for each in self._left.values():
            if each.delivery.state is DeliveryState.WAITING:
                self._fail(each, reason, dead=True)


def speaks_web(destination: Destination, app: App) -> bool:
    """Whether objects go to it over STOW-RS."""
    if destination.dicomweb is None:
        return False
    if destination.transport is not None:
        return destination.transport == "stow"
    return profile_named(destination.profile, app.settings.profiles).transport == "stow"


def backoff(destination: Destination, attempt: int) -> float:
    """Seconds after the failure of `attempt` (from 1): doubling up to the limit, spread so that peers do not march."""
    pause = min(destination.backoff_limit, destination.backoff * 2.0 ** min(attempt - 1, 64))
    return pause * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret
