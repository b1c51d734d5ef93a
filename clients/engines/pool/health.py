"""The members that may serve: found out by probing, and by what becomes of requests.

Down at once: no process listens at its address. Down the second time in a row: a request for which the engine was not
available (a timeout, a 5xx, an answer that broke off; a 429 does not count, and a token from it starts the count anew),
or a probe that failed while no token came (a busy engine may be slow to say that it is well). The first failed request
has it probed at once.

What an engine still runs when it has been down for some seconds, without a token in them, is given up: a host that is
lost says nothing.

An engine that is down, or was never reached, is started anew once per interval. Where that works, it may be another
server by now: it joins only if it fits what the pool promises, and with the weights that are expected.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from tickertape.clients.engines.engine import Chunk, EngineInfo
from tickertape.clients.engines.errors import (
    EngineBusy,
    EngineError,
    EngineGone,
    EngineNonsense,
    EngineRefused,
    EngineUnavailable,
)
from tickertape.clients.engines.pool.member import Member, MemberState
from tickertape.clients.engines.pool.versions import VersionOrder

_log = logging.getLogger("tickertape")

_ANSWERS = (MemberState.READY, MemberState.STALE)


@dataclass(frozen=True, slots=True)
class Connected:
    """An engine that has answered."""

    info: EngineInfo
    version: str | None
    """Of its weights, as it says; ``None`` where it does not."""


class Health:
    """Keeps members' states.

    Args:
        misfit: why a member that says this of itself cannot serve in this pool; ``None`` if it can.
        changed: called after a state or a version changed.
        every: seconds between two probes of an engine.
        timeout: seconds that a probe gets.
        silence: seconds without a token after which what runs on an engine that is down is given up.
    """

    def __init__(
        self,
        *,
        misfit: Callable[[Member, EngineInfo], str | None],
        changed: Callable[[], None],
        every: float,
        timeout: float,
        silence: float,
    ) -> None:
        self.expected: str | None = None
        self.versions = VersionOrder()
        self._misfit = misfit
        self._changed = changed
        self._every = every
        self._timeout = timeout
        self._silence = silence
        self._watches: dict[Member, asyncio.Task[None]] = {}

    # From outside: engines come and go, weights are expected.

    async def connect(self, member: Member) -> Connected:
        """Starts it, and asks what it is; :meth:`admit` lets it in.

        Raises:
            EngineError: it does not answer as an engine of its kind.
        """
        info = await member.engine.start()
        return Connected(info, await self._ask(member))

    def admit(self, member: Member, connected: Connected) -> None:
        """Lets it in.

        Raises:
            EngineRefused: it does not fit into this pool.
        """
        if (reason := self._misfit(member, connected.info)) is not None:
            raise EngineRefused(reason)
        member.info = connected.info
        member.failed_requests = member.failed_probes = 0
        self._learn(member, connected.version)
        self.join(member)

    def join(self, member: Member) -> None:
        """It answers: ready or stale, by its weights."""
        if self.expected is None or member.version == self.expected:
            self.put(member, MemberState.READY, "")
        elif member.version is None:
            reason = f"nobody knows the version of its weights, {self.expected!r} is expected: confirm it"
            self.put(member, MemberState.STALE, reason)
        else:
            reason = f"it has weights of version {member.version!r}, {self.expected!r} is expected"
            self.put(member, MemberState.STALE, reason)

    def watch(self, member: Member, connecting: asyncio.Task[Connected] | None = None) -> None:
        """Probes it from now on; first of all waits for the attempt to connect, if there is one."""
        self._watches[member] = asyncio.create_task(self._watch(member, connecting), name=f"probing {member.name}")

    async def unwatch(self, members: Iterable[Member]) -> None:
        """Probes them no more."""
        tasks = [task for member in members if (task := self._watches.pop(member, None))]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def expect(self, version: str | None, members: Iterable[Member]) -> None:
        """Which weights engines must have from now on. Those that serve and cannot say have them by this word."""
        self.expected = version
        if version is not None:
            self.versions.note(version)
        for member in members:
            if version is not None and member.state is MemberState.READY and not member.reports_version:
                member.version = version
            if member.state in _ANSWERS:
                self.join(member)
        self._changed()

    async def confirm(self, member: Member, version: str) -> None:
        """Notes that it has these weights, by the caller's word.

        Raises:
            EngineRefused: it says otherwise, or does not serve.
            EngineUnavailable: it does not answer.
        """
        if member.state not in _ANSWERS:
            raise EngineRefused(f"engine {member.name!r} is {member.state}: {member.reason}", param="name")
        said = await self._ask(member)
        self._learn(member, said or version)
        member.reports_version = said is not None
        self.join(member)
        if said is not None and said != version:
            raise EngineRefused(f"engine {member.name!r} says that its weights are {said!r}", param="version")

    async def probe(self, member: Member) -> None:
        """Asks it whether it is well, and for its version."""
        began = time.monotonic()
        try:
            version = await self._ask(member)
        except EngineError as error:
            if member.state in _ANSWERS and (isinstance(error, EngineGone) or member.heard_at < began):
                member.failed_probes += 1
                self._count(member, error, member.failed_probes)
        else:
            if member.state in _ANSWERS:
                member.failed_probes = 0
                self._learn(member, version)
                self.join(member)

    # From requests.

    def heard(self, member: Member, chunk: Chunk) -> None:
        """It sampled something."""
        member.heard_at = time.monotonic()
        member.failed_requests = 0
        version = chunk.policy_version
        if version is None or version == member.version or member.reports_version or self.expected is not None:
            return  # what it says when it is asked, and what it was given by word, are surer
        self.versions.note(version)
        if member.version is None or self.versions.at_least(version, member.version):
            member.version = version
            self._changed()

    def failed(self, member: Member, error: EngineError) -> None:
        """A request ended with an error of it."""
        member.failed += 1
        member.last_error = str(error)
        unavailable = isinstance(error, EngineUnavailable) and not isinstance(error, EngineBusy)
        if unavailable and member.state in _ANSWERS:
            member.failed_requests += 1
            self._count(member, error, member.failed_requests)

    def put(self, member: Member, state: MemberState, reason: str) -> None:
        """Changes its state."""
        if (state, reason) == (member.state, member.reason):
            return
        level = logging.INFO if state in (MemberState.READY, MemberState.DRAINING) else logging.WARNING
        told = member.info.summary if state is MemberState.READY and member.info else reason
        _log.log(level, "engine %s is %s%s", member.name, state, told and f": {told}")
        member.state, member.reason = state, reason
        self._changed()

    # The rules.

    def _count(self, member: Member, error: EngineError, in_a_row: int) -> None:
        member.last_error = str(error)
        if isinstance(error, EngineGone) or in_a_row >= 2:
            self.down(member, error)
        else:
            member.suspected.set()

    def down(self, member: Member, error: EngineError) -> None:
        """It does not answer as it should. What comes back may have other weights."""
        member.last_error = str(error)
        if member.state is not MemberState.DOWN:
            member.down_at = time.monotonic()
        member.version, member.reports_version = None, False
        self.put(member, MemberState.DOWN, str(error))

    def _learn(self, member: Member, version: str | None) -> None:
        member.reports_version = version is not None
        if version is not None and version != member.version:
            self.versions.note(version)
            member.version = version
            self._changed()

    async def _answers(self, member: Member) -> None:
        """Raises :class:`EngineUnavailable` if it does not answer in the time of a probe. What it answers is of no
        interest: it may be another server by now, which says that it is well in another way."""
        try:
            async with asyncio.timeout(self._timeout):
                await member.engine.check()
        except TimeoutError as error:
            raise self._silent() from error
        except (EngineRefused, EngineNonsense):
            pass

    def _silent(self) -> EngineUnavailable:
        return EngineUnavailable(f"it did not answer a probe within {self._timeout:g} seconds")

    async def _ask(self, member: Member) -> str | None:
        """Its version, if it is well."""
        try:
            async with asyncio.timeout(self._timeout):
                await member.engine.check()
                return await member.engine.policy_version()
        except TimeoutError as error:
            raise self._silent() from error

    async def _watch(self, member: Member, connecting: asyncio.Task[Connected] | None) -> None:
        if connecting is not None:
            await self._attempt(member, self._return(member, connecting))
        while True:
            try:
                async with asyncio.timeout(self._every):
                    await member.suspected.wait()
            except TimeoutError:
                pass  # nothing happened: its turn by the clock
            member.suspected.clear()
            is_down = member.state is MemberState.DOWN
            await self._attempt(member, self._return(member) if is_down else self.probe(member))

    async def _attempt(self, member: Member, attempt: Awaitable[None]) -> None:
        try:
            await attempt
        except Exception as error:  # noqa: BLE001  (reported in the log; the watch must go on)
            _log.exception("probing engine %s failed", member.name)
            self.put(member, MemberState.DOWN, f"probing it failed: {type(error).__name__}: {error}")

    async def _return(self, member: Member, connecting: asyncio.Task[Connected] | None = None) -> None:
        try:
            if member.info is not None:
                await self._answers(member)
            self.admit(member, await (connecting or self.connect(member)))
        except EngineError as error:
            self.down(member, error)
            if time.monotonic() - max(member.down_at, member.heard_at) > self._silence:
                for attempt in member.attempts:
                    gone = f"it went down while it had the request: {member.reason}"
                    attempt.give_up(EngineUnavailable(gone))
