"""Training samples from a session's turns.

Every path from a root to a leaf is one sample. A turn on several paths is trained in the first of them alone, so that
over a session each sampled token has loss mask 1 exactly once (ONCE).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tickertape.renderers.pieces import Kind
from tickertape.server.trajectories.turn import Logprobs, TokenIds, Turn


@dataclass(slots=True)
class Sample:
    """One root-to-leaf path. ``token_ids``, ``loss_mask`` and ``logprobs`` have one length."""

    session_id: str
    turn_ids: list[str]
    outcomes: list[str]
    """One for each turn."""
    token_ids: TokenIds
    loss_mask: TokenIds
    """int32[]: 1 where the token was sampled and is trained in this sample, else 0."""
    logprobs: Logprobs
    """float32[]: of sampled tokens, as the engine reported them; NaN elsewhere."""
    versions: list[tuple[str | None, int]]
    """``(policy_version, n_tokens)`` runs over ``token_ids``; ``None`` where nothing was sampled or none is known."""
    message_spans: list[dict[str, Any]]
    """``{"start", "end", "role", "kind", "turn_id"}``: which message the tokens [start, end) come from."""
    reward: float | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


def samples(turns: Sequence[Turn]) -> Iterator[Sample]:
    """The samples of one session, in the order of their last turns.

    Args:
        turns: all turns of the session in order of ``seq``. Turns that sampled nothing make no sample.
    """
    sampled = [turn for turn in turns if len(turn.completion)]
    by_id = {turn.id: turn for turn in turns}
    inner = {ancestor for turn in sampled for ancestor in _ancestors(turn, by_id)}
    trained: set[str] = set()
    for leaf in sampled:
        if leaf.id in inner:
            continue
        path = [by_id[turn_id] for turn_id in reversed(_ancestors(leaf, by_id))] + [leaf]
        yield _sample(path, trained)
        trained.update(turn.id for turn in path)


def _ancestors(turn: Turn, by_id: dict[str, Turn]) -> list[str]:
    found = []
    while turn.parent_id is not None:
        turn = by_id[turn.parent_id]
        found.append(turn.id)
    return found


def _sample(path: list[Turn], trained: set[str]) -> Sample:
    tokens: list[TokenIds] = []
    mask: list[TokenIds] = []
    logprobs: list[Logprobs] = []
    versions: list[tuple[str | None, int]] = []
    spans: list[dict[str, Any]] = []
    at = 0
    for turn in path:
        tokens += [turn.prompt_delta, turn.completion]
        mask += [
            np.zeros(len(turn.prompt_delta), np.int32),
            np.full(len(turn.completion), turn.id not in trained, np.int32),
        ]
        logprobs += [np.full(len(turn.prompt_delta), np.nan, np.float32), turn.logprobs]
        versions += [(None, len(turn.prompt_delta)), *turn.versions]
        spans += _spans(turn, at)
        at += len(turn.prompt_delta) + len(turn.completion)
    return Sample(
        session_id=path[-1].session_id,
        turn_ids=[turn.id for turn in path],
        outcomes=[turn.outcome for turn in path],
        token_ids=np.concatenate(tokens),
        loss_mask=np.concatenate(mask),
        logprobs=np.concatenate(logprobs),
        versions=_merged(versions),
        message_spans=spans,
    )


def _spans(turn: Turn, at: int) -> Iterator[dict[str, Any]]:
    for message, kind, n_tokens in turn.prompt_spans:
        own = message - turn.first_message
        role = turn.messages[own]["role"] if 0 <= own < len(turn.messages) else None
        yield {"start": at, "end": at + n_tokens, "role": role, "kind": Kind(kind).name.lower(), "turn_id": turn.id}
        at += n_tokens
    end = at + len(turn.completion)
    yield {"start": at, "end": end, "role": "assistant", "kind": Kind.SAMPLED.name.lower(), "turn_id": turn.id}


def _merged(runs: list[tuple[str | None, int]]) -> list[tuple[str | None, int]]:
    merged: list[tuple[str | None, int]] = []
    for version, n_tokens in runs:
        if merged and merged[-1][0] == version:
            merged[-1] = (version, merged[-1][1] + n_tokens)
        elif n_tokens:
            merged.append((version, n_tokens))
    return merged
