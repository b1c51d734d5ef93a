"""Servers that speak vLLM's protocol partly, as older and newer vLLM, gateways and other engines do: what is optional
and does not answer as it should is a feature that the engine does not have, and it serves without it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from tests.clients.flaky_engine import until
from tests.clients.test_vllm import answering
from tests.engines import Handler, serving_aiohttp, streaming, vllm_chunks, vllm_event
from tickertape.clients.engines.engine import EngineInfo, Feature, LogprobKind, Sampling
from tickertape.clients.engines.errors import EngineError, EngineNonsense, EngineRefused, EngineUnavailable
from tickertape.clients.engines.pool import EnginePool, MemberState
from tickertape.clients.engines.vllm.engine import VllmEngine

PROMPT = np.array([5, 6], np.int32)
ALL = {
    *(Feature.MIN_TOKENS, Feature.STRUCTURE, Feature.SCORE, Feature.PAUSE, Feature.VERSIONS),
    *(Feature.CHUNKS, Feature.ABORT),
}
MODEL = {"id": "m", "max_model_len": 4096}


async def html(_: web.Request) -> web.Response:
    return web.Response(text="<html>Welcome</html>", content_type="text/html")


async def redirect(_: web.Request) -> web.Response:
    raise web.HTTPTemporaryRedirect("/login")


async def no_content(_: web.Request) -> web.Response:
    return web.Response(status=204)


def failing(status: int) -> Handler:
    return answering({"error": {"message": "no such thing"}}, status)


async def sampled(request: web.Request, *, ignored: frozenset[str] = frozenset(), processed: bool = False) -> Any:
    """What a vLLM with raw logprobs answers, but for fields that it ignores."""
    body = await request.json()
    lean = request.path == "/inference/v1/generate"
    asked = {name: value for name, value in body.get("sampling_params", body).items() if name not in ignored}
    if asked.get("prompt_logprobs") is not None:
        told = [None, *({str(token): {"logprob": -11.0}} for token in body["prompt"][1:])]
        return web.json_response({"choices": [{"prompt_token_ids": body["prompt"], "prompt_logprobs": told}]})
    structure = asked.get("structured_outputs")
    token = ord(structure["choice"][0]) if structure else next(map(int, asked.get("logit_bias") or ()), 7)
    scale = 1 / asked["temperature"] if processed and asked["temperature"] else 1.0
    if asked["max_tokens"] > 1:
        return await vllm_chunks(token, -2.0 * scale, asked["max_tokens"], lean=lean)(request)
    event = vllm_event([token], [-2.0 * scale], "length", lean=lean)
    tops = {7: -2.0 * scale, 8: -3.0 * scale}
    if lean:
        spelled = [{"token_id": top, "logprob": value} for top, value in tops.items()]
        event["choices"][0]["logprobs"]["content"][0]["top_logprobs"] = spelled
    else:
        spelled_too = [{f"token_id:{top}": value for top, value in tops.items()}] if asked.get("logprobs") else None
        event["choices"][0]["logprobs"]["top_logprobs"] = spelled_too
    return await streaming([event, "[DONE]"])(request)


def sampling_without(*fields: str, processed: bool = False) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        answer: web.StreamResponse = await sampled(request, ignored=frozenset(fields), processed=processed)
        return answer

    return handler


def sampling_but(field: str, other: Handler) -> Handler:
    """As :func:`sampled`, and ``other`` to requests that have the field."""

    async def handler(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if body.get("sampling_params", body).get(field) is not None:
            return await other(request)
        answer: web.StreamResponse = await sampled(request)
        return answer

    return handler


@contextmanager
def partly_vllm(**paths: Handler | None) -> Iterator[str]:
    """A fake of a vLLM in dev mode with both endpoints, other answers on some paths (``v1__models``), none where
    ``None`` is given."""
    answers: dict[str, Handler | None] = {
        "v1__models": answering({"data": [MODEL]}),
        "health": answering({}),
        "version": answering({"version": "0.32.0"}),
        "is_paused": answering({"is_paused": False}),
        "weight_info": answering({"weight_version": "step-1"}),
        "abort_requests": answering({"status": "aborted", "aborted": 1}),
        "v1__completions": sampling_without(),
        "inference__v1__generate": sampling_without(),
        **paths,
    }
    app = web.Application()
    for path, handler in answers.items():
        if handler is not None:
            app.router.add_route("*", f"/{path.replace('__', '/')}", handler)
    with serving_aiohttp(app) as url:
        yield url


async def used(url: str, **options: Any) -> tuple[EngineInfo, str | None]:
    """Starts, is probed, and samples, as a member of a pool does; what it is, and its weights' version."""
    engine = VllmEngine(url, **{"probe_timeout": 5.0, **options})
    try:
        info = await engine.start()
        await engine.check()
        version = await engine.policy_version()
        chunks = [chunk async for chunk in engine.generate(PROMPT, Sampling(1), request_id="r")]
        assert [token for chunk in chunks for token in chunk.token_ids] == [7]
        assert [value for chunk in chunks for value in chunk.logprobs] == [-2.0]
        return info, version
    finally:
        await engine.close()


async def test_a_whole_one_lacks_nothing() -> None:
    with partly_vllm() as url:
        info, version = await used(url)
    assert (info.features, info.missing, version) == (ALL, {}, "step-1")
    assert (info.endpoint, info.logprobs) == ("/inference/v1/generate", LogprobKind.RAW)


BOTH = ("v1__completions", "inference__v1__generate")

OPTIONAL: list[tuple[str, dict[str, Handler | None], str, str]] = [
    *(
        (f"/{path} {name}", {path: answer}, missing, said)
        for path, missing in {
            "version": "software_version",
            "is_paused": "pause",
            "weight_info": "policy_version",
            "inference__v1__generate": "versions",
            "abort_requests": "abort",
        }.items()
        for name, answer, said in [
            ("is not there", None, "answered 404"),
            ("fails", failing(500), "answered 500: no such thing"),
            ("is a web page", html, ""),
            ("redirects", redirect, "answered 307"),
            ("says something else", answering([]), ""),
        ]
    ),
    ("/health is not there", {"health": None}, "health", "answered 404; /v1/models is asked instead"),
    ("/health redirects", {"health": redirect}, "health", "answered 307; /v1/models is asked instead"),
    *(
        (f"{field} {name}", dict.fromkeys(BOTH, handler), missing, said)
        for field, missing in {
            "prompt_logprobs": "score",
            "structured_outputs": "structure",
            "logit_bias": "logit_bias",
        }.items()
        for name, handler, said in [
            ("is ignored", sampling_without(field), ""),
            ("fails", sampling_but(field, failing(500)), "answered 500: no such thing"),
            ("is refused", sampling_but(field, failing(422)), "answered 422: no such thing"),
            ("is a web page", sampling_but(field, html), ""),
        ]
        if (field, name) != ("prompt_logprobs", "is ignored")
    ),
]


@pytest.mark.parametrize(("paths", "missing", "said"), [row[1:] for row in OPTIONAL], ids=[row[0] for row in OPTIONAL])
async def test_what_is_optional_is_named_and_done_without(
    paths: dict[str, Handler | None], missing: str, said: str
) -> None:
    with partly_vllm(**paths) as url:
        info, version = await used(url)
    assert set(info.missing) == {missing}
    assert said in info.missing[missing]
    assert info.missing[missing], "with the reason"
    assert info.features == ALL - {missing}
    assert (info.version == "") == (missing == "software_version")
    assert (version is None) == (missing == "policy_version")


async def test_ignored_prompt_logprobs_are_no_scores() -> None:
    """Such a server answers as if it had been asked for one token, whole."""

    async def ignoring(request: web.Request) -> web.StreamResponse:
        choice = {"index": 0, "token_ids": [7], "finish_reason": "length", "logprobs": None}
        return web.json_response({"choices": [choice]})

    with partly_vllm(**dict.fromkeys(BOTH, sampling_but("prompt_logprobs", ignoring))) as url:
        info, _ = await used(url)
    assert info.features == ALL - {Feature.SCORE}
    assert "gave no logprobs of the prompt" in info.missing["score"]


async def test_health_may_answer_without_a_body() -> None:
    with partly_vllm(health=no_content) as url:
        info, _ = await used(url)
    assert not info.missing


async def test_a_server_that_says_it_is_unwell_is_not_used() -> None:
    with partly_vllm(health=failing(503)) as url, pytest.raises(EngineUnavailable, match="/health answered 503"):
        await used(url)


async def test_an_optional_thing_that_hangs_is_done_without() -> None:
    async def hanging(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while request.transport is not None and not request.transport.is_closing():
            await response.write(b": \n\n")
        return response

    with partly_vllm(**dict.fromkeys(BOTH, sampling_but("structured_outputs", hanging))) as url:
        info, _ = await used(url, probe_timeout=0.5)
    assert "did not answer within 0.5 s" in info.missing["structure"]


@pytest.mark.parametrize("field", ["logit_bias", "top_logprobs"])
async def test_what_the_server_ignores_is_refused_by_name(field: str) -> None:
    handler = sampling_without("logprobs", "logit_bias")
    with partly_vllm(inference__v1__generate=None, v1__completions=handler) as url:
        engine = VllmEngine(url)
        await engine.start()
        asked = Sampling(1, logit_bias={1: 1.0}) if field == "logit_bias" else Sampling(1, top_logprobs=2)
        with pytest.raises(EngineRefused, match=f"has no {field}: ") as caught:
            await anext(engine.generate(PROMPT, asked, request_id="r"))
        assert caught.value.param == field
        await engine.close()


@pytest.mark.parametrize("processed", [True, False])
async def test_logprobs_are_told_apart_without_a_bias(processed: bool) -> None:
    handler = sampling_without("logit_bias", processed=processed)
    with partly_vllm(inference__v1__generate=None, v1__completions=handler) as url:
        info, _ = await used(url)
    assert info.logprobs is (LogprobKind.PROCESSED if processed else LogprobKind.RAW)
    assert "logprob_kind" not in info.missing


async def test_the_context_of_a_server_that_does_not_say_it_is_given() -> None:
    with partly_vllm(v1__models=answering({"data": [{"id": "m"}]})) as url:
        with pytest.raises(EngineNonsense, match=r"does not say how long .* give it with --context"):
            await used(url)
        info, _ = await used(url, context=2048)
    assert info.max_context == 2048


REQUIRED: list[tuple[str, Handler, str]] = [
    ("no token ids", streaming([{"choices": [{"index": 0, "text": "a", "finish_reason": "length"}]}]), "token_ids"),
    ("text prompts only", failing(400), "answered 400: no such thing"),
    (
        "no logprobs",
        streaming([{"choices": [{"token_ids": [7], "logprobs": None, "finish_reason": "length"}]}]),
        "no logprobs",
    ),
    ("a web page", html, "without a single event"),
    ("null logprobs", streaming([vllm_event([7], [None], "length"), "[DONE]"]), "nan"),  # type: ignore[list-item]
]


@pytest.mark.parametrize(("handler", "said"), [row[1:] for row in REQUIRED], ids=[row[0] for row in REQUIRED])
async def test_what_a_turn_needs_is_required_and_named(handler: Handler, said: str) -> None:
    with (
        partly_vllm(inference__v1__generate=None, v1__completions=handler) as url,
        pytest.raises(EngineError, match="must sample from a prompt of token ids, and give the id") as caught,
    ):
        await used(url)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("path", "later"),
    [("weight_info", failing(404)), ("weight_info", html), ("health", failing(404))],
    ids=["weight_info is not there", "weight_info is a web page", "health is not there"],
)
async def test_a_server_that_comes_back_without_an_optional_thing_serves_without_it(path: str, later: Handler) -> None:
    """As one that is restarted without dev mode: what the earlier one had is not asked of it."""
    now: Handler = answering({"weight_version": "step-1"})

    async def handler(request: web.Request) -> web.StreamResponse:
        return await now(request)

    with partly_vllm(**{path: handler}) as url:
        pool = EnginePool({"a": VllmEngine(url)}, probe_every=0.02)
        await pool.start()
        member = pool.members["a"]
        assert (member.state, member.info and member.info.missing) == (MemberState.READY, {})
        now = later
        await until(
            lambda: (member.info is not None and bool(member.info.missing)) or (later is html and path == "health")
        )
        await until(lambda: member.state is MemberState.READY)
        assert member.version == (None if path == "weight_info" else "step-1")
        await pool.close()
