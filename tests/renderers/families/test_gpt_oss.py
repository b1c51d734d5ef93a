"""gpt-oss: how harmony's messages become one, and what its templates leave out, refuse and drop."""

from datetime import date
from typing import Any

import pytest

from tests.renderers.strategies import assistant, call, system, tool_result, user
from tests.renderers.subjects import SUBJECTS, TODAY, Subject
from tests.renderers.subjects.gpt_oss import GPT_OSS, GPT_OSS_UNSLOTH, GPT_OSS_WITH_OPTIONS
from tickertape.renderers.choose import get_renderer
from tickertape.renderers.errors import RenderError
from tickertape.renderers.renderer import Renderer

_OPENED = "<|start|>assistant"
_QUESTION = user("q")


@pytest.fixture(scope="module")
def gpt_oss() -> Subject:
    subject = SUBJECTS[GPT_OSS]
    assert subject.tokenizer  # skips where it cannot be fetched
    return subject


def _shown(renderer: Renderer, *messages: Any) -> str:
    """A conversation's text from the first user message on."""
    text = renderer.tokenizer.decode(renderer.build_generation_prompt(messages).token_ids)
    return text[text.index("<|start|>user") :]


def _read(subject: Subject, written: str, tools: Any = None) -> tuple[str | None, str, list[tuple[str, str, str]]]:
    parsed = subject.exact.parse_response(subject.spell(written), tools)
    calls = [
        (c.status.value, c.call.name, c.call.arguments_json) if c.call else (c.status.value, "", "")
        for c in parsed.calls
    ]
    return parsed.reasoning, parsed.content, calls


# What an answer becomes.

_JSON = "<|message|>{}<|call|>"
_OK = [("ok", "f", "{}")]


@pytest.mark.parametrize(
    ("written", "reasoning", "content", "calls"),
    [
        (
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Hi<|return|>",
            "Hm.", "Hi", [],
        ),
        ("<|channel|>final<|message|>Hi<|return|>", None, "Hi", []),
        ("<|channel|>final <|constrain|>json<|message|>{}<|return|>", None, "{}", []),
        ("<|channel|>analysis<|message|><|end|><|start|>assistant<|channel|>final<|message|>Hi", "", "Hi", []),
        # Every way in which the model, the templates and the guide write a call.
        (" to=functions.f<|channel|>commentary json" + _JSON, None, "", _OK),
        (" to=functions.f<|channel|>commentary <|constrain|>json" + _JSON, None, "", _OK),
        ("<|channel|>commentary to=functions.f <|constrain|>json" + _JSON, None, "", _OK),
        ("<|channel|>commentary to=functions.f<|constrain|>json" + _JSON, None, "", _OK),
        ("<|channel|>commentary to=functions.f json" + _JSON, None, "", _OK),
        ("<|channel|>commentary to=functions.f" + _JSON, None, "", _OK),
        ("<|channel|>analysis to=functions.f code" + _JSON, None, "", _OK),
        (" to=functions.f" + _JSON, None, "", _OK),
        # Several of a kind stand on lines of their own.
        (
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary<|message|>b<|end|>"
            "<|start|>assistant<|channel|>analysis<|message|>c<|end|><|start|>assistant<|channel|>final<|message|>d",
            "a\nc", "b\nd", [],
        ),
        (
            "<|channel|>commentary<|message|>b<|end|><|start|>assistant to=functions.f<|channel|>commentary"
            "<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>d<|return|>",
            None, "b\nd", _OK,
        ),
        # Built-in tools; code is no JSON.
        ("<|channel|>analysis to=browser.search code<|message|>{}<|call|>", None, "", [("ok", "browser.search", "{}")]),
        (
            '<|channel|>analysis to=python code<|message|>print("é\n")<|call|>',
            None, "", [("ok", "python", r'{"code": "print(\"é\n\")"}')],
        ),
        # Ends that were left out.
        ("<|channel|>analysis<|message|>Hm.<|channel|>final<|message|>Hi<|return|>", "Hm.", "Hi", []),
        ("<|channel|>analysis<|message|>Hm.<|start|>assistant<|channel|>final<|message|>Hi<|return|>", "Hm.", "Hi", []),
        ("<|channel|>analysis<|message|>Hm.<|end|><|channel|>final<|message|>Hi<|return|>", "Hm.", "Hi", []),
        ("<|channel|>analysis<|message|>Hm", "Hm", "", []),
        ("<|message|>Hi<|return|>", None, "Hi", []),
    ],
)  # fmt: skip
def test_messages_become_one(
    gpt_oss: Subject, written: str, reasoning: str | None, content: str, calls: list[tuple[str, str, str]]
) -> None:
    assert _read(gpt_oss, written) == (reasoning, content, calls)


@pytest.mark.parametrize(
    ("written", "calls"),
    [
        ("Hello, no header.", []),
        (" to be or not to be", []),
        ("<|channel|>reflection<|message|>unknown channel", []),
        ("<|channel|>final Hello", []),
        ("<|channel|>anal", []),
        ("<|channel|>", []),
        ("<|start|>user<|message|>forged", []),
        ("<|channel|>final<|channel|>final<|message|>twice", []),
        ("assistantanalysis<|message|>glued", []),
        ("<|channel|>commentary to=functions.f {}", [("unclosed", "", "")]),
        ("<|channel|>commentary to=functions.f <|constrain|>js", [("unclosed", "", "")]),
        (" to=<|message|>{}", [("unclosed", "", "")]),
    ],
)
def test_what_has_no_readable_header_stays_in_the_content(
    gpt_oss: Subject, written: str, calls: list[tuple[str, str, str]]
) -> None:
    assert _read(gpt_oss, written) == (None, written, calls)


def test_an_unreadable_call_that_was_ended_is_malformed(gpt_oss: Subject) -> None:
    written = "<|channel|>commentary to=functions.f {}"
    for ended in ("<|call|>", "<|end|>"):
        assert _read(gpt_oss, written + ended) == (None, written, [("malformed", "", "")])


@pytest.mark.parametrize(
    ("written", "status", "name", "arguments"),
    [
        ('to=functions.f<|message|>{"a": 1}<|call|>', "ok", "f", '{"a": 1}'),
        ('to=functions.f<|message|>{"a": 1}<|end|>', "ok", "f", '{"a": 1}'),
        ('to=functions.f<|message|>{"a": 1}', "unclosed", "f", '{"a": 1}'),
        ('to=functions.f<|message|>{"a": 1}<|start|>', "unclosed", "f", '{"a": 1}'),
        ('to=functions.f<|message|>{"a": <|call|>', "invalid_json", "f", '{"a": '),
        ("to=functions.f<|message|><|call|>", "invalid_json", "f", ""),
        ("to=functions.f<|message|>[]<|call|>", "invalid_json", "f", "[]"),
        ("to=functions.g<|message|>{}<|call|>", "unknown_tool", "g", "{}"),
        ("to=python<|message|>1<|call|>", "unknown_tool", "python", '{"code": "1"}'),
    ],
)
def test_each_call_has_a_status(gpt_oss: Subject, written: str, status: str, name: str, arguments: str) -> None:
    offered = [{"type": "function", "function": {"name": "f"}}]
    parsed = gpt_oss.exact.parse_response(gpt_oss.spell(written), offered)
    assert [(c.status, c.call and c.call.name, c.call and c.call.arguments) for c in parsed.calls] == [
        (status, name, arguments)
    ]


def test_built_in_tools_need_not_be_offered(gpt_oss: Subject) -> None:
    subject = SUBJECTS[GPT_OSS_WITH_OPTIONS]
    assert _read(subject, "to=python<|message|>1<|call|>", [])[2] == [("ok", "python", '{"code": "1"}')]
    assert _read(subject, "to=browser.open<|message|>{}<|call|>", [])[2] == [("ok", "browser.open", "{}")]
    assert _read(subject, "to=functions.python<|message|>{}<|call|>", [])[2] == [("unknown_tool", "python", "{}")]


def test_calls_can_be_left_as_text(gpt_oss: Subject) -> None:
    written = " to=functions.f<|channel|>commentary json<|message|>{}"
    parsed = gpt_oss.exact.parse_response(gpt_oss.spell(written + "<|call|>"), read_calls=False)
    assert (parsed.content, parsed.calls) == (written, ())


# What history="exact" says that the templates cannot.


def test_words_before_a_call_are_a_preamble(gpt_oss: Subject) -> None:
    called = assistant("I look.", call("f", {}), reasoning="Hm.")
    assert _shown(gpt_oss.exact, _QUESTION, called).endswith(
        f"{_OPENED}<|channel|>analysis<|message|>Hm.<|end|>{_OPENED}<|channel|>commentary<|message|>I look.<|end|>"
        f"{_OPENED} to=functions.f<|channel|>commentary json<|message|>{{}}<|call|>{_OPENED}"
    )


def test_the_template_takes_words_before_a_call_for_a_thought_and_refuses_both(gpt_oss: Subject) -> None:
    template = gpt_oss.renderers["family"]
    assert "analysis<|message|>I look.<|end|>" in _shown(template, _QUESTION, assistant("I look.", call("f", {})))
    with pytest.raises(RenderError, match="both content and thinking"):
        _shown(template, _QUESTION, assistant("I look.", call("f", {}), reasoning="Hm."))


def test_every_call_of_a_message_is_shown_where_the_template_shows_the_first(gpt_oss: Subject) -> None:
    messages = [_QUESTION, assistant("", call("f", {}), call("g", {}, 1)), tool_result("2", 1), tool_result("1")]
    shown = _shown(gpt_oss.exact, *messages)
    assert shown.index(" to=functions.f<|channel|>") < shown.index(" to=functions.g<|channel|>")
    assert shown.index('functions.g to=assistant<|channel|>commentary<|message|>"2"') < shown.index(
        "functions.f to=assistant"
    )
    as_template = gpt_oss.renderers["family"].build_generation_prompt(messages)
    assert as_template.token_ids == gpt_oss.template_ids(messages)
    assert "functions.g" not in gpt_oss.tokenizer.decode(as_template.token_ids)


def test_a_later_system_message_is_a_developer_message_where_the_template_leaves_it_out(gpt_oss: Subject) -> None:
    messages = [_QUESTION, system("Be brief.")]
    assert "<|start|>developer<|message|># Instructions\n\nBe brief.\n\n<|end|>" in _shown(gpt_oss.exact, *messages)
    assert "Be brief." not in gpt_oss.template_text(messages)


def test_calls_to_built_in_tools_are_shown_as_they_are_sampled() -> None:
    renderer = SUBJECTS[GPT_OSS_WITH_OPTIONS].exact
    written = '<|channel|>analysis to=python code<|message|>print("é")<|call|>'
    made = renderer.parse_response(SUBJECTS[GPT_OSS_WITH_OPTIONS].spell(written)).message
    shown = _shown(renderer, _QUESTION, made, tool_result("é"))
    assert f'{_OPENED} to=python<|channel|>analysis code<|message|>print("é")<|call|>' in shown
    assert "<|call|><|start|>python to=assistant<|channel|>analysis<|message|>é<|end|>" in shown


def test_arguments_that_are_json_text_are_not_quoted_again(gpt_oss: Subject) -> None:
    called = assistant("", call("f", '{"x":1}'))
    assert r'json<|message|>"{\"x\":1}"<|call|>' in gpt_oss.template_text([_QUESTION, called])
    for renderer in (gpt_oss.exact, gpt_oss.renderers["family"]):
        assert 'json<|message|>{"x":1}<|call|>' in _shown(renderer, _QUESTION, called)


# How a turn ends.


@pytest.mark.parametrize("ended", ["<|return|>", "<|call|>", "<|end|>"])
def test_a_turn_that_is_closed_is_not_closed_again(gpt_oss: Subject, ended: str) -> None:
    suffix = gpt_oss.exact.bridge_suffix(gpt_oss.spell("<|channel|>final<|message|>Hi" + ended), [_QUESTION])
    assert gpt_oss.tokenizer.decode(suffix.token_ids) == f"<|start|>user<|message|>q<|end|>{_OPENED}"


@pytest.mark.parametrize(
    "written",
    ["<|channel|>final<|message|>H", "<|channel|>analysis<|message|>H", "<|channel|>an", "", "H<|endoftext|>"],
)
def test_a_turn_cut_off_is_closed_once(gpt_oss: Subject, written: str) -> None:
    suffix = gpt_oss.exact.bridge_suffix(gpt_oss.spell(written), [_QUESTION])
    assert gpt_oss.tokenizer.decode(suffix.token_ids) == f"<|end|><|start|>user<|message|>q<|end|>{_OPENED}"


def test_the_last_answer_is_trained_to_return(gpt_oss: Subject) -> None:
    for renderer in (gpt_oss.exact, gpt_oss.renderers["family"]):
        ids, weights = renderer.build_supervised_example([_QUESTION, assistant("Hi", reasoning="Hm.")])
        trained = gpt_oss.tokenizer.decode(i for i, weight in zip(ids, weights, strict=True) if weight)
        assert trained == (f"<|channel|>analysis<|message|>Hm.<|end|>{_OPENED}<|channel|>final<|message|>Hi<|return|>")


# What the templates refuse, print and show.


def test_a_tool_result_without_a_call_is_refused(gpt_oss: Subject) -> None:
    for renderer in (gpt_oss.exact, gpt_oss.renderers["family"]):
        with pytest.raises(RenderError, match="needs a tool call"):
            renderer.build_generation_prompt([_QUESTION, tool_result("1")])


def test_channel_tags_in_an_answer_are_refused_as_by_the_template_and_words_otherwise(gpt_oss: Subject) -> None:
    tagged = assistant("<|channel|>final<|message|>Hi")
    with pytest.raises(RenderError, match="tags"):
        gpt_oss.renderers["family"].build_generation_prompt([_QUESTION, tagged])
    assert (
        gpt_oss.control_counts(gpt_oss.exact.build_generation_prompt([_QUESTION, tagged]).token_ids)["<|channel|>"] == 1
    )


def test_todays_date_is_shown_unless_another_is_given(gpt_oss: Subject) -> None:
    today = get_renderer("gpt-oss", gpt_oss.tokenizer).build_generation_prompt([_QUESTION])
    assert f"Current date: {date.today()}\n" in gpt_oss.tokenizer.decode(today.token_ids)
    assert f"Current date: {TODAY}\n" in gpt_oss.tokenizer.decode(gpt_oss.template_ids([_QUESTION]))


def test_a_tool_without_a_description_has_no_comment_where_the_template_fails(gpt_oss: Subject) -> None:
    offered = [
        {"type": "function", "function": {"name": "f", "parameters": {"properties": {"x": {"type": "integer"}}}}}
    ]
    prompt = gpt_oss.exact.build_generation_prompt([_QUESTION], offered)
    assert "namespace functions {\n\ntype f = (_: {\nx?: number,\n}) => any;\n\n}" in gpt_oss.tokenizer.decode(
        prompt.token_ids
    )


def test_unsloths_template_shows_of_an_answer_with_a_thought_the_thought_alone() -> None:
    subject = SUBJECTS[GPT_OSS_UNSLOTH]
    messages = [_QUESTION, assistant("Hi", reasoning="Hm."), user("more")]
    assert "Hi" not in subject.template_text(messages)
    assert subject.renderers["family"].build_generation_prompt(messages).token_ids == subject.template_ids(messages)
    assert "Hi" in _shown(subject.exact, *messages)
