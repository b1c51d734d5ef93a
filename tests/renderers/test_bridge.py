"""PREFIX: a bridged prompt begins with what the model read and wrote, id for id, whatever that was."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.renderers.strategies import (
    Conversation,
    assistant,
    call,
    completions,
    flush_texts,
    slow,
    system,
    texts,
    thorough,
    tool,
    tool_result,
    user,
    well_ordered,
)
from tests.renderers.subjects import INSTRUCT, QWEN3, QWEN3_SILENT, QWEN25, QWENS, SMOLLM2, THINKING, Subject
from tickertape.renderers.errors import BridgeRefused
from tickertape.renderers.pieces import Kind
from tickertape.renderers.renderer import Renderer

WITHOUT_THOUGHTS = [QWEN3, INSTRUCT, QWEN25, SMOLLM2]
"""Models whose template keeps the prefix as long as nobody thinks."""


@st.composite
def new_messages(draw: st.DrawFn, subject: Subject) -> list[dict[str, object]]:
    """What follows an assistant turn: tool results, a user message, or both."""
    results = draw(st.lists(texts, max_size=3)) if subject.offers_tools else []
    messages = [tool_result(text, number) for number, text in enumerate(results)]
    return [*messages, user(draw(texts))] if not messages or draw(st.booleans()) else messages


def _opening(subject: Subject) -> str:
    """What the model reads before its first token, by its template."""
    return "<|im_start|>assistant" + subject.template_text([user("q")]).rpartition("<|im_start|>assistant")[2]


def _suffix_text(subject: Subject, renderer: Renderer, completion: str) -> str:
    suffix = renderer.bridge_suffix(subject.spell(completion), [user("Go on.")])
    return subject.tokenizer.decode(suffix.token_ids)


def _user_turn(subject: Subject) -> str:
    return "<|im_start|>user\nGo on.<|im_end|>\n" + _opening(subject)


def _assert_prefix(subject: Subject, renderer: Renderer, data: st.DataObject) -> None:
    messages, completion = data.draw(new_messages(subject)), data.draw(completions(subject))
    prompt = renderer.build_generation_prompt([user("q")]).token_ids
    bridged = renderer.bridge_to_next_turn(prompt, completion, messages)
    assert bridged is not None
    read, wrote = len(prompt), len(completion)
    assert bridged.token_ids[: read + wrote] == prompt + completion
    assert len(bridged.token_ids) == len(bridged.messages) == len(bridged.kinds)
    assert bridged.kinds[: read + wrote] == [Kind.SCAFFOLD] * read + [Kind.SAMPLED] * wrote
    assert set(bridged.messages[: read + wrote]) == {-1}
    assert set(bridged.messages[read + wrote :]) <= {-1, *range(len(messages))}
    assert subject.tokenizer.decode(bridged.token_ids).endswith(_opening(subject))


@given(data=st.data())
def test_a_bridge_begins_with_what_was_read_and_written(
    subject: Subject, renderer: Renderer, data: st.DataObject
) -> None:
    _assert_prefix(subject, renderer, data)


@slow
@thorough
@given(data=st.data())
def test_a_bridge_begins_with_what_was_read_and_written_thoroughly(
    subject: Subject, renderer: Renderer, data: st.DataObject
) -> None:
    _assert_prefix(subject, renderer, data)


@given(data=st.data())
def test_a_turn_cut_off_is_closed_exactly_once(subject: Subject, renderer: Renderer, data: st.DataObject) -> None:
    completion = data.draw(completions(subject, stop_tokens=False))
    suffix = renderer.bridge_suffix(completion, [user("Go on.")]).token_ids
    close = subject.tokenizer.control["<|im_end|>"]
    text = subject.tokenizer.decode(suffix)
    assert text in (f"<|im_end|>\n{_user_turn(subject)}", f"\n</think>\n\n<|im_end|>\n{_user_turn(subject)}")
    assert suffix.count(close) == 2, "the assistant's turn and the user's"
    if text.startswith("<|im_end|>"):
        assert [close, *renderer.bridge_suffix([*completion, close], [user("Go on.")]).token_ids] == suffix


@pytest.mark.parametrize(
    ("completion", "close"),
    [
        ("Hello.<|im_end|>", "\n"),
        ("Hello", "<|im_end|>\n"),
        ("", "<|im_end|>\n"),
        ("Hello.<|endoftext|>", "<|im_end|>\n"),
        ("Hello.<|im_end|>\nand on", "<|im_end|>\n"),
        ('<tool_call>\n{"name": "look', "<|im_end|>\n"),
        ("<think>\nDone.\n</think>\n\nHello", "<|im_end|>\n"),
        ("<think>\nDone.</think>again</think>", "<|im_end|>\n"),
    ],
)
@pytest.mark.parametrize("subject", [QWEN3, QWEN3_SILENT], indirect=True)
def test_how_a_turn_ended_decides_what_closes_it(
    subject: Subject, renderer: Renderer, completion: str, close: str
) -> None:
    assert _suffix_text(subject, renderer, completion) == close + _user_turn(subject)


@pytest.mark.parametrize(
    ("subject", "completion"),
    [
        (QWEN3, "<think>\nI should"),
        (QWEN3, "<think>"),
        (QWEN3, "<think>a</think>b<think>c"),
        (QWEN3, '<think>\nperhaps <tool_call>\n{"name": "f"}\n</tool_call>'),
        (THINKING, "I should"),
        (THINKING, ""),
        (THINKING, "a</think>b<think>c"),
    ],
    indirect=["subject"],
)
def test_a_thought_cut_off_is_closed_before_its_turn(subject: Subject, renderer: Renderer, completion: str) -> None:
    close = "\n</think>\n\n<|im_end|>\n"
    assert _suffix_text(subject, renderer, completion) == close + _user_turn(subject)


def test_a_character_cut_in_the_middle_stays_cut(subject: Subject, renderer: Renderer) -> None:
    completion = subject.tokenizer.encode_text("𓀀")[:-1]
    prompt = renderer.build_generation_prompt([user("q")]).token_ids
    bridged = renderer.bridge_to_next_turn(prompt, completion, [user("Go on.")])
    assert bridged is not None
    assert bridged.token_ids[: len(prompt) + len(completion)] == prompt + completion


@st.composite
def turns_taken(draw: st.DrawFn, subject: Subject) -> tuple[Conversation, int, int]:
    """A conversation without thoughts, the index of an assistant message in it, and where the next one would stand."""
    conversation = draw(well_ordered(reasoning=False, calls=subject.offers_tools, contents=flush_texts))
    roles = [message["role"] for message in conversation.messages]
    if "assistant" not in roles:
        conversation.messages[-1:] = [user("q"), assistant(draw(flush_texts)), user(draw(texts))]
        roles = [message["role"] for message in conversation.messages]
    at = draw(st.sampled_from([k for k, role in enumerate(roles) if role == "assistant"]))
    end = next((k for k in range(at + 1, len(roles)) if roles[k] == "assistant"), len(roles))
    return conversation, at, end


def _assert_equals_full_render(
    subject: Subject, renderer: Renderer, conversation: Conversation, at: int, end: int
) -> None:
    """The bridge behind message ``at`` equals the template's rendering of everything before ``end``."""
    messages, tools = conversation.messages, conversation.tools
    read = subject.template_text(messages[:at], tools)
    whole = subject.template_text(messages[:end], tools)
    assert whole.startswith(read), "the template keeps the prefix"
    wrote = whole[len(read) :].partition("<|im_end|>")[0] + "<|im_end|>"
    prompt = renderer.build_generation_prompt(messages[:at], tools).token_ids
    bridged = renderer.bridge_to_next_turn(prompt, subject.spell(wrote), messages[at + 1 : end], tools)
    assert bridged is not None
    assert bridged.token_ids == subject.template_ids(messages[:end], tools)


@pytest.mark.parametrize("subject", WITHOUT_THOUGHTS, indirect=True)
@given(data=st.data())
def test_a_bridge_equals_rendering_everything(subject: Subject, renderer: Renderer, data: st.DataObject) -> None:
    _assert_equals_full_render(subject, renderer, *data.draw(turns_taken(subject)))


@slow
@thorough
@pytest.mark.parametrize("subject", WITHOUT_THOUGHTS, indirect=True)
@given(data=st.data())
def test_a_bridge_equals_rendering_everything_thoroughly(
    subject: Subject, renderer: Renderer, data: st.DataObject
) -> None:
    _assert_equals_full_render(subject, renderer, *data.draw(turns_taken(subject)))


@pytest.mark.parametrize("subject", [QWEN3, THINKING], indirect=True)
def test_a_thought_before_a_call_stays_in_the_running_exchange(subject: Subject, renderer: Renderer) -> None:
    called = assistant("I look.", call("f", {"x": 1}), call("g", {}, 1), reasoning="Which one?")
    offered = [tool("f", "one", {}), tool("g", "the other", {})]
    messages = [system("s"), user("q"), called, tool_result("r"), tool_result("", 1)]
    _assert_equals_full_render(subject, renderer, Conversation(messages, offered), 2, 5)


@pytest.mark.parametrize("subject", QWENS, indirect=True)
@given(data=st.data())
def test_family_and_template_bridge_alike(subject: Subject, data: st.DataObject) -> None:
    messages, completion = data.draw(new_messages(subject)), data.draw(completions(subject))
    family, template = (subject.renderers[kind].bridge_suffix(completion, messages) for kind in ("family", "template"))
    assert family.token_ids == template.token_ids


def test_new_words_belong_to_the_new_messages(subject: Subject, renderer: Renderer) -> None:
    suffix = renderer.bridge_suffix(subject.spell("Hi<|im_end|>"), [user("First words."), user("Second words.")])
    for index, words in enumerate(["First words.", "Second words."]):
        owned = [
            i
            for i, message, kind in zip(suffix.token_ids, suffix.messages, suffix.kinds, strict=True)
            if (message, kind) == (index, Kind.CONTENT)
        ]
        assert subject.tokenizer.decode(owned) == words


def test_without_a_new_message_there_is_nothing_to_bridge_to(renderer: Renderer) -> None:
    assert renderer.bridge_to_next_turn([1], [2], []) is None
    with pytest.raises(BridgeRefused, match="no new message"):
        renderer.bridge_suffix([2], [])


@pytest.mark.parametrize("character", ["\U0010fffd", "\U0010ff00", "\U000f0000", "\U000fe000", "\U00100000", "\ue000"])
def test_private_use_characters_in_a_new_message_are_words(
    subject: Subject, renderer: Renderer, character: str
) -> None:
    suffix = renderer.bridge_suffix(subject.spell("Hi<|im_end|>"), [user(f"before {character} after")])
    expected = f"\n<|im_start|>user\nbefore {character} after<|im_end|>\n{_opening(subject)}"
    assert subject.tokenizer.decode(suffix.token_ids) == expected


def test_private_use_characters_in_a_sampled_call_do_not_break_the_bridge(subject: Subject, renderer: Renderer) -> None:
    written = '<tool_call>\n{"name": "f", "arguments": {"x": "\U000f0000 \U00100000"}}\n</tool_call><|im_end|>'
    assert _suffix_text(subject, renderer, written) == "\n" + _user_turn(subject)
