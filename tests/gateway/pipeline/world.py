"""What the tests of deliveries stand on: a gateway whose clock and queue the test holds, and peers that misbehave."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pynetdicom import AE, AllStoragePresentationContexts, evt
from sqlalchemy import select

from gateway.app import App
from gateway.pipeline.delivery import Courier
from gateway.pipeline.dispatch import DeliverySweep
from storage.deliveries import Turn
from storage.tables import Circuit, Delivery, LedgerRow, Revision, RevisionState
from tests.planted import Planted, plant


@dataclass
class World:
    """A gateway whose clock the test winds, and whose queue is a list: what is due is attempted in order."""

    app: App
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    asked: list[Turn] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.courier = Courier(self.app, clock=lambda: self.now)
        self.courier._notary._wait = 0.5
        world = self

        class Queue:
            def enqueue_delivery(self, turn: Turn) -> None:
                world.asked.append(turn)

        queue: Any = Queue()
        self.sweep = DeliverySweep(self.app, queue, clock=lambda: self.now)

    def plan(self, **arguments: Any) -> Planted:
        planted = plant(self.app, **arguments)
        self.courier.plan(planted.revision_id)
        return planted

    def turn(self) -> int:
        """One look for what is due, and the attempts that it asks for; how many there were."""
        self.asked.clear()
        self.sweep()
        for turn in list(self.asked):
            self.courier.attempt(turn.revision_id, turn.destination)
        return len(self.asked)

    def wind(self, seconds: float, step: float = 60) -> int:
        """Let time pass; how many attempts that brought."""
        attempts, end = 0, self.now + timedelta(seconds=seconds)
        while self.now < end:
            self.now += timedelta(seconds=step)
            attempts += self.turn()
        return attempts

    def deliveries(self, destination: str = "pacs") -> list[Delivery]:
        with self.app.database.reading() as session:
            query = select(Delivery).where(Delivery.destination == destination).order_by(Delivery.id)
            return list(session.scalars(query))

    def states(self, destination: str = "pacs") -> list[str]:
        return [each.state.value for each in self.deliveries(destination)]

    def circuit(self, destination: str = "pacs") -> Circuit | None:
        with self.app.database.reading() as session:
            return session.get(Circuit, destination)

    def revisions(self) -> set[RevisionState]:
        with self.app.database.reading() as session:
            return set(session.scalars(select(Revision.state)))

    def events(self) -> list[str]:
        with self.app.database.reading() as session:
            return list(session.scalars(select(LedgerRow.event).order_by(LedgerRow.seq)))


Make = Callable[..., World]


class peer:  # noqa: N801 - reads as a function
    """A C-STORE SCP that answers as `store` says; its port."""

    def __init__(self, store: Callable[[evt.Event], int]) -> None:
        entity: Any = AE(ae_title="PACS")
        entity.supported_contexts = AllStoragePresentationContexts
        self._server: Any = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])

    def __enter__(self) -> int:
        return int(self._server.server_address[1])

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
