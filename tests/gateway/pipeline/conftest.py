"""The pipeline's parts in this process, on SQLite and on a real PostgreSQL, with a detector that needs no weights."""

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydicom import dcmread

from config import Settings
from config.settings import Role
from gateway.app import App, build, prepare
from gateway.pipeline import analysing, queues
from gateway.pipeline.analysing import Analyst
from gateway.pipeline.dispatch import DeliverySweep
from gateway.pipeline.workflow import register_deliveries, register_revisions
from storage import InstanceFacts, InstanceKind, Priority, record_instance
from tests.faults.harness import Archive
from tests.faults.service import bright_pixels
from tests.gateway.pipeline.world import Make, World
from tests.peers_postgres import PostgresqlServer, postgresql_programs, postgresql_server


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    """A server of our own for the whole run; skips when PostgreSQL is not installed."""
    programs = postgresql_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    with postgresql_server(programs) as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)])
def url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """The URL of an empty database; None for the default, SQLite files under the store's root."""
    if request.param == "sqlite":
        yield None
        return
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    url = server.new_database()
    yield url
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS dbos CASCADE")  # the workflows' tables, beside ours
    server.give_back(url)


@pytest.fixture
def configure(tmp_path: Path, url: str | None) -> Callable[..., Settings]:
    """Settings of a fast pipeline in a fresh store; sections given go over them."""

    def make(**sections: Any) -> Settings:
        values: dict[str, Any] = {
            "store": {"root": tmp_path / "var", "high_watermark": 1, "low_watermark": 1, "reserve_bytes": 0},
            "queues": {"polling_interval": 0.05},
            "database": {"url": url},
        }
        for name, section in sections.items():
            values[name] = {**values[name], **section} if name in values else section
        return Settings(**values)

    return make


@pytest.fixture
def settings(configure: Callable[..., Settings]) -> Settings:
    return configure()


@pytest.fixture
def app(settings: Settings) -> Iterator[App]:
    prepare(settings)
    with build(settings) as opened:
        yield opened


@pytest.fixture
def analyst(app: App, monkeypatch: pytest.MonkeyPatch) -> Iterator[Analyst]:
    monkeypatch.setattr(analysing, "detectors_for", lambda *_, **__: (bright_pixels(),))
    monkeypatch.setattr(analysing, "image_model_for", lambda *_, **__: None)
    made = Analyst(app)
    yield made
    made.decoding.close()


@contextmanager
def working(app: App, analyst: Analyst) -> Iterator[queues.WorkQueues]:
    """Both workers in this process (DBOS allows one in each), the sweep of deliveries, and the queues to fill."""
    worker = queues.Worker(app.settings, queues.executor_id(Role.ANALYSE), [queues.ANALYSE_QUEUE, queues.DELIVER_QUEUE])
    register_revisions(worker, app, analyst)
    register_deliveries(worker, app)
    worker.start()
    stop = threading.Event()
    try:
        with queues.WorkQueues(app.settings) as work:
            sweep = DeliverySweep(app, work)

            def keep_sweeping() -> None:
                while not stop.wait(0.05):
                    sweep()

            sweeping = threading.Thread(target=keep_sweeping)
            sweeping.start()
            try:
                yield work
            finally:
                stop.set()
                sweeping.join()
    finally:
        worker.stop(0)


def arrive(app: App, files: Sequence[Path], **other: Any) -> None:
    """Take files in as a receiver does: durable, indexed, audited."""
    for path in files:
        header = dcmread(path, stop_before_pixels=True)
        values: dict[str, Any] = {
            "sop_instance_uid": str(header.SOPInstanceUID),
            "sop_class_uid": str(header.SOPClassUID),
            "study_uid": str(header.StudyInstanceUID),
            "series_uid": str(header.SeriesInstanceUID),
            "transfer_syntax": str(header.file_meta.TransferSyntaxUID),
            "source_ae": "MODALITY",
            "source_address": "127.0.0.1",
            "kind": InstanceKind.IMAGE,
            "priority": Priority.ROUTINE,
        }
        with app.store.incoming() as upload:
            upload.write(path.read_bytes())
            stored = upload.keep(values["sop_instance_uid"])
        with app.database.transaction() as session:
            outcome = record_instance(session, stored, InstanceFacts(**{**values, **other}))
        outcome.settle(app.store)


@pytest.fixture
def world(tmp_path: Path, migrated: Path) -> Iterator[Make]:
    opened: list[App] = []
    (tmp_path / "var").mkdir()
    shutil.copy(migrated, tmp_path / "var")

    def make(*ports: int, **values: Any) -> World:
        destinations = [
            {"name": name, "ae_title": "PACS", "host": "127.0.0.1", "port": port, "timeout": 5, **values}
            for name, port in zip(("pacs", "other", "third"), ports, strict=False)
        ]
        settings = Settings(
            store={"root": tmp_path / "var", "high_watermark": 1, "low_watermark": 1, "reserve_bytes": 0},
            destinations=destinations,
        )
        app = build(settings)
        opened.append(app)
        return World(app)

    yield make
    for app in opened:
        app.close()


@pytest.fixture
def archive() -> Archive:
    return Archive()
