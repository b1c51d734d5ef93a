"""Sampled ids back into a message: what was rendered is read back, nothing that a model writes raises or is lost."""

import gc
import json
import random
import re
import time
import unicodedata
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.renderers.strategies import (
    TAGS,
    arguments,
    as_json,
    assistant,
    call,
    completions,
    identifiers,
    slow,
    texts,
    user,
)
from tests.renderers.subjects import FAMILY, INSTRUCT, QWEN3, QWENS, SUBJECTS, THINKING, Subject
from tickertape.renderers.messages import Message, as_messages
from tickertape.renderers.prompt import ParsedResponse
from tickertape.renderers.renderer import Renderer


def _parse(subject: Subject, renderer: Renderer, written: str) -> ParsedResponse:
    return renderer.parse_response(subject.spell(written))


def _sampled(renderer: Renderer, message: Message) -> list[int]:
    """What a model would have sampled to say ``message``."""
    ids, weights = renderer.build_supervised_example([user("q"), message])
    return [i for i, weight in zip(ids, weights, strict=True) if weight]


#: Words as they come back: tokenizers normalise, and newlines next to a tag are the format's.
_words = texts.map(lambda text: unicodedata.normalize("NFC", text).strip("\n"))
_thoughts = _words.map(str.strip).filter(bool)


@st.composite
def _answers(draw: st.DrawFn, *, thinks: bool) -> Message:
    """An assistant message whose arguments are JSON text, as a client sends them."""
    names = draw(st.lists(identifiers, max_size=3))
    calls = [call(name, unicodedata.normalize("NFC", as_json(draw(arguments)))) for name in names]
    thought = draw(_thoughts) if thinks else None
    return as_messages([assistant(draw(_words), *calls, reasoning=thought)])[0]


@given(data=st.data())
def test_what_was_rendered_is_read_back(subject: Subject, data: st.DataObject) -> None:
    family = subject.renderers[FAMILY]
    thinks = family.response_format.reasoning is not None
    message = data.draw(_answers(thinks=thinks))
    parsed = family.parse_response(_sampled(family, message))
    assert parsed.complete
    assert parsed.content == message.content
    assert (parsed.reasoning or "") == (message.reasoning or "")
    assert [made.name for made in parsed.tool_calls] == [made.name for made in message.tool_calls]
    for read, wrote in zip(parsed.tool_calls, message.tool_calls, strict=True):
        assert json.loads(read.arguments_json) == json.loads(wrote.arguments_json)


@pytest.mark.parametrize("subject", [QWEN3, INSTRUCT, THINKING], indirect=True)
@given(data=st.data())
def test_arguments_are_read_back_as_they_were_spelled(subject: Subject, data: st.DataObject) -> None:
    family = subject.renderers[FAMILY]
    spelled = unicodedata.normalize("NFC", json.dumps(data.draw(arguments), indent=data.draw(st.none() | st.just(1))))
    message = as_messages([assistant("", call("f", spelled), reasoning="t")])[0]
    (made,) = family.parse_response(_sampled(family, message)).tool_calls
    assert made.arguments == spelled


def _letters(text: str) -> Counter[str]:
    """The characters of a text without white space and tags, which parsing may move or take as structure."""
    return Counter(re.sub("|".join(map(re.escape, TAGS)) + r"|\s", "", text))


def _assert_nothing_lost(subject: Subject, renderer: Renderer, token_ids: list[int]) -> None:
    parsed = renderer.parse_response(token_ids)
    stop = next((k for k, i in enumerate(token_ids) if i in renderer.get_stop_sequences()), len(token_ids))
    assert parsed.complete == (stop < len(token_ids))
    assert list(parsed.rest) == token_ids[stop + 1 :]
    readable = [made.raw for made in parsed.calls if made.call is not None]
    unreadable = [made.raw for made in parsed.calls if made.call is None]
    assert len(parsed.tool_calls) == len(readable)
    assert all(raw.strip() in parsed.content for raw in unreadable), "but for the newlines between calls"
    said = "".join([parsed.reasoning or "", parsed.content, *readable])
    assert _letters(said) == _letters(subject.tokenizer.decode(token_ids[:stop]))


@settings(max_examples=150)
@given(data=st.data())
def test_nothing_that_a_model_writes_is_lost(subject: Subject, renderer: Renderer, data: st.DataObject) -> None:
    _assert_nothing_lost(subject, renderer, data.draw(completions(subject)))


@pytest.mark.parametrize("seed", range(4))
def test_noise_never_raises(subject: Subject, renderer: Renderer, seed: int) -> None:
    """600 completions, half of the tokens tags, quotes and braces."""
    chance = random.Random(seed)
    tokenizer = subject.tokenizer
    structure = [i for text in (*TAGS, '{"name": "f"', ', "arguments": {', "}}", "\n") for i in subject.spell(text)]
    for _ in range(600):
        length = chance.randrange(40)
        picks = (
            chance.choice(structure) if chance.random() < 0.5 else chance.randrange(tokenizer.vocab_size)
            for _ in range(length)
        )
        _assert_nothing_lost(subject, renderer, list(picks))


def test_an_id_outside_the_vocabulary_says_nothing(subject: Subject, renderer: Renderer) -> None:
    beyond = subject.tokenizer.vocab_size + 5
    parsed = renderer.parse_response([beyond, *subject.spell("Hi"), beyond])
    assert (parsed.content + (parsed.reasoning or ""), parsed.complete) == ("Hi", False)


@slow
@pytest.mark.parametrize("head", ["", "<think>"])
@pytest.mark.parametrize("name", ["llama3.1", "qwen3", "mistral-v3"])
@pytest.mark.parametrize(
    "written",
    ['{"name": "f", "parameters": {}}; ', '{"name": "f", "arguments": {"a": [{}]}}, ', "<tool_call>", "[f(a=b)]"],
)
def test_a_long_completion_in_one_piece_costs_no_more_than_its_length(name: str, written: str, head: str) -> None:
    subject = SUBJECTS[name]
    piece = subject.spell(written)

    def seconds(n: int) -> float:
        ids = [*subject.spell(head), *piece * (n // len(piece))]
        began = time.thread_time()
        subject.exact.parse_response(ids)
        return time.thread_time() - began

    seconds(500)
    gc.freeze()  # as a server does: vocabularies of other tests would be looked through meanwhile
    assert seconds(32_000) < 40 * max(seconds(4000), 0.005)  # its square would be 64 times


def test_an_empty_completion_is_an_empty_unfinished_message(renderer: Renderer) -> None:
    parsed = renderer.parse_response([])
    assert (parsed.content, parsed.tool_calls, parsed.complete, parsed.stop_token) == ("", (), False, None)


@pytest.mark.parametrize("token", ["<|im_end|>", "<|endoftext|>"])
@pytest.mark.parametrize("subject", QWENS, indirect=True)
def test_either_stop_token_completes_and_the_rest_is_kept(subject: Subject, renderer: Renderer, token: str) -> None:
    parsed = _parse(subject, renderer, f"</think>Hi{token}\nmore")
    assert parsed.complete
    assert parsed.stop_token == subject.tokenizer.control[token]
    assert list(parsed.rest) == subject.spell("\nmore")
    assert parsed.content.endswith("Hi")


def test_a_character_spread_over_tokens_is_one_character(subject: Subject, renderer: Renderer) -> None:
    characters = "👩‍👩‍👧‍👦 𓀀 漢字 ਸਤਿ"
    assert len(subject.tokenizer.encode_text("𓀀")) > 1
    parsed = renderer.parse_response(subject.tokenizer.encode_text(characters))
    assert parsed.content + (parsed.reasoning or "") == characters


def test_a_character_cut_in_the_middle_shows_as_replaced(subject: Subject, renderer: Renderer) -> None:
    parsed = renderer.parse_response(subject.tokenizer.encode_text("a𓀀")[:-1])
    assert (parsed.content + (parsed.reasoning or "")).startswith("a\ufffd")


@pytest.mark.parametrize(
    ("written", "reasoning", "content"),
    [
        ("<think>\nHm.\n</think>\n\nHello", "Hm.", "Hello"),
        ("<think>\n\n</think>\n\nHello", "", "Hello"),
        ("Hello", None, "Hello"),
        ("\n  Hello \n", None, "\n  Hello \n"),
        ("<think>Hm", "Hm", ""),
        ("<think>a</think>b</think>c", "a", "b</think>c"),
        ("<think>a<think>b</think>c", "a<think>b", "c"),
        ("b</think>c", None, "b</think>c"),
        ("Hello <think>late</think>world", "late", "Hello world"),
    ],
)
@pytest.mark.parametrize("subject", [QWEN3], indirect=True)
def test_reasoning_is_what_stands_between_its_tags(
    subject: Subject, renderer: Renderer, written: str, reasoning: str | None, content: str
) -> None:
    parsed = _parse(subject, renderer, written)
    assert (parsed.reasoning, parsed.content) == (reasoning, content)


@pytest.mark.parametrize(
    ("written", "reasoning", "content"),
    [
        ("Hm.\n</think>\n\nHello", "Hm.", "Hello"),
        ("Hm", "Hm", ""),
        ("", "", ""),
        ("<think>\nHm.</think>Hello", "<think>\nHm.", "Hello"),
        ("a</think>b</think>c", "a", "b</think>c"),
    ],
)
@pytest.mark.parametrize("subject", [THINKING], indirect=True)
def test_a_thought_that_the_prompt_opened_ends_at_its_close(
    subject: Subject, renderer: Renderer, written: str, reasoning: str, content: str
) -> None:
    parsed = _parse(subject, renderer, written)
    assert (parsed.reasoning, parsed.content) == (reasoning, content)


@pytest.mark.parametrize("subject", [QWEN3], indirect=True)
def test_a_tag_spelled_in_ordinary_tokens_is_prose(subject: Subject, renderer: Renderer) -> None:
    text = '<think>Write <tool_call>\n{"name": "f"}\n</tool_call> to call f.</think>'
    parsed = renderer.parse_response(subject.tokenizer.encode_text(text))
    assert (parsed.content, parsed.reasoning, parsed.calls) == (text, None, ())


@pytest.mark.parametrize("subject", [QWEN3], indirect=True)
def test_a_draft_call_in_a_thought_stays_a_thought(subject: Subject, renderer: Renderer) -> None:
    draft = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
    parsed = _parse(subject, renderer, f"<think>\nPerhaps {draft}?\n</think>\n\nNo.<|im_end|>")
    assert (parsed.reasoning, parsed.content, parsed.calls) == (f"Perhaps {draft}?", "No.", ())
