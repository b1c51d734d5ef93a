"""Random agents against the real server: PREFIX, VERBATIM and ONCE hold, and every fork has the right reason.

A longer run: ``pytest tests/server/turns/test_traffic.py -m slow --traffic-turns 20000``.
"""

import json
import time
import uuid
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from tests.server.conftest import Proxy, scripted
from tests.server.invariants import check_once, check_prefix
from tests.server.traffic import DAWDLES, FAILS, Expected, Messages, RandomEngine, Reference
from tickertape.clients import Turn
from tickertape.clients.tape import stream

GO_ON = {"continue_final_message": True, "add_generation_prompt": False}
TOOLSETS = [
    [{"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}]
    for name in ("look_up", "search")
]
ECHOES = st.sets(
    st.sampled_from(["no reasoning", "no nulls", "parts", "arguments", "new ids", "no ids", "header", "reminder"])
)
PICK = st.integers(0, 5039)

T = TypeVar("T")


def picked(choices: Sequence[T], pick: int) -> Sequence[T]:
    """One of them, if there are any. What is there depends on what the model said, so that no strategy may."""
    return [choices[pick % len(choices)]] if choices else []


@dataclass
class Talk:
    """One conversation of an agent."""

    session: str
    messages: Messages
    tools: int = 0
    thinking: bool | None = None
    history: list[tuple[Messages, dict[str, Any]]] = field(default_factory=list)
    """For each answer, the messages that it was given to, and the answer."""
    cut: bool = False

    @property
    def rules(self) -> tuple[int, bool | None]:
        return self.tools, self.thinking


@dataclass
class Request:
    """One request on its way."""

    talk: Talk
    messages: Messages
    body: dict[str, Any]
    expected: Expected


class Traffic(RuleBasedStateMachine):
    """Agents that do whatever agents do."""

    proxy: Proxy
    engine: RandomEngine
    turns_seen = 0
    reasons_seen: set[str]

    def __init__(self) -> None:
        super().__init__()
        self.engine.calls.clear()
        self.sessions = {uuid.uuid4().hex: Reference() for _ in range(2)}
        self.talks: list[Talk] = []
        self.expected: dict[str, Expected] = {}
        self.bytes_told: dict[bytes, tuple[str, bytes]] = {}
        self.number = 0
        self.threads = ThreadPoolExecutor(8)

    def word(self) -> str:
        self.number += 1
        return f"question {self.number} of {id(self)}"

    # What agents do.

    @rule(which=st.integers(0, 1))
    def start(self, which: int) -> None:
        session = list(self.sessions)[which]
        messages = [
            {"role": "system", "content": f"You are {self.word()}."},
            {"role": "user", "content": self.word()},
        ]
        self.talks.append(talk := Talk(session, messages))
        self.send([self.request(talk, messages)])

    @precondition(lambda self: self.talks)
    @rule(pick=PICK, echo=ECHOES)
    def go_on(self, pick: int, echo: AbstractSet[str]) -> None:
        talk = self.talk(pick)
        self.send([self.request(talk, self.more(talk), echo)])

    @precondition(lambda self: self.talks)
    @rule(pick=PICK, echo=ECHOES, n=st.integers(2, 4))
    def several_choices(self, pick: int, echo: AbstractSet[str], n: int) -> None:
        talk = self.talk(pick)
        self.send([self.request(talk, self.more(talk), echo, n=n)])

    @precondition(lambda self: self.talks)
    @rule(pick=PICK, echo=ECHOES, party=st.integers(2, 6))
    def parallel_calls(self, pick: int, echo: AbstractSet[str], party: int) -> None:
        """Sub-agents that share the history, and conversations of their own, all at once."""
        talk = self.talk(pick)
        requests = [self.request(talk, self.more(talk), echo) for _ in range(party)]
        other = self.talk(pick // 7)
        if other is not talk:
            requests.append(self.request(other, self.more(other)))
        self.send(requests)

    @precondition(lambda self: self.talks)
    @rule(pick=PICK, max_tokens=st.integers(1, 12))
    def be_cut(self, pick: int, max_tokens: int) -> None:
        talk = self.talk(pick)
        self.send([self.request(talk, self.more(talk), max_tokens=max_tokens)])

    @precondition(lambda self: self.talks)
    @rule(pick=PICK, max_tokens=st.sampled_from([None, 2]))
    def go_on_with_a_cut_answer(self, pick: int, max_tokens: int | None) -> None:
        fields: dict[str, Any] = GO_ON | ({"max_tokens": max_tokens} if max_tokens else {})
        for talk in picked([talk for talk in self.talks if talk.cut], pick):
            self.send([self.request(talk, talk.messages, **fields)])

    @precondition(lambda self: self.talks)
    @rule(pick=PICK)
    def resample(self, pick: int) -> None:
        for talk, asked, _ in picked(self.answers(), pick):
            self.send([self.request(talk, asked, temperature=0.01 * (self.number % 50))])

    @precondition(lambda self: self.talks)
    @rule(pick=PICK)
    def branch(self, pick: int) -> None:
        for talk, asked, answer in picked(self.answers(), pick):
            self.send([self.request(talk, self.behind([*asked, answer]))])

    @precondition(lambda self: self.talks)
    @rule(pick=PICK)
    def edit(self, pick: int) -> None:
        for talk, asked, answer in picked(self.answers(), pick):
            edited = [*asked[:-1], {**asked[-1], "content": self.word()}, answer]
            self.send([self.request(talk, self.behind(edited))])

    @precondition(lambda self: self.talks)
    @rule(pick=PICK)
    def compact(self, pick: int) -> None:
        for talk, asked, answer in picked([each for each in self.answers() if len(each[1]) > 3], pick):
            short = [asked[0], {"role": "user", "content": f"What was done: {self.word()}"}, answer]
            self.send([self.request(talk, self.behind(short))])

    @precondition(lambda self: self.talks)
    @rule(pick=PICK)
    def make_up_an_answer(self, pick: int) -> None:
        for talk, asked, _ in picked(self.answers(), pick):
            made_up = [*asked, {"role": "assistant", "content": f"No, {self.word()}"}]
            self.send([self.request(talk, self.behind(made_up))])

    @precondition(lambda self: self.talks)
    @rule(pick=PICK)
    def change_tools(self, pick: int) -> None:
        talk = self.talk(pick)
        talk.tools = 1 - talk.tools
        self.send([self.request(talk, self.more(talk))])

    @precondition(lambda self: self.talks)
    @rule(pick=PICK, thinking=st.sampled_from([None, False]))
    def change_options(self, pick: int, thinking: bool | None) -> None:
        talk = self.talk(pick)
        talk.thinking = thinking
        self.send([self.request(talk, self.more(talk))])

    @precondition(lambda self: self.talks)
    @rule(pick=PICK, times=st.integers(1, 3))
    def retry(self, pick: int, times: int) -> None:
        for body, (session, told) in picked(list(self.bytes_told.items()), pick):
            self.change_place(json.loads(body))
            for answer in self.threads.map(self.post, [session] * times, [body] * times):
                assert (answer.content, answer.headers["X-Tickertape-Replayed"]) == (told, "true")

    @precondition(lambda self: self.talks)
    @rule(pick=PICK)
    def meet_a_failing_engine(self, pick: int) -> None:
        talk = self.talk(pick)
        request = self.request(talk, self.more(talk), seed=FAILS)
        answer = self.post(talk.session, json.dumps(request.body).encode())
        if answer.status_code == 200:  # it had sampled everything in one chunk
            self.hear(request, answer)
            return
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "engine_unavailable")

    @precondition(lambda self: self.talks)
    @rule(pick=PICK, chance=st.integers(0, 3))
    def go_away(self, pick: int, chance: int) -> None:
        if chance:  # it takes its time
            return
        talk = self.talk(pick)
        request = self.request(talk, self.more(talk), seed=DAWDLES)
        body = json.dumps(request.body).encode()
        try:
            self.hear(request, self.post(talk.session, body, timeout=0.04))
        except httpx.TimeoutException:
            self.settle()

    # How they do it.

    def answers(self) -> list[tuple[Talk, Messages, dict[str, Any]]]:
        """Answers that say something of their own."""
        return [
            (talk, asked, answer)
            for talk in self.talks
            for asked, answer in talk.history
            if len(answer["content"] or "") > 24
        ]

    def talk(self, pick: int) -> Talk:
        return self.talks[pick % len(self.talks)]

    def more(self, talk: Talk) -> Messages:
        return self.behind(talk.messages) if talk.history else [*talk.messages]

    def behind(self, messages: Messages) -> Messages:
        """Results of the calls that were made, else a question."""
        results = [
            {"role": "tool", "tool_call_id": call["id"], "content": self.word()}
            for call in messages[-1].get("tool_calls") or ()
        ]
        return [*messages, *(results or [{"role": "user", "content": self.word()}])]

    def request(
        self,
        talk: Talk,
        messages: Messages,
        echo: AbstractSet[str] = frozenset(),
        **fields: Any,
    ) -> Request:
        body = {"model": self.proxy.model, "messages": echoed(messages, echo, self.number), **fields}
        body["tools"] = TOOLSETS[talk.tools]
        if talk.thinking is not None:
            body["chat_template_kwargs"] = {"enable_thinking": talk.thinking}
        self.number += 1
        body["user"] = str(self.number)  # no two bodies are alike but on purpose
        reference = self.sessions[talk.session]
        n, continues = fields.get("n", 1), "continue_final_message" in fields
        expected = reference.expect(messages, talk.rules, n, continues=continues)
        return Request(talk, messages, body, expected)

    def change_place(self, body: dict[str, Any]) -> None:
        """Before a request or several at once: where there are many servers, it may go to another."""

    def send(self, requests: list[Request]) -> None:
        self.change_place(requests[0].body)
        bodies = [json.dumps(request.body).encode() for request in requests]
        sessions = [request.talk.session for request in requests]
        answers = list(self.threads.map(self.post, sessions, bodies))
        order = list(range(len(requests)))
        if len(requests) > 1:
            # They begin in any order: reasons below one parent are compared as a whole.
            self.share_reasons(requests, answers)
            # The latest among equals is the one that was committed last.
            seqs = {turn.id: turn.seq for session in set(sessions) for turn in self.turns_or_none(session)}
            order.sort(key=lambda k: seqs[turn_ids(answers[k])[0]])
        for k in order:
            self.hear(requests[k], answers[k])
            self.bytes_told[bodies[k]] = (sessions[k], answers[k].content)

    def turns_of(self, session: str) -> dict[str, Turn]:
        return {turn.id: turn for turn in self.turns_or_none(session)}

    def turns_or_none(self, session: str) -> list[Turn]:
        known = self.proxy.http.get(f"/sessions/{session}").status_code == 200
        return self.proxy.tape.turns(session) if known else []

    def share_reasons(self, requests: list[Request], answers: list[httpx.Response]) -> None:
        by_parent: dict[tuple[str, str | None], list[int]] = {}
        for k, request in enumerate(requests):
            by_parent.setdefault((request.talk.session, request.expected.parent), []).append(k)
        for (session, _), group in by_parent.items():
            turns = self.turns_of(session)
            told = [turns[turn_ids(answers[k])[0]].fork_reason for k in group]
            wanted = [requests[k].expected.reason for k in group]
            assert sorted(map(str, told)) == sorted(map(str, wanted))
            for k, reason in zip(group, told, strict=True):
                requests[k].expected.reason = reason

    def hear(self, request: Request, answer: httpx.Response) -> None:
        assert answer.status_code == 200, answer.text
        talk, choices = request.talk, answer.json()["choices"]
        for number, (turn_id, choice) in enumerate(zip(turn_ids(answer), choices, strict=True)):
            expected = request.expected
            self.expected[turn_id] = Expected(expected.parent, "n") if number else expected
            asked, message = request.messages, choice["message"]
            if "continue_final_message" in request.body:
                asked, before = asked[:-1], asked[-1]
                content = (before["content"] or "") + (message["content"] or "")
                message = {**message, "content": content}
            self.sessions[talk.session].answer(asked, message, turn_id, talk.rules)
            talk.messages = [*asked, message]
            talk.history.append((asked, message))
            talk.cut = choice["finish_reason"] == "length" and "n" not in request.body

    def post(self, session: str, body: bytes, timeout: float = 30) -> httpx.Response:
        headers = {"Content-Type": "application/json"}
        path = f"/sessions/{session}/v1/chat/completions"
        return self.proxy.http.post(path, content=body, headers=headers, timeout=timeout)

    def settle(self) -> None:
        """Until every call has left its turn."""
        deadline = time.monotonic() + 5
        while set(self.engine.calls) - {turn.id for session in self.sessions for turn in self.turns_or_none(session)}:
            assert time.monotonic() < deadline, "a call left no turn"
            time.sleep(0.01)

    def teardown(self) -> None:
        self.threads.shutdown()
        for session in self.sessions:
            if turns := self.turns_or_none(session):
                self.check(session, turns)

    def check(self, session: str, turns: list[Turn]) -> None:
        check_prefix(turns)
        check_once(self.proxy.tape, session)
        by_id = {turn.id: turn for turn in turns}
        for turn in turns:
            Traffic.turns_seen += 1
            if turn.outcome == "replayed":
                continue
            call = self.engine.calls.pop(turn.id, None)
            if call is None:  # on a busy machine a client may leave before the engine is asked
                assert turn.outcome == "undelivered"
                assert not turn.completion.size
                continue
            assert stream(turn, by_id).tolist() == call.prompt_ids + call.token_ids
            assert turn.completion.tolist() == call.token_ids
            assert np.array_equal(turn.logprobs, np.array(call.logprobs, np.float32))
            if turn.id in self.expected:
                expected = self.expected[turn.id]
                assert turn.fork_reason == expected.reason, (turn.seq, turn.fork_reason, expected)
                assert turn.parent_id == expected.parent or not expected.parent_is_known
                Traffic.reasons_seen.add(str(turn.fork_reason))
            else:
                assert turn.outcome in ("engine_error", "undelivered")


def turn_ids(answer: httpx.Response) -> list[str]:
    told: str = answer.headers.get("X-Turn-Id", "")
    return told.split(", ")


def echoed(messages: Messages, echo: AbstractSet[str], number: int) -> Messages:
    """History as a client may send it: the same for the server."""
    last = len(messages) - 1
    return [_echoed(message, echo, number, is_last=k == last) for k, message in enumerate(messages)]


def _echoed(message: dict[str, Any], echo: AbstractSet[str], number: int, *, is_last: bool) -> dict[str, Any]:
    message = json.loads(json.dumps(message))
    if "no reasoning" in echo:
        message.pop("reasoning_content", None)
    for call in message.get("tool_calls") or ():
        function = call["function"]
        if "arguments" in echo:
            with suppress(ValueError):  # what the model wrote may be no JSON
                function["arguments"] = json.dumps(json.loads(function["arguments"]), sort_keys=True, indent=1)
        if "new ids" in echo:
            call["id"] = f"new_{number}_{call['id']}"
        if "no ids" in echo:
            del call["id"]
    if message["role"] == "tool" and "new ids" in echo:
        message["tool_call_id"] = f"new_{number}_{message['tool_call_id']}"
    if message["role"] == "system" and "header" in echo:
        message["content"] = f"x-anthropic-billing-header: cch={number};\n{message['content']}"
    if message["role"] == "user" and "reminder" in echo and is_last:
        message["content"] += f"\n<system-reminder>\nIt is {number}.\n</system-reminder>"
    if "parts" in echo and message["content"] is not None:
        message["content"] = [{"type": "text", "text": message["content"]}]
    if "no nulls" in echo:
        message = {name: value for name, value in message.items() if value is not None or name == "content"}
        message["content"] = message["content"] or ""
    return message


@contextmanager
def traffic(directory: Path) -> Iterator[None]:
    Traffic.engine = RandomEngine()
    Traffic.turns_seen, Traffic.reasons_seen = 0, set()
    with scripted(Traffic.engine, directory) as proxy:
        Traffic.proxy = proxy
        yield


def run(examples: int, steps: int, machine: type[Traffic] = Traffic) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_random_agents(tmp_path: Path) -> None:
    with traffic(tmp_path):
        run(examples=12, steps=20)
        assert Traffic.turns_seen > 50


@pytest.mark.slow
def test_many_random_agents(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    wanted = request.config.getoption("--traffic-turns")
    with traffic(tmp_path):
        while Traffic.turns_seen < wanted:
            run(examples=20, steps=50)
        print(f"{Traffic.turns_seen} turns; {sorted(Traffic.reasons_seen)}")
        assert Traffic.reasons_seen == {
            "None", "sibling", "resampled", "n", "edited", "compacted", "made_up_answer", "other_conversation",
            "tools_changed", "template_options_changed",
        }  # fmt: skip
