"""mini-swe-agent's own command line, with its own settings, works by changing the base URL in its environment."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.agents.environment import closed_environ, litellm_environment, run
from tests.agents.matrix.results import Ran, note
from tests.agents.playing import call, check_one_sample, playing
from tests.engines import ScriptedEngine
from tests.server.conftest import Proxy, StartProxy
from tests.server.invariants import check_all

N_COMMANDS = 20
SUBMIT = f"I submit.\n{call('bash', command='echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT && cat animals.txt')}"
RunMini = Callable[[Sequence[str]], tuple[Proxy, ScriptedEngine, dict[str, Any]]]


@pytest.fixture
def run_mini(start_proxy: StartProxy, session: str, tmp_path: Path) -> RunMini:
    """Runs it in an empty folder with a model that plays some answers; gives its trajectory's ``info``, too."""

    def run_with(answers: Sequence[str]) -> tuple[Proxy, ScriptedEngine, dict[str, Any]]:
        programs = litellm_environment()
        proxy = start_proxy(engine := playing(answers))
        work = tmp_path / "work"
        work.mkdir()
        environ = closed_environ(tmp_path / "home") | {
            "OPENAI_BASE_URL": proxy.tape.agent_base_url(session),
            "MSWEA_CONFIGURED": "true",
            "MSWEA_COST_TRACKING": "ignore_errors",
        }
        command = [str(programs / "mini"), "-m", f"openai/{proxy.model}", "-t", "Write down animals.", "--yolo"]
        run([*command, "--exit-immediately", "-o", "trajectory.json"], environ, work)
        return proxy, engine, json.loads((work / "trajectory.json").read_text())["info"]

    return run_with


def add(animal: str) -> str:
    command = f"echo {animal} >> animals.txt; tail -n 1 animals.txt"
    return f"<think>\nOne more.\n</think>\n\nI add one.\n{call('bash', command=command)}"


@pytest.mark.slow
def test_a_run_of_20_commands_and_a_submission_is_one_sample(run_mini: RunMini, session: str) -> None:
    answers = [add(f"beaver {n}") for n in range(N_COMMANDS)]
    answers[9] += "\n" + call("bash", command="wc -l < animals.txt")
    proxy, engine, info = run_mini([*answers, SUBMIT])
    animals = "".join(f"beaver {n}\n" for n in range(N_COMMANDS))
    assert (info["exit_status"], info["submission"]) == ("Submitted", animals)
    turns = check_one_sample(proxy, session, engine.calls, N_COMMANDS + 1)
    assert [turn.outcome for turn in turns] == ["tool_calls"] * (N_COMMANDS + 1)
    note(Ran("mini-swe-agent", "2.4.6", "chat", "whole", "run", len(turns), 1))
    assert [turn.ignored_fields for turn in turns] == [[]] * len(turns)
    assert "beaver 19" in turns[-1].messages[0]["content"]


@pytest.mark.slow
def test_an_answer_without_a_command_is_a_branch_since_the_agent_forgets_it(run_mini: RunMini, session: str) -> None:
    proxy, engine, info = run_mini([add("beaver"), "I only talk.", add("otter"), SUBMIT])
    assert (info["exit_status"], info["submission"]) == ("Submitted", "beaver\notter\n")
    turns = check_all(proxy.tape, session, engine.calls)
    assert "No tool calls found" in turns[2].messages[-1]["content"]
    assert [turn.parent_id for turn in turns] == [None, turns[0].id, turns[0].id, turns[2].id]
    assert [turn.fork_reason for turn in turns] == [None, None, "sibling", None]
    assert len(proxy.tape.samples(session)) == 2
