"""Calls that are under way. A request that comes again joins its earlier call and is never sampled twice.

SDKs repeat a request when they have waited for too long or lost the connection. While the first one runs, the second
waits with it; afterwards it gets the answer that is on tape (:mod:`tickertape.server.turns.repeats`).
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tickertape.server.turns.request import TurnResult
from tickertape.server.turns.stream_buffer import StreamBuffer
from tickertape.server.turns.waiters import Waiters

#: Requests without a session that are remembered, so that a retry finds the session that was made for them.
_MOST_NAMELESS = 100_000

#: ``(session or client, digest of the body)``.
Key: TypeAlias = tuple[str, bytes]


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: bytes
    headers: dict[str, str]
    session_id: str | None = None
    turn_ids: tuple[str, ...] = ()
    """The turns that hold it; none for an error."""
    media_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Taken:
    """The end of a call: its turns' results, or a refusal."""

    results: Sequence[TurnResult] = ()
    refusal: Answer | None = None


@dataclass(slots=True)
class InFlightCall:
    """One call of the model and the clients that wait for it."""

    waiters: Waiters
    task: "asyncio.Task[Taken]"
    buffer: StreamBuffer | None = None
    """The buffer from which the client that made the call reads along; its retries get the complete answer at its
    end."""

    async def taken(self, client_gone: Callable[[], Coroutine[Any, Any, None]]) -> Taken | None:
        """Waits for the end; returns ``None`` if this client left before. If it was the last one, the turn is on tape
        by then."""
        self.waiters.join()
        watching = asyncio.ensure_future(client_gone())
        try:
            await asyncio.wait((self.task, watching), return_when=asyncio.FIRST_COMPLETED)
            if self.task.done():
                return self.task.result()
            self.waiters.leave()
            if self.waiters.gone:
                await asyncio.wait((self.task,))
        except asyncio.CancelledError:  # the server is stopping, which is what the client hears
            self.waiters.stop()
            await asyncio.wait((self.task,))
            return self.task.result()
        finally:
            watching.cancel()
        return None


@dataclass(slots=True)
class InFlightCalls:
    """Calls that run.

    Args:
        window: seconds for which a retry gets the answer of an earlier request; 0: a finished one is never repeated.
    """

    window: float
    _running: dict[Key, InFlightCall] = field(default_factory=dict)
    _nameless: "OrderedDict[Key, tuple[str, float]]" = field(default_factory=OrderedDict)
    """The session that was made for a request, and when it is forgotten."""

    def running(self, key: Key) -> InFlightCall | None:
        """The call that a retry can join."""
        call = self._running.get(key)
        return None if call is None or call.waiters.gone else call

    def start(
        self, key: Key, make: Callable[[Waiters], Awaitable[Taken]], buffer: StreamBuffer | None = None
    ) -> InFlightCall:
        """Makes a call. A later request of the same key finds this one, whatever was there before."""
        waiters = Waiters()

        async def run() -> Taken:
            try:
                return await make(waiters)
            finally:
                if self._running.get(key) is call:
                    del self._running[key]

        call = InFlightCall(waiters, asyncio.ensure_future(run()), buffer)
        self._running[key] = call
        return call

    async def ended(self) -> None:
        """Returns when all calls have ended, their turns on tape."""
        while self._running:
            await asyncio.wait([call.task for call in self._running.values()])

    def remember_session(self, key: Key, session_id: str) -> None:
        """A request that named no session got this one."""
        now = time.monotonic()
        self._nameless[key] = session_id, now + self.window
        self._nameless.move_to_end(key)
        while self._nameless and (len(self._nameless) > _MOST_NAMELESS or self._oldest_until() <= now):
            self._nameless.popitem(last=False)

    def session_of(self, key: Key) -> str | None:
        """The session that an earlier request of this key got, within the window."""
        session_id, until = self._nameless.get(key, (None, 0.0))
        return session_id if time.monotonic() < until else None

    def forget(self, session_ids: Collection[str]) -> None:
        """These sessions are deleted: their answers must not be given again."""
        for key in [key for key, (session_id, _) in self._nameless.items() if session_id in session_ids]:
            del self._nameless[key]

    def _oldest_until(self) -> float:
        return next(iter(self._nameless.values()))[1]


def body_digest(body: bytes) -> bytes:
    """Returns the 16 bytes by which a body is recognised."""
    return hashlib.sha256(body).digest()[:16]
