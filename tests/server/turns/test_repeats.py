"""A retry after a restart gets the answer that is on tape; nothing is sampled twice that a client only missed."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.engines import ScriptedEngine
from tests.server.conftest import Proxy, qwen3_tokenizer, scripted
from tests.server.invariants import check_once, check_prefix

REPLAYED = "X-Tickertape-Replayed"
HELLO = [{"role": "user", "content": "Hello"}]
CALL = '<think>\nShort.\n</think>\n\nI look.<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call><|im_end|>'
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
BODIES: dict[str, dict[str, Any]] = {
    "chat/completions": {"messages": HELLO, "tools": [TOOL], "logprobs": True},
    "completions": {"prompt": "Once"},
    "responses": {"input": "Hello", "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}]},
    "messages": {"messages": HELLO, "max_tokens": 100, "tools": [{"name": "f", "input_schema": {"type": "object"}}]},
}


def engine() -> ScriptedEngine:
    return ScriptedEngine(lambda _ids, _sampling: qwen3_tokenizer().encode_like_model(CALL))


def post(proxy: Proxy, path: str, body: dict[str, Any], **headers: str) -> httpx.Response:
    return proxy.http.post(f"/sessions/s/v1/{path}", json={"model": proxy.model, **body}, headers=headers)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", BODIES)
def test_a_retry_after_a_restart_gets_what_is_on_tape(tmp_path: Path, path: str, *, stream: bool) -> None:
    body = BODIES[path] | {"stream": stream}
    with scripted(engine(), tmp_path) as proxy:
        whole = post(proxy, path, body)
        again = post(proxy, path, body)  # from memory: of a stream, each choice in one piece
        assert again.headers[REPLAYED] == "true"
    second = engine()
    with scripted(second, tmp_path) as proxy:
        later = post(proxy, path, body)
        assert later.headers[REPLAYED] == "true"
        assert (later.content, later.headers["X-Turn-Id"]) == (again.content, whole.headers["X-Turn-Id"])
        assert not second.calls
        turns = proxy.tape.turns("s")
        assert [turn.outcome for turn in turns[1:]] == ["replayed", "replayed"]
        assert turns[2].parent_id == turns[0].id
        check_prefix(turns)
        check_once(proxy.tape, "s")


def test_every_choice_comes_back_in_its_place(tmp_path: Path) -> None:
    def counting() -> ScriptedEngine:
        made = ScriptedEngine(lambda _ids, _sampling: [1000 + len(made.calls), 151645])
        return made

    body = {"messages": HELLO, "n": 3}
    with scripted(counting(), tmp_path) as proxy:
        first = post(proxy, "chat/completions", body)
    with scripted(counting(), tmp_path) as proxy:
        assert post(proxy, "chat/completions", body).content == first.content


@pytest.mark.parametrize(
    ("body", "headers", "settings"),
    [
        ({"messages": HELLO, "seed": 1}, {}, {}),
        ({"messages": HELLO}, {"X-Tickertape-Resample": "1"}, {}),
        ({"messages": HELLO}, {}, {"replay_window": 0}),
    ],
)
def test_another_request_is_sampled(
    tmp_path: Path, body: dict[str, Any], headers: dict[str, str], settings: dict[str, Any]
) -> None:
    with scripted(engine(), tmp_path) as proxy:
        post(proxy, "chat/completions", {"messages": HELLO})
    second = engine()
    with scripted(second, tmp_path, **settings) as proxy:
        assert REPLAYED not in post(proxy, "chat/completions", body, **headers).headers
        assert len(second.calls) == 1


def test_what_the_tape_does_not_have_is_sampled_again(tmp_path: Path) -> None:
    body = {"messages": HELLO, "logprobs": True, "top_logprobs": 2}
    with scripted(engine(), tmp_path) as proxy:
        post(proxy, "chat/completions", body)
    second = engine()
    with scripted(second, tmp_path) as proxy:
        assert post(proxy, "chat/completions", body).status_code == 200
        assert len(second.calls) == 1


def test_after_an_answer_from_the_tape_the_conversation_goes_on(tmp_path: Path) -> None:
    with scripted(engine(), tmp_path) as proxy:
        post(proxy, "chat/completions", {"messages": HELLO})
    with scripted(engine(), tmp_path) as proxy:
        said = post(proxy, "chat/completions", {"messages": HELLO}).json()["choices"][0]["message"]
        result = {"role": "tool", "tool_call_id": said["tool_calls"][0]["id"], "content": "1"}
        assert post(proxy, "chat/completions", {"messages": [*HELLO, said, result]}).status_code == 200
        (sample,) = proxy.tape.samples("s")
        assert len(sample.turn_ids) == 2
