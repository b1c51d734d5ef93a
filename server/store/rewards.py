"""Rewards: of a session, of its turns, of their tokens. They may come late, and change."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sqlalchemy as sa

from tickertape.server.errors import InvalidRequest
from tickertape.server.store import schema
from tickertape.server.store.database import insert
from tickertape.server.store.sessions import lock, update

_FLOAT32 = np.dtype("<f4")


@dataclass(frozen=True, slots=True)
class Rewards:
    """Rewards that are given, or are on tape, for one session."""

    reward: float | None = None
    turns: dict[str, float | None] = field(default_factory=dict)
    """By turn id."""
    tokens: dict[str, Sequence[float] | None] = field(default_factory=dict)
    """By turn id; one for each token of the turn's completion."""


def set_rewards(connection: sa.Connection, session_id: str, given: Mapping[str, Any], now: float) -> None:
    """Sets what is given and leaves the rest as it is; ``None`` takes a reward back.

    Args:
        connection: writes.
        session_id: the session.
        given: fields of :class:`Rewards`, those that are to be set.
        now: seconds since the epoch.

    Raises:
        NotFound: there is no such session.
        InvalidRequest: a turn is not the session's, there are not as many token rewards as tokens, or one is no finite
            number.
    """
    if "reward" in given:
        _check_finite([given["reward"]], "reward")
    lock(connection, session_id)
    update(connection, session_id, {"reward": given["reward"]} if "reward" in given else {})
    turns, tokens = given.get("turns") or {}, given.get("tokens") or {}
    lengths = _lengths(connection, session_id, {*turns, *tokens})
    _check_finite(turns.values(), "turns")
    for turn_id, reward in turns.items():
        _set(connection, session_id, turn_id, {"reward": reward}, now)
    for turn_id, values in tokens.items():
        packed = None if values is None else _packed(values, lengths[turn_id], turn_id)
        _set(connection, session_id, turn_id, {"token_rewards": packed}, now)


def get_rewards(connection: sa.Connection, session_id: str, reward: float | None) -> Rewards:
    """Returns the rewards on tape. ``reward`` is the session's own."""
    table = schema.rewards.c
    turns: dict[str, float | None] = {}
    tokens: dict[str, Sequence[float] | None] = {}
    for row in connection.execute(sa.select(schema.rewards).where(table.session_id == session_id)):
        if row.reward is not None:
            turns[row.turn_id] = row.reward
        if row.token_rewards is not None:
            tokens[row.turn_id] = np.frombuffer(row.token_rewards, _FLOAT32).tolist()
    return Rewards(reward, turns, tokens)


def _set(connection: sa.Connection, session_id: str, turn_id: str, values: dict[str, Any], now: float) -> None:
    row = {"turn_id": turn_id, "session_id": session_id, "updated_at": now, **values}
    changes = {"updated_at": now, **values}
    statement = insert(connection, schema.rewards).values(row)
    connection.execute(statement.on_conflict_do_update(index_elements=[schema.rewards.c.turn_id], set_=changes))


def _lengths(connection: sa.Connection, session_id: str, turn_ids: set[str]) -> dict[str, int]:
    table = schema.turns.c
    rows = connection.execute(
        sa.select(table.id, sa.func.length(table.completion)).where(
            table.session_id == session_id, table.id.in_(turn_ids)
        )
    )
    lengths = {turn_id: n_bytes // 4 for turn_id, n_bytes in rows}
    for turn_id in turn_ids - lengths.keys():
        raise InvalidRequest(
            f"the session {session_id!r} has no turn {turn_id!r}: GET /sessions/{session_id}/turns lists them",
            param="turns",
            code="turn_not_found",
        )
    return lengths


def _packed(values: Sequence[float], length: int, turn_id: str) -> bytes:
    if len(values) != length:
        raise InvalidRequest(
            f"tokens.{turn_id} has {len(values)} rewards for a completion of {length} tokens: send one for each",
            param=f"tokens.{turn_id}",
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite then
        packed = np.array(values, _FLOAT32)
    _check_finite(packed, f"tokens.{turn_id}")
    return packed.tobytes()


def _check_finite(values: Any, param: str) -> None:
    for value in values:
        if value is not None and not math.isfinite(value):
            raise InvalidRequest(f"{param}: {value} is no reward: it must be a finite number", param=param)
