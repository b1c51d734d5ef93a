"""The interface of a database."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import orjson
import sqlalchemy as sa

from tickertape.server.store.database.errors import NotHoldable


def dumped(value: object) -> str:
    """JSON.

    Raises:
        NotHoldable: of what JSON has no words for, such as integers of more than 64 bits.
    """
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError as error:
        raise NotHoldable(str(error)) from error


#: For every engine: errors are logged, and what a statement holds is no reader's business.
ENGINE_OPTIONS: dict[str, Any] = {
    "json_serializer": dumped,
    "json_deserializer": orjson.loads,
    "hide_parameters": True,
}


class Backend(ABC):
    """One database, of one kind."""

    is_shared: ClassVar[bool]
    """True if several servers may write it."""
    reader: sa.Engine
    """Its transactions see one state throughout."""
    writer: sa.Engine
    one_writer: AbstractContextManager[Any]
    """Held by whoever writes, where the threads of this process must wait for each other."""

    refused: tuple[type[BaseException], ...] = ()
    """The driver's errors that say that a value cannot be held."""
    contended: tuple[str, ...] = ()
    """SQLSTATEs that say that the same transaction, tried again, may pass."""

    @abstractmethod
    def serve(self) -> None:
        """Makes this process the tape's server, or one of them, until :meth:`close`.

        Raises:
            StoreError: another one is, and there can be only one.
        """

    @abstractmethod
    def open_alone(self, connection: sa.Connection) -> None:
        """Keeps others from opening the tape until the end of the transaction."""

    def check(self) -> None:  # noqa: B027  (a server answers for itself)
        """Checks that the tape is where it was.

        Raises:
            StoreUnavailable: it is not.
        """

    def tidy(self) -> None:  # noqa: B027  (a server tidies itself)
        """Does what is to be done now and then."""

    def close(self) -> None:
        """Closes every connection."""
        self.reader.dispose()
        self.writer.dispose()
