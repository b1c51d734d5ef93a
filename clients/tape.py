"""The tape as trainers see it: sessions and turns, with tokens as numpy arrays.

Field names are those of the trainer API's JSON. Fields that a newer server adds are kept out of the way, so that an
older client goes on working.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np

from tickertape.clients.samples import Floats, Ints, Versions


@dataclass(frozen=True, slots=True)
class Session:
    """One rollout, counted up."""

    id: str
    state: str
    """``open``, ``finished`` or ``discarded``."""
    created_at: float
    """Seconds since the epoch."""
    updated_at: float
    """Time at which its last turn's request came in."""
    finished_at: float | None
    task_id: str | None
    group_id: str | None
    policy_version: str | None
    """The one that it was to be sampled with."""
    metadata: dict[str, Any]
    reward: float | None
    turns: int
    outcomes: dict[str, int]
    """Number of turns by outcome."""
    late_turns: int
    """Turns that were committed after it was finished or discarded; they are in no sample."""
    prompt_tokens: int
    """Tokens that turns added to their prompts; shared prefixes count once."""
    completion_tokens: int
    statistics: dict[str, int | None] | None
    """Totals of its samples: ``samples``, ``sample_tokens``, ``sampled_turns``, ``sampled_tokens``, ``per_turn_tokens``
    (of one sample for each turn instead) and ``freshest``, a policy version's number. ``None`` until it is finished."""
    lease_id: str | None
    """Under which its samples are out."""
    acked_at: float | None
    """Time at which a consumer said that it is done with its samples."""
    acked_by: str | None


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
    logprob_kind: str
    """The kind of the logprobs: ``raw``, of the model's own distribution, or ``processed``, of what was sampled from;
    empty where nothing was sampled, or by an older version."""
    arrays: dict[str, dict[str, Any]]
    """Per-token extras of the engine: ``{name: {"dtype": …, "shape": […]}}``; see :meth:`TrajectoryClient.array`."""
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


RecordT = TypeVar("RecordT")

_ARRAYS: dict[str, type[np.generic]] = {"prompt_delta": np.int32, "completion": np.int32, "logprobs": np.float32}


def read(kind: type[RecordT], given: Mapping[str, Any]) -> RecordT:
    """A record, :class:`Session`, :class:`Turn` or another dataclass of this API, from its JSON."""
    values = {field.name: given[field.name] for field in fields(kind)}  # type: ignore[arg-type]  # a dataclass
    for name, dtype in _ARRAYS.items():
        if name in values:  # null, which is NaN in JSON, becomes NaN again
            values[name] = np.array(values[name], dtype)
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
