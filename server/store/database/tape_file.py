"""The files of an SQLite tape: whether they are still there, and how the write-ahead log grows.

SQLite goes on writing to files that were deleted or moved away, and says that all is well. Of the tape itself nothing
can be done about that. The write-ahead log, and the index of it that connections share (``-shm``), are still whole for
connections that have them open: what the log holds can be written into the tape, and a new log begun.
"""

import logging
import os
import sqlite3
from pathlib import Path
from typing import Any

from tickertape.server.store.database.errors import StoreUnavailable

#: Bytes to which the write-ahead log is cut when it has been emptied.
WAL_KEPT = 64 * 2**20
#: Bytes of write-ahead log at which its readers are waited for, so that it can be emptied.
WAL_LARGE = 4 * WAL_KEPT

_log = logging.getLogger("tickertape")


class LogLost(StoreUnavailable):
    """The write-ahead log, or its index, is not there any more, or is another file."""


class TapeFile:
    """The file at ``path`` and its log, as they were when :meth:`check` first saw them."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._wal = Path(f"{path}-wal")
        self._shm = Path(f"{path}-shm")
        self._identity: tuple[int, int] | None = None
        self._log: dict[Path, tuple[int, int] | None] = {}
        """Identities of the log and its index; empty until they are known."""
        self._anchor: sqlite3.Connection | None = None
        """Has them open as long as they are known: no other connection's end takes them away."""

    def check(self) -> None:
        """
        Raises:
            StoreUnavailable: the file is not there any more, or is another one.
            LogLost: that goes for its log; see :meth:`save_log`.
        """
        try:
            found = self._path.stat()
        except OSError as error:
            if self._identity is None:  # it is about to be made
                return
            raise StoreUnavailable(f"the tape {self._path} is gone: {error.strerror}") from error
        identity = found.st_dev, found.st_ino
        if self._identity is None:
            self._identity = identity
        if identity != self._identity:
            raise StoreUnavailable(f"the tape {self._path} was replaced by another file: start anew to use that")
        self._check_log()

    def save_log(self) -> bool:
        """Writes what a lost log holds into the tape. Whether all of it is there now, and a new log can be begun; every
        connection must be closed then."""
        if self._anchor is None or any(path.exists() and path.stat().st_size for path in self._changed()):
            return False
        blocked, *_ = self._anchor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if not blocked:
            self.close()
        return not blocked

    def close(self) -> None:
        """Forgets the log."""
        anchor, self._anchor, self._log = self._anchor, None, {}
        if anchor is not None:
            anchor.close()

    def _check_log(self) -> None:
        if not self._log and self._wal.exists():
            self._anchor = self._anchor or sqlite3.connect(
                self._path, check_same_thread=False, isolation_level=None, timeout=2.0
            )
            self._anchor.execute("SELECT count(*) FROM sqlite_master").fetchall()  # opens both
            self._log = {path: _identity(path) for path in (self._wal, self._shm)}
        for path in self._changed():
            state = "was replaced by another file" if path.exists() else "is gone"
            raise LogLost(f"{path}, which belongs to the newest turns of the tape, {state}")

    def _changed(self) -> list[Path]:
        return [path for path, identity in self._log.items() if _identity(path) != identity]

    def empty_wal(self, connection: Any) -> None:
        """Empties a write-ahead log that has become large, if its readers let it: it is emptied as it is written, but
        never before the oldest reader's transaction has ended, and readers that overlap leave no moment for it.

        Args:
            connection: the driver's, in no transaction.
        """
        size = self._wal.stat().st_size if self._wal.exists() else 0
        if size <= WAL_LARGE:
            return
        blocked, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if blocked:
            _log.warning(
                "the write-ahead log of %s has %d MiB: a reader of an old state keeps it from being emptied",
                self._path,
                size >> 20,
            )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
