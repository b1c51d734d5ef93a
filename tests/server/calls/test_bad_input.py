"""NOTHING-SILENT: bad input gets its own clear error in OpenAI's shape, and a turn with an outcome."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.engines import ScriptedEngine
from tests.server.conftest import Proxy, StartProxy, scripted
from tickertape.server.settings import UnknownFields

HELLO = [{"role": "user", "content": "Hello"}]
END = 151645


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    engine = ScriptedEngine(lambda _ids, _sampling: [9707, END], max_context=200)
    with scripted(engine, tmp_path_factory.mktemp("tape")) as proxy:
        yield proxy


BAD_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"messages": []}, "messages"),
    ({"messages": None}, "messages"),
    ({"messages": "hello"}, "messages"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
    (
        {"messages": [{"role": "user", "content": [{"type": "hologram"}]}]},
        "messages[0].content[0]",
    ),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0]"),
    (
        {"messages": [*HELLO, {"role": "assistant", "tool_calls": [{"function": {}}]}]},
        "messages[1].tool_calls[0].function.name",
    ),
    (
        {"messages": [{"role": "user", "content": "x", "tool_calls": [{"function": {"name": "f"}}]}]},
        "messages[0].tool_calls",
    ),
    ({"model": None}, "model"),
    ({"model": 4}, "model"),
    ({"temperature": "hot"}, "temperature"),
    ({"temperature": -1}, "temperature"),
    ({"temperature": 2.5}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 1.5}, "max_tokens"),
    ({"max_tokens": True}, "max_tokens"),
    ({"max_tokens": 5, "max_completion_tokens": 6}, "max_completion_tokens"),
    ({"stop": ""}, "stop"),
    ({"stop": 4}, "stop"),
    ({"logit_bias": {"x": 1}}, "logit_bias"),
    ({"logit_bias": {"5": 101}}, "logit_bias"),
    ({"logit_bias": {"999999": 1}}, "logit_bias"),
    ({"stop_token_ids": [-1]}, "stop_token_ids"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
    ({"seed": "x"}, "seed"),
    ({"tools": [{"type": "retrieval"}]}, "tools[0].type"),
    ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
    ({"chat_template_kwargs": {"no_such_option": 1}}, "chat_template_kwargs"),
    ({"chat_template_kwargs": {"tokenizer": "x"}}, "chat_template_kwargs"),
    ({"chat_template_kwargs": {"self": 1}}, "chat_template_kwargs"),
    ({"chat_template_kwargs": {"history": "template"}}, "chat_template_kwargs"),
    ({"chat_template_kwargs": {"name": "template"}}, "chat_template_kwargs"),
    ({"chat_template_kwargs": {"enable_thinking": "yes"}}, "chat_template_kwargs"),
    ({"chat_template_kwargs": {"enable_thinking": {}}}, "chat_template_kwargs"),
    ({"stream": "yes"}, "stream"),
    # Legal, and not supported yet.
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"n": 129}, "n"),
    ({"continue_final_message": True}, "continue_final_message"),
    ({"continue_final_message": True, "add_generation_prompt": False}, "continue_final_message"),
    ({"add_generation_prompt": False}, "add_generation_prompt"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
    ({"reasoning_effort": "high", "chat_template_kwargs": {"reasoning_effort": "low"}}, "reasoning_effort"),
    ({"modalities": ["audio"]}, "modalities"),
    ({"audio": {"voice": "x"}}, "audio"),
    ({"web_search_options": {}}, "web_search_options"),
    ({"functions": []}, "functions"),
    ({"function_call": "auto"}, "function_call"),
]


@pytest.mark.parametrize(
    ("fields", "param"), BAD_FIELDS, ids=[f"{param}-{k}" for k, (_, param) in enumerate(BAD_FIELDS)]
)
def test_bad_field_is_named_and_leaves_a_rejected_turn(
    proxy: Proxy, session: str, fields: dict[str, Any], param: str
) -> None:
    response = proxy.http.post(
        f"/sessions/{session}/v1/chat/completions", json={"model": proxy.model, "messages": HELLO} | fields
    )
    error = response.json()["error"]
    assert response.status_code == 400, error
    assert response.headers["X-Session-Id"] == session
    assert set(error) == {"message", "type", "param", "code"}
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    (turn,) = proxy.tape.turns(session)
    assert turn.outcome == "rejected"
    assert turn.error == error["message"]
    assert len(turn.completion) == 0


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff\xfe", b"null", b'{"a": NaN}', b"[" * 5000])
def test_body_that_is_no_json_object(proxy: Proxy, session: str, body: bytes) -> None:
    response = proxy.http.post(f"/sessions/{session}/v1/chat/completions", content=body)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "invalid_json"
    assert [turn.outcome for turn in proxy.tape.turns(session)] == ["rejected"]


def test_bad_request_without_a_session_makes_none(proxy: Proxy) -> None:
    before = list(proxy.tape.sessions())
    response = proxy.chat(None, [])
    assert response.status_code == 400
    assert "X-Session-Id" not in response.headers
    assert list(proxy.tape.sessions()) == before


def test_unknown_model_is_404_and_names_those_that_are_served(proxy: Proxy, session: str) -> None:
    response = proxy.http.post(f"/sessions/{session}/v1/chat/completions", json={"model": "gpt-4o", "messages": HELLO})
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")
    assert "scripted" in response.json()["error"]["message"]
    assert "--served-model-name" in response.json()["error"]["message"]
    (turn,) = proxy.tape.turns(session)
    assert (turn.outcome, turn.model) == ("rejected", "gpt-4o")


def test_too_long_prompt_is_context_length_exceeded(proxy: Proxy, session: str) -> None:
    response = proxy.chat(session, [{"role": "user", "content": "word " * 300}])
    assert (response.status_code, response.json()["error"]["code"]) == (400, "context_length_exceeded")
    # OpenAI's words, by which LiteLLM and others know it.
    (asked,) = re.findall(
        r"maximum context length is 200 tokens\. However, your messages resulted in (\d+) tokens",
        response.json()["error"]["message"],
    )
    (turn,) = proxy.tape.turns(session)
    assert (turn.outcome, len(turn.prompt_delta)) == ("rejected", int(asked))
    assert int(asked) > 200


def test_too_long_prompt_is_told_in_anthropics_words(proxy: Proxy, session: str) -> None:
    asked = {"model": proxy.model, "max_tokens": 9, "messages": [{"role": "user", "content": "word " * 300}]}
    error = proxy.http.post(f"/sessions/{session}/v1/messages", json=asked).json()["error"]
    (turn,) = proxy.tape.turns(session)
    assert error["type"] == "invalid_request_error"
    assert error["message"] == f"prompt is too long: {len(turn.prompt_delta)} tokens > 200 maximum"


@pytest.mark.parametrize("session_id", ["..", "a b", "a/b", "-x", "x" * 129, "é"])
def test_session_id_that_is_none_is_refused(proxy: Proxy, session_id: str) -> None:
    headers = {"X-Session-Id": session_id.encode()}
    response = proxy.http.post("/v1/chat/completions", json={"model": proxy.model, "messages": HELLO}, headers=headers)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "session_id")


def test_fields_outside_the_protocol_are_named_in_a_header_and_on_the_turn(proxy: Proxy, session: str) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "Hello", "cache_control": {}}], "mood": "good"}]
    response = proxy.chat(session, messages, foo=1, bar=None, **{"x\r\ny": 2})
    assert response.status_code == 200
    named = ["foo", "x\r\ny", "messages[0].mood", "messages[0].content[0].cache_control"]
    assert response.headers["X-Tickertape-Ignored"] == ", ".join(named).replace("\r\n", "%0D%0A")
    assert proxy.tape.turns(session)[0].ignored_fields == named


def test_fields_outside_the_protocol_can_be_refused(start_proxy: StartProxy) -> None:
    engine = ScriptedEngine(lambda _ids, _sampling: [END])
    proxy = start_proxy(engine, unknown_fields=UnknownFields.REJECT)
    response = proxy.chat("s", HELLO, foo=1)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "foo")
    assert engine.calls == []


def test_anthropics_protocol_is_refused_in_its_own_shape(proxy: Proxy) -> None:
    answer = proxy.http.post("/v1/messages", json={})
    assert answer.status_code == 400
    assert answer.json()["type"] == "error"
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_unknown_paths_and_methods_are_errors_in_openais_shape(proxy: Proxy) -> None:
    assert proxy.http.get("/v1/nothing").json()["error"]["code"] == "not_found"
    assert proxy.http.get("/v1/chat/completions").status_code == 405
    assert proxy.http.get("/sessions/nobody").json()["error"]["code"] == "session_not_found"
    assert proxy.http.get("/sessions?limit=0").status_code == 400
    assert proxy.http.get("/sessions?after=nonsense").json()["error"]["param"] == "after"
