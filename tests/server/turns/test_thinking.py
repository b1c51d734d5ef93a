"""A model's switch for thinking, found by what it does to prompts."""

from typing import Any

import pytest

from tests.renderers.subjects.deepseek import SUBJECTS
from tickertape.renderers.choose import Choice
from tickertape.server.errors import InvalidRequest
from tickertape.server.turns.renderer_pool import RendererPool
from tickertape.server.turns.request import Thinking

#: What "on", "if_able" and "off" lead to; ``None``: refused.
STATES: dict[str, dict[Thinking, dict[str, Any] | None]] = {
    "deepseek-v3.1": {"on": {"thinking": True}, "if_able": {"thinking": True}, "off": {}},
    "deepseek-v4-encoder": {"on": {}, "if_able": {}, "off": {"thinking_mode": "chat"}},
    "deepseek-r1": {"on": {}, "if_able": {}, "off": None},
    "deepseek-v3": {"on": None, "if_able": {}, "off": {}},
}


@pytest.mark.parametrize("name", STATES)
def test_switch_is_the_option_that_changes_the_prompt(name: str) -> None:
    (subject,) = [model for model in SUBJECTS if model.name == name]
    pool = RendererPool(Choice(subject.exact, "the test asked for it", subject.family_options))
    for wanted, options in STATES[name].items():
        if options is None:
            with pytest.raises(InvalidRequest, match="thinking cannot be honoured"):
                pool.with_thinking({}, wanted)
        else:
            assert pool.with_thinking({}, wanted) == options, wanted
