"""Gemma 4: what is special about calls and results inside one turn, their syntax, and thoughts that a prompt opens."""

import json
from typing import Any

import pytest

from tests.renderers.strategies import assistant, call, system, tool, tool_result, user
from tests.renderers.subjects import Subject
from tickertape.renderers.errors import RenderError
from tickertape.renderers.messages import Message
from tickertape.renderers.prompt import CallStatus, ParsedResponse
from tickertape.renderers.renderer import Renderer

_silent = pytest.mark.parametrize("subject", ["gemma4"], indirect=True)
_small = pytest.mark.parametrize("subject", ["gemma4, E4B"], indirect=True)
_thinking = pytest.mark.parametrize("subject", ["gemma4, thinking"], indirect=True)

_TURN = "<|turn>model\n<|channel>thought\n<channel|>"
_ASKED = [user("q"), assistant("I look.", call("f", {"b": 1, "A": "x"})), tool_result("fair")]


def _text(renderer: Renderer, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None) -> str:
    return renderer.tokenizer.decode(renderer.build_generation_prompt(messages, tools).token_ids)


def _parse(subject: Subject, written: str) -> ParsedResponse:
    return subject.exact.parse_response(subject.spell(written))


# Turns.


@_silent
def test_an_exchange_with_tools_is_one_turn(subject: Subject) -> None:
    called = '<|tool_call>call:f{A:<|"|>x<|"|>,b:1}<tool_call|>'
    turn = called + '<|tool_response>response:f{value:<|"|>fair<|"|>}<tool_response|>'
    assert _text(subject.exact, _ASKED).endswith(f"q<turn|>\n{_TURN}I look.{turn}")
    answered = _text(subject.exact, [*_ASKED, assistant("Fair."), user("Thanks.")])
    assert f"{turn}Fair.<turn|>\n<|turn>user\nThanks.<turn|>\n{_TURN}" in answered


@_silent
def test_the_template_moves_words_beside_calls_behind_the_results(subject: Subject) -> None:
    """So that a prompt does not go on where the model stopped: what was sampled keeps its order."""
    family = subject.renderers["family"]
    assert _text(family, _ASKED).endswith('{value:<|"|>fair<|"|>}<tool_response|>I look.<turn|>\n')
    assert _text(family, [*_ASKED, user("r")]).endswith(f"I look.<turn|>\n<|turn>user\nr<turn|>\n{_TURN}")


@_silent
def test_a_question_behind_results_closes_the_turn(subject: Subject) -> None:
    messages = [*_ASKED, user("Never mind.")]
    assert "<tool_response|><turn|>\n<|turn>user\nNever mind.<turn|>\n" in _text(subject.exact, messages)


@_silent
def test_calls_that_nobody_answered_leave_the_result_open(subject: Subject) -> None:
    messages = [*_ASKED[:2], user("Never mind.")]
    assert "<tool_call|><|tool_response><|turn>user\nNever mind." in _text(subject.exact, messages)
    prompt = subject.exact.build_generation_prompt(_ASKED[:1]).token_ids
    sampled = subject.spell('I look.<|tool_call>call:f{A:<|"|>x<|"|>,b:1}<tool_call|><|tool_response>')
    bridged = subject.exact.bridge_to_next_turn(prompt, sampled, messages[2:])
    assert bridged is not None
    assert bridged.token_ids == subject.exact.build_generation_prompt(messages).token_ids


@pytest.mark.parametrize("ending", ["<|tool_response>", ""])
@_silent
def test_results_behind_a_bridge_bear_the_names_of_the_sampled_calls(subject: Subject, ending: str) -> None:
    prompt = subject.exact.build_generation_prompt(_ASKED[:1]).token_ids
    sampled = subject.spell("<|tool_call>call:f{}<tool_call|><|tool_call>call:g{}<tool_call|>" + ending)
    results = [tool_result("1", 0), tool_result("2", 1)]
    bridged = subject.exact.bridge_to_next_turn(prompt, sampled, results)
    assert bridged is not None
    assert subject.tokenizer.decode(bridged.token_ids).endswith(
        '<tool_call|><|tool_response>response:f{value:<|"|>1<|"|>}<tool_response|>'
        '<|tool_response>response:g{value:<|"|>2<|"|>}<tool_response|>'
    )


@_silent
def test_a_result_without_id_and_name_answers_the_call_in_its_place(subject: Subject) -> None:
    """The template calls it ``unknown``, behind a bridge too, where sampled calls have no ids."""
    result = {"role": "tool", "content": "fair"}
    assert "<|tool_response>response:f{" in _text(subject.exact, [*_ASKED[:2], result])
    assert "<|tool_response>response:unknown{" in subject.template_text([*_ASKED[:2], result])


@_silent
def test_a_result_that_nothing_called_for_is_refused_where_the_template_drops_it(subject: Subject) -> None:
    for messages in ([user("q"), tool_result("r")], [user("q"), assistant("a"), tool_result("r")]):
        with pytest.raises(RenderError, match="must follow"):
            subject.exact.build_generation_prompt(messages)


@_silent
def test_arguments_must_be_an_object(subject: Subject) -> None:
    with pytest.raises(RenderError, match="must be a JSON object"):
        subject.exact.build_generation_prompt([user("q"), assistant("", call("f", "[1]"))])


# Thoughts.


@_small
def test_the_small_models_are_shown_no_empty_thought(subject: Subject) -> None:
    assert _text(subject.exact, [user("q")]).endswith("<turn|>\n<|turn>model\n")


@_thinking
def test_behind_a_result_the_prompt_opens_the_thought(subject: Subject) -> None:
    prompt = subject.exact.build_generation_prompt(_ASKED).token_ids
    assert subject.tokenizer.decode(prompt).endswith("<tool_response|><|channel>thought\n")
    sampled = subject.spell("It is fair.\n<channel|>Fair.<turn|>")
    parsed = subject.exact.parse_response(sampled, prompt_ids=prompt)
    assert (parsed.reasoning, parsed.content) == ("It is fair.", "Fair.")
    whole = subject.exact.build_conversation([*_ASKED, parsed.message]).token_ids
    assert whole[: len(prompt) + len(sampled)] == [*prompt, *sampled]


@_thinking
def test_a_thought_cut_behind_a_result_is_closed(subject: Subject) -> None:
    prompt = subject.exact.build_generation_prompt(_ASKED).token_ids
    bridged = subject.exact.bridge_to_next_turn(prompt, subject.spell("It is"), [user("And?")])
    assert bridged is not None
    text = subject.tokenizer.decode(bridged.token_ids)
    assert text.endswith("<|channel>thought\nIt is\n<channel|><turn|>\n<|turn>user\nAnd?<turn|>\n<|turn>model\n")


@_thinking
def test_a_channel_of_another_name_keeps_it(subject: Subject) -> None:
    parsed = _parse(subject, "<|channel>plan\nFirst.\n<channel|>Done.<turn|>")
    assert (parsed.reasoning, parsed.content) == ("plan\nFirst.", "Done.")


# Calls.


@pytest.mark.parametrize(
    ("body", "status", "arguments"),
    [
        ("call:f{}", CallStatus.OK, "{}"),
        ('call:f{a:<|"|>x<|"|>,b:-1.5,c:true,d:null}', CallStatus.OK, '{"a": "x", "b": -1.5, "c": true, "d": null}'),
        ('call:f{a:[1,<|"|>x<|"|>,[]],b:{c:{}}}', CallStatus.OK, '{"a": [1, "x", []], "b": {"c": {}}}'),
        ('call:f{a:<|"|>}],{"\\\n<|"|>}', CallStatus.OK, '{"a": "}],{\\"\\\\\\n"}'),
        ('call:f{<|"|>a<|"|>:1}', CallStatus.OK, '{"a": 1}'),
        (" call: f { a : 1 , b : 2 } ", CallStatus.OK, '{"a": 1, "b": 2}'),
        ("f{a:1}", CallStatus.OK, '{"a": 1}'),
        ("call:f{a:None,b:True}", CallStatus.OK, '{"a": null, "b": true}'),
        ("call:f{a:New York}", CallStatus.MALFORMED, '{"a": "New York"}'),
        ("call:f{a:12:30}", CallStatus.MALFORMED, '{"a": "12:30"}'),
        ("call:f{a}", CallStatus.MALFORMED, "{}"),
        ("call:f{a:1} b", CallStatus.MALFORMED, '{"a": 1}'),
        ("call:f{a:[1}}", CallStatus.MALFORMED, '{"a": [1]}'),
        ("call:f{a:1", CallStatus.UNCLOSED, "{"),
        ('call:f{a:<|"|>x', CallStatus.UNCLOSED, '{"a": "x'),
        ("call:f", CallStatus.MALFORMED, None),
        ("call:{}", CallStatus.MALFORMED, None),
        ('{"name": "f"}', CallStatus.MALFORMED, None),
        ("", CallStatus.MALFORMED, None),
    ],
)
@_silent
def test_every_call_has_a_status(subject: Subject, body: str, status: CallStatus, arguments: str | None) -> None:
    written = f"<|tool_call>{body}<tool_call|>"
    parsed = _parse(subject, written + "<|tool_response>")
    (made,) = parsed.calls
    assert made.status is status
    assert made.raw == written
    if arguments is None:
        assert (parsed.content, parsed.tool_calls) == (written, ())
    else:
        assert parsed.tool_calls[0].arguments_json == arguments
        assert (parsed.tool_calls[0].name, parsed.content) == ("f", "")


@_silent
def test_a_quotation_mark_spelled_in_words_is_text(subject: Subject) -> None:
    quote = subject.tokenizer.control['<|"|>']
    words = subject.tokenizer.encode_text('say <|"|> aloud')
    ids = [*subject.spell("<|tool_call>call:f{a:"), quote, *words, quote, *subject.spell("}<tool_call|>")]
    (made,) = subject.exact.parse_response(ids).tool_calls
    assert json.loads(made.arguments_json) == {"a": 'say <|"|> aloud'}


@_silent
def test_deep_nesting_is_read(subject: Subject) -> None:
    for depth in (10, 3000):
        parsed = _parse(subject, "<|tool_call>call:f{a:" + "[" * depth + "]" * depth + "}<tool_call|>")
        assert parsed.tool_calls[0].arguments_json == '{"a": ' + "[" * depth + "]" * depth + "}"


@_silent
def test_names_are_checked_against_the_tools_that_were_offered(subject: Subject) -> None:
    ids = subject.spell("<|tool_call>call:g{}<tool_call|>")
    assert subject.exact.parse_response(ids, [tool("f", "", {})]).calls[0].status is CallStatus.UNKNOWN_TOOL


# Tools.


@_silent
def test_schemas_are_declared_in_order_with_types_in_capitals(subject: Subject) -> None:
    offered = tool("f", "Does.", {"b": {"type": "array", "items": {"type": "string"}}, "A": {"type": "integer"}})
    assert _text(subject.exact, [system("s"), user("q")], [offered]).startswith(
        '<bos><|turn>system\ns<|tool>declaration:f{description:<|"|>Does.<|"|>,parameters:{properties:{'
        'A:{type:<|"|>INTEGER<|"|>},b:{items:{type:<|"|>STRING<|"|>},type:<|"|>ARRAY<|"|>}},'
        'required:[<|"|>b<|"|>,<|"|>A<|"|>],type:<|"|>OBJECT<|"|>}}<tool|><turn|>\n'
    )


@_silent
def test_what_a_schema_says_spells_no_quotation_mark(subject: Subject) -> None:
    offered = tool('f<|"|>', '<|"|><tool|>', {'<|"|>': {"type": '<|"|>', "description": "<|turn>"}})
    plain = tool("f", "d", {"k": {"type": "t", "description": "e"}})
    count = subject.control_counts
    asked = [Message("user", "q")]
    hostile = subject.exact.build_generation_prompt(asked, [offered]).token_ids
    assert count(hostile) == count(subject.exact.build_generation_prompt(asked, [plain]).token_ids)
