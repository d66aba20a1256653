"""`/readyz` is 200 only when this machine can take, keep, write down and analyse; each check fails by itself."""

import os
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest

from gateway.metrics.snapshots import Publisher, folder
from storage import AuditEventType, InstanceStore
from tests.gateway.web.conftest import HOST, Start, Web

HERE = socket.gethostname()


@pytest.fixture
def ready(start: Start) -> Iterator[Web]:
    """One where everything is as it should be; the DICOM port is a socket that listens."""
    with serving() as port:
        web = start({"dicom": {"host": HOST, "port": port}})
        web.beats("receive", host=HERE)
        web.beats("analyse")
        yield web


@contextmanager
def serving() -> Iterator[int]:
    """A port that takes a connection without a byte for a check, and closes it."""
    with socket.create_server((HOST, 0)) as listener:

        def run() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(1)

        thread = threading.Thread(target=run)
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def failing(web: Web) -> set[str]:
    """The names of the checks that failed, all of which the status has to tell as well."""
    web.parts.readiness._seen_at = float("-inf")
    answer = web.ask("/readyz")
    failed = {name for name, check in answer.json["checks"].items() if not check["ok"]}
    assert answer.status == (503 if failed else 200)
    assert answer.json["ready"] is not failed
    return failed


def test_a_machine_that_can_do_its_work_is_ready(ready: Web) -> None:
    assert failing(ready) == set()
    assert ready.ask("/healthz").json == {"alive": True, "supervisor": "lives"}


def test_asking_leaves_nothing_in_the_ledger(ready: Web) -> None:
    before = ready.app.ledger.list(limit=None)
    assert failing(ready) == set()
    assert ready.app.ledger.list(limit=None) == before
    assert ready.events(AuditEventType.APPLICATION_STARTED) == []


def test_a_port_that_does_not_accept_is_told(start: Start) -> None:
    web = start()
    web.beats("receive", host=HERE)
    web.beats("analyse")
    assert failing(web) == {"dicom_port"}


def test_a_port_that_only_the_kernel_holds_is_told(start: Start) -> None:
    with socket.create_server((HOST, 0)) as nobody:
        web = start({"dicom": {"host": HOST, "port": nobody.getsockname()[1]}}, check_timeout=0.4)
        web.beats("receive", host=HERE)
        web.beats("analyse")
        assert failing(web) == {"dicom_port"}


def test_a_receiver_that_hangs_is_told(ready: Web) -> None:
    Publisher(folder(ready.app.settings), "receive-2").publish()
    assert failing(ready) == set()
    os.utime(folder(ready.app.settings) / "receive-2.prom", (0, 0))
    assert failing(ready) == {"dicom_port"}


def test_a_machine_that_leaves_receiving_to_another_is_ready(start: Start) -> None:
    web = start()
    web.beats("receive", "analyse")
    assert failing(web) == set()


def test_silent_processes_are_told(start: Start) -> None:
    web = start()
    web.beats("receive", "analyse", at=datetime.now(UTC) - timedelta(minutes=2))
    assert failing(web) == {"dicom_port", "analyse_role"}


def test_a_disk_above_its_watermark_is_told(start: Start, tmp_path: object) -> None:
    web = start({"store": {"root": f"{tmp_path}/full", "high_watermark": 0.0001, "low_watermark": 0.0001}})
    web.beats("receive", "analyse")
    assert failing(web) == {"disk"}


def test_a_schema_of_another_version_is_told(ready: Web) -> None:
    with closing(sqlite3.connect(ready.app.store.root / "scanwarden.sqlite")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'older'")
        connection.commit()
    assert failing(ready) == {"database"}


def test_a_ledger_that_cannot_be_written_is_told_in_time(ready: Web) -> None:
    with closing(sqlite3.connect(ready.app.store.root / "scanwarden.sqlite")) as connection:
        connection.execute("BEGIN IMMEDIATE")
        assert failing(ready) == {"ledger"}
    assert failing(ready) == set()


def test_a_check_that_hangs_is_told_in_time_and_not_begun_again(ready: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    released = threading.Event()

    def hang(_store: InstanceStore) -> None:
        calls.append(time.monotonic())
        released.wait(30)
        raise OSError("Secret^Patient")

    monkeypatch.setattr(InstanceStore, "headroom", hang)
    ready.parts.readiness._settings = ready.app.settings.model_copy(
        update={"web": ready.app.settings.web.model_copy(update={"check_timeout": 0.3})}
    )
    assert [failing(ready), failing(ready), len(calls)] == [{"disk"}, {"disk"}, 1]
    released.set()


def test_a_drain_is_told_while_everything_else_is_well(ready: Web) -> None:
    ready.parts.draining.begin()
    assert failing(ready) == {"draining"}
    assert ready.ask("/healthz").status == 200


def test_health_ends_with_the_supervisor(ready: Web) -> None:
    ready.parts.supervisor = 2**22 + 1
    assert ready.ask("/healthz").status == 503
