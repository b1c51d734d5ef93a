"""What clients make of answers whose calls they could not run: it is the same conversation, and one sample."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.agents.playing import playing
from tests.engines import Call, ScriptedEngine
from tests.renderers.answers import TOOLS
from tests.server.conftest import Proxy, StartProxy, qwen3_tokenizer, scripted
from tests.server.invariants import check_all
from tickertape.renderers.messages import Message, ToolCall
from tickertape.server.trajectories import echoes
from tickertape.server.trajectories.broken_answers import BrokenAnswer
from tickertape.server.trajectories.echoes import with_echoes
from tickertape.server.trajectories.forks import Asked
from tickertape.server.trajectories.matching import context_digests
from tickertape.server.trajectories.normalising import default
from tickertape.server.trajectories.tree import SessionTree

HELLO = {"role": "user", "content": "Hello."}
GO_ON = {"role": "user", "content": "That was no call. Go on."}
LOOK_UP = next(tool for tool in TOOLS if tool["function"]["name"] == "look_up")
SOUND = '<tool_call>\n{"name": "look_up", "arguments": {"key": "a"}}\n</tool_call>'
BROKEN = {
    "cut JSON": '<tool_call>\n{"name": "look_up", "arguments": {"key": "a}}\n</tool_call>',
    "no such tool": '<tool_call>\n{"name": "lookup", "arguments": {"key": "a"}}\n</tool_call>',
    "a list": '<tool_call>\n{"name": "look_up", "arguments": ["a"]}\n</tool_call>',
}
Change = Callable[[dict[str, Any]], dict[str, Any]]


class Stage:
    """A proxy whose model says what each test tells it to."""

    proxy: Proxy

    def __init__(self, directory: Path) -> None:
        self.answers: list[str] = []
        self.engine = ScriptedEngine(lambda _ids, _sampling: self._next())
        self.running = scripted(self.engine, directory)

    def _next(self) -> list[int]:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return qwen3_tokenizer().encode_like_model(answer + "<|im_end|>")

    def plays(self, *answers: str) -> list[Call]:
        """Says these, the last one again and again; gives what the engine was asked since."""
        self.answers = list(answers)
        self.engine.calls = []
        return self.engine.calls


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("tape"))
    with stage.running as stage.proxy:
        yield stage


def with_call(message: dict[str, Any], name: str, arguments: str) -> dict[str, Any]:
    calls = [{**call, "function": {"name": name, "arguments": arguments}} for call in message.get("tool_calls", ())]
    return {**message, **({"tool_calls": calls} if calls else {})}


ECHOES: dict[str, Change] = {
    "as it was": lambda message: message,
    "emptied": lambda message: with_call(message, "look_up", "{}"),
    "repaired": lambda message: with_call(message, "look_up", '{"key": "a"}'),
    "renamed": lambda message: with_call(message, "invalid", '{"tool": "look_up", "error": "no JSON"}'),
    "wrapped": lambda message: with_call(message, "look_up", '{"INVALID_JSON": "{\\"key\\": \\"a"}'),
    "left out": lambda message: {key: value for key, value in message.items() if key != "tool_calls"},
}


def without_null(message: dict[str, Any]) -> dict[str, Any]:
    return {**message, "content": message["content"] or ""}


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_broken_call_may_come_back_as_anything(stage: Stage, session: str, broken: str, echo: Change) -> None:
    proxy, calls = stage.proxy, stage.plays(f"<think>\nHm.\n</think>\n\nI look.\n{broken}", "Done.")
    told = proxy.chat(session, [HELLO], tools=[LOOK_UP]).json()["choices"][0]["message"]
    sent = without_null(echo(told))
    history = [HELLO, sent, GO_ON]
    for _ in range(2):
        said = proxy.chat(session, history, tools=[LOOK_UP]).json()["choices"][0]["message"]
        history += [said, GO_ON]
    turns = check_all(proxy.tape, session, calls)
    assert [turn.fork_reason for turn in turns] == [None] * 3
    assert len(proxy.tape.samples(session)) == 1
    differs = with_call(told, "", "") != with_call(sent, "", "") or told.get("tool_calls") != sent.get("tool_calls")
    kept = turns[1].request_fields.get("sent_otherwise")
    assert (kept is not None) == differs
    if kept is not None:
        assert [call["function"] for call in kept.get("tool_calls", ())] == [
            call["function"] for call in sent.get("tool_calls", ())
        ]
    assert "sent_otherwise" not in turns[2].request_fields


@pytest.mark.parametrize(
    "change",
    [
        lambda message: {**message, "content": "I looked."},
        lambda message: with_call(message, "look_up", "{}"),  # the sound one, too
        lambda message: {**message, "tool_calls": message["tool_calls"] * 2},
    ],
    ids=["other words", "another sound call", "more calls"],
)
def test_what_the_client_changes_beside_it_is_another_conversation(stage: Stage, session: str, change: Change) -> None:
    proxy = stage.proxy
    stage.plays(f"I look.\n{SOUND}\n{BROKEN['no such tool']}", "Done.")
    told = proxy.chat(session, [HELLO], tools=[LOOK_UP]).json()["choices"][0]["message"]
    proxy.chat(session, [HELLO, change(told), GO_ON], tools=[LOOK_UP])
    assert [turn.fork_reason for turn in proxy.tape.turns(session)] == [None, "made_up_answer"]


def test_nothing_is_forgiven_by_strict_matching(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(playing([BROKEN["no such tool"], "Done."]), matching="strict")
    told = proxy.chat(session, [HELLO], tools=[LOOK_UP]).json()["choices"][0]["message"]
    proxy.chat(session, [HELLO, with_call(told, "look_up", "{}"), GO_ON], tools=[LOOK_UP])
    assert [turn.fork_reason for turn in proxy.tape.turns(session)] == [None, "made_up_answer"]


def test_it_is_known_again_from_the_tape(tmp_path: Path, session: str) -> None:
    with scripted(playing([BROKEN["cut JSON"]]), tmp_path) as first:
        told = first.chat(session, [HELLO], tools=[LOOK_UP]).json()["choices"][0]["message"]
    with scripted(playing(["Done."]), tmp_path) as second:
        second.chat(session, [HELLO, with_call(told, "look_up", "{}"), GO_ON], tools=[LOOK_UP])
        assert [turn.parent_id is None for turn in second.tape.turns(session)] == [True, False]


LABELS: dict[str, Change] = {
    "a name": lambda message: {**message, "name": "model"},
    "white space": lambda message: {**message, "content": f"\n{message['content']} \n"},
    "its thought": lambda message: {**message, "content": f"<think>\nHm.\n</think>\n\n{message['content']}"},
}


@pytest.mark.parametrize("label", LABELS.values(), ids=LABELS)
def test_labels_on_the_models_own_messages_make_no_difference_and_are_on_tape(
    stage: Stage, session: str, label: Change
) -> None:
    proxy, calls = stage.proxy, stage.plays("<think>\nHm.\n</think>\n\nI look.", "Done.")
    history: list[dict[str, Any]] = [HELLO]
    for _ in range(4):
        told = proxy.chat(session, history).json()["choices"][0]["message"]
        history += [label(told), GO_ON]
    turns = check_all(proxy.tape, session, calls)
    assert len(proxy.tape.samples(session)) == 1
    sent = [turn.request_fields.get("sent_otherwise") for turn in turns]
    assert [None if message is None else message["content"] for message in sent] == [
        None,
        *(message["content"] for message in history[1:-2:2]),
    ]


def test_of_many_such_answers_each_message_is_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tree, sent, real = SessionTree("s"), list[Message](), list[Message]()
    for turn in range(50):
        question = Message("user", f"Question {turn}.")
        answer = Message("assistant", f"Answer {turn}.", None, (ToolCall("no_such_tool", "{"),))
        *_, before, after = context_digests([*real, question, answer])
        tree.broken_answers[before.hex()] = [BrokenAnswer(after, answer, frozenset())]
        real += [question, answer]
        sent += [question, replace(answer, tool_calls=(ToolCall("no_such_tool", "{}"),))]
    hashed = []

    def counted(messages: list[Message], *args: Any, **options: Any) -> list[bytes]:
        hashed.extend(messages)
        return context_digests(messages, *args, **options)

    monkeypatch.setattr(echoes, "context_digests", counted)
    found = with_echoes(tree, Asked(sent, context_digests(sent), default))
    assert found.digests == context_digests(real)
    assert len(hashed) < len(sent)
