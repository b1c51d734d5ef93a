"""One request on one engine, which the pool can take back."""

import asyncio
from dataclasses import dataclass

from tickertape.clients.engines.engine import Chunk
from tickertape.clients.engines.errors import EngineTimeout, EngineUnavailable, Phase

#: Seconds between the end of an engine's time and the judgement.
_GRACE = 0.01


@dataclass(frozen=True, slots=True)
class Silence:
    """Limits of how long an engine may be silent, in seconds; ``None``: as long as it takes."""

    first_token: float | None = None
    """From the request to its first token."""
    token: float | None = None
    """Between two chunks of tokens."""


class Attempt:
    """Ends the wait for an engine that is silent for too long, or that the pool gave up.

    It belongs to the task that makes it, which does nothing but wait for chunks while the attempt lasts: chunks are
    read in between, without waiting. So a cancellation always meets that wait. One timer looks now and then how long
    the engine has been silent, which costs a quarter of an :func:`asyncio.timeout` around each chunk.
    """

    def __init__(self, silence: Silence) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  (a coroutine's)
        self.tokens = 0
        """Sampled tokens that have come."""
        self._silence = silence
        self._task: asyncio.Task[object] = task
        self._cancelling = task.cancelling()
        self._loop = asyncio.get_running_loop()
        self._silent_since = self._loop.time()
        self._given_up: EngineUnavailable | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._held = False
        self._ended = False
        self._start_timer()

    def note(self, chunk: Chunk) -> None:
        """A chunk has come."""
        self._silent_since = self._loop.time()
        if not self.tokens and chunk.token_ids:
            self.tokens = len(chunk.token_ids)
            self._start_timer()
        else:
            self.tokens += len(chunk.token_ids)

    def give_up(self, why: EngineUnavailable) -> None:
        """Ends the wait for the next chunk."""
        if self._given_up is None and not self._ended:
            self._given_up = why
            self._task.cancel()

    @property
    def is_cancelled(self) -> bool:
        """True while a cancellation of the task is on its way."""
        return self._task.cancelling() > self._cancelling

    def why_cancelled(self) -> EngineUnavailable | None:
        """Returns the error for which the wait was just cancelled; ``None`` if the task was cancelled from
        elsewhere."""
        if self._given_up is None or self._task.uncancel() > self._cancelling:
            return None
        return self._given_up

    def hold(self) -> None:
        """The engine was ordered to pause: it may be silent until :meth:`release`."""
        self._held = True

    def release(self) -> None:
        """The engine may sample again."""
        if self._held:
            self._held = False
            self._silent_since = self._loop.time()
            self._start_timer()

    def end(self) -> None:
        """No further chunk is waited for."""
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()

    def _start_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        seconds = self._seconds
        if seconds is not None:
            self._timer = self._loop.call_at(self._silent_since + seconds, self._look)

    def _look(self) -> None:
        seconds = self._seconds
        if seconds is None or self._held:
            return
        if self._loop.time() < self._silent_since + seconds - 0.002:  # uvloop counts milliseconds
            self._start_timer()
            return
        # A loop that stood still reads what has come meanwhile before it judges.
        self._timer = self._loop.call_later(_GRACE, self._judge, self._silent_since)

    def _judge(self, silent_since: float) -> None:
        seconds = self._seconds
        if seconds is None or self._held:
            return
        if self._silent_since != silent_since:
            self._start_timer()
            return
        what, phase = ("no further token", Phase.TOKEN) if self.tokens else ("no token", Phase.FIRST_TOKEN)
        self.give_up(EngineTimeout(f"the engine gave {what} within {seconds:g} s", phase))

    @property
    def _seconds(self) -> float | None:
        return self._silence.token if self.tokens else self._silence.first_token
