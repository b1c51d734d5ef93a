"""The file of an SQLite tape: whether it is still there, and how its write-ahead log grows.

SQLite goes on writing to a file that was deleted or moved away, and says that all is well.
"""

import logging
from pathlib import Path
from typing import Any

from tickertape.server.store.database.errors import StoreUnavailable

#: Bytes to which the write-ahead log is cut when it has been emptied.
WAL_KEPT = 64 * 2**20
#: Bytes of write-ahead log at which its readers are waited for, so that it can be emptied.
WAL_LARGE = 4 * WAL_KEPT

_log = logging.getLogger("tickertape")


class TapeFile:
    """The file at ``path``, as it was when :meth:`check` first saw it."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._wal = Path(f"{path}-wal")
        self._identity: tuple[int, int] | None = None

    def check(self) -> None:
        """Raises :class:`StoreUnavailable` if the file is not there any more, or is another one."""
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
