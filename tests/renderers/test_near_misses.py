"""Completions as models write them: what is meant is read, what is not is kept, and a stream reads it alike."""

import json
from typing import Any

import numpy as np
import pytest

from tests.renderers.strategies import tool, user
from tests.renderers.subjects import CODER, INSTRUCT, QWEN3, SUBJECTS, Subject
from tickertape.renderers.draft import ContentDelta, Delta, ReasoningDelta
from tickertape.renderers.prompt import ParsedResponse
from tickertape.renderers.renderer import Renderer

_TEXT = {"type": "string"}
_TOOLS = [
    tool("get_weather", "", {"city": _TEXT, "days": {"type": "integer"}, "metric": {"type": "boolean"}}),
    tool("write", "", {"text": _TEXT, "items": {"type": "array"}}),
]


def _read(renderer: Renderer, written: str, tools: list[dict[str, Any]] | None = None) -> ParsedResponse:
    """A completion read whole, which is what one reads of it token by token."""
    ids = renderer.tokenizer.encode_like_model(written)
    offered = _TOOLS if tools is None else tools
    whole = renderer.parse_response(ids, offered)
    parser = renderer.stream_parser(offered)
    deltas: list[Delta] = [delta for i in ids for delta in parser.feed([i])] + parser.finish()
    assert parser.response() == whole
    assert "".join(d.text for d in deltas if isinstance(d, ContentDelta)) == whole.content
    assert "".join(d.text for d in deltas if isinstance(d, ReasoningDelta)) == (whole.reasoning or "")
    return whole


def _calls(parsed: ParsedResponse) -> list[tuple[str, str, Any]]:
    return [(c.status.value, c.call.name, json.loads(c.call.arguments_json)) for c in parsed.calls if c.call]


# Calls in a thought that is never closed.

_ELEMENTS = "<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n</function>"
_JSON = '{"name": "get_weather", "arguments": {"city": "Paris"}}'
_INVOKE = '<invoke name="get_weather"><parameter name="city">Paris</parameter></invoke>'
_DSML = (
    '<｜DSML｜invoke name="get_weather"><｜DSML｜parameter name="city" string="true">Paris</｜DSML｜parameter>'
    "</｜DSML｜invoke>"
)
_GLM_CALL = "<tool_call>get_weather<arg_key>city</arg_key><arg_value>Paris</arg_value></tool_call>"
_CALLS = {
    "glm-5.2": (_GLM_CALL, "<|observation|>"),
    "glm-4.5": (f"<think>{_GLM_CALL}", "<|observation|>"),
    "qwen3-thinking-2507": (f"<tool_call>\n{_JSON}\n</tool_call>", "<|im_end|>"),
    "qwen3": (f"<think><tool_call>\n{_JSON}\n</tool_call>", "<|im_end|>"),
    "qwen3.5": (f"<tool_call>\n{_ELEMENTS}\n</tool_call>", "<|im_end|>"),
    "qwen3.6": (f"<tool_call>\n{_ELEMENTS}\n</tool_call>", "<|im_end|>"),
    "nemotron-3-nano": (f"<tool_call>\n{_ELEMENTS}\n</tool_call>", "<|im_end|>"),
    "minimax-m2": (f"<minimax:tool_call>\n{_INVOKE}\n</minimax:tool_call>", "[e~["),
    "seed-oss": (
        "<seed:think><seed:tool_call>\n<function=get_weather>\n<parameter=city>Paris</parameter>\n</function>\n"
        "</seed:tool_call>",
        "<seed:eos>",
    ),
    "kimi-k2.5": (
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>"
        '{"city": "Paris"}<|tool_call_end|><|tool_calls_section_end|>',
        "<|im_end|>",
    ),
    "deepseek-v4-encoder": (f"<｜DSML｜tool_calls>\n{_DSML}\n</｜DSML｜tool_calls>", "<｜end▁of▁sentence｜>"),
    "gemma4": ('<|channel>thought\n<|tool_call>call:get_weather{city:<|"|>Paris<|"|>}<tool_call|>', "<turn|>"),
    "mistral-small-4, thinking": ('[THINK][TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}', "</s>"),
}


def _in_thought(name: str, *, closed: bool = False, stopped: bool = True) -> tuple[Renderer, str]:
    """A renderer, and a completion whose thought holds a call."""
    call, stop = _CALLS[name]
    renderer = SUBJECTS[name].exact
    reasoning = renderer.response_format.reasoning
    assert reasoning is not None
    for opening in (reasoning.open + reasoning.label, reasoning.open):
        if call.startswith(opening):
            call = f"{opening}I will look it up.{call.removeprefix(opening)}"
            break
    else:
        call = "I will look it up." + call
    return renderer, call + (reasoning.close + "Done." if closed else "") + (stop if stopped else "")


@pytest.mark.parametrize("name", _CALLS)
def test_a_thought_that_is_never_closed_ends_before_a_call(name: str) -> None:
    parsed = _read(*_in_thought(name))
    assert _calls(parsed) == [("ok", "get_weather", {"city": "Paris"})]
    assert (parsed.reasoning, parsed.content, parsed.complete) == ("I will look it up.", "", True)


@pytest.mark.parametrize("name", _CALLS)
def test_a_call_in_a_thought_that_is_closed_later_is_a_draft(name: str) -> None:
    parsed = _read(*_in_thought(name, closed=True))
    assert (parsed.calls, parsed.content) == ((), "Done.")
    assert "Paris" in (parsed.reasoning or "")


def test_a_tag_that_a_thought_merely_mentions_opens_no_call() -> None:
    parsed = _read(SUBJECTS["glm-5.2"].exact, "I write <tool_call> and then the name.<|user|>")
    assert (parsed.reasoning, parsed.content, parsed.calls) == ("I write <tool_call> and then the name.", "", ())


@pytest.mark.parametrize("name", _CALLS)
def test_a_call_in_a_thought_that_was_cut_off_is_a_draft(name: str) -> None:
    parsed = _read(*_in_thought(name, stopped=False))
    assert (parsed.calls, parsed.content) == ((), "")
    assert "Paris" in (parsed.reasoning or "")


# Closing tags in values.


@pytest.mark.parametrize("name", [CODER, "qwen3.5", "nemotron-3-nano"])
@pytest.mark.parametrize(
    "value",
    [
        "A parameter block ends with </parameter> here.",
        "A call ends with </tool_call> here.",
        "It is </parameter></x> and </tool_call>, then </parameter> again",
        "<tool_call> opens one",
    ],
)
def test_a_closing_tag_in_a_value_is_one_of_its_words(name: str, value: str) -> None:
    body = (
        f"<function=write>\n<parameter=text>\n{value}\n</parameter>\n<parameter=items>\n[1]\n</parameter>\n</function>"
    )
    parsed = _read(SUBJECTS[name].exact, f"</think>\n\n<tool_call>\n{body}\n</tool_call><|im_end|>")
    assert _calls(parsed) == [("ok", "write", {"text": value, "items": [1]})]
    assert parsed.content.replace("</think>", "").strip() == ""


@pytest.mark.parametrize("value", ["x</arg_value> y", "</tool_call> z", "<tool_call>"])
def test_a_closing_tag_in_glms_value_is_one_of_its_words(value: str) -> None:
    written = (
        f"t</think><tool_call>write<arg_key>text</arg_key><arg_value>{value}</arg_value></tool_call><|observation|>"
    )
    assert _calls(_read(SUBJECTS["glm-5.2"].exact, written)) == [("ok", "write", {"text": value})]


@pytest.mark.parametrize("value", ["a </tool_call> b", "a <tool_call> b"])
def test_a_tag_in_a_json_string_is_one_of_its_words(value: str) -> None:
    body = json.dumps({"name": "write", "arguments": {"text": value}})
    parsed = _read(SUBJECTS[INSTRUCT].exact, f"<tool_call>\n{body}\n</tool_call><|im_end|>")
    assert _calls(parsed) == [("ok", "write", {"text": value})]


def test_a_string_that_is_never_closed_ends_with_its_call() -> None:
    cut = '<tool_call>\n{"name": "write", "arguments": {"text": "a\n</tool_call>\n'
    whole = f"<tool_call>\n{_JSON}\n</tool_call><|im_end|>"
    parsed = _read(SUBJECTS[INSTRUCT].exact, cut + whole)
    assert [call.status.value for call in parsed.calls] == ["invalid_json", "ok"]


def test_a_closing_tag_in_gemmas_text_is_one_of_its_words() -> None:
    written = '<|tool_call>call:write{text:<|"|>a <tool_call|> b<|"|>}<tool_call|><turn|>'
    assert _calls(_read(SUBJECTS["gemma4"].exact, written)) == [("ok", "write", {"text": "a <tool_call|> b"})]


# Near misses: what one reading fits an offered tool is that call.

_KIMI = (
    "<|tool_calls_section_begin|><|tool_call_begin|>{}<|tool_call_argument_begin|>{}<|tool_call_end|>"
    "<|tool_calls_section_end|>"
)
_GEMMA = "<|tool_call>call:{}<tool_call|><turn|>"
_V32 = "<｜DSML｜function_calls>\n{}\n</｜DSML｜function_calls><｜end▁of▁sentence｜>"
_CITY = {"city": "Rome"}


@pytest.mark.parametrize(
    ("name", "written", "call"),
    [
        ("gemma4", _GEMMA.format('write{items:["ds_152"]}'), ("write", {"items": ["ds_152"]})),
        ("gemma4", _GEMMA.format("write{text='report.docx'}"), ("write", {"text": "report.docx"})),
        ("gemma4", _GEMMA.format('write{"text": "a, \\"b\\" {c}"}'), ("write", {"text": 'a, "b" {c}'})),
        ("kimi-k2", _KIMI.format("functions_get_weather_1", '{"city": "Rome"}'), ("get_weather", _CITY)),
        ("kimi-k2", _KIMI.format("functions.get_weather.0", '{"city": "Rome"}'), ("get_weather", _CITY)),
        ("kimi-k2", _KIMI.format("get_weather_0", '{"city": "Rome"}'), ("get_weather", _CITY)),
        (
            "deepseek-v3.2",
            _V32.format(
                '<｜DSML｜invoke name="get_weather"><｜DSML｜parameter name="days">3</｜DSML｜parameter>'
                "</｜DSML｜invoke>"
            ),
            ("get_weather", {"days": 3}),
        ),
        ("mistral-v13", '[TOOL_CALLS]get_weather{"city": "Rome"}</s>', ("get_weather", _CITY)),
        ("mistral-v11", '[TOOL_CALLS]get_weather{"city": "Rome"}</s>', ("get_weather", _CITY)),
        ("deepseek-v3.1", None, ("get_weather", _CITY)),
        (
            CODER,
            "<tool_call>\n<function=get_weather>\n<parameter=metric>\nTRUE\n</parameter>\n</function>\n</tool_call><|im_end|>",
            ("get_weather", {"metric": True}),
        ),
    ],
)
def test_a_near_miss_is_read_as_the_one_call_that_it_can_be(
    name: str, written: str | None, call: tuple[str, Any]
) -> None:
    if written is None:
        begin, end = (
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>",
            "<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜>",
        )
        written = f'{begin}get_weather{{"city": "Rome"}}{end}'
    parsed = _read(SUBJECTS[name].exact, written)
    assert _calls(parsed) == [("repaired", *call)]
    assert parsed.content == ""


@pytest.mark.parametrize(
    ("given", "tools"),
    [
        ("functions_find_1", ["get_weather"]),
        ("functions_get_weather_1", ["get_weather", "get_weather_1"]),
    ],
)
def test_what_fits_no_offered_tool_or_two_stays_as_it_was_written(given: str, tools: list[str]) -> None:
    offered = [tool(name, "", {}) for name in tools]
    parsed = _read(SUBJECTS["kimi-k2"].exact, _KIMI.format(given, "{}"), offered)
    assert _calls(parsed) == [("unknown_tool", given, {})]


def test_two_thoughts_and_what_stands_around_them_are_not_glued() -> None:
    parsed = _read(SUBJECTS[QWEN3].exact, "<think>Before</think>One<think>After</think>Two<|im_end|>")
    assert (parsed.reasoning, parsed.content) == ("Before\nAfter", "One\nTwo")


# Ids.


@pytest.mark.parametrize("subject", [INSTRUCT, CODER], indirect=True)
def test_what_was_sampled_behind_the_stop_token_is_not_written_again(subject: Subject, renderer: Renderer) -> None:
    completion = subject.spell("Hello!<|im_end|>\n")
    suffix = renderer.bridge_suffix(completion, [user("Hi.")])
    assert subject.tokenizer.decode(suffix.token_ids) == "<|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize("subject", [INSTRUCT], indirect=True)
def test_ids_may_be_any_sequence_of_integers(subject: Subject, renderer: Renderer) -> None:
    prompt = renderer.build_generation_prompt([user("q")]).token_ids
    completion = subject.spell(f"I look.<tool_call>\n{_JSON}\n</tool_call><|im_end|>")
    read, wrote = np.array(prompt), np.array(completion)
    assert renderer.parse_response(wrote, _TOOLS, prompt_ids=read) == renderer.parse_response(
        completion, _TOOLS, prompt_ids=prompt
    )
    bridged = renderer.bridge_to_next_turn(read, wrote, [user("Hi.")])
    assert bridged == renderer.bridge_to_next_turn(prompt, completion, [user("Hi.")])
    assert bridged is not None
    assert all(type(i) is int for i in bridged.token_ids)
    assert renderer.thought_at(read) == renderer.thought_at(prompt)
    assert subject.tokenizer.decode(wrote) == subject.tokenizer.decode(completion)
