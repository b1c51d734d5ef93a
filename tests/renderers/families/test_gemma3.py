"""Gemma 3: the system message is part of a question, roles take turns, and there are no tools."""

import pytest

from tests.renderers.strategies import assistant, call, system, tool, tool_result, user
from tests.renderers.subjects import Subject
from tickertape.renderers.errors import RenderError
from tickertape.renderers.messages import Message

pytestmark = pytest.mark.parametrize("subject", ["gemma3"], indirect=True)


def test_the_system_message_opens_the_first_question_and_stays_its_own(subject: Subject) -> None:
    prompt = subject.exact.build_generation_prompt([system(" s "), user(" q ")])
    decode = subject.tokenizer.decode
    assert decode(prompt.token_ids) == "<bos><start_of_turn>user\n s \n\nq<end_of_turn>\n<start_of_turn>model\n"
    said = [i for i, message in zip(prompt.token_ids, prompt.messages, strict=True) if message == 0]
    assert decode(said) == "<bos><start_of_turn>user\n s \n\n"


@pytest.mark.parametrize(
    "messages",
    [
        [system("s")],
        [assistant("a")],
        [user("q"), user("q")],
        [user("q"), assistant("a"), assistant("a")],
        [system("s"), system("s"), user("q")],
    ],
)
def test_roles_must_take_turns(subject: Subject, messages: list[dict[str, str]]) -> None:
    with pytest.raises(RenderError, match="must alternate"):
        subject.exact.build_generation_prompt(messages)


def test_behind_a_bridge_it_is_the_users_turn(subject: Subject) -> None:
    prompt = subject.exact.build_generation_prompt([user("q")]).token_ids
    with pytest.raises(RenderError, match="must alternate"):
        subject.exact.bridge_to_next_turn(prompt, subject.spell("a<end_of_turn>"), [Message("system", "s")])


def test_tools_are_refused_where_the_template_drops_them(subject: Subject) -> None:
    for messages, tools in (
        ([user("q")], [tool("f", "", {})]),
        ([user("q"), assistant("", call("f", {}))], None),
        ([user("q"), tool_result("r")], None),
    ):
        with pytest.raises(RenderError, match="has no tools"):
            subject.exact.build_generation_prompt(messages, tools)
