"""Frameworks that print their steps into new prompts: every call is a sample, and each token is still trained once."""

import json
from pathlib import Path

import pytest

from tests.agents.matrix.clients import Client
from tests.agents.matrix.results import Ran, note
from tests.agents.playing import FINAL, QUESTION, call, playing
from tests.server.conftest import StartProxy
from tests.server.invariants import check_all

SMOLAGENTS = Client("smolagents", "smolagents_agent.py", ("smolagents[openai]==1.26.0",), {"chat": ("whole",)})
DSPY = Client("DSPy", "dspy_agent.py", ("dspy==3.4.1",), {"chat": ("whole",)})


def step(tool: str, **arguments: str) -> str:
    """A step of DSPy's ReAct, in its own fields."""
    fields = {"next_thought": "Next.", "next_tool_name": tool, "next_tool_args": json.dumps(arguments)}
    return "\n\n".join([*(f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items()), "[[ ## completed ## ]]"])


ANSWERS = {
    "smolagents": [*(call("weather", town=f"Town {n}") for n in range(4)), call("final_answer", answer=FINAL)],
    "DSPy": [
        *(step("weather", town=f"Town {n}") for n in range(4)),
        step("finish"),
        f"[[ ## reasoning ## ]]\nKnown.\n\n[[ ## answer ## ]]\n{FINAL}\n\n[[ ## completed ## ]]",
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("client", [SMOLAGENTS, DSPY], ids=lambda client: client.name)
def test_every_call_is_a_sample(start_proxy: StartProxy, session: str, tmp_path: Path, client: Client) -> None:
    answers = ANSWERS[client.name]
    proxy = start_proxy(engine := playing(answers))
    url = f"{proxy.url}/sessions/{session}"
    said = json.loads(client.run(tmp_path / "work", "chat", "whole", url, proxy.model, QUESTION).splitlines()[-1])
    assert said["text"] == FINAL
    turns = check_all(proxy.tape, session, engine.calls)
    samples = proxy.tape.samples(session)
    why = "it prints its steps into each prompt anew"
    note(Ran(client.name, said["version"], "chat", "whole", "run", len(turns), len(samples), why))
    assert len(samples) == len(turns) == len(answers)
    assert len(proxy.tape.samples(session, per_turn=True)) == len(turns)
