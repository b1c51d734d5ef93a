"""The line of requests that no engine takes yet.

Fair over sessions: sessions that wait get places in turn, and a session's own requests in the order in which they came.
So one session with hundreds of parallel calls keeps no other session waiting for longer than its turn takes. A request
that finds room when it comes passes no other: those in the line could not use that room.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

from tickertape.clients.engines.errors import EngineUnavailable, QueueTimeout
from tickertape.clients.engines.pool.member import Member
from tickertape.clients.engines.pool.request import EngineRequest
from tickertape.clients.engines.pool.throughput import Pace


class FairQueue:
    """Requests that wait.

    Args:
        claim: takes a place at an engine for a request, if there is one.
        has_room: whether any engine has a place at all.
        why_stuck: why no engine could take the request even with room, ``None`` if one could; raises
            :class:`EngineUnavailable` if waiting is of no use.
        release: gives a place back.
        seconds: that a request waits here at most; ``None``: as long as it takes.
    """

    def __init__(
        self,
        *,
        claim: Callable[[EngineRequest], Member | None],
        has_room: Callable[[], bool],
        why_stuck: Callable[[EngineRequest], str | None],
        release: Callable[[Member, EngineRequest], None],
        seconds: float | None = None,
    ) -> None:
        self._claim = claim
        self._has_room = has_room
        self._why_stuck = why_stuck
        self._release = release
        self._seconds = seconds
        self._sessions: OrderedDict[str, dict[_Waiter, None]] = OrderedDict()
        """The waiting requests by session; the session whose turn it is comes first."""
        self._length = 0
        self._pace = Pace()

    def __len__(self) -> int:
        return self._length

    def seconds_for(self, requests: int) -> float:
        """Estimates the seconds until this many waiting requests have places, from the recent pace."""
        return self._pace.seconds_for(requests)

    async def wait(self, request: EngineRequest) -> Member:
        """Returns the engine at which a place was taken for the request.

        Raises:
            EngineUnavailable: waiting is of no use, or its patience is over.
            QueueTimeout: it has waited for as long as it may.
        """
        waiter = _Waiter(request)
        self._sessions.setdefault(request.session_id, {})[waiter] = None
        self._length += 1
        if self._seconds is not None and not request.resumes:
            waiter.start_timeout(self._seconds, self._too_late)
        try:
            self._look_at(waiter)
            return await waiter.place
        except asyncio.CancelledError:
            if waiter.place.done() and not waiter.place.cancelled() and waiter.place.exception() is None:
                self._release(waiter.place.result(), request)  # it was given a place while it was being cancelled
            raise
        finally:
            self._leave(waiter)
            waiter.stop_clocks()

    def room_was_made(self) -> None:
        """A request has ended."""
        self._pace.note()
        self._give_places()

    def members_changed(self) -> None:
        """An engine came, went, or has other weights."""
        self._give_places()
        for waiter in [waiter for waiting in self._sessions.values() for waiter in waiting]:
            self._look_at(waiter)

    def end(self, reason: str) -> None:
        """No request will be served any more."""
        for waiter in [waiter for waiting in self._sessions.values() for waiter in waiting]:
            self._fail(waiter, EngineUnavailable(reason))

    def _give_places(self) -> None:
        while self._length and self._has_room() and self._serve_next():
            pass

    def _serve_next(self) -> bool:
        """Gives one place, to the first session in turn of which a request can use it; whether there was one."""
        for session, waiting in self._sessions.items():
            for waiter in waiting:
                if self._serve(waiter):
                    if session in self._sessions:
                        self._sessions.move_to_end(session)
                    return True
        return False

    def _look_at(self, waiter: "_Waiter") -> None:
        if waiter.place.done() or self._serve(waiter):
            return
        try:
            why = self._why_stuck(waiter.request)
        except EngineUnavailable as error:
            self._fail(waiter, error)
        else:
            waiter.stop_clock() if why is None else waiter.start_clock(why)

    def _serve(self, waiter: "_Waiter") -> bool:
        """Returns True if it got a place."""
        member = self._claim(waiter.request)
        if member is None:
            return False
        self._leave(waiter)
        if waiter.place.done():  # it was cancelled, and has not noticed
            self._release(member, waiter.request)
        else:
            waiter.place.set_result(member)
        return True

    def _fail(self, waiter: "_Waiter", error: EngineUnavailable) -> None:
        self._leave(waiter)
        waiter.fail(error)

    def _too_late(self, waiter: "_Waiter") -> None:
        text = f"no engine had room for the request within {self._seconds:g} s; {self._length} requests wait"
        self._fail(waiter, QueueTimeout(text, retry_after=self.seconds_for(self._length)))

    def _leave(self, waiter: "_Waiter") -> None:
        """It waits no more."""
        session = waiter.request.session_id
        waiting = self._sessions.get(session)
        if waiting is not None and waiter in waiting:
            del waiting[waiter]
            self._length -= 1
            if not waiting:
                del self._sessions[session]


class _Waiter:
    """A request in the line. Its clock runs, and takes from its patience, while no engine could take it."""

    def __init__(self, request: EngineRequest) -> None:
        self._loop = asyncio.get_running_loop()
        self.request = request
        self.place: asyncio.Future[Member] = self._loop.create_future()
        self._started = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timeout: asyncio.TimerHandle | None = None
        self._why = ""

    def start_timeout(self, seconds: float, too_late: "Callable[[_Waiter], None]") -> None:
        self._timeout = self._loop.call_later(seconds, too_late, self)

    def start_clock(self, why: str) -> None:
        self._why = why
        if self._timer is None:
            self._started = time.monotonic()
            self._timer = self._loop.call_later(max(0.0, self.request.patience), self._expire)

    def stop_clock(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self.request.patience -= time.monotonic() - self._started

    def stop_clocks(self) -> None:
        self.stop_clock()
        if self._timeout is not None:
            self._timeout.cancel()

    def fail(self, error: EngineUnavailable) -> None:
        if not self.place.done():
            self.place.set_exception(error)

    def _expire(self) -> None:
        error = EngineUnavailable(f"no engine could take the request in time: {self._why}")
        error.__cause__ = self.request.cause
        self.fail(error)
