"""Every field of Responses is honoured, kept for the record or refused by name."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.engines import ScriptedEngine
from tests.server.conftest import Proxy, StartProxy, qwen3_tokenizer, scripted
from tests.server.dialects.responses.following import answer, ask
from tickertape.server.settings import UnknownFields

HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {"type": "function", "name": "look_up", "parameters": {"type": "object"}}


def engine() -> ScriptedEngine:
    return ScriptedEngine(lambda _ids, _sampling: qwen3_tokenizer().encode_like_model("Hi<|im_end|>"))


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy whose engine is never reached."""
    played = engine()
    with scripted(played, tmp_path_factory.mktemp("refusing")) as proxy:
        yield proxy
    assert not played.calls


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"context_management": [{"type": "compaction"}]}, "context_management"),
        ({"moderation": {"model": "m"}}, "moderation"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format"),
        ({"reasoning": {"context": "current_turn"}}, "reasoning.context"),
        ({"include": ["everything"]}, "include[0]"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"stream_options": {"include_obfuscation": False}}, "stream_options"),
        ({"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]}, "tools[0]"),
        ({"tools": [{"type": "local_shell"}]}, "tools[0]"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [TOOL, TOOL]}, "tools[1]"),
        ({"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "mcp"}]}]}, "tools[0].tools[0]"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "other"}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"metadata": {"n": 1}}, "metadata.n"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"type": "item_reference"}]}, "input[0].id"),
        ({"input": [{"type": "computer_call_output"}]}, "input[0]"),
        ({"input": [{"role": "critic", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": [{"type": "hologram"}]}]}, "input[0].content[0]"),
        ({"input": [*HELLO, {"type": "function_call", "name": "x", "call_id": "c"}]}, "input[1].arguments"),
        ({"input": [*HELLO, {"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"}]},
         "input[1].encrypted_content"),
        ({"chat_template_kwargs": {"reasoning_effort": "high"}}, "chat_template_kwargs"),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused_by_name(
    refusing: Proxy, session: str, fields: dict[str, Any], param: str
) -> None:
    response = ask(refusing, session, **{"input": "Hello", **fields})
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == param
    assert response.json()["error"]["type"] == "invalid_request_error"
    (turn,) = refusing.tape.turns(session)
    assert turn.outcome == "rejected"


@pytest.mark.parametrize("body", [b"{", b"[]", b"null"])
def test_what_is_no_object_is_refused(refusing: Proxy, session: str, body: bytes) -> None:
    response = refusing.http.post(f"/sessions/{session}/v1/responses", content=body)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_json")


def test_prompt_without_room_for_an_answer_is_a_fault_of_the_input(refusing: Proxy, session: str) -> None:
    error = ask(refusing, session, input="word " * 5000).json()["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", "input")


def test_sampling_is_as_asked_and_openais_defaults_else(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(played := engine())
    answer(proxy, session, input="Hello")
    asked = {"temperature": 0.5, "top_p": 0.9, "top_k": 5, "min_p": 0.1, "seed": 7, "presence_penalty": 1,
             "frequency_penalty": 0.5, "repetition_penalty": 1.1, "stop": "X", "stop_token_ids": [5], "min_tokens": 1,
             "max_output_tokens": 9}  # fmt: skip
    answer(proxy, session, input="Hello", **asked)
    default, given = (call.sampling for call in played.calls)
    assert (default.temperature, default.top_p, default.top_k, default.seed) == (1.0, 1.0, -1, None)
    for name, value in asked.items():
        if name not in ("stop", "stop_token_ids", "max_output_tokens"):
            assert getattr(given, name) == value
    assert (given.stop, given.max_tokens) == (("X",), 9)
    assert 5 in given.stop_token_ids


def test_fields_for_the_record_are_on_the_turn_and_told_again(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(engine())
    kept: dict[str, Any] = {
        "metadata": {"a": "b"}, "user": "u", "safety_identifier": "s", "prompt_cache_key": "k", "max_tool_calls": 3,
        "prompt_cache_retention": "24h",
    }  # fmt: skip
    told = answer(proxy, session, input="Hello", client_metadata={"x": "y"}, **kept)
    assert {name: told[name] for name in kept} == kept
    (turn,) = proxy.tape.turns(session)
    assert {name: turn.request_fields[name] for name in kept} == kept
    assert turn.request_fields["client_metadata"] == {"x": "y"}
    assert not turn.ignored_fields


def test_what_is_outside_the_protocol_or_not_done_is_named(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(engine())
    fields: dict[str, Any] = {
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "Hello", "shade": 1}], "mood": "good"}],
        "tools": [
            {**TOOL, "strict": True},
            {"type": "web_search"},
            {"type": "custom", "name": "patch", "format": {"type": "grammar", "syntax": "lark", "definition": "x: y"}},
        ],
        "colour": "red",
        "text": {"format": {"type": "text"}, "tone": "dry"},
    }
    response = ask(proxy, session, **fields)
    named = ["colour", "text.tone", "input[0].mood", "input[0].content[0].shade", "tools[0].strict", "tools[1]",
             "tools[2].format"]  # fmt: skip
    assert response.headers["x-tickertape-ignored"].split(", ") == named
    (turn,) = proxy.tape.turns(session)
    assert turn.ignored_fields == named
    assert "lark grammar:\nx: y" in turn.tools[1]["function"]["description"]


def test_fields_that_are_ignored_can_be_refused(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(engine(), unknown_fields=UnknownFields.REJECT)
    response = ask(proxy, session, input="Hello", tools=[{"type": "web_search"}])
    assert (response.status_code, response.json()["error"]["param"]) == (400, "tools[0]")


def test_legal_forms_of_input_are_read_alike(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(played := engine())
    forms: list[Any] = [
        "Hello",
        [{"role": "user", "content": "Hello"}],
        [{"type": "message", "role": "user", "content": "Hello"}],
        [{"type": "message", "role": "user", "status": "completed", "id": "msg_1",
          "content": [{"type": "input_text", "text": "Hello"}]}],
    ]  # fmt: skip
    for k, form in enumerate(forms):
        answer(proxy, f"{session}-{k}", input=form)
    assert len({tuple(call.prompt_ids) for call in played.calls}) == 1


def test_roles_and_refusals_are_read(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(engine())
    said = [
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": [{"type": "input_text", "text": "One"}, {"type": "input_text", "text": "Two"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"role": "user", "content": "Why?"},
    ]
    answer(proxy, session, input=said, instructions="Be brief.")
    (turn,) = proxy.tape.turns(session)
    assert [(message["role"], message["content"]) for message in turn.messages] == [
        ("system", "Be brief."), ("developer", "Be kind."), ("user", "One\nTwo"), ("assistant", "No."),
        ("user", "Why?"),
    ]  # fmt: skip


def test_tool_choice_none_leaves_calls_text(start_proxy: StartProxy, session: str) -> None:
    said = '<tool_call>\n{"name": "look_up", "arguments": {}}\n</tool_call>'
    played = ScriptedEngine(lambda _ids, _sampling: qwen3_tokenizer().encode_like_model(f"{said}<|im_end|>"))
    proxy = start_proxy(played)
    told = answer(proxy, session, input="Hello", tools=[TOOL], tool_choice="none")
    assert [item["type"] for item in told["output"]] == ["message"]
    assert told["output"][0]["content"][0]["text"] == said
    assert proxy.http.get(f"/v1/responses/{told['id']}").json() == told
