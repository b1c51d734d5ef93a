"""Answers by the turn that gave them: found with all that led to them, and hidden. Every function works in the
transaction it is given."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import orjson
import sqlalchemy as sa

from tickertape.server.store import schema
from tickertape.server.store.database import insert
from tickertape.server.store.rows import from_row
from tickertape.server.trajectories.turn import Turn


def path_to(connection: sa.Connection, turn_id: str) -> list[Turn]:
    """A turn's path from its root on, the turn itself last; empty if it is not on tape."""
    turns = schema.turns.c
    path = sa.select(turns.id, turns.parent_id).where(turns.id == turn_id).cte("path", recursive=True)
    path = path.union_all(sa.select(turns.id, turns.parent_id).join(path, turns.id == path.c.parent_id))
    query = (
        sa.select(schema.turns, schema.toolsets.c.tools)
        .outerjoin(schema.toolsets, schema.toolsets.c.digest == turns.tools_digest)
        .where(turns.id.in_(sa.select(path.c.id)))
        .order_by(turns.seq)
    )
    return [from_row(row, row.tools) for row in connection.execute(query)]


@dataclass(frozen=True, slots=True)
class Said:
    """The answer that a client got in a turn, as a chat message."""

    session_id: str
    response: dict[str, Any]
    may_be_told_again: bool
    """Unless the client asked with ``store=false``."""


def said(connection: sa.Connection, turn_ids: Collection[str]) -> dict[str, Said]:
    """Returns what those turns said, by id, that are on tape and whose answer no client has deleted."""
    turns, hidden = schema.turns.c, schema.hidden_answers.c
    query = (
        sa.select(turns.id, turns.session_id, turns.rest)
        .outerjoin(schema.hidden_answers, hidden.turn_id == turns.id)
        .where(turns.id.in_(turn_ids), hidden.turn_id.is_(None))
    )
    found = {}
    for row in connection.execute(query):
        rest = orjson.loads(row.rest)
        if rest["response"] is not None:
            found[row.id] = Said(row.session_id, rest["response"], rest["request_fields"].get("store") is not False)
    return found


def is_hidden(connection: sa.Connection, turn_id: str) -> bool:
    """Returns True if a client has deleted the turn's answer."""
    hidden = schema.hidden_answers.c
    return connection.scalar(sa.select(hidden.turn_id).where(hidden.turn_id == turn_id)) is not None


def hide(connection: sa.Connection, turn: Turn, now: float) -> None:
    """Notes that a client has deleted the turn's answer. The turn stays."""
    values = {"turn_id": turn.id, "session_id": turn.session_id, "hidden_at": now}
    connection.execute(insert(connection, schema.hidden_answers).on_conflict_do_nothing(), values)
