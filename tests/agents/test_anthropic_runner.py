"""The loop of Anthropic's own SDK, ``tool_runner``: it asks for a thread unasked, and goes on without one."""

from typing import Any

import anthropic
import pytest
from anthropic import beta_tool

from tests.agents.matrix.results import Ran, note
from tests.agents.playing import FINAL, N_CALLS, QUESTION, playing, weather_answers
from tests.server.conftest import StartProxy
from tests.server.invariants import check_all


@beta_tool
def weather(town: str) -> str:
    """The weather of a town.

    Args:
        town: its name.
    """
    return f"It rains in {town}."


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
def test_a_run_of_20_tool_turns_is_one_sample(start_proxy: StartProxy, session: str, streams: bool) -> None:
    proxy = start_proxy(engine := playing(weather_answers()))
    url = f"{proxy.url}/sessions/{session}"
    asked: dict[str, Any] = {"messages": [{"role": "user", "content": QUESTION}], "tools": [weather]}
    with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client:
        runner = client.beta.messages.tool_runner(model=proxy.model, max_tokens=500, stream=streams, **asked)
        last = runner.until_done()
    assert "".join(block.text for block in last.content if block.type == "text") == FINAL
    turns = check_all(proxy.tape, session, engine.calls)
    sampled = [turn for turn in turns if turn.outcome != "rejected"]
    assert [turn.error for turn in turns if turn not in sampled][:1] in (
        [],
        ["there are no threads here: send the whole conversation without thread"],
    )
    assert [turn.fork_reason for turn in sampled] == [None] * (N_CALLS + 1)
    assert len(proxy.tape.samples(session)) == 1
    way = "streamed" if streams else "whole"
    note(Ran("Anthropic SDK for Python", anthropic.__version__, "messages", way, "run", len(sampled), 1))
