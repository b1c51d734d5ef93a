"""What is special in SmolLM3: words that switch thinking, today's date, what the template leaves out."""

from datetime import date
from typing import Any

import pytest

from tests.renderers.strategies import assistant, call, system, tool, tool_result, user
from tests.renderers.subjects import FAMILY, SUBJECTS, TODAY, Subject
from tests.renderers.subjects.smollm import SMOLLM3, SMOLLM3_SILENT, SMOLLM3_UNDATED
from tickertape.renderers.choose import choose_renderer, get_renderer
from tickertape.renderers.errors import BridgeRefused
from tickertape.renderers.renderer import Renderer
from tickertape.renderers.tokenizer import Tokenizer

_EACH = pytest.mark.parametrize("subject", [SMOLLM3, SMOLLM3_SILENT, SMOLLM3_UNDATED], indirect=True)
_CLOSED = "<|im_start|>assistant\n<think>\n\n</think>\n"


def _text(renderer: Renderer, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None) -> str:
    return renderer.tokenizer.decode(renderer.build_generation_prompt(messages, tools).token_ids)


@_EACH
@pytest.mark.parametrize(
    "words",
    ["", "Be brief.", "/think", "/no_think", "Be brief. /no_think\n", "/think /no_think", "not/thinking", "x\n\n"],
)
def test_words_of_the_system_message_switch_thinking(subject: Subject, words: str) -> None:
    messages = [system(words), user("q"), assistant("a"), user("/no_think /think")]
    text = _text(subject.renderers[FAMILY], messages)
    assert text == subject.template_text(messages)
    silent = "/no_think" in words or (subject.name == SMOLLM3_SILENT and "/think" not in words)
    assert text.endswith(_CLOSED) == silent
    assert (_CLOSED + "a<|im_end|>" in text) == silent


@pytest.mark.parametrize(
    "words", ["/system_override Be brief.", "Be brief. /system_override /no_think", "/system_override"]
)
def test_a_system_message_can_replace_all_others(words: str) -> None:
    subject = SUBJECTS[SMOLLM3]
    messages, offered = [system(words), user("q")], [tool("f", "d", {})]
    for tools in (None, offered):
        assert _text(subject.renderers[FAMILY], messages, tools) == subject.template_text(messages, tools)


@_EACH
@pytest.mark.parametrize("words", ["/think", "/no_think"])
@pytest.mark.parametrize(
    "completion", ["Fair.<|im_end|>", "<think>\nHm.\n</think>\nFair.<|im_end|>", "\n\nFair.<|im_end|>"]
)
def test_a_bridge_goes_on_as_its_prompt_ended(subject: Subject, words: str, completion: str) -> None:
    asked, new = [system(words), user("q")], [user("r"), assistant("x"), user("y")]
    prompt, sampled = subject.exact.build_generation_prompt(asked).token_ids, subject.spell(completion)
    bridged = subject.exact.bridge_to_next_turn(prompt, sampled, new)
    assert bridged is not None
    text = subject.tokenizer.decode(bridged.token_ids)
    assert text.endswith(_CLOSED if words == "/no_think" else "<|im_start|>assistant\n")
    if not completion.startswith("\n"):  # newlines before an answer are none of it
        said = subject.exact.parse_response(sampled).message
        assert subject.exact.build_generation_prompt([*asked, said, *new]).token_ids == bridged.token_ids


@_EACH
def test_a_bridge_that_does_not_see_its_prompt_is_refused(subject: Subject) -> None:
    with pytest.raises(BridgeRefused, match="how its prompt ends"):
        subject.exact.bridge_suffix(subject.spell("Fair.<|im_end|>"), [user("r")])


@_EACH
def test_a_thought_cut_off_is_closed_with_one_newline(subject: Subject) -> None:
    prompt = subject.exact.build_generation_prompt([user("q")]).token_ids
    bridged = subject.exact.bridge_to_next_turn(prompt, subject.spell("<think>\nHm"), [user("r")])
    assert bridged is not None
    assert "Hm\n</think>\n<|im_end|>\n<|im_start|>user\nr" in subject.tokenizer.decode(bridged.token_ids)


@_EACH
def test_what_the_template_leaves_out_is_in_the_exact_history(subject: Subject) -> None:
    called = assistant("I look.", call("f", {"x": 1}), reasoning="Hm.")
    messages = [user("q"), called, tool_result("r"), system("Be brief.")]
    template = subject.template_text(messages)
    assert "Hm." not in template
    assert "<tool_call>\n" not in template
    assert "Be brief." not in template
    exact = _text(subject.exact, messages)
    thought = "<think>\nHm.\n</think>\nI look.\n"
    assert thought + '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call><|im_end|>\n' in exact
    assert "<|im_start|>user\nr<|im_end|>\n<|im_start|>system\nBe brief.<|im_end|>\n" in exact


def test_the_date_is_that_of_rendering_unless_it_is_given() -> None:
    vocabulary = SUBJECTS[SMOLLM3].tokenizer
    before = date.today()
    text = _text(get_renderer("smollm3", vocabulary), [user("q")])
    days = (before, date.today())  # midnight may have passed
    assert any(f"Today Date: {day:%d %B %Y}\n" in text for day in days)
    given = get_renderer("smollm3", vocabulary, today="1 May 1890")
    assert "Today Date: 1 May 1890\n" in _text(given, [user("q")])


def test_a_chosen_renderer_keeps_the_date_on_which_it_was_chosen() -> None:
    subject = SUBJECTS[SMOLLM3]
    tokenizer = Tokenizer(subject.tokenizer.backend, chat_template=subject.template)
    assert choose_renderer(tokenizer).options["today"] == f"{TODAY:%d %B %Y}"
