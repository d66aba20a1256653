"""The delivery sweep: asks for what is due, destination by destination, and for one probe where a destination is dead.

A destination that does not answer costs one attempt at a time, however much waits for it; what waits holds no workflow.
"""

from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from config.settings import Destination
from gateway.app import App
from gateway.pipeline.notary import settle
from gateway.pipeline.queues import WorkQueues
from storage.circuits import circuits, claim_probe, may_be_tried
from storage.deliveries import destinations_with_work, due_turns, overdue, record_failure, take
from storage.tables import Circuit, CircuitState

log = structlog.get_logger(__name__)

# Of one destination in one sweep: the next one comes in a second. Until it is known to be dead, each costs a workflow.
_MOST_TURNS = 50


class DeliverySweep:
    """Call it again and again; each call is whole in itself, and a crash anywhere in it is made good by the next."""

    def __init__(
        self, app: App, queues: WorkQueues, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._app = app
        self._queues = queues
        self._clock = clock
        self._destinations = {each.name: each for each in app.settings.destinations}

    def __call__(self) -> None:
        now = self._clock()
        settle(self._app, self._destinations, now)
        with self._app.database.reading() as session:
            names = destinations_with_work(session)
            known = {each.destination: each for each in circuits(session)} if names else {}
        for name in names:
            self._dispatch(name, self._destinations.get(name), known.get(name), now)

    def _dispatch(self, name: str, destination: Destination | None, circuit: Circuit | None, now: datetime) -> None:
        dead = destination is not None and circuit is not None and circuit.state is not CircuitState.CLOSED
        if dead and destination is not None and circuit is not None:
            self._expire(destination, circuit, now)
            if not may_be_tried(circuit, now):
                return
        with self._app.database.reading() as session:
            turns = due_turns(session, name, None if dead else now, 1 if dead else _MOST_TURNS)
        if not turns:
            return
        if dead:
            with self._app.database.transaction() as session:
                claim_probe(session, name, turns[0].revision_id, now)
        # In the queue first: a crash in between asks for the same turn, by the same name.
        for turn in turns:
            self._queues.enqueue_delivery(turn)
        with self._app.database.transaction() as session:
            take(session, turns)

    def _expire(self, destination: Destination, circuit: Circuit, now: datetime) -> None:
        """Nobody waits for ever for an archive that does not come back."""
        with self._app.database.reading() as session:
            if not overdue(session, destination.name, now - destination.give_up_after, 1):
                return
        with self._app.database.transaction() as session:
            gone = overdue(session, destination.name, now - destination.give_up_after, _MOST_TURNS)
            for number in gone:
                record_failure(session, number, circuit.reason or "it does not answer", dead=True, now=now)
        log.error("evidence waited too long and is given up", destination=destination.name, objects=len(gone))
