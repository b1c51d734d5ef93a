"""Training samples of a session's turns, as objects."""

from collections.abc import Iterator, Sequence

from tickertape.clients.samples import Sample, samples_of
from tickertape.server.trajectories.columns import SessionFacts, batch
from tickertape.server.trajectories.options import SampleOptions
from tickertape.server.trajectories.paths import TurnTokens
from tickertape.server.trajectories.turn import Turn

_AS_THEY_ARE = SampleOptions()


def samples(turns: Sequence[Turn], options: SampleOptions = _AS_THEY_ARE) -> Iterator[Sample]:
    """The samples of one session, in the order of their last turns.

    Args:
        turns: all turns of the session in order of ``seq``. Turns that sampled nothing make no sample.
        options: how samples are made.
    """
    facts = SessionFacts(turns[0].session_id if turns else "")
    return samples_of(batch([(facts, [TurnTokens.of(turn) for turn in turns])], options))
