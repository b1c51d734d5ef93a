"""LiteLLM, the real one, works by changing its `api_base`. It needs an older openai, and so its own environment."""

import json
from pathlib import Path

import pytest

from tests.agents.environment import closed_environ, litellm_environment, run
from tests.agents.playing import (
    FINAL,
    N_CALLS,
    QUESTION,
    WEATHER,
    answers_of,
    check_one_sample,
    playing,
    said,
    weather_answers,
)
from tests.server.conftest import StartProxy

AGENT = Path(__file__).with_name("litellm_agent.py")
MODES = ("whole", "streamed", "async", "async-streamed")


@pytest.mark.slow
def test_sessions_of_20_tool_turns_are_one_sample_and_streams_say_the_same(
    start_proxy: StartProxy, session: str, tmp_path: Path
) -> None:
    programs = litellm_environment()
    proxy = start_proxy(engine := playing(weather_answers()))
    environ = closed_environ(tmp_path / "home")
    asked = [json.dumps([{"role": "user", "content": QUESTION}]), json.dumps([WEATHER])]
    told = []
    for mode in MODES:
        name, n_before = f"{session}-{mode}", len(engine.calls)
        command = [str(programs / "python"), str(AGENT), mode, proxy.model, proxy.tape.agent_base_url(name), *asked]
        heard = json.loads(run(command, environ, tmp_path).splitlines()[-1])  # it prints hints before
        turns = check_one_sample(proxy, name, engine.calls[n_before:])
        told.append(said(turns))
        answers = [message for message in heard if message["role"] == "assistant"]
        assert answers[-1]["content"] == FINAL
        assert [answer.get("reasoning_content") for answer in answers] == [
            answer.get("reasoning_content") for answer in answers_of(turns)
        ]
        assert len(heard) == 1 + (N_CALLS + 1) + (N_CALLS + 1)
        assert [turn.ignored_fields for turn in turns] == [[]] * (N_CALLS + 1)
    assert told[0] == told[1] == told[2] == told[3]
