"""Random agents against two servers on one tape, each request to another one: nothing shows that there are two.

PREFIX, VERBATIM and ONCE hold, every fork has the reason that it has with one server, and a retry gets its answer from
whichever server it reaches. A longer run: ``pytest -m slow -n 0 --traffic-turns 20000`` of this file.
"""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.engines import ScriptedEngine
from tests.server.conftest import Proxy, StartProxy, scripted
from tests.server.invariants import check_all, check_once, check_prefix
from tests.server.traffic import RandomEngine
from tests.server.turns.test_traffic import Traffic, run

HELLO = [{"role": "user", "content": "Hello"}]


class ReplicatedTraffic(Traffic):
    """Which server answers is anybody's guess; only what must begin in a known order goes to one of them together."""

    proxies: tuple[Proxy, Proxy]

    def change_place(self, body: dict[str, Any]) -> None:
        # The tape does not give again the rest of an answer that was cut: a retry of that has to find its own server.
        number = body["user"] if "continue_final_message" in body else f"{body['user']} {self.number}"
        self.proxy = self.proxies[random.Random(number).randrange(2)]


@contextmanager
def replicas(directory: Path, url: str) -> Iterator[tuple[Proxy, Proxy]]:
    engine = RandomEngine()
    Traffic.engine = engine
    Traffic.turns_seen, Traffic.reasons_seen = 0, set()
    with ExitStack() as stack:
        one, other = (stack.enter_context(scripted(engine, directory, db=url)) for _ in range(2))
        ReplicatedTraffic.proxies = one, other
        ReplicatedTraffic.proxy = one
        yield one, other


def test_random_agents_do_not_notice_that_there_are_two_servers(tmp_path: Path, postgres_url: str) -> None:
    with replicas(tmp_path, postgres_url):
        run(8, 20, ReplicatedTraffic)
        assert Traffic.turns_seen > 50


@pytest.mark.slow
def test_many_random_agents_on_two_servers(tmp_path: Path, postgres_url: str, request: pytest.FixtureRequest) -> None:
    wanted = request.config.getoption("--traffic-turns")
    with replicas(tmp_path, postgres_url):
        while Traffic.turns_seen < wanted:
            run(20, 50, ReplicatedTraffic)


def test_a_conversation_goes_on_at_whichever_server(postgres_url: str, start_proxy: StartProxy, session: str) -> None:
    engine = ScriptedEngine(lambda _ids, _sampling: [1000 + len(engine.calls), 151645])
    proxies = [start_proxy(engine, db=postgres_url) for _ in range(3)]
    messages: list[dict[str, Any]] = [*HELLO]
    for number in range(9):
        said = proxies[number % 3].chat(session, messages).json()["choices"][0]["message"]
        messages += [said, {"role": "user", "content": str(number)}]
    turns = check_all(proxies[0].tape, session, engine.calls)
    assert [turn.seq for turn in turns] == list(range(9))
    assert {turn.fork_reason for turn in turns} == {None}
    assert len(proxies[1].tape.samples(session)) == 1
    proxies[0].tape.finish(session)
    refused = proxies[1].chat(session, messages)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "session_closed")


def test_parallel_calls_of_one_session_on_two_servers_keep_every_token_once(
    postgres_url: str, start_proxy: StartProxy, session: str
) -> None:
    engine = ScriptedEngine(lambda _ids, _sampling: [1000 + len(engine.calls), 151645], delay=0.01)
    proxies = [start_proxy(engine, db=postgres_url) for _ in range(2)]
    said = proxies[0].chat(session, HELLO).json()["choices"][0]["message"]
    with ThreadPoolExecutor(8) as threads:
        asked = [[*HELLO, said, {"role": "user", "content": str(number)}] for number in range(24)]
        answers = list(threads.map(lambda k: proxies[k % 2].chat(session, asked[k]), range(24)))
    assert {answer.status_code for answer in answers} == {200}
    turns = proxies[1].tape.turns(session)
    assert {turn.parent_id for turn in turns[1:]} == {turns[0].id}
    assert [turn.seq for turn in turns] == list(range(25))
    check_prefix(turns)
    check_once(proxies[0].tape, session)


def test_a_session_that_another_server_deleted_begins_anew(
    postgres_url: str, start_proxy: StartProxy, session: str
) -> None:
    engine = ScriptedEngine(lambda _ids, _sampling: [1000, 151645])
    one, other = (start_proxy(engine, db=postgres_url) for _ in range(2))
    said = one.chat(session, HELLO).json()["choices"][0]["message"]
    other.tape.finish(session)
    assert other.http.delete(f"/sessions/{session}").status_code == 204
    assert one.chat(session, [*HELLO, said, *HELLO]).status_code == 200
    (turn,) = other.tape.turns(session)
    assert (turn.parent_id, turn.seq) == (None, 0)
