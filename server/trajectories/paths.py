"""Which turns make which sample: the one place where samples are decided on, for every format and every count.

A sample is a path from a root to the last turn that is trained on it. A turn on several paths is trained in the first
of them alone, so that over a session's samples each wanted token has loss mask 1 exactly once (ONCE).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Generic, TypeVar

from tickertape.server.trajectories.options import Cut, SampleOptions, version_number
from tickertape.server.trajectories.turn import Logprobs, TokenIds, Turn


@dataclass(slots=True, kw_only=True)
class TurnShape:
    """The parts of a turn that counting needs."""

    id: str
    parent_id: str | None
    outcome: str
    n_prompt: int
    """Tokens added to the parent's stream before generation."""
    n_sampled: int
    versions: list[tuple[str | None, int]]


@dataclass(slots=True, kw_only=True)
class TurnTokens(TurnShape):
    """The parts of a turn that a sample needs."""

    first_message: int
    roles: list[str]
    """Of the messages that the turn adds."""
    prompt_spans: list[tuple[int, int, int]]
    prompt_delta: TokenIds
    completion: TokenIds
    logprobs: Logprobs
    reward: float | None = None
    token_rewards: Logprobs | None = None
    """float32[]: one for each token of the completion."""

    @classmethod
    def of(cls, turn: Turn) -> "TurnTokens":
        """Of a complete turn."""
        return cls(
            id=turn.id,
            parent_id=turn.parent_id,
            outcome=turn.outcome,
            n_prompt=len(turn.prompt_delta),
            n_sampled=len(turn.completion),
            versions=turn.versions,
            first_message=turn.first_message,
            roles=[message["role"] for message in turn.messages],
            prompt_spans=turn.prompt_spans,
            prompt_delta=turn.prompt_delta,
            completion=turn.completion,
            logprobs=turn.logprobs,
        )

    def cut(self, n_sampled: int) -> "TurnTokens":
        """The turn with the first ``n_sampled`` tokens of its completion."""
        return replace(
            self,
            n_sampled=n_sampled,
            versions=list(_first_of(self.versions, n_sampled)),
            completion=self.completion[:n_sampled],
            logprobs=self.logprobs[:n_sampled],
            token_rewards=None if self.token_rewards is None else self.token_rewards[:n_sampled],
        )


ShapeT = TypeVar("ShapeT", bound=TurnShape)


class LeftOut(StrEnum):
    """The reason why a turn that sampled tokens is not trained."""

    OUTCOME = "outcome"
    STALE = "stale"
    MAX_LENGTH = "max_length"


@dataclass(slots=True)
class Path(Generic[ShapeT]):
    """One sample."""

    turns: list[ShapeT]
    """From the root on."""
    trained: list[bool]
    """One for each turn."""
    length: int
    """Tokens."""
    truncated: Cut | None = None
    """``turn``: turns that would follow were cut off for their length; ``token``: the cut is inside the last turn, of
    which ``length`` leaves the first tokens."""


@dataclass(slots=True)
class Plan(Generic[ShapeT]):
    """A session's samples, in the order of their last turns."""

    paths: list[Path[ShapeT]] = field(default_factory=list)
    left_out: dict[str, LeftOut] = field(default_factory=dict)
    """Turns that sampled tokens and are trained nowhere."""


def plan(turns: Sequence[ShapeT], options: SampleOptions) -> Plan[ShapeT]:
    """Decides on a session's samples.

    Args:
        turns: all turns of the session in order of ``seq``. Turns that sampled nothing are trained nowhere.
        options: what the trainer wants.
    """
    by_id = {turn.id: turn for turn in turns}
    ends = stream_lengths(turns)
    planned: Plan[ShapeT] = Plan()
    wanted: list[ShapeT] = []
    for turn in turns:
        if turn.n_sampled:
            reason = _left_out(turn, ends[turn.id], options)
            if reason is None:
                wanted.append(turn)
            else:
                planned.left_out[turn.id] = reason
    too_long = [by_id[turn_id] for turn_id, reason in planned.left_out.items() if reason is LeftOut.MAX_LENGTH]
    shortened = _ancestors(too_long, by_id)
    inner = frozenset() if options.per_turn else _ancestors(wanted, by_id)
    trainable = {turn.id for turn in wanted}
    for last in wanted:
        if last.id in inner:
            continue
        path = _path(last, by_id)
        trained = [turn is last if options.per_turn else turn.id in trainable for turn in path]
        if not options.per_turn:
            trainable.difference_update(turn.id for turn in path)
        length, truncated = ends[last.id], Cut.TURN if last.id in shortened else None
        if options.max_length is not None and length > options.max_length:
            length, truncated = options.max_length, Cut.TOKEN
        planned.paths.append(Path(path, trained, length, truncated))
    return planned


def stream_lengths(turns: Sequence[TurnShape]) -> dict[str, int]:
    """Tokens that the model had read and written by the end of each turn, by its id."""
    ends: dict[str, int] = {}
    for turn in turns:
        ends[turn.id] = (ends[turn.parent_id] if turn.parent_id is not None else 0) + turn.n_prompt + turn.n_sampled
    return ends


def fresh_number(turn: TurnShape) -> int | None:
    """The number of the oldest policy version that sampled a token of this turn; ``None`` where one is not known."""
    numbers = [version_number(version) for version, _ in turn.versions]
    known = [number for number in numbers if number is not None]
    return min(known) if known and len(known) == len(numbers) else None


def _left_out(turn: TurnShape, end: int, options: SampleOptions) -> LeftOut | None:
    if not options.allows(turn.outcome):
        return LeftOut.OUTCOME
    if options.oldest is not None:
        number = fresh_number(turn)
        if number is None or number < options.oldest:  # a version that is not known is not known to be fresh
            return LeftOut.STALE
    if options.max_length is not None:
        must_fit = end if options.cut is Cut.TURN else end - turn.n_sampled + 1
        if must_fit > options.max_length:
            return LeftOut.MAX_LENGTH
    return None


def _ancestors(turns: Iterable[ShapeT], by_id: dict[str, ShapeT]) -> set[str]:
    found: set[str] = set()
    for turn in turns:
        parent = turn.parent_id
        while parent is not None and parent not in found:
            found.add(parent)
            parent = by_id[parent].parent_id
    return found


def _path(turn: ShapeT, by_id: dict[str, ShapeT]) -> list[ShapeT]:
    path = [turn]
    while path[-1].parent_id is not None:
        path.append(by_id[path[-1].parent_id])
    return path[::-1]


def _first_of(runs: Iterable[tuple[str | None, int]], n_tokens: int) -> Iterator[tuple[str | None, int]]:
    for version, n_run in runs:
        if n_tokens <= 0:
            return
        yield version, min(n_run, n_tokens)
        n_tokens -= n_run
