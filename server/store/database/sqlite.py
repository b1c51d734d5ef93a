"""A tape in a file of SQLite's: many readers, one writer at a time, one server.

A write-ahead log, with ``synchronous`` as :class:`Sync` says: a committed transaction survives the end of this process
in any form, kill -9 included; with ``NORMAL`` a power cut can take the last commits, never the file.
"""

import logging
import threading
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from filelock import FileLock, Timeout

from tickertape.server.store.database.backend import ENGINE_OPTIONS, Backend
from tickertape.server.store.database.errors import StoreError, StoreUnavailable
from tickertape.server.store.database.tape_file import WAL_KEPT, LogLost, TapeFile
from tickertape.server.store.durability import Sync

_log = logging.getLogger("tickertape")

_WRITES = "tickertape_writes"
_JSON_TYPES: dict[type, tuple[str, ...]] = {
    bool: ("true", "false"),
    int: ("integer", "real"),
    float: ("integer", "real"),
    str: ("text",),
}


class Sqlite(Backend):
    """Writers of this process wait for each other on a lock, those of other processes up to two seconds on the file."""

    is_shared = False

    def __init__(self, url: sa.URL, sync: Sync) -> None:
        self.reader = sa.create_engine(url, connect_args={"check_same_thread": False}, **ENGINE_OPTIONS)
        sa.event.listen(self.reader, "connect", partial(_configure, sync))
        sa.event.listen(self.reader, "begin", _begin)
        self.writer = self.reader.execution_options(**{_WRITES: True})
        self.one_writer = threading.Lock()
        self._path = url.database or ""
        self._file = TapeFile(self._path)
        self._checking = threading.Lock()
        self._serving: FileLock | None = None

    def serve(self) -> None:
        """The kernel lets go of the lock when the process ends, however it ends."""
        if self._path == ":memory:":
            return
        beside = Path(self._path).resolve()
        lock = FileLock(beside.with_name(f"{beside.name}-server"), timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            raise StoreError(
                "another server has it, and a file of SQLite's has one: end that one first, or let both use a "
                "PostgreSQL database"
            ) from None
        except OSError as error:
            raise StoreError(f"it cannot be locked for this server: {error}") from None
        self._serving = lock

    def open_alone(self, connection: sa.Connection) -> None:
        """A transaction that writes is alone anyway."""

    def check(self) -> None:
        """See :meth:`TapeFile.check`. A log that was deleted is begun anew when all that it held is in the tape."""
        with self._checking:
            try:
                self._file.check()
            except LogLost as error:
                if not self._file.save_log():
                    raise StoreUnavailable(f"{error}; what it holds is not in the tape: stop this server") from error
                self.reader.dispose()
                _log.warning("%s: all turns were written into the tape itself, and it is begun anew", error)

    def tidy(self) -> None:
        """See :meth:`TapeFile.empty_wal`."""
        with self.one_writer, self.reader.connect() as connection:
            self._file.empty_wal(connection.connection.dbapi_connection)

    def close(self) -> None:
        super().close()
        self._file.close()
        if self._serving is not None:
            self._serving.release()


def json_equals(column: sa.ColumnElement[Any], key: str, value: str | int | float | bool | None) -> Any:
    path = f'$."{key}"'
    kind = sa.func.json_type(column, path)
    if value is None:
        return sa.func.coalesce(kind, "null") == "null"
    return kind.in_(_JSON_TYPES[type(value)]) & (sa.func.json_extract(column, path) == value)


def _configure(sync: Sync, connection: Any, _record: Any) -> None:
    # Transactions are begun by _begin: the driver would begin them at the first write, too late to have read safely.
    connection.isolation_level = None
    cursor = connection.cursor()
    kept = f"journal_size_limit={WAL_KEPT}"
    for pragma in ("journal_mode=WAL", f"synchronous={sync.value}", "busy_timeout=2000", "foreign_keys=ON", kept):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES)
    driver: Any = connection.connection.dbapi_connection  # SQLAlchemy's way would cost as much as an insert
    driver.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
