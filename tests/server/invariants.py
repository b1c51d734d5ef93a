"""The invariants of a session's tape, checked from outside over HTTP."""

import numpy as np

from tests.engines import Call
from tickertape.clients import TrajectoryClient, Turn
from tickertape.clients.tape import stream


def check_prefix(turns: list[Turn]) -> None:
    """PREFIX: a turn's prompt begins with its parent's stream, id for id; parents come first."""
    by_id = {turn.id: turn for turn in turns}
    for turn in turns:
        if turn.parent_id is not None:
            parent = stream(by_id[turn.parent_id], by_id)
            assert np.array_equal(stream(turn, by_id)[: len(parent)], parent)
            assert by_id[turn.parent_id].seq < turn.seq


def check_verbatim(turns: list[Turn], calls: list[Call]) -> None:
    """VERBATIM: the prompt logged is the prompt sent, the completion is what was sampled, logprobs line up 1:1."""
    by_id = {turn.id: turn for turn in turns}
    logged = [turn for turn in turns if turn.outcome != "rejected"]
    assert len(logged) == len(calls)
    for turn, call in zip(logged, calls, strict=True):
        whole = stream(turn, by_id).tolist()
        assert whole == call.prompt_ids + call.token_ids
        assert turn.completion.tolist() == call.token_ids
        assert np.array_equal(turn.logprobs, np.array(call.logprobs, np.float32), equal_nan=True)
        assert sum(n for _, n in turn.versions) == len(turn.completion)
        assert sum(n for _, _, n in turn.prompt_spans) == len(turn.prompt_delta)


def check_once(tape: TrajectoryClient, session_id: str) -> None:
    """ONCE: over the samples every sampled token is trained exactly once, where it was sampled, with its logprob."""
    turns = {turn.id: turn for turn in tape.turns(session_id)}
    trained: list[str] = []
    for sample in tape.samples(session_id):
        assert len(sample.token_ids) == len(sample.loss_mask) == len(sample.logprobs)
        assert sum(n for _, n in sample.versions) == len(sample.token_ids)
        assert np.array_equal(sample.token_ids, stream(turns[sample.turn_ids[-1]], turns))
        at = 0
        for turn_id in sample.turn_ids:
            turn = turns[turn_id]
            start, at = at + len(turn.prompt_delta), at + len(turn.prompt_delta) + len(turn.completion)
            assert not sample.loss_mask[start - len(turn.prompt_delta) : start].any()
            assert np.isnan(sample.logprobs[start - len(turn.prompt_delta) : start]).all()
            assert np.array_equal(sample.logprobs[start:at], turn.logprobs, equal_nan=True)
            if sample.loss_mask[start:at].any():
                assert sample.loss_mask[start:at].all()
                trained.append(turn_id)
    assert sorted(trained) == sorted(turn.id for turn in turns.values() if len(turn.completion))


def check_all(tape: TrajectoryClient, session_id: str, calls: list[Call]) -> list[Turn]:
    """All three; gives the turns."""
    turns = tape.turns(session_id)
    check_prefix(turns)
    check_verbatim(turns, calls)
    check_once(tape, session_id)
    return turns
