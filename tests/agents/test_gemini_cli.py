"""Google's own command line, the real one, works by changing the base URL in its environment."""

import json
import shutil
from pathlib import Path

import pytest

from tests.agents.environment import closed_environ, run
from tests.agents.matrix.results import Ran, note
from tests.agents.playing import N_CALLS, check_one_sample, playing, reading_notes
from tests.npm import npm_package
from tests.server.conftest import StartProxy

VERSION = "0.61.0"


@pytest.mark.slow
@pytest.mark.parametrize("model", ["tuned", "gemini-3.1-pro-preview", "gemini-2.5-flash"])
def test_20_tool_turns_are_one_sample(start_proxy: StartProxy, session: str, tmp_path: Path, model: str) -> None:
    """It sends other thinking configurations to other models, by their names."""
    cli = npm_package("@google/gemini-cli", VERSION) / ".bin" / "gemini"
    work, home = tmp_path / "work", tmp_path / "home"
    work.mkdir()
    proxy = start_proxy(engine := playing(reading_notes(work)), served_model_names=("*",))
    environ = closed_environ(home) | {
        "GOOGLE_GEMINI_BASE_URL": f"{proxy.url}/sessions/{session}",
        "GEMINI_API_KEY": "none",
        "GEMINI_CLI_TRUST_WORKSPACE": "true",
    }
    settings = {
        "general": {"disableAutoUpdate": True, "disableUpdateNag": True},
        "privacy": {"usageStatisticsEnabled": False},
        "telemetry": {"enabled": False},
        "security": {"auth": {"selectedType": "gemini-api-key"}},
    }
    (home / ".gemini").mkdir()
    (home / ".gemini" / "settings.json").write_text(json.dumps(settings))
    node = shutil.which("node")
    assert node is not None
    command = [node, str(cli), "-m", model, "-p", "What is the answer?", "--output-format", "json", "--yolo"]
    said = json.loads(run(command, environ, work))
    assert said["response"].endswith("The answer is 19.")
    turns = check_one_sample(proxy, session, engine.calls, N_CALLS + 1)
    assert {turn.model for turn in turns} == {model}
    note(Ran("Gemini CLI", VERSION, "gemini", "streamed", "run", len(turns), 1))
    for number, turn in enumerate(turns[1:]):
        assert f"the answer is {number}" in turn.messages[0]["content"]
