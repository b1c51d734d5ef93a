"""The line of requests that no engine takes yet.

First come, first served: whenever something changes, requests are looked at in the order in which they came, so none
is passed by one that came later and could be served by the same engine. A request that finds room when it comes passes
nobody: those in the line could not use that room.
"""

import asyncio
import time
from collections.abc import Callable

from tickertape.clients.engines.errors import EngineUnavailable
from tickertape.clients.engines.pool.asking import Ask
from tickertape.clients.engines.pool.member import Member


class Line:
    """Requests that wait.

    Args:
        claim: takes a place at an engine for a request, if there is one.
        has_room: whether any engine has a place at all.
        why_stuck: why nobody could take the request even with room, ``None`` if somebody could; raises
            :class:`EngineUnavailable` if waiting is of no use.
        release: gives a place back.
    """

    def __init__(
        self,
        *,
        claim: Callable[[Ask], Member | None],
        has_room: Callable[[], bool],
        why_stuck: Callable[[Ask], str | None],
        release: Callable[[Member, Ask], None],
    ) -> None:
        self._claim = claim
        self._has_room = has_room
        self._why_stuck = why_stuck
        self._release = release
        self._waiting: dict[_Waiter, None] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    async def wait(self, ask: Ask) -> Member:
        """Returns the engine at which a place was taken for the request.

        Raises:
            EngineUnavailable: waiting is of no use, or its patience is over.
        """
        waiter = _Waiter(ask)
        self._waiting[waiter] = None
        try:
            self._look_at(waiter)
            return await waiter.place
        except asyncio.CancelledError:
            if waiter.place.done() and not waiter.place.cancelled() and waiter.place.exception() is None:
                self._release(waiter.place.result(), ask)  # it was given a place while it was being cancelled
            raise
        finally:
            self._waiting.pop(waiter, None)
            waiter.stop_clock()

    def room_was_made(self) -> None:
        """A request has ended."""
        for waiter in list(self._waiting) if self._waiting else ():
            if not self._has_room():
                break
            self._serve(waiter)

    def members_changed(self) -> None:
        """An engine came, went, or has other weights."""
        for waiter in list(self._waiting):
            self._look_at(waiter)

    def end(self, reason: str) -> None:
        """Nobody will be served any more."""
        for waiter in self._waiting:
            waiter.fail(EngineUnavailable(reason))

    def _look_at(self, waiter: "_Waiter") -> None:
        if self._serve(waiter):
            return
        try:
            why = self._why_stuck(waiter.ask)
        except EngineUnavailable as error:
            waiter.fail(error)
        else:
            waiter.stop_clock() if why is None else waiter.start_clock(why)

    def _serve(self, waiter: "_Waiter") -> bool:
        """Whether nothing is left to do for it."""
        if not waiter.place.done():
            member = self._claim(waiter.ask)
            if member is None:
                return False
            waiter.place.set_result(member)
        return True


class _Waiter:
    """A request in the line. Its clock runs, and takes from its patience, while nobody could take it."""

    def __init__(self, ask: Ask) -> None:
        self._loop = asyncio.get_running_loop()
        self.ask = ask
        self.place: asyncio.Future[Member] = self._loop.create_future()
        self._started = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._why = ""

    def start_clock(self, why: str) -> None:
        self._why = why
        if self._timer is None:
            self._started = time.monotonic()
            self._timer = self._loop.call_later(max(0.0, self.ask.patience), self._expire)

    def stop_clock(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self.ask.patience -= time.monotonic() - self._started

    def fail(self, error: EngineUnavailable) -> None:
        if not self.place.done():
            self.place.set_exception(error)

    def _expire(self) -> None:
        error = EngineUnavailable(f"no engine could take the request in time: {self._why}")
        error.__cause__ = self.ask.cause
        self.fail(error)
