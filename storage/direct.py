"""The driver's own connection within a writing transaction: for the few statements that every instance needs.

SQLAlchemy's way to a row costs several times what SQLite needs for it, and an answer to a sender waits for it. What is
written here is text with `:names`; both databases know the same SQL, and each driver gets its own kind of parameter.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any

from sqlalchemy.orm import Session

_NAME = re.compile(r":(\w+)")


class Statement:
    """One statement, as each of the drivers wants it."""

    __slots__ = ("in_order", "postgresql", "sqlite")

    def __init__(self, text: str) -> None:
        names = list(dict.fromkeys(_NAME.findall(text)))
        self.in_order = _in_order(names)
        """The values of a row as SQLite gets them: it looks a parameter's name up each time, a number costs nothing."""
        self.sqlite = _NAME.sub(lambda name: f"?{1 + names.index(name[1])}", text)
        self.postgresql = _NAME.sub(r"%(\1)s", text)


def _in_order(names: Sequence[str]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    if len(names) > 1:
        return itemgetter(*names)
    return lambda row: tuple(row[name] for name in names)


def inserting(table: str, columns: Sequence[str]) -> Statement:
    """The statement that puts a row with `columns` into `table`."""
    values = ", ".join(f":{column}" for column in columns)
    return Statement(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({values})")  # noqa: S608 - names of ours


class Direct:
    """One transaction that writes (`Database.direct`), without a mapper."""

    __slots__ = ("_connection", "_moment", "head", "is_sqlite")

    def __init__(self, connection: Any, *, is_sqlite: bool) -> None:
        self._connection = connection
        self.is_sqlite = is_sqlite
        self._moment: tuple[datetime | None, str] = None, ""
        self.head: Any = None
        """The ledger's last record, once this transaction knows it."""

    def ask(self, statement: Statement, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """The rows of a SELECT."""
        if self.is_sqlite:
            found = self._connection.execute(statement.sqlite, statement.in_order(parameters))
        else:
            found = self._connection.execute(statement.postgresql, parameters)
        return found.fetchall()  # type: ignore[no-any-return]

    def run(self, statement: Statement, rows: Sequence[Mapping[str, Any]]) -> None:
        """Execute a statement for each of `rows`."""
        if not rows:
            return
        text: str = statement.sqlite if self.is_sqlite else statement.postgresql
        values: Sequence[Any] = [statement.in_order(row) for row in rows] if self.is_sqlite else rows
        if len(values) == 1:
            self._connection.execute(text, values[0])
        else:
            self._connection.cursor().executemany(text, values)

    def moment(self, value: datetime) -> datetime | str:
        """A time as the columns hold it (`storage.tables.columns.UtcDateTime`)."""
        if not self.is_sqlite:
            return value.astimezone(UTC)
        if value is not self._moment[0]:  # the same one is asked for several times an instance
            text = value.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
            self._moment = value, text
        return self._moment[1]


def direct(session: "Session | Direct") -> Direct:
    """The driver's connection under a session of `Database.transaction`, in its transaction."""
    if isinstance(session, Direct):
        return session
    if session.new or session.dirty or session.deleted:
        session.flush()
    connection = session.connection()
    return Direct(connection.connection.driver_connection, is_sqlite=connection.dialect.name == "sqlite")
