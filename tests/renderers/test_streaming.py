"""STREAM: what a completion says is told as early as it is certain, and adds up to the whole, however its ids come."""

import json
from collections.abc import Iterator
from random import Random

import pytest

from tests.renderers.answers import TOOLS, answer
from tests.renderers.mutations import Mutator
from tests.renderers.strategies import slow
from tests.renderers.subjects import SUBJECTS, Subject, each, every, first
from tickertape.renderers.draft import CallDelta, ContentDelta, Delta, ReasoningDelta
from tickertape.renderers.families import FAMILIES
from tickertape.renderers.messages import Message, ToolCall
from tickertape.renderers.prompt import ParsedResponse

#: So many characters may be withheld, beside a tag: the rest of a character, a pad, what may begin a tag.
_WITHHELD = 40
_MULTIBYTE = "👩‍👩‍👧‍👦 𓀀𓀁 漢字 ਸਤਿ 🦙 — naïve"
_PROSE = "is how one writes it, they say, and then the text goes on for a while as if nothing had happened. "


def _chunks(ids: list[int], rng: Random) -> Iterator[list[int]]:
    longest = rng.choice((1, 1, 3, 20))
    while ids:
        size = rng.randint(0, longest)
        yield ids[:size]
        ids = ids[size:]


def _stream(subject: Subject, ids: list[int], rng: Random) -> tuple[list[Delta], ParsedResponse]:
    parser = subject.exact.stream_parser(TOOLS)
    deltas = [delta for chunk in _chunks(ids, rng) for delta in parser.feed(chunk)]
    return [*deltas, *parser.finish()], parser.response()


def _added_up(deltas: list[Delta]) -> tuple[str, str, list[ToolCall]]:
    """Content, reasoning and calls that a client puts together."""
    content, reasoning = "", ""
    calls: list[ToolCall] = []
    for delta in deltas:
        match delta:
            case ContentDelta(text):
                assert text, "no delta is empty"
                content += text
            case ReasoningDelta(text):
                assert text, "no delta is empty"
                reasoning += text
            case CallDelta(index, arguments, str(name), call_id):
                assert index == len(calls), "calls begin in order"
                calls.append(ToolCall(name, arguments, call_id))
            case CallDelta(index, arguments):
                assert index == len(calls) - 1, "one call is open at a time"
                calls[-1] = ToolCall(calls[-1].name, calls[-1].arguments_json + arguments, calls[-1].id)
    return content, reasoning, calls


@first
def test_deltas_of_any_chunking_add_up_to_the_whole_message(subject: Subject) -> None:
    _check_chunkings(subject, seeds=range(10))


@slow
@every
def test_deltas_of_any_chunking_add_up_to_the_whole_message_thoroughly(
    subject: Subject, pytestconfig: pytest.Config
) -> None:
    _check_chunkings(subject, seeds=range(pytestconfig.getoption("messages")))


def _check_chunkings(subject: Subject, seeds: range) -> None:
    mutated = Mutator(subject)
    for seed in seeds:
        ids = mutated(seed)
        whole = subject.exact.parse_response(ids, TOOLS)
        deltas, streamed = _stream(subject, ids, Random(seed))
        assert streamed == whole, seed
        content, reasoning, calls = _added_up(deltas)
        assert (content, reasoning) == (whole.content, whole.reasoning or ""), seed
        assert calls == list(whole.tool_calls), seed


def _fed_singly(subject: Subject, ids: list[int]) -> Iterator[tuple[int, list[Delta]]]:
    """Each token with the deltas that it gave."""
    parser = subject.exact.stream_parser(TOOLS)
    for token in ids:
        yield token, parser.feed([token])


@each
def test_a_character_split_over_tokens_is_never_shown_in_parts(subject: Subject) -> None:
    content = f"{_MULTIBYTE} and again {_MULTIBYTE}."
    ids = answer(subject, Message("assistant", content, _thought(subject))).token_ids
    deltas = [delta for _, given in _fed_singly(subject, ids) for delta in given]
    assert _added_up(deltas)[0] == subject.tokenizer.decode(subject.tokenizer.encode_text(content))
    assert not any("\ufffd" in repr(delta) for delta in deltas)


@each
def test_a_literal_tag_in_prose_does_not_stall(subject: Subject) -> None:
    before, after = _around_content(subject)
    for tag in subject.exact.response_format.tags:
        parser = subject.exact.stream_parser(TOOLS)
        told = _told(parser.feed(before))
        fed = b""
        for token in subject.tokenizer.encode_text(f"This {tag} " + 3 * _PROSE):
            fed += subject.tokenizer.token_bytes(token)
            told += _told(parser.feed([token]))
            withheld = len(fed.decode(errors="ignore")) - told
            assert withheld <= _WITHHELD + len(tag), (tag, fed.decode(errors="ignore"))
        parser.feed(after)
        parser.finish()
        message = parser.response().message
        assert f"{message.text} {message.reasoning}".count(_PROSE.strip()) == 3, tag


def _thought(subject: Subject) -> str | None:
    """Of models whose prompt opens one."""
    return "Hm." if subject.exact.response_format.starts_in_reasoning else None


def _around_content(subject: Subject) -> tuple[list[int], list[int]]:
    """The tokens that a model samples before and behind what it says."""
    ids = answer(subject, Message("assistant", "Hello", _thought(subject))).token_ids
    at = next(k for k, token in enumerate(ids) if subject.tokenizer.decode([token]).strip() == "Hello")
    return ids[:at], ids[at + 1 :]


def _told(deltas: list[Delta]) -> int:
    """How many characters."""
    return sum(len(delta.arguments if isinstance(delta, CallDelta) else delta.text) for delta in deltas)


def _streams_arguments(subject: Subject) -> bool:
    calls = FAMILIES[subject.family].response.tool_calls
    return subject.limits.calls and (calls is None or calls.streams_arguments)


@pytest.mark.parametrize("subject", [name for name, s in SUBJECTS.items() if _streams_arguments(s)], indirect=True)
def test_arguments_are_told_while_they_are_written(subject: Subject) -> None:
    call = ToolCall("look_up", json.dumps({"text": 4 * _PROSE}), subject.limits.call_id("look_up", 0))
    ids = answer(subject, Message("assistant", "", _thought(subject), (call,))).token_ids
    wrote, told = b"", 0
    for token, deltas in _fed_singly(subject, ids):
        wrote += subject.tokenizer.token_bytes(token)
        told += sum(len(delta.arguments) for delta in deltas if isinstance(delta, CallDelta))
        value = wrote.decode(errors="ignore").partition(_PROSE[:8])
        assert told >= min(len(value[1] + value[2]), 4 * len(_PROSE)) - _WITHHELD, wrote
