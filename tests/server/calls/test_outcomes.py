"""Every call leaves a turn with an outcome, whatever goes wrong; what was sampled is kept."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from aiohttp import web

from tests.engines import Handler, ScriptedEngine, faulty_vllm, streaming, vllm_event
from tests.server.conftest import Proxy, StartProxy, qwen3_tokenizer, scripted, until
from tests.server.invariants import check_once, check_prefix
from tickertape.clients import Turn
from tickertape.clients.engines.errors import EngineNonsense, EngineRefused, EngineUnavailable
from tickertape.clients.engines.vllm.engine import VllmEngine

HELLO = [{"role": "user", "content": "Hello"}]
END = 151645
CALL = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call><|im_end|>'


def encode(text: str) -> list[int]:
    return qwen3_tokenizer().encode_like_model(text)


def only_turn(proxy: Proxy, session: str) -> Turn:
    (turn,) = proxy.tape.turns(session)
    return turn


@pytest.mark.parametrize(
    ("sampled", "fields", "outcome", "finish_reason"),
    [
        ("Hi<|im_end|>", {}, "stop", "stop"),
        ("Hi there", {"max_tokens": 1}, "length", "length"),
        (CALL, {}, "tool_calls", "tool_calls"),
        ('<tool_call>\n{"name": "f"}<|im_end|>', {}, "tool_calls", "tool_calls"),
        ("<tool_call>\n{oops}\n</tool_call><|im_end|>", {}, "parse_failed", "stop"),
        (
            '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call><|im_end|>',
            {"tool_choice": "none"},
            "stop",
            "stop",
        ),
        ("Hi<|endoftext|>", {}, "stop", "stop"),
    ],
)
def test_ordinary_outcomes(
    start_proxy: StartProxy, session: str, sampled: str, fields: dict[str, Any], outcome: str, finish_reason: str
) -> None:
    proxy = start_proxy(ScriptedEngine(lambda _ids, _sampling: encode(sampled)))
    answer = proxy.chat(session, HELLO, tools=[{"type": "function", "function": {"name": "f"}}], **fields).json()
    assert answer["choices"][0]["finish_reason"] == finish_reason
    assert only_turn(proxy, session).outcome == outcome
    said = answer["choices"][0]["message"]
    assert ("tool_calls" in said) == (outcome == "tool_calls")
    if outcome == "parse_failed":
        assert "{oops}" in said["content"], "nothing that was said is lost"


@pytest.mark.parametrize(
    ("error", "status", "code", "outcome"),
    [
        (EngineUnavailable("gone"), 502, "engine_unavailable", "engine_error"),
        (EngineNonsense("what?"), 502, "engine_bad_response", "engine_error"),
        (EngineRefused("no", param="seed"), 400, "engine_refused", "rejected"),
        (EngineRefused("long", context_exceeded=True), 400, "context_length_exceeded", "rejected"),
    ],
)
def test_engine_that_fails_at_once(
    start_proxy: StartProxy, session: str, error: Exception, status: int, code: str, outcome: str
) -> None:
    proxy = start_proxy(ScriptedEngine(lambda _ids, _sampling: [error]))  # type: ignore[list-item]
    response = proxy.chat(session, HELLO)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    turn = only_turn(proxy, session)
    assert (turn.outcome, turn.error) == (outcome, str(error))


def test_bug_in_an_engine_client_leaves_a_turn_too(start_proxy: StartProxy, session: str) -> None:
    def script(_ids: list[int], _sampling: object) -> list[int]:
        raise ZeroDivisionError("a bug")

    proxy = start_proxy(ScriptedEngine(script))
    response = proxy.chat(session, HELLO)
    assert response.status_code == 500
    assert "a bug" not in response.text, "details are for the log"
    turn = only_turn(proxy, session)
    assert (turn.outcome, turn.error) == ("engine_error", "internal error: ZeroDivisionError: a bug")


def test_engine_that_fails_midway_keeps_what_was_sampled_and_it_is_trained_once(
    start_proxy: StartProxy, session: str
) -> None:
    scripts = [[9707, END], [100, 200, EngineUnavailable("gone")], [300, END]]
    proxy = start_proxy(ScriptedEngine(lambda _ids, _sampling: scripts.pop(0)))
    first = proxy.chat(session, HELLO).json()["choices"][0]["message"]
    messages = [*HELLO, first, {"role": "user", "content": "More"}]
    assert proxy.chat(session, messages).status_code == 502
    assert proxy.chat(session, messages).status_code == 200
    turns = proxy.tape.turns(session)
    assert [turn.outcome for turn in turns] == ["stop", "engine_error", "stop"]
    assert turns[1].completion.tolist() == [100, 200]
    assert turns[2].parent_id == turns[0].id, "the failed turn is no prefix of anything"
    check_prefix(turns)
    check_once(proxy.tape, session)


@pytest.fixture
def proxy_over(tmp_path: Path) -> Iterator[Callable[[Handler], Proxy]]:
    """A proxy over an HTTP server in vLLM's place."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def start(handler: Handler) -> Proxy:
            url = stack.enter_context(faulty_vllm(handler))
            return stack.enter_context(scripted(VllmEngine(url), tmp_path))

        yield start


def test_engine_that_answers_nonsense(proxy_over: Callable[[Handler], Proxy], session: str) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(text="<html>")

    proxy = proxy_over(handler)
    response = proxy.chat(session, HELLO)
    assert (response.status_code, response.json()["error"]["code"]) == (502, "engine_bad_response")
    assert only_turn(proxy, session).outcome == "engine_error"


def test_engine_that_went_down(tmp_path: Path, session: str) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response()

    with faulty_vllm(handler) as url:
        running = scripted(VllmEngine(url), tmp_path, engine_patience=0.2)
        proxy = running.__enter__()
    try:
        response = proxy.chat(session, HELLO)
        assert (response.status_code, response.json()["error"]["code"]) == (502, "engine_unavailable")
        assert only_turn(proxy, session).outcome == "engine_error"
        ready = proxy.http.get("/ready")
        assert (ready.status_code, ready.json()["status"]) == (503, "not_ready")
        assert proxy.http.get("/health").status_code == 200
    finally:
        running.__exit__(None, None, None)


def test_generation_that_was_aborted_at_the_engine_goes_on_from_its_tokens(
    proxy_over: Callable[[Handler], Proxy], session: str
) -> None:
    prompts: list[list[int]] = []
    answers = [vllm_event([100, 200], [-1.0, -2.0], "abort"), vllm_event([300, END], [-3.0, -4.0], "stop")]

    async def handler(request: web.Request) -> web.StreamResponse:
        prompts.append((await request.json())["prompt"])
        return await streaming([answers[len(prompts) - 1], "[DONE]"])(request)

    proxy = proxy_over(handler)
    assert proxy.chat(session, HELLO).json()["choices"][0]["finish_reason"] == "stop"
    turn = only_turn(proxy, session)
    assert (turn.outcome, turn.completion.tolist()) == ("stop", [100, 200, 300, END])
    assert prompts[1] == [*prompts[0], 100, 200]


def test_engine_that_aborts_again_and_again_leaves_what_it_sampled(
    proxy_over: Callable[[Handler], Proxy], session: str
) -> None:
    answers = iter([vllm_event([100, 200], [-1.0, -2.0], "abort"), *[vllm_event([], [], "abort")] * 3])

    async def handler(request: web.Request) -> web.StreamResponse:
        return await streaming([next(answers), "[DONE]"])(request)

    proxy = proxy_over(handler)
    assert proxy.chat(session, HELLO).json()["error"]["code"] == "aborted"
    turn = only_turn(proxy, session)
    assert (turn.outcome, turn.completion.tolist()) == ("aborted", [100, 200])


def test_client_that_goes_away_aborts_at_the_engine_and_leaves_undelivered(
    start_proxy: StartProxy, session: str
) -> None:
    engine = ScriptedEngine(lambda _ids, _sampling: list(range(100, 1000)), delay=0.02)
    proxy = start_proxy(engine)
    body = json.dumps({"model": proxy.model, "messages": HELLO}).encode()
    host, port = proxy.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        head = f"POST /sessions/{session}/v1/chat/completions HTTP/1.1\r\nHost: [::]\r\nContent-Length: {len(body)}"
        connection.sendall(head.encode() + b"\r\n\r\n" + body)
        until(lambda: bool(engine.calls and len(engine.calls[0].token_ids) > 3))
    until(lambda: engine.calls[0].closed, seconds=1)
    until(lambda: bool(proxy.tape.turns(session)))
    turn = only_turn(proxy, session)
    assert turn.outcome == "undelivered"
    assert turn.completion.tolist() == engine.calls[0].token_ids
    check_once(proxy.tape, session)


def test_concurrent_calls_of_a_session_become_siblings(start_proxy: StartProxy, session: str) -> None:
    import concurrent.futures

    engine = ScriptedEngine(lambda _ids, _sampling: [100, 200, END], delay=0.05)
    proxy = start_proxy(engine)
    first = proxy.chat(session, HELLO).json()["choices"][0]["message"]
    started = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        asked = [[*HELLO, first, {"role": "user", "content": f"Q{k}"}] for k in range(8)]
        answers = list(threads.map(lambda messages: proxy.chat(session, messages), asked))
    assert time.perf_counter() - started < 8 * 0.15, "no lock is held while the engine samples"
    assert {answer.status_code for answer in answers} == {200}
    root, *siblings = proxy.tape.turns(session)
    assert {turn.parent_id for turn in siblings} == {root.id}
    assert sorted(turn.seq for turn in siblings) == list(range(1, 9))
    check_prefix([root, *siblings])
    check_once(proxy.tape, session)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"tools": [{"type": "function", "function": {"name": "g"}}]}, "tools_changed"),
        ({"chat_template_kwargs": {"enable_thinking": False}}, "template_options_changed"),
    ],
)
def test_what_was_rendered_by_other_rules_is_not_extended(
    start_proxy: StartProxy, session: str, change: dict[str, Any], reason: str
) -> None:
    proxy = start_proxy(ScriptedEngine(lambda _ids, _sampling: [9707, END]))
    first = proxy.chat(session, HELLO).json()["choices"][0]["message"]
    proxy.chat(session, [*HELLO, first, {"role": "user", "content": "More"}], **change)
    turns = proxy.tape.turns(session)
    assert turns[1].fork_reason == reason
    check_prefix(turns)
    check_once(proxy.tape, session)


def test_edited_history_forks_from_the_deepest_turn_that_still_holds(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(ScriptedEngine(lambda _ids, _sampling: [9707, END]))
    answer = proxy.chat(session, HELLO).json()["choices"][0]["message"]
    second = [*HELLO, answer, {"role": "user", "content": "Second"}]
    proxy.chat(session, second)
    edited = [*second, {"role": "assistant", "content": "I never said that"}, {"role": "user", "content": "Third"}]
    proxy.chat(session, edited)
    other = [{"role": "user", "content": "Something else"}]
    proxy.chat(session, other)
    turns = proxy.tape.turns(session)
    assert [turn.parent_id for turn in turns] == [None, turns[0].id, turns[0].id, None]
    assert [turn.fork_reason for turn in turns] == [None, None, "made_up_answer", "other_conversation"]
    assert [message["content"] for message in turns[2].messages] == ["Second", "I never said that", "Third"]
    check_prefix(turns)
    check_once(proxy.tape, session)


def test_history_template_forks_where_the_template_strips_thoughts(start_proxy: StartProxy, session: str) -> None:
    from tickertape.renderers.format import History

    thought = encode("<think>\nHm.\n</think>\n\nHi<|im_end|>")
    proxy = start_proxy(ScriptedEngine(lambda _ids, _sampling: thought), history=History.TEMPLATE)
    first = proxy.chat(session, HELLO).json()["choices"][0]["message"]
    proxy.chat(session, [*HELLO, first, {"role": "user", "content": "More"}])
    turns = proxy.tape.turns(session)
    assert turns[1].parent_id is None
    assert turns[1].fork_reason == "history_template"
    assert "Hm." not in qwen3_tokenizer().decode(turns[1].prompt_delta.tolist())


def test_session_goes_on_after_a_restart(tmp_path: Path, session: str) -> None:
    engine = ScriptedEngine(lambda _ids, _sampling: [9707, END])
    with scripted(engine, tmp_path) as proxy:
        first = proxy.chat(session, HELLO).json()["choices"][0]["message"]
    with scripted(engine, tmp_path) as proxy:
        proxy.chat(session, [*HELLO, first, {"role": "user", "content": "More"}])
        turns = proxy.tape.turns(session)
        assert [turn.parent_id for turn in turns] == [None, turns[0].id]
        check_prefix(turns)


def test_stop_string_is_left_out_of_the_answer_and_kept_on_tape(
    proxy_over: Callable[[Handler], Proxy], session: str
) -> None:
    tokens = encode("One two STOP")
    logprobs = {"token_logprobs": [-1.0] * len(tokens)}
    choice = {"token_ids": tokens, "logprobs": logprobs, "finish_reason": "stop", "stop_reason": "STOP"}
    proxy = proxy_over(streaming([{"choices": [choice]}, "[DONE]"]))
    answer = proxy.chat(session, HELLO, stop=["STOP"]).json()["choices"][0]
    assert answer["message"]["content"] == "One two "
    assert only_turn(proxy, session).completion.tolist() == tokens
    more = [*HELLO, answer["message"], {"role": "user", "content": "More"}]
    proxy.chat(session, more)
    assert proxy.tape.turns(session)[1].fork_reason is None


def test_logprobs_are_told_and_missing_ones_are_minus_9999(
    proxy_over: Callable[[Handler], Proxy], session: str
) -> None:
    logprobs = {"token_logprobs": [-0.5, None], "top_logprobs": [{"token_id:9707": -0.5, "token_id:9": -3.0}, None]}
    choice = {"token_ids": [9707, END], "logprobs": logprobs, "finish_reason": "stop", "stop_reason": None}
    proxy = proxy_over(streaming([{"choices": [choice]}, "[DONE]"]))
    told = proxy.chat(session, HELLO, logprobs=True, top_logprobs=2).json()["choices"][0]["logprobs"]["content"]
    assert [entry["logprob"] for entry in told] == [-0.5, -9999.0]
    assert [(top["token"], top["logprob"]) for top in told[0]["top_logprobs"]] == [("Hello", -0.5), ("*", -3.0)]
    assert np.isnan(only_turn(proxy, session).logprobs[1])


def test_server_that_is_stopped_records_running_calls_as_aborted(tmp_path: Path, session: str) -> None:
    engine = ScriptedEngine(lambda _ids, _sampling: list(range(100, 1000)), delay=0.02)
    with scripted(engine, tmp_path, grace=0) as proxy:
        calling = threading.Thread(target=_call_that_breaks_off, args=(proxy, session))
        calling.start()
        until(lambda: bool(engine.calls and len(engine.calls[0].token_ids) > 3))
    calling.join()
    with scripted(engine, tmp_path) as proxy:
        turn = only_turn(proxy, session)
    assert turn.outcome == "aborted"
    assert turn.completion.tolist() == engine.calls[0].token_ids


def _call_that_breaks_off(proxy: Proxy, session: str) -> None:
    with suppress(httpx.HTTPError):
        httpx.post(
            f"{proxy.url}/sessions/{session}/v1/chat/completions", json={"model": proxy.model, "messages": HELLO}
        )


@pytest.mark.parametrize(
    "arguments", ['{{"city": "Rome"}}', "{{}}", '{["a"]: 1}', f'{{"n": {"9" * 5000}}}', "{'b', 'a'}", '{"n": 1e999}']
)
def test_mistakes_in_arguments_are_answered_and_may_come_back(
    start_proxy: StartProxy, session: str, arguments: str
) -> None:
    """A model's everyday mistakes: no error, and the history that holds them continues the turn."""
    sampled = f'<tool_call>\n{{"name": "f", "arguments": {arguments}}}\n</tool_call><|im_end|>'
    proxy = start_proxy(ScriptedEngine(lambda _ids, _sampling: encode(sampled), max_context=32_768))
    tools = [{"type": "function", "function": {"name": "f"}}]
    answer = proxy.chat(session, HELLO, tools=tools, max_tokens=10_000)
    assert answer.status_code == 200, answer.text
    said = answer.json()["choices"][0]["message"]
    history = [
        *HELLO,
        said,
        *({"role": "tool", "tool_call_id": each["id"], "content": "no"} for each in said.get("tool_calls", ())),
    ]
    again = proxy.chat(session, [*history, *HELLO], tools=tools, max_tokens=10_000)
    assert again.status_code == 200, again.text
    first, second = proxy.tape.turns(session)
    assert first.outcome in ("parse_failed", "tool_calls")
    assert (second.parent_id, second.fork_reason) == (first.id, None)
