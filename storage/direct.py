"""The driver's own connection within a writing transaction: for the few statements that every instance needs.

SQLAlchemy's way to a row costs several times what SQLite needs for it, and an answer to a sender waits for it. What is
written here is text with `:names`; both databases know the same SQL, and each driver gets its own kind of parameter.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.orm import Session

_NAME = re.compile(r":(\w+)")


class Statement:
    """One statement, as each of the drivers wants it."""

    __slots__ = ("postgresql", "sqlite")

    def __init__(self, text: str) -> None:
        self.sqlite = text
        self.postgresql = _NAME.sub(r"%(\1)s", text)


def inserting(table: str, columns: Sequence[str]) -> Statement:
    """The statement that puts a row with `columns` into `table`."""
    values = ", ".join(f":{column}" for column in columns)
    return Statement(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({values})")  # noqa: S608 - names of ours


class Direct:
    """One transaction that writes (`Database.direct`), without a mapper."""

    __slots__ = ("_connection", "head", "is_sqlite")

    def __init__(self, connection: Any, *, is_sqlite: bool) -> None:
        self._connection = connection
        self.is_sqlite = is_sqlite
        self.head: Any = None
        """The ledger's last record, once this transaction knows it."""

    def ask(self, statement: Statement, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """The rows of a SELECT."""
        text = statement.sqlite if self.is_sqlite else statement.postgresql
        return self._connection.execute(text, parameters).fetchall()  # type: ignore[no-any-return]

    def run(self, statement: Statement, rows: Sequence[Mapping[str, Any]]) -> None:
        """Execute a statement for each of `rows`."""
        text = statement.sqlite if self.is_sqlite else statement.postgresql
        if len(rows) == 1:
            self._connection.execute(text, rows[0])
        elif rows:
            self._connection.cursor().executemany(text, rows)

    def moment(self, value: datetime) -> datetime | str:
        """A time as the columns hold it (`storage.tables.columns.UtcDateTime`)."""
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None).isoformat(" ", "microseconds") if self.is_sqlite else value


def direct(session: "Session | Direct") -> Direct:
    """The driver's connection under a session of `Database.transaction`, in its transaction."""
    if isinstance(session, Direct):
        return session
    if session.new or session.dirty or session.deleted:
        session.flush()
    connection = session.connection()
    return Direct(connection.connection.driver_connection, is_sqlite=connection.dialect.name == "sqlite")
