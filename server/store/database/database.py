"""What differs between databases, in one place: connecting, transactions, upserts.

SQLite: write-ahead log with ``synchronous=NORMAL``. A committed transaction survives the end of this process in any
form, kill -9 included; a power cut can take the last commits, never the file. Everything else under ``store`` is
SQLAlchemy Core that SQLite and PostgreSQL both understand.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import Insert
from sqlalchemy.dialects.sqlite import insert as _insert

_WRITES = "tickertape_writes"


class StoreError(Exception):
    """The tape cannot be written or read."""


class Database:
    """One tape: transactions to read and to write in.

    Writers of this process wait for each other on a lock, those of other processes up to ten seconds on the file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self._engine = sa.create_engine(
            f"sqlite:///{self.path}",
            connect_args={"check_same_thread": False},
            json_serializer=lambda value: orjson.dumps(value).decode(),
            json_deserializer=orjson.loads,
        )
        sa.event.listen(self._engine, "connect", _configure)
        sa.event.listen(self._engine, "begin", _begin)
        self._errors = sa.exc.SQLAlchemyError, self._engine.dialect.loaded_dbapi.Error
        self._writing = threading.Lock()
        self._writer = self._engine.execution_options(**{_WRITES: True})

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction that sees one state of the tape throughout.

        Raises:
            StoreError: the tape cannot be read.
        """
        try:
            with self._engine.begin() as connection:
                yield connection
        except self._errors as error:
            raise StoreError(f"the tape {self.path} cannot be read: {_why(error)}") from error

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction that nobody else writes beside; committed at the end of the block, undone if it raises.

        Raises:
            StoreError: the tape cannot be written.
        """
        try:
            with self._writing, self._writer.begin() as connection:
                yield connection
        except self._errors as error:
            raise StoreError(f"the tape {self.path} cannot be written: {_why(error)}") from error

    def close(self) -> None:
        """Closes every connection."""
        self._engine.dispose()


def returned(connection: sa.Connection, statement: str, values: Mapping[str, Any]) -> Any:
    """The row that a statement with ``:name`` parameters returns, straight from the driver: every turn needs it."""
    return cast("Any", connection.connection.dbapi_connection).execute(statement, values).fetchone()


def insert(table: sa.Table) -> Insert:
    """An INSERT that can say what to do on a conflict."""
    return _insert(table)


_JSON_TYPES: dict[type, tuple[str, ...]] = {
    bool: ("true", "false"),
    int: ("integer", "real"),
    float: ("integer", "real"),
    str: ("text",),
}


def json_equals(column: sa.ColumnElement[Any], key: str, value: str | int | float | bool | None) -> Any:
    """Whether a JSON object has ``value`` at ``key``, in type too; ``None``: null, or no such key. The key must not
    hold a quotation mark or a backslash."""
    path = f'$."{key}"'
    kind = sa.func.json_type(column, path)
    if value is None:
        return sa.func.coalesce(kind, "null") == "null"
    return kind.in_(_JSON_TYPES[type(value)]) & (sa.func.json_extract(column, path) == value)


def _why(error: Exception) -> object:
    return error.__cause__ or error


def _configure(connection: Any, _record: Any) -> None:
    # Transactions are begun by _begin: the driver would begin them at the first write, too late to have read safely.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=10000", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES)
    driver: Any = connection.connection.dbapi_connection  # SQLAlchemy's way would cost as much as an insert
    driver.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
