"""Qwen Code, the real command line, works by changing the base URL in its environment."""

import json
import shutil
from pathlib import Path

import pytest

from tests.agents.environment import closed_environ, run
from tests.agents.matrix.results import Ran, note
from tests.agents.playing import N_CALLS, answers_of, check_one_sample, playing, reading_notes
from tests.npm import npm_package
from tests.server.conftest import StartProxy

VERSION = "0.24.4"


@pytest.mark.slow
@pytest.mark.parametrize("model", ["tuned", "qwen3-coder-plus", "gpt-5.5", "deepseek-v4", "glm-5"])
def test_20_tool_turns_are_one_sample(start_proxy: StartProxy, session: str, tmp_path: Path, model: str) -> None:
    """It sends other fields to other models, by their names."""
    cli = npm_package("@qwen-code/qwen-code", VERSION) / "@qwen-code" / "qwen-code" / "cli.js"
    work, home = tmp_path / "work", tmp_path / "home"
    work.mkdir()
    proxy = start_proxy(engine := playing(reading_notes(work)), served_model_names=("*",))
    environ = closed_environ(home) | {
        "OPENAI_BASE_URL": proxy.tape.agent_base_url(session),
        "OPENAI_MODEL": model,
    }
    settings = {
        "general": {"disableAutoUpdate": True, "disableUpdateNag": True},
        "privacy": {"usageStatisticsEnabled": False},
        "telemetry": {"enabled": False},
    }
    (home / ".qwen").mkdir()
    (home / ".qwen" / "settings.json").write_text(json.dumps(settings))
    node = shutil.which("node")
    assert node is not None
    command = [
        node,
        str(cli),
        "-p",
        "What is the answer?",
        "--output-format",
        "json",
        "--yolo",
        "--auth-type",
        "openai",
    ]
    events = json.loads(run(command, environ, work))
    assert (events[-1]["is_error"], events[-1]["result"]) == (False, "The answer is 19.")
    turns = check_one_sample(proxy, session, engine.calls, N_CALLS + 1)
    assert {turn.model for turn in turns} == {model}
    note(Ran("Qwen Code", VERSION, "chat", "streamed", "run", len(turns), 1))
    for number, turn in enumerate(turns[1:]):
        assert f"the answer is {number}" in turn.messages[0]["content"]
    assert [turn.ignored_fields for turn in turns] == [[]] * len(turns)
    # What it read from its streams is what is on tape.
    blocks = [block for event in events if event["type"] == "assistant" for block in event["message"]["content"]]
    told = answers_of(turns)
    thoughts = [block["thinking"] for block in blocks if block["type"] == "thinking"]
    assert thoughts == [answer["reasoning_content"] for answer in told]
    assert [block["text"] for block in blocks if block["type"] == "text"] == [answer["content"] for answer in told]
    calls = [call for answer in told[:-1] for call in answer["tool_calls"]]
    assert [block["id"] for block in blocks if block["type"] == "tool_use"] == [call["id"] for call in calls]
