"""Mistral: what is special about tools and system messages that move, about call ids, and about calls in a list."""

from typing import Any

import pytest

from tests.renderers.strategies import assistant, call, system, tool, tool_result, user
from tests.renderers.subjects import Subject
from tickertape.renderers.choose import get_renderer
from tickertape.renderers.errors import RenderError
from tickertape.renderers.prompt import CallStatus, ParsedResponse
from tickertape.renderers.renderer import Renderer

_v3 = pytest.mark.parametrize("subject", ["mistral-v3"], indirect=True)
_tekken = pytest.mark.parametrize("subject", ["mistral-v3-tekken"], indirect=True)
_v7 = pytest.mark.parametrize("subject", ["mistral-v7"], indirect=True)
_v11 = pytest.mark.parametrize("subject", ["mistral-v11"], indirect=True)
_v13 = pytest.mark.parametrize("subject", ["mistral-v13"], indirect=True)
_reasoning = pytest.mark.parametrize("subject", ["mistral-v13-reasoning"], indirect=True)
_small4 = pytest.mark.parametrize("subject", ["mistral-small-4"], indirect=True)
_with_moving_tools = pytest.mark.parametrize(
    "subject", ["mistral-v3", "mistral-v3-tekken", "mistral-v11"], indirect=True
)

_TOOLS = [tool("look", "Looks.", {"city": {"type": "string"}})]


def _text(renderer: Renderer, *messages: dict[str, Any], tools: list[dict[str, Any]] | None = None) -> str:
    return renderer.tokenizer.decode(renderer.build_generation_prompt(messages, tools).token_ids)


def _parse(subject: Subject, written: str) -> ParsedResponse:
    return subject.exact.parse_response(subject.spell(written + "</s>"))


# What moves.


@_with_moving_tools
def test_the_template_moves_tools_to_the_last_question_and_what_was_read_stays(subject: Subject) -> None:
    conversation = (user("one"), assistant("two"), user("three"))
    moved = _text(subject.renderers["family"], *conversation, tools=_TOOLS)
    stays = _text(subject.exact, *conversation, tools=_TOOLS)
    assert moved.index("one") < moved.index("[AVAILABLE_TOOLS]") < moved.index("three")
    assert stays.index("[AVAILABLE_TOOLS]") < stays.index("one")
    assert moved.count("[AVAILABLE_TOOLS]") == stays.count("[AVAILABLE_TOOLS]") == 1


@_with_moving_tools
def test_the_template_tells_the_last_question_by_its_words(subject: Subject) -> None:
    """So that it shows the tools twice where the same was asked twice."""
    conversation = (user("same"), assistant("two"), user("same"))
    assert _text(subject.renderers["family"], *conversation, tools=_TOOLS).count("[AVAILABLE_TOOLS]") == 2
    assert _text(subject.exact, *conversation, tools=_TOOLS).count("[AVAILABLE_TOOLS]") == 1


@_tekken
def test_the_template_moves_the_system_message_and_what_was_read_stays(subject: Subject) -> None:
    conversation = [system("s"), user("one"), assistant("two"), user("three")]
    family = subject.renderers["family"]
    assert _text(family, *conversation) == "<s>[INST]one[/INST]two</s>[INST]s\n\nthree[/INST]"
    assert _text(subject.exact, *conversation) == "<s>[INST]s\n\none[/INST]two</s>[INST]three[/INST]"
    asked = [system("s"), user("q"), assistant("", call("f", {})), tool_result("r")]
    assert "s\n\n" not in _text(family, *asked), "a template's slip, which leaves no system message in a tool loop"
    assert "[INST]s\n\nq[/INST]" in _text(subject.exact, *asked)


@_v11
def test_the_template_drops_the_words_beside_a_call_and_what_was_sampled_keeps_them(subject: Subject) -> None:
    asked = (user("q"), assistant("Wait.", call("f", {})), tool_result("r"))
    written = "[TOOL_CALLS]f[CALL_ID]call00000[ARGS]{}</s>[TOOL_RESULTS]call00000[TOOL_CONTENT]r[/TOOL_RESULTS]"
    assert _text(subject.renderers["family"], *asked).endswith("[INST]q[/INST]" + written)
    assert _text(subject.exact, *asked).endswith("[INST]q[/INST]Wait." + written)


@_v3
def test_one_space_in_front_of_an_answer_is_the_formats(subject: Subject) -> None:
    parsed = _parse(subject, "     def f(): ...")
    assert parsed.content == "    def f(): ..."
    prompt = subject.exact.build_generation_prompt([user("q")]).token_ids
    assert _text(subject.exact, user("q"), {"role": "assistant", "content": parsed.content}).endswith(
        "[/INST]     def f(): ...</s>"
    )
    assert subject.tokenizer.decode(prompt).endswith("[INST] q[/INST]")


# What is refused.


@_with_moving_tools
def test_call_ids_have_nine_characters(subject: Subject) -> None:
    made = call("f", {}) | {"id": "call_1"}
    for messages in ([user("q"), assistant("", made)], [user("q"), tool_result("r") | {"tool_call_id": "call_1"}]):
        with pytest.raises(RenderError, match="length 9"):
            subject.exact.build_generation_prompt(messages)


@_with_moving_tools
def test_user_and_assistant_alternate_but_for_calls(subject: Subject) -> None:
    for messages in ([assistant("a")], [user("q"), user("q")], [user("q"), assistant("a"), assistant("a")]):
        with pytest.raises(RenderError, match="alternate"):
            subject.exact.build_generation_prompt(messages)
    prompt = subject.exact.build_generation_prompt([user("q")]).token_ids
    with pytest.raises(RenderError, match="alternate"):
        subject.exact.bridge_to_next_turn(prompt, subject.spell("a</s>"), [user("q"), user("q")])


@_tekken
def test_a_later_system_message_has_no_place(subject: Subject) -> None:
    with pytest.raises(RenderError, match="at the start only"):
        subject.exact.build_generation_prompt([user("q"), assistant("", call("f", {})), system("s")])


@_v13
def test_roles_that_may_not_follow_each_other_are_named(subject: Subject) -> None:
    with pytest.raises(RenderError, match="role tool cannot stand behind user"):
        subject.exact.build_generation_prompt([user("q"), tool_result("r")])
    with pytest.raises(RenderError, match="role assistant cannot stand behind nothing"):
        subject.exact.build_generation_prompt([assistant("a")])
    prompt = subject.exact.build_generation_prompt([user("q")]).token_ids
    with pytest.raises(RenderError, match="cannot be gone on with"):
        subject.exact.bridge_to_next_turn(prompt, subject.spell("a</s>"), [assistant("b"), user("q")])


@_v13
def test_an_empty_answer_is_refused_as_the_template_does_unless_it_was_sampled(subject: Subject) -> None:
    messages = [user("q"), assistant(""), user("r")]
    with pytest.raises(RenderError, match="words or tool calls"):
        subject.renderers["family"].build_generation_prompt(messages)
    assert _text(subject.exact, *messages).endswith("[INST]q[/INST]</s>[INST]r[/INST]")


@_small4
def test_another_reasoning_effort_is_refused(subject: Subject) -> None:
    with pytest.raises(ValueError, match="must be none or high"):
        get_renderer("mistral-small-4", subject.tokenizer, reasoning_effort="medium")


# Turns.


@_v7
def test_tools_of_version_7_are_written_as_mistral_common_does(subject: Subject) -> None:
    """The template shows none."""
    renderer = get_renderer("mistral-v7", subject.tokenizer)
    text = _text(renderer, user("q"), assistant("", call("f", {"x": 1})), tool_result("r"), tools=_TOOLS)
    assert text.startswith('<s>[AVAILABLE_TOOLS][{"type": "function", "function": {"name": "look"')
    assert text.endswith(
        '[INST]q[/INST][TOOL_CALLS][{"name": "f", "arguments": {"x": 1}, "id": "call00000"}]</s>'
        "[TOOL_RESULTS]call00000[TOOL_CONTENT]r[/TOOL_RESULTS]"
    )


@_v13
def test_neighbours_of_one_role_share_a_turn(subject: Subject) -> None:
    renderer = get_renderer("mistral-v13", subject.tokenizer)
    messages = (user("a"), user("b"), assistant("c", call("f", {})), assistant("d", call("g", {})))
    text = _text(renderer, *messages)
    assert text == "<s>[INST]a\n\nb[/INST]c\n\nd[TOOL_CALLS]f[ARGS]{}[TOOL_CALLS]g[ARGS]{}</s>"


@_reasoning
def test_thoughts_stay_in_every_prompt(subject: Subject) -> None:
    messages = (user("a"), assistant("b", reasoning="t"), user("c"))
    assert _text(subject.exact, *messages).endswith("[INST]a[/INST][THINK]t[/THINK]b</s>[INST]c[/INST]")


# Calls.


@pytest.mark.parametrize(
    ("body", "statuses", "read"),
    [
        ('[{"name": "f", "arguments": {"x": 1}, "id": "abcdefghi"}]', ["ok"], [("f", '{"x": 1}', "abcdefghi")]),
        (' [{"name": "f", "arguments": {}}, {"name": "g", "arguments": {}, "id": "b"}]', ["ok", "ok"],
         [("f", "{}", None), ("g", "{}", "b")]),
        ('[{"name": "f", "arguments": {}},{"x": 1},{"name": "g", "arguments": {}}]', ["ok", "malformed", "ok"],
         [("f", "{}", None), ("g", "{}", None)]),
        ('[{"name": "f", "arguments": {}}', ["unclosed"], [("f", "{}", None)]),
        ('[{"name": "f", "arguments": {}', ["unclosed"], []),
        ('[{"name": "f", "arguments": {"x": NaN}}]', ["invalid_json"], []),
        ('[{"name": "f", "arguments": 1}]', ["malformed"], []),
        ("[]", ["malformed"], []),
        ("f", ["malformed"], []),
        ("[", ["unclosed"], []),
        ("", ["unclosed"], []),
    ],
)  # fmt: skip
@_tekken
def test_every_call_of_a_list_has_a_status(
    subject: Subject, body: str, statuses: list[str], read: list[tuple[str, str, str | None]]
) -> None:
    written = "[TOOL_CALLS]" + body
    parsed = _parse(subject, written)
    assert [made.status for made in parsed.calls] == statuses
    assert [(made.name, made.arguments, made.id) for made in parsed.tool_calls] == read
    assert "".join(made.raw for made in parsed.calls) == written
    if not read:
        assert parsed.content == written


@pytest.mark.parametrize(
    ("body", "status", "read"),
    [
        ("f[CALL_ID]abcdefghi[ARGS]{}", CallStatus.OK, ("f", "{}", "abcdefghi")),
        ('f[ARGS]{"x": 1}', CallStatus.OK, ("f", '{"x": 1}', None)),
        ("f[ARGS]{", CallStatus.UNCLOSED, ("f", "{", None)),
        ("f[ARGS]{x}", CallStatus.INVALID_JSON, ("f", "{x}", None)),
        ("f[CALL_ID]abc", CallStatus.UNCLOSED, None),
        ("f", CallStatus.UNCLOSED, None),
        ("look it up", CallStatus.MALFORMED, None),
        ("[ARGS]{}", CallStatus.MALFORMED, None),
    ],
)
@_v11
def test_every_call_behind_tags_has_a_status(
    subject: Subject, body: str, status: CallStatus, read: tuple[str, str, str | None] | None
) -> None:
    parsed = _parse(subject, "[TOOL_CALLS]" + body)
    (made,) = parsed.calls
    assert (made.status, made.raw) == (status, "[TOOL_CALLS]" + body)
    assert [(found.name, found.arguments, found.id) for found in parsed.tool_calls] == ([read] if read else [])
    assert parsed.content == ("" if read else made.raw)


@_v11
def test_words_between_calls_are_content(subject: Subject) -> None:
    parsed = _parse(subject, "A [TOOL_CALLS]f[ARGS]{} b [TOOL_CALLS]g[ARGS]{}")
    assert [made.name for made in parsed.tool_calls] == ["f", "g"]
    assert parsed.content.split() == ["A", "b"]
