"""The tape as trainers see it: sessions, turns and samples, with tokens as numpy arrays.

Field names are those of the trainer API's JSON. Fields that a newer server adds are kept out of the way, so that an
older client goes on working.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

Ints: TypeAlias = npt.NDArray[np.int32]
Floats: TypeAlias = npt.NDArray[np.float32]
#: ``(policy_version, n_tokens)`` runs.
Versions: TypeAlias = list[tuple[str | None, int]]


@dataclass(frozen=True, slots=True)
class Session:
    """One rollout, counted up."""

    id: str
    created_at: float
    """Seconds since the epoch."""
    updated_at: float
    turns: int
    outcomes: dict[str, int]
    """How many turns ended how."""
    prompt_tokens: int
    """Tokens that turns added to their prompts; shared prefixes count once."""
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Turn:
    """One call of the model. ``stream(turn) = stream(parent) + prompt_delta + completion``."""

    id: str
    session_id: str
    parent_id: str | None
    seq: int
    created_at: float
    dialect: str
    model: str
    first_message: int
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None
    tools_digest: str
    sampling: dict[str, Any]
    template_options: dict[str, Any]
    request_fields: dict[str, Any]
    ignored_fields: list[str]
    prompt_delta: Ints
    """int32[]: tokens added to the parent's stream before generation."""
    prompt_spans: list[tuple[int, int, int]]
    """``(message, kind, n_tokens)`` runs over ``prompt_delta``."""
    completion: Ints
    """int32[]: sampled tokens, stop token included when the engine sampled it."""
    logprobs: Floats
    """float32[]: one for each completion token, NaN where the engine gave none."""
    versions: Versions
    """Runs over ``completion``."""
    outcome: str
    response: dict[str, Any] | None
    calls: list[dict[str, Any]]
    error: str | None
    engine: str
    finish_reason: str | None
    stop_reason: int | str | None
    usage: dict[str, int]
    timings: dict[str, float]
    fork_reason: str | None
    context_digest: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One root-to-leaf path, ready for training. ``token_ids``, ``loss_mask`` and ``logprobs`` have one length."""

    session_id: str
    turn_ids: list[str]
    outcomes: list[str]
    token_ids: Ints
    loss_mask: Ints
    """int32[]: 1 on tokens that were sampled and are trained in this sample, else 0."""
    logprobs: Floats
    """float32[]: of sampled tokens, NaN elsewhere."""
    versions: Versions
    """Runs over ``token_ids``."""
    message_spans: list[dict[str, Any]]
    reward: float | None
    metadata: dict[str, Any]


RecordT = TypeVar("RecordT", Session, Turn, Sample)

_INTS = ("prompt_delta", "completion", "token_ids", "loss_mask")


def read(kind: type[RecordT], given: Mapping[str, Any]) -> RecordT:
    """A record from its JSON."""
    values = {field.name: given[field.name] for field in fields(kind)}
    for name in _INTS:
        if name in values:
            values[name] = np.array(values[name], np.int32)
    if "logprobs" in values:  # null, which is NaN in JSON, becomes NaN again
        values["logprobs"] = np.array(values["logprobs"], np.float32)
    for name in ("versions", "prompt_spans"):
        if name in values:
            values[name] = [tuple(run) for run in values[name]]
    return kind(**values)


def stream(turn: Turn, turns: Mapping[str, Turn]) -> Ints:
    """Every token that the model read and wrote up to the end of a turn.

    Args:
        turn: the turn.
        turns: all turns of its session by id.
    """
    parts: list[Ints] = []
    at: Turn | None = turn
    while at is not None:
        parts += [at.completion, at.prompt_delta]
        at = turns[at.parent_id] if at.parent_id is not None else None
    return np.concatenate(parts[::-1])
