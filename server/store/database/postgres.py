"""A tape in a PostgreSQL database: many readers, many writers, many servers.

Reading is REPEATABLE READ, read only. Writing is READ COMMITTED, so that whoever waited for a row sees what became of
it; a row that is read to be changed is locked. Locks are taken in one order: leases, sessions by their ids, the tape's
row. Where two transactions block each other all the same, the server undoes one, which is tried again.
"""

import re
from contextlib import nullcontext
from functools import cache, partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from tickertape.clients.extras import needs
from tickertape.server.store.database.backend import ENGINE_OPTIONS, Backend, dumped
from tickertape.server.store.database.errors import StoreError
from tickertape.server.store.durability import Sync

#: Of libpq, where the URL says nothing else; seconds, but for the last: milliseconds until unconfirmed data is
#: given up.
_CONNECTING = {"connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10, "tcp_user_timeout": 30_000}
_SETTINGS = "SET statement_timeout = '60s'; SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '120s'"
#: A server may be set to wait for more than its own disk: that stays.
_SYNC = {
    Sync.FULL: (
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    ),
    Sync.NORMAL: "SET synchronous_commit = off",
}
#: Of one server: it keeps 5 connections and makes 20 at most; threads wait for one. A database has 100 by default.
_POOL = {"pool_size": 5, "max_overflow": 15, "pool_timeout": 30, "pool_pre_ping": True}
#: Any number that other users of the database do not lock: "tape", in ASCII.
_OPENING = 0x74617065


class Postgres(Backend):
    is_shared = True
    contended = ("40001", "40P01")  # serialization_failure, deadlock_detected

    def __init__(self, url: sa.URL, sync: Sync) -> None:
        connecting = {name: value for name, value in _CONNECTING.items() if name not in url.query}
        try:
            engine = sa.create_engine(url, connect_args=connecting, **_POOL, **ENGINE_OPTIONS)
        except ImportError as error:
            raise StoreError(needs("a tape on PostgreSQL", "postgres")) from error
        sa.event.listen(engine, "connect", partial(_configure, sync))
        self.reader = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self.writer = engine.execution_options(isolation_level="READ COMMITTED", postgresql_readonly=False)
        self.one_writer = nullcontext()
        # NUL in a text, an integer of more than 64 bits, a text that is too long.
        self.refused = (engine.dialect.loaded_dbapi.DataError,)

    def serve(self) -> None:
        """One of many."""

    def open_alone(self, connection: sa.Connection) -> None:
        """Another server may be making or migrating the tape, which takes as long as it takes."""
        for name in ("lock_timeout", "statement_timeout"):
            connection.exec_driver_sql(f"SET LOCAL {name} = 0")
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_OPENING)))


def json_equals(column: sa.ColumnElement[Any], key: str, value: str | int | float | bool | None) -> Any:
    found = column.op("->", return_type=JSONB())(sa.literal(key, sa.Text))
    wanted = sa.cast(sa.literal(dumped(value), sa.Text), JSONB)
    return (sa.func.coalesce(found, wanted) if value is None else found) == wanted


@cache
def in_psycopg(statement: str) -> str:
    """A statement with ``:name`` parameters as the driver spells them."""
    return re.sub(r":(\w+)", r"%(\1)s", statement)


def _configure(sync: Sync, connection: Any, _record: Any) -> None:
    connection.execute(_SETTINGS)
    connection.execute(_SYNC[sync])
    connection.commit()
