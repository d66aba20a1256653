"""What the timetable hands over, a worker of the analyse role compares, over the real durable queue."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.app import App
from gateway.pipeline import queues
from gateway.pipeline.queues import ANALYSE_QUEUE, Worker, WorkQueues
from gateway.pipeline.workflow import register_verifications
from gateway.verification.sampling import Reverification
from storage import AuditEventType
from tests.gateway.verification.test_sampling import Shelf
from tests.remembered import edited, gateway, phantom, remember


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    with gateway(tmp_path) as opened:
        queues.prepare(opened.settings)
        yield opened


def test_a_study_that_differs_becomes_an_incident_by_way_of_the_queue(app: App, tmp_path: Path) -> None:
    files = phantom(tmp_path / "study", 1, slices=2, matrix=32)
    study_uid = remember(app, files)
    edited(files[0], (3, 4, 9, 8)).save_as(files[0])
    shelf = Shelf()
    shelf.files[study_uid] = files
    with WorkQueues(app.settings) as line:
        Reverification(app, line, threading.Event(), archive=shelf, pace=lambda: None)()
    assert app.ledger.list(event=AuditEventType.VERIFICATION_DIFFERS.value) == []
    worker = Worker(app.settings, "analyse-0@test", [ANALYSE_QUEUE])
    register_verifications(worker, app)
    worker.start()
    try:
        end = time.monotonic() + 30
        while not app.ledger.list(event=AuditEventType.VERIFICATION_DIFFERS.value) and time.monotonic() < end:
            time.sleep(0.05)
    finally:
        worker.stop(5)
    (alert,) = app.ledger.list(event=AuditEventType.VERIFICATION_DIFFERS.value)
    assert (alert.study_uid, alert.actor) == (study_uid, "scanwarden:timetable")
    assert "[3, 4, 9, 8]" in alert.details
