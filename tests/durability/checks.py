"""Whether what was heard is on tape, and the tape is whole: asked of a server that runs, over the trainers' API."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

from tests.durability.agents import Heard
from tests.durability.engine import digest
from tests.durability.protocols import value
from tests.server.invariants import check_once, check_prefix
from tickertape.clients import TrajectoryClient, Turn
from tickertape.clients.tape import stream

ANSWERED = ("stop", "length", "tool_calls", "parse_failed")
#: What is on tape without having been answered, where a request was tried again.
UNHEARD = ("undelivered", "engine_error", "replayed")


@dataclass
class Verdict:
    """What was found on a tape."""

    sessions: int = 0
    turns: int = 0
    tokens: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    unheard: int = 0
    """Turns that were sampled and committed, and whose answer nobody heard: for the requests that were under way at the
    end."""
    findings: list[str] = field(default_factory=list)

    def add(self, other: "Verdict") -> None:
        self.sessions += other.sessions
        self.turns += other.turns
        self.tokens += other.tokens
        self.unheard += other.unheard
        self.outcomes += other.outcomes
        self.findings += other.findings


def check_tape(url: str, heard: Sequence[Heard], record: Mapping[str, Any]) -> Verdict:
    """Checks every session on tape.

    Args:
        url: of a server of the tape.
        heard: every answer that was heard whole.
        record: the engine's, by turn id.
    """
    by_session: dict[str, list[Heard]] = defaultdict(list)
    for each in heard:
        by_session[each.session_id].append(each)
    verdict = Verdict()
    with TrajectoryClient(url) as tape, ThreadPoolExecutor(4) as threads:
        on_tape = {session.id for session in tape.sessions(page_size=1000)}
        verdict.findings += [f"session {name} is not on tape" for name in by_session if name not in on_tape]
        for found in threads.map(lambda name: check_session(tape, name, by_session[name], record), sorted(on_tape)):
            verdict.add(found)
    return verdict


def check_session(
    tape: TrajectoryClient, session_id: str, heard: Sequence[Heard], record: Mapping[str, Any]
) -> Verdict:
    """Everything that must hold in one session."""
    turns = tape.turns(session_id)
    found = [f"session {session_id}: {text}" for text in _findings(tape, session_id, turns, heard, record)]
    answered = {turn.id for turn in turns if turn.outcome in ANSWERED}
    return Verdict(
        sessions=1,
        turns=len(turns),
        tokens=sum(len(turn.completion) for turn in turns),
        outcomes=Counter(turn.outcome for turn in turns),
        unheard=len(answered - {each.said.turn_id for each in heard}),
        findings=found,
    )


def _findings(
    tape: TrajectoryClient, session_id: str, turns: list[Turn], heard: Sequence[Heard], record: Mapping[str, Any]
) -> Iterator[str]:
    if [turn.seq for turn in turns] != list(range(len(turns))):
        yield f"places are not dense: {[turn.seq for turn in turns]}"
    if tape.get_session(session_id).turns != len(turns):
        yield "the session's count is not that of its turns"
    try:
        check_prefix(turns)
        check_once(tape, session_id)
    except (AssertionError, KeyError) as error:
        yield f"PREFIX or ONCE: {error!r:.300}"
        return
    by_id = {turn.id: turn for turn in turns}
    for turn in turns:
        yield from _against_engine(turn, by_id, record)
    for each in heard:
        yield from _against_client(each, by_id)
    yield from _sampled_twice(turns)


def _against_engine(turn: Turn, by_id: Mapping[str, Turn], record: Mapping[str, Any]) -> Iterator[str]:
    """VERBATIM."""
    call = record.get(turn.id)
    if call is None:
        if len(turn.completion):
            yield f"turn {turn.id} ({turn.outcome}) has tokens that were never sampled"
        return
    whole = stream(turn, by_id)
    if digest(whole[: len(whole) - len(turn.completion)].tolist()) != call["prompt"]:
        yield f"turn {turn.id}: the prompt on tape is not the prompt sent"
    sent, n = call["token_ids"], len(turn.completion)
    if turn.completion.tolist() != (sent if turn.outcome in ANSWERED else sent[:n]):
        yield f"turn {turn.id} ({turn.outcome}): the tokens on tape are not those sampled"
    if not np.array_equal(turn.logprobs, np.array(call["logprobs"][:n], np.float32)):
        yield f"turn {turn.id}: the logprobs on tape are not those sampled"


def _against_client(each: Heard, by_id: Mapping[str, Turn]) -> Iterator[str]:
    """DURABLE: whole, and as it was heard."""
    turn = by_id.get(each.said.turn_id)
    if turn is None:
        yield f"turn {each.said.turn_id} was heard whole and is not on tape ({each})"
        return
    if turn.outcome not in ANSWERED or turn.response is None:
        yield f"turn {turn.id} was heard whole and is {turn.outcome} on tape"
        return
    message = turn.response
    calls = [
        (call["function"]["name"], value(call["function"]["arguments"])) for call in message.get("tool_calls") or ()
    ]
    on_tape = (message["content"] or "", message.get("reasoning_content") or "", calls)
    if on_tape != (each.said.text, each.said.thoughts, each.said.calls):
        yield f"turn {turn.id}: heard {each.said}, on tape {on_tape}"
    if each.replayed and not any(
        other.outcome == "replayed" and other.parent_id == turn.id for other in by_id.values()
    ):
        yield f"turn {turn.id} was given again, and the tape has no turn of that"


def _sampled_twice(turns: Sequence[Turn]) -> Iterator[str]:
    """A request that was committed is not sampled again when it is tried again."""
    answered: dict[str, list[str]] = defaultdict(list)
    for turn in turns:
        if turn.outcome in ANSWERED:
            answered[mark_of(turn)].append(turn.id)
        elif turn.outcome not in UNHEARD:
            yield f"turn {turn.id} is {turn.outcome}: {turn.error}"
    for mark, turn_ids in answered.items():
        if len(turn_ids) > 1:
            yield f"request {mark} was sampled and committed {len(turn_ids)} times: {turn_ids}"


def mark_of(turn: Turn) -> str:
    """What its client marked its request with."""
    fields = turn.request_fields
    given = fields.get("user") or fields["metadata"]
    return given if isinstance(given, str) else str(given.get("mark") or given["user_id"])


def engine_record(url: str) -> dict[str, Any]:
    record: dict[str, Any] = httpx.get(f"{url}/record", timeout=60).json()
    return record
