"""A session counted up: what its samples hold, and what they save."""

from collections.abc import Sequence
from dataclasses import dataclass

from tickertape.server.trajectories.options import SampleOptions
from tickertape.server.trajectories.paths import TurnShape, fresh_number, plan, stream_lengths


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of one session."""

    samples: int
    """Root-to-leaf paths."""
    sample_tokens: int
    """In them."""
    sampled_turns: int
    """Turns that sampled tokens."""
    sampled_tokens: int
    per_turn_tokens: int
    """Tokens of the samples if every sampled turn were one of its own, as where each turn's messages are rendered
    anew."""
    freshest: int | None
    """The number of the policy version of the freshest turn; ``None`` where none is known."""


def statistics(turns: Sequence[TurnShape]) -> Statistics:
    """Counts a session up.

    Args:
        turns: all its turns in order of ``seq``.
    """
    paths = plan(turns, SampleOptions()).paths
    ends = stream_lengths(turns)
    sampled = [turn for turn in turns if turn.n_sampled]
    return Statistics(
        samples=len(paths),
        sample_tokens=sum(path.length for path in paths),
        sampled_turns=len(sampled),
        sampled_tokens=sum(turn.n_sampled for turn in sampled),
        per_turn_tokens=sum(ends[turn.id] for turn in sampled),
        freshest=max((number for turn in sampled if (number := fresh_number(turn)) is not None), default=None),
    )
