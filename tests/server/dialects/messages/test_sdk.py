"""Anthropic's own SDK against the proxy, unmodified."""

from collections.abc import Callable
from typing import Any

import anthropic
import pytest
from anthropic.types import Message

from tests.engines import ScriptedEngine
from tests.server.calls.test_streaming import CALL, encode
from tests.server.conftest import Proxy, StartProxy
from tests.server.dialects.messages.reading_along import LOOK_UP, USER, without_ids
from tests.server.invariants import check_all
from tests.server.turns.test_tool_conversations import Model
from tickertape.clients.engines.errors import EngineUnavailable

SAID = f"<think>\nI look it up.\n</think>\n\nWait.\n{CALL}<|im_end|>"
Ask = Callable[..., Message]


def client_of(proxy: Proxy, session: str, **options: Any) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=f"{proxy.url}/sessions/{session}", api_key="none", max_retries=0, **options)


def whole(client: anthropic.Anthropic, **fields: Any) -> Message:
    message: Message = client.messages.create(**fields)
    return message


def streamed(client: anthropic.Anthropic, **fields: Any) -> Message:
    with client.messages.stream(**fields) as stream:
        return stream.get_final_message()


def asked(proxy: Proxy, **fields: Any) -> dict[str, Any]:
    return {"model": proxy.model, "max_tokens": 500, "messages": USER, "tools": [LOOK_UP], **fields}


@pytest.fixture
def proxy(start_proxy: StartProxy) -> Proxy:
    return start_proxy(ScriptedEngine(lambda _ids, _sampling: encode(SAID)))


def check(message: Message) -> None:
    thought, text, call = message.content
    assert (thought.type, text.type, call.type) == ("thinking", "text", "tool_use")
    assert (thought.thinking, text.text) == ("I look it up.", "Wait.")  # type: ignore[union-attr]
    assert (call.name, call.input) == ("look_up", {"key": "ünï 🦫", "n": [1, 2]})  # type: ignore[union-attr]
    assert (message.stop_reason, message.stop_sequence, message.role) == ("tool_use", None, "assistant")


def test_sync_whole_and_streamed_are_the_same_message(proxy: Proxy, session: str) -> None:
    with client_of(proxy, session) as client:
        first = whole(client, **asked(proxy))
        second = streamed(client, **asked(proxy, system="Be brief."))
    check(first)
    check(second)
    one, other = proxy.tape.turns(session)
    assert one.completion.tolist() == other.completion.tolist()
    assert first.id == f"msg_{one.id}"


async def test_async_whole_and_streamed_are_the_same_message(proxy: Proxy, session: str) -> None:
    async with anthropic.AsyncAnthropic(
        base_url=f"{proxy.url}/sessions/{session}", api_key="none", max_retries=0
    ) as client:
        check(await client.messages.create(**asked(proxy)))
        async with client.messages.stream(**asked(proxy, system="Be brief.")) as stream:
            texts = [text async for text in stream.text_stream]
            check(await stream.get_final_message())
    assert "".join(texts) == "Wait."


def test_streamed_and_whole_agree_field_by_field(proxy: Proxy, session: str) -> None:
    with client_of(proxy, session) as client, client_of(proxy, f"{session}-2") as other:
        answers = whole(client, **asked(proxy)), streamed(other, **asked(proxy))
    first, second = (answer.model_dump(mode="json", exclude_none=True) for answer in answers)
    assert without_ids(first) == without_ids(second)


def test_beta_client_and_raw_response_have_what_they_look_for(proxy: Proxy, session: str) -> None:
    with client_of(proxy, session) as client:
        answer = client.messages.with_raw_response.create(**asked(proxy))
        assert answer.headers["request-id"].startswith("req_")
        assert answer.headers["x-session-id"] == session
        beta = client.beta.messages.create(**asked(proxy), betas=["interleaved-thinking-2025-05-14"])
    assert [block.type for block in beta.content] == ["thinking", "text", "tool_use"]


@pytest.mark.parametrize("key", [{"api_key": "session-{}"}, {"api_key": None, "auth_token": "session-{}"}])
def test_key_names_the_session(proxy: Proxy, session: str, key: dict[str, Any]) -> None:
    given = {name: value and value.format(session) for name, value in key.items()}
    with anthropic.Anthropic(base_url=proxy.url, max_retries=0, **given) as client:
        whole(client, **asked(proxy))
    assert len(proxy.tape.turns(session)) == 1


def test_count_is_that_of_the_prompt(proxy: Proxy, session: str) -> None:
    fields = asked(proxy, system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}])
    with client_of(proxy, session) as client:
        message = whole(client, **fields)
        del fields["max_tokens"]
        assert client.messages.count_tokens(**fields).input_tokens == message.usage.input_tokens
    assert len(proxy.tape.turns(session)) == 1


@pytest.mark.parametrize("renderer", ["qwen3", "template"])
def test_thinking_is_turned_off_and_on(start_proxy: StartProxy, session: str, renderer: str) -> None:
    proxy = start_proxy(engine := ScriptedEngine(lambda _ids, _sampling: encode("Hi<|im_end|>")), renderer)
    configs: list[Any] = [
        anthropic.NOT_GIVEN,
        {"type": "disabled"},
        {"type": "enabled", "budget_tokens": 1024},
        {"type": "adaptive"},
        {"type": "disabled"},
    ]
    with client_of(proxy, session) as client:
        usual, off, on, adaptive, off_again = (
            whole(client, **asked(proxy, metadata={"user_id": str(k)}, thinking=thinking)).usage.input_tokens
            for k, thinking in enumerate(configs)
        )
    assert off == off_again == usual + 4  # an empty thought
    assert on == adaptive == usual
    turns = proxy.tape.turns(session)
    assert [turn.template_options for turn in turns[:2]] == [{}, {"enable_thinking": False}]
    assert len(engine.calls) == 5


@pytest.mark.parametrize("ask", [whole, streamed])
@pytest.mark.parametrize(
    ("fields", "error", "kind"),
    [
        ({"model": "gpt-17"}, anthropic.NotFoundError, "not_found_error"),
        ({"extra_body": {"temperature": 9}}, anthropic.BadRequestError, "invalid_request_error"),
        ({"system": " word" * 5000}, anthropic.BadRequestError, "invalid_request_error"),
    ],
)
def test_errors_are_the_sdks_own(
    proxy: Proxy, session: str, ask: Ask, fields: dict[str, Any], error: type[anthropic.APIStatusError], kind: str
) -> None:
    with client_of(proxy, session) as client, pytest.raises(error) as caught:
        ask(client, **asked(proxy, **fields))
    body: Any = caught.value.body
    assert (body["type"], body["error"]["type"]) == ("error", kind)
    assert caught.value.request_id
    (turn,) = proxy.tape.turns(session)
    assert turn.outcome == "rejected"


def test_failure_midway_is_raised_by_the_sdk(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(ScriptedEngine(lambda _ids, _sampling: [*encode("So far"), EngineUnavailable("it fell over")]))
    with client_of(proxy, session) as client:
        with pytest.raises(anthropic.APIStatusError, match="it fell over"):
            streamed(client, **asked(proxy))
        with pytest.raises(anthropic.InternalServerError):
            whole(client, **asked(proxy, system="Again."))


@pytest.mark.parametrize("ask", [whole, streamed])
@pytest.mark.parametrize("renderer", ["qwen3", "template"])
def test_20_tool_turns_are_one_sample(start_proxy: StartProxy, session: str, ask: Ask, renderer: str) -> None:
    """Thoughts come back with their signatures, and so do calls; the billing header changes with every request."""
    proxy = start_proxy(engine := ScriptedEngine(Model(), max_context=16384), renderer)
    messages: list[Any] = [{"role": "user", "content": "Go 0"}]
    with client_of(proxy, session) as client:
        for number in range(20):
            system = [
                {"type": "text", "text": f"x-anthropic-billing-header: cc_version=2; cch={number:05x};"},
                {"type": "text", "text": "Be exact.", "cache_control": {"type": "ephemeral"}},
            ]
            message = ask(client, **asked(proxy, messages=messages, system=system, thinking={"type": "adaptive"}))
            messages.append({"role": "assistant", "content": message.content})
            results = [
                {"type": "tool_result", "tool_use_id": block.id, "content": [{"type": "text", "text": f"is {number}"}]}
                for block in message.content
                if block.type == "tool_use"
            ]
            assert bool(results) == (message.stop_reason == "tool_use")
            messages.append({"role": "user", "content": results or f"Go {number}"})
    turns = check_all(proxy.tape, session, engine.calls)
    assert [turn.fork_reason for turn in turns] == [None] * 20
    assert [turn.parent_id for turn in turns[1:]] == [turn.id for turn in turns[:-1]]
    (sample,) = proxy.tape.samples(session)
    assert sample.token_ids.tolist().count(encode("</think>")[0]) == 20, "no thought was stripped"
