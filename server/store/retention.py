"""Retention: what goes when the tape is to stay small or young.

A session that is open or leased never goes; the report says how many stayed for that reason although they were due, and
by how much the tape is still over its limits. The file itself does not shrink: SQLite uses the room again.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from tickertape.server.store import schema
from tickertape.server.store.schema import State
from tickertape.server.store.sessions import delete_rows, finish, is_leased, lock_all

#: Sessions deleted in one transaction: turns are committed in between.
AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of what the tape may hold; ``None``: any amount."""

    keep_seconds: float | None = None
    """Since a session's last activity or its finish."""
    max_tokens: int | None = None
    max_bytes: int | None = None
    """Of turns, as stored."""


@dataclass(frozen=True, slots=True)
class RetentionReport:
    """Report of what went, and what stayed though it was due."""

    dropped: dict[str, int] = field(default_factory=lambda: {"discarded": 0, "acked": 0, "unacked": 0})
    """Sessions: ``discarded``; finished and ``acked`` by a consumer; finished and ``unacked``."""
    dropped_tokens: int = 0
    dropped_bytes: int = 0
    kept_open: int = 0
    """Sessions that are over ``keep_seconds`` or would have to go to reach a size, and are not finished."""
    kept_leased: int = 0
    over_tokens: int = 0
    """By how much the tape is still too large."""
    over_bytes: int = 0

    def __str__(self) -> str:
        said = ", ".join(f"{number} {name}" for name, number in self.dropped.items() if number) or "none"
        text = f"retention dropped sessions: {said}; {self.dropped_tokens} tokens"
        if self.kept_open or self.kept_leased:
            text += f"; due, but kept: {self.kept_open} open, {self.kept_leased} leased"
        if self.over_tokens or self.over_bytes:
            text += f"; still over the limits by {self.over_tokens} tokens, {self.over_bytes} bytes"
        return text


@dataclass(frozen=True, slots=True)
class Due:
    """The sessions that are to go, and the report if all of them do."""

    session_ids: list[str]
    report: RetentionReport

    def parts(self) -> Iterator[list[str]]:
        """The ids in parts for one transaction each."""
        for start in range(0, len(self.session_ids), AT_ONCE):
            yield self.session_ids[start : start + AT_ONCE]


def due(connection: sa.Connection, limits: Limits, now: float) -> Due:
    """Chooses what is to go: what is too old, then, while the tape is too large, discarded sessions, acked ones and
    others, the oldest of each first."""
    rows = connection.execute(_query()).all()
    tokens, n_bytes = sum(row.tokens for row in rows), sum(row.stored_bytes for row in rows)
    report, going = RetentionReport(), []
    oldest = -math.inf if limits.keep_seconds is None else now - limits.keep_seconds
    for row in sorted(rows, key=lambda row: row.since >= oldest):  # what goes for its age may make room enough
        old = row.since < oldest
        over = _over(tokens, limits.max_tokens) or _over(n_bytes, limits.max_bytes)
        if not old and not over:
            continue
        if row.kind in ("open", "leased"):
            is_open = row.kind == "open"
            report = replace(
                report, kept_open=report.kept_open + is_open, kept_leased=report.kept_leased + (not is_open)
            )
            continue
        going.append(row.id)
        tokens, n_bytes = tokens - row.tokens, n_bytes - row.stored_bytes
        report = replace(
            report,
            dropped=report.dropped | {row.kind: report.dropped[row.kind] + 1},
            dropped_tokens=report.dropped_tokens + row.tokens,
            dropped_bytes=report.dropped_bytes + row.stored_bytes,
        )
    over_tokens, over_bytes = _over(tokens, limits.max_tokens), _over(n_bytes, limits.max_bytes)
    return Due(going, replace(report, over_tokens=over_tokens, over_bytes=over_bytes))


def drop(connection: sa.Connection, session_ids: Sequence[str]) -> list[str]:
    """Takes sessions off the tape that are still closed and not leased; returns their ids."""
    table = schema.sessions.c
    ids = lock_all(connection, table.id.in_(session_ids), table.state != State.OPEN.value, ~is_leased())
    delete_rows(connection, ids)
    return ids


def finish_idle(connection: sa.Connection, idle_since: float, now: float) -> list[str]:
    """Finishes up to ``AT_ONCE`` sessions with turns whose last call came in before ``idle_since``; returns their
    ids."""
    table = schema.sessions.c
    idle = (table.state == State.OPEN.value, table.turns > 0, table.active_at < idle_since)
    query = sa.select(table.id).where(*idle).order_by(table.active_at).limit(AT_ONCE)
    ids = list(connection.scalars(query.with_for_update(skip_locked=True)))  # one that is locked is not idle
    for session_id in ids:
        finish(connection, session_id, now)
    return ids


def _query() -> sa.Select[Any]:
    table = schema.sessions.c
    kind = sa.case(
        (is_leased(), "leased"),
        (table.state == State.OPEN.value, "open"),
        (table.state == State.DISCARDED.value, "discarded"),
        (table.acked_at.is_not(None), "acked"),
        else_="unacked",
    ).label("kind")
    since = sa.func.coalesce(table.finished_at, table.active_at).label("since")
    order = sa.case({"discarded": 0, "acked": 1, "unacked": 2}, value=kind, else_=3)
    tokens = (table.prompt_tokens + table.completion_tokens).label("tokens")
    return sa.select(table.id, kind, since, tokens, table.stored_bytes).order_by(order, since)


def _over(value: int, limit: int | None) -> int:
    return 0 if limit is None else max(0, value - limit)
