"""The Tinker client: the real SDK, against a fake of the service behind it (``fake_tinker``)."""

import asyncio
import math
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tinker", reason="pip install -e '.[tinker]'")

from tests.clients.fake_tinker import KEY, FakeTinker, distribution, fake_tinker
from tests.clients.flaky_engine import sampled as sampled_by_pool
from tickertape.clients.engines.choose import UnknownEngine, make_engine
from tickertape.clients.engines.engine import Chunk, Feature, LogprobKind, Sampling, Structure, StructureKind
from tickertape.clients.engines.errors import EngineError, EngineNonsense, EngineRefused, EngineUnavailable
from tickertape.clients.engines.pool import EnginePool, MemberState
from tickertape.clients.engines.tinker.engine import TinkerEngine

PROMPT = np.array([3, 1, 4, 15], np.int32)
WEIGHTS = "tinker://run:train:0/sampler_weights/step-42"


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINKER_TELEMETRY", "0")
    monkeypatch.delenv("TINKER_API_KEY", raising=False)


@asynccontextmanager
async def connected(weights: str = WEIGHTS, **faults: Any) -> AsyncIterator[tuple[TinkerEngine, FakeTinker]]:
    async with fake_tinker(**faults) as service:
        engine = TinkerEngine(weights, api_key=KEY, base_url=service.url)
        await engine.start()
        service.asked.clear()
        try:
            yield engine, service
        finally:
            await engine.close()


async def sampled(engine: TinkerEngine, **sampling: Any) -> Chunk:
    asked = Sampling(**{"max_tokens": 12, **sampling})
    (chunk,) = [chunk async for chunk in engine.generate(PROMPT, asked, request_id="r")]
    return chunk


async def test_start_names_what_the_service_and_the_path_tell() -> None:
    async with connected() as (engine, service):
        info = await engine.start()
        assert (info.model, info.max_context, info.url) == ("Tiny/Base", 256, WEIGHTS)
        assert info.features == {Feature.SCORE, Feature.CACHED_TOKENS, Feature.VERSIONS}
        assert service.sessions[0]["model_path"] == WEIGHTS
        assert service.keys == {KEY}
        assert await engine.policy_version() == "step-42"


async def test_a_base_model_has_no_version() -> None:
    async with connected("Tiny/Base") as (engine, service):
        assert service.sessions[0]["base_model"] == "Tiny/Base"
        assert await engine.policy_version() is None
        assert (await sampled(engine)).policy_version is None
        assert Feature.VERSIONS not in (await engine.start()).features


@pytest.mark.parametrize("processed", [False, True])
async def test_it_is_found_out_whether_logprobs_are_after_temperature(processed: bool) -> None:
    async with connected(processed=processed) as (engine, _):
        info = await engine.start()
        assert info.logprobs is (LogprobKind.PROCESSED if processed else LogprobKind.RAW)


async def test_tokens_logprobs_and_alternatives_line_up_with_what_was_sampled() -> None:
    async with connected() as (engine, _):
        chunk = await sampled(engine, temperature=0.7, seed=7, top_logprobs=3)
        stream = [*PROMPT.tolist(), *chunk.token_ids]
        rows = [distribution(token) for token in stream[len(PROMPT) - 1 : -1]]
        assert len(chunk.token_ids) == 12
        assert chunk.logprobs == [float(row[token]) for row, token in zip(rows, chunk.token_ids, strict=True)]
        assert chunk.top_logprobs == [{int(t): float(row[t]) for t in np.argsort(-row)[:3]} for row in rows]
        assert (chunk.finish_reason, chunk.stop_reason) == ("length", None)
        assert (chunk.policy_version, chunk.cached_tokens) == ("step-42", 2)


async def test_the_stop_token_is_the_last_one_and_is_named() -> None:
    async with connected() as (engine, _):
        free = await sampled(engine, seed=7)
        stop = free.token_ids[5]
        chunk = await sampled(engine, seed=7, stop_token_ids=(63, stop))
        assert chunk.token_ids == free.token_ids[: free.token_ids.index(stop) + 1]
        assert (chunk.finish_reason, chunk.stop_reason) == ("stop", stop)
        assert len(chunk.logprobs) == len(chunk.token_ids)


async def test_every_parameter_is_sent() -> None:
    async with connected() as (engine, service):
        await sampled(engine, temperature=0.5, top_p=0.9, top_k=20, seed=3, stop_token_ids=(63,), top_logprobs=2)
        (asked,) = service.asked
        assert asked["sampling_params"] == {
            "max_tokens": 12,
            "temperature": 0.5,
            "top_p": 0.9,
            "top_k": 20,
            "seed": 3,
            "stop": [63],
        }
        assert (asked["num_samples"], asked["topk_sample_logprobs"]) == (1, 2)
        assert asked["prompt"]["chunks"][0]["tokens"] == PROMPT.tolist()


@pytest.mark.parametrize(
    ("sampling", "stop"),
    [({}, None), ({"ignore_eos": True}, []), ({"stop": ("END",)}, ["END"]), ({"stop_token_ids": (63, 9)}, [63, 9])],
)
async def test_what_ends_a_turn_is_sent_as_tinker_spells_it(sampling: dict[str, Any], stop: list[Any] | None) -> None:
    async with connected() as (engine, service):
        await sampled(engine, **sampling)
        assert service.asked[0]["sampling_params"].get("stop") == stop


@pytest.mark.parametrize(
    ("param", "sampling"),
    [
        ("min_p", {"min_p": 0.1}),
        ("presence_penalty", {"presence_penalty": 0.5}),
        ("frequency_penalty", {"frequency_penalty": 0.5}),
        ("repetition_penalty", {"repetition_penalty": 1.1}),
        ("min_tokens", {"min_tokens": 2}),
        ("logit_bias", {"logit_bias": {5: 1.0}}),
        ("structure", {"structure": Structure(StructureKind.JSON_OBJECT)}),
        ("adapter", {"adapter": "ada"}),
        ("token_arrays", {"token_arrays": ("routed_experts",)}),
        ("stop", {"stop": ("END",), "stop_token_ids": (63,)}),
        ("stop", {"stop": ("END", "STOP")}),
    ],
)
async def test_what_tinker_has_no_word_for_is_refused_by_name(param: str, sampling: dict[str, Any]) -> None:
    async with connected() as (engine, service):
        with pytest.raises(EngineRefused) as refused:
            await sampled(engine, **sampling)
        assert refused.value.param == param
        assert service.asked == []


async def test_max_tokens_are_cut_to_the_context_and_a_prompt_that_fills_it_is_refused() -> None:
    async with connected(context=16) as (engine, service):
        chunk = await sampled(engine, max_tokens=100)
        assert service.asked[0]["sampling_params"]["max_tokens"] == 12
        assert (len(chunk.token_ids), chunk.finish_reason) == (12, "length")
        with pytest.raises(EngineRefused) as refused:
            await engine.score([1] * 16)
        assert refused.value.context_exceeded


async def test_a_model_without_a_known_context_is_not_served() -> None:
    async with fake_tinker(context=None) as service:
        engine = TinkerEngine("Tiny/Base", api_key=KEY, base_url=service.url)
        with pytest.raises(EngineNonsense, match="does not tell the context of 'Tiny/Base'"):
            await engine.start()
        await engine.close()


async def test_a_score_gives_the_logprobs_that_sampling_gave() -> None:
    async with connected() as (engine, _):
        chunk = await sampled(engine, seed=11)
        stream = [*PROMPT.tolist(), *chunk.token_ids]
        scored = await engine.score(stream)
        assert scored.token_ids == stream
        assert math.isnan(scored.logprobs[0])
        assert scored.logprobs[len(PROMPT) :] == chunk.logprobs


def _without_a_logprob(answer: Any) -> None:
    answer.sequences[0].logprobs = answer.sequences[0].logprobs[:-4]


def _without_logprobs(answer: Any) -> None:
    answer.sequences[0].ClearField("logprobs")


def _without_the_stop_token(answer: Any) -> None:
    (sequence,) = answer.sequences
    sequence.stop_reason, sequence.tokens, sequence.logprobs = 1 - sequence.stop_reason, b"", b""


def _twice(answer: Any) -> None:
    answer.sequences.append(answer.sequences[0])


def _longer(answer: Any) -> None:
    answer.sequences[0].tokens += answer.sequences[0].tokens
    answer.sequences[0].logprobs += answer.sequences[0].logprobs


def _without_alternatives(answer: Any) -> None:
    answer.sequences[0].ClearField("topk_sampled_logprobs")


@pytest.mark.parametrize(
    "spoil", [_without_a_logprob, _without_logprobs, _without_the_stop_token, _twice, _longer, _without_alternatives]
)
async def test_an_answer_whose_parts_do_not_fit_is_nonsense(spoil: Any) -> None:
    async with connected() as (engine, service):
        service.spoil = spoil
        with pytest.raises(EngineNonsense):
            await sampled(engine, stop_token_ids=(63,), top_logprobs=2)


def _half_scored(answer: Any) -> None:
    answer.prompt_logprobs = answer.prompt_logprobs[:-4]


async def test_a_score_of_another_number_of_tokens_is_nonsense() -> None:
    async with connected() as (engine, service):
        service.spoil = _half_scored
        with pytest.raises(EngineNonsense, match="3 logprobs for 4 tokens"):
            await engine.score([1, 2, 3, 4])


@pytest.mark.parametrize(
    ("faults", "kind", "text"),
    [
        ({"refusal": (400, "token 99 is beyond the vocabulary")}, EngineRefused, "beyond the vocabulary"),
        ({"refusal": (422, "top_p")}, EngineRefused, "422"),
        ({"refusal": (404, "no such sampler")}, EngineUnavailable, "no such sampler"),
        ({"refusal": (401, "bad key")}, EngineUnavailable, "bad key"),
        ({"failure": {"error": "prompt too odd", "category": "user"}}, EngineRefused, "prompt too odd"),
        ({"failure": {"error": "worker died", "category": "server"}}, EngineUnavailable, "worker died"),
        ({"failure": {"type": "sample"}}, EngineNonsense, "JSON payload"),
    ],
)
async def test_errors_are_told_apart(faults: dict[str, Any], kind: type[EngineError], text: str) -> None:
    async with connected() as (engine, service):
        for name, value in faults.items():
            setattr(service, name, value)
        with pytest.raises(kind, match=text):
            await sampled(engine)


async def test_a_cancelled_generation_is_cancelled_at_the_service() -> None:
    async with connected() as (engine, service):
        service.held = True
        service.changed.clear()
        task = asyncio.create_task(sampled(engine))
        await service.changed.wait()
        service.changed.clear()
        await asyncio.sleep(0.1)
        assert service.cancelled == []
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(30):
            await service.changed.wait()
        assert service.cancelled == ["0"]


async def test_the_service_is_asked_whether_it_is_well_only_when_there_is_doubt() -> None:
    async with connected() as (engine, service):
        seen = service.listings
        await engine.check()
        assert service.listings == seen
        service.refusal = (404, "no such sampler")
        with pytest.raises(EngineUnavailable):
            await sampled(engine)
        await engine.check()
        assert service.listings == seen + 1


async def test_closing_ends_the_session_there_and_it_can_be_started_again() -> None:
    async with fake_tinker() as service:
        engine = TinkerEngine(WEIGHTS, api_key=KEY, base_url=service.url)
        await engine.start()
        await engine.close()
        assert service.finished == ["session"]
        with pytest.raises(EngineUnavailable):
            await engine.check()
        await engine.start()
        assert len((await sampled(engine)).token_ids) == 12
        await engine.close()


async def test_a_service_that_is_away_is_unavailable_in_time() -> None:
    async with fake_tinker() as service:
        away = service.url
    engine = TinkerEngine(WEIGHTS, api_key=KEY, base_url=away, start_timeout=0.3)
    with pytest.raises(EngineUnavailable, match=r"in 0\.3 s"):
        await engine.start()
    await engine.close()


async def test_without_a_key_it_says_where_keys_come_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    async with fake_tinker() as service:
        with pytest.raises(EngineUnavailable, match="TINKER_API_KEY"):
            await TinkerEngine(WEIGHTS, base_url=service.url).start()


async def test_without_its_sdk_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tinker", None)
    with pytest.raises(EngineUnavailable, match=r"pip install 'tinker>=0.38'"):
        await make_engine("tinker=Tiny/Base", None).start()


@pytest.mark.parametrize("spec", ["tinker", "tinker=", "tinker=tinker://", "tinker=http://127.0.0.1:1"])
def test_a_tinker_engine_without_weights_is_no_engine(spec: str) -> None:
    with pytest.raises(UnknownEngine, match=r"tinker=tinker://PATH\|BASE_MODEL"):
        make_engine(spec, None)


async def test_new_weights_are_another_engine_that_takes_over_when_their_version_is_set() -> None:
    async with fake_tinker() as service:
        old, new = (
            TinkerEngine(f"tinker://run/sampler_weights/{name}", api_key=KEY, base_url=service.url)
            for name in ("step-42", "step-43")
        )
        pool = EnginePool({"old": old})
        await pool.start()
        try:
            pool.expect("step-42")
            await pool.add("new", new)
            assert [member.state for member in pool.members.values()] == [MemberState.READY, MemberState.STALE]
            pool.expect("step-43")
            assert [member.state for member in pool.members.values()] == [MemberState.STALE, MemberState.READY]
            assert [chunk.policy_version for chunk in await sampled_by_pool(pool, PROMPT, Sampling(4))] == ["step-43"]
            await pool.remove("old", drain_seconds=0)
        finally:
            await pool.close()
