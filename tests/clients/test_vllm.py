"""The vLLM client against what vLLM 0.32 really answered, and against answers that make no sense."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from tests.engines import Handler, faulty_vllm
from tickertape.clients.engines.engine import Chunk, Sampling
from tickertape.clients.engines.errors import EngineError, EngineNonsense, EngineRefused, EngineUnavailable
from tickertape.clients.engines.vllm import VllmEngine

RECORDED = Path(__file__).parent.parent / "data" / "vllm-0.32"
PROMPT = np.array([151644, 872, 198], np.int32)


def recorded(name: str) -> dict[str, Any]:
    case: dict[str, Any] = json.loads((RECORDED / f"{name}.json").read_text())
    return case


def answering(body: Any, status: int = 200) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(text=text, status=status, content_type="application/json")

    return handler


async def generate(handler: Handler, **sampling: Any) -> Chunk:
    with faulty_vllm(handler) as url:
        engine = VllmEngine(url)
        await engine.start()
        try:
            chunks = [
                c async for c in engine.generate(PROMPT, Sampling(**{"max_tokens": 4, **sampling}), request_id="r")
            ]
        finally:
            await engine.close()
    (chunk,) = chunks
    return chunk


@pytest.mark.parametrize(
    "name",
    ["completions_full_logprobs0", "eos_hit_default", "eos_secondary_151643", "stop_string_hit", "logprobs_as_top_5"],
)
async def test_verbatim_recorded_tokens_and_logprobs_line_up(name: str) -> None:
    case = recorded(name)
    chunk = await generate(answering(case["response"]))
    (choice,) = case["response"]["choices"]
    assert chunk.token_ids == choice["token_ids"]
    assert chunk.logprobs == choice["logprobs"]["token_logprobs"]
    assert (chunk.finish_reason, chunk.stop_reason) == (choice["finish_reason"], choice["stop_reason"])


async def test_stop_token_is_kept_and_a_secondary_one_is_named() -> None:
    assert (await generate(answering(recorded("eos_hit_default")["response"]))).token_ids[-1] == 151645
    assert (await generate(answering(recorded("eos_secondary_151643")["response"]))).stop_reason == 151643


async def test_stop_string_that_ends_inside_a_token_keeps_the_whole_token() -> None:
    chunk = await generate(answering(recorded("stop_string_hit_partial_tok")["response"]))
    assert chunk.token_ids == [9707, 9707]
    assert chunk.stop_reason == "oHel"


async def test_top_logprobs_come_by_token_id() -> None:
    chunk = await generate(answering(recorded("logprobs_as_top_5")["response"]), top_logprobs=5)
    assert chunk.top_logprobs is not None
    assert set(chunk.top_logprobs[0]) == {198, 43039, 14441, 99270, 13801}


async def test_every_sampling_parameter_is_sent_explicitly() -> None:
    sent: dict[str, Any] = {}
    headers: dict[str, str] = {}

    async def handler(request: web.Request) -> web.Response:
        sent.update(await request.json())
        headers.update({name.lower(): value for name, value in request.headers.items()})
        return web.json_response(recorded("completions_full_logprobs0")["response"])

    await generate(handler, seed=7, stop_token_ids=(151645,), logit_bias={9707: 1.5})
    assert sent["prompt"] == PROMPT.tolist()
    assert sent["model"] == "faulty"
    asked = recorded("completions_full_logprobs0")["request"]["body"]
    assert {name: sent[name] for name in asked if name not in ("model", "prompt")} == {
        name: value for name, value in asked.items() if name not in ("model", "prompt")
    }
    assert sent["logit_bias"] == {"9707": 1.5}
    defaults = {"min_p": 0.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "repetition_penalty": 1.0}
    assert {name: sent[name] for name in defaults} == defaults
    assert {"stop", "ignore_eos", "min_tokens", "n", "stream", "echo"} <= set(sent)
    assert headers["x-request-id"] == "r"


async def test_missing_logprob_is_nan_and_never_dropped() -> None:
    response = recorded("completions_full_logprobs0")["response"]
    response["choices"][0]["logprobs"]["token_logprobs"][1] = None
    chunk = await generate(answering(response))
    assert len(chunk.logprobs) == len(chunk.token_ids)
    assert math.isnan(chunk.logprobs[1])


@pytest.mark.parametrize(
    ("name", "exceeded", "param"),
    [
        ("err_prompt_4097", True, "input_tokens"),
        ("err_oov_token", False, None),
        ("err_bad_temperature", False, "temperature"),
        ("err_unknown_model", False, "model"),
    ],
)
async def test_recorded_refusals_are_told_apart(name: str, exceeded: bool, param: str | None) -> None:
    case = recorded(name)
    with pytest.raises(EngineRefused, match="answered 4") as caught:
        await generate(answering(case["response"], case["status"]))
    assert (caught.value.context_exceeded, caught.value.param) == (exceeded, param)
    assert case["response"]["error"]["message"][:40] in str(caught.value)


def nonsense() -> list[tuple[str, Any]]:
    def changed(**choice: Any) -> Any:
        response = recorded("completions_full_logprobs0")["response"]
        response["choices"][0].update(choice)
        return response

    short = recorded("completions_full_logprobs0")["response"]
    short["choices"][0]["logprobs"]["token_logprobs"].pop()
    return [
        ("no JSON", "<html>gateway</html>"),
        ("no object", []),
        ("no choices", {}),
        ("two choices", recorded("completions_n2")["response"]),
        ("no logprobs", recorded("completions_no_logprobs")["response"]),
        ("no ids", changed(token_ids=None)),
        ("text for ids", changed(token_ids=["a", "b", "c", "d"])),
        ("booleans for ids", changed(token_ids=[True, True, True, True])),
        ("fewer logprobs than tokens", short),
        ("an unknown finish", changed(finish_reason="tired")),
        ("no finish", changed(finish_reason=None)),
    ]


@pytest.mark.parametrize("body", [body for _, body in nonsense()], ids=[name for name, _ in nonsense()])
async def test_nonsense_is_an_error_and_never_padded(body: Any) -> None:
    with pytest.raises(EngineNonsense):
        await generate(answering(body))


async def test_nobody_listening_is_unavailable() -> None:
    with faulty_vllm(answering({})) as url:
        pass
    engine = VllmEngine(url)
    with pytest.raises(EngineUnavailable, match="cannot be reached"):
        await engine.start()
    await engine.close()


@pytest.mark.parametrize("status", [500, 502, 503, 429])
async def test_server_errors_are_the_engines_fault(status: int) -> None:
    with pytest.raises(EngineUnavailable, match=str(status)):
        await generate(answering({"error": {"message": "no"}}, status))


async def test_connection_that_went_stale_is_tried_once_more() -> None:
    calls = 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        if calls == 1 and request.transport is not None:
            request.transport.abort()
        return web.json_response(recorded("eos_hit_default")["response"])

    assert (await generate(handler)).token_ids == [151645]
    assert calls == 2


async def test_answer_that_breaks_off_is_unavailable_and_not_repeated() -> None:
    calls = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal calls
        calls += 1
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"id": "cmpl-1", ')
        assert request.transport is not None
        request.transport.abort()
        return response

    with pytest.raises(EngineError):
        await generate(handler)
    assert calls == 1
