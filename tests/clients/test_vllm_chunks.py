"""Tokens that come in chunks: fewer events for the same tokens, and what a server held back is kept when its request is
cancelled."""

import asyncio

import numpy as np
import pytest

from tests.clients.holding_vllm import FIRST, HoldingVllm
from tickertape.clients.engines.engine import Chunk, Feature, Sampling
from tickertape.clients.engines.pool import EnginePool, EngineRequest
from tickertape.clients.engines.vllm.engine import VllmEngine

PROMPT = np.array([5, 6], np.int32)

both = pytest.mark.parametrize("lean", [True, False], ids=["generate", "completions"])


async def read(engine: VllmEngine, into: list[Chunk], max_tokens: int, chunk_tokens: int) -> None:
    asked = Sampling(max_tokens, ignore_eos=True)
    async for chunk in engine.generate(PROMPT, asked, request_id="r", chunk_tokens=chunk_tokens):
        into.append(chunk)


def tokens(chunks: list[Chunk]) -> list[int]:
    return [token for chunk in chunks for token in chunk.token_ids]


@both
@pytest.mark.parametrize(("chunk_tokens", "sizes"), [(1, [1] * 10), (4, [1, 4, 4, 1]), (64, [1, 9])])
async def test_a_chunk_holds_as_many_tokens_as_are_asked_for(lean: bool, chunk_tokens: int, sizes: list[int]) -> None:
    server = HoldingVllm(lean=lean, seconds=0.001)
    chunks: list[Chunk] = []
    with server.serving() as url:
        engine = VllmEngine(url)
        assert {Feature.CHUNKS, Feature.ABORT} <= (await engine.start()).features
        await read(engine, chunks, 10, chunk_tokens)
        await engine.close()
    assert server.asked[0]["stream_interval"] == (chunk_tokens if chunk_tokens > 1 else None)
    assert server.events["r"] == len(sizes)
    assert tokens(chunks) == list(range(FIRST, FIRST + 10))
    assert len([value for chunk in chunks for value in chunk.logprobs]) == 10


@both
async def test_what_is_held_back_is_kept_when_a_request_is_cancelled(lean: bool) -> None:
    server = HoldingVllm(lean=lean)
    chunks: list[Chunk] = []
    with server.serving() as url:
        engine = VllmEngine(url)
        await engine.start()
        reading = asyncio.create_task(read(engine, chunks, 1000, 1000))
        while server.sampled.get("r", 0) < 5:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await engine.close()
    assert len(tokens(chunks)) == server.sampled["r"] >= 5
    assert chunks[-1].finish_reason == "abort"


async def test_a_reader_that_has_enough_hides_no_cancellation() -> None:
    server = HoldingVllm()
    with server.serving() as url:
        pool = EnginePool({"a": VllmEngine(url)})
        await pool.start()
        request = EngineRequest(
            prompt_ids=PROMPT,
            sampling=Sampling(1000, ignore_eos=True),
            request_id="r",
            session_id="s",
            chunk_tokens=1000,
        )
        seen: list[Chunk] = []

        def has_enough_after_the_first(chunk: Chunk) -> bool:
            seen.append(chunk)
            return len(seen) == 1

        reading = asyncio.create_task(pool.generate(request, has_enough_after_the_first))
        while server.sampled.get("r", 0) < 5:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await pool.close()
    assert len(tokens(seen)) == server.sampled["r"]  # in one piece or in two, as they arrive
    assert seen[-1].finish_reason == "abort"


async def test_a_server_without_aborts_gives_what_it_sent() -> None:
    server = HoldingVllm(can_abort=False)
    chunks: list[Chunk] = []
    with server.serving() as url:
        engine = VllmEngine(url)
        info = await engine.start()
        assert Feature.CHUNKS in info.features
        assert "abort" in info.missing
        reading = asyncio.create_task(read(engine, chunks, 1000, 1000))
        while server.sampled.get("r", 0) < 5:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await engine.close()
    assert tokens(chunks) == [FIRST]


async def test_an_older_server_is_asked_for_single_tokens() -> None:
    server = HoldingVllm(ignores=True, seconds=0.001)
    chunks: list[Chunk] = []
    with server.serving() as url:
        engine = VllmEngine(url)
        info = await engine.start()
        assert "sent 9 tokens in 9 events" in info.missing["chunks"]
        await read(engine, chunks, 3, 64)
        await engine.close()
    assert server.asked[0]["stream_interval"] is None
    assert tokens(chunks) == [100, 101, 102]
