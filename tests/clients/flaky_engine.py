"""A fake engine with faults on order, for the pool's tests, and how they ask the pool."""

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from tests.engines import ScriptedEngine
from tickertape.clients.engines.engine import Chunk, Engine, EngineInfo, Feature, PauseMode, Sampling, TokenIds
from tickertape.clients.engines.errors import EngineError, EngineGone
from tickertape.clients.engines.pool import EnginePool, EngineRequest, Member

#: Much faster than in earnest, so that tests are.
FAST: Mapping[str, Any] = {"probe_every": 0.01, "probe_timeout": 0.05, "patience": 0.2}


class FlakyEngine(ScriptedEngine):
    """Plays ``tokens`` one a chunk, and fails as it is told: ``faults`` are what its next requests raise, after so many
    tokens. While ``up`` is false nobody listens."""

    def __init__(self, tokens: int = 3, *, info: EngineInfo | None = None, version: str | None = None) -> None:
        super().__init__(lambda *_: list(range(tokens)))
        self.info = info or EngineInfo("flaky", "nowhere", "model", 4096)
        self.version = version
        self.up = True
        self.healthy = True
        self.faults: deque[tuple[int, EngineError]] = deque()
        self.gate: asyncio.Event | None = None
        """Where it is set, requests wait for it before each token."""
        self.requests: list[str] = []
        self.running = 0
        self.most = 0
        self.starts = 0
        self.orders: list[str] = []
        self.silent_after: int | None = None
        """Where it is set, requests hang after so many tokens."""
        self.is_closed = False

    def _listen(self) -> None:
        if not self.up:
            raise EngineGone("nobody listens")

    async def start(self) -> EngineInfo:
        self._listen()
        self.starts += 1
        return self.info

    async def check(self) -> None:
        self._listen()
        if not self.healthy:
            await asyncio.sleep(3600)

    async def policy_version(self) -> str | None:
        self._listen()
        return self.version

    async def close(self) -> None:
        self.is_closed = True

    async def pause(self, mode: PauseMode) -> None:
        self._listen()
        self.orders.append(f"pause {mode}")

    async def resume(self) -> None:
        self.orders.append("resume")

    async def generate(
        self, prompt_ids: TokenIds, sampling: Sampling, *, request_id: str, chunk_tokens: int = 1
    ) -> AsyncGenerator[Chunk, None]:
        self._listen()
        self.requests.append(request_id)
        after, fault = self.faults.popleft() if self.faults else (0, None)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            chunks = super().generate(prompt_ids, sampling, request_id=request_id)
            for number in itertools.count():
                if self.gate is not None:
                    await self.gate.wait()
                if number == self.silent_after:
                    await asyncio.sleep(3600)
                if fault is not None and number == after:
                    raise fault
                self._listen()
                chunk = await anext(chunks)
                yield chunk
                if chunk.finish_reason is not None:
                    return
        finally:
            self.running -= 1


def pausing(info: EngineInfo) -> EngineInfo:
    return replace(info, features=frozenset({Feature.PAUSE}))


@asynccontextmanager
async def started(engines: Mapping[str, Engine], **options: Any) -> AsyncIterator[EnginePool]:
    pool = EnginePool(engines, **{**FAST, **options})
    await pool.start()
    try:
        yield pool
    finally:
        await pool.close()


_numbers = itertools.count()


async def ask(
    pool: EnginePool,
    session_id: str = "session",
    *,
    prompt: int | list[int] = 8,
    request_id: str | None = None,
    on_engine: Callable[[Member], None] = lambda _: None,
    on_token: Callable[[int], None] = lambda _: None,
    max_tokens: int = 16,
    min_version: str | None = None,
    number: int = 0,
    order: list[int] | None = None,
) -> list[str]:
    """Takes a whole completion; returns the names of the engines that got the request. ``number`` is put into ``order``
    when one does."""
    asked: list[str] = []

    def note(member: Member) -> None:
        asked.append(member.name)
        on_engine(member)
        if order is not None:
            order.append(number)

    prompt_ids = np.arange(prompt, dtype=np.int32) if isinstance(prompt, int) else np.array(prompt, np.int32)

    def read(chunk: Chunk) -> bool:
        for token in chunk.token_ids:
            on_token(token)
        return True

    request = EngineRequest(
        prompt_ids=prompt_ids,
        sampling=Sampling(max_tokens=max_tokens),
        request_id=request_id or f"r{next(_numbers)}",
        session_id=session_id,
        min_version=min_version,
        on_engine=note,
    )
    await pool.generate(request, read)
    return asked


async def sampled(
    pool: EnginePool,
    prompt_ids: TokenIds,
    sampling: Sampling,
    *,
    on_engine: Callable[[Member], None] = lambda _: None,
) -> list[Chunk]:
    """Takes a whole completion; returns its chunks."""
    chunks: list[Chunk] = []

    def read(chunk: Chunk) -> bool:
        chunks.append(chunk)
        return True

    request = EngineRequest(
        prompt_ids=prompt_ids, sampling=sampling, request_id="r", session_id="s", on_engine=on_engine
    )
    await pool.generate(request, read)
    return chunks


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  (of somebody else's making)
            await asyncio.sleep(0.002)
