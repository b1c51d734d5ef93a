"""Tool calls as models write them: the readable ones are read as written, the others say what is wrong with them."""

import json

import pytest

from tests.renderers.strategies import tool
from tests.renderers.subjects import QWEN3, Subject
from tickertape.renderers.prompt import CallStatus, ParsedResponse
from tickertape.renderers.renderer import Renderer

pytestmark = pytest.mark.parametrize("subject", [QWEN3], indirect=True)


def _parse(subject: Subject, renderer: Renderer, *bodies: str) -> ParsedResponse:
    """Parses a completion that is one call for each body."""
    calls = "\n".join(f"<tool_call>\n{body}\n</tool_call>" for body in bodies)
    return renderer.parse_response(subject.spell(f"{calls}<|im_end|>"))


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('{"name": "f", "arguments": {"x": 1}}', CallStatus.OK),
        ('{"name": "f"}', CallStatus.OK),
        ('{"name": "f", "arguments": "{\\"x\\": 1}"}', CallStatus.OK),
        ("look it up", CallStatus.MALFORMED),
        ("", CallStatus.INVALID_JSON),
        ('{"name": "f"} {"name": "g"}', CallStatus.INVALID_JSON),
        ("{'name': 'f'}", CallStatus.INVALID_JSON),
        ('{"name": "f", "arguments": ' + "[" * 5000, CallStatus.INVALID_JSON),
        ('["f"]', CallStatus.MALFORMED),
        ('"f"', CallStatus.MALFORMED),
        ("{}", CallStatus.MALFORMED),
        ('{"name": ""}', CallStatus.MALFORMED),
        ('{"name": 1, "arguments": {}}', CallStatus.MALFORMED),
        ('{"arguments": {}}', CallStatus.MALFORMED),
        ('{"name": "f", "arguments": [1]}', CallStatus.MALFORMED),
        ('{"name": "f", "arguments": null}', CallStatus.MALFORMED),
        ('{"name": "f", "arguments": "x"}', CallStatus.MALFORMED),
        ('{"name": "f", "arguments": "[1]"}', CallStatus.MALFORMED),
    ],
)
def test_every_call_has_a_status_and_none_is_lost(
    subject: Subject, renderer: Renderer, body: str, status: CallStatus
) -> None:
    parsed = _parse(subject, renderer, body)
    (written,) = parsed.calls
    assert written.status is status
    assert written.raw == f"<tool_call>\n{body}\n</tool_call>"
    if status is CallStatus.OK:
        assert [made.name for made in parsed.tool_calls] == ["f"]
        assert parsed.content == ""
    else:
        assert parsed.tool_calls == ()
        assert parsed.content == written.raw


@pytest.mark.parametrize(
    ("arguments", "behind"),
    [
        ('{"x": 1}', ""),
        ('{"x": NaN}', "}"),
        ('{"x": Infinity}', "}"),
        ('{"x": -Infinity}', "}"),
        ('{"x": ' + "9" * 5000 + "}", "}"),
        ('{"x": ' + "[" * 5000, "}"),
        ('{"x": "}', "}"),
        ('{"x": 1}', "} and more"),
    ],
)
def test_a_call_with_a_name_stays_a_call_and_its_status_says_what_is_wrong(
    subject: Subject, renderer: Renderer, arguments: str, behind: str
) -> None:
    """By the time that the error shows, a stream has passed the call on."""
    parsed = _parse(subject, renderer, f'{{"name": "f", "arguments": {arguments}{behind}')
    (written,) = parsed.calls
    (made,) = parsed.tool_calls
    assert written.status is CallStatus.INVALID_JSON
    assert made.name == "f"
    assert made.arguments_json.startswith(arguments)
    assert parsed.content == ""


@pytest.mark.parametrize(
    "arguments",
    [
        "{}",
        "{ }",
        '{"x":1}',
        '{"b": 1, "a": 2}',
        '{\n  "x": [1,\t2]\n}',
        '{"x": 1.0, "y": 1e2, "z": 10000000000000000000000}',
        '{"x": "caf\\u00e9 \\/ \\n"}',
        '{"x": 1, "x": 2}',
        '{"x": "}}\\n</tools>"}',
        '{"x": false, "y": null}',
    ],
)
def test_arguments_stay_the_text_that_was_sampled(subject: Subject, renderer: Renderer, arguments: str) -> None:
    (made,) = _parse(subject, renderer, f'{{"name": "f", "arguments": {arguments}}}').tool_calls
    assert made.arguments == arguments


@pytest.mark.parametrize(
    "body",
    [
        '{"arguments": {"x": "Köln", "y": [1, null]}, "name": "f"}',
        '{"name": "f", "id": 7, "arguments": {"x": "Köln", "y": [1, null]}}',
        '{"name": "f", "arguments": {"x": "Köln", "y": [1, null]}, "id": 7}',
    ],
)
def test_arguments_in_an_unusual_place_are_the_same_value(subject: Subject, renderer: Renderer, body: str) -> None:
    (made,) = _parse(subject, renderer, body).tool_calls
    assert json.loads(made.arguments_json) == {"x": "Köln", "y": [1, None]}


def test_a_call_without_arguments_has_empty_ones(subject: Subject, renderer: Renderer) -> None:
    (made,) = _parse(subject, renderer, '{"name": "f"}').tool_calls
    assert (made.name, made.arguments) == ("f", "{}")


def test_arguments_under_another_name_are_not_dropped(subject: Subject, renderer: Renderer) -> None:
    """Llama's models write ``parameters``: the values must not vanish behind a status that says all is well."""
    parsed = _parse(subject, renderer, '{"name": "f", "parameters": {"city": "Rome"}}')
    arguments = "".join(made.arguments_json for made in parsed.tool_calls)
    assert "Rome" in arguments + parsed.content


@pytest.mark.parametrize(
    "body",
    ['{"name": "\\ud800", "arguments": {}}', '{"arguments": {"x": "\\ud800"}, "name": "f"}'],
    ids=["name", "arguments"],
)
def test_half_a_surrogate_pair_in_a_call_can_be_sent_and_rendered(
    subject: Subject, renderer: Renderer, body: str
) -> None:
    """JSON may escape half a surrogate pair, which is no Unicode text: no client could be sent it."""
    parsed = _parse(subject, renderer, body)
    json.dumps(parsed.message.to_openai(), ensure_ascii=False).encode()
    renderer.build_generation_prompt([parsed.message, {"role": "tool", "content": "r"}])


def test_a_number_too_large_for_a_float_stays_json(subject: Subject, renderer: Renderer) -> None:
    for made in _parse(subject, renderer, '{"arguments": {"x": 1e999}, "name": "f"}').tool_calls:
        json.loads(made.arguments_json, parse_constant=pytest.fail)


def test_an_unclosed_call_is_read_and_says_so(subject: Subject, renderer: Renderer) -> None:
    for ending in ("", "<|im_end|>"):
        parsed = renderer.parse_response(subject.spell('<tool_call>\n{"name": "f", "arguments": {"x": 1}}' + ending))
        assert [made.status for made in parsed.calls] == [CallStatus.UNCLOSED]
        assert [made.arguments for made in parsed.tool_calls] == ['{"x": 1}']


def test_a_call_cut_in_the_middle_stays_in_the_content(subject: Subject, renderer: Renderer) -> None:
    parsed = renderer.parse_response(subject.spell('I look.\n<tool_call>\n{"name": "f", "argu'))
    assert parsed.content == 'I look.\n<tool_call>\n{"name": "f", "argu'
    assert [made.status for made in parsed.calls] == [CallStatus.UNCLOSED]
    assert parsed.tool_calls == ()


def test_a_call_that_opens_before_the_last_one_closed(subject: Subject, renderer: Renderer) -> None:
    written = '<tool_call>\n{"name": "f"}\n<tool_call>\n{"name": "g"}\n</tool_call><|im_end|>'
    parsed = renderer.parse_response(subject.spell(written))
    assert [(made.name, made.arguments) for made in parsed.tool_calls] == [("f", "{}"), ("g", "{}")]
    assert [made.status for made in parsed.calls] == [CallStatus.UNCLOSED, CallStatus.OK]


def test_names_are_checked_against_the_tools_that_were_offered(subject: Subject, renderer: Renderer) -> None:
    ids = subject.spell('<tool_call>\n{"name": "g", "arguments": {"x": 1}}\n</tool_call><|im_end|>')
    for offered, status in [(None, "ok"), ([], "unknown_tool"), ([tool("f", "", {})], "unknown_tool")]:
        parsed = renderer.parse_response(ids, offered)
        assert [made.status for made in parsed.calls] == [status]
        assert [made.name for made in parsed.tool_calls] == ["g"], "the agent hears of it"
    assert renderer.parse_response(ids, [tool("g", "", {})]).calls[0].status is CallStatus.OK


def test_calls_are_read_in_order(subject: Subject, renderer: Renderer) -> None:
    parsed = _parse(subject, renderer, '{"name": "f", "arguments": {"x": 1}}', "broken", '{"name": "f"}')
    assert [made.status for made in parsed.calls] == ["ok", "malformed", "ok"]
    assert [made.arguments for made in parsed.tool_calls] == ['{"x": 1}', "{}"]
    assert parsed.content == "<tool_call>\nbroken\n</tool_call>"


@pytest.mark.parametrize(
    ("written", "content"),
    [
        ("Before.\n{call}", "Before."),
        ("{call}\nAfter.", "After."),
        ("Before.\n{call}\nBetween.\n{call}\nAfter.", "Before.\nBetween.\nAfter."),
        ("Before.\n\n{call}", "Before.\n"),
        ("  Before. {call} After.  ", "  Before. \n After.  "),
    ],
)
def test_text_around_calls_is_kept(subject: Subject, renderer: Renderer, written: str, content: str) -> None:
    call = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
    parsed = renderer.parse_response(subject.spell(written.replace("{call}", call) + "<|im_end|>"))
    assert parsed.content == content
    assert len(parsed.tool_calls) == written.count("{call}")


def test_calls_can_be_left_unread(subject: Subject, renderer: Renderer) -> None:
    written = 'Look:\n<tool_call>\n{"name": "f"}\n</tool_call>'
    parsed = renderer.parse_response(subject.spell(written), read_calls=False)
    assert (parsed.content, parsed.calls) == (written, ())


def test_deep_nesting_is_read_or_refused_but_never_raises(subject: Subject, renderer: Renderer) -> None:
    for depth in (10, 500, 900, *range(950, 1050, 3), 20_000):
        for opening, closing in (("[", "]"), ('{"a":', "}")):
            value = opening * depth + "1" + closing * depth
            for body in (
                f'{{"name": "f", "arguments": {{"x": {value}}}}}',
                f'{{"arguments": {{"x": {value}}}, "name": "f"}}',
            ):
                assert _parse(subject, renderer, body).calls[0].status in ("ok", "invalid_json")
