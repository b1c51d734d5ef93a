"""What is understood of models without a page among the families: thoughts, calls, stops; what is said of it."""

import json
from typing import Any

import pytest

from tests.materials.templates import template
from tests.renderers.strategies import tool
from tickertape.renderers.audit import audit
from tickertape.renderers.bare_template_tokenizer import tokenizer_for_template
from tickertape.renderers.template.renderer import TemplateRenderer

_TOOLS = [
    tool("get_weather", "", {"city": {"type": "string"}, "days": {"type": "integer"}, "all": {"type": "boolean"}}),
    tool("write", "", {"items": {"type": "array"}, "spec": {"type": "object"}}),
]
_CITY = {"city": "Rome", "days": 2}
_LLAMA4 = "trl-internal-testing-tiny-Llama4ForCausalLM"
_ROME = '{"name": "get_weather", "%s": {"city": "Rome", "days": 2}}'
_COMMAND = '[\n    {"tool_call_id": "0", "tool_name": "get_weather", "parameters": {"city": "Rome", "days": 2}}\n]'
_HY3 = (
    "<tool_calls:opensource>\n<tool_call:opensource>get_weather<tool_sep:opensource>\n<arg_key:opensource>city"
    "</arg_key:opensource>\n<arg_value:opensource>Rome</arg_value:opensource>\n<arg_key:opensource>days"
    "</arg_key:opensource>\n<arg_value:opensource>2</arg_value:opensource>\n</tool_call:opensource>\n"
    "</tool_calls:opensource>"
)
_NS = "]<]minimax[>["
_M3 = (
    f'{_NS}<tool_call>\n{_NS}<invoke name="get_weather">{_NS}<city>Rome{_NS}</city>{_NS}<days>2{_NS}</days>'
    f"{_NS}</invoke>\n{_NS}</tool_call>"
)

#: Template, what a model writes up to its stop token, reasoning, stop token.
_WRITTEN = [
    (_LLAMA4, f"<|python_start|><|python_end|>{_ROME % 'parameters'}", None, "<|eot|>"),
    (_LLAMA4, '[get_weather(city="Rome", days=2)]', None, "<|eot|>"),
    (_LLAMA4, '<|python_start|>[get_weather(city="Rome", days=2)]<|python_end|>', None, "<|eot|>"),
    ("allenai-Olmo-3-7B-Instruct", '<function_calls>get_weather(city="Rome", days=2)</function_calls>', None, "</s>"),
    (
        "allenai-olmo-3.2-tokenizer-think-release",
        'I ask.</think><function_calls>get_weather(city="Rome", days=2)</function_calls>',
        "I ask.",
        "</s>",
    ),
    (
        "CohereForAI-c4ai-command-r7b-12-2024-tool_use",
        f"<|START_THINKING|>I ask.<|END_THINKING|><|START_ACTION|>{_COMMAND}<|END_ACTION|>",
        "I ask.",
        "<|END_OF_TURN_TOKEN|>",
    ),
    (
        "CohereLabs-command-a-plus-05-2026-w4a4",
        f"I ask.<|END_THINKING|><|START_ACTION|>{_COMMAND}<|END_ACTION|>",
        "I ask.",
        "<|END_OF_TURN_TOKEN|>",
    ),
    ("tencent-Hy3", f"<think:opensource>I ask.</think:opensource>{_HY3}", "I ask.", "<｜hy_eos:opensource｜>"),
    (
        "tencent-Hy3-preview",
        f"<think>I ask.</think>{_HY3.replace(':opensource', '')}",
        "I ask.",
        "<｜hy_eos｜>",
    ),
    ("MiniMaxAI-MiniMax-M3-MXFP8", f"<mm:think>I ask.</mm:think>{_M3}", "I ask.", "[e~["),
    ("MiniMaxAI-MiniMax-M3-MXFP8", f"</mm:think>{_M3}", None, "[e~["),
    (
        "NVIDIA-Nemotron-Nano-v2",
        f"I ask.\n</think>\n\n<TOOLCALL>[{_ROME % 'arguments'}]</TOOLCALL>",
        "I ask.",
        "<SPECIAL_12>",
    ),
    (
        "ibm-granite-granite-3.3-2B-Instruct",
        f"<think>I ask.</think><|tool_call|>[{_ROME % 'arguments'}]",
        "I ask.",
        "<|end_of_text|>",
    ),
    ("Salesforce-Llama-xLAM-2-8b-fc-r", f"[{_ROME % 'arguments'}]", None, "<|eot_id|>"),
    (
        "internlm-Intern-S1-mini",
        f"I ask.</think>\n<|action_start|><|plugin|>\n{_ROME % 'parameters'}\n<|action_end|>",
        "I ask.",
        "<|im_end|>",
    ),
]


def _driven(name: str) -> TemplateRenderer:
    return TemplateRenderer(tokenizer_for_template(template(name), name))


@pytest.mark.parametrize(
    ("name", "written", "thought", "stop"), _WRITTEN, ids=[f"{w[0]}-{k}" for k, w in enumerate(_WRITTEN)]
)
def test_what_models_write_is_read(name: str, written: str, thought: str | None, stop: str) -> None:
    renderer = _driven(name)
    ids = renderer.tokenizer.encode_like_model(written + stop)
    parsed = renderer.parse_response(ids, _TOOLS)
    assert [(c.status.value, c.call and (c.call.name, json.loads(c.call.arguments_json))) for c in parsed.calls] == [
        ("ok", ("get_weather", _CITY))
    ]
    assert (parsed.reasoning, parsed.content, parsed.complete, parsed.rest) == (thought, "", True, ())
    parser = renderer.stream_parser(_TOOLS)
    for i in ids:
        parser.feed([i])
    parser.finish()
    assert parser.response() == parsed


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("CohereForAI-c4ai-command-r7b-12-2024-tool_use", "<|START_RESPONSE|>Fair.<|END_RESPONSE|>"),
        ("CohereLabs-command-a-plus-05-2026-w4a4", "t<|END_THINKING|><|START_TEXT|>Fair.<|END_TEXT|>"),
        ("MiniMaxAI-MiniMax-M3-MXFP8", "</mm:think>Fair."),
        ("Salesforce-Llama-xLAM-2-8b-fc-r", "Fair."),
        (_LLAMA4, "Fair."),
    ],
)
def test_tags_around_an_answer_say_nothing(name: str, written: str) -> None:
    renderer = _driven(name)
    assert renderer.parse_response(renderer.tokenizer.encode_like_model(written), _TOOLS).content == "Fair."


def test_a_list_that_holds_no_calls_is_an_answer() -> None:
    renderer = _driven("Salesforce-Llama-xLAM-2-8b-fc-r")
    parsed = renderer.parse_response(renderer.tokenizer.encode_like_model('[{"city": "Rome"}]'), _TOOLS)
    assert (parsed.content, parsed.calls) == ('[{"city": "Rome"}]', ())


@pytest.mark.parametrize(
    ("body", "status", "arguments"),
    [
        (
            f"{_NS}<items>{_NS}<item>1{_NS}</item>{_NS}<item>two{_NS}</item>{_NS}</items>"
            f"{_NS}<spec>{_NS}<a>{_NS}<b>true{_NS}</b>{_NS}</a>{_NS}</spec>",
            "ok",
            {"items": [1, "two"], "spec": {"a": {"b": True}}},
        ),
        ("", "ok", {}),
        (f"{_NS}<items>[1]", "malformed", {"items": [1]}),
        (f"stray{_NS}<items>[1]{_NS}</items>", "malformed", {"items": [1]}),
    ],
)
def test_nested_elements_are_objects_and_lists(body: str, status: str, arguments: Any) -> None:
    renderer = _driven("MiniMaxAI-MiniMax-M3-MXFP8")
    written = f'</mm:think>{_NS}<tool_call>\n{_NS}<invoke name="write">{body}{_NS}</invoke>\n{_NS}</tool_call>[e~['
    parsed = renderer.parse_response(renderer.tokenizer.encode_like_model(written), _TOOLS)
    assert [(c.status.value, json.loads(c.call.arguments_json)) for c in parsed.calls if c.call] == [
        (status, arguments)
    ]


_NONE = "not found: the template shows none"


@pytest.mark.parametrize(
    ("name", "thoughts", "calls", "stops"),
    [
        (_LLAMA4, _NONE, "behind <|python_start|> or <|python_end|> (the template prints a call", "<|eot|> (it closes"),
        ("allenai-Olmo-3-7B-Instruct", _NONE, "behind <function_calls> (the template prints", "</s>"),
        (
            "allenai-Olmo-3-7B-Think",
            "between <think> … </think>, opened by the prompt (the prompt opens",
            _NONE,
            "</s>",
        ),
        (
            "CohereForAI-c4ai-command-r7b-12-2024-tool_use",
            "between <|START_THINKING|> … <|END_THINKING|> (the template prints an empty",
            "behind <|START_ACTION|>",
            "<|END_OF_TURN_TOKEN|> (it closes",
        ),
        (
            "CohereLabs-command-a-plus-05-2026-w4a4",
            "between <|START_THINKING|> … <|END_THINKING|>, opened by the prompt (the template prints a thought)",
            "behind <|START_ACTION|>",
            "<|END_OF_TURN_TOKEN|> (it closes",
        ),
        ("tencent-Hunyuan-A13B-Instruct", _NONE, _NONE, "<|eos|> (it closes"),
        (
            "tencent-Hy3",
            "between <think:opensource>",
            "behind <tool_calls:opensource>",
            "<｜hy_eos:opensource｜> (it closes",
        ),
        ("MiniMaxAI-MiniMax-M3-MXFP8", "between <mm:think>", "behind ]<]minimax[>[<tool_call>", "[e~[ (it closes"),
        (
            "NVIDIA-Nemotron-Nano-v2",
            "between <think> … </think>, opened by",
            "behind <TOOLCALL>",
            "<SPECIAL_12> (it closes",
        ),
        (
            "ibm-granite-granite-3.3-2B-Instruct",
            "between <think> … </think> (the template spells",
            "behind <|tool_call|> (the template tells the model",
            "<|end_of_text|> (it closes",
        ),
        (
            "Salesforce-Llama-xLAM-2-8b-fc-r",
            _NONE,
            "at the start of the answer, without a tag",
            "<|eot_id|> (it closes",
        ),
        ("internlm-Intern-S1-mini", "between <think>", "behind <|action_start|><|plugin|>", "<|im_end|> (it closes"),
        ("baidu-ERNIE-4.5-21B-A3B-Base-PT", _NONE, _NONE, "<|end_of_sentence|> (it closes"),
        (
            "CohereForAI-c4ai-command-r-plus-tool_use",
            _NONE,
            _NONE,
            "<|END_OF_TURN_TOKEN|> (it closes",
        ),
    ],
)
def test_an_audit_says_what_was_understood(name: str, thoughts: str, calls: str, stops: str) -> None:
    understood = audit(tokenizer_for_template(template(name), name)).understood
    assert understood.thoughts.startswith(thoughts)
    assert understood.calls.startswith(calls)
    assert understood.stops.startswith(stops)
