"""Many engines behind one: a request goes to one of them, and to another while no token was seen."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from types import MappingProxyType

from tickertape.clients.engines.engine import Chunk, Engine, EngineInfo, Feature, PauseMode, Sampling, TokenIds
from tickertape.clients.engines.errors import EngineError, EngineRefused, EngineTimeout, EngineUnavailable, Phase
from tickertape.clients.engines.pool.attempt import Attempt, Silence
from tickertape.clients.engines.pool.broadcast import tell_all
from tickertape.clients.engines.pool.capabilities import Promise
from tickertape.clients.engines.pool.fair_queue import FairQueue
from tickertape.clients.engines.pool.health import Health
from tickertape.clients.engines.pool.member import Member, MemberState
from tickertape.clients.engines.pool.request import Ask
from tickertape.clients.engines.pool.routing import Router

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
        self._promise = Promise(any_model=any_model)
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
        ready ones have. Requires that :meth:`start` has ended."""
        if self._promise.info is None:
            raise EngineUnavailable("the engines are not started")
        return self._promise.info

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
        """How long so many requests that wait will take to get places, at the pace of the last ones."""
        return self._line.seconds_for(requests)

    # Engines come and go.

    async def start(self) -> None:
        """Starts all engines. One that fails while another serves is down, and tried again.

        Raises:
            EngineError: none can be started, or two serve different models.
        """
        members = list(self._members.values())
        try:
            self._let_in(members, await asyncio.gather(*map(self._try_connect, members)))
        except BaseException:
            await self.close()
            raise
        for member in members:
            self._health.watch(member)

    def _let_in(self, members: Sequence[Member], errors: Sequence[EngineError | None]) -> None:
        for member, error in zip(members, errors, strict=True):
            if error is not None:
                self._health.down(member, error)
            elif member.info is not None and (reason := self._promise.other_model(member.info)) is not None:
                raise EngineRefused(f"engine {member.name!r} is none for this pool: {reason}")
            else:
                self._health.join(member)
        if self._promise.info is None:
            raise _none_started(members, errors)

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
            EngineRefused: the name is taken, it serves another model, or holds less context than the pool promised.
            EngineError: it cannot be started.
        """
        if name in self._members:
            raise EngineRefused(f"there is an engine {name!r} already", param="name")
        member = self._members[name] = Member(name, engine, self._limit if limit is None else limit)
        try:
            await self._health.connect(member)
        except BaseException:
            del self._members[name]
            await engine.close()
            raise
        self._health.join(member)
        self._health.watch(member)
        return member

    async def remove(self, name: str, *, drain_seconds: float) -> None:
        """Gives an engine no new requests, waits for those that it runs, and closes it. What it still runs then breaks
        off, and goes elsewhere if it has given no token.

        Raises:
            EngineRefused: there is no such engine, or it is just being added or removed.
        """
        member = self._named(name)
        if member.state in (MemberState.STARTING, MemberState.DRAINING):
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

    async def generate(
        self,
        prompt_ids: TokenIds,
        sampling: Sampling,
        *,
        request_id: str,
        affinity: str,
        min_version: str | None = None,
        goes_on: bool = False,
        on_engine: Callable[[Member], None],
    ) -> AsyncGenerator[Chunk, None]:
        """Samples a completion on one of the engines. Closing the iterator aborts it there.

        While no token was seen, a request that its engine is not available for goes to another, to each at most once.
        When no engine serves any more, it waits for one within its patience, and all may be tried again. What an engine
        refuses is not tried elsewhere; what gave no token in time is tried elsewhere once.

        Args:
            prompt_ids: int32[n].
            sampling: see :class:`Sampling`.
            request_id: not used for any other generation; a second attempt adds ``.1`` to it, and so on.
            affinity: the session's id; its requests go where its tokens are cached.
            min_version: weights older than this may not serve; see :class:`VersionOrder` for what is older.
            goes_on: whether it is the rest of a completion that has begun, which waits for room as long as it takes.
            on_engine: told which engine gets the request, again for another attempt.

        Raises:
            QueueTimeout: no engine had room for it in time.
            EngineTimeout: the engine was silent for too long.
            EngineUnavailable: no engine could take it in time, or the last that did went away.
            EngineError: as the engine raised it.
        """
        tokens = len(prompt_ids) + min(sampling.max_tokens, int(self._usual_tokens))
        ask = Ask(prompt_ids, sampling.adapter, affinity, min_version, tokens, self._patience, goes_on)
        seen = attempts = 0
        while True:
            member = self._claim(ask) or await self._line.wait(ask)
            try:
                on_engine(member)
                attempt_id = f"{request_id}.{attempts}" if attempts else request_id
                async with aclosing(member.engine.generate(prompt_ids, sampling, request_id=attempt_id)) as chunks:
                    with member.attempt(chunks, self._timeouts) as attempt:
                        if self._is_paused:
                            attempt.hold()
                        while (chunk := await attempt.next_chunk()) is not None:
                            seen += len(chunk.token_ids)
                            self._health.heard(member, chunk)
                            if chunk.finish_reason is not None:
                                self._finished(member, seen)
                            yield chunk
            except EngineError as error:
                self._health.failed(member, error)
                if seen or not isinstance(error, EngineUnavailable):
                    raise
                ask.timeouts += isinstance(error, EngineTimeout) and error.phase is Phase.FIRST_TOKEN
                if ask.timeouts > 1:
                    raise
                ask.tried.add(member)
                ask.cause = error
            else:
                return
            finally:
                self._release(member, ask)
            attempts += 1

    def _claim(self, ask: Ask) -> Member | None:
        """Takes a place for a request, if there is one."""
        candidates = [member for member in self._serving(ask) if member.has_room and member not in ask.tried]
        if not candidates:
            return None
        member = self._router.choose(candidates, ask, alone=len(self._members) == 1)
        member.take(ask.tokens)
        return member

    def _release(self, member: Member, ask: Ask) -> None:
        member.release(ask.tokens)
        self._line.room_was_made()

    def _finished(self, member: Member, tokens: int) -> None:
        member.served += 1
        self._usual_tokens += (tokens - self._usual_tokens) / 32

    def _serving(self, ask: Ask) -> list[Member]:
        """Who may serve it, with room or without."""
        least, versions = ask.min_version, self._health.versions
        return [
            member
            for member in self._members.values()
            if member.state is MemberState.READY and (least is None or versions.at_least(member.version, least))
        ]

    def _has_room(self) -> bool:
        return any(member.state is MemberState.READY and member.has_room for member in self._members.values())

    def _why_stuck(self, ask: Ask) -> str | None:
        serving = self._serving(ask)
        if any(member not in ask.tried for member in serving):
            return None
        if serving and ask.cause is not None:
            raise ask.cause  # it was tried on all that serve
        ask.tried.clear()
        least = ask.min_version
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
            attempt.go_on()
        return told

    def _attempts(self) -> list[Attempt]:
        return [attempt for member in self._members.values() for attempt in member.attempts]

    # What engines are.

    def _named(self, name: str) -> Member:
        member = self._members.get(name)
        if member is None:
            raise EngineRefused(f"there is no engine {name!r}; there are: {', '.join(self._members)}", param="name")
        return member

    async def _try_connect(self, member: Member) -> EngineError | None:
        try:
            await self._health.connect(member)
        except EngineError as error:
            return error
        return None

    def _changed(self) -> None:
        """Members came, went, or have other states or weights."""
        (self._ready.set if self._promise.update(self._members.values()) else self._ready.clear)()
        self._line.members_changed()

    def _standing(self) -> str:
        lines = [f"{m.name} is {m.state}{m.reason and f' ({m.reason})'}" for m in self._members.values()]
        return "; ".join(lines) or "there is none"


def _none_started(members: Sequence[Member], errors: Sequence[EngineError | None]) -> EngineError:
    """A lone engine's own error; else all of them."""
    found = [(member.name, error) for member, error in zip(members, errors, strict=True) if error is not None]
    if len(found) == 1:
        return found[0][1]
    return EngineUnavailable("no engine can be started: " + "; ".join(f"{name}: {error}" for name, error in found))
