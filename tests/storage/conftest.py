"""Every contract of storage is tested on both: a fresh SQLite file, and a fresh database of a real PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import Database, InstanceStore
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
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database."""
    if request.param == "postgresql":
        server: PostgresqlServer = request.getfixturevalue("postgresql")
        url = server.new_database()
        yield url
        server.give_back(url)
    else:
        yield f"sqlite:///{tmp_path}/database.sqlite"


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """A database with our schema."""
    with Database(url, busy_timeout=20) as database:
        database.migrate()
        yield database


@pytest.fixture
def store(tmp_path: Path) -> InstanceStore:
    """An empty store that does not mind how full the test machine's disk is."""
    return InstanceStore(tmp_path / "store", high_watermark=1.0, low_watermark=1.0, reserve_bytes=0)
