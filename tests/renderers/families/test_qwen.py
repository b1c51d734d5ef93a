"""What is special in Qwen's families: elements for calls, thoughts that the prompt opens, refusals."""

from typing import Any

import pytest

from tests.renderers.strategies import assistant, call, system, tool, tool_result, user
from tests.renderers.subjects import FAMILY, SUBJECTS, Subject
from tests.renderers.subjects.hermes import HERMES2, HERMES3
from tests.renderers.subjects.qwen import (
    CODER,
    CODER_NEXT,
    QWEN3_SILENT,
    QWEN35,
    QWEN35_SILENT,
    QWEN36,
    QWEN36_PRESERVING,
    THINKING,
    VL_INSTRUCT,
)
from tickertape.renderers.errors import RenderError
from tickertape.renderers.renderer import Renderer

_CODERS = pytest.mark.parametrize("subject", [CODER, CODER_NEXT], indirect=True)
_QWEN35 = pytest.mark.parametrize("subject", [QWEN35, QWEN35_SILENT, QWEN36], indirect=True)


def _text(renderer: Renderer, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None) -> str:
    return renderer.tokenizer.decode(renderer.build_generation_prompt(messages, tools).token_ids)


def _assert_law(
    subject: Subject, written: str, *new: dict[str, Any], tools: list[dict[str, Any]] | None = None
) -> None:
    """Rendering a conversation gives what bridging made of it."""
    asked = [system("s"), user("q")]
    prompt, completion = subject.exact.build_generation_prompt(asked, tools).token_ids, subject.spell(written)
    bridged = subject.exact.bridge_to_next_turn(prompt, completion, new, tools)
    assert bridged is not None
    said = subject.exact.parse_response(completion, tools).message
    assert subject.exact.build_generation_prompt([*asked, said, *new], tools).token_ids == bridged.token_ids


@pytest.mark.parametrize("subject", [CODER, CODER_NEXT, QWEN35, QWEN36, HERMES2, HERMES3], indirect=True)
def test_a_result_that_begins_a_conversation_has_a_turn_of_its_own(subject: Subject) -> None:
    """Deviation: the template would print its words outside any turn."""
    messages, offered = [tool_result("r"), user("q")], [tool("f", "d", {})]
    ours, theirs = _text(subject.renderers[FAMILY], messages, offered), subject.template_text(messages, offered)
    at = theirs.index("<tool_response>\nr")
    assert not theirs[:at].rstrip("\n").endswith(("<|im_start|>user", "<|im_start|>tool"))
    role = "tool" if subject.name in (HERMES2, HERMES3) else "user"
    assert f"<|im_start|>{role}\n<tool_response>\nr" in ours
    assert ours.replace(f"<|im_start|>{role}\n<tool_response>", "<tool_response>").replace("\n", "") == theirs.replace(
        "\n", ""
    )


@pytest.mark.parametrize(
    ("subject", "value", "written"),
    [
        (CODER, True, "True"),
        (CODER, None, "None"),
        (CODER, 0.5, "0.5"),
        (CODER_NEXT, True, "true"),
        (CODER_NEXT, None, "null"),
        (QWEN35, False, "False"),
        (QWEN36, False, "false"),
        (CODER, [True, "é"], '[true, "é"]'),
        (CODER, "True", "True"),
    ],
    indirect=["subject"],
)
def test_how_a_value_is_written(subject: Subject, value: Any, written: str) -> None:
    text = _text(subject.exact, [user("q"), assistant("", call("f", {"x": value})), tool_result("r")])
    assert f"<function=f>\n<parameter=x>\n{written}\n</parameter>\n</function>\n</tool_call><|im_end|>" in text


@_CODERS
@pytest.mark.parametrize(
    "function",
    [
        {"name": "f"},
        {"name": "f", "description": " d \n", "strict": True},
        {"name": "f", "parameters": None},
        {"name": "f", "parameters": {"type": "object"}},
        {
            "name": "f",
            "parameters": {"properties": {"x": True, "y": {}}, "required": [], "additionalProperties": False},
        },
        {
            "name": "f",
            "parameters": {"properties": {"x": {"type": ["string", "null"], "enum": ["a", None], "default": 1}}},
        },
    ],
)
def test_odd_declarations_are_shown_as_the_template_shows_them(subject: Subject, function: dict[str, Any]) -> None:
    for offered in ([{"type": "function", "function": function}], [function]):
        assert _text(subject.renderers[FAMILY], [user("q")], offered) == subject.template_text([user("q")], offered)


@_CODERS
def test_words_beside_a_call_lose_their_white_space(subject: Subject) -> None:
    text = _text(subject.exact, [user("q"), assistant(" \n I look. \n", call("f", {})), tool_result("r")])
    assert "<|im_start|>assistant\nI look.\n\n<tool_call>\n<function=f>\n</function>" in text


@_QWEN35
def test_a_conversation_needs_a_user_message(subject: Subject) -> None:
    only_results = user("<tool_response>r</tool_response>")
    for messages in ([system("s")], [assistant("a")], [only_results]):
        with pytest.raises(RenderError, match="needs a user message"):
            subject.exact.build_generation_prompt(messages)


@_QWEN35
def test_a_later_system_message_is_refused(subject: Subject) -> None:
    with pytest.raises(RenderError, match="only be the first"):
        subject.exact.build_generation_prompt([user("q"), assistant("a"), system("s"), user("r")])
    with pytest.raises(RenderError, match="only be the first"):
        subject.exact.bridge_to_next_turn([1], subject.spell("a<|im_end|>"), [system("s"), user("r")])


@_QWEN35
def test_a_tool_result_is_bridged_without_a_user_message(subject: Subject) -> None:
    closed = "" if subject.name == QWEN35_SILENT else "Hm.\n</think>\n\n"
    called = "I look.\n\n<tool_call>\n<function=f>\n<parameter=x>\n1\n</parameter>\n</function>\n</tool_call><|im_end|>"
    offered = [tool("f", "d", {"x": {"type": "integer"}})]
    _assert_law(subject, closed + called, tool_result("r"), tools=offered)


@pytest.mark.parametrize(
    ("subject", "written"),
    [
        (QWEN35, "\n</think>\n\nAnswer.<|im_end|>"),  # it thought nothing
        (QWEN35, "Hm.\n</think>\n\n<|im_end|>"),  # it said nothing
        (QWEN35_SILENT, "<think>\nHm.\n</think>\n\nAnswer.<|im_end|>"),  # it thought though it was not to
        (QWEN3_SILENT, "<think>\nHm.\n</think>\n\nAnswer.<|im_end|>"),
        (THINKING, "\n</think>\n\nAnswer.<|im_end|>"),
        (CODER, "\n\n Answer.<|im_end|>"),  # its white space would join the prompt's newline
        (CODER, " \nAnswer.<|im_end|>"),
    ],
    indirect=["subject"],
)
def test_a_conversation_renders_to_what_was_sampled(subject: Subject, written: str) -> None:
    _assert_law(subject, written, user("Go on."))


@pytest.mark.parametrize(
    ("subject", "close"), [(QWEN35, "\n</think>\n\n<|im_end|>"), (QWEN35_SILENT, "<|im_end|>")], indirect=["subject"]
)
def test_a_thought_that_the_prompt_opened_is_closed_when_it_is_cut_off(subject: Subject, close: str) -> None:
    suffix = subject.exact.bridge_suffix(subject.spell("Let me"), [user("Go on.")]).token_ids
    assert subject.tokenizer.decode(suffix).startswith(close)


@pytest.mark.parametrize("subject", [QWEN36_PRESERVING, QWEN36], indirect=True)
def test_earlier_thoughts_are_shown_where_they_are_preserved(subject: Subject) -> None:
    messages = [user("q"), assistant("a", reasoning="Hm."), user("r")]
    text = _text(subject.renderers[FAMILY], messages)
    assert text == subject.template_text(messages)
    assert ("Hm." in text) == (subject.name == QWEN36_PRESERVING)


def test_a_later_system_message_that_the_template_leaves_out_is_in_the_exact_history() -> None:
    subject = SUBJECTS[VL_INSTRUCT]
    messages = [user("q"), assistant("a"), system("Be brief."), user("r")]
    assert "Be brief." not in subject.template_text(messages)
    assert _text(subject.renderers[FAMILY], messages) == subject.template_text(messages)
    assert "<|im_start|>system\nBe brief.<|im_end|>\n" in _text(subject.exact, messages)
