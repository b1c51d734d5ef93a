"""Granite 4: a default system message or none, calls and results in markers of its own."""

import pytest

from tests.renderers.strategies import assistant, call, system, tool, tool_result, user
from tests.renderers.subjects import FAMILY, Subject

_both = pytest.mark.parametrize("subject", ["granite-4.0", "granite-4.1"], indirect=True)

_TOOLS = [tool("look", "Looks.", {"city": {"type": "string"}})]


@_both
@pytest.mark.parametrize("tools", [None, _TOOLS])
@pytest.mark.parametrize("words", [None, "", "Be brief."])
def test_a_system_message_may_be_empty_or_missing(
    subject: Subject, words: str | None, tools: list[dict[str, str]]
) -> None:
    messages = [user("q")] if words is None else [system(words), user("q")]
    prompt = subject.exact.build_generation_prompt(messages, tools)
    assert prompt.token_ids == subject.template_ids(messages, tools)
    has_default = "professional, accurate, and safe" in subject.tokenizer.decode(prompt.token_ids)
    assert has_default == (subject.name == "granite-4.0" and not words and not tools)


@_both
def test_a_call_and_its_result(subject: Subject) -> None:
    written = 'I look.\n<tool_call>\n{"name": "look", "arguments": {"city": "Köln"}}\n</tool_call><|end_of_text|>'
    parsed = subject.exact.parse_response(subject.spell(written), _TOOLS)
    assert parsed.message.content == "I look."
    assert parsed.tool_calls[0].arguments == '{"city": "Köln"}'
    ids, weights = subject.exact.build_supervised_example([user("q"), parsed.message], _TOOLS)
    assert [i for i, weight in zip(ids, weights, strict=True) if weight] == subject.spell(written)
    suffix = subject.exact.bridge_suffix(subject.spell(written), [tool_result("r")])
    assert subject.tokenizer.decode(suffix.token_ids) == (
        "\n<|start_of_role|>user<|end_of_role|>\n<tool_response>\nr\n</tool_response><|end_of_text|>\n"
        "<|start_of_role|>assistant<|end_of_role|>"
    )


@_both
def test_arguments_that_came_as_text_stay_as_they_were_spelled(subject: Subject) -> None:
    messages = [user("q"), assistant("", call("look", '{"city":"Köln"}')), tool_result("r")]
    for renderer in (subject.renderers[FAMILY], subject.exact):
        shown = subject.tokenizer.decode(renderer.build_generation_prompt(messages).token_ids)
        assert '"arguments": {"city":"Köln"}}' in shown
