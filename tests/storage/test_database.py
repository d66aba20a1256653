"""One engine for two databases: schema, one writer at a time, readers that never wait."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from pydantic import SecretStr
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError

from config import Settings
from storage import Database, DatabaseUnavailable, SchemaMismatch, StorageError, open_database, workflow_database_url
from storage.direct import Direct, Statement, direct, inserting
from storage.tables import Lease, Table
from tests.peers_postgres import PostgresqlServer
from tests.storage.arrivals import NOON

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_tables_in_the_code_are_the_tables_that_the_migrations_make(database: Database) -> None:
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Table.metadata) == []


def test_migrating_twice_changes_nothing(database: Database) -> None:
    database.migrate()
    database.check()


def test_processes_that_migrate_at_once_all_succeed(url: str) -> None:
    code = "import sys; from storage import Database; d = Database(sys.argv[1]); d.migrate(); d.check()"
    started = [
        subprocess.Popen([sys.executable, "-c", code, url], cwd=REPOSITORY, stderr=subprocess.PIPE) for _ in range(4)
    ]
    errors = [process.communicate(timeout=60)[1].decode() for process in started]
    assert [process.returncode for process in started] == [0] * 4, errors


def test_a_database_without_our_schema_is_not_healthy(url: str) -> None:
    with Database(url) as database, pytest.raises(SchemaMismatch, match="schema is None"):
        database.check()


def test_a_schema_from_a_newer_version_stops_the_start(database: Database) -> None:
    with database.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaMismatch, match="newer"):
        database.migrate()
    with pytest.raises(SchemaMismatch, match="9999"):
        database.check()


def test_a_transaction_that_fails_leaves_nothing(database: Database) -> None:
    def fail() -> None:
        with database.transaction() as session:
            session.add(Lease(name="timetable", holder="a", acquired_at=NOON, expires_at=NOON))
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with database.reading() as session:
        assert session.get(Lease, "timetable") is None


LEASES = Statement("SELECT name FROM leases")
LEASE = inserting("leases", ("name", "holder", "acquired_at", "expires_at"))


def direct_lease(own: Direct, name: str) -> None:
    moment = own.moment(NOON)
    own.run(LEASE, [{"name": name, "holder": "a", "acquired_at": moment, "expires_at": moment}])


def test_what_is_written_past_the_mapper_reads_the_same_through_it(database: Database) -> None:
    with database.direct() as own:
        direct_lease(own, "timetable")
    with database.reading() as session:
        assert session.get_one(Lease, "timetable").expires_at == NOON


def test_a_direct_transaction_that_fails_leaves_nothing_and_the_next_one_works(database: Database) -> None:
    def fail() -> None:
        with database.direct() as own:
            direct_lease(own, "lost")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with database.direct() as own:
        assert own.ask(LEASES, {}) == []
        direct_lease(own, "kept")
    with database.direct() as own:
        assert own.ask(LEASES, {}) == [("kept",)]


def test_a_kept_connection_that_the_server_closed_is_replaced(database: Database) -> None:
    with database.direct() as own:
        direct_lease(own, "kept")
    if not database.is_sqlite:
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        others += " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        with database.reading() as session:
            session.execute(text(others))
    with database.direct() as own:
        assert own.ask(LEASES, {}) == [("kept",)]


def test_mapper_and_driver_share_a_transaction(database: Database) -> None:
    with database.transaction() as session:
        session.add(Lease(name="mapped", holder="a", acquired_at=NOON, expires_at=NOON))
        assert direct(session).ask(LEASES, {}) == [("mapped",)]
        direct_lease(direct(session), "direct")
        session.rollback()
    with database.direct() as own:
        assert own.ask(LEASES, {}) == []


def test_times_come_back_in_utc(database: Database) -> None:
    with database.transaction() as session:
        session.add(Lease(name="timetable", holder="a", acquired_at=NOON, expires_at=NOON))
    with database.reading() as session:
        found = session.get_one(Lease, "timetable").expires_at
    assert found == NOON
    assert found.utcoffset() is not None


def test_a_second_writer_waits_for_the_first_and_then_gives_up(url: str, database: Database) -> None:
    with Database(url, busy_timeout=0.2) as impatient:
        with database.transaction(), pytest.raises(DatabaseUnavailable) as refusal, impatient.transaction():
            pass
        assert refusal.value.dicom_status == 0xA700
        with impatient.transaction() as session:
            assert session.get(Lease, "timetable") is None


def test_a_reader_neither_waits_for_a_writer_nor_sees_what_is_not_committed(url: str, database: Database) -> None:
    with Database(url, busy_timeout=0.2) as other, database.transaction() as session:
        session.add(Lease(name="timetable", holder="a", acquired_at=NOON, expires_at=NOON))
        session.flush()
        with other.reading() as reader:
            assert reader.get(Lease, "timetable") is None


def test_a_reader_sees_one_state_throughout(database: Database) -> None:
    with database.reading() as reader:
        assert reader.get(Lease, "timetable") is None
        with database.transaction() as session:
            session.add(Lease(name="timetable", holder="a", acquired_at=NOON, expires_at=NOON))
        assert reader.get(Lease, "timetable", populate_existing=True) is None


def test_a_reading_session_refuses_to_write(database: Database) -> None:
    with pytest.raises((DBAPIError, StorageError)), database.reading() as session:
        session.execute(text("DELETE FROM leases"))


def test_what_a_writer_reads_stays_true_until_it_commits(database: Database) -> None:
    """Many count up one number: none of the increments is lost."""
    with database.transaction() as session:
        session.add(Lease(name="counter", holder="0", acquired_at=NOON, expires_at=NOON))

    def count() -> None:
        for _ in range(10):
            with database.transaction() as session:
                lease = session.get_one(Lease, "counter")
                lease.holder = str(int(lease.holder) + 1)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.reading() as session:
        assert session.get_one(Lease, "counter").holder == "40"


def test_a_commit_is_on_disk_before_it_is_reported(database: Database) -> None:
    with database.direct() as own:
        durable = own.ask(Statement("PRAGMA synchronous" if database.is_sqlite else "SHOW synchronous_commit"), {})
        assert durable == [(2 if database.is_sqlite else "on",)]
    with database.reading() as session:
        if database.is_sqlite:
            assert session.scalar(text("PRAGMA synchronous")) == 2
            assert session.scalar(text("PRAGMA journal_mode")) == "wal"
            assert session.scalar(text("PRAGMA foreign_keys")) == 1
        else:
            assert session.scalar(text("SHOW synchronous_commit")) == "on"


@pytest.mark.peers
def test_a_server_that_acknowledges_early_is_told_not_to(postgresql: PostgresqlServer) -> None:
    url = postgresql.new_database()
    name = make_url(url).database
    with Database(url) as lax, lax.transaction() as session:
        session.execute(text(f'ALTER DATABASE "{name}" SET synchronous_commit = off'))
    with Database(url) as ours, ours.reading() as session:
        assert session.scalar(text("SHOW synchronous_commit")) == "on"


def test_a_database_that_is_down_is_named_without_its_password() -> None:
    database = Database("postgresql://scanwarden:secret@127.0.0.1:1/none")
    with pytest.raises(DatabaseUnavailable) as refusal:
        database.check()
    assert "secret" not in str(refusal.value) + str(database)


def test_without_a_url_everything_lies_under_the_stores_root(tmp_path: Path) -> None:
    settings = Settings.model_validate({"store": {"root": tmp_path / "var"}})
    with open_database(settings) as database:
        database.migrate()
    assert (tmp_path / "var" / "scanwarden.sqlite").exists()
    assert workflow_database_url(settings) == f"sqlite:///{tmp_path}/var/workflows.sqlite"


def test_the_password_comes_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("s3:cret/@\n")
    settings = Settings.model_validate(
        {
            "database": {
                "url": SecretStr("postgresql://scanwarden@db.example/scanwarden"),
                "password_file": tmp_path / "password",
            }
        }
    )
    url = make_url(workflow_database_url(settings))
    assert (url.drivername, url.password, url.host) == ("postgresql+psycopg", "s3:cret/@", "db.example")
    assert open_database(settings).url == url


def test_another_kind_of_database_is_refused_with_what_to_use_instead() -> None:
    with pytest.raises(ValueError, match="use sqlite"):
        Database("mysql://localhost/scanwarden")
