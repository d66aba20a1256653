"""The only place where the service's parts are put together; a role takes what it needs from here."""

import logging
import sys
from dataclasses import dataclass
from typing import Self

import structlog

from config import Settings
from storage import Database, InstanceStore, Ledger, StorageError, open_database, open_store

log = structlog.get_logger(__name__)

_QUOTING = frozenset({"pydicom", "pynetdicom", "highdicom", "py"})  # "py.warnings" are Python's own


class CannotStart(Exception):
    """The service cannot start as it is configured; the message says what to change."""


@dataclass(frozen=True)
class App:
    """What every role works with. Open one in each process: its connections do not survive a fork."""

    settings: Settings
    database: Database
    store: InstanceStore
    ledger: Ledger

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self.database.close()


def build(settings: Settings) -> App:
    """Open the database and the store that the settings describe. Raises StorageError."""
    database = open_database(settings)
    return App(settings, database, open_store(settings), Ledger(database))


def prepare(settings: Settings) -> None:
    """What is done once before any role starts: schema, queues, leftovers of dead receivers. Raises CannotStart."""
    from gateway.pipeline import queues

    try:
        with build(settings) as app:
            app.database.migrate()
            queues.prepare(settings)
            swept = app.store.sweep_incoming()
            if settings.forwarding.routes:
                from gateway.pipeline import forwarding

                forwarding.begin(settings, app.database)
    except StorageError as fault:
        raise CannotStart(str(fault)) from fault
    except OSError as fault:
        raise CannotStart(f"store.root: {settings.store.root}: {fault.strerror or fault}") from fault
    if swept:
        log.info("removed transfers that were never finished; their senders were not told otherwise", files=swept)


def configure_log(settings: Settings) -> None:
    """Structured lines to standard error; other libraries' warnings and errors join them.

    Not those of the DICOM libraries, nor Python's warnings: they quote the values that they complain of, which may be a
    patient's (promise 7).
    """
    level = logging.getLevelNamesMapping()[settings.log.level.upper()]
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if settings.log.format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(asctime)s [%(levelname)s] %(name)s %(message)s"
    )
    # At the handler: these libraries set their loggers' levels again when they are imported.
    logging.captureWarnings(capture=True)
    for handler in logging.getLogger().handlers:
        handler.addFilter(lambda record: record.name.partition(".")[0] not in _QUOTING)
