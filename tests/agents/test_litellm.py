"""LiteLLM, the real one, works by changing its `api_base`. It needs an older openai, and so its own environment."""

import json
from pathlib import Path

import pytest

from tests.agents.environment import closed_environ, litellm_environment, run
from tests.agents.matrix.results import Ran, note
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
from tests.engines import ScriptedEngine
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
        note(Ran("LiteLLM", "1.106.2", "chat", "streamed" if "streamed" in mode else "whole", "run", len(turns), 1))
        answers = [message for message in heard if message["role"] == "assistant"]
        assert answers[-1]["content"] == FINAL
        assert [answer.get("reasoning_content") for answer in answers] == [
            answer.get("reasoning_content") for answer in answers_of(turns)
        ]
        assert len(heard) == 1 + (N_CALLS + 1) + (N_CALLS + 1)
        assert [turn.ignored_fields for turn in turns] == [[]] * (N_CALLS + 1)
    assert told[0] == told[1] == told[2] == told[3]


OVERFLOW = """
import sys
import litellm

url, model = sys.argv[1:]
for provider, base in (("openai", f"{url}/v1"), ("hosted_vllm", f"{url}/v1"), ("anthropic", url)):
    messages = [{"role": "user", "content": "word " * 300}]
    try:
        litellm.completion(
            f"{provider}/{model}", messages=messages, api_base=base, api_key="none", max_tokens=9, max_retries=0
        )
    except litellm.ContextWindowExceededError:
        print(provider)
"""


@pytest.mark.slow
def test_a_context_that_is_too_long_is_recognised_on_every_route(
    start_proxy: StartProxy, session: str, tmp_path: Path
) -> None:
    proxy = start_proxy(ScriptedEngine(lambda _ids, _sampling: [9707], max_context=200))
    script = tmp_path / "overflow.py"
    script.write_text(OVERFLOW)
    command = [str(litellm_environment() / "python"), str(script), f"{proxy.url}/sessions/{session}", proxy.model]
    said = run(command, closed_environ(tmp_path / "home"), tmp_path)
    assert [line for line in said.splitlines() if line in ("openai", "hosted_vllm", "anthropic")] == [
        "openai",
        "hosted_vllm",
        "anthropic",
    ]
