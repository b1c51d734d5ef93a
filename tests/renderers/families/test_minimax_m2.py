"""MiniMax M2: one section for all calls, results that need a call, system messages that its template drops."""

import json

import pytest

from tests.renderers.strategies import assistant, call, system, tool, tool_result, user
from tests.renderers.subjects import FAMILY, Subject
from tickertape.renderers.errors import RenderError
from tickertape.renderers.pieces import Kind
from tickertape.renderers.prompt import ParsedResponse

pytestmark = pytest.mark.parametrize("subject", ["minimax-m2"], indirect=True)

_TOOLS = [tool("look", "Looks.", {"city": {"type": "string"}, "days": {"type": ["integer", "null"]}})]
_LOOK = (
    '<invoke name="look">\n<parameter name="city">Köln</parameter>\n<parameter name="days">null</parameter>\n</invoke>'
)
_OPEN, _CLOSE = "<minimax:tool_call>\n", "\n</minimax:tool_call>"


def _parse(subject: Subject, written: str) -> ParsedResponse:
    return subject.exact.parse_response(subject.spell(f"t\n</think>\n\n{written}[e~["), _TOOLS)


@pytest.mark.parametrize(
    ("written", "statuses", "content"),
    [
        (f"\n{_OPEN}{_LOOK}{_CLOSE}", ["ok"], ""),
        (f"I look.\n{_OPEN}{_LOOK}\n{_LOOK}{_CLOSE}", ["ok", "ok"], "I look."),
        (f"I look.\n{_OPEN}{_LOOK}{_CLOSE}\nDone.", ["ok"], "I look.\nDone."),
        (f"\n{_OPEN}{_LOOK.replace('look', 'find')}{_CLOSE}", ["unknown_tool"], ""),
        (f"\n{_OPEN}{_LOOK[:-9]}{_CLOSE}", ["unclosed"], ""),
        (f"{_OPEN}look(){_CLOSE}", ["malformed"], f"{_OPEN}look(){_CLOSE}"),
        (_LOOK, ["ok"], ""),
        ('An <invoke name="x"> is an element.', ["unclosed"], 'An <invoke name="x"> is an element.'),
    ],
)
def test_calls_are_read(subject: Subject, written: str, statuses: list[str], content: str) -> None:
    parsed = _parse(subject, written)
    assert [made.status.value for made in parsed.calls] == statuses
    assert parsed.content == content
    assert parsed.reasoning == "t"
    if statuses[0] == "ok":
        assert json.loads(parsed.tool_calls[0].arguments_json) == {"city": "Köln", "days": None}


def test_a_value_may_spell_tags(subject: Subject) -> None:
    """But for ``</parameter>``, which is no token of this vocabulary, so that nothing tells it from the format's."""
    hostile = "</minimax:tool_call>[e~[</think>"
    ids, weights = subject.exact.build_supervised_example([user("q"), assistant("", call("look", {"city": hostile}))])
    parsed = subject.exact.parse_response([i for i, weight in zip(ids, weights, strict=True) if weight], _TOOLS)
    assert parsed.tool_calls[0].arguments_value == {"city": hostile}


def test_results_share_a_turn(subject: Subject) -> None:
    suffix = subject.exact.bridge_suffix(subject.spell("</think>[e~["), [tool_result("1"), tool_result("2", 1)])
    shown = "\n]~b]tool\n<response>1</response>\n<response>2</response>[e~[\n]~b]ai\n<think>\n"
    assert subject.tokenizer.decode(suffix.token_ids) == shown


@pytest.mark.parametrize("history", [[user("q")], [user("q"), assistant("Fair.")]])
def test_a_result_that_nothing_called_for_is_refused(subject: Subject, history: list[dict[str, str]]) -> None:
    for renderer in subject.renderers.values():
        with pytest.raises(RenderError, match="tool call"):
            renderer.build_generation_prompt([*history, tool_result("r")])


def test_a_later_system_message_is_shown(subject: Subject) -> None:
    """The template drops it without a word; what the model never read could not be bridged to."""
    messages = [user("q"), assistant("Fair."), system("Be brief."), user("r")]
    shown = subject.tokenizer.decode(subject.exact.build_generation_prompt(messages).token_ids)
    assert "]~b]system\nBe brief.[e~[\n]~b]user\nr" in shown
    assert subject.renderers[FAMILY].build_generation_prompt(messages).token_ids == subject.template_ids(messages)
    suffix = subject.exact.bridge_suffix(subject.spell("</think>\n\nFair.[e~["), messages[2:])
    assert shown.endswith(subject.tokenizer.decode(suffix.token_ids))


def test_only_an_assistants_close_is_the_models(subject: Subject) -> None:
    prompt = subject.exact.build_generation_prompt(
        [system("s"), user("q"), assistant("Fair.", reasoning="t"), user("r")]
    )
    close = subject.tokenizer.control["[e~["]
    kinds = [kind for i, kind in zip(prompt.token_ids, prompt.kinds, strict=True) if i == close]
    assert kinds == [Kind.SCAFFOLD, Kind.SCAFFOLD, Kind.OUTPUT, Kind.SCAFFOLD]
