"""The vLLM client on a real vLLM server: what is recorded elsewhere is what it really does, and the logprobs are its
model's."""

import asyncio
import json
import math
import re
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import save_file

from tests.real.engines import RealServer, started
from tests.real.models import tiny_model
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
from tickertape.clients.engines.vllm.engine import VllmEngine
from tickertape.clients.engines.vllm.requests import COMPLETIONS, GENERATE
from tickertape.renderers.tokenizer import Tokenizer

pytestmark = pytest.mark.real

PROMPT = np.array([151644, 872, 198, 6023, 151645, 198, 151644, 77091, 198], np.int32)
HELLO = 9707

both = pytest.mark.parametrize("endpoint", [GENERATE, COMPLETIONS], ids=["generate", "completions"])


class OneEndpoint(VllmEngine):
    """The client as it is on a server that has only this endpoint."""

    def __init__(self, url: str, endpoint: str) -> None:
        super().__init__(url)
        self._endpoint = endpoint

    async def start(self) -> EngineInfo:
        self._info = replace(await super().start(), endpoint=self._endpoint)
        return self._info


@pytest.fixture
async def engine(vllm: RealServer) -> AsyncIterator[VllmEngine]:
    engine = VllmEngine(vllm.url)
    await engine.start()
    yield engine
    await engine.close()


@pytest.fixture
async def at(vllm: RealServer, endpoint: str) -> AsyncIterator[VllmEngine]:
    engine = OneEndpoint(vllm.url, endpoint)
    await engine.start()
    yield engine
    await engine.close()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(str(tiny_model()))


def joined(chunks: list[Chunk]) -> Chunk:
    return replace(
        chunks[-1],
        token_ids=[token for chunk in chunks for token in chunk.token_ids],
        logprobs=[logprob for chunk in chunks for logprob in chunk.logprobs],
        top_logprobs=[top for chunk in chunks for top in chunk.top_logprobs or ()],
    )


async def sample(engine: VllmEngine, prompt: npt.NDArray[np.int32] = PROMPT, **asked: Any) -> Chunk:
    sampling = Sampling(**{"max_tokens": 16, "seed": 7, **asked})
    return joined([chunk async for chunk in engine.generate(prompt, sampling, request_id=f"r-{id(sampling)}")])


async def difference(engine: VllmEngine, chunk: Chunk, prompt: npt.NDArray[np.int32] = PROMPT) -> npt.NDArray[Any]:
    """How far the sampled logprobs are from those of one prefill of prompt and completion."""
    scored = await engine.score([*prompt.tolist(), *chunk.token_ids])
    assert scored.token_ids == [*prompt.tolist(), *chunk.token_ids], "the echo"
    recomputed: npt.NDArray[Any] = np.array(scored.logprobs[len(prompt) :])
    return np.abs(recomputed - np.array(chunk.logprobs))


def call(server: RealServer, path: str, body: Any = None) -> str:
    """Asks the server apart from the client; posts if there is a body."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.url + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(answer.read().decode())


async def test_start_finds_out_what_the_server_has(vllm: RealServer) -> None:
    engine = VllmEngine(vllm.url)
    info = await engine.start()
    await engine.close()
    assert (info.model, info.max_context, info.version, info.endpoint) == ("tiny", 4096, "0.32.0", GENERATE)
    assert (info.logprobs, info.adapters) == (LogprobKind.RAW, ())
    assert info.features == {
        Feature.VERSIONS,
        Feature.PAUSE,
        Feature.SCORE,
        Feature.STRUCTURE,
        Feature.MIN_TOKENS,
        Feature.CHUNKS,
        Feature.ABORT,
    }


@both
@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
async def test_sampled_logprobs_are_those_of_one_prefill(at: VllmEngine, temperature: float) -> None:
    chunk = await sample(at, max_tokens=200, temperature=temperature, top_p=0.9, ignore_eos=True)
    assert (len(chunk.token_ids), chunk.finish_reason) == (200, "length")
    assert (await difference(at, chunk)).max() <= 1e-3


async def test_both_endpoints_sample_the_same(vllm: RealServer) -> None:
    answers = []
    for endpoint in (GENERATE, COMPLETIONS):
        engine = OneEndpoint(vllm.url, endpoint)
        await engine.start()
        answers.append(await sample(engine, max_tokens=50, top_logprobs=5))
        await engine.close()
    lean, other = answers
    assert lean.token_ids == other.token_ids
    np.testing.assert_allclose(lean.logprobs, other.logprobs, atol=1e-3)
    assert [set(top) for top in lean.top_logprobs or ()] == [set(top) for top in other.top_logprobs or ()]


@both
@pytest.mark.parametrize("count", [1, 5, 20])
async def test_alternatives_are_the_likeliest(at: VllmEngine, count: int) -> None:
    """The sampled token is an unlikely one, which counts as one of vLLM's own alternatives."""
    chunk = await sample(at, max_tokens=1, temperature=0.0, top_logprobs=count, logit_bias={HELLO: 100.0})
    assert chunk.token_ids == [HELLO]
    (top,) = chunk.top_logprobs or [{}]
    assert len(top) == count
    likeliest = await sample(at, max_tokens=1, temperature=0.0)
    assert next(iter(top)) == likeliest.token_ids[0]
    assert HELLO not in top or count == 20, "19 others, where vLLM gives 20 at most"


@both
async def test_stops(at: VllmEngine) -> None:
    forced: dict[str, Any] = {"temperature": 0.0, "logit_bias": {HELLO: 100.0}}
    by_id = await sample(at, stop_token_ids=(HELLO,), **forced)
    assert (by_id.token_ids, by_id.finish_reason, by_id.stop_reason) == ([HELLO], "stop", HELLO)
    inside = await sample(at, stop=("oHel",), **forced)
    assert (inside.token_ids, inside.finish_reason, inside.stop_reason) == ([HELLO, HELLO], "stop", "oHel")
    eos = await sample(at, temperature=0.0, logit_bias={151645: 100.0})
    assert (eos.token_ids, eos.finish_reason, eos.stop_reason) == ([151645], "stop", None)
    assert all(len(chunk.logprobs) == len(chunk.token_ids) for chunk in (by_id, inside, eos))
    later = await sample(at, min_tokens=5, max_tokens=5, stop_token_ids=(HELLO,), **forced)
    assert (len(later.token_ids), later.finish_reason) == (5, "length")


@both
async def test_completion_is_cut_at_the_context(at: VllmEngine) -> None:
    prompt = np.tile(PROMPT, 455)[:4090]
    # Without a seed: one for a prompt that is read in several steps ends vLLM's CPU build, see docs/engines.md.
    chunk = await sample(at, prompt, max_tokens=100, ignore_eos=True, seed=None)
    assert (len(chunk.token_ids), chunk.finish_reason) == (6, "length")


async def test_sequence_that_fills_the_context_is_scored_to_its_last_token(engine: VllmEngine) -> None:
    prompt = np.tile(PROMPT, 455)[:4094]
    chunk = await sample(engine, prompt, max_tokens=2, ignore_eos=True, seed=None)
    assert (await difference(engine, chunk, prompt)).max() <= 1e-3


@both
async def test_refusals_are_told_apart(at: VllmEngine) -> None:
    with pytest.raises(EngineRefused) as too_long:
        await sample(at, np.full(4100, 198, np.int32))
    assert too_long.value.context_exceeded
    with pytest.raises(EngineRefused, match="out of vocabulary"):
        await sample(at, np.array([1, 999_999], np.int32))
    with pytest.raises(EngineRefused) as bad_bias:
        await sample(at, logit_bias={999_999: 1.0})
    assert bad_bias.value.param == "logit_bias"
    with pytest.raises(EngineRefused, match="Grammar error"):
        await sample(at, structure=Structure(StructureKind.JSON_SCHEMA, {"type": "objec"}))
    with pytest.raises(EngineRefused) as no_adapter:
        await sample(at, adapter="nobody")
    assert no_adapter.value.param == "model"
    with pytest.raises(EngineCannot, match="routed_experts"):
        await sample(at, token_arrays=("routed_experts",))


CONST = {"type": "structural_tag", "format": {"type": "const_string", "value": "hey"}}


@both
@pytest.mark.parametrize(
    ("structure", "written"),
    [
        (Structure(StructureKind.JSON_SCHEMA, {"enum": ["yes", "no"]}), r'"(yes|no)"'),
        (Structure(StructureKind.JSON_OBJECT), r"\{.*"),
        (Structure(StructureKind.REGEX, "[0-9]{3}"), "[0-9]{3}"),
        (Structure(StructureKind.GRAMMAR, 'root ::= "ab" ("c" | "d")'), "ab[cd]"),
        (Structure(StructureKind.CHOICE, ["yes", "no"]), "yes|no"),
        (Structure(StructureKind.STRUCTURAL_TAG, CONST), "hey"),
    ],
    ids=[kind.value for kind in StructureKind],
)
async def test_structures_are_held_to(at: VllmEngine, tokenizer: Tokenizer, structure: Structure, written: str) -> None:
    for seed in range(5):
        chunk = await sample(at, seed=seed, max_tokens=12, structure=structure)
        text = tokenizer.decode(chunk.token_ids).removesuffix("<|im_end|>")
        assert re.fullmatch(written, text, re.DOTALL), text


@both
async def test_logprobs_under_a_structure_are_of_what_it_allows(at: VllmEngine) -> None:
    """vLLM masks the logits before it takes raw logprobs: they are renormalised over the allowed tokens, and a trainer
    that recomputes them must do the same."""
    chunk = await sample(at, structure=Structure(StructureKind.CHOICE, ["yes", "no"]), top_logprobs=20)
    first = (chunk.top_logprobs or [])[0]
    assert math.isclose(sum(map(math.exp, first.values())), 1.0, abs_tol=1e-4), "few tokens have it all"
    assert len(first) < 20, "those that cannot be sampled are left out"
    scored = await at.score([*PROMPT.tolist(), *chunk.token_ids])
    assert chunk.logprobs[0] - scored.logprobs[len(PROMPT)] > 3


def running(server: RealServer) -> float:
    """How many requests the engine computes."""
    found = re.search(r"^vllm:num_requests_running\{.*\} (\S+)", call(server, "/metrics"), re.MULTILINE)
    assert found is not None
    return float(found.group(1))


@pytest.mark.slow  # vLLM's gauge lags where its cores are busy
@both
async def test_closing_a_generation_frees_it_at_the_engine(at: VllmEngine, vllm: RealServer) -> None:
    chunks = at.generate(PROMPT, Sampling(4000, ignore_eos=True), request_id="closed")
    await anext(chunks)
    assert await asyncio.to_thread(running, vllm) == 1
    await chunks.aclose()
    async with asyncio.timeout(1):
        while await asyncio.to_thread(running, vllm):
            pass


async def swap(server: RealServer, seed: int, version: str) -> None:
    """Another set of weights, and its version."""
    change = {"method": "reload_weights", "kwargs": {"weights_path": str(tiny_model(seed))}}
    await asyncio.to_thread(call, server, "/collective_rpc", change)
    await asyncio.to_thread(call, server, "/reset_prefix_cache", {})
    await asyncio.to_thread(call, server, "/update_weight_version", {"new_version": version})


async def test_weights_that_change_in_mid_stream_are_told_apart(engine: VllmEngine, vllm: RealServer) -> None:
    await swap(vllm, 0, "a")
    chunks: list[Chunk] = []
    stream = engine.generate(PROMPT, Sampling(64, seed=3, ignore_eos=True), request_id="swapped")
    async for chunk in stream:
        chunks.append(chunk)
        if len(chunks) == 10:
            await engine.pause(PauseMode.KEEP)
            with pytest.raises(EngineUnavailable, match="is paused"):
                await engine.start()
            await swap(vllm, 1, "b")
            assert await engine.policy_version() == "b"
            await engine.resume()
    chunk = joined(chunks)
    assert (len(chunk.token_ids), chunk.finish_reason) == (64, "length")
    assert chunk.version_spans is not None
    (first, n_first), (second, n_second) = chunk.version_spans
    assert (first, second, n_first + n_second) == ("a", "b", 64)
    assert n_first >= 10
    under_b = await difference(engine, chunk)
    await swap(vllm, 0, "a")
    under_a = await difference(engine, chunk)
    assert under_a[:n_first].max() <= 1e-3
    assert under_b[:n_first].max() > 0.1
    assert under_a[n_first:].max() > 0.1
    assert under_b[n_first:].max() <= 1e-3


@both
async def test_aborted_generation_keeps_its_tokens(at: VllmEngine) -> None:
    chunks: list[Chunk] = []
    async for chunk in at.generate(PROMPT, Sampling(4000, ignore_eos=True), request_id="aborted"):
        chunks.append(chunk)
        if len(chunks) == 5:
            await at.pause(PauseMode.ABORT)
            await at.resume()
    last = joined(chunks)
    assert last.finish_reason == "abort"
    assert 5 <= len(last.token_ids) < 4000
    assert len(last.token_ids) == len(last.logprobs)
    assert (await difference(at, last)).max() <= 1e-3


def write_adapter(directory: Path) -> Path:
    """A LoRA adapter of the tiny model with random weights, as peft writes it."""
    config = json.loads((tiny_model() / "config.json").read_text())
    heads, hidden = config["head_dim"], config["hidden_size"]
    sizes = {"q_proj": config["num_attention_heads"] * heads, "v_proj": config["num_key_value_heads"] * heads}
    random = np.random.default_rng(5)
    weights = {}
    for layer in range(config["num_hidden_layers"]):
        for name, out in sizes.items():
            path = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            weights[f"{path}.lora_A.weight"] = random.standard_normal((8, hidden), np.float32)
            weights[f"{path}.lora_B.weight"] = random.standard_normal((out, 8), np.float32)
    directory.mkdir()
    save_file(weights, directory / "adapter_model.safetensors")
    described = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": [*sizes], "bias": "none"}
    (directory / "adapter_config.json").write_text(json.dumps(described))
    return directory


@pytest.fixture(scope="module")
def other_flags(tmp_path_factory: pytest.TempPathFactory, vllm: RealServer) -> Iterator[RealServer]:
    """A server without the lean endpoint, with processed logprobs, an adapter, and cached tokens told. It is skipped
    with ``vllm``, where vLLM is not installed."""
    directory = tmp_path_factory.mktemp("other-flags")
    adapter = write_adapter(directory / "adapter")
    flags = ("--no-enable-scale-out", "--logprobs-mode", "processed_logprobs", "--enable-prompt-tokens-details")
    lora = ("--enable-lora", "--max-lora-rank", "8", "--lora-modules", f"ada={adapter}")
    with started("vllm", tiny_model(), directory / "log", options=(*flags, *lora)) as server:
        yield server


@pytest.fixture
async def elsewhere(other_flags: RealServer) -> AsyncIterator[VllmEngine]:
    engine = VllmEngine(other_flags.url)
    await engine.start()
    yield engine
    await engine.close()


async def test_start_finds_out_other_flags(elsewhere: VllmEngine) -> None:
    info = await elsewhere.start()
    assert (info.endpoint, info.logprobs, info.adapters) == (COMPLETIONS, LogprobKind.PROCESSED, ("ada",))
    assert Feature.CACHED_TOKENS in info.features
    assert Feature.VERSIONS not in info.features


async def test_adapter_samples_from_its_own_weights(elsewhere: VllmEngine) -> None:
    own = await sample(elsewhere, max_tokens=40)
    adapted = await sample(elsewhere, max_tokens=40, adapter="ada")
    assert own.token_ids != adapted.token_ids
    whole = [*PROMPT.tolist(), *adapted.token_ids]
    expected = np.array(adapted.logprobs)
    under_it = np.array((await elsewhere.score(whole, adapter="ada")).logprobs[len(PROMPT) :])
    without = np.array((await elsewhere.score(whole)).logprobs[len(PROMPT) :])
    assert np.abs(under_it - expected).max() <= 1e-3, "at temperature 1, processed logprobs are the model's"
    assert np.abs(without - expected).max() > 0.1


async def test_processed_logprobs_are_after_the_bias(elsewhere: VllmEngine) -> None:
    chunk = await sample(elsewhere, max_tokens=3, temperature=0.0, logit_bias={HELLO: 100.0})
    assert chunk.token_ids == [HELLO] * 3
    np.testing.assert_allclose(chunk.logprobs, 0.0, atol=1e-3)
    assert (await difference(elsewhere, chunk)).min() > 1, "scores stay raw"
    with pytest.raises(EngineCannot, match="raw logprob"):
        await elsewhere.score([198] * 4096)


async def test_cached_tokens_are_those_of_whole_blocks(elsewhere: VllmEngine) -> None:
    prompt = np.tile(PROMPT, 40)
    counts = [(await sample(elsewhere, prompt, max_tokens=1)).cached_tokens for _ in range(2)]
    assert counts[0] == 0
    assert counts[1] is not None
    assert 128 <= counts[1] < len(prompt)
