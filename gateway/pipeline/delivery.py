"""The deliver step: one attempt to send what still waits for one destination, and when to try again."""

import random

import structlog

from config.settings import Destination
from gateway.app import App
from gateway.dicom.scu import SendError, SendOutcome, send
from gateway.pipeline.patience import patiently
from gateway.pipeline.points import Point, reached
from storage.deliveries import (
    Consignment,
    consignments,
    plan_deliveries,
    record_attempt,
    record_delivered,
    record_failure,
)
from storage.studies import finish_revision, revision_of
from storage.tables import DeliveryState

log = structlog.get_logger(__name__)

JITTER = 0.25
_ACTOR = "scanwarden:deliver"


class Courier:
    """Plans deliveries and attempts them; every object is recorded by itself."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._destinations = {each.name: each for each in app.settings.destinations}

    def plan(self, revision_id: int) -> list[str]:
        """Write down what goes where and name the destinations; a revision with nothing to deliver is done."""
        profiles = {each.name: each.profile for each in self._app.settings.destinations}
        with self._app.database.transaction() as session:
            planned = plan_deliveries(session, revision_id, profiles)
            waiting = {each.delivery.destination for each in planned if each.delivery.state is DeliveryState.WAITING}
            finish_revision(session, revision_id, actor=_ACTOR)
        reached(Point.DELIVERIES_PLANNED)
        return sorted(waiting)

    def attempt(self, revision_id: int, name: str) -> float | None:
        """Send what waits for a destination in one association, regions before the report that refers to them.

        The answer is the pause in seconds before the next attempt; None when nothing waits any more: delivered, or
        given up after `attempts` of the destination (a dead letter).
        """
        destination = self._destinations.get(name)
        with self._app.database.transaction() as session:
            waiting = consignments(session, revision_id, name, waiting=True)
            for each in waiting:
                each.delivery.attempts = record_attempt(session, each.delivery.id)
            study_uid = revision_of(session, revision_id).study_uid
        if not waiting:
            return None
        reached(Point.DELIVERY_BEGUN)
        failures = self._send(waiting, destination) if destination is not None else _no_longer_configured(waiting)
        reached(Point.DELIVERY_SENT)
        again = patiently(self._record, waiting, failures, destination.attempts if destination is not None else 0)
        reached(Point.DELIVERY_RECORDED)
        failed = {failure for failure in failures.values() if failure is not None}
        attempt = max(each.delivery.attempts for each in waiting)
        story = log.bind(study_uid=study_uid, destination=name, objects=len(waiting), attempt=attempt)
        if not failed:
            story.info("evidence is delivered")
            return None
        if destination is None or not again:
            story.error("evidence cannot be delivered and is given up; `scanwarden retry`", reason=sorted(failed)[0])
            return None
        pause = backoff(destination, attempt)
        story.warning("evidence is not delivered yet", reason=sorted(failed)[0], next_attempt_seconds=round(pause, 1))
        return pause

    def _record(self, waiting: list[Consignment], failures: dict[int, str | None], most_attempts: int) -> bool:
        """Write down what became of each object; whether one of them is to be tried again."""
        again = False
        with self._app.database.transaction() as session:
            for each in waiting:
                failure = failures[each.delivery.id]
                if failure is None:
                    record_delivered(session, each.delivery.id)
                    continue
                dead = each.delivery.attempts >= most_attempts
                record_failure(session, each.delivery.id, failure, dead=dead)
                again = again or not dead
        return again

    def _send(self, waiting: list[Consignment], destination: Destination) -> dict[int, str | None]:
        """What kept each delivery from arriving; None where nothing did."""
        paths = {self._app.store.locate(each.evidence.path): each.delivery.id for each in waiting}
        failures: dict[int, str | None] = dict.fromkeys(paths.values(), "not sent")
        try:
            for outcome in send(list(paths), destination, self._app.settings.dicom.ae_title):
                failures[paths[outcome.path]] = _failure(outcome)
        except SendError as fault:
            failures = {
                delivery: str(fault) if failure == "not sent" else failure for delivery, failure in failures.items()
            }
        return failures


def backoff(destination: Destination, attempt: int) -> float:
    """Seconds after the failure of `attempt` (from 1): doubling up to the limit, spread so that peers do not march."""
    pause = min(destination.backoff_limit, destination.backoff * 2.0 ** min(attempt - 1, 64))
    return pause * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret


def _failure(outcome: SendOutcome) -> str | None:
    if outcome.stored:
        return None
    # The peer's own words may name a patient; the ledger gets its status (promise 7).
    return outcome.comment if outcome.status is None else f"status 0x{outcome.status:04X}"


def _no_longer_configured(waiting: list[Consignment]) -> dict[int, str | None]:
    return dict.fromkeys((each.delivery.id for each in waiting), "the destination is no longer configured")
