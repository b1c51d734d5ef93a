"""A message survives its tokens, and a bridge makes of a conversation what rendering it whole makes of it."""

import json
from dataclasses import replace
from random import Random

import pytest

from tests.renderers.answers import TOOLS, answer, draw_message, offered, sampled
from tests.renderers.conversations import words
from tests.renderers.strategies import slow
from tests.renderers.subjects import Subject, every, first
from tickertape.renderers.messages import Message, ToolCall
from tickertape.renderers.prompt import CallStatus, ParsedResponse


@first
def test_what_was_rendered_is_read_back(subject: Subject) -> None:
    _check_round_trips(subject, seeds=range(10))


@slow
@every
def test_what_was_rendered_is_read_back_thoroughly(subject: Subject, pytestconfig: pytest.Config) -> None:
    _check_round_trips(subject, seeds=range(pytestconfig.getoption("messages")))


def _check_round_trips(subject: Subject, seeds: range) -> None:
    for seed in seeds:
        rng = Random(seed)
        made = answer(subject, draw_message(subject, rng, stripped=bool(seed % 2)))
        parsed = subject.exact.parse_response(made.token_ids, TOOLS)
        assert parsed.complete, seed
        assert not parsed.rest, seed
        if seed % 2:
            assert parsed.content == made.message.content, seed
        assert parsed.content.strip() == made.message.text.strip(), seed
        assert (parsed.reasoning or "") == (made.message.reasoning or ""), seed
        _assert_same_calls(parsed, made.message, seed)


def _assert_same_calls(parsed: ParsedResponse, message: Message, seed: int) -> None:
    assert [call.status for call in parsed.calls] == [CallStatus.OK] * len(message.tool_calls), (seed, parsed.calls)
    assert [call.name for call in parsed.tool_calls] == [call.name for call in message.tool_calls], seed
    for read, wrote in zip(parsed.tool_calls, message.tool_calls, strict=True):
        assert json.loads(read.arguments_json) == json.loads(wrote.arguments_json), seed


@first
def test_a_bridge_is_what_rendering_everything_gives(subject: Subject) -> None:
    _check_conversations(subject, seeds=range(2))


@slow
@every
def test_a_bridge_is_what_rendering_everything_gives_thoroughly(subject: Subject, pytestconfig: pytest.Config) -> None:
    _check_conversations(subject, seeds=range(pytestconfig.getoption("messages") // 5))


def _check_conversations(subject: Subject, seeds: range) -> None:
    for seed in seeds:
        rng, renderer, tools = Random(seed), subject.exact, offered(subject)
        messages = [Message("user", words(subject, rng))]
        if subject.limits.system != "nowhere" and rng.random() < 0.5:
            messages.insert(0, Message("system", words(subject, rng)))
        prompt = renderer.build_generation_prompt(messages, tools).token_ids
        for _ in range(3):
            completion = sampled(renderer, draw_message(subject, rng, messages), messages, tools)
            parsed = renderer.parse_response(completion, TOOLS, prompt_ids=prompt)
            said = _with_ids(subject, parsed.message, len(messages))
            new = _replies(subject, said, rng)
            bridged = renderer.bridge_to_next_turn(prompt, completion, new, tools)
            assert bridged is not None
            assert bridged.token_ids[: len(prompt) + len(completion)] == [*prompt, *completion], seed
            messages += [said, *new]
            prompt = bridged.token_ids
            whole = renderer.build_generation_prompt(messages, tools).token_ids
            assert subject.tokenizer.decode(prompt) == subject.tokenizer.decode(whole), seed
            assert prompt == whole, seed


def _with_ids(subject: Subject, said: Message, number: int) -> Message:
    """The message as a server hands it out: its calls have ids."""

    def with_id(call: ToolCall, k: int) -> ToolCall:
        return call if call.id is not None else replace(call, id=subject.limits.call_id(call.name, 10 * number + k))

    return replace(said, tool_calls=tuple(with_id(call, k) for k, call in enumerate(said.tool_calls)))


def _replies(subject: Subject, said: Message, rng: Random) -> list[Message]:
    if not said.tool_calls:
        return [Message("user", words(subject, rng))]
    return [
        Message("tool", words(subject, rng), tool_call_id=call.id, name=call.name if rng.random() < 0.5 else None)
        for call in said.tool_calls
    ]
