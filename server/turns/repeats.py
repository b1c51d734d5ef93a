"""A request that comes again to a process that does not remember it: after a restart, or to another replica.

The first one's turns are on tape, and so its answer is: nothing is sampled twice that a client only missed.
"""

import numpy as np

from tickertape.server.trajectories.turn import Outcome, TokenIds, Turn
from tickertape.server.turns.renderer_pool import RendererPool
from tickertape.server.turns.replay import read_answer
from tickertape.server.turns.request import TurnRequest, TurnResult

#: Outcomes of turns whose answers were, or would have been, given completely.
_ANSWERED = (Outcome.STOP, Outcome.LENGTH, Outcome.TOOL_CALLS, Outcome.PARSE_FAILED)


def answered_before(
    turns: list[Turn], request: TurnRequest, renderers: RendererPool, *, since: float
) -> list[TurnResult] | None:
    """The answer that a request got, read from its turns' tokens.

    Args:
        turns: of its session, in order of ``seq``.
        request: with its body's digest.
        renderers: the model's.
        since: seconds since the epoch; older answers are not given again.

    Returns:
        A result for each choice; ``None`` if it was not answered, or tells what the tape does not have: alternatives to
        the sampled tokens, or only the rest of an answer that went on.
    """
    if request.continues or request.sampling.top_logprobs:
        return None
    same = [turn for turn in turns if turn.digests.get("body") == request.body_digest and turn.created_at >= since]
    latest = same[-request.n :]
    if len(latest) < request.n or any(turn.outcome not in _ANSWERED for turn in latest):
        return None
    return [read_answer(turn, prompt_of(turn, turns), request, renderers) for turn in latest]


def prompt_of(turn: Turn, turns: list[Turn]) -> TokenIds:
    """int32[]: a turn's complete prompt.

    Args:
        turn: the turn.
        turns: among which are all those that it goes on from.
    """
    by_id = {each.id: each for each in turns}
    parts = [turn.prompt_delta]
    earlier = turn
    while earlier.parent_id is not None:
        earlier = by_id[earlier.parent_id]
        parts += [earlier.completion, earlier.prompt_delta]
    return np.concatenate(parts[::-1])
