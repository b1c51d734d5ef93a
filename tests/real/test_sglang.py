"""The SGLang client against a real SGLang server."""

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.real.engines import RealServer
from tickertape.clients.engines.engine import (
    Chunk,
    EngineInfo,
    Feature,
    LogprobKind,
    PauseMode,
    Sampling,
    Structure,
    StructureKind,
)
from tickertape.clients.engines.errors import EngineCannot, EngineRefused, EngineUnavailable
from tickertape.clients.engines.sglang.engine import SglangEngine

pytestmark = pytest.mark.real

PROMPT = np.array([151644, 872, 198, 6023, 151645, 198, 151644, 77091, 198], np.int32)
HELLO = 9707
VOCAB_SIZE = 151_680


@asynccontextmanager
async def connected(server: RealServer) -> AsyncIterator[tuple[SglangEngine, EngineInfo]]:
    engine = SglangEngine(server.url)
    info = await engine.start()
    try:
        yield engine, info
    finally:
        await engine.close()


async def sample(engine: SglangEngine, prompt: Any = PROMPT, **sampling: Any) -> list[Chunk]:
    asked = Sampling(**{"max_tokens": 4, **sampling})
    return [chunk async for chunk in engine.generate(prompt, asked, request_id=uuid.uuid4().hex)]


def tokens(chunks: list[Chunk]) -> list[int]:
    return [token for chunk in chunks for token in chunk.token_ids]


async def post(server: RealServer, path: str, **body: Any) -> Any:
    async with httpx.AsyncClient(timeout=30) as client:
        response = await client.post(server.url + path, json=body)
        response.raise_for_status()
        return response.json()


async def running(server: RealServer) -> int:
    """How many requests the server has."""
    async with httpx.AsyncClient(timeout=30) as client:
        (load,) = (await client.get(f"{server.url}/v1/loads")).json()["loads"]
        return int(load["num_running_reqs"] + load["num_waiting_reqs"])


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110  (it happens in another process)
            await asyncio.sleep(0.05)


async def test_start_finds_out_what_the_server_is(sglang: RealServer) -> None:
    async with connected(sglang) as (_, info):
        assert (info.name, info.model, info.version, info.endpoint) == ("sglang", "tiny", "0.5.23", "/generate")
        assert info.logprobs is LogprobKind.PROCESSED
        assert info.features == set(Feature) - {Feature.ROUTED_EXPERTS}
        assert info.max_context == 4094


async def test_one_prefill_gives_the_logprobs_that_were_sampled(sglang: RealServer) -> None:
    async with connected(sglang) as (engine, _):
        chunks = await sample(engine, max_tokens=64, ignore_eos=True)
        assert len(chunks) > 1, "it streams"
        whole = [*PROMPT.tolist(), *tokens(chunks)]
        scored = await engine.score(whole)
    assert scored.token_ids == whole
    recorded = [value for chunk in chunks for value in chunk.logprobs]
    assert np.abs(np.array(scored.logprobs[len(PROMPT) :]) - recorded).max() <= 1e-3
    assert np.isnan(scored.logprobs[0])


async def test_stop_token_is_kept_with_its_logprob_and_named(sglang: RealServer) -> None:
    async with connected(sglang) as (engine, _):
        (last,) = await sample(engine, stop_token_ids=(HELLO,), logit_bias={HELLO: 100})
    assert (last.token_ids, last.finish_reason, last.stop_reason) == ([HELLO], "stop", HELLO)
    assert len(last.logprobs) == 1


async def test_stop_string_that_ends_inside_a_token_keeps_the_whole_token(sglang: RealServer) -> None:
    async with connected(sglang) as (engine, _):
        chunks = await sample(engine, stop=("oHel",), logit_bias={HELLO: 100})
    assert tokens(chunks) == [HELLO, HELLO]
    assert (chunks[-1].finish_reason, chunks[-1].stop_reason) == ("stop", "oHel")


async def test_min_tokens_holds_a_stop_token_off(sglang: RealServer) -> None:
    async with connected(sglang) as (engine, _):
        chunks = await sample(engine, stop_token_ids=(HELLO,), logit_bias={HELLO: 100}, min_tokens=3)
    assert len(tokens(chunks)) == 4
    assert chunks[-1].stop_reason == HELLO


async def test_logprobs_are_after_temperature(sglang: RealServer) -> None:
    async with connected(sglang) as (engine, _):
        (hot,) = await sample(engine, max_tokens=1, temperature=1.0, top_logprobs=2)
        (cold,) = await sample(engine, max_tokens=1, temperature=0.5, top_logprobs=2)
    gaps = [max(top.values()) - min(top.values()) for chunk in (hot, cold) for top in chunk.top_logprobs or ()]
    assert gaps[1] == pytest.approx(2 * gaps[0], rel=1e-3)


async def test_a_prompt_is_read_from_the_cache_the_second_time(sglang: RealServer) -> None:
    prompt = np.random.default_rng().integers(0, 151_000, 200).astype(np.int32)
    async with connected(sglang) as (engine, _):
        first, second = [(await sample(engine, prompt))[-1].cached_tokens for _ in range(2)]
    assert (first, second) == (0, 199)


@pytest.mark.parametrize(
    ("structure", "allowed"),
    [
        (Structure(StructureKind.CHOICE, ["yes", 'a "b" ü\n']), {"yes", 'a "b" ü\n'}),
        (Structure(StructureKind.REGEX, "no|maybe"), {"no", "maybe"}),
        (Structure(StructureKind.GRAMMAR, 'root ::= "one" | "two"'), {"one", "two"}),
        (Structure(StructureKind.JSON_SCHEMA, {"const": 7}), {"7"}),
        (
            Structure(
                StructureKind.STRUCTURAL_TAG,
                {"type": "structural_tag", "format": {"type": "const_string", "value": "hello"}},
            ),
            {"hello"},
        ),
    ],
    ids=lambda value: value.kind if isinstance(value, Structure) else "",
)
async def test_structure_is_held_to(sglang: RealServer, structure: Structure, allowed: set[str]) -> None:
    from tests.materials import QWEN3

    async with connected(sglang) as (engine, _):
        chunks = await sample(engine, max_tokens=32, structure=structure)
    assert chunks[-1].finish_reason == "stop"
    assert QWEN3.tokenizer.decode_bytes(tokens(chunks)[:-1]).decode() in allowed


async def test_json_object_begins_one(sglang: RealServer) -> None:
    async with connected(sglang) as (engine, _):
        chunks = await sample(engine, max_tokens=1, structure=Structure(StructureKind.JSON_OBJECT))
    from tests.materials import QWEN3

    assert QWEN3.tokenizer.decode_bytes(tokens(chunks)).startswith(b"{")


async def test_structure_that_cannot_be_read_is_refused_and_its_made_up_token_is_not_sampled(
    sglang: RealServer,
) -> None:
    """The server answers 200, a random token without a logprob, and the refusal as a finish_reason."""
    seen: list[Chunk] = []
    async with connected(sglang) as (engine, _):
        with pytest.raises(EngineRefused, match="regex"):
            seen = await sample(engine, structure=Structure(StructureKind.REGEX, "((("))
    assert seen == []


async def test_sampling_mask_has_the_tokens_to_choose_from(sglang: RealServer) -> None:
    async with connected(sglang) as (engine, _):
        chunks = await sample(engine, top_k=3, token_arrays=("sampling_mask",))
        with pytest.raises(EngineRefused, match="finite"):
            await sample(engine, token_arrays=("sampling_mask",))
    arrays = chunks[-1].token_arrays
    assert arrays is not None
    assert arrays["sampling_mask"].shape == (4, 3)
    assert all(token in row for token, row in zip(tokens(chunks), arrays["sampling_mask"], strict=True))


@pytest.mark.parametrize("bad", [VOCAB_SIZE, 2**31 - 1, -1])
async def test_token_beyond_the_vocabulary_is_refused_and_the_server_lives(sglang: RealServer, bad: int) -> None:
    async with connected(sglang) as (engine, _):
        with pytest.raises(EngineRefused, match=f"token {bad} is beyond the vocabulary"):
            await sample(engine, np.array([0, bad], np.int32))
        with pytest.raises(EngineRefused, match=f"token {bad} is beyond the vocabulary"):
            await engine.score([0, bad])
        assert len(tokens(await sample(engine, np.array([VOCAB_SIZE - 1], np.int32)))) == 4


async def test_what_cannot_be_honoured_is_refused_by_name(sglang: RealServer) -> None:
    async with connected(sglang) as (engine, _):
        with pytest.raises(EngineRefused, match="enable-deterministic-inference") as caught:
            await sample(engine, seed=7)
        assert caught.value.param == "seed"
        with pytest.raises(EngineCannot, match="routed_experts"):
            await sample(engine, token_arrays=("routed_experts",))
        with pytest.raises(EngineRefused, match="enable-lora"):
            await sample(engine, adapter="nobody")
        with pytest.raises(EngineRefused, match="repetition_penalty"):
            await sample(engine, repetition_penalty=3.0)


async def test_max_tokens_is_clamped_to_the_context_and_the_longest_prompt_is_read(sglang: RealServer) -> None:
    async with connected(sglang) as (engine, info):
        longest = np.full(4089, 198, np.int32)
        chunks = await sample(engine, longest, max_tokens=500, ignore_eos=True)
        assert len(tokens(chunks)) == info.max_context - len(longest)
        assert chunks[-1].finish_reason == "length"
        with pytest.raises(EngineRefused, match="4089") as caught:
            await sample(engine, np.full(4090, 198, np.int32))
        assert caught.value.context_exceeded


async def test_closing_a_generation_aborts_it_and_only_it(sglang: RealServer) -> None:
    """SGLang aborts every request whose id begins with the one given: ``r`` must not end ``r1``."""
    async with connected(sglang) as (engine, _):
        asked = Sampling(max_tokens=3000, ignore_eos=True)
        short = engine.generate(PROMPT, asked, request_id="r")
        other = engine.generate(PROMPT, asked, request_id="r1")
        await anext(short)
        await anext(other)
        await until(lambda: has(sglang, 2))
        await short.aclose()
        async with asyncio.timeout(1.5):  # of itself the server would notice after 2 s
            await until(lambda: has(sglang, 1))
        assert (await anext(other)).finish_reason is None
        await other.aclose()
        await until(lambda: has(sglang, 0))


async def test_cancelling_a_generation_aborts_it(sglang: RealServer) -> None:
    async with connected(sglang) as (engine, _):
        task = asyncio.create_task(sample(engine, max_tokens=3000, ignore_eos=True))
        await until(lambda: has(sglang, 1))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(1.5):
            await until(lambda: has(sglang, 0))


async def has(server: RealServer, requests: int) -> bool:
    return await running(server) == requests


async def test_pause_that_keeps_goes_on_under_the_new_version_and_tells_the_runs(sglang: RealServer) -> None:
    async with connected(sglang) as (engine, _):
        assert await engine.policy_version() is None
        task = asyncio.create_task(sample(engine, max_tokens=200, ignore_eos=True))
        await until(lambda: has(sglang, 1))
        await asyncio.sleep(0.5)
        await engine.pause(PauseMode.KEEP)
        await engine.check()
        newcomer = SglangEngine(sglang.url)
        with pytest.raises(EngineUnavailable, match="503"):
            await newcomer.start()
        await newcomer.close()
        await post(sglang, "/update_weight_version", new_version="step-1", abort_all_requests=False)
        assert await engine.policy_version() == "step-1"
        await engine.resume()
        chunks = await task
        await post(sglang, "/update_weight_version", new_version="default", abort_all_requests=False)
    assert len(tokens(chunks)) == 200
    spans = chunks[-1].version_spans
    assert spans is not None
    assert [version for version, _ in spans] == [None, "step-1"]
    assert sum(count for _, count in spans) == 200


async def test_pause_that_aborts_keeps_the_partial_tokens(sglang: RealServer) -> None:
    async with connected(sglang) as (engine, _):
        task = asyncio.create_task(sample(engine, max_tokens=3000, ignore_eos=True))
        await until(lambda: has(sglang, 1))
        await asyncio.sleep(0.5)
        await engine.pause(PauseMode.ABORT)
        chunks = await task
        await engine.resume()
        assert chunks[-1].finish_reason == "abort"
        assert 0 < len(tokens(chunks)) < 3000
        assert len(tokens(await sample(engine))) == 4


async def test_check_does_not_wait_for_a_scheduler_that_is_busy(sglang: RealServer) -> None:
    scheduler = scheduler_of(sglang)
    async with connected(sglang) as (engine, _):
        os.kill(scheduler, signal.SIGSTOP)
        try:
            async with asyncio.timeout(3):
                await engine.check()
        finally:
            os.kill(scheduler, signal.SIGCONT)
        assert len(tokens(await sample(engine))) == 4


def scheduler_of(server: RealServer) -> int:
    """The server's child process that samples."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return next(int(pid) for pid in children if b"scheduler" in Path(f"/proc/{pid}/cmdline").read_bytes())
