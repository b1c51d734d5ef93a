"""One of two engines is killed under load, and comes back: what becomes of every request is told and on tape, nothing
that was seen is sampled again, and the engine that is back is used again within seconds.
"""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engines import Call, RecordingEngine
from tests.real.conftest import need
from tests.real.engines import started
from tests.real.models import tiny_model
from tests.server.conftest import Proxy, running, until
from tests.server.invariants import check_once, check_prefix
from tests.server.reading_along import read_along
from tickertape.clients import Turn
from tickertape.clients.engines.vllm.engine import VllmEngine
from tickertape.renderers.choose import choose_renderer
from tickertape.renderers.tokenizer import Tokenizer
from tickertape.server.settings import Settings

pytestmark = [pytest.mark.real, pytest.mark.slow]

MODEL = tiny_model(0, "smollm2")
AGENTS, TURNS, MAX_TOKENS = 24, 6, 48
#: Seconds that an agent does something else between two turns: runs a tool, reads. More while a server starts, which on
#: two cores would never come up beside another one at work.
BETWEEN, BETWEEN_STARTING = 0.5, 8.0
#: Seconds from when a restarted server answers until requests may go to it again. It is tried out as at start, which
#: takes some requests of one token.
BACK_WITHIN = 5.0


@dataclass
class Told:
    """What a client was told in answer to one request."""

    error: str | None
    turn_id: str | None = None
    logprobs: list[float] | None = None
    """Of a stream, as far as it came."""
    message: dict[str, Any] | None = None


@dataclass
class Agent:
    """Goes through sessions of some turns, one after the other, until it is told to end."""

    proxy: Proxy
    name: str
    streaming: bool
    starting: threading.Event
    """Set while a server starts."""
    told: dict[str, list[Told]] = field(default_factory=dict)
    """By session, every request."""

    def work(self, end: threading.Event) -> None:
        while not end.is_set():
            session = f"{self.name}-{len(self.told)}"
            told = self.told[session] = []
            messages = [{"role": "user", "content": f"This is {session}. Begin."}]
            for number in range(TURNS):
                told.append(answer := self._ask(session, messages))
                if answer.message is None:  # as agents' clients do, with the same bytes
                    told.append(answer := self._ask(session, messages))
                if answer.message is None:
                    break
                messages += [answer.message, {"role": "user", "content": f"Go on, number {number}."}]
                end.wait(BETWEEN_STARTING if self.starting.is_set() else BETWEEN)

    def _ask(self, session: str, messages: list[dict[str, Any]]) -> Told:
        fields = {"max_tokens": MAX_TOKENS, "temperature": 1}
        if not self.streaming:
            response = self.proxy.chat(session, messages, **fields)
            if response.status_code != 200:
                return Told(f"{response.status_code}: {response.json()['error']['message']}")
            return Told(None, response.headers["x-turn-id"], message=response.json()["choices"][0]["message"])
        try:
            heard = read_along(self.proxy, session, messages, logprobs=True, **fields)
        except AssertionError as refused:  # an error before the first token has its own status
            return Told(str(refused))
        told = [each["logprob"] for each in heard.logprobs()]
        turn_id = heard.headers["x-turn-id"]
        if heard.error is not None:
            return Told(heard.error["message"], turn_id, told)
        assert heard.done
        return Told(None, turn_id, told, heard.message())


def test_engine_that_is_killed_takes_nothing_with_it_and_comes_back(tmp_path: Path, session: str) -> None:
    need("vllm")
    with ExitStack() as stack:
        servers = [started("vllm", MODEL, tmp_path / f"{name}.log") for name in ("doomed", "other")]
        doomed, other = (stack.enter_context(server) for server in servers)
        engines = {
            "doomed": RecordingEngine(VllmEngine(doomed.url)),
            "other": RecordingEngine(VllmEngine(other.url)),
        }
        choice = choose_renderer(Tokenizer.load(MODEL))
        settings = Settings(port=0, db=tmp_path / "tape.db", engine_patience=60)
        proxy = stack.enter_context(running(engines, choice, settings))
        end = threading.Event()
        threads = stack.enter_context(ThreadPoolExecutor(AGENTS))
        stack.callback(end.set)  # before the threads are waited for
        starting = threading.Event()
        agents = [Agent(proxy, f"{session}-{k}", k % 2 == 0, starting) for k in range(AGENTS)]
        work = [threads.submit(agent.work, end) for agent in agents]
        until(lambda: under_way(engines["doomed"].calls) >= AGENTS // 4, 60)
        os.killpg(doomed.process.pid, signal.SIGKILL)
        until(lambda: shown(proxy, "doomed")["state"] == "down", 10)
        before = len(engines["doomed"].calls)
        port = int(doomed.url.rpartition(":")[2])
        starting.set()
        stack.enter_context(started("vllm", MODEL, tmp_path / "again.log", port=port))
        starting.clear()
        answers_at = time.monotonic()
        until(lambda: shown(proxy, "doomed")["state"] == "ready", 120)
        ready = time.monotonic() - answers_at
        # Sessions stay where their prefixes are: it is new ones that go to it.
        until(lambda: any(call.token_ids for call in engines["doomed"].calls[before:]), 60)
        used = time.monotonic() - answers_at
        end.set()
        for each in work:
            each.result(120)
        calls = [call for engine in engines.values() for call in engine.calls]
        outcomes = check_sessions(proxy, agents, calls)
    errors = Counter(told.error for agent in agents for each in agent.told.values() for told in each if told.error)
    print(f"\n{sum(outcomes.values())} turns: {dict(outcomes)}")
    print(f"ready {ready:.1f} s after the server answered, and used {used:.1f} s after")
    for error, count in errors.items():
        print(f"  {count} x {error[:200]}")
    assert outcomes["engine_error"] > 0, "something was lost, or this has tested nothing"
    assert ready <= BACK_WITHIN


def check_sessions(proxy: Proxy, agents: Sequence[Agent], calls: Sequence[Call]) -> Counter[str]:
    """Every request is a turn on tape, which says what its client was told; how many ended how."""
    by_turn: dict[str, list[Call]] = {}
    for call in calls:
        by_turn.setdefault(call.request_id.partition(".")[0], []).append(call)
    outcomes: Counter[str] = Counter()
    for agent in agents:
        for session, told in agent.told.items():
            turns = proxy.tape.turns(session)
            assert len(turns) == len(told), "a turn for each request, and no other"
            check_prefix(turns)
            check_once(proxy.tape, session)
            by_id = {turn.id: turn for turn in turns}
            for each in told:
                check_told(each, by_id)
            for turn in turns:
                outcomes[turn.outcome] += 1
                check_sampled_once(turn, by_turn.get(turn.id, []))
    return outcomes


def check_told(told: Told, turns: Mapping[str, Turn]) -> None:
    if told.turn_id is None:
        assert told.error is not None
        return
    turn = turns[told.turn_id]
    assert (told.error is not None) == (turn.outcome == "engine_error"), (told.error, turn.outcome)
    if told.logprobs is not None:  # who read along was told nothing that is not on tape, nor anything twice
        heard = np.array(told.logprobs, np.float32)
        assert np.array_equal(heard, turn.logprobs[: len(heard)])
        assert told.error is not None or len(heard) == len(turn.logprobs)


def check_sampled_once(turn: Turn, calls: Sequence[Call]) -> None:
    """Only the last engine that was asked for it gave tokens, which are those on tape."""
    *given_up, last = calls
    assert not any(call.token_ids for call in given_up)
    assert turn.completion.tolist() == last.token_ids
    assert np.array_equal(turn.logprobs, np.array(last.logprobs, np.float32))
    assert turn.outcome != "engine_error" or turn.error


def under_way(calls: Sequence[Call]) -> int:
    return sum(4 <= len(call.token_ids) < MAX_TOKENS // 2 for call in calls)


def shown(proxy: Proxy, name: str) -> dict[str, Any]:
    answer = proxy.http.get("/admin/engines")
    engines: list[dict[str, Any]] = answer.json()["engines"]
    return next(engine for engine in engines if engine["name"] == name)
