"""One request on one engine, which the pool can take back."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from tickertape.clients.engines.engine import Chunk
from tickertape.clients.engines.errors import EngineTimeout, EngineUnavailable, Phase


@dataclass(frozen=True, slots=True)
class Silence:
    """How long an engine may be silent, in seconds; ``None``: as long as it takes."""

    first_token: float | None = None
    """From the request to its first token."""
    token: float | None = None
    """Between two chunks of tokens."""


class Attempt:
    """Waits for an engine's chunks unless it is given up: for one that is frozen it would wait without end.

    What :class:`asyncio.timeout` does for each chunk, at a quarter of its price: one timer looks now and then how long
    the engine has been silent.
    """

    def __init__(self, chunks: AsyncGenerator[Chunk, None], silence: Silence) -> None:
        self._chunks = chunks
        self._silence = silence
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Task[object] | None = None
        self._silent_since = self._loop.time()
        self._phase = Phase.FIRST_TOKEN
        self._given_up: EngineUnavailable | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._held = False
        self._start_timer()

    async def next_chunk(self) -> Chunk | None:
        """The next chunk, ``None`` at the end.

        Raises:
            EngineTimeout: the engine was silent for too long.
            EngineUnavailable: the attempt was given up.
            EngineError: as the engine raised it.
        """
        self._waiting = task = asyncio.current_task()
        cancels = task.cancelling() if task else 0
        if self._phase is Phase.TOKEN:
            self._silent_since = self._loop.time()
        try:
            chunk = await anext(self._chunks, None)
        except asyncio.CancelledError as error:
            if self._given_up is None or task is None or task.uncancel() > cancels:
                raise  # somebody else does not want the task to go on
            raise self._given_up from error
        finally:
            self._waiting = None
        if self._phase is Phase.FIRST_TOKEN and chunk is not None and chunk.token_ids:
            self._phase = Phase.TOKEN
            self._start_timer()
        return chunk

    def give_up(self, why: EngineUnavailable) -> None:
        """Ends the wait for the next chunk, if somebody waits for it just now."""
        if self._waiting is not None and self._given_up is None:
            self._given_up = why
            self._waiting.cancel()

    def hold(self) -> None:
        """The engine was told to pause: it may be silent until :meth:`go_on`."""
        self._held = True

    def go_on(self) -> None:
        if self._held:
            self._held = False
            self._silent_since = self._loop.time()
            self._start_timer()

    def close(self) -> None:
        """It has ended."""
        if self._timer is not None:
            self._timer.cancel()

    def _start_timer(self) -> None:
        self.close()
        seconds = self._seconds
        if seconds is not None:
            self._timer = self._loop.call_at(self._silent_since + seconds, self._look)

    def _look(self) -> None:
        seconds = self._seconds
        if seconds is None or self._held:
            return
        now = self._loop.time()
        if self._waiting is None:  # it is not waited for: what it gave is being looked at
            self._silent_since = now
        if now < self._silent_since + seconds - 0.002:  # uvloop counts milliseconds
            self._start_timer()
            return
        what = "no token" if self._phase is Phase.FIRST_TOKEN else "no further token"
        self.give_up(EngineTimeout(f"the engine gave {what} within {seconds:g} s", self._phase))

    @property
    def _seconds(self) -> float | None:
        return self._silence.first_token if self._phase is Phase.FIRST_TOKEN else self._silence.token
