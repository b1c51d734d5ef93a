"""Training samples: numpy arrays over the columns that the server sends."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

Ints: TypeAlias = npt.NDArray[np.int32]
Mask: TypeAlias = npt.NDArray[np.int8]
Floats: TypeAlias = npt.NDArray[np.float32]
#: ``(policy_version, n_tokens)`` runs.
Versions: TypeAlias = list[tuple[str | None, int]]


@dataclass(frozen=True, slots=True)
class Sample:
    """One path through a session's turns, ready for training. ``token_ids``, ``loss_mask``, ``logprobs`` and, if there
    are any, ``token_rewards`` have one length. Arrays are views of what was received, and read-only."""

    id: str
    """Of the last turn, the one that this sample alone ends with."""
    session_id: str
    task_id: str | None
    group_id: str | None
    policy_version: str | None
    """The one that the session was to be sampled with; ``versions`` has those that it was."""
    finished_at: float | None
    """Seconds since the epoch; ``None`` while the session is open."""
    turn_ids: list[str]
    outcomes: list[str]
    """One for each turn."""
    token_ids: Ints
    """int32[]."""
    loss_mask: Mask
    """int8[]: 1 on tokens that were sampled and are trained in this sample, else 0."""
    logprobs: Floats
    """float32[]: of sampled tokens, as the engine reported them; NaN elsewhere."""
    versions: Versions
    """Runs over ``token_ids``; ``None`` where nothing was sampled or no version is known."""
    message_spans: list[dict[str, Any]]
    """``{"start", "end", "role", "kind", "turn_id"}``: which message the tokens [start, end) come from."""
    truncated: str | None
    """``turn``: turns that would follow were cut off for ``max_length``; ``token``: the cut is inside the last turn."""
    reward: float | None
    """The session's."""
    turn_rewards: list[float | None]
    """One for each turn."""
    token_rewards: Floats | None
    """float32[], 0 where a token has none; ``None`` if none has one."""
    metadata: dict[str, Any]
    """The session's."""


#: Columns whose values are numpy arrays, of one entry for each token.
_ARRAYS = ("token_ids", "loss_mask", "logprobs", "token_rewards")


def samples_of(batch: pa.RecordBatch) -> Iterator[Sample]:
    """The samples of a batch, in its order. Columns that are not known here, from a newer server, are left alone."""
    columns: dict[str, list[Any]] = {}
    for name in Sample.__dataclass_fields__:
        column = batch.column(name)
        columns[name] = _arrays(column) if name in _ARRAYS else column.to_pylist()
    columns["versions"] = [[(run["version"], run["n_tokens"]) for run in runs] for runs in columns["versions"]]
    columns["metadata"] = [orjson.loads(text) for text in columns["metadata"]]
    for values in zip(*columns.values(), strict=True):
        yield Sample(*values)


def _arrays(column: pa.ListArray) -> list[npt.NDArray[Any] | None]:
    values = column.values.to_numpy(zero_copy_only=True)
    offsets = column.offsets.to_pylist()
    present = column.is_valid().to_pylist()
    return [values[offsets[k] : offsets[k + 1]] if present[k] else None for k in range(len(column))]
