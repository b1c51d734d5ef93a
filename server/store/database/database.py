"""One tape: transactions to read and to write in, whatever database it is in."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa

from tickertape.server.store.database.address import address, shown
from tickertape.server.store.database.backend import Backend
from tickertape.server.store.database.errors import Contended, NotHoldable, StoreError, StoreUnavailable
from tickertape.server.store.database.faults import is_unavailable
from tickertape.server.store.database.postgres import Postgres
from tickertape.server.store.database.sqlite import Sqlite
from tickertape.server.store.durability import Sync

#: Seconds before a transaction that others were in the way of is tried again; up to twice as long, by chance.
_PAUSES = (0.005, 0.02, 0.1, 0.3)

T = TypeVar("T")


class Database:
    """One tape.

    Args:
        place: a path or URL, see :func:`tickertape.server.store.database.address.address`.
        sync: what a commit waits for.

    Raises:
        StoreError: there is no such place, or its driver is missing.
    """

    def __init__(self, place: str | Path, sync: Sync = Sync.FULL) -> None:
        url = address(place)
        self.path = shown(url)
        self._backend: Backend = Sqlite(url, sync) if url.drivername == "sqlite" else Postgres(url, sync)
        self._errors = sa.exc.SQLAlchemyError, self._backend.reader.dialect.loaded_dbapi.Error

    @property
    def is_shared(self) -> bool:
        """Returns True if several servers may write it."""
        return self._backend.is_shared

    def serve(self) -> None:
        """See :meth:`Backend.serve`."""
        self._backend.serve()

    def open_alone(self, connection: sa.Connection) -> None:
        """See :meth:`Backend.open_alone`."""
        self._backend.open_alone(connection)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction that sees one state of the tape throughout.

        Raises:
            StoreError: the tape cannot be read.
        """
        try:
            self._backend.check()
            with self._backend.reader.begin() as connection:
                yield connection
        except self._errors as error:
            raise self._failure(error, "read") from error

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Opens a transaction beside which no other changes the same; committed at the end of the block, undone if it
        raises.

        Raises:
            StoreError: the tape cannot be written.
        """
        try:
            with self._backend.one_writer:
                self._backend.check()
                with self._backend.writer.begin() as connection:
                    yield connection
                self._backend.check()  # what was committed to a file that went meanwhile is not on tape
        except self._errors as error:
            raise self._failure(error, "written") from error

    def write(self, function: Callable[[sa.Connection], T]) -> T:
        """``function`` in such a transaction, and a few times again if others are in its way: it must do nothing else.

        Raises:
            StoreError: the tape cannot be written.
        """
        for pause in _PAUSES:
            try:
                with self.writing() as connection:
                    return function(connection)
            except Contended:
                time.sleep(pause * (1 + random.random()))  # noqa: S311  (so that the two do not meet again)
        with self.writing() as connection:
            return function(connection)

    def _failure(self, error: Exception, what: str) -> StoreError:
        said = getattr(error, "orig", None) or error.__cause__ or error
        text = f"the tape {self.path} cannot be {what}: {said}"
        if isinstance(said, (NotHoldable, *self._backend.refused)):
            return NotHoldable(text)
        if getattr(said, "sqlstate", None) in self._backend.contended:
            return Contended(text)
        return StoreUnavailable(text) if is_unavailable(error) else StoreError(text)

    def tidy(self) -> None:
        """Does what is to be done now and then.

        Raises:
            StoreError: the tape cannot be written.
        """
        try:
            self._backend.tidy()
        except self._errors as error:
            raise self._failure(error, "written") from error

    def close(self) -> None:
        """Closes every connection."""
        self._backend.close()
