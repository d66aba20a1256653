"""Databases for fault tests: SQLite under the store's root, and a real PostgreSQL."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.peers_postgres import postgresql_programs, postgresql_server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """The URL of an empty database; None for the default."""
    if request.param == "sqlite":
        yield None
        return
    programs = postgresql_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    with postgresql_server(programs) as server:
        url = server.new_database()
        yield url
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("DROP SCHEMA IF EXISTS dbos CASCADE")
        server.give_back(url)
