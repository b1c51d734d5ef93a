"""Statements that must be written differently for each database."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as postgresql_dialect
from sqlalchemy.dialects import sqlite as sqlite_dialect
from sqlalchemy.ext.compiler import compiles

from tickertape.server.store.database import postgres, sqlite


def is_postgres(connection: sa.Connection) -> bool:
    return connection.dialect.name == "postgresql"


def insert(connection: sa.Connection, table: sa.Table) -> sqlite_dialect.Insert | postgresql_dialect.Insert:
    """An INSERT that can say what to do on a conflict."""
    return postgresql_dialect.insert(table) if is_postgres(connection) else sqlite_dialect.insert(table)


def returned(connection: sa.Connection, statement: str, values: Mapping[str, Any]) -> Any:
    """The row that a statement with ``:name`` parameters returns, straight from the driver: every turn needs it."""
    said = postgres.in_psycopg(statement) if is_postgres(connection) else statement
    return cast("Any", connection.connection.dbapi_connection).execute(said, values).fetchone()


def insert_plain(connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Inserts rows whose values are the driver's own, all with the same columns, straight from the driver: every turn
    needs it. Not for columns that are converted, such as JSON."""
    names = tuple(rows[0])
    said = _insert_in_psycopg(table.name, names) if is_postgres(connection) else _insert(table.name, names)
    cast("Any", connection.connection.dbapi_connection).cursor().executemany(said, rows)


@cache
def _insert(table: str, names: tuple[str, ...]) -> str:
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(f':{name}' for name in names)})"  # noqa: S608


@cache
def _insert_in_psycopg(table: str, names: tuple[str, ...]) -> str:
    return postgres.in_psycopg(_insert(table, names))


def json_equals(column: sa.ColumnElement[Any], key: str, value: str | int | float | bool | None) -> Any:
    """Returns a condition: a JSON object has ``value`` at ``key``, in type too; ``None``: null, or no such key. The key
    must not hold a quotation mark or a backslash."""
    return _ByDatabase(sqlite.json_equals(column, key, value), postgres.json_equals(column, key, value))


class _ByDatabase(sa.ColumnElement[bool]):
    """A condition that each database gets in its own words."""

    inherit_cache = False
    type = sa.Boolean()

    def __init__(self, on_sqlite: Any, on_postgresql: Any) -> None:
        self.on_sqlite = on_sqlite
        self.on_postgresql = on_postgresql


@compiles(_ByDatabase, "sqlite")
def _on_sqlite(element: _ByDatabase, compiler: Any, **options: Any) -> Any:
    return compiler.process(element.on_sqlite.self_group(), **options)


@compiles(_ByDatabase, "postgresql")
def _on_postgresql(element: _ByDatabase, compiler: Any, **options: Any) -> Any:
    return compiler.process(element.on_postgresql.self_group(), **options)
