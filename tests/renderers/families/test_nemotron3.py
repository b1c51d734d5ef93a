"""Nemotron 3: thoughts of earlier exchanges, notes on effort, the newline behind the last call."""

import pytest

from tests.renderers.strategies import assistant, call, tool, tool_result, user
from tests.renderers.subjects import FAMILY, SUBJECTS, Subject
from tickertape.renderers.choose import get_renderer

_nano = pytest.mark.parametrize("subject", ["nemotron-3-nano"], indirect=True)
_both = pytest.mark.parametrize("subject", ["nemotron-3-nano", "nemotron-3-ultra"], indirect=True)

_TOOLS = [
    tool("look", "Looks.", {"on": {"type": "boolean"}, "city": {"type": ["string", "null"]}, "at": {"type": "array"}})
]
_CALL = (
    "<tool_call>\n<function=look>\n<parameter=on>\nTrue\n</parameter>\n<parameter=city>\nNone\n</parameter>\n"
    '<parameter=at>\n["x", null]\n</parameter>\n</function>\n</tool_call>\n'
)


@_both
def test_values_are_written_as_python_has_them_and_read_back(subject: Subject) -> None:
    value = {"on": True, "city": None, "at": ["x", None]}
    ids, weights = subject.exact.build_supervised_example(
        [user("q"), assistant("", call("look", value), reasoning="t")]
    )
    sampled = [i for i, weight in zip(ids, weights, strict=True) if weight]
    assert subject.tokenizer.decode(sampled).endswith(f"</think>\n{_CALL}<|im_end|>")
    parsed = subject.exact.parse_response(sampled, _TOOLS)
    assert parsed.tool_calls[0].arguments_value == value
    assert (parsed.content, parsed.reasoning) == ("", "t")


@_both
def test_calls_in_a_row(subject: Subject) -> None:
    parsed = subject.exact.parse_response(subject.spell(f"t\n</think>\nI look.\n{_CALL}{_CALL}<|im_end|>"), _TOOLS)
    assert [made.status.value for made in parsed.calls] == ["ok", "ok"]
    assert parsed.content.strip() == "I look."


@pytest.mark.parametrize(
    ("name", "written", "reasoning", "content"),
    [
        ("nemotron-3-nano", "t\n</think>\nFair.<|im_end|>", "t", "Fair."),
        ("nemotron-3-nano", "\n</think>\nFair.<|im_end|>", "", "Fair."),
        ("nemotron-3-nano, thinking off", "Fair.<|im_end|>", None, "Fair."),
        ("nemotron-3-ultra", "t\n</think>Fair.<|im_end|>", "t\n", "Fair."),
        ("nemotron-3-ultra", "t</think>\n\nFair.<|im_end|>", "t", "\n\nFair."),
    ],
)
def test_an_answer_is_read_and_written_alike(name: str, written: str, reasoning: str | None, content: str) -> None:
    subject = SUBJECTS[name]
    parsed = subject.exact.parse_response(subject.spell(written))
    assert (parsed.reasoning, parsed.content) == (reasoning, content)
    ids, weights = subject.exact.build_supervised_example([user("q"), parsed.message])
    assert [i for i, weight in zip(ids, weights, strict=True) if weight] == subject.spell(written)


@_nano
def test_thoughts_of_earlier_exchanges_are_left_out_as_the_template_has_it_and_kept_else(subject: Subject) -> None:
    messages = [user("1"), assistant("A", reasoning="t"), user("2")]

    def shown(history: str, **options: bool) -> str:
        renderer = get_renderer("nemotron-3", subject.tokenizer, history=history, **options)
        return subject.tokenizer.decode(renderer.build_generation_prompt(messages).token_ids)

    assert "assistant\n<think></think>\nA<|im_end|>" in shown("template")
    assert "assistant\n<think>\nt\n</think>\nA<|im_end|>" in shown("template", truncate_history_thinking=False)
    assert "assistant\n<think>\nt\n</think>\nA<|im_end|>" in shown("exact")


@pytest.mark.parametrize("subject", ["nemotron-3-super, low effort"], indirect=True)
def test_a_note_on_effort_stays_where_the_model_read_it(subject: Subject) -> None:
    """The template moves it to the last question, which changes what came before."""
    note = "\n\n{reasoning effort: low}<|im_end|>"
    messages = [user("1"), assistant("A", reasoning="t"), user("2")]
    exact = subject.tokenizer.decode(subject.exact.build_generation_prompt(messages).token_ids)
    assert f"1{note}" in exact
    assert f"2{note}" in exact
    template = subject.tokenizer.decode(subject.renderers[FAMILY].build_generation_prompt(messages).token_ids)
    assert f"1{note}" not in template
    assert f"2{note}" in template
    suffix = subject.exact.bridge_suffix(subject.spell("t\n</think>\nA<|im_end|>"), [messages[-1]])
    assert exact.endswith(subject.tokenizer.decode(suffix.token_ids))


@_both
def test_a_result_at_the_beginning_has_a_role(subject: Subject) -> None:
    shown = subject.tokenizer.decode(subject.exact.build_generation_prompt([tool_result("r"), user("q")]).token_ids)
    assert "<|im_start|>user\n<tool_response>\nr\n</tool_response>\n<|im_end|>\n<|im_start|>user\nq" in shown
    assert "<|im_start|>user\n<tool_response>" not in subject.template_text([tool_result("r"), user("q")])


@_nano
def test_a_thought_inside_the_content_is_one(subject: Subject) -> None:
    """As agents send it that know no reasoning field: shown as it is, cut out of earlier exchanges."""
    messages = [user("1"), assistant("<think>\nt\n</think>\nA"), user("2"), assistant("<think>\nu\n</think>\nB")]
    for renderer in (subject.renderers[FAMILY], subject.exact):
        shown = subject.tokenizer.decode(renderer.build_conversation(messages).token_ids)
        assert shown.endswith("assistant\n<think>\nu\n</think>\nB<|im_end|>\n")
        assert ("<think></think>\nA" in shown) == (renderer is subject.renderers[FAMILY])
