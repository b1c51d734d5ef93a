"""The test ground itself: every family stands on it, drawn conversations keep the limits, deviations are shown."""

from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.renderers.conversations import conversations_for
from tests.renderers.subjects import QWEN3, SMOLLM2, SUBJECTS, TODAY, Conversation, Limits, Subject
from tickertape.renderers.families import FAMILIES


def test_every_family_has_a_subject() -> None:
    assert {subject.family for subject in SUBJECTS.values()} == set(FAMILIES)


def test_every_deviation_is_shown_by_a_test_of_its_own() -> None:
    sources = "".join(path.read_text() for path in Path(__file__).parent.rglob("test_*.py"))
    for subject in SUBJECTS.values():
        for deviation in subject.deviations:
            assert deviation.reason
            assert f"def {deviation.test}(" in sources, f"{subject.name}: {deviation.name}"


def test_a_template_that_prints_the_date_prints_that_of_the_tests() -> None:
    vocabulary = SUBJECTS[QWEN3].vocabulary
    dated = Subject("dated", "chatml", vocabulary, lambda: "{{ strftime_now('%d %B %Y') }}: {{ messages[0].content }}")
    question = {"role": "user", "content": "Hello."}
    assert dated.template_text([question]) == f"{TODAY:%d %B %Y}: Hello."


def _with(limits: Limits) -> Subject:
    known = SUBJECTS[QWEN3]
    return Subject("drawn", known.family, known.vocabulary, known.template_source, limits=limits)


@given(conversation=conversations_for(_with(Limits(order="alternating", needs_user=True))))
def test_user_and_assistant_take_turns_where_the_template_wants_it(conversation: Conversation) -> None:
    roles = [m["role"] for m in conversation.messages if m["role"] != "system" and not m.get("tool_calls")]
    turns = [role for role in roles if role != "tool"]
    assert turns == ["user", "assistant"] * (len(turns) // 2) + ["user"] * (len(turns) % 2)
    assert conversation.messages[-1]["role"] in ("user", "tool")
    assert "system" not in [m["role"] for m in conversation.messages[1:]]


@given(conversation=conversations_for(_with(Limits(order="results_after_calls", result_names=True))))
def test_each_call_is_followed_by_its_result_where_the_template_wants_it(conversation: Conversation) -> None:
    open_calls: list[str] = []
    for message in conversation.messages:
        if message["role"] == "tool":
            assert message["tool_call_id"] == open_calls.pop(0)
            assert message["name"]
        else:
            assert not open_calls
        open_calls += [call["id"] for call in message.get("tool_calls", [])]
    assert not open_calls


@given(
    conversation=conversations_for(
        _with(Limits(parallel=False, reasoning=False, system="nowhere", text_beside_calls=False, arguments="text"))
    )
)
def test_what_a_template_does_not_read_is_not_drawn(conversation: Conversation) -> None:
    for message in conversation.messages:
        assert message["role"] != "system"
        assert "reasoning_content" not in message
        if calls := message.get("tool_calls"):
            assert len(calls) == 1
            assert message["content"] == ""
            assert isinstance(calls[0]["function"]["arguments"], str)


@given(conversation=conversations_for(SUBJECTS[SMOLLM2]))
def test_no_tools_where_the_template_shows_none(conversation: Conversation) -> None:
    assert conversation.tools is None
    assert {message["role"] for message in conversation.messages} <= {"system", "user", "assistant"}


@pytest.mark.parametrize("token", ["<|im_end|>", "<think>", "</tool_call>", "<|repo_name|>"])
@given(padding=st.integers(0, 2**32 - 1))
def test_text_that_spells_a_control_token_anywhere_is_not_harmless(token: str, padding: int) -> None:
    subject = SUBJECTS[QWEN3]
    before, after = Random(padding).choices(("", "<", "<|", "é", " ", "|>", "<|im_"), k=2)
    assert not subject.is_harmless(before + token + after)
    assert subject.is_harmless(before + token[1:] + after) or token in before + token[1:] + after
