"""One request on one engine, which the pool can take back."""

import asyncio
from collections.abc import AsyncGenerator

from tickertape.clients.engines.engine import Chunk
from tickertape.clients.engines.errors import EngineUnavailable


class Attempt:
    """Waits for an engine's chunks unless it is given up: for one that is frozen it would wait without end.

    What :class:`asyncio.timeout` does for each chunk, at a quarter of its price.
    """

    def __init__(self, chunks: AsyncGenerator[Chunk, None]) -> None:
        self._chunks = chunks
        self._waiting: asyncio.Task[object] | None = None
        self._given_up = ""

    async def next_chunk(self) -> Chunk | None:
        """The next chunk, ``None`` at the end.

        Raises:
            EngineUnavailable: the attempt was given up.
            EngineError: as the engine raised it.
        """
        self._waiting = task = asyncio.current_task()
        cancels = task.cancelling() if task else 0
        try:
            return await anext(self._chunks, None)
        except asyncio.CancelledError as error:
            if not self._given_up or task is None or task.uncancel() > cancels:
                raise  # somebody else does not want the task to go on
            raise EngineUnavailable(self._given_up) from error
        finally:
            self._waiting = None

    def give_up(self, reason: str) -> None:
        """Ends the wait for the next chunk, if somebody waits for it just now."""
        if self._waiting is not None and not self._given_up:
            self._given_up = reason
            self._waiting.cancel()
