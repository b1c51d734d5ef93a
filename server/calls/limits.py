"""Limits of how much is taken on at once, and what becomes of calls beyond that.

A call is admitted before a byte of its body is read, or refused with a 429 that says when to come again. Whoever is
admitted is never refused for want of room afterwards, whatever becomes of the engines; it may only wait too long.

A refused call that names its session is on the tape as rejected. So that refusing costs less than serving, it is not
waited for: calls of one session that are refused within a second are one turn, which says how many they were.
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tickertape.clients.engines.pool import EnginePool
from tickertape.server.errors import ProxyError, retry_in

#: Seconds that one turn of refused calls stands for.
_SPAN = 1.0
#: Sessions whose refusals are noted within a span; those of further ones are in the log alone.
_MOST_SESSIONS = 4096
#: How many turns of refused calls are written at once, and seconds of rest afterwards: calls come first.
_TOGETHER = 4
_REST = 0.005

_log = logging.getLogger("tickertape")


class Overloaded(ProxyError):
    """There is no room for the call now. 429 and not 529: both SDKs come again after ``Retry-After``, and no agent
    takes it for a reason to change the model."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Limits of what is taken on at once."""

    max_calls: int = 8192
    """Calls, those that wait included."""
    queue_limit: int = 1000
    """Generations that wait for a place at an engine."""
    session_calls: int | None = None
    """Calls of one session."""


class Admission:
    """Counts what is under way.

    Args:
        pool: the engines, whose places and pace decide.
        limits: see there.
    """

    def __init__(self, pool: EnginePool, limits: CallLimits) -> None:
        self._pool = pool
        self._limits = limits
        self._sessions: Counter[str] = Counter()
        self.calls = 0
        """Calls under way."""
        self.generations = 0
        """Number of generations that they ask for: as many as calls, and more where one wants several choices."""
        self.refused = 0
        """Calls that were refused so far."""

    def admit(self, session_id: str | None) -> "AdmissionSlot":
        """Takes a place for a call.

        Raises:
            Overloaded: there is none.
        """
        limits = self._limits
        if self.calls >= limits.max_calls:
            raise self._overloaded(f"{self.calls} calls are under way, which is the most that are taken on")
        if session_id is not None and limits.session_calls is not None:
            running = self._sessions[session_id]
            if running >= limits.session_calls:
                raise self._overloaded(f"session {session_id!r} has {running} calls under way, which is the most")
        if not self._has_room(1):
            raise self._full()
        self.calls += 1
        self.generations += 1
        if session_id is not None:
            self._sessions[session_id] += 1
        return AdmissionSlot(self, session_id)

    def widen(self, place: "AdmissionSlot", choices: int) -> None:
        """The call wants so many choices; a single call is never too wide.

        Raises:
            Overloaded: there is no room for them.
        """
        more = choices - place.generations
        if self.generations > place.generations and not self._has_room(more):
            raise self._full()
        place.generations += more
        self.generations += more

    def release(self, place: "AdmissionSlot") -> None:
        """The call has ended."""
        self.calls -= 1
        self.generations -= place.generations
        if place.session_id is not None:
            self._sessions[place.session_id] -= 1
            if not self._sessions[place.session_id]:
                del self._sessions[place.session_id]

    def _has_room(self, more: int) -> bool:
        places = self._pool.places
        return places is None or self.generations + more <= places + self._limits.queue_limit

    def _full(self) -> Overloaded:
        return self._overloaded(f"{self.generations} generations are under way and the queue is full")

    def _overloaded(self, why: str) -> Overloaded:
        """Says when there is likely to be room: when what waits now has got its places. Spread
        a little, so that those who are refused together do not come again together."""
        self.refused += 1
        waiting = max(1, self.generations - (self._pool.places or 0)) if self._pool.places is not None else 1
        seconds = self._pool.seconds_for(waiting) * random.uniform(1.0, 1.25)  # noqa: S311  (no secret)
        error = Overloaded(f"{why}; try again later")
        error.headers = retry_in(seconds)
        return error


@dataclass(slots=True)
class AdmissionSlot:
    """The share of the limits that an admitted call takes up, until it is left."""

    admission: Admission
    session_id: str | None
    generations: int = 1
    _held: bool = True
    _task: "asyncio.Task[Any] | None" = None

    def widen(self, choices: int) -> None:
        """See :meth:`Admission.widen`."""
        if choices != self.generations:
            self.admission.widen(self, choices)

    def keep_until(self, task: "asyncio.Task[Any]") -> None:
        """It is left when the task ends, not before."""
        self._task = task
        task.add_done_callback(lambda _: self._release())

    def leave(self) -> None:
        """The call needs it no more, unless a task of it does."""
        if self._task is None:
            self._release()

    def _release(self) -> None:
        if self._held:
            self._held = False
            self.admission.release(self)


#: Puts one turn on the tape: of a session, a dialect, with a text.
Record = Callable[[str, str, str], Awaitable[None]]


class Refusals:
    """Puts refused calls on the tape, at a pace that the tape can bear.

    Args:
        record: puts one turn on the tape.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self._noted: Counter[tuple[str, str]] = Counter()
        self._why: dict[tuple[str, str], str] = {}
        self._unnoted = 0
        self._writing: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def note(self, session_id: str, dialect: str, why: str) -> None:
        """A call of a session was refused."""
        key = (session_id, dialect)
        if key not in self._noted and len(self._noted) >= _MOST_SESSIONS:
            self._unnoted += 1
            return
        self._noted[key] += 1
        self._why[key] = why
        if self._writing is None and not self._closing.is_set():
            self._writing = asyncio.create_task(self._write(), name="writing refusals")

    async def close(self) -> None:
        """Writes what was noted."""
        self._closing.set()
        if self._writing is not None:
            await self._writing
        await self._write_noted()

    async def _write(self) -> None:
        while self._noted and not self._closing.is_set():
            try:
                async with asyncio.timeout(_SPAN):
                    await self._closing.wait()
            except TimeoutError:
                await self._write_noted()
        self._writing = None

    async def _write_noted(self) -> None:
        noted, self._noted = self._noted, Counter()
        reasons, self._why = self._why, {}
        unnoted, self._unnoted = self._unnoted, 0
        if unnoted:
            _log.warning(
                "%d calls were refused that are not on the tape, of more than %d sessions at once",
                unnoted,
                _MOST_SESSIONS,
            )
        keys = list(noted)
        for start in range(0, len(keys), _TOGETHER):
            together = keys[start : start + _TOGETHER]
            await asyncio.gather(*(self._write_one(*key, noted[key], reasons[key]) for key in together))
            if not self._closing.is_set():
                await asyncio.sleep(_REST)

    async def _write_one(self, session_id: str, dialect: str, calls: int, why: str) -> None:
        text = why if calls == 1 else f"{calls} calls within {_SPAN:g} s: {why}"
        try:
            await self._record(session_id, dialect, text)
        except ProxyError as error:
            _log.warning("%d refused calls of session %s are not on the tape: %s", calls, session_id, error)
