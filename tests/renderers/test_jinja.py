"""Templates are rendered as ``transformers`` renders them, and as little can be done by them."""

from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from tests.materials import template, template_names
from tickertape.renderers.template.jinja import render_template

_CALL = {"id": "call00000", "type": "function", "function": {"name": "look_up", "arguments": {"city": "Köln & <b>"}}}
_TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "The weather’s “now”.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
_SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
_USER = {"role": "user", "content": "How is the weather?\n"}
_ANSWER = {"role": "assistant", "content": "Fair.", "reasoning_content": "They ask."}
_CALLING = {"role": "assistant", "content": "", "tool_calls": [_CALL], "reasoning_content": "I look."}
_RESULT = {"role": "tool", "tool_call_id": "call00000", "content": "21 °C"}
_CONVERSATIONS: list[tuple[list[dict[str, Any]], list[dict[str, Any]] | None, bool]] = [
    ([_USER], None, True),
    ([{"role": "system", "content": "Be brief."}, _USER, _ANSWER, _USER], None, True),
    ([_USER, _ANSWER], None, False),
    ([_USER, _CALLING, _RESULT], [_TOOL], True),
]


def ours(source: str, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None, prompt: bool) -> str:
    try:
        return render_template(source, messages, tools, add_generation_prompt=prompt, **_SPECIAL)
    except Exception as error:  # noqa: BLE001  (whatever a template meets: both must meet it)
        return f"raised {type(error).__name__}"


def theirs(source: str, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None, prompt: bool) -> str:
    try:
        options = {"chat_template": source, "add_generation_prompt": prompt, **_SPECIAL}
        return str(render_jinja_template([messages], tools, **options)[0][0])
    except Exception as error:  # noqa: BLE001  (see above)
        return f"raised {type(error).__name__}"


@pytest.mark.slow
def test_every_template_writes_what_it_writes_with_transformers() -> None:
    rendered = 0
    for name in template_names():
        for conversation in _CONVERSATIONS:
            expected = theirs(template(name), *conversation)
            assert ours(template(name), *conversation) == expected, name
            rendered += not expected.startswith("raised ")
    assert rendered > 2000


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ dict.__class__.__mro__ }}",
        "{{ namespace.__init__.__globals__ }}",
        "{% set n = namespace(_x=1) %}",
        "{% set n = namespace() %}{% set n._x = 1 %}",
    ],
)
def test_a_template_can_reach_nothing_and_change_nothing(source: str) -> None:
    assert ours(source, [_USER], None, True) == "raised SecurityError"
    assert theirs(source, [_USER], None, True) == "raised SecurityError"


@pytest.mark.parametrize(
    "source",
    [
        "{% for m in messages %}a {% generation %}{{ m.content }}{% endgeneration %}b{% break %}{% endfor %}",
        "{% set n = namespace(self=1, x=[]) %}{% set n.x = dict(a=1) %}{{ n.self }}{{ n.x | tojson(indent=2) }}",
        "{{ dict.fromkeys('ab', 1) }}{{ '<ü>' | tojson }}{{ raise_exception('no') }}",
    ],
)
def test_what_templates_are_given_does_what_it_does_there(source: str) -> None:
    assert ours(source, [_USER], None, True) == theirs(source, [_USER], None, True)
