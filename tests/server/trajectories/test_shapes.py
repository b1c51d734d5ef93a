"""Every shape of real agent traffic, one by one: where its turns hang in the tree, and what its forks are called."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from tests.engines import ScriptedEngine
from tests.server.conftest import Proxy, StartProxy, qwen3_tokenizer
from tests.server.invariants import check_all, check_once, check_prefix
from tickertape.clients import Turn
from tickertape.clients.engines.engine import Chunk, Sampling, TokenIds

END = 151645
SYSTEM = {"role": "system", "content": "You are careful."}
Messages = list[dict[str, Any]]


def encode(text: str) -> list[int]:
    return qwen3_tokenizer().encode_like_model(text)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def said(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


class Numbered(ScriptedEngine):
    """Answers "Answer 1", "Answer 2", … unless it has been told what to say."""

    def __init__(self) -> None:
        self.next: list[str] = []

        def script(_ids: list[int], _sampling: Sampling) -> list[int]:
            text = self.next.pop(0) if self.next else f"Answer {len(self.calls)}"
            return [*encode(text), END]

        super().__init__(script, max_context=16384)


class Agent:
    """A client in one session."""

    def __init__(self, proxy: Proxy, session: str, engine: Numbered) -> None:
        self.proxy, self.session, self.engine = proxy, session, engine

    def ask(self, messages: Messages, **fields: Any) -> Messages:
        """The messages and the answer to them."""
        response = self.proxy.chat(self.session, messages, **fields)
        assert response.status_code == 200, response.text
        return [*messages, response.json()["choices"][0]["message"]]

    def turns(self) -> list[Turn]:
        return check_all(self.proxy.tape, self.session, self.engine.calls)

    def tree(self) -> list[tuple[int | None, str | None]]:
        """For each turn its parent's number and its fork reason."""
        turns = self.turns()
        number = {turn.id: k for k, turn in enumerate(turns)}
        return [(number[t.parent_id] if t.parent_id else None, t.fork_reason) for t in turns]


@pytest.fixture
def agent(start_proxy: StartProxy, session: str) -> Agent:
    engine = Numbered()
    return Agent(start_proxy(engine), session, engine)


def test_linear_conversation(agent: Agent) -> None:
    history = agent.ask([SYSTEM, user("one")])
    for k in range(4):
        history = agent.ask([*history, user(f"more {k}")])
    assert agent.tree() == [(None, None), (0, None), (1, None), (2, None), (3, None)]


def test_sub_agents_with_another_system_prompt(agent: Agent) -> None:
    main = agent.ask([SYSTEM, user("one")])
    sub = agent.ask([{"role": "system", "content": "You search."}, user("find it")])
    agent.ask([*sub, user("and more")])
    agent.ask([*main, user("found")])
    assert agent.tree() == [(None, None), (None, "other_conversation"), (1, None), (0, None)]


def test_branch_from_an_earlier_turn(agent: Agent) -> None:
    one = agent.ask([SYSTEM, user("one")])
    two = agent.ask([*one, user("two")])
    agent.ask([*two, user("three")])
    agent.ask([*one, user("two, otherwise")])
    assert agent.tree() == [(None, None), (0, None), (1, None), (0, "sibling")]


def test_retry_of_an_earlier_turn_with_other_sampling(agent: Agent) -> None:
    one = agent.ask([SYSTEM, user("one")])
    agent.ask([*one, user("two")])
    again = agent.ask([*one, user("two")], temperature=0.5)
    agent.ask([*again, user("three")])
    agent.ask([SYSTEM, user("one")], temperature=0.5)
    assert agent.tree() == [(None, None), (0, None), (0, "resampled"), (2, None), (None, "resampled")]


def test_edit_in_the_middle(agent: Agent) -> None:
    one = agent.ask([SYSTEM, user("one")])
    two = agent.ask([*one, user("two")])
    three = agent.ask([*two, user("three")])
    agent.ask([*one, user("TWO"), *three[4:], user("four")])
    assert agent.tree() == [(None, None), (0, None), (1, None), (0, "edited")]
    assert [m["content"] for m in agent.turns()[3].messages] == ["TWO", "Answer 2", "three", "Answer 3", "four"]


def test_edit_of_the_first_message(agent: Agent) -> None:
    one = agent.ask([SYSTEM, user("one")])
    agent.ask([SYSTEM, user("ONE"), *one[2:], user("two")])
    assert agent.tree() == [(None, None), (None, "edited")]


def test_made_up_answer(agent: Agent) -> None:
    agent.ask([SYSTEM, user("one")])
    agent.ask([SYSTEM, user("one"), said("I never said that"), user("two")])
    assert agent.tree() == [(None, None), (None, "made_up_answer")]


def test_made_up_answer_that_only_extends_is_no_fork(agent: Agent) -> None:
    one = agent.ask([SYSTEM, user("one")])
    agent.ask([*one, user("two"), said("I never said that"), user("three")])
    assert agent.tree() == [(None, None), (0, None)]


def test_compaction_that_keeps_the_last_answers(agent: Agent) -> None:
    history = agent.ask([SYSTEM, user("one")])
    for k in range(3):
        history = agent.ask([*history, user(f"more {k}")])
    short = agent.ask([SYSTEM, user("Until now we counted."), *history[-3:], user("go on")])
    agent.ask([*short, user("and on")])
    assert agent.tree() == [(None, None), (0, None), (1, None), (2, None), (None, "compacted"), (4, None)]


def test_compaction_of_the_middle(agent: Agent) -> None:
    history = one = agent.ask([SYSTEM, user("one")])
    for k in range(3):
        history = agent.ask([*history, user(f"more {k}")])
    agent.ask([*one, user("Then we counted."), history[-1], user("go on")])
    assert agent.tree()[-1] == (0, "compacted")


def test_compaction_by_a_summary_that_the_model_wrote(agent: Agent) -> None:
    one = agent.ask([SYSTEM, user("one")])
    agent.engine.next = ["<summary>\nThe user wants the tests of the parser to pass.\n</summary>"]
    summary = agent.ask([*one, user("Summarise what was done.")])[-1]["content"]
    text = summary.removeprefix("<summary>\n").removesuffix("\n</summary>")
    agent.ask([SYSTEM, user(f"This session is continued from an earlier one:\n\n{text}\n\nGo on.")])
    assert agent.tree() == [(None, None), (0, None), (None, "compacted")]


def tool(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def test_tools_changed_midway_and_back(agent: Agent) -> None:
    one = agent.ask([SYSTEM, user("one")], tools=[tool("f")])
    two = agent.ask([*one, user("two")], tools=[tool("f"), tool("g")])
    three = agent.ask([*two, user("three")], tools=[tool("f"), tool("g")])
    agent.ask([*three, user("four")], tools=[tool("f")])
    assert agent.tree() == [(None, None), (None, "tools_changed"), (1, None), (0, "tools_changed")]


def test_n_choices_are_siblings_each_extendable(agent: Agent) -> None:
    one = agent.ask([SYSTEM, user("one")])
    asked = [*one, user("two")]
    response = agent.proxy.chat(agent.session, asked, n=3, seed=7, logprobs=True)
    choices = response.json()["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2]
    assert len({choice["message"]["content"] for choice in choices}) == 3
    assert all(len(choice["logprobs"]["content"]) > 1 for choice in choices)
    for choice in reversed(choices):
        agent.ask([*asked, choice["message"], user("three")])
    turns = agent.proxy.tape.turns(agent.session)
    check_prefix(turns)
    check_once(agent.proxy.tape, agent.session)
    by_id = {turn.id: turn for turn in turns}
    listed = [by_id[turn_id] for turn_id in response.headers["X-Turn-Id"].split(", ")]
    assert [turn.fork_reason for turn in listed] == [None, "n", "n"]
    assert {turn.parent_id for turn in listed} == {turns[0].id}
    assert [turn.sampling["seed"] for turn in listed] == [7, 8, 9]
    assert [turn.response["content"] for turn in listed if turn.response] == [c["message"]["content"] for c in choices]
    assert [turn.parent_id for turn in turns[4:]] == [turn.id for turn in reversed(listed)]
    usage = response.json()["usage"]
    assert usage["completion_tokens"] == sum(len(turn.completion) for turn in listed)


def test_one_of_n_that_fails_leaves_a_turn_for_each(start_proxy: StartProxy, session: str) -> None:
    from tickertape.clients.engines.errors import EngineUnavailable

    scripts: list[list[Any]] = [[100, 200, END], [100, EngineUnavailable("gone")], [100, END]]
    proxy = start_proxy(ScriptedEngine(lambda _ids, _sampling: scripts.pop(0)))
    assert proxy.chat(session, [user("one")], n=3).status_code == 502
    turns = proxy.tape.turns(session)
    assert sorted(turn.outcome for turn in turns) == ["engine_error", "stop", "stop"]
    check_once(proxy.tape, session)


# Answers that were cut, and go on.

GO_ON = {"continue_final_message": True, "add_generation_prompt": False}


@pytest.mark.parametrize("cuts", [[3], [1, 2, 4], [11]])
@pytest.mark.parametrize(
    "text",
    [
        "One two three, four five. And so on until the end.",
        "<think>\nLet me think about this for a while.\n</think>\n\nIt is done.",
        'I look.\n<tool_call>\n{"name": "f", "arguments": {"key": "a long value"}}\n</tool_call>',
        "Some emoji 🙂🙃🙂🙃 and 漢字 in the middle of it all.",
    ],
)
def test_continuation_of_an_answer_that_was_cut(agent: Agent, text: str, cuts: list[int]) -> None:
    whole = [*encode(text), END]
    asked = [SYSTEM, user("one")]
    start = len(agent.engine.calls)
    agent.engine.script = lambda ids, _sampling: whole[len(ids) - len(agent.engine.calls[start].prompt_ids) :]
    answer = agent.ask(asked, max_tokens=cuts[0])[-1]
    for cut in [*cuts[1:], None]:
        more = agent.ask([*asked, answer], **GO_ON, **({"max_tokens": cut} if cut else {}))[-1]
        answer = {
            **answer,
            "content": (answer["content"] or "") + (more["content"] or "") or None,
            "reasoning_content": (answer.get("reasoning_content") or "") + (more.get("reasoning_content") or "")
            or None,
            "tool_calls": more.get("tool_calls"),
        }
    turns = agent.turns()
    assert [len(turn.prompt_delta) for turn in turns[1:]] == [0] * len(cuts)
    assert [turn.parent_id for turn in turns[1:]] == [turn.id for turn in turns[:-1]]
    assert np.concatenate([turn.completion for turn in turns]).tolist() == whole
    assert [turn.outcome for turn in turns[:-1]] == ["length"] * len(cuts)
    agent.engine.script = lambda _ids, _sampling: [END]
    next_message = user("two")
    if answer["tool_calls"]:
        assert turns[-1].outcome == "tool_calls"
        next_message = {"role": "tool", "tool_call_id": answer["tool_calls"][0]["id"], "content": "found"}
    agent.ask([*asked, answer, next_message])
    assert agent.tree()[-1] == (len(cuts), None)
    (sample,) = agent.proxy.tape.samples(agent.session)
    assert qwen3_tokenizer().decode(sample.token_ids.tolist()).count(text + "<|im_end|>\n<|im_start|>") == 1


def test_what_was_not_cut_is_not_continued(agent: Agent) -> None:
    one = agent.ask([SYSTEM, user("one")])
    for messages in (one, [SYSTEM, user("one"), said("never said")]):
        response = agent.proxy.chat(agent.session, messages, **GO_ON)
        assert (response.status_code, response.json()["error"]["param"]) == (400, "continue_final_message")


# Concurrency.


class Meeting(ScriptedEngine):
    """Samples nothing before so many calls have come: whoever waits for another call waits for ever."""

    def __init__(self, party: int) -> None:
        super().__init__(lambda _ids, _sampling: [5000 + len(self.calls), END])
        self._party = party
        self._met = asyncio.Event()

    async def generate(
        self, prompt_ids: TokenIds, sampling: Sampling, *, request_id: str, chunk_tokens: int = 1
    ) -> AsyncGenerator[Chunk, None]:
        self._party -= 1
        if self._party <= 0:
            self._met.set()
        await asyncio.wait_for(self._met.wait(), 10)
        async for chunk in super().generate(prompt_ids, sampling, request_id=request_id):
            yield chunk


def ask_at_once(proxy: Proxy, session: str, requests: Sequence[Messages]) -> list[int]:
    with ThreadPoolExecutor(len(requests)) as threads:
        answers = list(threads.map(lambda messages: proxy.chat(session, messages), requests))
    assert [a.text for a in answers if a.status_code != 200] == []
    return [a.status_code for a in answers]


def test_eight_calls_of_a_session_are_sampled_at_once(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(engine := Meeting(8))
    requests = [[SYSTEM, user("together"), said("yes"), user(f"part {k}")] for k in range(8)]
    assert ask_at_once(proxy, session, requests) == [200] * 8
    turns = proxy.tape.turns(session)
    assert len(engine.calls) == len(turns) == 8
    check_prefix(turns)
    check_once(proxy.tape, session)


def test_of_calls_that_run_at_once_one_extends_and_the_others_are_siblings(
    start_proxy: StartProxy, session: str
) -> None:
    proxy = start_proxy(engine := Meeting(1))
    first = proxy.chat(session, [user("one")]).json()["choices"][0]["message"]
    engine._party = 4
    engine._met.clear()
    assert ask_at_once(proxy, session, [[user("one"), first, user(f"part {k}")] for k in range(4)]) == [200] * 4
    turns = proxy.tape.turns(session)
    assert {turn.parent_id for turn in turns[1:]} == {turns[0].id}
    reasons = [turn.fork_reason or "" for turn in turns[1:]]
    assert sorted(reasons) == ["", "sibling", "sibling", "sibling"]


def test_choices_are_sampled_at_once(start_proxy: StartProxy, session: str) -> None:
    proxy = start_proxy(Meeting(5))
    assert proxy.chat(session, [user("one")], n=5).status_code == 200
    assert len(proxy.tape.turns(session)) == 5


# Clients without a session id.


def test_a_conversation_without_an_id_keeps_its_session(agent: Agent) -> None:
    history: Messages = [SYSTEM, user("one")]
    sessions = []
    for k in range(4):
        response = agent.proxy.chat(None, history)
        sessions.append(response.headers["X-Session-Id"])
        history += [response.json()["choices"][0]["message"], user(f"more {k}")]
    other = agent.proxy.chat(None, [SYSTEM, user("another")]).headers["X-Session-Id"]
    assert len(set(sessions)) == 1
    assert other not in sessions
    assert [turn.fork_reason for turn in agent.proxy.tape.turns(sessions[0])] == [None] * 4


def test_alike_conversations_without_an_id_stay_apart(agent: Agent) -> None:
    agent.engine.next = ["Same"] * 8
    answers = [agent.proxy.chat(None, [user("one")]) for _ in range(4)]
    messages = [user("one"), answers[0].json()["choices"][0]["message"], user("two")]
    seconds = {agent.proxy.chat(None, messages).headers["X-Session-Id"] for _ in range(4)}
    assert seconds == {answer.headers["X-Session-Id"] for answer in answers}
    for session in seconds:
        assert [turn.fork_reason for turn in agent.proxy.tape.turns(session)] == [None, None]


def test_a_session_that_has_an_id_is_not_found_without_it(agent: Agent) -> None:
    one = agent.ask([SYSTEM, user("one")])
    told = agent.proxy.chat(None, [*one, user("two")]).headers["X-Session-Id"]
    assert told != agent.session


# Matching by policy, over HTTP.


def test_claude_codes_changing_header_and_reminders_make_no_difference(agent: Agent) -> None:
    def history(number: int, *later: dict[str, Any]) -> Messages:
        header = f"x-anthropic-billing-header: cc_version=2.1; cch={number:05x};"
        parts = [{"type": "text", "text": text} for text in (header, "You are Claude Code.")]
        return [{"role": "system", "content": parts}, *later]

    reminder = {"type": "text", "text": "<system-reminder>\nNo todos.\n</system-reminder>"}
    first = {"role": "user", "content": [reminder, {"type": "text", "text": "one"}]}
    answer = agent.ask(history(1, first))[-1]
    second = {"role": "user", "content": [{"type": "text", "text": "two"}, reminder]}
    more = agent.ask(history(2, user("one"), answer, second))[-1]
    agent.ask(history(3, user("one"), answer, user("two"), more, user("three")))
    assert agent.tree() == [(None, None), (0, None), (1, None)]


@pytest.mark.parametrize(("matching", "parent"), [("default", 0), ("loose", 1)])
def test_a_system_message_put_into_the_history(
    start_proxy: StartProxy, session: str, matching: str, parent: int
) -> None:
    agent = Agent(start_proxy(engine := Numbered(), matching=matching), session, engine)
    one = agent.ask([SYSTEM, user("one")])
    two = agent.ask([*one, user("two")])
    agent.ask([*one, {"role": "system", "content": "The file has changed."}, *two[3:], user("three")])
    assert agent.tree()[2][0] == parent


def test_strict_matching_takes_dropped_reasoning_for_another_answer(start_proxy: StartProxy, session: str) -> None:
    agent = Agent(start_proxy(engine := Numbered(), matching="strict"), session, engine)
    engine.next = ["<think>\nHm.\n</think>\n\nYes.", "<think>\nHm.\n</think>\n\nNo."]
    one = agent.ask([SYSTEM, user("one")])
    two = agent.ask([*one, user("two")])
    agent.ask([*one, user("two"), {"role": "assistant", "content": two[-1]["content"]}, user("three")])
    assert agent.tree() == [(None, None), (0, None), (0, "made_up_answer")]


def test_a_session_is_the_same_when_it_is_read_back(tmp_path: Any, session: str) -> None:
    from tests.server.conftest import scripted

    engine = Numbered()
    with scripted(engine, tmp_path) as proxy:
        agent = Agent(proxy, session, engine)
        one = agent.ask([SYSTEM, user("one")])
        two = agent.ask([*one, user("two")])
        three = agent.ask([*two, user("three")])
    with scripted(engine, tmp_path, replay_window=0) as proxy:
        agent = Agent(proxy, session, engine)
        agent.ask([*one, user("two")])
        agent.ask([*one, user("TWO"), three[-1], user("four")])
        agent.ask([*one, user("2"), two[-1], user("four")])
        assert [reason for _, reason in agent.tree()] == [None, None, None, "resampled", "compacted", "edited"]
