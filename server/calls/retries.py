"""Retries: a request that comes again is answered from the first one, and never sampled twice.

SDKs repeat a request when they have waited for too long or lost the connection. While the first one runs, the second
waits with it; afterwards it gets the same bytes, for as long as the window is and the memory lasts.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tickertape.server.turns.stream_buffer import Live
from tickertape.server.turns.waiters import Audience

#: Bytes that an answer takes up beside its own.
_OVERHEAD = 1024

#: ``(session or client, digest of the body)``.
Key: TypeAlias = tuple[str, bytes]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client is told."""

    status: int
    body: bytes
    headers: dict[str, str]
    session_id: str | None = None
    turn_ids: tuple[str, ...] = ()
    """The turns that hold it; none for an error."""
    media_type: str = "application/json"

    @property
    def is_worth_keeping(self) -> bool:
        """Whether a retry gets it too. After an error the retry is a new try."""
        return self.status == 200 and bool(self.turn_ids)


@dataclass(slots=True)
class InFlightCall:
    """One call of the model and those who wait for it."""

    audience: Audience
    task: "asyncio.Task[Answer]"
    live: Live | None = None
    """Where the client that made the call reads along; its retries get the whole answer at its end."""

    async def answer(self, client_gone: Callable[[], Coroutine[Any, Any, None]]) -> Answer | None:
        """The answer; ``None`` if this client went away before. If it was the last one, the turn is on tape by then."""
        self.audience.join()
        watching = asyncio.ensure_future(client_gone())
        try:
            await asyncio.wait((self.task, watching), return_when=asyncio.FIRST_COMPLETED)
            if self.task.done():
                return self.task.result()
            self.audience.leave()
            if self.audience.gone:
                await asyncio.wait((self.task,))
        except asyncio.CancelledError:  # the server is stopping, which is what the client is told
            self.audience.stop()
            await asyncio.wait((self.task,))
            return self.task.result()
        finally:
            watching.cancel()
        return None


@dataclass(slots=True)
class _Kept:
    answer: Answer
    until: float
    size: int


@dataclass(slots=True)
class Retries:
    """Calls that run, and answers that were given.

    Args:
        window: seconds for which an answer is kept; 0 keeps none.
        memory: bytes that kept answers may take up; the oldest are let go first.
    """

    window: float
    memory: int
    _running: dict[Key, InFlightCall] = field(default_factory=dict)
    _kept: "OrderedDict[Key, _Kept]" = field(default_factory=OrderedDict)
    _size: int = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size(self) -> int:
        """Bytes that kept answers take up."""
        return self._size

    def running(self, key: Key) -> InFlightCall | None:
        """The call that a retry can join."""
        call = self._running.get(key)
        return None if call is None or call.audience.gone else call

    def given(self, key: Key) -> Answer | None:
        """The answer that a retry gets."""
        self._let_go()
        kept = self._kept.get(key)
        return None if kept is None else kept.answer

    def start(self, key: Key, make: Callable[[Audience], Awaitable[Answer]], live: Live | None = None) -> InFlightCall:
        """Makes a call. A later request of the same key finds this one, whatever was there before."""
        audience = Audience()

        async def run() -> Answer:
            try:
                answer = await make(audience)
                if answer.is_worth_keeping:
                    self._keep(key, answer)
                return answer
            finally:
                if self._running.get(key) is call:
                    del self._running[key]

        call = InFlightCall(audience, asyncio.ensure_future(run()), live)
        self._running[key] = call
        return call

    async def ended(self) -> None:
        """Returns when all calls have ended, their turns on tape."""
        while self._running:
            await asyncio.wait([call.task for call in self._running.values()])

    def forget(self, session_ids: Collection[str]) -> None:
        """These sessions are no more: an answer of theirs must not be given again."""
        for key in [key for key, kept in self._kept.items() if kept.answer.session_id in session_ids]:
            self._drop(key)

    def _keep(self, key: Key, answer: Answer) -> None:
        self._drop(key)
        size = len(answer.body) + _OVERHEAD
        if self.window > 0 and size <= self.memory:
            self._kept[key] = _Kept(answer, time.monotonic() + self.window, size)
            self._size += size
        self._let_go()

    def _let_go(self) -> None:
        now = time.monotonic()
        while self._kept:
            key, oldest = next(iter(self._kept.items()))
            if self._size <= self.memory and now < oldest.until:
                return
            self._drop(key)

    def _drop(self, key: Key) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._size -= kept.size


def body_digest(body: bytes) -> bytes:
    """By which a body is known again: 16 bytes."""
    return hashlib.sha256(body).digest()[:16]
