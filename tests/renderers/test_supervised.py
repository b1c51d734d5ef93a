"""Loss weights: what the model would have sampled is trained, what its prompt would have held is not."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.renderers.conversations import conversations_for
from tests.renderers.strategies import (
    assistant,
    call,
    system,
    tool,
    tool_result,
    user,
)
from tests.renderers.subjects import FAMILY, INSTRUCT, QWEN3, QWEN3_SILENT, QWEN25, SMOLLM2, THINKING, Subject
from tickertape.renderers.errors import RenderError
from tickertape.renderers.renderer import Renderer
from tickertape.renderers.supervised import TrainOn

_TOOL = tool("f", "does", {"x": {"type": "integer"}})
_TALK = [
    system("Be brief."),
    user("First?"),
    assistant("One."),
    user("Second?"),
    assistant("I look.", call("f", {"x": 1})),
    tool_result("two"),
    assistant("Two."),
]
_CALLED = 'I look.\n<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call><|im_end|>'


def _trained(subject: Subject, renderer: Renderer, messages: list[Any], **options: Any) -> str:
    """The text of the tokens that weigh 1."""
    ids, weights = renderer.build_supervised_example(messages, **options)
    assert len(ids) == len(weights)
    assert set(weights) <= {0.0, 1.0}
    return subject.tokenizer.decode(i for i, weight in zip(ids, weights, strict=True) if weight)


@pytest.mark.parametrize(
    ("train_on", "expected"),
    [
        (TrainOn.LAST_ASSISTANT_MESSAGE, "Two.<|im_end|>"),
        (TrainOn.ALL_ASSISTANT_MESSAGES, f"One.<|im_end|>{_CALLED}Two.<|im_end|>"),
        (TrainOn.LAST_TURN, f"{_CALLED}Two.<|im_end|>"),
        (TrainOn.ALL_MESSAGES, f"Be brief.First?One.<|im_end|>Second?{_CALLED}twoTwo.<|im_end|>"),
    ],
)
@pytest.mark.parametrize("subject", [INSTRUCT, QWEN25], indirect=True)
def test_each_choice_trains_its_messages_and_nothing_else(
    subject: Subject, renderer: Renderer, train_on: TrainOn, expected: str
) -> None:
    assert _trained(subject, renderer, _TALK, train_on=train_on) == expected


@pytest.mark.parametrize("subject", [INSTRUCT, QWEN25], indirect=True)
def test_a_flag_for_each_message_trains_those_that_are_set(subject: Subject, renderer: Renderer) -> None:
    flags = [False, True, True, False, False, False, True]
    assert _trained(subject, renderer, _TALK, train_on=flags) == "First?One.<|im_end|>Two.<|im_end|>"


@pytest.mark.parametrize("flags", [[True], [], "last_turn_of_all"])
def test_flags_that_do_not_fit_the_messages_are_refused(subject: Subject, renderer: Renderer, flags: Any) -> None:
    with pytest.raises(ValueError, match="one flag for each of 3 messages"):
        renderer.build_supervised_example(_TALK[:3], train_on=flags)


def test_all_tokens_means_all(subject: Subject, renderer: Renderer) -> None:
    messages = [system("Be brief."), user("First?"), assistant("One.", reasoning="Hm.")]
    ids, weights = renderer.build_supervised_example(messages, train_on=TrainOn.ALL_TOKENS)
    assert weights == [1.0] * len(ids)
    assert ids == subject.oracle.apply_chat_template(
        messages, chat_template=subject.template, tokenize=True, return_dict=False, **subject.template_options
    )


@pytest.mark.parametrize("train_on", list(TrainOn))
def test_without_an_assistant_message_only_words_can_be_trained(renderer: Renderer, train_on: TrainOn) -> None:
    _, weights = renderer.build_supervised_example([user("q")], train_on=train_on)
    assert any(weights) == (train_on in (TrainOn.ALL_MESSAGES, TrainOn.ALL_TOKENS))


@pytest.mark.parametrize("subject", [INSTRUCT, QWEN25, SMOLLM2], indirect=True)
def test_the_stop_token_is_trained_and_the_separator_is_not(subject: Subject, renderer: Renderer) -> None:
    ids, weights = renderer.build_supervised_example([user("q"), assistant("Fair.")])
    close = subject.tokenizer.control["<|im_end|>"]
    assert ids[-2:] == [close, *subject.tokenizer.encode_text("\n")]
    assert weights[-2:] == [1.0, 0.0]


@pytest.mark.parametrize("subject", [QWEN3], indirect=True)
def test_a_thought_is_trained_with_its_tags(subject: Subject, renderer: Renderer) -> None:
    messages = [user("q"), assistant("Fair.", reasoning="Look.")]
    assert _trained(subject, renderer, messages) == "<think>\nLook.\n</think>\n\nFair.<|im_end|>"


@pytest.mark.parametrize("subject", [QWEN3_SILENT], indirect=True)
def test_the_empty_thought_of_the_prompt_is_not_trained(subject: Subject, renderer: Renderer) -> None:
    assert _trained(subject, renderer, [user("q"), assistant("Fair.")]) == "Fair.<|im_end|>"
    ids, _ = renderer.build_supervised_example([user("q"), assistant("Fair.")])
    assert "<think>\n\n</think>\n\nFair." in subject.tokenizer.decode(ids)


@pytest.mark.parametrize("reasoning", ["Look.", "", " \nLook."])
@pytest.mark.parametrize("subject", [THINKING], indirect=True)
def test_the_opening_tag_of_the_prompt_is_not_trained(subject: Subject, renderer: Renderer, reasoning: str) -> None:
    """Whatever the thought begins with, also where its first character would join the newline behind the tag."""
    trained = _trained(subject, renderer, [user("q"), assistant("Fair.", reasoning=reasoning)])
    assert "<think>" not in trained
    assert trained.endswith("\n</think>\n\nFair.<|im_end|>")


@pytest.mark.parametrize("subject", [QWEN3_SILENT], indirect=True)
def test_an_answer_that_begins_with_white_space_leaves_the_prompt_untrained(
    subject: Subject, renderer: Renderer
) -> None:
    assert "<think>" not in _trained(subject, renderer, [user("q"), assistant(" \nFair.")])


@pytest.mark.parametrize("subject", [INSTRUCT, QWEN25, SMOLLM2], indirect=True)
def test_no_token_reaches_over_the_border_between_prompt_and_answer(subject: Subject, renderer: Renderer) -> None:
    """Content that begins with a newline would share a token with the header, which the model never samples."""
    ids, _ = renderer.build_supervised_example([user("q"), assistant("\n\nFair.")])
    prompt = renderer.build_generation_prompt([user("q")]).token_ids
    assert ids[: len(prompt)] == prompt
    assert _trained(subject, renderer, [user("q"), assistant("\n\nFair.")]) == "\n\nFair.<|im_end|>"


@pytest.mark.parametrize("subject", [QWEN3], indirect=True)
@pytest.mark.parametrize(
    "answer",
    [
        assistant("\nFair. "),
        assistant("Fair.", reasoning="\nLook. "),
        assistant("  "),
        assistant("", call("f", {"x": 1})),
    ],
    ids=["white space", "white space in the thought", "only white space", "only a call"],
)
def test_what_a_template_trims_is_trained_all_the_same(subject: Subject, answer: dict[str, Any]) -> None:
    """Nothing is trained silently as nothing: the template trains what the family trains."""
    family, template = (_trained(subject, renderer, [user("q"), answer]) for renderer in subject.renderers.values())
    assert family.endswith("<|im_end|>")
    assert template == family


@pytest.mark.parametrize("subject", [QWEN3], indirect=True)
def test_words_that_a_template_rewrites_are_refused_and_never_trained_as_nothing(subject: Subject) -> None:
    _family, template = subject.renderers.values()
    with pytest.raises(RenderError, match="rewrites"):
        _trained(subject, template, [user("q"), assistant("<think>\nLook.\n</think>\n\nFair.")])


@given(data=st.data())
def test_weights_fit_and_the_answer_is_what_is_trained(subject: Subject, data: st.DataObject) -> None:
    conversation = data.draw(conversations_for(subject))
    messages = [*conversation.messages, assistant("Fair.")]
    trained = _trained(subject, subject.renderers[FAMILY], messages, tools=conversation.tools)
    assert trained.endswith("Fair.<|im_end|>")
    assert trained.count("<|im_end|>") == 1
    assert "<|im_start|>" not in trained
