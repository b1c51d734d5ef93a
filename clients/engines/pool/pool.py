"""Many engines behind one: a request goes to one of them, and to another while no token was seen."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from types import MappingProxyType

from tickertape.clients.engines.engine import Chunk, Engine, EngineInfo, Feature, PauseMode
from tickertape.clients.engines.errors import EngineError, EngineRefused, EngineTimeout, EngineUnavailable, Phase
from tickertape.clients.engines.pool.attempt import Attempt, Silence
from tickertape.clients.engines.pool.broadcast import tell_all
from tickertape.clients.engines.pool.capabilities import Promise
from tickertape.clients.engines.pool.fair_queue import FairQueue
from tickertape.clients.engines.pool.health import Connected, Health
from tickertape.clients.engines.pool.member import Member, MemberState
from tickertape.clients.engines.pool.request import EngineRequest
from tickertape.clients.engines.pool.routing import Router

#: Seconds that a start waits for engines which neither answer nor fail: what they are is known then, as a rule.
START_WAIT = 5.0
#: How long a completion is expected to become before any has ended, in tokens.
_FIRST_GUESS = 512


class EnginePool:
    """Engines that serve one model.

    Args:
        engines: by name, not started.
        limit: requests that each engine gets at once; more wait, and their sessions are served in turn. ``None``: no
            limit.
        patience: seconds that a request waits, in all, while no engine could take it even with room.
        probe_every: seconds between two probes of an engine.
        probe_timeout: seconds that a probe gets.
        silence: seconds without a token after which what runs on an engine that is down is given up.
        any_model: whether engines may call the model differently, as servers do that were started from paths.
        queue_timeout: seconds that a request waits for room; ``None``: as long as it takes.
        timeouts: how long an engine may be silent while it has a request.
    """

    def __init__(
        self,
        engines: Mapping[str, Engine],
        *,
        limit: int | None = None,
        patience: float = 30.0,
        probe_every: float = 1.0,
        probe_timeout: float = 3.0,
        silence: float = 10.0,
        any_model: bool = False,
        queue_timeout: float | None = None,
        timeouts: Silence | None = None,
    ) -> None:
        self._members = {name: Member(name, engine, limit) for name, engine in engines.items()}
        self.members: Mapping[str, Member] = MappingProxyType(self._members)
        self._limit = limit
        self._patience = patience
        self._promise = Promise(self._members.values(), any_model=any_model)
        self._ready = asyncio.Event()
        self._usual_tokens = float(_FIRST_GUESS)
        self._router = Router()
        self._health = Health(
            misfit=self._promise.misfit,
            changed=self._changed,
            every=probe_every,
            timeout=probe_timeout,
            silence=silence,
        )
        self._line = FairQueue(
            claim=self._claim,
            has_room=self._has_room,
            why_stuck=self._why_stuck,
            release=self._release,
            seconds=queue_timeout,
        )
        self._timeouts = timeouts or Silence()
        self._is_paused = False

    @property
    def info(self) -> EngineInfo:
        """Of the model: the first engine's, with the least context of all, and with the adapters and features that all
        ready ones have.

        Raises:
            EngineUnavailable: no engine has answered yet, so nothing is known.
        """
        if self._promise.info is None:
            raise EngineUnavailable(f"no engine has answered yet: {self._standing()}")
        return self._promise.info

    @property
    def model(self) -> str | None:
        """As the engines call it; ``None`` while none has answered yet."""
        return None if self._promise.info is None else self._promise.info.model

    @property
    def expected(self) -> str | None:
        """See :meth:`expect`."""
        return self._health.expected

    @property
    def waiting(self) -> int:
        """Requests that no engine has taken yet."""
        return len(self._line)

    @property
    def places(self) -> int | None:
        """Requests that the engines which are ready get at once; ``None``: any number."""
        limits = [member.limit for member in self._members.values() if member.state is MemberState.READY]
        known = [limit for limit in limits if limit is not None]
        return sum(known) if len(known) == len(limits) else None

    def seconds_for(self, requests: int) -> float:
        """Estimates the seconds until this many waiting requests have places, from the recent pace."""
        return self._line.seconds_for(requests)

    # Engines come and go.

    async def start(self, *, wait: float | None = START_WAIT) -> None:
        """Connects to all engines. Those that do not answer, or not yet, join when they do: nothing is raised for them.

        Args:
            wait: seconds after which this returns though engines have neither answered nor failed; ``None``: never.

        Raises:
            EngineRefused: two serve different models.
        """
        connecting = {m: asyncio.create_task(self._health.connect(m)) for m in self._members.values()}
        try:
            async with asyncio.timeout(wait):
                await asyncio.gather(*map(asyncio.shield, connecting.values()), return_exceptions=True)
        except TimeoutError:
            pass  # those that are late join by themselves
        except BaseException:
            await self._give_up(connecting.values())
            raise
        try:
            for member, attempt in connecting.items():
                self._let_in(member, attempt)
        except EngineRefused:
            await self._give_up(connecting.values())
            raise

    def _let_in(self, member: Member, attempt: asyncio.Task[Connected]) -> None:
        """Lets an engine in that has answered. Any other one is watched, and joins when it answers."""
        error = attempt.exception() if attempt.done() else None
        if attempt.done() and error is None:
            try:
                self._health.admit(member, attempt.result())
            except EngineRefused as refused:
                raise EngineRefused(f"engine {member.name!r} is none for this pool: {refused}") from refused
        elif isinstance(error, EngineError):
            self._health.down(member, error)
        self._health.watch(member, attempt if member.state is MemberState.STARTING else None)

    async def _give_up(self, connecting: Iterable[asyncio.Task[Connected]]) -> None:
        """Ends a start that failed or was cancelled."""
        tasks = list(connecting)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.close()

    async def close(self) -> None:
        """Ends the probing, fails what waits, and closes all engines."""
        self._line.end("the engines are being closed")
        await self._health.unwatch(self._members.values())
        await asyncio.gather(*(member.engine.close() for member in self._members.values()))

    async def add(self, name: str, engine: Engine, *, limit: int | None = None) -> Member:
        """Starts an engine and takes it in. It is closed if that fails.

        Args:
            name: not a member's.
            engine: not started.
            limit: requests that it gets at once; the pool's limit if not given.

        Raises:
            EngineRefused: the name is taken, it serves another model, or holds less context than the pool promises.
            EngineError: it cannot be started.
        """
        if name in self._members:
            raise EngineRefused(f"there is an engine {name!r} already", param="name")
        member = Member(name, engine, self._limit if limit is None else limit, was_added=True)
        self._members[name] = member
        try:
            self._health.admit(member, await self._health.connect(member))
        except BaseException:
            del self._members[name]
            await engine.close()
            raise
        self._health.watch(member)
        return member

    async def remove(self, name: str, *, drain_seconds: float) -> None:
        """Gives an engine no new requests, waits for those that it runs, and closes it. What it still runs then breaks
        off, and goes elsewhere if it has given no token.

        Raises:
            EngineRefused: there is no such engine, or it is just being added or removed.
        """
        member = self._named(name)
        if member.state is MemberState.DRAINING or (member.state is MemberState.STARTING and member.was_added):
            raise EngineRefused(f"engine {name!r} is {member.state}", param="name")
        self._health.put(member, MemberState.DRAINING, "it is being removed")
        try:
            await self._health.unwatch([member])
            member.idle.clear()
            if member.running:
                with suppress(TimeoutError):
                    async with asyncio.timeout(drain_seconds):
                        await member.idle.wait()
        finally:
            del self._members[name]
            self._router.forget(member)
            self._changed()
            await member.engine.close()

    async def wait_ready(self) -> None:
        """Returns when an engine is ready."""
        await self._ready.wait()

    async def check(self) -> None:
        """Raises :class:`EngineUnavailable` unless an engine is ready."""
        if not self._ready.is_set():
            raise EngineUnavailable(f"no engine is ready: {self._standing()}")

    # Requests.

    async def generate(self, request: EngineRequest, on_chunk: Callable[[Chunk], bool]) -> None:
        """Samples a completion on one of the engines. It is aborted there when this is cancelled.

        While no token was seen, a request that its engine is not available for goes to another, to each at most once.
        When no engine serves any more, it waits for one within its patience, and all may be tried again. What an engine
        refuses is not tried elsewhere; what gave no token in time is tried elsewhere once.

        Args:
            request: what is asked.
            on_chunk: called with each chunk; false ends the generation here.

        Raises:
            QueueTimeout: no engine had room for it in time.
            EngineTimeout: the engine was silent for too long.
            EngineUnavailable: no engine could take it in time, or the last that did went away.
            EngineError: as the engine raised it.
        """
        request.tokens = len(request.prompt_ids) + min(request.sampling.max_tokens, int(self._usual_tokens))
        request.patience = self._patience
        attempts = 0
        while True:
            member = self._claim(request) or await self._line.wait(request)
            seen = 0
            try:
                request.on_engine(member)
                request_id = f"{request.request_id}.{attempts}" if attempts else request.request_id
                with member.attempt(self._timeouts) as attempt:
                    if self._is_paused:
                        attempt.hold()
                    try:
                        await self._sample(member, request, request_id, attempt, on_chunk)
                    finally:
                        seen = attempt.tokens
            except EngineError as error:
                self._health.failed(member, error)
                if seen or not isinstance(error, EngineUnavailable):
                    raise
                request.timeouts += isinstance(error, EngineTimeout) and error.phase is Phase.FIRST_TOKEN
                if request.timeouts > 1:
                    raise
                request.tried.add(member)
                request.cause = error
            else:
                return
            finally:
                self._release(member, request)
            attempts += 1

    async def _sample(
        self,
        member: Member,
        request: EngineRequest,
        request_id: str,
        attempt: Attempt,
        on_chunk: Callable[[Chunk], bool],
    ) -> None:
        """One attempt on one engine."""
        heard = self._health.heard
        chunks = member.engine.generate(
            request.prompt_ids, request.sampling, request_id=request_id, chunk_tokens=request.chunk_tokens
        )
        try:
            async for chunk in chunks:
                attempt.note(chunk)
                heard(member, chunk)
                if chunk.finish_reason is not None:
                    self._finished(member, attempt.tokens)
                if not on_chunk(chunk) and not attempt.is_cancelled:  # a cancelled one gave out what it had left
                    return
        except asyncio.CancelledError as error:
            if (why := attempt.why_cancelled()) is None:
                raise
            raise why from error
        finally:
            attempt.end()
            await chunks.aclose()

    def _claim(self, request: EngineRequest) -> Member | None:
        """Takes a place for a request, if there is one."""
        candidates = [member for member in self._serving(request) if member.has_room and member not in request.tried]
        if not candidates:
            return None
        member = self._router.choose(candidates, request, alone=len(self._members) == 1)
        member.take(request.tokens)
        return member

    def _release(self, member: Member, request: EngineRequest) -> None:
        member.release(request.tokens)
        self._line.room_was_made()

    def _finished(self, member: Member, tokens: int) -> None:
        member.served += 1
        self._usual_tokens += (tokens - self._usual_tokens) / 32

    def _serving(self, request: EngineRequest) -> list[Member]:
        """Returns the members that may serve it, with room or without."""
        least, versions = request.min_version, self._health.versions
        return [
            member
            for member in self._members.values()
            if member.state is MemberState.READY and (least is None or versions.at_least(member.version, least))
        ]

    def _has_room(self) -> bool:
        return any(member.state is MemberState.READY and member.has_room for member in self._members.values())

    def _why_stuck(self, request: EngineRequest) -> str | None:
        serving = self._serving(request)
        if any(member not in request.tried for member in serving):
            return None
        if serving and request.cause is not None:
            raise request.cause  # it was tried on all that serve
        request.tried.clear()
        least = request.min_version
        versions = "" if least is None else f"weights of version {least!r} or newer are asked for; "
        return versions + self._standing()

    # Weights.

    def expect(self, version: str | None) -> None:
        """Sets the version of weights that engines must have; those that report another are stale. A ready one that
        reports none has it by this word; one that was down since must be confirmed. ``None``: any will do."""
        self._health.expect(version, self._members.values())

    async def confirm(self, name: str, version: str) -> None:
        """An engine that cannot say so has weights of this version.

        Raises:
            EngineRefused: there is no such engine, it says otherwise, or does not serve.
            EngineUnavailable: it does not answer.
        """
        await self._health.confirm(self._named(name), version)

    async def refresh(self) -> None:
        """Asks every engine for its version, now."""
        await asyncio.gather(*(self._health.probe(member) for member in list(self._members.values())))

    async def pause(self, mode: PauseMode) -> dict[str, str]:
        """Pauses every engine that can be; says of each ``paused``, ``cannot``, or what failed. Until :meth:`resume` no
        engine is too silent."""
        self._is_paused = True
        for attempt in self._attempts():
            attempt.hold()
        return await tell_all(self._members.values(), Feature.PAUSE, lambda engine: engine.pause(mode), "paused")

    async def resume(self) -> dict[str, str]:
        """Lets every engine go on that can be paused; says of each ``resumed``, ``cannot``, or what failed."""
        told = await tell_all(self._members.values(), Feature.PAUSE, lambda engine: engine.resume(), "resumed")
        self._is_paused = False
        for attempt in self._attempts():
            attempt.release()
        return told

    def _attempts(self) -> list[Attempt]:
        return [attempt for member in self._members.values() for attempt in member.attempts]

    # What engines are.

    def _named(self, name: str) -> Member:
        member = self._members.get(name)
        if member is None:
            raise EngineRefused(f"there is no engine {name!r}; there are: {', '.join(self._members)}", param="name")
        return member

    def _changed(self) -> None:
        """Members came, went, or have other states or weights."""
        (self._ready.set if self._promise.update() else self._ready.clear)()
        self._line.members_changed()

    def _standing(self) -> str:
        lines = [f"{m.name} is {m.state}{m.reason and f' ({m.reason})'}" for m in self._members.values()]
        return "; ".join(lines) or "there is none"
