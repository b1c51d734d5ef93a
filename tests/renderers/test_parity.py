"""A family's ids, and those of the driven template, equal what ``transformers`` renders.

Texts here spell no control tokens: such text is encoded as plain words on purpose, where templates let it forge turns
(``test_no_forgery.py``).
"""

import pytest
from hypothesis import given, settings

from tests.renderers.conversations import conversations_for
from tests.renderers.strategies import assistant, slow, system, user
from tests.renderers.subjects import QWEN3, QWENS, Conversation, Subject, every, first
from tickertape.renderers.renderer import Renderer


@first
def test_ids_equal_the_models_own_template(subject: Subject, renderer: Renderer) -> None:
    _assert_parity(subject, renderer, examples=25)


@slow
@every
def test_ids_equal_the_models_own_template_thoroughly(
    subject: Subject, renderer: Renderer, pytestconfig: pytest.Config
) -> None:
    """``pytest -m slow tests/renderers/test_parity.py --parity-examples 2000`` is the evidence in docs/renderers.md."""
    _assert_parity(subject, renderer, examples=pytestconfig.getoption("parity_examples"))


def _assert_parity(subject: Subject, renderer: Renderer, *, examples: int) -> None:
    @settings(max_examples=examples)
    @given(conversation=conversations_for(subject))
    def check(conversation: Conversation) -> None:
        prompt = renderer.build_generation_prompt(conversation.messages, conversation.tools)
        assert prompt.token_ids == subject.template_ids(conversation.messages, conversation.tools)

    check()


@pytest.mark.parametrize("subject", [QWEN3], indirect=True)
def test_qwen3_two_exchanges_token_for_token(subject: Subject, renderer: Renderer) -> None:
    messages = [system("Be brief."), user("Hi"), assistant("Hello!"), user("Bye")]
    # fmt: off
    expected = [
        151644, 8948, 198, 3430, 9814, 13, 151645, 198,
        151644, 872, 198, 13048, 151645, 198,
        151644, 77091, 198, 9707, 0, 151645, 198,
        151644, 872, 198, 1359, 68, 151645, 198,
        151644, 77091, 198,
    ]
    # fmt: on
    assert renderer.build_generation_prompt(messages).token_ids == expected == subject.template_ids(messages)


@pytest.mark.parametrize("subject", QWENS, indirect=True)
def test_the_first_stop_token_closes_the_turn(renderer: Renderer) -> None:
    assert renderer.get_stop_sequences() == [151645, 151643]


@pytest.mark.parametrize("subject", [QWEN3], indirect=True)
def test_a_sampled_answer_is_read_token_for_token(renderer: Renderer) -> None:
    # fmt: off
    sampled = [
        45, 7741, 34651, 31410, 614, 4911, 76665, 11, 2670, 264, 7548, 11050, 22077, 1849, 323, 264, 1602, 3347, 40761,
        4379, 11, 892, 16792, 311, 862, 57119, 13, 151645,
    ]
    # fmt: on
    parsed = renderer.parse_response(sampled)
    assert parsed.complete
    assert parsed.content == (
        "Naked mole rats have unique adaptations, including a highly efficient immune system and a very low metabolic "
        "rate, which contribute to their longevity."
    )


def test_a_developer_message_is_rendered_as_a_system_message(subject: Subject) -> None:
    family = subject.renderers["family"]
    as_developer = [{"role": "developer", "content": "Be brief."}, user("Hi")]
    rendered = family.build_generation_prompt(as_developer)
    assert rendered.token_ids == subject.template_ids([system("Be brief."), user("Hi")])
