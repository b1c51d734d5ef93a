"""Real agent frameworks, unmodified, each pointed here by its base URL: a run is one sample."""

import json
from pathlib import Path

import pytest

from tests.agents.matrix.clients import CLIENTS, MODEL, Client
from tests.agents.matrix.results import Ran, note
from tests.agents.playing import FINAL, QUESTION, playing, weather_answers
from tests.server.conftest import StartProxy
from tests.server.invariants import check_all

#: Of those that :func:`weather_answers` has: a bare call, words before one, two calls at once.
ANSWERS = [weather_answers()[k] for k in (0, 3, 5, 6, 7, -1)]
RUNS = [(client, route, mode) for client in CLIENTS for route, modes in client.modes.items() for mode in modes]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("client", "route", "mode"), RUNS, ids=[f"{client.name}-{route}-{mode}" for client, route, mode in RUNS]
)
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
