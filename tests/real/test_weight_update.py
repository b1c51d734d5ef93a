"""Weights that are really swapped under agents who read along: no token is lost or told twice, and every run on tape
has the logprobs of the version that it is stamped with, and of no other.
"""

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.engines import Call, RecordingEngine
from tests.real.conftest import need
from tests.real.engines import Kind, RealServer, started
from tests.real.models import tiny_model
from tests.real.test_conversations import CLIENTS, TOLERANCE
from tests.real.weights import swap
from tests.server.conftest import Proxy, running, until
from tests.server.invariants import check_once, check_prefix
from tests.server.reading_along import Heard, read_along
from tickertape.clients import Turn
from tickertape.clients.tape import stream
from tickertape.renderers.choose import choose_renderer
from tickertape.renderers.tokenizer import Tokenizer
from tickertape.server.settings import Settings

pytestmark = pytest.mark.real

STREAMS, PLAIN, LATE = 64, 8, 8
#: Tokens of every answer: enough to be in the middle of, everywhere, when the weights change. On CPU SGLang takes a
#: second for a token of all of them.
BUDGETS: dict[Kind, int] = {"vllm": 96, "sglang": 32}
#: Seconds for whatever a client waits for.
PATIENCE = 240
#: Requests of one test beside each other; an engine that is asked to score all of them at once needs gigabytes.
AT_ONCE = 4
#: Two policies, over one tokenizer of 49 thousand tokens.
WEIGHTS = {"A": tiny_model(0, "smollm2"), "B": tiny_model(1, "smollm2")}
#: A difference of logprobs that is certainly no rounding.
APART = 0.1

Values = npt.NDArray[np.float64]


@dataclass
class Asked:
    """An answer that is under way, or was."""

    session: str
    heard: "Future[Heard] | None" = None
    """Of a client that reads along."""
    plain: "Future[Any] | None" = None
    """Of a client that does not."""

    def message(self) -> dict[str, Any]:
        """What the client was told in the end."""
        if self.heard is not None:
            told = self.heard.result(PATIENCE)
            assert (told.error, told.done, told.finish_reasons()) == (None, True, ["length"])
            return told.message()
        assert self.plain is not None
        answer = self.plain.result(PATIENCE)
        assert answer.status_code == 200, answer.text
        message: dict[str, Any] = answer.json()["choices"][0]["message"]
        return message


class Clients:
    """Agents, each of whom asks one question in a session of its own."""

    def __init__(self, proxy: Proxy, threads: ThreadPoolExecutor, session: str, budget: int) -> None:
        self._proxy, self._threads, self._session = proxy, threads, session
        self.asked: list[Asked] = []
        self.budget = budget

    def ask(self, count: int, *, streaming: bool) -> None:
        for _ in range(count):
            number = len(self.asked)
            session = f"{self._session}-{number}"
            messages = [{"role": "user", "content": f"Question {number}: what comes next?"}]
            fields: dict[str, Any] = {"max_tokens": self.budget, "ignore_eos": True, "temperature": 1}
            if streaming:
                # Every other one is told the logprobs too, which then must be those on tape.
                fields["logprobs"] = number % 2 == 0
                self.asked.append(
                    Asked(session, heard=self._threads.submit(read_along, self._proxy, session, messages, **fields))
                )
            else:
                self.asked.append(
                    Asked(session, plain=self._threads.submit(self._proxy.chat, session, messages, **fields))
                )


@pytest.fixture(scope="module", params=["vllm", "sglang"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """Either engine, with the weights A."""
    need(request.param)
    log = tmp_path_factory.mktemp(request.param) / "log"
    with started(request.param, WEIGHTS["A"], log) as server:
        yield server


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(STREAMS + PLAIN + LATE) as executor:
        yield executor


@pytest.mark.parametrize("mode", ["abort", *(pytest.param(mode, marks=pytest.mark.slow) for mode in ("keep", "drain"))])
def test_every_run_on_tape_is_of_the_weights_it_is_stamped_with(
    server: RealServer, threads: ThreadPoolExecutor, tmp_path: Path, session: str, mode: str
) -> None:
    budget = BUDGETS[server.kind]
    swap(server, WEIGHTS["A"], "A")
    engine = RecordingEngine(CLIENTS[server.kind](server.url))
    choice = choose_renderer(Tokenizer.load(server.model))
    with running(engine, choice, Settings(port=0, db=tmp_path / "tape.db")) as proxy:
        proxy.http.timeout = PATIENCE
        admin(proxy, "", version="A")
        clients = Clients(proxy, threads, session, budget)
        clients.ask(STREAMS, streaming=True)
        clients.ask(PLAIN, streaming=False)
        until(lambda: under_way(engine.calls, budget) >= STREAMS // 8, 60)
        if mode == "drain":
            pausing = threads.submit(admin, proxy, "/pause", mode=mode, timeout=PATIENCE)
            until(lambda: proxy.http.get("/admin/policy").json()["paused"] == mode)
            clients.ask(LATE, streaming=True)
            pausing.result(PATIENCE)
        else:
            admin(proxy, "/pause", mode=mode, timeout=60)
            clients.ask(LATE, streaming=True)
        swap(server, WEIGHTS["B"], "B")
        # Only now: SGLang says that it is paused when it has told its scheduler so, whose last tokens then still come.
        sampled = sum(len(call.token_ids) for call in engine.calls)
        until(lambda: proxy.http.get("/admin/policy").json()["waiting"] >= LATE)
        assert sum(len(call.token_ids) for call in engine.calls) == sampled, "nothing is sampled in a pause"
        admin(proxy, "/resume", version="B")
        turns = [check_answer(proxy, asked, engine.calls, budget) for asked in clients.asked]
    runs = [[version for version, _ in turn.versions] for turn in turns]
    assert runs[-LATE:] == [["B"]] * LATE
    if mode == "drain":
        assert runs[:-LATE] == [["A"]] * (STREAMS + PLAIN)
    else:
        assert runs.count(["A", "B"]) >= STREAMS // 8
    check_weights(server, turns)


def check_answer(proxy: Proxy, asked: Asked, calls: Sequence[Call], budget: int) -> Turn:
    """What the client heard, what is on tape, and what went to the engine and came back are one."""
    message = asked.message()
    turns = proxy.tape.turns(asked.session)
    check_prefix(turns)
    check_once(proxy.tape, asked.session)
    (turn,) = turns
    assert (turn.outcome, len(turn.completion), len(turn.logprobs)) == ("length", budget, budget)
    assert turn.response is not None
    for field in ("content", "reasoning_content"):
        assert message.get(field) == turn.response.get(field)
    if asked.heard is not None and (told := asked.heard.result().logprobs()):
        np.testing.assert_array_equal(np.array([each["logprob"] for each in told], np.float32), turn.logprobs)
    sent = [call for call in calls if call.request_id.partition("-")[0] == turn.id]
    prompt = turn.prompt_delta.tolist()
    for call in sent:  # each goes on from exactly what was there
        assert call.prompt_ids == prompt
        prompt = prompt + call.token_ids
    assert prompt == [*turn.prompt_delta.tolist(), *turn.completion.tolist()]
    assert sum(count for _, count in turn.versions) == budget
    return turn


def check_weights(server: RealServer, turns: Sequence[Turn]) -> None:
    """Each run's logprobs are those of one prefill under its own version, and not under the other one."""
    under = {}
    for version in ("B", "A"):
        swap(server, WEIGHTS[version], version)
        under[version] = asyncio.run(recomputed(server, turns))
    off: dict[tuple[str, str], list[Values]] = {(stamped, by): [] for stamped in "AB" for by in "AB"}
    for number, turn in enumerate(turns):
        at = 0
        for stamped, count in turn.versions:
            assert stamped is not None
            run, at = slice(at, at + count), at + count
            for by, values in under.items():
                off[stamped, by].append(np.abs(values[number][run] - turn.logprobs[run]))
    for (stamped, by), apart in off.items():
        every = np.concatenate(apart)
        print(
            f"\n{server.kind}: {len(every)} tokens stamped {stamped}, recomputed under {by}: "
            f"max |Δ| {every.max():.2e}, mean {every.mean():.2e}"
        )
    for (stamped, by), apart in off.items():
        if stamped == by:
            assert max(run.max() for run in apart) <= TOLERANCE, (stamped, by)
        else:
            assert min(run.max() for run in apart if len(run) > 3) > APART, (stamped, by)


async def recomputed(server: RealServer, turns: Sequence[Turn]) -> list[Values]:
    """Of each turn's completion, the logprobs by one prefill under the weights that are there now."""
    engine = CLIENTS[server.kind](server.url)
    assert (await engine.start()).model == "tiny", "other weights do not make it another model"
    room = asyncio.Semaphore(AT_ONCE)

    async def score(turn: Turn) -> Values:
        async with room:
            scored = await engine.score(stream(turn, {turn.id: turn}).tolist())
            return np.array(scored.logprobs[-len(turn.completion) :])

    try:
        return await asyncio.gather(*map(score, turns))
    finally:
        await engine.close()


def under_way(calls: Sequence[Call], budget: int) -> int:
    """How many generations are in the middle."""
    return sum(budget // 8 <= len(call.token_ids) < budget // 2 for call in calls)


def admin(proxy: Proxy, path: str, **fields: Any) -> Any:
    answer = proxy.http.post(f"/admin/policy{path}", json=fields)
    assert answer.status_code == 200, answer.text
    return answer.json()
