"""The SGLang client against what SGLang 0.5.23 really answered, and against answers that make no sense."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from tests.engines import SGLANG_RECORDED, Handler, faulty_sglang, sse
from tickertape.clients.engines.engine import Chunk, Feature, LogprobKind, Sampling, Structure, StructureKind
from tickertape.clients.engines.errors import (
    EngineCannot,
    EngineError,
    EngineNonsense,
    EngineRefused,
    EngineUnavailable,
)
from tickertape.clients.engines.sglang.engine import SglangEngine

PROMPT = np.array([151644, 872, 198, 6023, 151645, 198, 151644, 77091, 198], np.int32)
INCREMENTAL = {"incremental_streaming_output": True}


def recorded(name: str) -> dict[str, Any]:
    case: dict[str, Any] = json.loads((SGLANG_RECORDED / f"{name}.json").read_text())
    return case


def events_of(name: str) -> list[Any]:
    """A recorded stream. One that was not streamed is what a stream ends with."""
    case = recorded(name)
    events: list[Any] = case.get("sse") or [case["response"], "[DONE]"]
    return events


def streaming(events: Sequence[Any], log: list[Any] | None = None) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        if log is not None:
            log.append((request.path, await request.json()))
        return web.Response(text=sse(events), content_type="text/event-stream")

    return handler


@asynccontextmanager
async def connected(handler: Handler, **server_info: Any) -> AsyncIterator[SglangEngine]:
    with faulty_sglang(handler, **server_info) as url:
        engine = SglangEngine(url)
        await engine.start()
        try:
            yield engine
        finally:
            await engine.close()


async def generate(handler: Handler, server_info: dict[str, Any] | None = None, **sampling: Any) -> list[Chunk]:
    async with connected(handler, **(server_info or {})) as engine:
        asked = Sampling(**{"max_tokens": 4, **sampling})
        return [chunk async for chunk in engine.generate(PROMPT, asked, request_id="r")]


async def until_error(engine: SglangEngine) -> tuple[list[Chunk], EngineError | None]:
    """What came before an error, and the error."""
    chunks: list[Chunk] = []
    try:
        async for chunk in engine.generate(PROMPT, Sampling(4), request_id="r"):
            chunks.append(chunk)
    except EngineError as error:
        return chunks, error
    return chunks, None


def joined(chunks: list[Chunk]) -> tuple[list[int], list[float]]:
    return [t for chunk in chunks for t in chunk.token_ids], [v for chunk in chunks for v in chunk.logprobs]


@pytest.mark.parametrize(
    ("name", "tokens", "finish", "stop"),
    [
        ("generate_stream", [84895, 151628, 67543], "length", None),
        ("generate_logprob", [20083, 1223, 54201], "length", None),
        ("generate_eos_no_trim", [151645], "stop", 151645),
        ("generate_eos2", [151643], "stop", 151643),
        ("generate_stop_id", [9707], "stop", 9707),
        ("generate_stop_str", [9707, 9707], "stop", "HelloHello"),
        ("stream_stop_string", [9707, 9707], "stop", "oHel"),
    ],
)
async def test_verbatim_recorded_tokens_and_logprobs_line_up(
    name: str, tokens: list[int], finish: str, stop: int | str | None
) -> None:
    chunks = await generate(streaming(events_of(name)))
    last = next(event for event in reversed(events_of(name)) if event != "[DONE]")
    assert joined(chunks) == (tokens, [each[0] for each in last["meta_info"]["output_token_logprobs"]])
    assert (chunks[-1].finish_reason, chunks[-1].stop_reason) == (finish, stop)
    assert [chunk.finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)


@pytest.mark.parametrize("name", ["stream_stop_string", "stream_stop_token", "stream_top_logprobs"])
async def test_incremental_events_are_joined_and_cumulative_ones_are_not_repeated(name: str) -> None:
    asked: dict[str, Any] = (
        {"top_logprobs": 2, "token_arrays": ("sampling_mask",)} if name == "stream_top_logprobs" else {}
    )
    for suffix, server_info in (("", {}), ("_incremental", INCREMENTAL)):
        events = events_of(name + suffix)
        chunks = await generate(streaming(events), server_info, **asked)
        last = events[-2]["meta_info"]
        token_ids, logprobs = joined(chunks)
        assert len(token_ids) == len(logprobs) == last["completion_tokens"]
        if asked:
            tops = [top for chunk in chunks for top in chunk.top_logprobs or ()]
            assert [len(top) for top in tops] == [2] * len(token_ids)
            assert chunks[-1].token_arrays is not None
            mask = chunks[-1].token_arrays["sampling_mask"]
            assert all(token in row for token, row in zip(token_ids, mask, strict=True))


async def test_stop_token_is_kept_after_min_tokens() -> None:
    chunks = await generate(streaming(events_of("stream_stop_token")))
    assert (joined(chunks)[0][-1], chunks[-1].stop_reason, len(joined(chunks)[0])) == (9707, 9707, 4)


async def test_versions_come_as_runs_and_unversioned_weights_have_none() -> None:
    spans = (await generate(streaming(events_of("pause_in_place_span"))))[-1].version_spans
    assert spans == [("v-retract", 97), ("v-in_place", 203)]
    last = (await generate(streaming(events_of("generate_stream"))))[-1]
    assert (last.version_spans, last.policy_version) == (None, None)


async def test_aborted_generation_keeps_its_tokens() -> None:
    chunks = await generate(streaming(events_of("abort_by_rid")))
    assert (len(joined(chunks)[0]), chunks[-1].finish_reason) == (145, "abort")
    assert chunks[-1].policy_version == "v7"


async def test_start_finds_out_what_the_server_is() -> None:
    with faulty_sglang(streaming([])) as url:
        engine = SglangEngine(url)
        info = await engine.start()
        await engine.close()
    assert (info.name, info.model, info.version, info.endpoint) == ("sglang", "tiny", "0.5.23", "/generate")
    assert info.max_context == recorded("server_info")["response"]["max_req_input_len"] + 4
    assert info.logprobs is LogprobKind.PROCESSED
    assert info.features == set(Feature) - {Feature.ROUTED_EXPERTS}


async def test_every_sampling_parameter_is_sent_explicitly() -> None:
    sent: list[Any] = []
    await generate(
        streaming(events_of("generate_stream"), sent), stop_token_ids=(151645,), logit_bias={9707: 1.5}, max_tokens=9999
    )
    ((path, body),) = sent
    assert (path, body["input_ids"], body["rid"]) == ("/generate", PROMPT.tolist(), "r;")
    assert body["stream"]
    assert body["return_logprob"]
    parameters = body["sampling_params"]
    allowed = set(recorded("generate_err_unknown_sp")["response"]["error"].split("`")[3::2])
    unused = {"stream_interval", "custom_params", "beam_width", "watermark", "choice"}
    assert set(parameters) == allowed - unused
    assert parameters["logit_bias"] == {"9707": 1.5}
    assert parameters["stop_token_ids"] == [151645]
    assert parameters["no_stop_trim"]
    assert parameters["max_new_tokens"] == 4094 - len(PROMPT)
    assert (parameters["top_k"], parameters["top_p"], parameters["temperature"]) == (-1, 1.0, 1.0)


@pytest.mark.parametrize(
    ("structure", "way", "told"),
    [
        (Structure(StructureKind.JSON_SCHEMA, {"type": "array"}), "json_schema", '{"type":"array"}'),
        (Structure(StructureKind.JSON_OBJECT), "json_schema", '{"type":"object"}'),
        (Structure(StructureKind.REGEX, "a+"), "regex", "a+"),
        (Structure(StructureKind.GRAMMAR, 'root ::= "a"'), "ebnf", 'root ::= "a"'),
        (Structure(StructureKind.CHOICE, ['a"', "b"]), "ebnf", r'root ::= "a\"" | "b"'),
        (Structure(StructureKind.STRUCTURAL_TAG, {"format": 1}), "structural_tag", '{"format":1}'),
    ],
    ids=lambda value: value.kind if isinstance(value, Structure) else "",
)  # fmt: skip
async def test_structure_is_said_in_one_of_four_ways(structure: Structure, way: str, told: str) -> None:
    sent: list[Any] = []
    await generate(streaming(events_of("generate_stream"), sent), structure=structure)
    ways = {name: sent[0][1]["sampling_params"][name] for name in ("json_schema", "regex", "ebnf", "structural_tag")}
    assert {name: value for name, value in ways.items() if value is not None} == {way: told}


async def test_tokens_beyond_the_vocabulary_never_reach_the_server() -> None:
    sent: list[Any] = []
    async with connected(streaming([], sent)) as engine:
        for bad in (151_680, -1):
            with pytest.raises(EngineRefused, match=f"token {bad} "):
                await anext(engine.generate(np.array([1, bad], np.int32), Sampling(4), request_id="r"))
            with pytest.raises(EngineRefused, match=f"token {bad} "):
                await engine.score([1, bad])
    assert sent == []


async def test_prompt_that_is_too_long_never_reaches_the_server() -> None:
    sent: list[Any] = []
    async with connected(streaming([], sent)) as engine:
        with pytest.raises(EngineRefused, match="at most 4089") as caught:
            await anext(engine.generate(np.zeros(4090, np.int32), Sampling(4), request_id="r"))
    assert caught.value.context_exceeded
    assert sent == []


@pytest.mark.parametrize(
    ("server_info", "sampling", "error"),
    [
        ({}, {"seed": 1}, EngineRefused),
        ({}, {"token_arrays": ("routed_experts",)}, EngineCannot),
        ({"grammar_backend": "none"}, {"structure": Structure(StructureKind.JSON_OBJECT)}, EngineCannot),
    ],
)
async def test_what_the_server_was_not_started_for_is_refused(
    server_info: dict[str, Any], sampling: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await generate(streaming(events_of("generate_stream")), server_info, **sampling)


async def test_seed_is_sent_to_a_server_that_honours_it() -> None:
    sent: list[Any] = []
    await generate(streaming(events_of("generate_stream"), sent), {"enable_deterministic_inference": True}, seed=7)
    assert sent[0][1]["sampling_params"]["sampling_seed"] == 7


@pytest.mark.parametrize(
    ("name", "exceeded"),
    [
        ("generate_err_too_long", True),
        ("generate_err_total_too_long", True),
        ("generate_err_unknown_sp", False),
        ("generate_err_bad_temp", False),
        ("generate_err_empty", False),
    ],
)
async def test_recorded_refusals_are_told_apart(name: str, exceeded: bool) -> None:
    case = recorded(name)
    sent: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        sent.append(request.path)
        return web.json_response(case["response"], status=case["status"])

    with pytest.raises(EngineRefused, match="answered 400") as caught:
        await generate(handler)
    error = case["response"]["error"]
    assert (error if isinstance(error, str) else error["message"])[:60] in str(caught.value)
    assert caught.value.context_exceeded is exceeded
    assert sent == ["/generate"], "there is nothing to abort"


async def test_refusal_in_the_middle_of_a_200_is_one() -> None:
    with pytest.raises(EngineRefused, match="longer than") as caught:
        await generate(streaming(events_of("stream_too_long")))
    assert caught.value.context_exceeded


async def test_token_that_comes_with_a_refusal_is_made_up_and_left_out() -> None:
    (event, _) = events_of("stream_bad_regex")
    assert (len(event["output_ids"]), event["meta_info"]["output_token_logprobs"]) == (1, [])
    async with connected(streaming(events_of("stream_bad_regex"))) as engine:
        chunks, error = await until_error(engine)
    assert chunks == []
    assert isinstance(error, EngineRefused)
    assert "parenthesis" in str(error)


async def test_tokens_before_an_error_are_handed_out() -> None:
    events = [*events_of("generate_stream")[:2], {"error": {"message": "out of memory", "code": 500}}, "[DONE]"]
    async with connected(streaming(events)) as engine:
        chunks, error = await until_error(engine)
    assert joined(chunks)[0] == [84895, 151628]
    assert isinstance(error, EngineUnavailable)
    assert "out of memory" in str(error)


def changed(change: Any) -> list[Any]:
    events = deepcopy(events_of("generate_logprob"))
    change(events[0], events[0]["meta_info"])
    return events


NONSENSE: dict[str, list[Any]] = {
    "no JSON": ["<html>", "[DONE]"],
    "no object": [[], "[DONE]"],
    "no meta_info": [{"output_ids": []}, "[DONE]"],
    "no logprobs": changed(lambda _, meta: meta.pop("output_token_logprobs")),
    "fewer logprobs than tokens": changed(lambda _, meta: meta["output_token_logprobs"].pop()),
    "more logprobs than tokens": changed(lambda event, _: event["output_ids"].pop()),
    "logprobs of other tokens": changed(lambda _, meta: meta["output_token_logprobs"].reverse()),
    "a logprob that is no number": changed(lambda _, meta: meta["output_token_logprobs"].__setitem__(0, ["x", 20083])),
    "text for ids": changed(lambda event, _: event.update(output_ids=["a", "b", "c"])),
    "booleans for ids": changed(lambda event, _: event.update(output_ids=[True] * 3)),
    "another number of tokens": changed(lambda _, meta: meta.update(completion_tokens=4)),
    "an unknown finish": changed(lambda _, meta: meta.update(finish_reason={"type": "tired"})),
    "a finish without a type": changed(lambda _, meta: meta.update(finish_reason={})),
    "versions with a gap": changed(lambda _, meta: meta["weight_versions"][0].update(start=1)),
    "versions of fewer tokens": changed(lambda _, meta: meta["weight_versions"][0].update(end=2)),
}


@pytest.mark.parametrize("events", NONSENSE.values(), ids=NONSENSE)
async def test_nonsense_is_an_error_and_never_padded(events: list[Any]) -> None:
    with pytest.raises(EngineNonsense):
        await generate(streaming(events))


async def test_missing_logprob_is_nan_and_never_dropped() -> None:
    events = changed(lambda _, meta: meta["output_token_logprobs"].__setitem__(1, [-3.4028234663852886e38, 1223, None]))
    chunks = await generate(streaming(events))
    assert [math.isnan(value) for value in joined(chunks)[1]] == [False, True, False]


@pytest.mark.parametrize("count", [0, 1, 2])
async def test_end_without_a_finish_is_unavailable(count: int) -> None:
    for tail in ([], ["[DONE]"]):
        with pytest.raises(EngineUnavailable, match="without finishing"):
            await generate(streaming([*events_of("generate_stream")[:count], *tail]))


class Endless:
    """A fake server that sends the first event of a recorded stream and then nothing."""

    def __init__(self) -> None:
        self.aborted: list[str] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/abort_request":
            self.aborted.append((await request.json())["rid"])
            return web.Response()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(sse(events_of("generate_stream")[:1]).encode())
        await asyncio.sleep(30)
        return response


async def test_closing_aborts_by_an_id_that_begins_no_other() -> None:
    server = Endless()
    async with connected(server.handle) as engine:
        chunks = engine.generate(PROMPT, Sampling(4), request_id="r")
        assert (await anext(chunks)).token_ids == [84895]
        await chunks.aclose()
    assert server.aborted == ["r;"]


async def test_cancelling_aborts_even_when_it_is_repeated() -> None:
    server = Endless()
    async with connected(server.handle) as engine:

        async def read() -> None:
            async for _ in engine.generate(PROMPT, Sampling(4), request_id="r"):
                seen.set()

        seen = asyncio.Event()
        task = asyncio.create_task(read())
        await seen.wait()
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert server.aborted == ["r;"], "closing the engine waited for it"


async def test_finished_generation_is_not_aborted() -> None:
    sent: list[Any] = []
    async with connected(streaming(events_of("generate_stream"), sent)) as engine:
        chunks = engine.generate(PROMPT, Sampling(4), request_id="r")
        async for chunk in chunks:
            if chunk.finish_reason is not None:
                break
        await chunks.aclose()
    assert [path for path, _ in sent] == ["/generate"]


async def test_abort_that_fails_is_logged_and_hides_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: web.Request) -> web.Response:
        if request.path == "/abort_request":
            return web.Response(status=500, text="no")
        return web.Response(text=sse([]), content_type="text/event-stream")

    with pytest.raises(EngineUnavailable, match="without finishing"):
        await generate(handler)
    assert "was not told to abort r;" in caplog.text


async def test_nobody_listening_is_unavailable() -> None:
    with faulty_sglang(streaming([])) as url:
        pass
    engine = SglangEngine(url)
    with pytest.raises(EngineUnavailable, match="cannot be reached"):
        await engine.start()
    await engine.close()
