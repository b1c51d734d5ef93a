"""Real agent frameworks, unmodified, each pointed here by its base URL: a run is one sample."""

import json
import os
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agents.matrix.clients import CLIENTS, MODEL, Client
from tests.agents.matrix.results import Ran, note
from tests.agents.playing import FINAL, QUESTION, playing, weather_answers
from tests.server.conftest import StartProxy
from tests.server.invariants import check_all

#: Of those that :func:`weather_answers` has: a bare call, words before one, two calls at once.
ANSWERS = [weather_answers()[k] for k in (0, 3, 5, 6, 7, -1)]
RUNS = [(client, route, mode) for client in CLIENTS for route, modes in client.modes.items() for mode in modes]
#: Under which a session of broken calls is among those that always run.
FIVE = ("Vercel AI SDK", "pydantic-ai", "agno", "strands", "LangChain.js")


def cases(runs: list[tuple[Client, str, str]], clients: Container[str]) -> Iterator[Any]:
    """Runs as parameters: the first of each of the clients always, the others where all are asked for."""
    begun: set[str] = set()
    for client, route, mode in runs:
        is_first = client.name in clients and client.name not in begun
        begun.add(client.name)
        if is_first or os.environ.get("TICKERTAPE_ALL_CLIENTS"):
            yield pytest.param(client, route, mode, id=f"{client.name}-{route}-{mode}")


@pytest.mark.slow
@pytest.mark.parametrize(("client", "route", "mode"), [*cases(RUNS[::-1], [client.name for client in CLIENTS])])
def test_a_run_of_5_tool_turns_is_one_sample(
    start_proxy: StartProxy, session: str, tmp_path: Path, client: Client, route: str, mode: str
) -> None:
    aside = client.aside.get(route)
    answers = [*(["Hello, world."] if aside else []), *ANSWERS]
    proxy = start_proxy(engine := playing(answers), served_model_names=("*",))
    url = f"{proxy.url}/sessions/{session}"
    model = client.models.get(route, MODEL)
    said = json.loads(client.run(tmp_path / "work", route, mode, url, model, QUESTION).splitlines()[-1])
    assert said["text"].strip().endswith(FINAL)
    turns = [turn for turn in check_all(proxy.tape, session, engine.calls) if turn.outcome != "rejected"]
    samples = len(proxy.tape.samples(session))
    note(Ran(client.name, said["version"], route, mode, "run", len(turns), samples, aside or ""))
    own = turns[len(turns) - len(ANSWERS) :]
    assert [turn.fork_reason for turn in own[1:]] == [None] * (len(ANSWERS) - 1)
    assert [turn.parent_id for turn in own] == [None, *(turn.id for turn in own[:-1])]
    assert samples == (2 if aside else 1)


#: Calls that cannot be run: arguments that are no JSON, a tool that there is not, an argument that there is not.
BROKEN = [
    '<think>\nHm.\n</think>\n\n<tool_call>\n{"name": "weather", "arguments": {"town": "Köln}}\n</tool_call>',
    'I try.\n<tool_call>\n{"name": "wetter", "arguments": {"town": "Köln"}}\n</tool_call>',
    '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln"}}\n</tool_call>',
    ANSWERS[0],
    ANSWERS[-1],
]
FORGIVING = [(client, route, modes[-1]) for client in CLIENTS for route, modes in client.modes.items()]


@pytest.mark.slow
@pytest.mark.parametrize(("client", "route", "mode"), [*cases(FORGIVING, FIVE)])
def test_a_run_with_three_kinds_of_broken_calls_is_one_sample(
    start_proxy: StartProxy, session: str, tmp_path: Path, client: Client, route: str, mode: str
) -> None:
    answers = [*(["Hello, world."] if client.aside.get(route) else []), *BROKEN]
    proxy = start_proxy(engine := playing(answers), served_model_names=("*",))
    url, model = f"{proxy.url}/sessions/{session}", client.models.get(route, MODEL)
    said = json.loads(client.run(tmp_path / "work", route, mode, url, model, QUESTION).splitlines()[-1])
    turns = [turn for turn in check_all(proxy.tape, session, engine.calls) if turn.outcome != "rejected"]
    samples = len(proxy.tape.samples(session))
    note(Ran(client.name, said["version"], route, mode, "broken", len(turns), samples, client.aside.get(route, "")))
    assert said["text"].strip().endswith(FINAL)
    assert samples == (2 if client.aside.get(route) else 1)
