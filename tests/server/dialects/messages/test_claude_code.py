"""Claude Code, the real command line, on the proxy.

What it says to its model and does with the answers is its own; what the model says is played. Nothing but the proxy can
be reached from it.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.agents.matrix.results import Ran, note
from tests.engines import ScriptedEngine
from tests.npm import npm_package
from tests.server.calls.test_streaming import encode
from tests.server.conftest import Proxy, StartProxy
from tests.server.invariants import check_all

VERSION = "2.1.332"
N_READS = 20
#: Telemetry off, and a proxy that is not there for all but loopback.
CLOSED = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_AUTOUPDATER": "1",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "127.0.0.1",
}
RunClaude = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def wrapper() -> Path:
    return npm_package("@anthropic-ai/claude-code", VERSION) / "@anthropic-ai" / "claude-code" / "cli-wrapper.cjs"


@pytest.fixture
def run_claude(wrapper: Path, tmp_path: Path) -> RunClaude:
    """Runs it headless in a folder with files to read; gives its own report."""
    work, home = tmp_path / "work", tmp_path / "home"
    work.mkdir()
    home.mkdir()
    for number in range(N_READS):
        (work / f"notes{number}.txt").write_text(f"the answer is {number}\n")

    def run(proxy: Proxy, session: str, model: str) -> dict[str, Any]:
        node = shutil.which("node")
        assert node is not None
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "CLAUDE_CONFIG_DIR": str(home / "claude"),
            "ANTHROPIC_BASE_URL": f"{proxy.url}/sessions/{session}",
            "ANTHROPIC_API_KEY": "none",
            **CLOSED,
        }
        command = [node, str(wrapper), "-p", "What is the answer?", "--output-format", "json", "--model", model]
        command += ["--allowedTools", "Read"]
        done = subprocess.run(command, cwd=work, env=env, capture_output=True, text=True, timeout=150)
        assert done.returncode == 0, done.stdout + done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    return run


class Reader:
    """Plays a model that reads one file after another, thinking, and then answers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._turn = 0

    def __call__(self, _ids: list[int], _sampling: object) -> list[int]:
        number = self._turn
        self._turn += 1
        if number == N_READS:
            return encode("<think>\nNow I know.\n</think>\n\nThe answer is 19.<|im_end|>")
        arguments = json.dumps({"file_path": str(self._folder / f"notes{number}.txt")})
        call = f'<tool_call>\n{{"name": "Read", "arguments": {arguments}}}\n</tool_call>'
        return encode(f"<think>\nI read file {number}.\n</think>\n\nLet me see.\n{call}<|im_end|>")


@pytest.mark.slow
@pytest.mark.parametrize("model", ["tuned", "claude-sonnet-4-5", "claude-opus-4-7"])
def test_20_tool_turns_are_one_sample(
    start_proxy: StartProxy, session: str, run_claude: RunClaude, tmp_path: Path, model: str
) -> None:
    """Names of Anthropic's models make it ask for thinking budgets, efforts and edits of the context."""
    engine = ScriptedEngine(Reader(tmp_path / "work"), max_context=200_000)
    proxy = start_proxy(engine, served_model_names=("*",))
    report = run_claude(proxy, session, model)
    assert (report["is_error"], report["result"], report["num_turns"]) == (False, "The answer is 19.", N_READS + 1)
    turns = check_all(proxy.tape, session, engine.calls)
    assert [turn.fork_reason for turn in turns] == [None] * (N_READS + 1)
    assert [turn.parent_id for turn in turns[1:]] == [turn.id for turn in turns[:-1]]
    assert {turn.model for turn in turns} == {model}
    for number, turn in enumerate(turns[1:]):
        assert f"the answer is {number}" in turn.messages[0]["content"]
    (sample,) = proxy.tape.samples(session)
    assert int(sample.loss_mask.sum()) == sum(len(call.token_ids) for call in engine.calls)
    note(Ran("Claude Code", VERSION, "messages", "streamed", "run", len(turns), 1))


#: One black pixel.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d4944415478da63606060f80f0001040100"
    "5fe5c34b0000000049454e44ae426082"
)


@pytest.mark.slow
def test_a_picture_that_it_reads_ends_no_run(
    start_proxy: StartProxy, session: str, run_claude: RunClaude, tmp_path: Path
) -> None:
    picture = tmp_path / "work" / "picture.png"
    picture.write_bytes(PNG)
    arguments = json.dumps({"file_path": str(picture)})
    answers = [f'<tool_call>\n{{"name": "Read", "arguments": {arguments}}}\n</tool_call>', "I cannot see it."]
    engine = ScriptedEngine(
        lambda _ids, _sampling: encode(answers[len(engine.calls) - 1] + "<|im_end|>"), max_context=200_000
    )
    proxy = start_proxy(engine)
    assert run_claude(proxy, session, proxy.model)["result"] == "I cannot see it."
    turns = check_all(proxy.tape, session, engine.calls)
    assert "[image left out: you can read text only]" in str(turns[1].messages)
    assert turns[1].ignored_fields
    assert len(proxy.tape.samples(session)) == 1
