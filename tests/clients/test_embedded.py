"""The embedded engine, for real: llama.cpp with SmolLM2."""

import asyncio
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from tickertape.clients.engines.embedded.engine import EmbeddedEngine
from tickertape.clients.engines.engine import Chunk, Sampling
from tickertape.clients.engines.errors import EngineNonsense, EngineRefused, EngineUnavailable
from tickertape.renderers.tokenizer import Tokenizer

END = 2  # <|im_end|>


pytestmark = pytest.mark.asyncio(loop_scope="module")  # one engine, and so one event loop, for all


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(smollm2_file: Path, smollm2_tokenizer: Tokenizer) -> AsyncIterator[EmbeddedEngine]:
    engine = EmbeddedEngine(smollm2_file, smollm2_tokenizer, context=512, parallel=2, threads=1)
    await engine.start()
    yield engine
    await engine.close()


async def generate(engine: EmbeddedEngine, prompt: list[int], **sampling: Any) -> Chunk:
    """The chunks of a generation, joined."""
    chunks = [
        chunk
        async for chunk in engine.generate(
            np.array(prompt, np.int32), Sampling(**{"max_tokens": 16, **sampling}), request_id="r"
        )
    ]
    return Chunk(
        [i for chunk in chunks for i in chunk.token_ids],
        [value for chunk in chunks for value in chunk.logprobs],
        [top for chunk in chunks for top in chunk.top_logprobs or ()],
        chunks[-1].finish_reason,
        chunks[-1].stop_reason,
    )


@pytest.fixture
def prompt(smollm2_tokenizer: Tokenizer) -> list[int]:
    return smollm2_tokenizer.encode_like_model("<|im_start|>user\nCount to ten.<|im_end|>\n<|im_start|>assistant\n")


async def test_tokens_and_logprobs_line_up_and_the_stop_token_is_sampled(
    engine: EmbeddedEngine, prompt: list[int]
) -> None:
    chunk = await generate(engine, prompt, logit_bias={END: 100.0})
    assert chunk.token_ids == [END]
    assert chunk.finish_reason == "stop"
    chunk = await generate(engine, prompt, max_tokens=5, ignore_eos=True)
    assert (len(chunk.token_ids), chunk.finish_reason) == (5, "length")
    assert len(chunk.logprobs) == 5
    assert all(math.isfinite(value) and value <= 0 for value in chunk.logprobs)


async def test_stop_token_ids_are_applied_here(engine: EmbeddedEngine, prompt: list[int]) -> None:
    chunk = await generate(engine, prompt, logit_bias={60: 100.0}, stop_token_ids=(60,))
    assert (chunk.token_ids, chunk.finish_reason, chunk.stop_reason) == ([60], "stop", 60)


async def test_stop_string_ends_in_the_token_that_completes_it(
    engine: EmbeddedEngine, prompt: list[int], smollm2_tokenizer: Tokenizer
) -> None:
    (token,) = smollm2_tokenizer.encode_text(" hello")
    chunk = await generate(engine, prompt, logit_bias={token: 100.0}, stop=("lo hel",))
    assert (chunk.token_ids, chunk.finish_reason, chunk.stop_reason) == ([token, token], "stop", "lo hel")
    assert len(chunk.logprobs) == 2


async def test_characters_spread_over_tokens_lose_no_token_and_no_logprob(
    engine: EmbeddedEngine, prompt: list[int], smollm2_tokenizer: Tokenizer
) -> None:
    parts = smollm2_tokenizer.encode_text("😀")
    assert len(parts) == 3, "the first two end inside the character, and llama.cpp holds them back"
    chunk = await generate(engine, prompt, max_tokens=6, logit_bias=dict.fromkeys(parts, 30.0), temperature=0.0)
    assert chunk.token_ids == parts * 2
    assert all(math.isfinite(value) and value <= 0 for value in chunk.logprobs)
    # A row of first halves never completes a character.
    chunk = await generate(engine, prompt, max_tokens=8, logit_bias={parts[0]: 100.0})
    assert (chunk.token_ids, chunk.finish_reason) == ([parts[0]] * 8, "length")
    assert all(math.isfinite(value) for value in chunk.logprobs)


async def test_logprobs_are_the_models_own_before_any_bias(engine: EmbeddedEngine, prompt: list[int]) -> None:
    plain = await generate(engine, prompt, max_tokens=1, temperature=0.0, top_logprobs=5)
    biased = await generate(engine, prompt, max_tokens=1, temperature=0.0, logit_bias={plain.token_ids[0]: 50.0})
    assert biased.token_ids == plain.token_ids
    assert biased.logprobs[0] == pytest.approx(plain.logprobs[0], abs=0.02)


async def test_concurrent_generations_wait_for_a_slot_and_keep_apart(
    engine: EmbeddedEngine, smollm2_tokenizer: Tokenizer
) -> None:
    words = [smollm2_tokenizer.encode_text(f" {word}")[0] for word in ("one", "two", "red", "blue", "cat")]
    chunks = await asyncio.gather(
        *(generate(engine, [1, word], max_tokens=20, logit_bias={word: 100.0}) for word in words)
    )
    assert [chunk.token_ids for chunk in chunks] == [[word] * 20 for word in words]


async def test_seed_makes_sampling_repeatable(engine: EmbeddedEngine, prompt: list[int]) -> None:
    first, second = [await generate(engine, prompt, seed=7, temperature=1.0) for _ in range(2)]
    assert first.token_ids == second.token_ids


async def test_alternatives_are_reported_when_asked_for(engine: EmbeddedEngine, prompt: list[int]) -> None:
    chunk = await generate(engine, prompt, max_tokens=3, top_logprobs=4)
    assert chunk.top_logprobs is not None
    assert [len(top) for top in chunk.top_logprobs] == [4] * len(chunk.token_ids)


async def test_what_it_cannot_do_is_refused(engine: EmbeddedEngine, prompt: list[int]) -> None:
    with pytest.raises(EngineRefused, match="min_tokens"):
        await generate(engine, prompt, min_tokens=3)
    with pytest.raises(EngineRefused) as caught:
        await generate(engine, [5] * 600)
    assert caught.value.context_exceeded


async def test_closing_a_generation_ends_it_and_the_engine_goes_on(engine: EmbeddedEngine, prompt: list[int]) -> None:
    generation = engine.generate(np.array(prompt, np.int32), Sampling(max_tokens=400, ignore_eos=True), request_id="r")
    async for _ in generation:
        break
    await generation.aclose()
    assert len((await generate(engine, prompt, max_tokens=2, ignore_eos=True)).token_ids) == 2


async def test_tokenizer_that_splits_unlike_llama_cpp_is_refused(smollm2_file: Path) -> None:
    from tests.materials import qwen3_dir

    engine = EmbeddedEngine(smollm2_file, Tokenizer.load(qwen3_dir()), context=512, parallel=1, threads=1)
    with pytest.raises(EngineNonsense, match="tokenises unlike"):
        await engine.start()
    await engine.close()


async def test_file_that_llama_cpp_cannot_load(tmp_path: Path, smollm2_tokenizer: Tokenizer) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(100))
    engine = EmbeddedEngine(tmp_path / "broken.gguf", smollm2_tokenizer)
    with pytest.raises(EngineUnavailable, match="cannot load"):
        await engine.start()
    await engine.close()
