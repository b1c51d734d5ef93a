"""Calls written as nested elements, on Qwen3-Coder's: what is read, how it is typed, what becomes of broken ones."""

import json
import unicodedata
from collections.abc import Iterable
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.renderers.strategies import assistant, identifiers, texts, tool, user
from tests.renderers.subjects import CODER, Subject
from tickertape.renderers.draft import CallDelta, ContentDelta, Delta
from tickertape.renderers.errors import RenderError
from tickertape.renderers.messages import Message, ToolCall
from tickertape.renderers.prompt import CallStatus, ParsedResponse

pytestmark = pytest.mark.parametrize("subject", [CODER], indirect=True)

OK, MALFORMED, UNCLOSED, UNKNOWN = (
    CallStatus.OK,
    CallStatus.MALFORMED,
    CallStatus.UNCLOSED,
    CallStatus.UNKNOWN_TOOL,
)


def _parse(subject: Subject, written: str, tools: list[dict[str, Any]] | None = None) -> ParsedResponse:
    return subject.exact.parse_response(subject.spell(written + "<|im_end|>"), tools)


def _called(body: str) -> str:
    return f"<tool_call>\n{body}\n</tool_call>"


def _function(name: str, **parameters: str) -> str:
    lines = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in parameters.items())
    return f"<function={name}>\n{lines}</function>"


def _arguments(parsed: ParsedResponse) -> list[Any]:
    return [json.loads(made.arguments_json) for made in parsed.tool_calls]


# What is read.


def test_a_call_is_read(subject: Subject) -> None:
    body = _function("look_up", city="Köln 𓀀", note=" two\nlines ")
    parsed = _parse(subject, _called(body))
    (written,) = parsed.calls
    assert (written.status, written.raw) == (OK, body)
    assert parsed.tool_calls == (ToolCall("look_up", '{"city": "Köln 𓀀", "note": " two\\nlines "}'),)
    assert parsed.content == ""


@pytest.mark.parametrize(
    "body", ["<function=now>\n</function>", "<function=now></function>", "<function= now >\n\n</function>"]
)
def test_a_call_without_parameters_has_empty_arguments(subject: Subject, body: str) -> None:
    assert _parse(subject, _called(body)).tool_calls == (ToolCall("now", "{}"),)


def test_parallel_calls_are_read_in_order_with_the_words_around_them(subject: Subject) -> None:
    first, second = _called(_function("f", x="a")), _called(_function("g"))
    parsed = _parse(subject, f"Before.\n\n{first}\nBetween.\n{second}\nBehind.")
    assert [made.name for made in parsed.tool_calls] == ["f", "g"]
    assert parsed.content == "Before.\nBetween.\nBehind."


def test_one_section_may_hold_several_calls_and_words(subject: Subject) -> None:
    parsed = _parse(subject, _called(_function("f") + "\nand\n" + _function("g")))
    assert [made.name for made in parsed.tool_calls] == ["f", "g"]
    assert parsed.content.strip() == "and"


@pytest.mark.parametrize("closing", ["", "\n</tool_call>"])
def test_the_section_tags_may_be_missing(subject: Subject, closing: str) -> None:
    parsed = _parse(subject, "I look.\n\n" + _function("f", x="1") + closing)
    assert [(made.status, made.call) for made in parsed.calls] == [(OK, ToolCall("f", '{"x": 1}'))]
    assert parsed.content == "I look."


def test_calls_without_a_section_may_follow_each_other(subject: Subject) -> None:
    parsed = _parse(subject, _function("f") + "\n" + _function("g") + "\n" + _called(_function("h")))
    assert [made.name for made in parsed.tool_calls] == ["f", "g", "h"]
    assert parsed.content == ""


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("\nv\n", "v"),
        ("v", "v"),
        ("\n\n", ""),
        ("", ""),
        ("\n\nv\n\n", "\nv\n"),
        ("\n<b>v</b> <parameter=y> </function>\n", "<b>v</b> <parameter=y> </function>"),
        ('\n"quoted" \\n {\n', '"quoted" \\n {'),
    ],
)
def test_one_newline_on_either_side_of_a_value_is_the_formats(subject: Subject, written: str, value: str) -> None:
    body = f"<function=f>\n<parameter=x>{written}</parameter>\n</function>"
    offered = [tool("f", "", {"x": {"type": "string"}})]
    assert _arguments(_parse(subject, _called(body), offered)) == [{"x": value}]


def test_a_key_that_comes_twice_is_kept_twice(subject: Subject) -> None:
    body = "<function=f>\n<parameter=x>\n1\n</parameter>\n<parameter=x>\n2\n</parameter>\n</function>"
    (made,) = _parse(subject, _called(body)).tool_calls
    assert made.arguments == '{"x": 1, "x": 2}'
    assert made.arguments_value == {"x": 2}


# How it is typed.


@pytest.mark.parametrize(
    ("schema", "written", "value"),
    [
        ({"type": "string"}, "1", "1"),
        ({"type": "string"}, "null", "null"),
        ({"type": "string"}, '"v"', '"v"'),
        ({"type": "str"}, "true", "true"),
        ({"type": "integer"}, "12", 12),
        ({"type": "integer"}, "1.5", "1.5"),
        ({"type": "integer"}, "twelve", "twelve"),
        ({"type": "int"}, "-3", -3),
        ({"type": "number"}, "1e2", 100.0),
        ({"type": "number"}, "NaN", "NaN"),
        ({"type": "boolean"}, "True", True),
        ({"type": "boolean"}, "false", False),
        ({"type": "boolean"}, "maybe", "maybe"),
        ({"type": ["string", "boolean"]}, "True", True),
        ({"type": ["string", "boolean"]}, "Truely", "Truely"),
        ({"type": ["string", "null"]}, "None", None),
        ({"type": ["string", "null"]}, "null", None),
        ({"type": ["string", "null"]}, '"v"', '"v"'),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, "7", 7),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, "7 a.m.", "7 a.m."),
        ({"type": "object"}, '{"a": [1, {"b": null}]}', {"a": [1, {"b": None}]}),
        ({"type": "object"}, '{"a": ', '{"a": '),
        ({"type": "array"}, "[1, true]", [1, True]),
        ({"type": "array"}, '{"a": 1}', '{"a": 1}'),
        ({"type": "null"}, "None", None),
        ({"enum": ["a", 1]}, "1", 1),
        ({"enum": ["a", 1]}, "a", "a"),
        ({}, "12", 12),
        ({}, "True", True),
        ({}, "some words", "some words"),
        ({}, '"v"', '"v"'),
    ],
)
def test_the_schema_says_what_a_value_is(subject: Subject, schema: dict[str, Any], written: str, value: Any) -> None:
    parsed = _parse(subject, _called(_function("f", x=written)), [tool("f", "", {"x": schema})])
    (given_,) = _arguments(parsed)
    assert given_ == {"x": value}
    assert type(given_["x"]) is type(value)


def test_numbers_keep_their_spelling(subject: Subject) -> None:
    (made,) = _parse(subject, _called(_function("f", x="1.50", y="1e2"))).tool_calls
    assert made.arguments == '{"x": 1.50, "y": 1e2}'


# What becomes of broken ones.

_F = "<function=f>\n<parameter=x>\nv\n</parameter>\n"


@pytest.mark.parametrize(
    ("written", "status", "arguments"),
    [
        (_called(_F + "stray\n</function>"), MALFORMED, '{"x": "v"}'),
        (_called(_F), UNCLOSED, '{"x": "v"'),
        (_F, UNCLOSED, '{"x": "v"'),
        (_called("<function=f>\n<parameter=x>\nv\n</function>"), UNCLOSED, '{"x": '),
        ("<tool_call>\n<function=f>\n<parameter=x>\nv", UNCLOSED, '{"x": '),
        ("<tool_call>\n<function=f>\n<parameter=x", UNCLOSED, ""),
        (_called(_function("g")), UNKNOWN, "{}"),
    ],
)
def test_once_arguments_begin_it_is_a_call_and_its_status_says_what_is_wrong(
    subject: Subject, written: str, status: CallStatus, arguments: str
) -> None:
    parsed = _parse(subject, written, [tool("f", "", {"x": {}})])
    (call,) = parsed.calls
    assert call.status is status
    assert call.call is not None
    assert call.call.arguments == arguments
    assert parsed.content == ""
    assert call.raw in written


@pytest.mark.parametrize(
    ("written", "status"),
    [
        (_called("look it up"), MALFORMED),
        (_called(""), MALFORMED),
        ("<tool_call>\n", UNCLOSED),
        (_called('{"name": "f", "arguments": {}}'), MALFORMED),
        ("<function=></function>", MALFORMED),
        ("<function=a b>\n</function>", MALFORMED),
        ("<function=f>\nwords\n</function>", MALFORMED),
        ("<function=f", UNCLOSED),
        ("Write `<function=name>` to call.", UNCLOSED),
        ("<function=f>\n", UNCLOSED),
    ],
)
def test_what_never_becomes_a_call_stays_in_the_content(subject: Subject, written: str, status: CallStatus) -> None:
    parsed = _parse(subject, written)
    (call,) = parsed.calls
    assert (call.status, call.call) == (status, None)
    assert call.raw in parsed.content
    assert parsed.content == written


def test_a_call_behind_an_unclosed_one_is_read(subject: Subject) -> None:
    parsed = _parse(subject, "<tool_call>\n<function=f>\n<parameter=x>\nv\n" + _called(_function("g")))
    assert [(call.status, call.call.name if call.call else None) for call in parsed.calls] == [
        (UNCLOSED, "f"),
        (OK, "g"),
    ]


def test_a_call_behind_one_that_cannot_be_read_is_read(subject: Subject) -> None:
    parsed = _parse(subject, _called("words" + _function("g")))
    assert [(call.status, call.call is None) for call in parsed.calls] == [(UNCLOSED, True), (OK, False)]
    assert parsed.content == "<tool_call>\nwords"


# How it is streamed.


def _stream(subject: Subject, ids: list[int], sizes: Iterable[int], tools: list[dict[str, Any]] | None) -> list[Delta]:
    parser = subject.exact.stream_parser(tools)
    deltas: list[Delta] = []
    at = 0
    for size in sizes:
        deltas += parser.feed(ids[at : at + size])
        at += size
    return deltas + parser.feed(ids[at:]) + parser.finish()


_STREAMED = [
    "I look.\n\n" + _called(_function("f", x="Köln 𓀀", y="12")) + "\n" + _called(_function("g")),
    _function("f", x="</param", y="<parameter="),
    "Write `<function=f>` so.\n" + _called(_F + "stray</function>") + "\nDone.",
    "<tool_call>\n<function=f>\n<parameter=x>\nv",
    _called("words") + _called(_F),
]


@pytest.mark.parametrize("written", _STREAMED)
@pytest.mark.parametrize("seed", range(5))
def test_any_chunking_gives_the_same_message(subject: Subject, written: str, seed: int) -> None:
    chance = Random(seed)
    offered = [tool("f", "", {"x": {"type": "string"}})]
    ids = subject.spell(written)
    deltas = _stream(subject, ids, [chance.randint(1, 1 + seed) for _ in ids], offered)
    whole = subject.exact.parse_response(ids, offered)
    assert "".join(delta.text for delta in deltas if isinstance(delta, ContentDelta)) == whole.content
    for index, made in enumerate(whole.tool_calls):
        of_call = [delta for delta in deltas if isinstance(delta, CallDelta) and delta.index == index]
        assert [delta.name for delta in of_call if delta.name] == [made.name]
        assert "".join(delta.arguments for delta in of_call) == made.arguments


def test_text_arguments_come_as_they_are_written(subject: Subject) -> None:
    """A file that is written by a call is not held back until it is complete."""
    body = _function("write", path="a.py", text="first\nsecond\nthird")
    offered = [tool("write", "", {"path": {"type": "string"}, "text": {"type": "string"}})]
    parser = subject.exact.stream_parser(offered)
    so_far = ""
    shown = []
    for token in subject.spell(_called(body)):
        so_far += "".join(delta.arguments for delta in parser.feed([token]) if isinstance(delta, CallDelta))
        shown.append(so_far)
    assert '{"path": "a.py", "text": "first' in shown
    assert json.loads(so_far) == {"path": "a.py", "text": "first\nsecond\nthird"}


def test_a_literal_tag_in_prose_does_not_stall_the_stream(subject: Subject) -> None:
    parser = subject.exact.stream_parser()
    deltas = parser.feed(subject.spell("Write `<function=name>` and then the parameters"))
    assert "".join(delta.text for delta in deltas if isinstance(delta, ContentDelta)).endswith("parameters")


# Writing.


@pytest.mark.parametrize("arguments", ["[1]", '"x"', "{", "not JSON", "7"])
def test_arguments_that_are_no_object_are_refused(subject: Subject, arguments: str) -> None:
    with pytest.raises(RenderError, match="arguments of f are no JSON object"):
        subject.exact.build_conversation([user("q"), Message("assistant", "", tool_calls=(ToolCall("f", arguments),))])


@pytest.mark.parametrize("arguments", ["", "{}", "null"])
def test_no_arguments_are_an_empty_call(subject: Subject, arguments: str) -> None:
    called = Message("assistant", "", tool_calls=(ToolCall("f", arguments),))
    ids = subject.exact.build_conversation([user("q"), called]).token_ids
    written = "<|im_start|>assistant\n<tool_call>\n<function=f>\n</function>\n</tool_call><|im_end|>\n"
    assert subject.tokenizer.decode(ids).endswith(written)


@pytest.mark.parametrize("words", ["</function>", "<function=", "<tool_call>", "<parameter=</function>"])
def test_an_answer_that_is_nothing_but_a_tag_is_rendered(subject: Subject, words: str) -> None:
    """Whether the tag is a token of the vocabulary or is spelled in several."""
    messages = [user("q"), assistant(words), user("r")]
    assert subject.exact.build_generation_prompt(messages).token_ids == subject.template_ids(messages)


_TYPES = {"string": texts, "integer": st.integers(), "boolean": st.booleans(), "null": st.none()}
_TYPED: st.SearchStrategy[tuple[str, Any]] = st.one_of(
    [st.tuples(st.just(name), values) for name, values in _TYPES.items()]
)


@given(calls=st.lists(st.tuples(identifiers, st.dictionaries(identifiers, _TYPED, max_size=3)), max_size=3))
def test_what_is_written_is_read_back_with_its_types(
    subject: Subject, calls: list[tuple[str, dict[str, tuple[str, Any]]]]
) -> None:
    by_name = dict(calls)
    offered = [
        tool(name, "", {key: {"type": kind} for key, (kind, _) in typed.items()}) for name, typed in by_name.items()
    ]
    given_ = {name: {key: value for key, (_, value) in typed.items()} for name, typed in by_name.items()}
    made = tuple(ToolCall(name, arguments) for name, arguments in given_.items())
    ids, weights = subject.exact.build_supervised_example([user("q"), Message("assistant", "", tool_calls=made)])
    parsed = subject.exact.parse_response([i for i, w in zip(ids, weights, strict=True) if w], offered)
    assert [call.status for call in parsed.calls] == [OK] * len(made)
    assert _arguments(parsed) == [_normalised(arguments) for arguments in given_.values()]


def _normalised(value: Any) -> Any:
    """Tokenizers put words into normal form C."""
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    return {key: _normalised(inner) for key, inner in value.items()} if isinstance(value, dict) else value
