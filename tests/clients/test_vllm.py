"""Sampling with vLLM: what vLLM 0.32 really answered on both of its endpoints, and answers that make no sense."""

import asyncio
import base64
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from tests.engines import Handler, faulty_vllm, streaming, vllm_event
from tickertape.clients.engines.engine import Chunk, Sampling, Structure, StructureKind
from tickertape.clients.engines.errors import (
    EngineCannot,
    EngineError,
    EngineNonsense,
    EngineRefused,
    EngineUnavailable,
)
from tickertape.clients.engines.vllm.engine import VllmEngine

RECORDED = Path(__file__).parent.parent / "data" / "vllm-0.32"
PROMPT = np.array([151644, 872, 198], np.int32)

both = pytest.mark.parametrize("lean", [True, False], ids=["generate", "completions"])


def recorded(name: str) -> dict[str, Any]:
    case: dict[str, Any] = json.loads((RECORDED / f"{name}.json").read_text())
    return case


def streamed(name: str, lean: bool) -> dict[str, Any]:
    """A recorded streamed case, by the same name for both endpoints."""
    return recorded(f"{'generate' if lean else 'completions'}_streamed_{name}")


def replayed(name: str) -> Handler:
    """A recorded answer that came whole, as the one event of a stream: their choices are spelled alike."""
    return streaming([recorded(name)["response"], "[DONE]"])


def answering(body: Any, status: int = 200) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(text=text, status=status, content_type="application/json")

    return handler


async def chunks_of(
    handler: Handler, *, lean: bool = False, into: list[Chunk] | None = None, **asked: Any
) -> list[Chunk]:
    """The chunks of one generation; ``into`` keeps those that come before an error."""
    chunks: list[Chunk] = [] if into is None else into
    with faulty_vllm(handler, lean=lean) as url:
        engine = VllmEngine(url)
        await engine.start()
        try:
            sampling = Sampling(**{"max_tokens": 4, **asked})
            async for chunk in engine.generate(PROMPT, sampling, request_id="r"):
                chunks.append(chunk)
        finally:
            await engine.close()
    return chunks


async def generate(handler: Handler, *, lean: bool = False, **asked: Any) -> Chunk:
    """One generation, its chunks joined."""
    *before, last = await chunks_of(handler, lean=lean, **asked)
    assert all(chunk.finish_reason is None and chunk.token_ids for chunk in before)
    chunks = [*before, last]
    return Chunk(
        token_ids=[token for chunk in chunks for token in chunk.token_ids],
        logprobs=[logprob for chunk in chunks for logprob in chunk.logprobs],
        top_logprobs=[top for chunk in chunks for top in chunk.top_logprobs or ()],
        finish_reason=last.finish_reason,
        stop_reason=last.stop_reason,
        version_spans=last.version_spans,
        cached_tokens=last.cached_tokens,
        token_arrays=last.token_arrays,
    )


def told_tokens(events: list[Any]) -> tuple[list[int], list[float]]:
    """What a recorded stream says was sampled, read apart from the client."""
    choices = [choice for event in events if isinstance(event, dict) for choice in event["choices"]]
    token_ids = [token for choice in choices for token in choice["token_ids"]]
    logprobs: list[float] = []
    for choice in choices:
        told = choice["logprobs"] or {"content": []}
        logprobs += told.get("token_logprobs") or [entry["logprob"] for entry in told.get("content") or ()]
    return token_ids, logprobs


STREAMED = [
    "sampled",
    "eos",
    "stop_token",
    "stop_string",
    "stop_inside_token",
    "top5",
    "cached",
    "structure",
    "aborted",
]


@both
@pytest.mark.parametrize("name", STREAMED)
async def test_verbatim_recorded_streams_keep_every_token_and_its_logprob(name: str, lean: bool) -> None:
    events = streamed(name, lean)["sse"]
    chunk = await generate(streaming(events), lean=lean)
    token_ids, logprobs = told_tokens(events)
    assert len(token_ids) == len(logprobs) > 0
    assert (chunk.token_ids, chunk.logprobs) == (token_ids, logprobs)
    last = next(event["choices"][0] for event in reversed(events) if event != "[DONE]" and event["choices"])
    assert (chunk.finish_reason, chunk.stop_reason) == (last["finish_reason"], last["stop_reason"])


@pytest.mark.parametrize(
    "name",
    ["completions_full_logprobs0", "eos_hit_default", "eos_secondary_151643", "stop_string_hit", "logprobs_as_top_5"],
)
async def test_verbatim_recorded_tokens_and_logprobs_line_up(name: str) -> None:
    chunk = await generate(replayed(name))
    (choice,) = recorded(name)["response"]["choices"]
    assert chunk.token_ids == choice["token_ids"]
    assert chunk.logprobs == choice["logprobs"]["token_logprobs"]
    assert (chunk.finish_reason, chunk.stop_reason) == (choice["finish_reason"], choice["stop_reason"])


@both
async def test_both_endpoints_say_the_same(lean: bool) -> None:
    """The recordings are of one server, one seed and one prompt."""
    here = await generate(streaming(streamed("top5", lean)["sse"]), lean=lean, top_logprobs=5)
    there = await generate(streaming(streamed("top5", not lean)["sse"]), lean=not lean, top_logprobs=5)
    assert (here.token_ids, here.logprobs, here.top_logprobs) == (there.token_ids, there.logprobs, there.top_logprobs)


@both
async def test_stop_token_is_kept_and_named_unless_it_is_the_tokenizers_own(lean: bool) -> None:
    eos = await generate(streaming(streamed("eos", lean)["sse"]), lean=lean)
    assert (eos.token_ids, eos.finish_reason, eos.stop_reason) == ([151645], "stop", None)
    other = await generate(streaming(streamed("stop_token", lean)["sse"]), lean=lean)
    assert (other.token_ids, other.finish_reason, other.stop_reason) == ([9707], "stop", 9707)


async def test_secondary_stop_token_is_named() -> None:
    assert (await generate(replayed("eos_secondary_151643"))).stop_reason == 151643
    assert (await generate(replayed("generate_eos2"), lean=True)).stop_reason == 151643


@both
async def test_stop_string_that_ends_inside_a_token_keeps_the_whole_token(lean: bool) -> None:
    chunk = await generate(streaming(streamed("stop_inside_token", lean)["sse"]), lean=lean)
    assert chunk.token_ids == [9707, 9707]
    assert chunk.stop_reason == "oHel"


@both
async def test_top_logprobs_come_by_token_id(lean: bool) -> None:
    chunk = await generate(streaming(streamed("top5", lean)["sse"]), lean=lean, top_logprobs=5)
    assert chunk.top_logprobs is not None
    assert [len(top) for top in chunk.top_logprobs] == [5, 5, 5]
    assert all(list(top.values()) == sorted(top.values(), reverse=True) for top in chunk.top_logprobs)
    assert {top[198] for top in chunk.top_logprobs} == set(chunk.logprobs), "the likeliest, which was sampled"


async def test_top_logprobs_of_a_token_that_is_not_likely_are_of_others() -> None:
    chunk = await generate(replayed("temp0_logprob_with_bias_raw"), top_logprobs=1)
    assert chunk.token_ids == [9707]
    assert chunk.top_logprobs is not None
    assert list(chunk.top_logprobs[0]) == [198]


@both
async def test_cached_tokens_are_told(lean: bool) -> None:
    assert (await generate(streaming(streamed("cached", lean)["sse"]), lean=lean)).cached_tokens == 128


async def test_versions_are_told_where_the_weights_changed() -> None:
    events = streamed("weights_swapped", True)["sse"]
    chunk = await generate(streaming(events), lean=True)
    assert chunk.version_spans == [("step-1", 4), ("step-2", 4)]
    assert len(chunk.token_ids) == 8


async def test_version_of_weights_that_never_got_one_is_unknown() -> None:
    sampled = streamed("sampled", True)["sse"]
    assert any(e["choices"][0]["weight_versions"] for e in sampled if e != "[DONE]" and e["choices"])
    assert (await generate(streaming(sampled), lean=True)).version_spans is None
    mixed = vllm_event([5, 6, 7], [-1.0] * 3, "length", lean=True)
    spans = [{"version": "default", "start": 0, "end": 1}, {"version": "step-1", "start": 1, "end": 3}]
    mixed["choices"][0]["weight_versions"] = spans
    assert (await generate(streaming([mixed, "[DONE]"]), lean=True)).version_spans == [(None, 1), ("step-1", 2)]


@both
async def test_what_comes_together_is_one_chunk(lean: bool) -> None:
    (chunk,) = await chunks_of(streaming(streamed("sampled", lean)["sse"]), lean=lean)
    assert (len(chunk.token_ids), chunk.finish_reason) == (4, "length")


@both
async def test_tokens_are_handed_out_as_they_come(lean: bool) -> None:
    events = streamed("sampled", lean)["sse"]
    go_on = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(f"data: {json.dumps(events[0])}\n\n".encode())
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(go_on.wait(), loop))
        for event in events[1:]:
            await response.write(f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n".encode())
        return response

    with faulty_vllm(handler, lean=lean) as url:
        engine = VllmEngine(url)
        await engine.start()
        chunks = engine.generate(PROMPT, Sampling(4), request_id="r")
        first = await anext(chunks)
        assert first.token_ids == told_tokens(events)[0][:1]
        go_on.set()
        rest = [chunk async for chunk in chunks]
        assert [*first.token_ids, *(t for chunk in rest for t in chunk.token_ids)] == told_tokens(events)[0]
        await engine.close()


@both
async def test_every_sampling_parameter_is_sent_explicitly(lean: bool) -> None:
    sent: dict[str, Any] = {}
    headers: dict[str, str] = {}

    async def handler(request: web.Request) -> web.StreamResponse:
        sent.update(await request.json())
        headers.update({name.lower(): value for name, value in request.headers.items()})
        return await streaming(streamed("sampled", lean)["sse"])(request)

    await generate(handler, lean=lean, seed=7, stop_token_ids=(151645,), logit_bias={9707: 1.5}, temperature=0.5)
    assert sent["model"] == "faulty"
    assert (sent["stream"], sent["stream_options"]) == (True, {"include_usage": True})
    assert sent["token_ids" if lean else "prompt"] == PROMPT.tolist()
    parameters = sent["sampling_params"] if lean else sent
    asked = recorded("completions_full_logprobs0")["request"]["body"]
    of_completions = {"model", "prompt", "return_token_ids", "return_tokens_as_token_ids"}
    assert {name: parameters[name] for name in asked if name not in of_completions} == {
        name: value for name, value in {**asked, "temperature": 0.5}.items() if name not in of_completions
    }
    assert parameters["logit_bias"] == {"9707": 1.5}
    defaults = {"min_p": 0.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "repetition_penalty": 1.0, "n": 1}
    assert {name: parameters[name] for name in defaults} == defaults
    assert {"stop", "ignore_eos", "min_tokens", "structured_outputs"} <= set(parameters)
    assert lean or (sent["return_token_ids"], sent["return_tokens_as_token_ids"], sent["echo"]) == (True, True, False)
    assert headers["x-request-id"] == "r"


@both
@pytest.mark.parametrize(
    ("structure", "sent_as"),
    [
        (Structure(StructureKind.JSON_SCHEMA, {"type": "object"}), {"json": {"type": "object"}}),
        (Structure(StructureKind.JSON_OBJECT), {"json_object": True}),
        (Structure(StructureKind.REGEX, "a+"), {"regex": "a+"}),
        (Structure(StructureKind.GRAMMAR, 'root ::= "a"'), {"grammar": 'root ::= "a"'}),
        (Structure(StructureKind.CHOICE, ["a", "b"]), {"choice": ["a", "b"]}),
        (
            Structure(StructureKind.STRUCTURAL_TAG, {"type": "structural_tag"}),
            {"structural_tag": '{"type":"structural_tag"}'},
        ),
    ],
    ids=lambda value: value.kind if isinstance(value, Structure) else "",
)
async def test_structure_adapter_and_alternatives_are_asked_for(
    lean: bool, structure: Structure, sent_as: dict[str, Any]
) -> None:
    sent: dict[str, Any] = {}

    async def handler(request: web.Request) -> web.StreamResponse:
        sent.update(await request.json())
        return await streaming(streamed("top5", lean)["sse"])(request)

    await generate(handler, lean=lean, structure=structure, adapter="ada", top_logprobs=5)
    parameters = sent["sampling_params"] if lean else sent
    assert parameters["structured_outputs"] == sent_as
    assert sent["model"] == "ada"
    assert parameters["logprobs"] == (6 if lean else 5), "the lean endpoint counts the sampled token as one of them"


async def test_text_is_made_only_to_find_stop_strings() -> None:
    sent: list[dict[str, Any]] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        sent.append((await request.json())["sampling_params"])
        return await streaming(streamed("sampled", True)["sse"])(request)

    await generate(handler, lean=True)
    await generate(handler, lean=True, stop=("x",))
    assert [parameters["detokenize"] for parameters in sent] == [False, True]


@both
@pytest.mark.parametrize("spelled", ["null", "-9999.0"])
async def test_missing_logprob_is_nan_and_never_dropped(lean: bool, spelled: str) -> None:
    event = json.dumps(vllm_event([5, 6, 7], [-1.0, 0.125, -3.0], "length", lean=lean))
    chunk = await generate(streaming([event.replace("0.125", spelled), "[DONE]"]), lean=lean)
    assert len(chunk.logprobs) == len(chunk.token_ids) == 3
    assert math.isnan(chunk.logprobs[1])


@both
async def test_alternative_that_cannot_be_sampled_is_left_out(lean: bool) -> None:
    """Guided decoding leaves fewer tokens than were asked for; the others come as -9999.0."""
    event = vllm_event([5], [-1.0], "length", lean=lean)
    logprobs = event["choices"][0]["logprobs"]
    if lean:
        logprobs["content"][0]["top_logprobs"].append({"token_id": 6, "logprob": -9999.0})
    else:
        logprobs["top_logprobs"][0]["token_id:6"] = -9999.0
    assert (await generate(streaming([event, "[DONE]"]), lean=lean, top_logprobs=2)).top_logprobs == [{5: -1.0}]


@pytest.mark.parametrize(
    ("name", "exceeded", "param"),
    [
        ("generate_streamed_err_oov", False, None),
        ("completions_streamed_err_oov", False, None),
        ("generate_streamed_err_too_long", True, None),
        ("generate_streamed_err_grammar", False, None),
        ("completions_streamed_err_grammar", False, None),
        ("generate_streamed_err_top_logprobs", False, "logprobs"),
        ("completions_streamed_err_top_logprobs", False, "logprobs"),
    ],
)
async def test_errors_inside_a_stream_that_began_with_200_are_told_apart(
    name: str, exceeded: bool, param: str | None
) -> None:
    case = recorded(name)
    assert case["status"] == 200
    with pytest.raises(EngineRefused, match="answered 400") as caught:
        await generate(streaming(case["sse"]), lean=name.startswith("generate"))
    assert (caught.value.context_exceeded, caught.value.param) == (exceeded, param)
    assert case["sse"][0]["error"]["message"][:40] in str(caught.value)


@pytest.mark.parametrize(
    ("name", "exceeded", "param"),
    [
        ("err_prompt_4097", True, "input_tokens"),
        ("err_oov_token", False, None),
        ("err_bad_temperature", False, "temperature"),
        ("err_unknown_model", False, "model"),
        ("generate_err_model", False, "model"),
    ],
)
async def test_recorded_refusals_are_told_apart(name: str, exceeded: bool, param: str | None) -> None:
    case = recorded(name)
    with pytest.raises(EngineRefused, match="answered 4") as caught:
        await generate(answering(case["response"], case["status"]))
    assert (caught.value.context_exceeded, caught.value.param) == (exceeded, param)
    assert case["response"]["error"]["message"][:40] in str(caught.value)


@both
async def test_error_in_mid_stream_comes_after_the_tokens_before_it(lean: bool) -> None:
    error = {"error": {"message": "Internal server error", "type": "InternalServerError", "param": None, "code": 500}}
    chunks: list[Chunk] = []
    events = [vllm_event([5, 6], [-1.0, -2.0], lean=lean), error, "[DONE]"]
    with pytest.raises(EngineUnavailable, match="answered 500: Internal server error"):
        await chunks_of(streaming(events), lean=lean, into=chunks)
    assert [(chunk.token_ids, chunk.finish_reason) for chunk in chunks] == [([5, 6], None)]


@both
@pytest.mark.parametrize("done", [True, False])
async def test_stream_that_ends_without_a_finish_is_unavailable(lean: bool, done: bool) -> None:
    chunks: list[Chunk] = []
    events = [vllm_event([5, 6], [-1.0, -2.0], lean=lean), *(["[DONE]"] if done else [])]
    with pytest.raises(EngineUnavailable, match="after 2 tokens without finishing"):
        await chunks_of(streaming(events), lean=lean, into=chunks)
    assert [chunk.token_ids for chunk in chunks] == [[5, 6]]


@both
async def test_stream_without_done_is_unavailable(lean: bool) -> None:
    with pytest.raises(EngineUnavailable, match="without finishing"):
        await generate(streaming([vllm_event([5], [-1.0], "length", lean=lean)]), lean=lean)


def nonsense(lean: bool) -> list[tuple[str, Any]]:
    def changed(**choice: Any) -> Any:
        event = vllm_event([5, 6, 7], [-1.0, -2.0, -3.0], "length", lean=lean)
        event["choices"][0].update(choice)
        return event

    cases = [
        ("no JSON", "<html>gateway</html>"),
        ("no object", []),
        ("no choices", {}),
        ("two choices", {"choices": [changed()["choices"][0]] * 2}),
        ("no logprobs", changed(logprobs=None)),
        ("no ids", changed(token_ids=None)),
        ("text for ids", changed(token_ids=["a", "b", "c"])),
        ("booleans for ids", changed(token_ids=[True, True, True])),
        ("fewer logprobs than tokens", vllm_event([5, 6, 7], [-1.0, -2.0], "length", lean=lean)),
        ("text for a logprob", vllm_event([5], ["high"], "length", lean=lean)),  # type: ignore[list-item]
        ("an unknown finish", changed(finish_reason="tired")),
        ("an error without a body", {"error": "bad"}),
    ]
    if lean:
        span = {"version": "v", "start": 0, "end": 2}
        cases += [
            ("versions of fewer tokens", changed(weight_versions=[span])),
            ("versions with a gap", changed(weight_versions=[span, {**span, "start": 3, "end": 3}])),
            ("logprobs of other tokens", changed(token_ids=[5, 6, 8])),
        ]
    return cases


@pytest.mark.parametrize(
    ("lean", "event"),
    [
        pytest.param(lean, event, id=f"{'generate' if lean else 'completions'}: {name}")
        for lean in (True, False)
        for name, event in nonsense(lean)
    ],
)
async def test_nonsense_is_an_error_and_never_padded(lean: bool, event: Any) -> None:
    chunks: list[Chunk] = []
    with pytest.raises(EngineNonsense):
        await chunks_of(streaming([event, "[DONE]"]), lean=lean, into=chunks)
    assert not [chunk for chunk in chunks if chunk.token_ids]


@both
async def test_tokens_after_the_finish_are_nonsense(lean: bool) -> None:
    event = vllm_event([5], [-1.0], "length", lean=lean)
    with pytest.raises(EngineNonsense, match="after its finish_reason"):
        await generate(streaming([event, event, "[DONE]"]), lean=lean)


async def test_answer_without_events_is_nonsense() -> None:
    with pytest.raises(EngineNonsense, match="without a single event"):
        await generate(answering("<html>gateway</html>"))


@pytest.mark.parametrize("status", [500, 502, 503, 429])
async def test_server_errors_are_the_engines_fault(status: int) -> None:
    with pytest.raises(EngineUnavailable, match=str(status)):
        await generate(answering({"error": {"message": "no"}}, status))


async def test_connection_that_went_stale_is_tried_once_more() -> None:
    calls = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal calls
        calls += 1
        if calls == 1 and request.transport is not None:
            request.transport.abort()
        return await streaming(streamed("eos", False)["sse"])(request)

    assert (await generate(handler)).token_ids == [151645]
    assert calls == 2


@both
async def test_stream_that_breaks_off_is_unavailable_and_not_repeated(lean: bool) -> None:
    calls = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal calls
        calls += 1
        response = web.StreamResponse()
        await response.prepare(request)
        event = json.dumps(vllm_event([5, 6], [-1.0, -2.0], lean=lean))
        await response.write(f"data: {event}\n\ndata: {event[:20]}".encode())
        await asyncio.sleep(0.05)
        assert request.transport is not None
        request.transport.abort()
        return response

    chunks: list[Chunk] = []
    with pytest.raises(EngineUnavailable, match="broke off"):
        await chunks_of(handler, lean=lean, into=chunks)
    assert [chunk.token_ids for chunk in chunks] == [[5, 6]]
    assert calls == 1


@both
async def test_closing_a_generation_closes_its_connection(lean: bool) -> None:
    gone = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(f"data: {json.dumps(vllm_event([5], [-1.0], lean=lean))}\n\n".encode())
                await asyncio.sleep(0.01)
        except (ConnectionError, asyncio.CancelledError):
            loop.call_soon_threadsafe(gone.set)
            raise

    with faulty_vllm(handler, lean=lean) as url:
        engine = VllmEngine(url)
        await engine.start()
        chunks = engine.generate(PROMPT, Sampling(1000), request_id="r")
        await anext(chunks)
        await chunks.aclose()
        await asyncio.wait_for(gone.wait(), 2)
        await engine.close()


def npy(array: np.ndarray[Any, Any]) -> str:
    """As vLLM's ``numpy2base64`` writes it (``vllm/utils/serial_utils.py``)."""
    with io.BytesIO() as buffer:
        np.save(buffer, array, allow_pickle=False)
        return base64.b64encode(buffer.getvalue()).decode()


def moe_events(experts: str) -> list[Any]:
    """Shapes read in vLLM 0.32's ``serve_tokens_stream_generator``: the CPU build, which all else here was recorded
    from, reports neither."""
    first = vllm_event([5], [-1.0], lean=True)
    last = vllm_event([6, 7], [-2.0, -3.0], "length", lean=True)
    first["choices"][0]["sampling_mask"] = [[5, 9]]
    spans = [{"version": "default", "start": 0, "end": 3}]
    last["choices"][0].update(sampling_mask=[[6], [1, 7, 8]], routed_experts=experts, weight_versions=spans)
    return [first, last, "[DONE]"]


async def test_token_arrays_that_the_server_does_not_report_are_refused_by_name() -> None:
    with pytest.raises(EngineCannot, match="does not report routed_experts"):
        await generate(streaming(streamed("sampled", True)["sse"]), lean=True, token_arrays=("routed_experts",))


async def test_structure_is_refused_where_the_server_does_not_hold_to_it() -> None:
    with faulty_vllm(answering({}), structure=False) as url:
        engine = VllmEngine(url)
        await engine.start()
        with pytest.raises(EngineCannot, match="does not decode to a structure"):
            await anext(
                engine.generate(PROMPT, Sampling(1, structure=Structure(StructureKind.REGEX, "a")), request_id="r")
            )
        await engine.close()


async def test_token_arrays_are_read_and_joined() -> None:
    experts = np.arange(5 * 2 * 2, dtype=np.int16).reshape(5, 2, 2)
    handler = streaming(moe_events(npy(experts)))
    with faulty_vllm(handler, lean=True, arrays=npy(experts[:2])) as url:
        engine = VllmEngine(url)
        info = await engine.start()
        assert {"routed_experts", "sampling_mask"} <= info.features
        sampling = Sampling(3, token_arrays=("routed_experts", "sampling_mask"))
        *_, last = [chunk async for chunk in engine.generate(PROMPT, sampling, request_id="r")]
        assert last.token_arrays is not None
        np.testing.assert_array_equal(last.token_arrays["routed_experts"], experts)
        assert last.token_arrays["routed_experts"].dtype == np.int16
        assert last.token_arrays["sampling_mask"].tolist() == [[5, 9, -1], [6, -1, -1], [1, 7, 8]]
        *_, last = [chunk async for chunk in engine.generate(PROMPT, Sampling(3), request_id="r")]
        assert last.token_arrays is None, "not asked for"
        await engine.close()


async def test_routed_experts_that_are_no_array_are_nonsense() -> None:
    with faulty_vllm(
        streaming(moe_events("bm90IGFuIGFycmF5")), lean=True, arrays=npy(np.zeros((2, 1, 1), np.int16))
    ) as url:
        engine = VllmEngine(url)
        await engine.start()
        with pytest.raises(EngineError, match="no array"):
            _ = [
                c async for c in engine.generate(PROMPT, Sampling(3, token_arrays=("routed_experts",)), request_id="r")
            ]
        await engine.close()
