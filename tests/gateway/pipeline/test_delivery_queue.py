"""Deliveries through the real queue: a turn once, and a place for each destination."""

import threading
from pathlib import Path

from pynetdicom import evt

from config import Settings
from gateway.app import build, prepare
from gateway.pipeline.delivery import Courier
from gateway.pipeline.dispatch import DeliverySweep
from gateway.pipeline.queues import WorkQueues
from tests.faults.harness import Archive, wait_for
from tests.gateway.pipeline.world import Make, peer
from tests.planted import plant


def test_a_turn_that_was_asked_for_twice_is_one_workflow(world: Make, archive: Archive) -> None:
    from gateway.pipeline import queues

    gateway = world(archive.port)
    queues.prepare(gateway.app.settings)
    gateway.plan(kinds=("SR",))
    with WorkQueues(gateway.app.settings) as work:
        gateway.sweep()
        for _ in range(2):
            work.enqueue_delivery(gateway.asked[0])
        assert work.count(queues.DELIVER_QUEUE).waiting == 1


def test_a_destination_that_takes_its_time_takes_no_place_of_another(tmp_path: Path, archive: Archive) -> None:
    """With the real queue, and one place for each destination."""
    from config.settings import Role
    from gateway.pipeline import queues
    from gateway.pipeline.workflow import register_deliveries

    stop = threading.Event()
    asked: list[str] = []

    def stall(event: evt.Event) -> int:
        asked.append(str(event.request.AffectedSOPInstanceUID))  # type: ignore[union-attr]
        stop.wait(60)
        return 0

    with peer(stall) as port, archive.running():
        settings = Settings(
            store={"root": tmp_path / "var", "high_watermark": 1, "low_watermark": 1, "reserve_bytes": 0},
            queues={"deliveries": 1, "polling_interval": 0.05},
            destinations=[
                {"name": "slow", "ae_title": "PACS", "host": "127.0.0.1", "port": port, "timeout": 60},
                {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": archive.port},
            ],
        )
        prepare(settings)
        with build(settings) as app:
            courier = Courier(app)
            for _ in range(4):
                courier.plan(plant(app, kinds=("SR",)).revision_id)
            worker = queues.Worker(settings, queues.executor_id(Role.DELIVER), [queues.DELIVER_QUEUE])
            register_deliveries(worker, app)
            worker.start()
            try:
                with WorkQueues(settings) as work:
                    DeliverySweep(app, work)()
                    wait_for(lambda: len(archive.order) == 4, 60, "the other one gets everything")
                    assert len(asked) == 1
                    stop.set()
                    wait_for(lambda: len(asked) == 4, 60, "the slow one, too")
                    wait_for(lambda: work.count(queues.DELIVER_QUEUE).running == 0, 60, "all is written down")
            finally:
                stop.set()
                worker.stop(5)
