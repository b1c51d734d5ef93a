"""The checks of the long runs find what they are for."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.durability.agents import Heard
from tests.durability.checks import Verdict, check_tape
from tests.durability.engine import digest
from tests.durability.protocols import DIALECTS, Dialect, Item, events_of
from tests.engines import ScriptedEngine
from tests.server.all_kinds import playing
from tests.server.conftest import Proxy, scripted

LOOK_UP = '<tool_call>\n{"name": "look_up", "arguments": {"k": "v"}}\n</tool_call>'
CALL = f"<think>\nSo.\n</think>\n\nI look.\n{LOOK_UP}<|im_end|>"


class Talk:
    """A conversation of two turns that was heard."""

    def __init__(self, proxy: Proxy, engine: ScriptedEngine, dialect: Dialect, *, streamed: bool) -> None:
        self._proxy, self._engine, self._dialect, self._streamed = proxy, engine, dialect, streamed
        self.heard: list[Heard] = []
        self.record: dict[str, Any] = {}
        history = self.ask([dialect.user("Hello")], "mark-1")
        self.ask([*history, dialect.user("Go on")], "mark-2")

    def ask(self, history: list[Item], mark: str, **headers: str) -> list[Item]:
        body = {"model": self._proxy.model, **self._dialect.body(history, mark), "stream": self._streamed}
        path = f"/sessions/talk/v1/{self._dialect.path}"
        got = self._proxy.http.post(path, content=json.dumps(body), headers=headers)
        answer = self._dialect.gathered(events_of(got.content)) if self._streamed else got.json()
        assert answer is not None, got.text
        said = self._dialect.read(answer)
        replayed = "X-Tickertape-Replayed" in got.headers
        self.heard.append(Heard("talk", mark, self._dialect.name, said, self._streamed, replayed, 1))
        call = self._engine.calls[-1]
        told = {"prompt": digest(call.prompt_ids), "token_ids": call.token_ids, "logprobs": call.logprobs}
        self.record.setdefault(said.turn_id, told)
        results = [self._dialect.result(call_id, "found") for call_id in said.call_ids]
        return [*history, *said.items, *results]

    def check(self) -> Verdict:
        return check_tape(self._proxy.url, self.heard, self.record)


@pytest.fixture
def talk(tmp_path: Path) -> Iterator[Talk]:
    """In Chat Completions."""
    engine = ScriptedEngine(playing(CALL))
    with scripted(engine, tmp_path) as proxy:
        yield Talk(proxy, engine, DIALECTS[0], streamed=False)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_nothing_is_found_where_all_is_well(dialect: Dialect, streamed: bool, tmp_path: Path) -> None:
    engine = ScriptedEngine(playing(CALL))
    with scripted(engine, tmp_path) as proxy:
        talk = Talk(proxy, engine, dialect, streamed=streamed)
        verdict = talk.check()
    assert verdict.findings == []
    assert (verdict.sessions, verdict.turns, verdict.unheard) == (1, 2, 0)
    if dialect.name != "completions":
        assert talk.heard[0].said.calls == [("look_up", {"k": "v"})]


def test_a_turn_that_is_not_on_tape_is_found(talk: Talk, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "tape.db")) as tape, tape:
        tape.execute("DELETE FROM turns WHERE seq = 1")
    assert any("was heard whole and is not on tape" in each for each in talk.check().findings)


def test_tokens_and_prompts_that_are_not_the_engines_are_found(talk: Talk) -> None:
    one, other = talk.record.values()
    one["token_ids"], other["prompt"] = [*one["token_ids"], 1], "another"
    said = " ".join(talk.check().findings)
    assert "the tokens on tape are not those sampled" in said
    assert "the prompt on tape is not the prompt sent" in said


def test_an_answer_that_was_heard_otherwise_is_found(talk: Talk) -> None:
    talk.heard[0] = replace(talk.heard[0], said=replace(talk.heard[0].said, text="something else"))
    assert ["heard" in each for each in talk.check().findings] == [True]


def test_a_request_that_was_sampled_twice_is_found(talk: Talk) -> None:
    talk.ask([{"role": "user", "content": "Hello"}], "mark-1")
    assert talk.check().findings == [], "it was given again"
    assert talk.heard[-1].replayed
    talk.ask([{"role": "user", "content": "Hello"}], "mark-1", **{"X-Tickertape-Resample": "true"})
    assert ["sampled and committed 2 times" in each for each in talk.check().findings] == [True]
