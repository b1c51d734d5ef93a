"""opencode, the real command line, works by a provider with another base URL in its configuration."""

import json
from pathlib import Path

import pytest

from tests.agents.environment import closed_environ, run
from tests.agents.matrix.results import Ran, note
from tests.agents.playing import call
from tests.engines import ScriptedEngine
from tests.npm import npm_packages
from tests.server.conftest import StartProxy, qwen3_tokenizer
from tests.server.invariants import check_all
from tickertape.clients.engines.engine import Sampling

VERSION = "1.18.33"
N_READS = 20


def configuration(url: str, model: str) -> dict[str, object]:
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": url, "apiKey": "none"},
        "models": {model: {"limit": {"context": 200_000, "output": 8192}}},
    }
    named = f"tickertape/{model}"
    return {
        "provider": {"tickertape": provider},
        "model": named,
        "small_model": named,
        "autoupdate": False,
        "share": "disabled",
    }


@pytest.mark.slow
def test_20_tool_turns_are_one_sample_beside_the_title(start_proxy: StartProxy, session: str, tmp_path: Path) -> None:
    cli = npm_packages(f"opencode-ai@{VERSION}", f"opencode-linux-x64@{VERSION}") / "opencode-linux-x64/bin/opencode"
    work, home = tmp_path / "work", tmp_path / "home"
    work.mkdir()
    for number in range(N_READS):
        (work / f"notes{number}.txt").write_text(f"the answer is {number}\n")
    answers = [
        f"<think>\nI read file {n}.\n</think>\n\nLet me see.\n" + call("read", filePath=str(work / f"notes{n}.txt"))
        for n in range(N_READS)
    ]
    answers.append("<think>\nI know.\n</think>\n\nThe answer is 19.")

    def script(ids: list[int], _sampling: Sampling) -> list[int]:
        asks_for_title = "title generator" in qwen3_tokenizer().decode(ids[:2000])
        answer = "Answers" if asks_for_title else answers.pop(0)
        return qwen3_tokenizer().encode_like_model(answer + "<|im_end|>")

    proxy = start_proxy(engine := ScriptedEngine(script, max_context=200_000))
    (work / "opencode.json").write_text(json.dumps(configuration(proxy.tape.agent_base_url(session), proxy.model)))
    environ = closed_environ(home) | {"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1"}
    said = run([str(cli), "run", "--format", "json", "What is the answer?"], environ, work)
    events = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    texts = [event["part"]["text"] for event in events if event["type"] == "text"]
    assert texts[-1] == "The answer is 19."
    turns = check_all(proxy.tape, session, engine.calls)
    titles = [turn for turn in turns if turn.response and turn.response["content"] == "Answers"]
    own = [turn for turn in turns if turn not in titles]
    samples = len(proxy.tape.samples(session))
    note(Ran("opencode", VERSION, "compatible", "streamed", "run", len(turns), samples, "it asks for a title beside"))
    assert len(own) == N_READS + 1
    assert [turn.parent_id for turn in own] == [None, *(turn.id for turn in own[:-1])]
    assert samples == 1 + len(titles)
