"""The database: one engine for SQLite and PostgreSQL, one writer at a time on both.

The ledger is a chain, so transactions that write must come one after the other. SQLite has its write lock (BEGIN
IMMEDIATE), before which writers stand in line (`storage.turn`); on PostgreSQL every writing transaction begins with one
advisory lock. What a writer reads is therefore what it decides on, and no two writers can deadlock. Readers take no
lock and never wait.

Engines do not survive a fork: open one `Database` in each process.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import Connection as SqliteConnection
from sqlite3 import OperationalError as SqliteBusy
from typing import Any, Self
from urllib.parse import quote

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL, Connection, Engine, PoolProxiedConnection, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from config import Settings
from storage.direct import Direct
from storage.errors import DatabaseUnavailable, SchemaMismatch
from storage.turn import Turn

WRITER_LOCK = 0x5343414E5741  # "SCANWA": our key among PostgreSQL's advisory locks
_WRITES = "scanwarden_writes"
_QUERY_ONLY = "scanwarden_query_only"


class Database:
    """Sessions that read, sessions that write, and the schema they need."""

    def __init__(
        self, url: str | URL, *, busy_timeout: float = 30.0, pool_size: int = 5, read_only: bool = False
    ) -> None:
        """`busy_timeout`: seconds that a writer waits for its turn before DatabaseUnavailable.

        `read_only`: for whoever only looks. On SQLite the file itself is opened without the right to write; on
        PostgreSQL every transaction is read-only, and the account's own grants have to do the rest.
        """
        self.url = _with_driver(make_url(url))
        self.read_only = read_only
        self.on_wait: Callable[[float], None] | None = None
        """Told after each writer's turn began: the seconds that it waited."""
        self._busy_timeout = busy_timeout
        self.engine = (
            self._sqlite(busy_timeout, pool_size) if self.is_sqlite else self._postgresql(busy_timeout, pool_size)
        )
        self._writing = self.engine.execution_options(**{_WRITES: True})
        self._lock = threading.Lock()  # threads of this process, before the processes
        file = self.url.database if self.is_sqlite and not read_only else None
        self._turn = Turn(Path(file)) if file and not file.startswith((":memory:", "file:")) else None
        self._kept: PoolProxiedConnection | None = None

    @property
    def is_sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    def for_readers(self) -> "Database":
        """The same database, opened without the right to write; close it, too."""
        return Database(self.url, busy_timeout=self._busy_timeout, read_only=True)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A session whose work is committed as a whole, durably, when the block ends without an error.

        Raises DatabaseUnavailable when the lock does not come in time, or the database cannot be reached or written.
        """
        if self.read_only:
            raise DatabaseUnavailable(f"{self} is open for reading only")
        asked = time.perf_counter()
        with (
            self._translated("write to"),
            self._in_turn(),
            Session(self._writing, expire_on_commit=False) as session,
            session.begin(),
        ):
            session.connection()  # the lock is taken before the first thing is read
            self._told(asked)
            yield session

    @contextmanager
    def direct(self) -> Iterator[Direct]:
        """`transaction` without the mapper, for what every instance waits for; its connection is kept for the next."""
        if self.read_only:
            raise DatabaseUnavailable(f"{self} is open for reading only")
        asked = time.perf_counter()
        with self._translated("write to"), self._in_turn():
            connection = self._begun()
            self._told(asked)
            try:
                yield Direct(connection, is_sqlite=self.is_sqlite)
                connection.commit()
            except BaseException:
                self._let_go()
                raise

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that sees one consistent state, takes no write lock and refuses to write."""
        with self._translated("read from"), Session(self.engine, expire_on_commit=False) as session:
            yield session

    def migrate(self) -> None:
        """Bring the schema up to this program; safe when many processes start at once (one works, the others wait)."""
        with self._translated("migrate"), self._in_turn(), self._writing.begin() as connection:
            config = _alembic_config()
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as fault:
                text = f"{self}: the schema comes from a newer Scanwarden ({fault})"
                raise SchemaMismatch(f"{text}; start that version or restore a backup") from fault

    def check(self) -> None:
        """Raise DatabaseUnavailable or SchemaMismatch unless the database answers with the schema that we know."""
        with self._translated("reach"), self.engine.connect() as connection:
            found = MigrationContext.configure(connection).get_current_revision()
        known = ScriptDirectory.from_config(_alembic_config()).get_current_head()
        if found != known:
            raise SchemaMismatch(
                f"{self}: schema is {found}, this program needs {known}; start `scanwarden serve` once"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_fault: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back every connection."""
        self._let_go()
        self.engine.dispose()
        if self._turn is not None:
            self._turn.close()

    def __str__(self) -> str:
        return self.url.render_as_string(hide_password=True)

    def _told(self, asked: float) -> None:
        if self.on_wait is not None:
            self.on_wait(time.perf_counter() - asked)

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        """The right to begin a transaction that writes, before the database is asked for its lock."""
        begun = time.monotonic()
        late = f"cannot write to the database: {self._busy_timeout:g} s were not enough for others to finish; try again"
        if not self._lock.acquire(timeout=self._busy_timeout):
            raise DatabaseUnavailable(late)
        try:
            if self._turn is None:
                yield
                return
            if not self._turn.take(self._busy_timeout - (time.monotonic() - begun)):
                raise DatabaseUnavailable(late)
            try:
                yield
            finally:
                self._turn.give()
        finally:
            self._lock.release()

    def _begun(self) -> Any:
        """The driver's connection in a transaction that holds the lock."""
        for attempt in (1, 2):
            if self._kept is None:
                self._kept = self.engine.raw_connection()
                if self.is_sqlite:
                    self._kept.driver_connection.execute("PRAGMA query_only=OFF")  # type: ignore[union-attr]
            connection: Any = self._kept.driver_connection
            try:
                if self.is_sqlite:
                    connection.execute("BEGIN IMMEDIATE")
                else:
                    connection.execute(f"SELECT pg_advisory_xact_lock({WRITER_LOCK})")
            except BaseException:
                lost = not self.is_sqlite and connection.closed
                self._let_go()
                if lost and attempt == 1:  # the server was started again since the last transaction
                    continue
                raise
            return connection
        raise AssertionError

    def _let_go(self) -> None:
        """Part with the kept connection, whatever state it is in; what it has not committed is undone."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.invalidate()

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        driver = self.engine.dialect.loaded_dbapi
        try:
            yield
        except (OperationalError, InterfaceError, PoolTimeout, driver.OperationalError, driver.InterfaceError) as fault:
            cause = fault.orig if isinstance(fault, DBAPIError) else fault
            raise DatabaseUnavailable(
                f"cannot {doing} the database: {str(cause).strip()}; take it as not done, and try again when it answers"
            ) from fault

    def _sqlite(self, busy_timeout: float, pool_size: int) -> Engine:
        url = self.url
        if self.read_only and url.database:
            url = url.set(database=f"file:{quote(url.database)}").update_query_dict({"mode": "ro", "uri": "true"})
        elif self.url.database and self.url.database != ":memory:":
            Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(
            url,
            connect_args={"timeout": busy_timeout},
            pool_size=pool_size,
            max_overflow=10,
            pool_timeout=busy_timeout,
        )
        event.listen(engine, "connect", _configure_sqlite_reader if self.read_only else _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine

    def _postgresql(self, busy_timeout: float, pool_size: int) -> Engine:
        milliseconds = max(1, int(busy_timeout * 1000))
        # A writer that freezes with the lock in its hand must not stop the others for ever.
        options = (
            f"-c lock_timeout={milliseconds} -c idle_in_transaction_session_timeout={2 * milliseconds} -c timezone=UTC"
        )
        if self.read_only:
            options += " -c default_transaction_read_only=on"
        engine = create_engine(
            self.url,
            connect_args={"options": options, "connect_timeout": 10, "application_name": "scanwarden"},
            pool_pre_ping=True,
            pool_size=pool_size,
            max_overflow=10,
            pool_timeout=busy_timeout,
        )
        event.listen(engine, "connect", _configure_postgresql)
        event.listen(engine, "begin", _begin_postgresql)
        return engine


def open_database(settings: Settings) -> Database:
    """The database that the settings name; without a URL, `scanwarden.sqlite` under the store's root."""
    url = _configured_url(settings) or URL.create("sqlite", database=str(settings.store.root / "scanwarden.sqlite"))
    return Database(url, busy_timeout=settings.database.busy_timeout)


def workflow_database_url(settings: Settings) -> str:
    """URL, with password, of DBOS's system database: its own file beside a SQLite one, the same PostgreSQL database.

    DBOS keeps its tables in a schema of its own, `dbos`.
    """
    url = _configured_url(settings)
    if url is not None and url.get_backend_name() == "postgresql":
        return _with_driver(url).render_as_string(hide_password=False)
    return URL.create("sqlite", database=str(settings.store.root / "workflows.sqlite")).render_as_string()


def _configured_url(settings: Settings) -> URL | None:
    if settings.database.url is None:
        return None
    url = make_url(settings.database.url.get_secret_value())
    if settings.database.password_file is not None:
        url = url.set(password=settings.database.password_file.read_text(encoding="utf-8").strip())
    return url


def _with_driver(url: URL) -> URL:
    if url.get_backend_name() == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() == "sqlite":
        return url
    raise ValueError(f"database.url: {url.drivername} is not supported; use sqlite:///… or postgresql://…")


def _configure_sqlite(connection: SqliteConnection, _record: object) -> None:
    connection.isolation_level = None  # SQLAlchemy's recipe: we say BEGIN ourselves, the driver never does
    for pragma in ("foreign_keys=ON", "recursive_triggers=ON", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")
    for attempt in range(
        50
    ):  # the switch to WAL does not honour the busy timeout when several processes create the file
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            break
        except SqliteBusy:
            if attempt == 49:
                raise
            time.sleep(0.05)


def _configure_sqlite_reader(connection: SqliteConnection, _record: object) -> None:
    connection.isolation_level = None
    connection.execute("PRAGMA query_only=ON")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    if connection.info.get(_QUERY_ONLY) is not (not writes):
        connection.exec_driver_sql(f"PRAGMA query_only={'OFF' if writes else 'ON'}")
        connection.info[_QUERY_ONLY] = not writes
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _configure_postgresql(connection, _record: object) -> None:  # type: ignore[no-untyped-def]
    with connection.cursor() as cursor:
        # A server tuned for speed may acknowledge a commit before it is on disk; ours may not (promise 1).
        cursor.execute(
            "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
        )
    connection.commit()


def _begin_postgresql(connection: Connection) -> None:
    if connection.get_execution_options().get(_WRITES, False):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITER_LOCK})")
    else:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")


def _alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config
