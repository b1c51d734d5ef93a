"""Calls written as Python: what is read, what becomes of broken ones, and that nothing of them is ever run."""

import json
import time
from random import Random

import pytest

from tests.materials import LLAMA3, extended
from tickertape.renderers.draft import Padding
from tickertape.renderers.messages import ToolCall
from tickertape.renderers.parsing import ResponseFormat, StreamParser
from tickertape.renderers.prompt import CallStatus, ParsedResponse
from tickertape.renderers.tool_calls.offered import Offered
from tickertape.renderers.tool_calls.pythonic import Pythonic

_VOCABULARY = extended(LLAMA3, ("<|python_tag|>", "<|tool_call_start|>", "<|tool_call_end|>"))
_PADDING = Padding(before_calls="", after_call="")
_BARE = ResponseFormat(tool_calls=Pythonic("<|python_tag|>"), padding=_PADDING)
_TAGGED = ResponseFormat(tool_calls=Pythonic("<|tool_call_start|>", "<|tool_call_end|>"), padding=_PADDING)


def _parse(written: str, format_: ResponseFormat = _BARE, *, chunk: int = 10**6) -> ParsedResponse:
    ids = _VOCABULARY.oracle.encode(written, add_special_tokens=False)
    parser = StreamParser(_VOCABULARY.tokenizer, format_, Offered(None))
    for at in range(0, len(ids), chunk):
        parser.feed(ids[at : at + chunk])
    parser.finish()
    return parser.response()


@pytest.mark.parametrize(
    ("call", "status", "arguments"),
    [
        ("f()", CallStatus.OK, "{}"),
        ("f(x=1, y=-2.5, z=True)", CallStatus.OK, '{"x": 1, "y": -2.5, "z": true}'),
        ("a.b( x = 'R\\'m)e' , y = \"[\\n\" )", CallStatus.OK, '{"x": "R\'m)e", "y": "[\\n"}'),
        ("f(x=[1, (2, {'a': None})], y={})", CallStatus.OK, '{"x": [1, [2, {"a": null}]], "y": {}}'),
        ('f(x={"a": true, "b": [null]})', CallStatus.OK, '{"x": {"a": true, "b": [null]}}'),
        ("f(x=Rome)", CallStatus.MALFORMED, '{"x": "Rome"}'),
        ("f(x=__import__('os').getcwd())", CallStatus.MALFORMED, '{"x": "__import__(\'os\').getcwd()"}'),
        ("f(x=10**1000000000)", CallStatus.MALFORMED, '{"x": "10**1000000000"}'),
        ("f(1)", CallStatus.MALFORMED, None),
        ("f(*x)", CallStatus.MALFORMED, None),
        ("f(x=New York)", CallStatus.MALFORMED, None),
        ("f(x={1})", CallStatus.MALFORMED, None),
        ("f(x=1e999)", CallStatus.MALFORMED, None),
        ("f(x='\\ud800')", CallStatus.MALFORMED, None),
    ],
)
def test_every_call_has_a_status(call: str, status: CallStatus, arguments: str | None) -> None:
    parsed = _parse(f"[{call}]")
    (made,) = parsed.calls
    assert (made.status, made.raw) == (status, f"[{call}]")
    assert [read.arguments for read in parsed.tool_calls] == ([] if arguments is None else [arguments])
    assert parsed.content == ("" if made.call else made.raw)


def test_a_bare_word_is_told_as_it_stands_wherever_it_stands() -> None:
    parsed = _parse("[f(x=é,\n  y=New\r\n, z=𓀀,\r w=Köln)]")
    assert parsed.tool_calls[0].arguments == '{"x": "é", "y": "New", "z": "𓀀", "w": "Köln"}'


@pytest.mark.parametrize("call", ["f(a=b), ", "f(**{k}=x, ", "f(), "])
def test_a_long_list_costs_no_more_than_its_length(call: str) -> None:
    def seconds(n: int) -> float:
        bare = "[g(" + "".join(f"a{k}=b, " for k in range(n)) + "c=d)]"
        began = time.thread_time()
        _parse(bare)
        _parse("[" + call * n + "f()]")
        return time.thread_time() - began

    seconds(50)
    assert seconds(4000) < 40 * max(seconds(500), 0.01)  # its square would be 64 times


@pytest.mark.parametrize("written", ["[1] see there", "[link](http://x)", "[]", "[f", "say [f()]", "f(x=1)", "[f] (x)"])
def test_brackets_that_are_no_call_are_an_answer(written: str) -> None:
    parsed = _parse(written)
    assert (parsed.content, parsed.calls) == (written, ())


def test_a_call_cut_off_says_so() -> None:
    for written, names in (("[f(x=1), g(", ["f", "g"]), ("[f(x=1)", ["f"]), ("[f(x='a", [])):
        parsed = _parse(written)
        assert parsed.calls[-1].status is CallStatus.UNCLOSED
        assert [made.name for made in parsed.tool_calls] == names


def test_calls_between_tags_and_behind_one() -> None:
    tagged = _parse("Wait. <|tool_call_start|>[f(x=1), g()]<|tool_call_end|> Done.", _TAGGED)
    assert [(made.name, made.arguments) for made in tagged.tool_calls] == [("f", '{"x": 1}'), ("g", "{}")]
    assert tagged.content.split() == ["Wait.", "Done."]
    assert _parse("[f()]", _TAGGED).content == "[f()]"
    assert [made.name for made in _parse("Wait. <|python_tag|>[f()]").tool_calls] == ["f"]
    broken = _parse("<|tool_call_start|>f(x=1)<|tool_call_end|>", _TAGGED)
    assert [made.status for made in broken.calls] == [CallStatus.MALFORMED]
    assert broken.content == "<|tool_call_start|>f(x=1)<|tool_call_end|>"


@pytest.mark.parametrize("format_", [_BARE, _TAGGED])
def test_what_was_written_is_read_back(format_: ResponseFormat) -> None:
    syntax = format_.tool_calls
    assert syntax is not None
    arguments = {"a": 'it\'s "Köln"\n\\', "b": [None, True, 1e22, -7], "c": {"d": {}}}
    calls = [ToolCall("f", json.dumps(arguments)), ToolCall("g", "{}")]
    parsed = _parse("".join(piece.text for piece in syntax.write(calls)), format_)
    assert [(made.name, json.loads(made.arguments_json)) for made in parsed.tool_calls] == [("f", arguments), ("g", {})]
    assert [made.status for made in parsed.calls] == [CallStatus.OK, CallStatus.OK]


@pytest.mark.parametrize(
    "value", ["-" * 200_000 + "1", "1" + "+1" * 50_000, "[" * 5_000, "f(" * 150 + ")" * 150, "\x00"]
)
def test_hostile_expressions_never_raise(value: str) -> None:
    (made,) = _parse(f"[f(x={value})]").calls
    assert made.status in (CallStatus.MALFORMED, CallStatus.UNCLOSED)


_SHARDS = (*"[](){}=,.:'\"\\-*#1fx \n", "f(x=1)", "None", "'a'", "b''", "<|python_tag|>", "é", "lambda:", "1_0", "0x")


@pytest.mark.parametrize("seed", range(4))
def test_any_chunks_give_the_same_message_and_nothing_is_lost(seed: int) -> None:
    rng = Random(seed)
    for _ in range(300):
        written = rng.choice(("", "[", "[f(", "[f(x=")) + "".join(rng.choices(_SHARDS, k=rng.randint(1, 14)))
        parsed = _parse(written)
        assert parsed == _parse(written, chunk=rng.randint(1, 3)), written
        told = parsed.content + "".join(made.raw for made in parsed.calls if made.call)
        assert sorted(told.replace("\n", "")) == sorted(written.replace("\n", "")), written
