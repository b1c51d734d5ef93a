"""DeepSeek: what is special about its many templates, about thoughts that only some prompts open, and about DSML."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

from tests.renderers.conversations import conversations_for
from tests.renderers.strategies import assistant, call, system, tool, tool_result, user
from tests.renderers.subjects import FAMILY, TEMPLATE, Subject
from tickertape.renderers.choose import get_renderer
from tickertape.renderers.draft import CallDelta
from tickertape.renderers.errors import BridgeRefused
from tickertape.renderers.prompt import CallStatus
from tickertape.renderers.renderer import Renderer

R1, R1_0528, DISTILL = "deepseek-r1", "deepseek-r1-0528", "deepseek-r1-distill, Qwen"
V31_THINKING, V32, V32_THINKING = "deepseek-v3.1, thinking", "deepseek-v3.2", "deepseek-v3.2, thinking"
V4, V4_THINKING, V4_DROPPING = "deepseek-v4", "deepseek-v4, thinking", "deepseek-v4, dropping thoughts"
V4_HARD, V4_ENCODER = "deepseek-v4-unsloth, thinking hard", "deepseek-v4-encoder"

_GATHERING = ("deepseek-v3", R1, R1_0528, DISTILL, "deepseek-v3.1", V32, V4)
_OPENING_ONCE = (R1, DISTILL, V31_THINKING)
"""Models for whom a thought is opened behind a user's message, and not behind a tool's result."""
_CALLED = [user("q"), assistant("I look.", call("f", '{"x": 1}'), call("g", "{}", 1))]
_RESULTS = [tool_result("r"), tool_result("s", 1)]


def _subjects(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("subject", names, indirect=True)


def _prompt(renderer: Renderer, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None) -> str:
    return renderer.tokenizer.decode(renderer.build_generation_prompt(messages, tools).token_ids)


# System messages.


@_subjects(*_GATHERING)
def test_system_messages_stand_at_the_start_each_with_its_own_tokens(subject: Subject) -> None:
    messages = [system("Be brief."), user("q"), system("Be kind."), user("again")]
    prompt = subject.exact.build_generation_prompt(messages)
    text = subject.tokenizer.decode(prompt.token_ids)
    assert text.startswith("<｜begin▁of▁sentence｜>Be brief.\n\nBe kind.<｜User｜>q")
    spoken = {k: "".join(subject.tokenizer.decode([i]) for i in ids) for k, ids in _by_message(prompt).items()}
    assert (spoken[0].strip(), spoken[2].strip()) == ("Be brief.", "Be kind.")


def _by_message(prompt: Any) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for token, message in zip(prompt.token_ids, prompt.messages, strict=True):
        found.setdefault(message, []).append(token)
    return found


@_subjects(DISTILL)
def test_a_distills_template_drops_all_system_messages_but_the_last(subject: Subject) -> None:
    text = _prompt(subject.renderers[FAMILY], [system("Be brief."), system("Be kind."), user("q")])
    assert text.startswith("<｜begin▁of▁sentence｜>Be kind.<｜User｜>")


@_subjects(*_GATHERING)
def test_a_new_system_message_cannot_be_bridged(subject: Subject) -> None:
    with pytest.raises(BridgeRefused, match="start of the conversation"):
        subject.exact.bridge_suffix(subject.spell("Hi"), [system("Be kind."), user("q")])


@_subjects(V4_ENCODER)
def test_the_encoder_shows_a_later_system_message_where_it_stands(subject: Subject) -> None:
    messages = [system("Be brief."), user("q"), assistant("a"), system("Be kind."), user("again")]
    assert "a<｜end▁of▁sentence｜>Be kind.<｜User｜>again" in _prompt(subject.exact, messages)
    suffix = subject.exact.bridge_suffix(subject.spell("a<｜end▁of▁sentence｜>"), messages[3:])
    assert subject.tokenizer.decode(suffix.token_ids).startswith("Be kind.<｜User｜>again")


# V3 and R1: templates that lose count.


@_subjects("deepseek-v3", R1, "r1-1776", DISTILL, "deepseek-r1-distill, Llama", "deepseek-r1-distill-unopened")
def test_calls_under_null_content_equal_the_template(subject: Subject) -> None:
    """The first templates show a message's calls only if its content is null, which drawn conversations never have."""

    @settings(max_examples=60)
    @given(conversation=conversations_for(subject))
    def check(conversation: Any) -> None:
        messages = [m | {"content": None} if "tool_calls" in m else m for m in conversation.messages]
        # apply_chat_template leaves out what is null, on which these templates fail; engines pass it on.
        special = subject.tokenizer.special_tokens
        (text,), _ = render_jinja_template(
            conversations=[messages], chat_template=subject.template, add_generation_prompt=True, **special
        )
        ids = subject.renderers[FAMILY].build_generation_prompt(messages).token_ids
        assert ids == subject.spell(text)

    check()


@_subjects("deepseek-v3", DISTILL)
def test_a_template_that_forgets_calls_beside_words_is_not_followed_in_exact_history(subject: Subject) -> None:
    text = _prompt(subject.exact, [*_CALLED, *_RESULTS])
    assert text.count("<｜tool▁call▁begin｜>") == 2
    assert _prompt(subject.renderers[FAMILY], [*_CALLED, *_RESULTS]).count("<｜tool▁call▁begin｜>") == 0


@_subjects("deepseek-v3", R1, R1_0528, "r1-1776", DISTILL)
def test_exact_history_opens_and_closes_every_section(subject: Subject) -> None:
    text = _prompt(subject.exact, [*_CALLED, *_RESULTS, *_CALLED[1:], *_RESULTS, user("q")])
    for tag in ("tool▁calls▁begin", "tool▁calls▁end", "tool▁outputs▁begin", "tool▁outputs▁end"):
        assert text.count(f"<｜{tag}｜>") == 2, tag
    assert text.count("<｜end▁of▁sentence｜>") == 2


# Thoughts.


@_subjects(*_OPENING_ONCE)
def test_behind_a_result_no_thought_is_opened_and_none_is_read(subject: Subject) -> None:
    asked = subject.exact.build_generation_prompt([user("q")]).token_ids
    resulted = subject.exact.build_generation_prompt([*_CALLED, *_RESULTS]).token_ids
    wrote = subject.spell("Done.")
    assert subject.exact.parse_response(wrote, prompt_ids=asked).reasoning == "Done."
    parsed = subject.exact.parse_response(wrote, prompt_ids=resulted)
    assert (parsed.reasoning, parsed.content) == (None, "Done.")
    assert subject.exact.parse_response(wrote).reasoning == "Done.", "the usual prompt is supposed"


@_subjects(*_OPENING_ONCE)
def test_a_turn_cut_behind_a_result_closes_no_thought(subject: Subject) -> None:
    for messages, closes in (([user("q")], True), ([*_CALLED, *_RESULTS], False)):
        prompt = subject.exact.build_generation_prompt(messages).token_ids
        suffix = subject.exact.bridge_suffix(subject.spell("So I"), [user("Go on.")], prompt_ids=prompt)
        assert ("</think>" in subject.tokenizer.decode(suffix.token_ids).partition("<｜User｜>")[0]) is closes


@_subjects(R1, DISTILL)
def test_a_thought_written_into_the_content_is_a_thought(subject: Subject) -> None:
    written = [user("q"), assistant("<think>\nHm.\n</think>\n\nYes."), user("q")]
    told = [user("q"), assistant("Yes.", reasoning="Hm."), user("q")]
    assert _prompt(subject.exact, written) == _prompt(subject.exact, told)
    assert "Hm." not in _prompt(subject.renderers[FAMILY], written)


@_subjects(V4_DROPPING)
def test_thoughts_of_earlier_exchanges_are_dropped_unless_a_tool_was_used(subject: Subject) -> None:
    template = subject.renderers[FAMILY]
    thought = assistant("a", reasoning="Hm.")
    assert "Hm." not in _prompt(template, [user("q"), thought, user("again")])
    assert "Hm." in _prompt(template, [user("q"), thought, user("again"), *_CALLED, tool_result("r")])
    assert "Hm." in _prompt(subject.exact, [user("q"), thought, user("again")])


@_subjects(V4_ENCODER)
def test_the_encoder_drops_thoughts_unless_tools_are_on_offer(subject: Subject) -> None:
    messages = [user("q"), assistant("a", reasoning="Hm."), user("again")]
    template = subject.renderers[FAMILY]
    assert "Hm." not in _prompt(template, messages)
    assert "Hm." in _prompt(template, messages, [tool("f", "d", {})])


@_subjects(V4_HARD)
def test_the_greatest_effort_is_asked_for_at_the_start(subject: Subject) -> None:
    assert _prompt(subject.exact, [user("q")]).startswith("<｜begin▁of▁sentence｜>Reasoning Effort: Absolute maximum")
    calm = get_renderer(subject.family, subject.tokenizer, thinking=True, reasoning_effort="high")
    assert "Effort" not in _prompt(calm, [user("q")])


# Deviations.


@_subjects(V32)
def test_results_are_grouped_by_where_they_stand_not_by_the_number_of_calls(subject: Subject) -> None:
    """The template counts: where results are missing it never closes their section, and opens no answer."""
    messages = [user("q"), assistant("", call("f", {}), call("g", {}, 1)), tool_result("r"), user("Never mind.")]
    assert "<result>r</result>\n</function_results><｜User｜>" in _prompt(subject.exact, messages)
    assert "</function_results>" not in subject.template_text(messages)


@_subjects(V32)
def test_a_developer_message_that_the_template_drops_is_a_system_message(subject: Subject) -> None:
    messages = [{"role": "developer", "content": "Be brief."}, user("q")]
    assert _prompt(subject.exact, messages) == _prompt(subject.exact, [system("Be brief."), user("q")])
    assert "Be brief." not in subject.template_text(messages)


@_subjects(V4)
def test_a_developer_speaks_in_a_user_turn_to_v4(subject: Subject) -> None:
    messages = [system("s"), {"role": "developer", "content": "Be brief."}, user("q")]
    assert subject.renderers[FAMILY].build_generation_prompt(messages).token_ids == subject.template_ids(messages)


@_subjects("deepseek-v3.1, llama.cpp's template")
def test_arguments_that_come_as_json_text_are_not_quoted_again(subject: Subject) -> None:
    messages = [user("q"), assistant("", call("f", '{"x": 1}')), tool_result("r")]
    assert '<｜tool▁sep｜>{"x": 1}<｜' in _prompt(subject.exact, messages)
    assert '<｜tool▁sep｜>"{\\"x\\": 1}"<｜' in subject.template_text(messages)


@_subjects("deepseek-v4-unsloth")
def test_an_answer_behind_a_later_system_message_is_opened_all_the_same(subject: Subject) -> None:
    messages = [user("q"), system("Be brief."), assistant("a"), user("again")]
    assert "<｜User｜>q<｜Assistant｜></think>a<｜end" in _prompt(subject.renderers[FAMILY], messages)
    assert "<｜User｜>qa<｜end" in subject.template_text(messages)


@_subjects(V4_ENCODER)
def test_tools_stand_at_the_start_though_the_first_system_message_comes_later(subject: Subject) -> None:
    messages, offered = [user("q"), system("Be brief."), user("again")], [tool("f", "d", {})]
    assert _prompt(subject.exact, messages, offered).startswith("<｜begin▁of▁sentence｜>\n\n## Tools")
    assert subject.template_text(messages, offered).startswith(
        "<｜begin▁of▁sentence｜><｜User｜>qBe brief.\n\n## Tools"
    )


# V4's turns.


@_subjects(V4, V4_ENCODER)
def test_neighbouring_questions_and_results_share_a_turn_behind_a_bridge_too(subject: Subject) -> None:
    new = [*_RESULTS, user("And?")]
    suffix = subject.tokenizer.decode(subject.exact.bridge_suffix([], new).token_ids)
    shared = "<｜User｜><tool_result>r</tool_result>\n\n<tool_result>s</tool_result>\n\nAnd?<｜Assistant｜>"
    assert shared in suffix
    assert suffix.count("<｜User｜>") == 1


# DSML.


def _invoke(name: str, *parameters: tuple[str, str, str]) -> str:
    lines = "".join(
        f'<｜DSML｜parameter name="{key}" string="{is_text}">{value}</｜DSML｜parameter>\n'
        for key, is_text, value in parameters
    )
    return f'<｜DSML｜invoke name="{name}">\n{lines}</｜DSML｜invoke>'


def _section(subject: Subject, body: str) -> str:
    section = "function_calls" if "v3.2" in subject.name else "tool_calls"
    return f"\n\n<｜DSML｜{section}>\n{body}\n</｜DSML｜{section}><｜end▁of▁sentence｜>"


_dsml = _subjects(V32, V4, V4_ENCODER)


def _answer(subject: Subject, written: str) -> list[int]:
    """What a model samples that does not think, though its prompt may have opened a thought."""
    return subject.spell(("</think>" if subject.exact.response_format.starts_in_reasoning else "") + written)


@pytest.mark.parametrize(
    ("is_text", "written", "value"),
    [
        ("true", "5", "5"),
        ("true", " two\nlines ", " two\nlines "),
        ("true", "", ""),
        ("true", '{"a": 1}', '{"a": 1}'),
        ("false", "5", 5),
        ("false", "1.50", 1.5),
        ("false", "null", None),
        ("false", ' [1, {"a": "b"}] ', [1, {"a": "b"}]),
        ("false", '"5"', "5"),
        ("false", "True", True),
        ("false", "no JSON", "no JSON"),
    ],
)
@_dsml
def test_a_parameter_says_whether_it_is_text(subject: Subject, is_text: str, written: str, value: Any) -> None:
    parsed = subject.exact.parse_response(_answer(subject, _section(subject, _invoke("f", ("x", is_text, written)))))
    assert [made.status for made in parsed.calls] == [CallStatus.OK]
    assert [json.loads(made.arguments_json) for made in parsed.tool_calls] == [{"x": value}]


@_dsml
def test_numbers_stay_as_they_were_spelled(subject: Subject) -> None:
    wrote = _answer(subject, _section(subject, _invoke("f", ("x", "false", "1.50"), ("y", "false", "1e3"))))
    assert subject.exact.parse_response(wrote).tool_calls[0].arguments == '{"x": 1.50, "y": 1e3}'


@pytest.mark.parametrize(
    ("body", "status", "n_read"),
    [
        (_invoke("f", ("x", "true", "a")).removesuffix("</｜DSML｜invoke>"), CallStatus.UNCLOSED, 1),
        (_invoke("f", ("x", "true", "a")).replace("\n</", "\nand more\n</"), CallStatus.MALFORMED, 1),
        ('<｜DSML｜invoke name="">\n</｜DSML｜invoke>', CallStatus.MALFORMED, 0),
        ("<｜DSML｜invoke f(x)</｜DSML｜invoke>", CallStatus.MALFORMED, 0),
        ("f(x)", CallStatus.MALFORMED, 0),
    ],
)
@_dsml
def test_a_broken_call_is_kept_with_its_status(subject: Subject, body: str, status: CallStatus, n_read: int) -> None:
    parsed = subject.exact.parse_response(_answer(subject, _section(subject, body)))
    assert status in [made.status for made in parsed.calls]
    assert len(parsed.tool_calls) == n_read
    if not n_read:
        assert body in parsed.content


@_dsml
def test_parallel_calls_are_written_and_read_as_the_template_has_them(subject: Subject) -> None:
    made = [call("f", {"x": "a", "n": 1.5}), call("g", {"deep": {"a": [None, "ü"]}, "on": True}, 1)]
    messages = [user("q"), assistant("I look.", *made), tool_result("r"), tool_result("s", 1)]
    ids = subject.renderers[FAMILY].build_generation_prompt(messages).token_ids
    assert ids == subject.template_ids(messages)
    text = subject.tokenizer.decode(ids)
    written = text[text.index("I look.") : text.index("<｜end▁of▁sentence｜>")]
    parsed = subject.exact.parse_response(_answer(subject, written))
    assert [(one.name, one.arguments_value) for one in parsed.tool_calls] == [
        (one["function"]["name"], one["function"]["arguments"]) for one in made
    ]
    assert parsed.content == "I look."


@_dsml
def test_a_text_is_told_while_it_is_written(subject: Subject) -> None:
    begun = _section(subject, _invoke("f", ("x", "true", "Rome, the eternal city")))
    parser = subject.exact.stream_parser()
    deltas = parser.feed(_answer(subject, begun[: begun.index(" city")]))
    told = "".join(delta.arguments for delta in deltas if isinstance(delta, CallDelta))
    assert told == '{"x": "Rome, the eternal'


@_subjects(V4, V4_ENCODER)
@pytest.mark.parametrize("kind", [FAMILY, TEMPLATE])
@given(around=st.tuples(*[st.sampled_from(("", "<", "</", " ", "invoke", "tool_calls>"))] * 2))
def test_a_user_who_writes_dsml_writes_words(subject: Subject, kind: str, around: tuple[str, str]) -> None:
    dsml = subject.tokenizer.control["｜DSML｜"]
    renderer = subject.renderers[kind]
    prompt = renderer.build_generation_prompt([user(f"{around[0]}｜DSML｜{around[1]}"), assistant("ok"), user("q")])
    assert dsml not in prompt.token_ids
    assert f"{around[0]}｜DSML｜{around[1]}" in subject.tokenizer.decode(prompt.token_ids)


@_subjects(V4, V4_ENCODER)
def test_an_assistant_who_writes_dsml_means_it_but_not_inside_a_value(subject: Subject) -> None:
    dsml = subject.tokenizer.control["｜DSML｜"]
    written = _section(subject, _invoke("f")).removesuffix("<｜end▁of▁sentence｜>")
    said = subject.exact.build_generation_prompt([user("q"), assistant(written), user("q")]).token_ids
    assert said.count(dsml) == written.count("｜DSML｜")
    valued = [user("q"), assistant("", call("f", {"x": written})), tool_result("r")]
    plain = [user("q"), assistant("", call("f", {"x": "words"})), tool_result("r")]
    counts = [subject.exact.build_generation_prompt(messages).token_ids.count(dsml) for messages in (valued, plain)]
    assert counts[0] == counts[1]
