"""What is special in Hermes: Python signatures for tools, emptied thoughts, what the templates leave out."""

from typing import Any

import pytest

from tests.renderers.strategies import assistant, call, system, tool, tool_result, user
from tests.renderers.subjects import FAMILY, QWEN3, SUBJECTS, Subject
from tests.renderers.subjects.hermes import HERMES2, HERMES3, HERMES4, HERMES4_KEEPING, HERMES4_LLAMA
from tickertape.renderers.choose import get_renderer
from tickertape.renderers.errors import RenderError
from tickertape.renderers.renderer import Renderer
from tickertape.renderers.tokenizer import Tokenizer

_PRO = pytest.mark.parametrize("subject", [HERMES2, HERMES3], indirect=True)
_HERMES4 = pytest.mark.parametrize("subject", [HERMES4, HERMES4_LLAMA], indirect=True)
_OFFERED = [tool("f", "d", {"x": {"type": "integer"}})]


def _text(renderer: Renderer, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None) -> str:
    return renderer.tokenizer.decode(renderer.build_generation_prompt(messages, tools).token_ids)


@_PRO
@pytest.mark.parametrize(
    ("schema", "name"),
    [
        ({"type": "string"}, "str"),
        ({"type": "number"}, "float"),
        ({"type": ["integer", "boolean"]}, "Union[int,bool]"),
        ({"type": "array", "items": {"type": "string"}}, "list[Union[]]"),
        ({"type": "object"}, "dict"),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "dict[str, str]"),
        ({"type": "object", "additionalProperties": True}, "dict[str, Union[]]"),
        ({"anyOf": [{"type": "string"}]}, "Union[]"),
        ({}, "Union[]"),
    ],
)
def test_types_have_the_templates_python_names(subject: Subject, schema: dict[str, Any], name: str) -> None:
    offered = [tool("f", "d", {"x": schema, "y": {"type": "string", "description": " why "}})]
    text = _text(subject.renderers[FAMILY], [user("q")], offered)
    assert text == subject.template_text([user("q")], offered)
    assert f'"description": "f(x: {name}, y: str) - d\n\n    Args:\n        x({name}):         y(str): why"' in text


@_PRO
def test_a_return_type_is_declared(subject: Subject) -> None:
    offered = [tool("f", "d", {"x": {"type": "integer"}})]
    offered[0]["function"]["return"] = {"type": "string", "description": "what is found"}
    assert _text(subject.renderers[FAMILY], [user("q")], offered) == subject.template_text([user("q")], offered)


@_PRO
@pytest.mark.parametrize("parameters", [None, {}, {"type": "object"}, {"properties": {}}, {"properties": {"x": True}}])
def test_odd_declarations_are_shown_as_the_template_shows_them(subject: Subject, parameters: Any) -> None:
    offered = [{"type": "function", "function": {"name": "f", "description": "d", "parameters": parameters}}]
    assert _text(subject.renderers[FAMILY], [user("q")], offered) == subject.template_text([user("q")], offered)


@_PRO
@pytest.mark.parametrize(
    "function",
    [
        {"name": "f", "parameters": {}},
        {"description": "d", "parameters": {}},
        {"name": "f", "description": "d"},
        {"name": "f", "description": "d", "parameters": {"properties": {"x": {"type": "null"}}}},
        {"name": "f", "description": "d", "parameters": {"properties": {"x": {"type": ["string", "null"]}}}},
    ],
)
def test_what_the_template_cannot_declare_is_refused(subject: Subject, function: dict[str, Any]) -> None:
    with pytest.raises(RenderError, match="this format"):
        subject.exact.build_generation_prompt([user("q")], [function])


@_PRO
def test_words_beside_a_call_that_the_template_leaves_out_are_in_the_exact_history(subject: Subject) -> None:
    messages = [user("q"), assistant("I look.", call("f", {"x": 1})), tool_result("r")]
    assert "I look." not in subject.template_text(messages, _OFFERED)
    assert 'assistant\nI look.\n<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n' in _text(
        subject.exact, messages, _OFFERED
    )


@_PRO
def test_a_result_is_closed_as_the_model_read_it_when_it_was_the_last(subject: Subject) -> None:
    """The template closes it otherwise as soon as something follows."""
    messages = [user("q"), assistant("", call("f", {"x": 1})), tool_result("r"), tool_result("s", 1)]
    read = _text(subject.exact, messages, _OFFERED)
    assert read == subject.template_text(messages, _OFFERED)
    assert read.endswith(
        "<|im_start|>tool\n<tool_response>\nr\n</tool_response>\n<tool_response>\ns\n</tool_response><|im_end|>"
        "<|im_start|>assistant\n"
    )
    followed = [*messages, assistant("Done."), user("Thanks.")]
    assert not subject.template_text(followed, _OFFERED).startswith(read)
    assert _text(subject.renderers[FAMILY], followed, _OFFERED) == subject.template_text(followed, _OFFERED)
    assert _text(subject.exact, followed, _OFFERED).startswith(read + "Done.<|im_end|>\n")


def test_a_vocabulary_without_a_token_that_begins_texts_is_refused() -> None:
    nameless = Tokenizer(SUBJECTS[QWEN3].tokenizer.backend, name="nameless")
    with pytest.raises(RenderError, match="hermes-2-pro needs a bos_token, which nameless"):
        get_renderer("hermes-2-pro", nameless)


@_HERMES4
def test_an_empty_answer_is_closed(subject: Subject) -> None:
    """Deviation: the template opens the turn and never closes it."""
    messages = [user("q"), assistant(""), user("r")]
    llama = "<|start_header_id|>assistant<|end_header_id|>\n\n<|eot_id|>"
    empty = llama if subject.name == HERMES4_LLAMA else "<|im_start|>assistant\n<|im_end|>\n"
    assert empty not in subject.template_text(messages)
    for renderer in (subject.renderers[FAMILY], subject.exact):
        assert empty in _text(renderer, messages)


@_HERMES4
@pytest.mark.parametrize("tools", [None, _OFFERED])
def test_earlier_thoughts_are_shown_empty(subject: Subject, tools: list[dict[str, Any]] | None) -> None:
    messages = [user("q"), assistant("<think>\nHm.\n</think>\n\nFair."), user("r")]
    family = get_renderer(subject.family, subject.tokenizer, history="template", thinking=True)
    expected = subject.oracle.apply_chat_template(
        messages,
        tools=tools,
        chat_template=subject.template,
        add_generation_prompt=True,
        tokenize=False,
        thinking=True,
    )
    assert _text(family, messages, tools) == expected
    assert "<think> </think>\n\nFair." in expected


@pytest.mark.parametrize("subject", [HERMES4, HERMES4_KEEPING, HERMES4_LLAMA], indirect=True)
def test_the_exact_history_keeps_thoughts(subject: Subject) -> None:
    messages = [system("s"), user("q"), assistant("Fair.", reasoning="Hm."), user("r")]
    assert "<think>\nHm.\n</think>\n\nFair." in _text(subject.exact, messages)
    assert "Hm." not in _text(subject.renderers[FAMILY], messages), "the template does not read reasoning_content"
