"""What the vLLM client finds out at start, and what it does beside sampling."""

import asyncio
import math
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from tests.clients.test_vllm import PROMPT, answering, recorded
from tests.engines import Handler, faulty_vllm, serving_aiohttp, streaming, vllm_event
from tickertape.clients.engines.engine import EngineInfo, Feature, LogprobKind, PauseMode, Sampling, Scored
from tickertape.clients.engines.errors import EngineCannot, EngineNonsense, EngineRefused, EngineUnavailable
from tickertape.clients.engines.vllm.engine import VllmEngine

EVERYWHERE = {Feature.CHUNKS, Feature.MIN_TOKENS, Feature.STRUCTURE, Feature.SCORE}


async def never(_: web.Request) -> web.Response:
    raise AssertionError("nothing is sampled here")


async def started(url: str, **options: Any) -> EngineInfo:
    engine = VllmEngine(url, **options)
    try:
        return await engine.start()
    finally:
        await engine.close()


async def start_with(sample: Handler, *, probe_timeout: float = 60.0, **paths: Any) -> EngineInfo:
    """Starts on a server whose ``sample`` answers everything that is posted to either endpoint, probes included."""
    app = web.Application()
    listing = {"data": [{"id": "faulty", "parent": None, "max_model_len": 4096}]}
    for path, body in {"v1/models": listing, "version": {"version": "0.32.0"}, **paths}.items():
        app.router.add_get(f"/{path}", answering(body))
    app.router.add_post("/v1/completions", sample)
    app.router.add_post("/inference/v1/generate", sample)
    with serving_aiohttp(app) as url:
        return await started(url, probe_timeout=probe_timeout)


async def test_lean_endpoint_is_used_where_it_is() -> None:
    with faulty_vllm(never, lean=True) as url:
        info = await started(url)
    assert (info.name, info.model, info.max_context, info.version) == ("vllm", "faulty", 4096, "0.32.0")
    assert info.endpoint == "/inference/v1/generate"
    assert info.features == EVERYWHERE | {Feature.VERSIONS}
    assert info.logprobs is LogprobKind.RAW


async def test_completions_are_used_where_the_lean_endpoint_is_not() -> None:
    with faulty_vllm(never) as url:
        info = await started(url)
    assert info.endpoint == "/v1/completions"
    assert info.features == EVERYWHERE


def probed(body: dict[str, Any], logprob: float, *, lean: bool) -> Any:
    """An event that answers a probe as asked."""
    asked = body.get("sampling_params", body)
    token = next(map(int, asked["logit_bias"] or ()), 7)
    return vllm_event([token], [logprob], "length", lean=lean)


def probe_answers(logprob: float = -11.0, *, lean_event: Any = None, closed: bool = False) -> Handler:
    """Answers probes; the lean endpoint with ``lean_event`` if given, or as one that is closed."""

    async def handler(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if "prompt_logprobs" in body:
            return web.json_response({"error": {"message": "no prompt logprobs"}}, status=400)
        if request.path != "/inference/v1/generate":
            return await streaming([probed(body, logprob, lean=False), "[DONE]"])(request)
        if closed:
            case = recorded("generate_closed")
            return web.json_response(case["response"], status=case["status"])
        event = probed(body, logprob, lean=True) if lean_event is None else lean_event
        return await streaming([event, "[DONE]"])(request)

    return handler


async def test_closed_endpoint_is_not_used() -> None:
    assert (await start_with(probe_answers(closed=True))).endpoint == "/v1/completions"


def older_shapes() -> list[Any]:
    """How vLLM before 0.32 spells tokens and logprobs on the lean endpoint, and an answer without versions."""
    event = recorded("generate_stream_text")["sse"][0]
    texts = {**event, "choices": [{**event["choices"][0], "token_ids": [1], "finish_reason": "length"}]}
    without = vllm_event([1], [-11.0], "length", lean=True)
    del without["choices"][0]["weight_versions"]
    return [texts, without]


@pytest.mark.parametrize("event", older_shapes(), ids=["text for ids", "no versions"])
async def test_lean_endpoint_of_an_older_shape_is_not_used(event: Any) -> None:
    assert (await start_with(probe_answers(lean_event=event))).endpoint == "/v1/completions"


async def test_what_the_server_does_not_do_is_no_feature() -> None:
    """The same token whatever the structure, and logprobs of prompts are refused."""
    info = await start_with(probe_answers())
    assert info.features == {Feature.MIN_TOKENS, Feature.VERSIONS}


async def test_processed_logprobs_are_recognised() -> None:
    """A token forced by a bias then has all of the probability."""
    assert (await start_with(probe_answers(0.0))).logprobs is LogprobKind.PROCESSED
    assert (await start_with(probe_answers(-9.0))).logprobs is LogprobKind.RAW


async def test_one_forced_token_that_is_likely_anyway_does_not_make_logprobs_processed() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        likely = (body.get("sampling_params", body).get("logit_bias") or {}).keys() == {"1"}
        return await probe_answers(-0.01 if likely else -5.0)(request)

    assert (await start_with(handler)).logprobs is LogprobKind.RAW


async def test_logits_are_refused() -> None:
    with pytest.raises(EngineNonsense, match="logits for logprobs"):
        await start_with(probe_answers(12.5))


async def test_server_that_is_up_and_samples_nothing_is_unavailable() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await asyncio.sleep(1.0)
        return response

    with pytest.raises(EngineUnavailable, match=r"sampled nothing within 0\.2 s"):
        await start_with(handler, probe_timeout=0.2)


async def test_paused_server_is_unavailable() -> None:
    """It would let a probe wait until it is resumed."""
    with pytest.raises(EngineUnavailable, match="is paused"):
        await start_with(never, is_paused={"is_paused": True})


async def test_adapters_are_listed_beside_the_model() -> None:
    with faulty_vllm(never, others={"/v1/models": recorded("models_with_adapter")["response"]}) as url:
        info = await started(url)
    assert (info.model, info.max_context, info.adapters) == ("tiny", 4096, ("ada",))


@pytest.mark.parametrize("listing", [[], {}, {"data": []}, {"data": [{"id": "m"}]}, {"data": [{"max_model_len": 1}]}])
async def test_listing_that_is_not_vllms_is_nonsense(listing: Any) -> None:
    with faulty_vllm(never, others={"/v1/models": listing}) as url, pytest.raises(EngineNonsense, match="/v1/models"):
        await started(url)


async def test_nobody_listening_is_unavailable() -> None:
    with faulty_vllm(never) as url:
        pass
    with pytest.raises(EngineUnavailable, match="cannot be reached"):
        await started(url)


def control(**paths: str) -> dict[str, Any]:
    """Recorded answers by path."""
    return {path: recorded(name)["response"] for path, name in {"/is_paused": "is_paused", **paths}.items()} | {
        "/v1/models": recorded("models")["response"]
    }


@pytest.mark.parametrize(("name", "version"), [("weight_info", None), ("weight_info_after", "step-42")])
async def test_policy_version_is_the_engines_unless_nobody_set_one(name: str, version: str | None) -> None:
    with faulty_vllm(never, others=control(**{"/weight_info": name})) as url:
        engine = VllmEngine(url)
        await engine.start()
        assert await engine.policy_version() == version
        await engine.close()


async def test_policy_version_is_unknown_without_dev_mode() -> None:
    with faulty_vllm(never) as url:
        engine = VllmEngine(url)
        await engine.start()
        assert await engine.policy_version() is None
        await engine.close()


@pytest.mark.parametrize("mode", list(PauseMode))
async def test_pause_and_resume_are_the_engines_own(mode: PauseMode) -> None:
    paths = control(**{f"/pause?mode={mode.value}": f"pause_{mode.value}", "/resume": "resume"})
    with faulty_vllm(never, others=paths) as url:
        engine = VllmEngine(url)
        assert Feature.PAUSE in (await engine.start()).features
        await engine.pause(mode)
        await engine.resume()
        await engine.close()


async def test_pausing_without_dev_mode_is_refused() -> None:
    with faulty_vllm(never) as url:
        engine = VllmEngine(url)
        await engine.start()
        for refused in (engine.pause(PauseMode.KEEP), engine.resume()):
            with pytest.raises(EngineCannot, match="VLLM_SERVER_DEV_MODE=1"):
                await refused
        await engine.close()


async def score(handler: Handler, token_ids: list[int], **options: Any) -> Scored:
    with faulty_vllm(handler, **options) as url:
        engine = VllmEngine(url)
        await engine.start()
        try:
            return await engine.score(token_ids)
        finally:
            await engine.close()


async def test_recorded_score_has_one_logprob_for_each_token_after_the_first() -> None:
    case = recorded("completions_scored")
    (choice,) = case["response"]["choices"]
    scored = await score(answering(case["response"]), case["request"]["body"]["prompt"])
    assert scored.token_ids == choice["prompt_token_ids"]
    assert math.isnan(scored.logprobs[0])
    told = [next(iter(entry.values()))["logprob"] for entry in choice["prompt_logprobs"][1:]]
    assert scored.logprobs[1:] == told


def scores() -> list[Any]:
    (choice,) = recorded("completions_scored")["response"]["choices"]
    return [
        {},
        {"choices": []},
        {"choices": [{**choice, "prompt_token_ids": None}]},
        {"choices": [{**choice, "prompt_logprobs": None}]},
        {"choices": [{**choice, "prompt_logprobs": choice["prompt_logprobs"][:-1]}]},
        {"choices": [{**choice, "prompt_token_ids": choice["prompt_token_ids"][::-1]}]},
    ]


@pytest.mark.parametrize(
    "answer", scores(), ids=["nothing", "no choice", "no ids", "no logprobs", "fewer", "other ids"]
)
async def test_score_that_does_not_line_up_is_nonsense(answer: Any) -> None:
    with pytest.raises(EngineNonsense, match="no logprobs of the prompt"):
        await score(answering(answer), PROMPT.tolist())


async def test_score_of_a_sequence_that_is_too_long_is_refused() -> None:
    case = recorded("err_prompt_4097")
    with pytest.raises(EngineRefused) as caught:
        await score(answering(case["response"], case["status"]), [1] * 4097)
    assert caught.value.context_exceeded


async def test_score_of_a_sequence_that_fills_the_context_has_its_last_token_sampled() -> None:
    """vLLM samples one token at least, for which such a prompt leaves no place."""
    sent: dict[str, Any] = {}

    async def handler(request: web.Request) -> web.Response:
        sent.update(await request.json())
        told = [None, {"872": {"logprob": -2.0}}]
        choice = {"prompt_token_ids": [151644, 872], "prompt_logprobs": told, "token_ids": [198]}
        return web.json_response({"choices": [{**choice, "logprobs": {"token_logprobs": [-3.0]}}]})

    scored = await score(handler, PROMPT.tolist(), max_model_len=3)
    assert (sent["prompt"], sent["logit_bias"], sent["max_tokens"]) == ([151644, 872], {"198": 100.0}, 1)
    assert scored.token_ids == PROMPT.tolist()
    assert scored.logprobs[1:] == [-2.0, -3.0]


async def test_a_start_again_finds_out_again() -> None:
    """A server that was away may come back with other flags."""
    closed = True

    async def handler(request: web.Request) -> web.StreamResponse:
        return await probe_answers(closed=closed)(request)

    app = web.Application()
    app.router.add_get("/v1/models", answering({"data": [{"id": "m", "max_model_len": 8}]}))
    app.router.add_get("/version", answering({"version": "0.32.0"}))
    app.router.add_post("/v1/completions", handler)
    app.router.add_post("/inference/v1/generate", handler)
    with serving_aiohttp(app) as url:
        engine = VllmEngine(url)
        assert (await engine.start()).endpoint == "/v1/completions"
        closed = False
        assert (await engine.start()).endpoint == "/inference/v1/generate"
        chunks = [chunk async for chunk in engine.generate(np.array([1], np.int32), Sampling(1), request_id="r")]
        assert [token for chunk in chunks for token in chunk.token_ids] == [7]
        await engine.close()
