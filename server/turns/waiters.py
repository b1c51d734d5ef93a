"""The clients that wait for a generation. One that no client waits for any more is broken off, and only then."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class ClientGone(Exception):
    """No client waits for the answer any more; the turn is on tape as undelivered."""


class Stopped(Exception):
    """The server is stopping; the turn is on tape as aborted."""


class Waiters:
    """The clients that wait for one call: the one that made it, and its retries."""

    def __init__(self) -> None:
        self._waiting = 0
        self._stopped = False
        self._generating: asyncio.Task[object] | None = None
        self.gone = False
        """True if all of them went away before the answer was there."""

    def join(self) -> None:
        self._waiting += 1

    def leave(self) -> None:
        """A client went away."""
        self._waiting -= 1
        if not self._waiting:
            self.gone = True
            self._break_off()

    def stop(self) -> None:
        """The server is stopping."""
        self._stopped = True
        self._break_off()

    def _break_off(self) -> None:
        if self._generating is not None:
            self._generating.cancel()

    @contextmanager
    def generating(self) -> Iterator[None]:
        """Around the generation, which may be cancelled inside, and nowhere else: what is sampled is committed.

        Raises:
            ClientGone: all clients have gone.
            Stopped: the server is stopping.
        """
        task = asyncio.current_task()
        if self._stopped:
            raise Stopped
        if self.gone:
            raise ClientGone("the client closed the connection")
        self._generating = task
        try:
            yield
        except asyncio.CancelledError:
            if task is None or not (self.gone or self._stopped):
                raise
            task.uncancel()
            raise (Stopped if self._stopped else ClientGone("the client closed the connection")) from None
        finally:
            self._generating = None
