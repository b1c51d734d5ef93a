"""The policy that samples: its version, and the pauses in which it is updated.

Every generation passes this gate. While it is closed new ones wait; what becomes of those that run is the pause's mode.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from tickertape.clients.engines.engine import PauseMode
from tickertape.clients.engines.pool import EnginePool
from tickertape.server.errors import Conflict

#: Seconds that engines get to end requests that they were ordered to abort; what still runs then is left by us.
_ABORT_SECONDS = 2.0


class Pausing(StrEnum):
    """Ways to treat running generations in a pause."""

    KEEP = "keep"
    """The engine holds them. On an engine that cannot, as with ``abort``."""
    ABORT = "abort"
    """They are broken off and go on afterwards from exactly what they have, under the new weights."""
    DRAIN = "drain"
    """They are waited for."""


class BrokenOff(Exception):
    """A generation was ended for good, by this proxy; what it had sampled is on tape."""

    def __init__(self, reason: str, *, code: str, status: int) -> None:
        super().__init__(reason)
        self.code = code
        self.status = status


@dataclass(slots=True, eq=False)
class PolicyRun:
    """One generation, from its first wait to its last token."""

    session_id: str
    turn_id: str
    can_resume: bool
    """True if it can be continued from its tokens so far with nothing changed."""
    task: "asyncio.Task[object]"
    cancelling: int
    """Number of cancellations that the task had when the run began."""
    member: str = ""
    """The engine that has it; empty while it waits."""
    is_stamped_late: bool = False
    """True where tokens come in chunks from an engine that does not say which version sampled them: a chunk must not
    reach over a change of weights."""
    interrupted: bool = False
    broken_off: BrokenOff | None = None

    def interrupt(self) -> None:
        """Leaves the engine, to go on later."""
        if not self.interrupted:
            self.interrupted = True
            self.task.cancel()

    def break_off(self, why: BrokenOff) -> None:
        """Ends it for good."""
        if self.broken_off is None:
            self.broken_off = why
            self.task.cancel()

    def absorb(self) -> bool:
        """Returns True if a cancellation that has just arrived was an interruption, which is then over, and nothing
        else.

        Raises:
            BrokenOff: it was to end the generation.
        """
        if self.broken_off is not None:
            self.task.uncancel()
            raise self.broken_off
        if self.interrupted:
            self.interrupted = False
            return self.task.uncancel() <= self.cancelling
        return False


class PolicyGate:
    """The gate.

    Args:
        pool: the engines.
        version: of the weights at start, where it is known.
    """

    def __init__(self, pool: EnginePool, version: str | None = None) -> None:
        self._pool = pool
        self._open = asyncio.Event()
        self._open.set()
        self._changed = asyncio.Event()
        self.version = version
        """The version that tokens are stamped with if they come from an engine which reports no version."""
        self.paused: Pausing | None = None
        self.paused_at: float | None = None
        self.runs: set[PolicyRun] = set()

    @property
    def running(self) -> int:
        """Generations that an engine has now."""
        return sum(1 for run in self.runs if run.member)

    @contextmanager
    def run(self, session_id: str, turn_id: str, *, can_resume: bool) -> Iterator[PolicyRun]:
        """Around a generation, which must run in the task that enters."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  (a generator of a coroutine)
        run = PolicyRun(session_id, turn_id, can_resume, task, task.cancelling())
        self.runs.add(run)
        try:
            yield run
        finally:
            self.runs.discard(run)
            self._changed.set()

    async def may_sample(self, run: PolicyRun) -> None:
        """Returns when the gate is open."""
        run.member = ""
        self._changed.set()
        await self._open.wait()

    def break_off(self, session_id: str, why: str) -> None:
        """Ends what a session is sampling."""
        for run in self.runs:
            if run.session_id == session_id:
                run.break_off(BrokenOff(why, code="session_closed", status=409))

    def set_version(self, version: str) -> None:
        """The weights are of this version from now on; engines that report another are not asked any more."""
        self.version = version
        self._pool.expect(version)

    async def pause(self, mode: Pausing, seconds: float) -> dict[str, str]:
        """Closes the gate and settles what runs.

        Args:
            mode: see there.
            seconds: to wait for generations that must end by themselves.

        Returns:
            For each engine, what its own pause said.

        Raises:
            Conflict: it is paused in another mode; or something still runs, and the gate stays closed: ask again, or
                in another mode.
        """
        if self.paused not in (None, mode) and self.running:
            raise Conflict(f"paused in mode {self.paused} already: resume first", param="mode")
        self._open.clear()
        self.paused, self.paused_at = mode, self.paused_at or time.time()
        if mode is Pausing.KEEP:
            told = await self._pool.pause(PauseMode.KEEP)
            await self._leave(lambda run: run.is_stamped_late or told.get(run.member) != "paused", seconds)
            return told
        await self._drained(lambda run: mode is Pausing.DRAIN or not run.can_resume, seconds)
        told = await self._pool.pause(PauseMode.ABORT)
        await self._none(lambda run: told.get(run.member) == "paused", _ABORT_SECONDS)  # they hand out what they have
        await self._leave(lambda _: True, seconds)
        return told

    async def resume(self, version: str | None = None) -> dict[str, str]:
        """Opens the gate. From here on tokens are of ``version``, if one is given.

        Returns:
            For each engine, what its own resume said.
        """
        if version is not None:
            self.set_version(version)
        await self._pool.refresh()
        told = await self._pool.resume()
        self.paused = self.paused_at = None
        self._open.set()
        return told

    async def _leave(self, which: Callable[[PolicyRun], bool], seconds: float) -> None:
        """Takes running generations off their engines: those that can go on at once, the others when they end."""
        for run in self.runs:
            if run.member and run.can_resume and which(run):
                run.interrupt()
        await self._drained(which, seconds)

    async def _drained(self, which: Callable[[PolicyRun], bool], seconds: float) -> None:
        if not await self._none(which, seconds):
            left = sum(1 for run in self.runs if run.member and which(run))
            raise Conflict(
                f"{left} generations still run after {seconds:g} s; new ones wait. Pause again to wait on, or in mode "
                "'abort', or resume",
                code="still_running",
            )

    async def _none(self, which: Callable[[PolicyRun], bool], seconds: float) -> bool:
        """Waits until no generation of a kind is on an engine; whether that came true in time."""
        try:
            async with asyncio.timeout(seconds):
                while any(run.member and which(run) for run in self.runs):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True
