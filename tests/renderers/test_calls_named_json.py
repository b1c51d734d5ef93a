"""Calls written as a name and JSON, on DeepSeek V3.1, R1 and Kimi K2: what is read, and what becomes of others."""

import json
from dataclasses import dataclass

import pytest

from tests.renderers.strategies import tool
from tests.renderers.subjects import SUBJECTS, Subject
from tickertape.renderers.draft import CallDelta, ContentDelta, Delta
from tickertape.renderers.messages import ToolCall
from tickertape.renderers.prompt import CallStatus, ParsedResponse

OK, INVALID, MALFORMED, UNCLOSED, UNKNOWN = (
    CallStatus.OK,
    CallStatus.INVALID_JSON,
    CallStatus.MALFORMED,
    CallStatus.UNCLOSED,
    CallStatus.UNKNOWN_TOOL,
)
PLAIN, FENCED, IDENTIFIED = "deepseek-v3.1", "deepseek-r1-0528", "kimi-k2"
_SPELLED = "deepseek-r1-distill-unopened"
"""Like ``FENCED``, in a vocabulary that does not have the tags as tokens."""


@dataclass(frozen=True)
class _Style:
    """How one model writes a call and a section of calls."""

    begin: str
    arguments: str
    """Between the name and the arguments."""
    end: str
    section: tuple[str, str]

    def call(self, name: str, arguments: str) -> str:
        return f"{self.begin}{name}{self.arguments}{arguments}{self.end}"

    def calls(self, *calls: str, between: str = "") -> str:
        return self.section[0] + between.join(calls) + self.section[1]


_DEEPSEEK = ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>")
_KIMI = ("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>")
_FENCE = _Style("<｜tool▁call▁begin｜>function<｜tool▁sep｜>", "\n```json\n", "\n```<｜tool▁call▁end｜>", _DEEPSEEK)
STYLES = {
    PLAIN: _Style("<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>", _DEEPSEEK),
    FENCED: _FENCE,
    _SPELLED: _FENCE,
    IDENTIFIED: _Style("<|tool_call_begin|>functions.", ":0<|tool_call_argument_begin|>", "<|tool_call_end|>", _KIMI),
}
_each = pytest.mark.parametrize("subject", STYLES, indirect=True)
_TOOLS = [tool("look_up", "Looks up.", {"city": {"type": "string"}})]


def _parse(subject: Subject, written: str) -> ParsedResponse:
    return subject.exact.parse_response([*subject.spell(written), subject.exact.get_stop_sequences()[0]], _TOOLS)


def _streamed(subject: Subject, written: str) -> list[Delta]:
    """The deltas of a completion whose tokens come one by one, up to its last."""
    parser = subject.exact.stream_parser(_TOOLS)
    return [delta for token in subject.spell(written) for delta in parser.feed([token])]


@_each
def test_a_call_is_read(subject: Subject) -> None:
    style = STYLES[subject.name]
    written = style.call("look_up", '{"city": "Köln 𓀀"}')
    parsed = _parse(subject, style.calls(written))
    (call,) = parsed.calls
    assert (call.status, call.raw) == (OK, written)
    assert [(made.name, made.arguments) for made in parsed.tool_calls] == [("look_up", '{"city": "Köln 𓀀"}')]
    assert parsed.content == ""


@pytest.mark.parametrize(
    "arguments", ["{}", "{ }", '{"b":1,"a":[2,null]}', '{\n "x": "}"\n}', '{"x": "caf\\u00e9 ```"}']
)
@_each
def test_arguments_stay_the_text_that_was_sampled(subject: Subject, arguments: str) -> None:
    style = STYLES[subject.name]
    (made,) = _parse(subject, style.calls(style.call("look_up", arguments))).tool_calls
    assert made.arguments == arguments


@pytest.mark.parametrize("between", ["", "\n", "\n\n "])
@_each
def test_parallel_calls_are_read_in_order(subject: Subject, between: str) -> None:
    style = STYLES[subject.name]
    calls = [style.call("look_up", f'{{"city": "{k}"}}') for k in range(3)]
    parsed = _parse(subject, "I look." + style.calls(*calls, between=between))
    assert [made.arguments_value for made in parsed.tool_calls] == [{"city": str(k)} for k in range(3)]
    assert [made.status for made in parsed.calls] == [OK] * 3
    assert parsed.content == "I look."


@_each
def test_words_between_and_behind_calls_are_content(subject: Subject) -> None:
    style = STYLES[subject.name]
    call = style.call("look_up", "{}")
    parsed = _parse(subject, "Before." + style.calls(call, call, between=" and ") + "Behind.")
    assert [made.status for made in parsed.calls] == [OK, OK]
    assert [words for words in ("Before.", "and", "Behind.") if words in parsed.content] == [
        "Before.",
        "and",
        "Behind.",
    ]
    assert style.begin not in parsed.content


@_each
def test_the_tags_of_the_section_may_be_missing(subject: Subject) -> None:
    style = STYLES[subject.name]
    calls = style.call("look_up", '{"city": "a"}') + style.call("look_up", '{"city": "b"}')
    for written in (calls, style.section[0] + calls, calls + style.section[1]):
        parsed = _parse(subject, "Hm." + written)
        assert [made.arguments_value for made in parsed.tool_calls] == [{"city": "a"}, {"city": "b"}]
        assert parsed.content == "Hm."


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ('{"city": NaN}', INVALID),
        ('{"city": 1e999}', INVALID),
        ("{'city': 'Rome'}", INVALID),
        ('{"city": "Rome"', INVALID),
        ('{"city": "Rome"} and more', INVALID),
        ('{"a": 1}{"b": 2}', INVALID),
        ("[1]", INVALID),
        ("Rome", INVALID),
    ],
)
@_each
def test_a_call_with_a_name_stays_a_call_and_its_status_says_what_is_wrong(
    subject: Subject, arguments: str, status: CallStatus
) -> None:
    style = STYLES[subject.name]
    written = style.call("look_up", arguments)
    parsed = _parse(subject, style.calls(written))
    (call,) = parsed.calls
    assert (call.status, call.raw) == (status, written)
    assert [made.name for made in parsed.tool_calls] == ["look_up"]
    assert parsed.content == ""


@_each
def test_a_tool_that_was_not_offered_is_unknown(subject: Subject) -> None:
    style = STYLES[subject.name]
    parsed = _parse(subject, style.calls(style.call("launch", "{}")))
    assert [(call.status, call.call and call.call.name) for call in parsed.calls] == [(UNKNOWN, "launch")]


@pytest.mark.parametrize("cut", [1, 4, 9])
@_each
def test_a_call_cut_in_its_arguments_is_unclosed(subject: Subject, cut: int) -> None:
    style = STYLES[subject.name]
    whole = style.section[0] + style.call("look_up", '{"city": "Rome"}').removesuffix(style.end)
    parsed = _parse(subject, whole[:-cut])
    assert [call.status for call in parsed.calls] == [UNCLOSED]
    assert parsed.tool_calls[0].arguments_json == '{"city": "Rome"}'[:-cut]


@_each
def test_a_call_that_opens_before_the_last_one_closed(subject: Subject) -> None:
    style = STYLES[subject.name]
    unclosed = style.call("look_up", '{"city": "a"}').removesuffix(style.end)
    parsed = _parse(subject, style.calls(unclosed, style.call("look_up", '{"city": "b"}')))
    assert [call.status for call in parsed.calls] == [UNCLOSED, OK]
    assert [made.arguments_value for made in parsed.tool_calls] == [{"city": "a"}, {"city": "b"}]


@pytest.mark.parametrize("head", ["", "look up the city!", '{"name": "look_up"}'])
@_each
def test_what_has_no_name_stays_in_the_content(subject: Subject, head: str) -> None:
    style = STYLES[subject.name]
    opening = next(part for part in style.begin.replace(">", ">\0").split("\0") if part)
    written = style.section[0] + opening + head + style.end + style.section[1]
    parsed = _parse(subject, written)
    assert parsed.tool_calls == ()
    assert [call.status for call in parsed.calls] == [MALFORMED]
    assert parsed.calls[0].raw in parsed.content
    assert head in parsed.content


@_each
def test_a_section_without_calls_stays_in_the_content(subject: Subject) -> None:
    style = STYLES[subject.name]
    written = f"{style.section[0]}nothing{style.section[1]}"
    parsed = _parse(subject, written)
    assert (parsed.content, parsed.tool_calls) == (written, ())
    assert [call.status for call in parsed.calls] == [MALFORMED]


@_each
def test_the_name_is_told_before_the_arguments_come_and_they_as_they_are_written(subject: Subject) -> None:
    style = STYLES[subject.name]
    begun = style.section[0] + style.begin + "look_up" + style.arguments
    named = _streamed(subject, begun + '{"')
    assert [delta.name for delta in named if isinstance(delta, CallDelta) and delta.name] == ["look_up"]
    deltas = _streamed(subject, begun + '{"city": "Rome, the etern')
    told = "".join(delta.arguments for delta in deltas if isinstance(delta, CallDelta))
    assert told == '{"city": "Rome, the etern'


@pytest.mark.parametrize("subject", [_SPELLED], indirect=True)
def test_the_beginning_of_a_tag_in_prose_is_held_only_until_it_is_none(subject: Subject) -> None:
    deltas = _streamed(subject, "Compare <｜tool▁calls, which is no tag, with others")
    said = "".join(delta.text for delta in deltas if isinstance(delta, ContentDelta))
    assert said == "Compare <｜tool▁calls, which is no tag, with others"


# What each writes in its own way.


@pytest.mark.parametrize(
    ("written", "name", "call_id"),
    [
        ("functions.look_up:0", "look_up", "functions.look_up:0"),
        ("functions.look_up:12", "look_up", "functions.look_up:12"),
        (" functions.look_up:3 ", "look_up", "functions.look_up:3"),
        ("functions.maps.find:1", "maps.find", "functions.maps.find:1"),
        ("look_up:0", "look_up", "look_up:0"),
        ("look_up", "look_up", "look_up"),
        ("functions.look_up", "look_up", "functions.look_up"),
        ("functions.look_up:x", "look_up:x", "functions.look_up:x"),
    ],
)
@pytest.mark.parametrize("subject", [IDENTIFIED], indirect=True)
def test_an_id_holds_the_name_and_is_kept(subject: Subject, written: str, name: str, call_id: str) -> None:
    body = f"<|tool_call_begin|>{written}<|tool_call_argument_begin|>{{}}<|tool_call_end|>"
    assert _parse(subject, body).tool_calls == (ToolCall(name, "{}", call_id),)
    told = [delta for delta in _streamed(subject, body) if isinstance(delta, CallDelta) and delta.name]
    assert [(delta.name, delta.id) for delta in told] == [(name, call_id)]


@pytest.mark.parametrize(
    "body",
    [
        'look_up\n```json\n{"city": "Rome"}\n```',
        'look_up\n```\n{"city": "Rome"}\n```',
        'look_up\n{"city": "Rome"}',
        'look_up{"city": "Rome"}',
        'look_up ```json\n{"city": "Rome"}```',
        'look_up\n\n```json\n\n{"city": "Rome"}\n\n```\n',
    ],
)
@pytest.mark.parametrize("subject", [FENCED, _SPELLED], indirect=True)
def test_the_fence_around_the_arguments_may_be_sloppy(subject: Subject, body: str) -> None:
    parsed = _parse(subject, f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{body}<｜tool▁call▁end｜>")
    assert [call.status for call in parsed.calls] == [OK]
    assert [json.loads(made.arguments_json) for made in parsed.tool_calls] == [{"city": "Rome"}]


def test_every_style_is_that_of_a_subject() -> None:
    assert set(STYLES) <= set(SUBJECTS)
