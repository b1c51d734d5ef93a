"""Engines over real HTTP that are killed and come back: connections, requests, routing."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import numpy as np
import pytest

from tests.clients.flaky_engine import sampled, until
from tests.clients.sse_server import CountingEngine, CountingServer
from tickertape.clients.engines.engine import Chunk, Sampling
from tickertape.clients.engines.errors import EngineUnavailable
from tickertape.clients.engines.pool import EnginePool, EngineRequest, MemberState

PROMPT = np.arange(16, dtype=np.int32)


@pytest.fixture
def start_server() -> Iterator[Callable[[], CountingServer]]:
    with ExitStack() as stack:

        def start() -> CountingServer:
            server = CountingServer()
            stack.callback(server.kill)
            server.start()
            return server

        yield start


async def count(engine: CountingEngine, tokens: int) -> list[int]:
    chunks = engine.generate(PROMPT, Sampling(max_tokens=tokens), request_id="r")
    return [token async for chunk in chunks for token in chunk.token_ids]


async def test_streams_over_kept_connections_survive_a_restart(start_server: Callable[[], CountingServer]) -> None:
    server = start_server()
    engine = CountingEngine(server.url, interval=0.01)
    await engine.start()
    assert await asyncio.gather(*(count(engine, 3) for _ in range(5))) == [[0, 1, 2]] * 5  # five are kept
    server.kill()
    server.start()  # this loop stands still meanwhile: it cannot have heard of it
    assert await asyncio.gather(*(count(engine, 3) for _ in range(5))) == [[0, 1, 2]] * 5
    await asyncio.sleep(0)
    server.kill()
    await asyncio.sleep(0.1)  # now it has
    server.start()
    assert await count(engine, 3) == [0, 1, 2]
    await engine.close()


async def test_a_request_waits_for_a_lone_engine_to_be_restarted(start_server: Callable[[], CountingServer]) -> None:
    server = start_server()
    pool = EnginePool({"a": CountingEngine(server.url)}, probe_every=0.1)
    await pool.start()
    server.kill()
    got: list[int] = []

    async def ask() -> None:
        for chunk in await sampled(pool, PROMPT, Sampling(max_tokens=3)):
            got.extend(chunk.token_ids)

    asking = asyncio.create_task(ask())
    await until(lambda: pool.members["a"].state is MemberState.DOWN)
    assert pool.waiting == 1
    await asyncio.to_thread(server.start)
    await asyncio.wait_for(asking, 5)
    assert got == [0, 1, 2]
    await pool.close()


async def test_requests_leave_an_engine_that_froze(start_server: Callable[[], CountingServer]) -> None:
    servers = {name: start_server() for name in "ab"}
    engines = {name: CountingEngine(server.url) for name, server in servers.items()}
    pool = EnginePool(engines, probe_every=0.1, probe_timeout=0.1, silence=0.3)
    await pool.start()
    servers["a"].freeze()
    asked: list[str] = []
    async with asyncio.timeout(10):
        chunks = await sampled(pool, PROMPT, Sampling(max_tokens=3), on_engine=lambda m: asked.append(m.name))
    assert [token for chunk in chunks for token in chunk.token_ids] == [0, 1, 2]
    assert asked == ["a", "b"]
    assert pool.members["a"].state is MemberState.DOWN
    await pool.close()


class Load:
    """Sessions of five requests, one after the other without a pause, and what became of each request."""

    def __init__(self, pool: EnginePool) -> None:
        self.pool = pool
        self.whole = self.broken = 0
        self.begun: list[tuple[float, str]] = []
        """When which engine gave a first token."""
        self.stopping = False

    async def agent(self, name: str) -> None:
        number = 0
        await asyncio.sleep(random.random() * 0.05)
        while not self.stopping:
            await self._request(f"{name}-{number // 5}", f"{name}-{number}")
            number += 1

    async def _request(self, session: str, request_id: str) -> None:
        seen: list[int] = []
        asked: list[str] = []
        request = EngineRequest(
            prompt_ids=PROMPT,
            sampling=Sampling(max_tokens=10),
            request_id=request_id,
            session_id=session,
            on_engine=lambda member: asked.append(member.name),
        )

        def read(chunk: Chunk) -> bool:
            if chunk.token_ids and not seen:
                self.begun.append((time.monotonic(), asked[-1]))
            seen.extend(chunk.token_ids)
            return True

        try:
            await self.pool.generate(request, read)
        except EngineUnavailable:
            assert seen, f"{request_id} failed without a token: {asked}"
            self.broken += 1
        else:
            self.whole += 1
            assert len(seen) == 10
        assert seen == list(range(len(seen)))  # no token lost, none twice
        assert len(asked) <= 2

    def first(self, engine: str, since: float) -> float:
        """Seconds from ``since`` to the engine's first token after it."""
        return next((at - since for at, name in self.begun if name == engine and at > since), float("inf"))


async def test_one_of_two_is_killed_under_load_and_comes_back(start_server: Callable[[], CountingServer]) -> None:
    servers = {name: start_server() for name in "ab"}
    pool = EnginePool({name: CountingEngine(server.url, interval=0.005) for name, server in servers.items()})
    await pool.start()
    load = Load(pool)
    agents = [asyncio.create_task(load.agent(f"s{number}")) for number in range(16)]
    await asyncio.sleep(0.7)
    assert {name for _, name in load.begun} == {"a", "b"}
    killed = time.monotonic()
    servers["a"].kill()
    await until(lambda: pool.members["a"].state is MemberState.DOWN)
    noticed = time.monotonic() - killed
    await asyncio.sleep(0.5)
    assert load.first("b", killed) < 1
    await asyncio.to_thread(servers["a"].start)
    back = time.monotonic()
    await until(lambda: load.first("a", back) < 5)
    load.stopping = True
    await asyncio.wait_for(asyncio.gather(*agents), 10)
    print(
        f"noticed after {noticed:.3f} s, used again {load.first('a', back):.3f} s after it was back; "
        f"{load.whole} whole, {load.broken} broken off after a token"
    )
    assert 0 < load.broken <= 16
    assert load.whole > 100
    assert [(member.running, member.running_tokens) for member in pool.members.values()] == [(0, 0), (0, 0)]
    await pool.close()
