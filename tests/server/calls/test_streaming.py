"""Answers that are sent while they are sampled: STREAM, DURABLE, and what goes wrong on the way."""

import json
import socket
import time
from typing import Any

import pytest

from tests.engines import ScriptedEngine
from tests.server.conftest import Proxy, StartProxy, qwen3_tokenizer, until
from tests.server.invariants import check_all
from tests.server.reading_along import read_along
from tickertape.clients.engines.errors import EngineRefused, EngineUnavailable

HELLO = [{"role": "user", "content": "Hello"}]
TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]
CALL = '<tool_call>\n{"name": "look_up", "arguments": {"key": "ünï 🦫", "n": [1, 2]}}\n</tool_call>'
ANSWERS = [
    "Just words.<|im_end|>",
    "<think>\nHm, 🦫?\n</think>\n\nÜber Biber.<|im_end|>",
    f"<think>\nI look it up.\n</think>\n\nWait.\n{CALL}\n{CALL}<|im_end|>",
    f"{CALL}<|im_end|>",
    "<tool_call>\n{oops}\n</tool_call> is no call<|im_end|>",
    "<think>\nnever closed",
    "<|im_end|>",
    "One STOP two STOP three",
    "A ST, then a STO, and an S",
]


def encode(text: str) -> list[int]:
    return qwen3_tokenizer().encode_like_model(text)


def without_ids(message: dict[str, Any]) -> dict[str, Any]:
    """Call ids come from the turn's own."""
    calls = [{**call, "id": call["id"][-2:]} for call in message.get("tool_calls", ())]
    return message | ({"tool_calls": calls} if calls else {})


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("fields", [{}, {"stop": ["STOP", "a STOQ"]}, {"max_tokens": 3}], ids=["", "stop", "cut"])
def test_stream_adds_up_to_the_whole_message(
    played: tuple[Proxy, ScriptedEngine], session: str, answer: str, fields: dict[str, Any]
) -> None:
    proxy, engine = played
    engine.script = lambda _ids, _sampling: encode(answer)
    heard = read_along(proxy, session, HELLO, tools=TOOLS, **fields)
    whole = proxy.chat(f"{session}-whole", HELLO, tools=TOOLS, **fields).json()["choices"][0]
    assert without_ids(heard.message()) == without_ids(whole["message"])
    assert heard.finish_reasons() == [whole["finish_reason"]]
    assert heard.done
    (turn,) = proxy.tape.turns(session)
    assert turn.response == heard.message()


def test_tokens_go_out_as_they_are_sampled(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(ScriptedEngine(lambda _ids, _sampling: encode("one two three four five<|im_end|>"), delay=0.05))
    body = {"model": proxy.model, "messages": HELLO, "stream": True}
    at = []
    with proxy.http.stream("POST", f"/sessions/{session}/v1/chat/completions", json=body) as response:
        at += [time.monotonic() for line in response.iter_lines() if '"content":' in line]
    assert at[-1] - at[1] > 0.1


def test_session_and_turn_are_named_in_front_and_the_turn_is_on_tape_at_the_end(
    start_proxy: StartProxy, session: str
) -> None:
    proxy = start_proxy(engine := ScriptedEngine(lambda _ids, _sampling: encode("Hi<|im_end|>")))
    heard = read_along(proxy, session, HELLO, stream_options={"include_usage": True})
    (turn,) = check_all(proxy.tape, session, engine.calls)
    assert (heard.headers["x-session-id"], heard.headers["x-turn-id"]) == (session, turn.id)
    assert heard.chunks[-1]["usage"]["completion_tokens"] == len(turn.completion)
    assert heard.chunks[-1]["choices"] == []
    assert {chunk["usage"] for chunk in heard.chunks[:-1]} == {None}


def test_choices_and_logprobs_are_told_as_on_tape(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(ScriptedEngine(lambda _ids, _sampling: encode("<think>\nSo 🦫\n</think>\n\nHi you<|im_end|>")))
    heard = read_along(proxy, session, HELLO, n=3, logprobs=True)
    turns = {turn.id: turn for turn in proxy.tape.turns(session)}
    for choice, turn_id in enumerate(heard.headers["x-turn-id"].split(", ")):
        told = heard.logprobs(choice)
        assert [entry["logprob"] for entry in told] == turns[turn_id].logprobs.tolist()
        assert bytes(b for entry in told for b in entry["bytes"]).decode().endswith("Hi you<|im_end|>")
        assert heard.message(choice)["content"] == "Hi you"
    assert heard.finish_reasons() == ["stop"] * 3


def test_failure_before_the_first_token_has_its_own_status(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(ScriptedEngine(lambda _ids, _sampling: [EngineRefused("no such thing", param="seed")]))
    answer = proxy.chat(session, HELLO, stream=True)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "seed"
    assert proxy.chat(session, HELLO, stream=True, temperature=9).status_code == 400


def test_failure_midway_ends_the_stream_with_an_error_and_keeps_what_was_sampled(
    start_proxy: StartProxy, session: str
) -> None:
    broken = [*encode("So far so good"), EngineUnavailable("it fell over")]
    proxy = start_proxy(ScriptedEngine(lambda _ids, _sampling: broken))
    heard = read_along(proxy, session, HELLO)
    assert heard.message()["content"] == "So far so good"
    assert heard.error is not None
    assert heard.error["code"] == "engine_unavailable"
    assert heard.finish_reasons() == []
    (turn,) = proxy.tape.turns(session)
    assert (turn.outcome, turn.completion.tolist()) == ("engine_error", broken[:-1])


def test_silence_is_broken_by_heartbeats(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(ScriptedEngine(lambda _ids, _sampling: encode("Hi<|im_end|>"), delay=0.5), heartbeat=0.1)
    heard = read_along(proxy, session, HELLO)
    assert len(heard.comments) > 5
    assert heard.message()["content"] == "Hi"


def open_stream(proxy: Proxy, session: str) -> socket.socket:
    """A connection on which an answer is being streamed, read by nobody."""
    body = json.dumps({"model": proxy.model, "messages": HELLO, "stream": True}).encode()
    host, port = proxy.url.removeprefix("http://").split(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((host, int(port)))
    head = f"POST /sessions/{session}/v1/chat/completions HTTP/1.1\r\nHost: [::]\r\nContent-Length: {len(body)}"
    connection.sendall(head.encode() + b"\r\n\r\n" + body)
    return connection


def test_client_that_leaves_a_stream_aborts_it_and_what_was_sampled_is_kept(
    start_proxy: StartProxy, session: str
) -> None:
    proxy = start_proxy(engine := ScriptedEngine(lambda _ids, _sampling: list(range(100, 1000)), delay=0.02))
    with open_stream(proxy, session):
        until(lambda: bool(engine.calls and len(engine.calls[0].token_ids) > 3))
    until(lambda: engine.calls[0].closed, seconds=1)
    until(lambda: bool(proxy.tape.turns(session)))
    (turn,) = check_all(proxy.tape, session, engine.calls)
    assert turn.outcome == "undelivered"


def test_slow_reader_does_not_hold_up_the_engine_and_misses_nothing(start_proxy: StartProxy, session: str) -> None:
    words = encode(" word" * 60_000)
    proxy = start_proxy(ScriptedEngine(lambda _ids, _sampling: words, max_context=100_000))
    with open_stream(proxy, session) as connection:
        until(lambda: bool(proxy.tape.turns(session)), seconds=60)  # sampled to its end, though nobody has read it
        received = b""
        while not received.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"):
            received += connection.recv(2**16)
    _, _, chunked = received.partition(b"\r\n\r\n")
    lines = [line for line in _dechunked(chunked).decode().split("\n") if line.startswith('data: {"id"')]
    content = "".join(
        choice["delta"].get("content") or ""
        for line in lines
        for choice in json.loads(line.removeprefix("data: "))["choices"]
    )
    assert content == " word" * 60_000
    assert len(lines) < 55_000  # what it missed was joined


def _dechunked(body: bytes) -> bytes:
    parts = []
    while body:
        size, _, body = body.partition(b"\r\n")
        n = int(size, 16)
        parts.append(body[:n])
        body = body[n + 2 :]
    return b"".join(parts)


def test_retry_of_a_stream_gets_its_events_and_is_not_sampled_again(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(engine := ScriptedEngine(lambda _ids, _sampling: encode(f"Look.\n{CALL}<|im_end|>")))
    first = read_along(proxy, session, HELLO, tools=TOOLS)
    again = read_along(proxy, session, HELLO, tools=TOOLS)
    assert again.headers["x-tickertape-replayed"] == "true"
    assert again.message() == first.message()
    assert len(engine.calls) == 1
    assert [turn.outcome for turn in proxy.tape.turns(session)] == ["tool_calls", "replayed"]


@pytest.mark.parametrize("cut", [1, 2, 4, 5, 8, 9, 10, 11, 12])
def test_answer_that_was_cut_streams_only_what_is_new(start_proxy: StartProxy, session: str, cut: int) -> None:
    said = encode("<think>\nHm\n</think>\n\nThe answer is 🦫 forty-two.<|im_end|>")
    engine = ScriptedEngine(lambda _ids, _sampling: said)
    proxy = start_proxy(engine)
    messages = [*HELLO, read_along(proxy, session, HELLO, max_tokens=cut).message()]
    engine.script = lambda _ids, _sampling: said[cut:]
    go_on = {"continue_final_message": True, "add_generation_prompt": False}
    rest = read_along(proxy, session, messages, **go_on).message()
    whole = proxy.chat(session, messages, temperature=0.5, **go_on).json()["choices"][0]["message"]
    assert (rest["content"] or "") == (whole["content"] or "")
    assert rest.get("reasoning_content") == whole.get("reasoning_content")
