"""Completions and histories through parse, normalise and match: ``python -m tests.fuzz.histories N [FIRST]``.

Each seed makes one completion of one model, reads it, and takes it back in a history as clients would send it: as it
was, and with something changed. Nothing may raise; what came back as it was must be found; nothing may take longer than
``MOST_SECONDS`` of CPU.
"""

import json
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from random import Random
from typing import TypeVar

import numpy as np

from tests.fuzz import words
from tests.renderers.answers import TOOLS
from tests.renderers.mutations import Mutator
from tests.renderers.subjects import ONE_EACH, SUBJECTS, TEMPLATE, Subject
from tickertape.renderers.errors import RenderError
from tickertape.renderers.format import History
from tickertape.renderers.messages import Message, ToolCall
from tickertape.renderers.renderer import Renderer
from tickertape.server.trajectories.forks import Asked
from tickertape.server.trajectories.matching import context_digests, matches
from tickertape.server.trajectories.normalising import POLICIES
from tickertape.server.trajectories.preparing import Rules, prepare
from tickertape.server.trajectories.tree import SessionTree
from tickertape.server.trajectories.turn import Outcome, Turn
from tickertape.server.turns.reading import as_recorded

#: Nothing that runs on the server's loop may hold it up for longer.
MOST_SECONDS = 0.25

#: Seeds in a row that are of one model.
_TOGETHER = 1000

T = TypeVar("T")


@dataclass
class Slowest:
    """The step that took longest."""

    seconds: float = 0.0
    step: str = ""
    seed: int = -1

    def timed(self, step: str, seed: int, run: Callable[[], T]) -> T:
        """Runs a step.

        Raises:
            AssertionError: it took too long.
        """
        began = time.thread_time()
        result = run()
        seconds = time.thread_time() - began
        if seconds > self.seconds:
            self.seconds, self.step, self.seed = seconds, step, seed
        assert seconds < MOST_SECONDS, f"seed {seed}: {step} took {seconds:.3f} s"
        return result


class Histories:
    """Runs seeds.

    Args:
        subjects: the models, by name; by default one of each page of families.
    """

    def __init__(self, subjects: Sequence[str] = ONE_EACH) -> None:
        self._subjects = [SUBJECTS[name] for name in subjects]
        self._mutators: dict[str, Mutator] = {}
        self._spelled: dict[str, dict[str, list[int]]] = {}
        """Token ids of texts, by model."""
        self.slowest = Slowest()

    def run(self, seed: int) -> None:
        """One completion and its history.

        Raises:
            AssertionError: the server would have failed, stood still, or not known its own answer.
        """
        rng = Random(seed)
        # The same one for a while: a vocabulary takes seconds to load.
        subject = self._subjects[seed // _TOGETHER % len(self._subjects)]
        if subject.name not in self._spelled:
            self._load(subject)
        renderer = subject.exact if rng.random() < 0.7 else subject.renderers[TEMPLATE]
        sampled = self._completion(subject, rng, seed)
        parsed = self.slowest.timed("parse", seed, lambda: renderer.parse_response(sampled, TOOLS))
        said = replace(
            parsed.message,
            tool_calls=tuple(replace(call, id=call.id or f"call_{k}") for k, call in enumerate(parsed.tool_calls)),
        )
        history = [Message("user", words.text(rng)), said, *_results(said, rng), Message("user", words.text(rng))]
        named = rng.choice(tuple(POLICIES))
        policy = POLICIES[named]
        tree = SessionTree("s")
        first = context_digests(history[:2], policy)
        tree.begin(turn := _turn(sampled, first[-1]), None)
        tree.add(turn, "")
        sent = [_as_sent(message, reprinted=named != "strict") for message in history]
        digests = self.slowest.timed("normalise", seed, lambda: context_digests(sent, policy))
        found = [node.id for node, _ in matches(tree, digests)]
        assert found == ["t"], f"seed {seed}: the answer was not known again: {said}"
        changed = [self._changed(message, rng) for message in sent]
        asked = Asked(changed, self.slowest.timed("normalise", seed, lambda: context_digests(changed, policy)), policy)
        if rng.random() < 0.02:
            self.slowest.timed("prepare", seed, lambda: _prepared(tree, renderer, asked))

    def _completion(self, subject: Subject, rng: Random, seed: int) -> list[int]:
        """One that was well formed before something happened to it, or one that is made of what may cause trouble."""
        if rng.random() < 0.4:
            return self._mutators[subject.name](seed)
        written = words.pieces(rng)
        tags = subject.exact.response_format.tags
        if tags and rng.random() < 0.7:
            name = ('{"name": "f", "arguments": ', '{"name": "f", "parameters": ', "f(", "f", "")
            written += [rng.choice(tags), rng.choice(name), *words.arguments(rng), "}", rng.choice(tags)]
        elif rng.random() < 0.5:
            written[:0] = ["[look_up(a=", *words.arguments(rng), ")]"]
        spelled = self._spelled[subject.name]
        ids: list[int] = []
        for piece in written:
            if piece not in spelled:
                spelled[piece] = subject.tokenizer.encode_like_model(piece)
            ids += spelled[piece]
        return ids

    def _load(self, subject: Subject) -> None:
        """What takes seconds the first time."""
        self._mutators[subject.name] = Mutator(subject)
        self._spelled[subject.name] = {}
        for renderer in (subject.exact, subject.renderers[TEMPLATE]):
            with suppress(RenderError):
                renderer.build_generation_prompt([Message("user", "Hello")], TOOLS)

    def _changed(self, message: Message, rng: Random) -> Message:
        """The message as a client may have changed it."""
        if rng.random() < 0.5:
            return message
        calls = tuple(replace(call, arguments=_words(rng)) for call in message.tool_calls)
        if message.role == "assistant" and rng.random() < 0.3:
            calls += (ToolCall("f", _words(rng), "c"),)
        return replace(message, content=words.text(rng), tool_calls=calls)


def _words(rng: Random) -> str:
    return "".join(words.arguments(rng))


def _results(said: Message, rng: Random) -> list[Message]:
    return [Message("tool", words.text(rng), tool_call_id=call.id) for call in said.tool_calls]


def _as_sent(message: Message, *, reprinted: bool) -> Message:
    """As a client sends it back; one that keeps JSON's values and not its text, if it is ``reprinted``."""
    if message.role != "assistant":
        return message
    told = json.loads(json.dumps(as_recorded(message)))
    calls = tuple(
        ToolCall(call["function"]["name"], _printed(call["function"]["arguments"], again=reprinted), call["id"])
        for call in told.get("tool_calls", ())
    )
    return Message("assistant", told["content"], told.get("reasoning_content"), calls)


def _printed(arguments: str, *, again: bool) -> str:
    try:
        return json.dumps(json.loads(arguments), indent=1) if again else arguments
    except (ValueError, RecursionError):
        return arguments


def _turn(sampled: Sequence[int], digest: bytes) -> Turn:
    return Turn(
        id="t",
        session_id="s",
        parent_id=None,
        created_at=0.0,
        dialect="chat",
        model="m",
        outcome=Outcome.STOP,
        prompt_delta=np.zeros(3, np.int32),
        completion=np.array(sampled, np.int32),
        context_digest=digest,
    )


def _prepared(tree: SessionTree, renderer: Renderer, asked: Asked) -> None:
    with suppress(RenderError):  # the model's format cannot express it, which is a 400
        prepare(tree, renderer, asked, Rules(None, "", "", History.EXACT))


def main() -> None:
    number, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    histories, failed = Histories(), 0
    began = time.monotonic()
    for seed in range(first, first + number):
        try:
            histories.run(seed)
        except Exception:  # noqa: BLE001  (all of them are shown)
            failed += 1
            traceback.print_exc()
            print(f"seed {seed} failed", flush=True)
        if (seed + 1 - first) % 10_000 == 0:
            print(f"{seed + 1 - first:,} of {number:,} after {time.monotonic() - began:,.0f} s", flush=True)
    slowest = histories.slowest
    print(f"{number:,} completions and their histories, of {len(ONE_EACH)} models: {failed} failed;")
    print(f"the slowest step: {slowest.step}, {1000 * slowest.seconds:.0f} ms of CPU (seed {slowest.seed})")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
