"""Samples as columns: one Arrow schema for every format.

Tokens are never Python objects here: the turns' arrays are put end to end, and a sample is an offset into them.
``docs/samples.md`` explains the columns.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from tickertape.renderers.pieces import Kind
from tickertape.server.trajectories.options import Cut, SampleOptions
from tickertape.server.trajectories.paths import Path, TurnTokens, plan

_VERSION = pa.struct([("version", pa.string()), ("n_tokens", pa.int32())])
_SPAN = pa.struct(
    [
        ("start", pa.int32()),
        ("end", pa.int32()),
        ("role", pa.string()),
        ("kind", pa.string()),
        ("turn_id", pa.string()),
    ]
)
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("session_id", pa.string(), nullable=False),
        pa.field("task_id", pa.string()),
        pa.field("group_id", pa.string()),
        pa.field("policy_version", pa.string()),
        pa.field("finished_at", pa.float64()),
        pa.field("turn_ids", pa.list_(pa.string()), nullable=False),
        pa.field("outcomes", pa.list_(pa.string()), nullable=False),
        pa.field("token_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("loss_mask", pa.list_(pa.int8()), nullable=False),
        pa.field("logprobs", pa.list_(pa.float32()), nullable=False),
        pa.field("versions", pa.list_(_VERSION), nullable=False),
        pa.field("message_spans", pa.list_(_SPAN), nullable=False),
        pa.field("truncated", pa.string()),
        pa.field("reward", pa.float64()),
        pa.field("turn_rewards", pa.list_(pa.float64()), nullable=False),
        pa.field("token_rewards", pa.list_(pa.float32())),
        pa.field("metadata", pa.string(), nullable=False),
    ]
)
_KINDS = pa.array([kind.name.lower() for kind in Kind])
_KIND_PLACE = {int(kind): place for place, kind in enumerate(Kind)}
_SAMPLED = _KIND_PLACE[Kind.SAMPLED]


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """The facts of its session that a sample carries."""

    id: str
    task_id: str | None = None
    group_id: str | None = None
    policy_version: str | None = None
    finished_at: float | None = None
    reward: float | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


def batch(sessions: Iterable[tuple[SessionFacts, Sequence[TurnTokens]]], options: SampleOptions) -> pa.RecordBatch:
    """The samples of some sessions.

    Args:
        sessions: each with all its turns in order of ``seq``. Together they must hold fewer than 2**31 tokens.
        options: how samples are made.
    """
    rows = [
        (facts, path if path.truncated is not Cut.TOKEN else _clipped(path))
        for facts, turns in sessions
        for path in plan(turns, options).paths
    ]
    paths = [path for _, path in rows]
    turns = [turn for path in paths for turn in path.turns]
    per_sample = _offsets([len(path.turns) for path in paths])
    tokens = _offsets([path.length for path in paths])
    columns = {
        "id": [path.turns[-1].id for path in paths],
        "session_id": [facts.id for facts, _ in rows],
        "task_id": [facts.task_id for facts, _ in rows],
        "group_id": [facts.group_id for facts, _ in rows],
        "policy_version": [facts.policy_version for facts, _ in rows],
        "finished_at": [facts.finished_at for facts, _ in rows],
        "turn_ids": _lists(per_sample, pa.array([turn.id for turn in turns], pa.string())),
        "outcomes": _lists(per_sample, pa.array([str(turn.outcome) for turn in turns], pa.string())),
        **_token_columns(turns, [flag for path in paths for flag in path.trained], tokens),
        "versions": _versions(paths),
        "message_spans": _spans(paths, turns),
        "truncated": [path.truncated for path in paths],
        "reward": [facts.reward for facts, _ in rows],
        "turn_rewards": _lists(per_sample, pa.array([turn.reward for turn in turns], pa.float64())),
        "token_rewards": _token_rewards(paths),
        "metadata": [orjson.dumps(facts.metadata).decode() for facts, _ in rows],
    }
    arrays = [pa.array(column, SCHEMA.field(name).type) if isinstance(column, list) else column
              for name, column in columns.items()]  # fmt: skip
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def _clipped(path: Path[TurnTokens]) -> Path[TurnTokens]:
    *before, last = path.turns
    kept = path.length - sum(turn.n_prompt + turn.n_sampled for turn in before) - last.n_prompt
    return Path([*before, last.cut(kept)], path.trained, path.length, path.truncated)


def _token_columns(turns: Sequence[TurnTokens], trained: Sequence[bool], offsets: pa.Array) -> dict[str, pa.Array]:
    lengths = np.empty(2 * len(turns), np.int64)
    lengths[0::2] = [turn.n_prompt for turn in turns]
    lengths[1::2] = [turn.n_sampled for turn in turns]
    flags = np.zeros(2 * len(turns), np.int8)
    flags[1::2] = trained
    unsampled = np.full(lengths[0::2].max(initial=0), np.nan, np.float32)
    token_ids = _joined(((turn.prompt_delta, turn.completion) for turn in turns), np.int32)
    logprobs = _joined(((unsampled[: turn.n_prompt], turn.logprobs) for turn in turns), np.float32)
    return {
        "token_ids": _lists(offsets, pa.array(token_ids)),
        "loss_mask": _lists(offsets, pa.array(np.repeat(flags, lengths))),
        "logprobs": _lists(offsets, pa.array(logprobs)),
    }


def _token_rewards(paths: Sequence[Path[TurnTokens]]) -> pa.Array:
    """Null where no token of a sample has a reward; else one for each token, 0 where it has none."""
    given = [any(turn.token_rewards is not None for turn in path.turns) for path in paths]
    rewarded = [turn for path, has in zip(paths, given, strict=True) if has for turn in path.turns]
    zeros = np.zeros(max((max(turn.n_prompt, turn.n_sampled) for turn in rewarded), default=0), np.float32)
    parts = (
        (zeros[: turn.n_prompt], zeros[: turn.n_sampled] if turn.token_rewards is None else turn.token_rewards)
        for turn in rewarded
    )
    offsets = _offsets([path.length if has else 0 for path, has in zip(paths, given, strict=True)])
    missing = pa.array(np.logical_not(np.array(given, bool)))
    return pa.ListArray.from_arrays(offsets, pa.array(_joined(parts, np.float32)), mask=missing)


def _versions(paths: Sequence[Path[TurnTokens]]) -> pa.Array:
    """``(policy_version, n_tokens)`` runs over each sample's tokens; null where none was sampled or none is known."""
    names: list[str | None] = []
    counts: list[int] = []
    ends = []
    for path in paths:
        start = len(names)
        for turn in path.turns:
            for name, n_tokens in ((None, turn.n_prompt), *turn.versions):
                if len(names) > start and names[-1] == name:
                    counts[-1] += n_tokens
                elif n_tokens:
                    names.append(name)
                    counts.append(n_tokens)
        ends.append(len(names) - start)
    runs = pa.StructArray.from_arrays(
        [pa.array(names, pa.string()), pa.array(counts, pa.int32())], fields=list(_VERSION)
    )
    return _lists(_offsets(ends), runs)


def _spans(paths: Sequence[Path[TurnTokens]], turns: Sequence[TurnTokens]) -> pa.Array:
    starts: list[int] = []
    ends: list[int] = []
    kinds: list[int] = []
    roles: list[str | None] = []
    owners: list[int] = []
    counts = []
    owner = 0
    for path in paths:
        first, at = len(starts), 0
        for turn in path.turns:
            runs, own = turn.prompt_spans, turn.first_message
            for message, kind, n_tokens in runs:
                starts.append(at)
                at += n_tokens
                ends.append(at)
                kinds.append(_KIND_PLACE[kind])
                roles.append(turn.roles[message - own] if 0 <= message - own < len(turn.roles) else None)
            starts.append(at)
            at += turn.n_sampled
            ends.append(at)
            kinds.append(_SAMPLED)
            roles.append("assistant")
            owners += [owner] * (len(runs) + 1)
            owner += 1
        counts.append(len(starts) - first)
    spans = pa.StructArray.from_arrays(
        [
            pa.array(starts, pa.int32()),
            pa.array(ends, pa.int32()),
            pa.array(roles, pa.string()),
            _KINDS.take(pa.array(kinds, pa.int32())),
            pa.array([turn.id for turn in turns], pa.string()).take(pa.array(owners, pa.int32())),
        ],
        fields=list(_SPAN),
    )
    return _lists(_offsets(counts), spans)


def _joined(parts: Iterable[tuple[npt.NDArray[Any], ...]], dtype: type[np.generic]) -> npt.NDArray[Any]:
    arrays = list(chain.from_iterable(parts))
    return np.concatenate(arrays, dtype=dtype) if arrays else np.empty(0, dtype)


def _offsets(lengths: Sequence[int]) -> pa.Array:
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.array(offsets)


def _lists(offsets: pa.Array, values: pa.Array) -> pa.ListArray:
    return pa.ListArray.from_arrays(offsets, values)
