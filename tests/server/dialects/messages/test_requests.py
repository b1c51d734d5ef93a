"""What Anthropic's requests become: each field honoured, kept, named as ignored, or refused by its place."""

import json
from typing import Any

import pytest

from tests.engines import ScriptedEngine
from tests.server.calls.test_streaming import encode
from tests.server.conftest import Proxy, StartProxy
from tests.server.dialects.messages.reading_along import LOOK_UP, USER, ask, post
from tickertape.clients.engines.engine import StructureKind
from tickertape.renderers.messages import Message, ToolCall
from tickertape.server.dialects.messages.request import read_count_request, read_request
from tickertape.server.errors import InvalidRequest
from tickertape.server.settings import UnknownFields
from tickertape.server.turns.request import ToolChoice, TurnRequest

TEXT = {"type": "text", "text": "Hi"}
USE = {"type": "tool_use", "id": "toolu_1", "name": "look_up", "input": {"key": 1}}
IMAGE = {"type": "image", "source": {"type": "url", "url": "http://example.com/a.png"}}


def read(**fields: Any) -> TurnRequest:
    body = {"model": "m", "max_tokens": 10, "messages": USER, **fields}
    return read_request(json.dumps({name: value for name, value in body.items() if value != "absent"}).encode())


def messages_of(*blocks_by_role: tuple[str, Any], **fields: Any) -> list[Message]:
    return read(messages=[{"role": role, "content": content} for role, content in blocks_by_role], **fields).messages


def test_blocks_become_messages() -> None:
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [TEXT, TEXT]}
    thought = {"type": "thinking", "thinking": "So", "signature": "x"}
    assert messages_of(
        ("user", "Hello"),
        ("assistant", [thought, TEXT, USE]),
        ("user", [TEXT, result]),
        ("system", [TEXT]),
        system=[{**TEXT, "cache_control": {"type": "ephemeral", "ttl": "1h"}}, TEXT],
    ) == [
        Message("system", "Hi\nHi"),
        Message("user", "Hello"),
        Message("assistant", "Hi", "So", (ToolCall("look_up", {"key": 1}, "toolu_1"),)),
        Message("tool", "Hi\nHi", tool_call_id="toolu_1"),
        Message("user", "Hi"),
        Message("system", "Hi"),
    ]


def test_neighbours_of_one_role_are_one_message() -> None:
    """A harness may send each block of an answer as a message of its own."""
    split = messages_of(("user", "a"), ("user", [TEXT]), ("assistant", [TEXT]), ("assistant", [USE]))
    assert split == messages_of(("user", "a\nHi"), ("assistant", [TEXT, USE]))


def test_results_of_tools_alone_are_followed_by_no_user() -> None:
    result = {"type": "tool_result", "tool_use_id": "toolu_1"}
    failed = {**result, "is_error": True}
    said = messages_of(("user", "a"), ("assistant", [USE]), ("user", [result, failed]))[2:]
    assert said == [
        Message("tool", "", tool_call_id="toolu_1"),
        Message("tool", "Error", tool_call_id="toolu_1"),
    ]


def test_answer_without_blocks_is_an_empty_one() -> None:
    assert messages_of(("user", "a"), ("assistant", []), ("user", "b"))[1] == Message("assistant", "")


def test_tools_are_shown_as_functions() -> None:
    assert read(tools=[{**LOOK_UP, "type": "custom", "cache_control": {"type": "ephemeral"}}]).tools == [
        {
            "type": "function",
            "function": {"name": "look_up", "description": "Looks up.", "parameters": {"type": "object"}},
        }
    ]
    assert read(tools=[]).tools is None


@pytest.mark.parametrize(
    ("choice", "read_as"),
    [
        ({"type": "auto"}, ToolChoice()),
        ({"type": "none"}, ToolChoice(reads_calls=False)),
        ({"type": "any"}, ToolChoice(must_call=True)),
        ({"type": "tool", "name": "look_up"}, ToolChoice(must_call=True, names=("look_up",))),
        ({"type": "auto", "disable_parallel_tool_use": True}, ToolChoice(parallel=False)),
        (
            {"type": "any", "disable_parallel_tool_use": True},
            ToolChoice(must_call=True, parallel=False),
        ),
    ],
)
def test_tool_choice(choice: dict[str, Any], read_as: ToolChoice) -> None:
    assert read(tools=[LOOK_UP], tool_choice=choice).tool_choice == read_as


def test_sampling_has_anthropics_defaults() -> None:
    usual = read().sampling
    assert (usual.temperature, usual.top_p, usual.top_k, usual.stop) == (1.0, 1.0, -1, ())
    given = read(temperature=0, top_p=0.5, top_k=3, stop_sequences=["a", "b"]).sampling
    assert (given.temperature, given.top_p, given.top_k, given.stop) == (0, 0.5, 3, ("a", "b"))
    assert read(top_k=0).sampling.top_k == -1


@pytest.mark.parametrize("name", ["output_format", "output_config"])
def test_output_format_is_a_structure(name: str) -> None:
    wanted = {"type": "json_schema", "schema": {"type": "object"}}
    structure = read(**{name: wanted if name == "output_format" else {"format": wanted}}).response_format
    assert structure is not None
    assert (structure.kind, structure.value) == (StructureKind.JSON_SCHEMA, {"type": "object"})


def test_what_changes_nothing_is_kept_for_the_record() -> None:
    request = read(metadata={"user_id": "u"}, service_tier="auto", output_config={"effort": "high"})
    assert request.fields == {"metadata": {"user_id": "u"}, "service_tier": "auto", "effort": "high"}
    assert request.ignored == []


def test_what_is_not_used_is_named() -> None:
    request = read(
        novelty=1,
        nothing=None,
        tools=[{**LOOK_UP, "strict": True}],
        system=[{**TEXT, "citations": []}],
        messages=[
            *USER,
            {"role": "assistant", "content": [{"type": "redacted_thinking", "data": "x"}, TEXT]},
            {"role": "user", "content": [{**TEXT, "mood": "good"}], "id": "1"},
        ],
    )
    assert sorted(request.ignored) == [
        "messages[1].content[0]",
        "messages[2].content[0].mood",
        "messages[2].id",
        "novelty",
        "system[0].citations",
        "tools[0].strict",
    ]


def user(*blocks: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(blocks)}]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"max_tokens": "absent"}, "max_tokens"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": "10"}, "max_tokens"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
    ({"messages": user({"type": "search_result"})}, "messages[0].content[0]"),
    ({"messages": user(USE)}, "messages[0].content[0]"),
    ({"messages": user({"type": ["text"]})}, "messages[0].content[0]"),
    ({"messages": user({"type": "text"})}, "messages[0].content[0].text"),
    ({"messages": user({"type": "tool_result"})}, "messages[0].content[0].tool_use_id"),
    ({"messages": [*USER, {"role": "assistant", "content": [{**USE, "input": "{}"}]}]}, "messages[1].content[0].input"),
    ({"system": [IMAGE]}, "system[0]"),
    ({"system": 1}, "system"),
    ({"temperature": 3}, "temperature"),
    ({"top_k": -1}, "top_k"),
    ({"stop_sequences": ["a", ""]}, "stop_sequences"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0]"),
    ({"tools": [LOOK_UP, {"name": "f"}]}, "tools[1].input_schema"),
    ({"tool_choice": {"type": "any"}}, "tool_choice"),
    ({"tool_choice": {"type": "tool", "name": "other"}, "tools": [LOOK_UP]}, "tool_choice"),
    ({"tool_choice": {"type": "tool"}, "tools": [LOOK_UP]}, "tool_choice"),
    ({"tool_choice": {"type": "some"}, "tools": [LOOK_UP]}, "tool_choice.type"),
    ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
    ({"thinking": {"type": "enabled", "budget_tokens": 1}}, "thinking.budget_tokens"),
    ({"thinking": {"type": "between_tools"}}, "thinking.type"),
    ({"mcp_servers": [{"type": "url", "url": "http://localhost", "name": "x"}]}, "mcp_servers"),
    ({"container": "c"}, "container"),
    ({"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}, "context_management"),
    ({"output_format": {"type": "grammar"}}, "output_format.type"),
    ({"thread": {"type": "create"}}, "thread"),
]


@pytest.mark.parametrize(("fields", "param"), REFUSED, ids=[f"{param}-{k}" for k, (_, param) in enumerate(REFUSED)])
def test_faults_are_refused_by_their_place(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize("fields", [{"mcp_servers": []}, {"speed": "standard"}, {"context_management": {"edits": []}}])
def test_values_that_ask_for_nothing_special_are_taken(fields: dict[str, Any]) -> None:
    assert read(**fields).ignored == []


def test_count_needs_no_max_tokens() -> None:
    request = read_count_request(json.dumps({"model": "m", "messages": USER, "system": "Be brief."}).encode())
    assert request.messages == [Message("system", "Be brief."), Message("user", "Hello")]


# Over HTTP.


@pytest.fixture
def proxy(start_proxy: StartProxy) -> Proxy:
    return start_proxy(ScriptedEngine(lambda _ids, _sampling: encode("Hi<|im_end|>")))


def test_field_outside_the_protocol_is_named_in_the_answer(proxy: Proxy, session: str) -> None:
    answer = post(proxy, session, USER, novelty=1)
    assert answer.headers["x-tickertape-ignored"] == "novelty"
    assert proxy.tape.turns(session)[0].ignored_fields == ["novelty"]


def test_field_outside_the_protocol_is_refused_where_the_operator_says_so(
    start_proxy: StartProxy, session: str
) -> None:
    strict = start_proxy(
        ScriptedEngine(lambda _ids, _sampling: encode("Hi<|im_end|>")), unknown_fields=UnknownFields.REJECT
    )
    assert post(strict, session, USER, novelty=1).json()["error"]["details"]["error_code"] == "unknown_field"


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"model": 1}'])
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens", "/sessions/s/v1/messages?beta=true"])
def test_bodies_that_are_no_request_are_refused_in_anthropics_shape(proxy: Proxy, path: str, body: bytes) -> None:
    answer = proxy.http.post(path, content=body)
    assert (answer.status_code, answer.json()["type"]) == (400, "error")
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert answer.headers["request-id"].startswith("req_")


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "kind"),
    [
        ("POST", "/v1/messages/batches", {}, 404, "not_found_error"),
        ("GET", "/v1/messages", {}, 405, "invalid_request_error"),
        ("GET", "/v1/files", {"anthropic-version": "2023-06-01"}, 404, "not_found_error"),
        ("POST", "/sessions/-/v1/messages", {}, 400, "invalid_request_error"),
    ],
)
def test_calls_that_reach_no_model_are_answered_in_anthropics_shape(
    proxy: Proxy, method: str, path: str, headers: dict[str, str], status: int, kind: str
) -> None:
    answer = proxy.http.request(method, path, headers=headers)
    assert (answer.status_code, answer.json()["type"], answer.json()["error"]["type"]) == (status, "error", kind)


@pytest.mark.parametrize("path", ["/", "/sessions/anything"])
def test_base_url_answers_who_looks_whether_anybody_is_there(proxy: Proxy, path: str) -> None:
    assert proxy.http.head(path).status_code == 200
    assert proxy.http.get("/").status_code == 200


def test_conversation_without_a_session_id_is_known_again(proxy: Proxy) -> None:
    first = post(proxy, None, USER)
    said = {"role": "assistant", "content": first.json()["content"]}
    second = post(proxy, None, [*USER, said, *USER])
    assert second.headers["x-session-id"] == first.headers["x-session-id"]


def test_thinking_that_a_model_cannot_do_is_refused(start_proxy: StartProxy, session: str) -> None:
    plain = start_proxy(ScriptedEngine(lambda _ids, _sampling: encode("Hi<|im_end|>")), "chatml")
    refused = post(plain, session, USER, thinking={"type": "enabled", "budget_tokens": 1024})
    assert (refused.status_code, refused.json()["error"]["details"]["param"]) == (400, "thinking")
    assert ask(plain, session, USER, thinking={"type": "adaptive"})["content"] == [TEXT]
    assert ask(plain, session, USER, thinking={"type": "disabled"}, top_k=5)["content"] == [TEXT]


def test_choice_that_cannot_be_enforced_is_refused(proxy: Proxy, session: str) -> None:
    refused = post(proxy, session, USER, tools=[LOOK_UP], tool_choice={"type": "any"})
    assert (refused.status_code, refused.json()["error"]["type"]) == (400, "invalid_request_error")
