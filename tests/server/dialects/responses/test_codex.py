"""OpenAI's Codex CLI, the real one, works by changing its base URL."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.agents.matrix.results import Ran, note
from tests.engines import ScriptedEngine
from tests.npm import npm_package
from tests.server.conftest import StartProxy, qwen3_tokenizer
from tests.server.invariants import check_all
from tickertape.clients.engines.engine import Sampling

#: The CLI's npm package, by exact version, so that the test says what it was shown with.
PACKAGE = ("@openai/codex", "0.171.0")

CONFIG = """
model = "{model}"
model_provider = "tickertape"
check_for_update_on_startup = false
[analytics]
enabled = false
[model_providers.tickertape]
name = "Tickertape"
base_url = "{url}"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
"""


@pytest.fixture(scope="session")
def codex() -> Path:
    """The CLI: ``$CODEX``, or fetched from npm."""
    given = os.environ.get("CODEX")
    if given:
        return Path(given)
    return npm_package(*PACKAGE) / ".bin" / "codex"


def run(codex: Path, directory: Path, url: str, model: str, task: str, *options: str) -> list[dict[str, Any]]:
    """One headless run in an empty folder; its events."""
    home, folder = directory / "home", directory / "folder"
    for path in (home, folder):
        path.mkdir()
    (home / "config.toml").write_text(CONFIG.format(model=model, url=url))
    command = [str(codex), "exec", "--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]
    command += [*options, task]
    # Nothing but loopback can be reached: whatever else it tries to call goes to a closed port.
    closed = "http://127.0.0.1:9"
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(home), "CODEX_HOME": str(home),
        "HTTP_PROXY": closed, "HTTPS_PROXY": closed, "NO_PROXY": "127.0.0.1",
    }  # fmt: skip
    done = subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def call(command: str) -> str:
    """A call of Codex's shell tool, as Qwen3 writes it."""
    arguments = json.dumps({"cmd": command})
    return f'<tool_call>\n{{"name": "exec_command", "arguments": {arguments}}}\n</tool_call>'


def playing(answers: list[str]) -> ScriptedEngine:
    def script(_ids: list[int], _sampling: Sampling) -> list[int]:
        return qwen3_tokenizer().encode_like_model(answers[len(engine.calls) - 1])

    engine = ScriptedEngine(script, max_context=200_000)
    return engine


@pytest.mark.slow
def test_codex_completes_a_run_of_20_turns_that_trains_as_one_sample(
    start_proxy: StartProxy, session: str, codex: Path, tmp_path: Path
) -> None:
    answers = [
        f"<think>\nI write it.\n</think>\n\nWriting.\n{call('echo beaver > animal.txt')}<|im_end|>",
        f"<think>\nI read it.\n</think>\n\n{call('cat animal.txt')}\n{call('ls')}<|im_end|>",
        *(f"<think>\nOnce more.\n</think>\n\n{call(f'echo {n}')}<|im_end|>" for n in range(17)),
        "<think>\nDone.\n</think>\n\nThe animal is a beaver.<|im_end|>",
    ]
    proxy = start_proxy(engine := playing(answers))
    base_url = f"{proxy.url}/sessions/{session}/v1"
    events = run(codex, tmp_path, base_url, proxy.model, "Write down an animal, then read it.")
    assert (tmp_path / "folder" / "animal.txt").read_text() == "beaver\n"
    said = [event["item"] for event in events if event["type"] == "item.completed"]
    assert [item["text"] for item in said if item["type"] == "agent_message"] == ["Writing.", "The animal is a beaver."]
    turns = check_all(proxy.tape, session, engine.calls)
    assert [turn.outcome for turn in turns] == [*["tool_calls"] * 19, "stop"]
    assert [turn.fork_reason for turn in turns] == [None] * 20
    assert "beaver" in str(turns[2].messages)
    assert len(proxy.tape.samples(session)) == 1
    note(Ran("Codex", PACKAGE[1], "responses", "streamed", "run", len(turns), 1))


PATCH = "*** Begin Patch\n*** Add File: animal.txt\n+beaver\n*** End Patch\n"


@pytest.mark.slow
def test_codex_gets_calls_of_its_custom_tools(
    start_proxy: StartProxy, session: str, codex: Path, tmp_path: Path
) -> None:
    written = json.dumps({"name": "apply_patch", "arguments": {"input": PATCH}})
    answers = [f"<tool_call>\n{written}\n</tool_call><|im_end|>", "It is written.<|im_end|>"]
    # As one of OpenAI's models, which it offers its patch tool to. Its reasoning effort is a variable of the template.
    proxy = start_proxy(engine := playing(answers), renderer="template", served_model_names=["*"])
    verbosity = ("-c", 'model_verbosity="medium"')
    run(codex, tmp_path, f"{proxy.url}/sessions/{session}/v1", "gpt-5.5", "Write down an animal.", *verbosity)
    assert (tmp_path / "folder" / "animal.txt").read_text() == "beaver\n"
    turns = check_all(proxy.tape, session, engine.calls)
    assert [turn.outcome for turn in turns] == ["tool_calls", "stop"]
    assert turns[1].parent_id == turns[0].id
