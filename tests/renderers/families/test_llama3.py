"""Llama 3: what is special about calls without tags, about tools in a user's turn, and about the date."""

from typing import Any

import pytest

from tests.renderers.strategies import assistant, call, system, tool, tool_result, user
from tests.renderers.subjects import Subject
from tickertape.renderers.choose import get_renderer
from tickertape.renderers.draft import CallDelta, ContentDelta
from tickertape.renderers.errors import RenderError
from tickertape.renderers.prompt import CallStatus, ParsedResponse
from tickertape.renderers.renderer import Renderer

_old = pytest.mark.parametrize("subject", ["llama3"], indirect=True)
_new = pytest.mark.parametrize("subject", ["llama3.1"], indirect=True)

_TOOLS = [tool("look", "Looks.", {"city": {"type": "string"}})]


def _text(renderer: Renderer, *messages: dict[str, Any], tools: list[dict[str, Any]] | None = None) -> str:
    return renderer.tokenizer.decode(renderer.build_generation_prompt(messages, tools).token_ids)


def _parse(subject: Subject, written: str) -> ParsedResponse:
    return subject.exact.parse_response(subject.spell(written + "<|eot_id|>"))


@_old
def test_llama_3_0_refuses_what_it_has_no_words_for(subject: Subject) -> None:
    for messages, tools in (
        ([user("q")], _TOOLS),
        ([user("q"), assistant("", call("f", {}))], None),
        ([user("q"), tool_result("r")], None),
    ):
        with pytest.raises(RenderError, match="has no tools"):
            subject.exact.build_generation_prompt(messages, tools)


@_new
def test_tools_stand_in_the_first_user_message_of_any_history(subject: Subject) -> None:
    conversation = (system("s"), user("one"), assistant("two"), user("three"))
    for renderer in (subject.exact, subject.renderers["family"]):
        text = _text(renderer, *conversation, tools=_TOOLS)
        first = text.partition("<|start_header_id|>user<|end_header_id|>\n\n")[2].partition("<|eot_id|>")[0]
        assert first.startswith("Given the following functions")
        assert first.endswith("}\n\none")
        assert text.count("Given the following functions") == 1


@_new
def test_the_system_message_may_show_the_tools(subject: Subject) -> None:
    renderer = get_renderer("llama3.1", subject.tokenizer, tools_in_user_message=False, date_string="1 May 2026")
    text = _text(renderer, user("q"), tools=_TOOLS)
    opening = text.partition("<|eot_id|>")[0]
    assert "Today Date: 1 May 2026\n\nYou have access to the following functions." in opening
    assert '"name": "look"' in opening


@_new
def test_tools_without_a_message_that_could_show_them_are_refused(subject: Subject) -> None:
    with pytest.raises(RenderError, match="there is none"):
        subject.exact.build_generation_prompt([system("s")], _TOOLS)


@_new
def test_two_calls_are_read_but_not_rendered(subject: Subject) -> None:
    """The template refuses them; behind a bridge they stay as they were sampled."""
    written = '{"name": "f", "parameters": {"x": 1}}; {"name": "g", "parameters": {}}'
    parsed = _parse(subject, written)
    assert [(made.name, made.arguments) for made in parsed.tool_calls] == [("f", '{"x": 1}'), ("g", "{}")]
    assert [made.status for made in parsed.calls] == [CallStatus.OK, CallStatus.OK]
    with pytest.raises(RenderError, match="one tool call"):
        subject.exact.build_generation_prompt([user("q"), parsed.message, tool_result("r")])
    prompt = subject.exact.build_generation_prompt([user("q")]).token_ids
    assert subject.exact.bridge_to_next_turn(prompt, subject.spell(written), [tool_result("r")]) is not None


@pytest.mark.parametrize(
    ("written", "status", "arguments"),
    [
        ('{"name": "f", "parameters": {"x": 1}}', CallStatus.OK, '{"x": 1}'),
        ('\n{"name": "f", "parameters": {"x":1} }', CallStatus.OK, '{"x":1}'),
        ('{"type": "function", "name": "f", "parameters": {}}', CallStatus.OK, "{}"),
        ('{"name": "f", "arguments": {}}', CallStatus.OK, "{}"),
        ('{"name": "f", "parameters": {}, "id": 1}', CallStatus.OK, "{}"),
        ('<|python_tag|>{"name": "f", "parameters": {}}', CallStatus.OK, "{}"),
        ('{"name": "f", "parameters": {"x": NaN}}', CallStatus.INVALID_JSON, '{"x": NaN}'),
        ('{"name": "f", "parameters": {}, id}', CallStatus.INVALID_JSON, "{}"),
        ('{"name": "f", "parameters": {"x": 1', CallStatus.UNCLOSED, '{"x": 1'),
        ('{"name": "f", "parameters": {}', CallStatus.UNCLOSED, "{}"),
        ('{"name": "f", "parameters": "x"}', CallStatus.MALFORMED, None),
        ('{"name": "f", "parameters": null}', CallStatus.MALFORMED, None),
        ("<|python_tag|>print(1)", CallStatus.MALFORMED, None),
    ],
)
@_new
def test_every_call_has_a_status(subject: Subject, written: str, status: CallStatus, arguments: str | None) -> None:
    parsed = _parse(subject, written)
    (made,) = parsed.calls
    assert made.status is status
    assert made.raw == written
    assert [read.arguments for read in parsed.tool_calls] == ([] if arguments is None else [arguments])
    assert parsed.content == ("" if made.call else written)


@pytest.mark.parametrize(
    "written", ['{"city": "Rome"}', '{"name": "Bob"}', '{"name": "Bob", "age": 3}', "{", "{}", "; "]
)
@_new
def test_json_that_is_no_call_is_an_answer(subject: Subject, written: str) -> None:
    parsed = _parse(subject, written)
    assert (parsed.content, parsed.calls) == (written, ())


@_new
def test_a_call_behind_words_is_words(subject: Subject) -> None:
    written = 'I call {"name": "f", "parameters": {}}'
    assert _parse(subject, written).content == written


@_new
def test_words_behind_a_call_are_content(subject: Subject) -> None:
    parsed = _parse(subject, '{"name": "f", "parameters": {}} and done')
    assert (parsed.content, len(parsed.tool_calls)) == (" and done", 1)


@_new
def test_an_answer_in_json_is_told_as_soon_as_it_is_no_call(subject: Subject) -> None:
    parser = subject.exact.stream_parser()
    assert parser.feed(subject.spell('{"na')) == []
    assert parser.feed(subject.spell('ture": "wild"')) == [ContentDelta('{"nature": "wild"')]


@_new
def test_a_call_is_told_once_its_arguments_begin(subject: Subject) -> None:
    parser = subject.exact.stream_parser()
    assert parser.feed(subject.spell('{"name": "f", "parameters": ')) == []
    deltas = parser.feed(subject.spell('{"x": '))
    assert deltas[0] == CallDelta(0, name="f")
    assert "".join(delta.arguments for delta in deltas if isinstance(delta, CallDelta)) == '{"x": '


@_new
def test_the_template_drops_the_words_beside_a_call_and_what_was_sampled_keeps_them(subject: Subject) -> None:
    said = (user("q"), assistant("Wait.", call("f", {})), tool_result("r"))
    assert "Wait." not in _text(subject.renderers["family"], *said)
    assert 'Wait.<|python_tag|>{"name": "f", "parameters": {}}<|eot_id|>' in _text(subject.exact, *said)


@_new
def test_a_result_is_shown_as_json_text(subject: Subject) -> None:
    text = _text(subject.exact, user("q"), assistant("", call("f", {})), tool_result('{"sky": "fair"}\n'))
    assert '<|start_header_id|>ipython<|end_header_id|>\n\n"{\\"sky\\": \\"fair\\"}\\n"<|eot_id|>' in text


@_new
def test_three_tokens_end_a_turn(subject: Subject) -> None:
    stops = [subject.tokenizer.control[token] for token in ("<|eot_id|>", "<|eom_id|>", "<|end_of_text|>")]
    assert subject.exact.get_stop_sequences() == stops
