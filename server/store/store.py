"""The tape in SQLite.

Write-ahead log with ``synchronous=NORMAL``: a committed turn survives the end of this process in any form, kill -9
included; a power cut can take the last commits, never the file.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from tickertape.server.store import schema
from tickertape.server.store.rows import from_row, to_row
from tickertape.server.store.writer import GroupWriter
from tickertape.server.trajectories.tree import SessionTree
from tickertape.server.trajectories.turn import Turn

#: How many sessions and toolsets are remembered to be on tape already.
_MOST_KNOWN = 100_000


class StoreError(Exception):
    """The tape cannot be written or read."""


@dataclass(frozen=True, slots=True)
class SessionSummary:
    """One session, counted up."""

    id: str
    created_at: float
    updated_at: float
    """When its last turn's request came in."""
    turns: int
    outcomes: dict[str, int]
    prompt_tokens: int
    """Tokens that turns added to their prompts; shared prefixes count once."""
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class _Write:
    turn: Turn
    options_digest: str


class Store:
    """Turns in, sessions and turns out. Writes are durable when :meth:`commit` returns."""

    def __init__(self, path: str | Path) -> None:
        """Opens or creates the tape at ``path``.

        Raises:
            StoreError: it cannot be opened, or is of another schema version.
        """
        self.path = str(path)
        self._engine = sa.create_engine(f"sqlite:///{self.path}", connect_args={"check_same_thread": False})
        sa.event.listen(self._engine, "connect", _configure)
        try:
            self._open()
        except sa.exc.SQLAlchemyError as error:
            raise StoreError(f"the tape {self.path} cannot be opened: {error.__cause__ or error}") from error
        self._rows_known: set[str] = set()
        self._writer: GroupWriter[_Write] = GroupWriter(self._write)

    def _open(self) -> None:
        with self._engine.begin() as connection:
            schema.metadata.create_all(connection)
            version = connection.scalar(sa.select(schema.tape.c.schema_version))
            if version is None:
                connection.execute(schema.tape.insert().values(schema_version=schema.SCHEMA_VERSION))
            elif version != schema.SCHEMA_VERSION:
                raise StoreError(
                    f"the tape {self.path} has schema version {version}, this Tickertape writes {schema.SCHEMA_VERSION}"
                )

    async def commit(self, turn: Turn, options_digest: str = "") -> None:
        """Makes a turn durable (DURABLE).

        Raises:
            StoreError: it could not be written; nothing of it was.
        """
        try:
            await self._writer.put(_Write(turn, options_digest))
        except sa.exc.SQLAlchemyError as error:
            raise StoreError(f"the tape {self.path} cannot be written: {error.__cause__ or error}") from error

    def _write(self, batch: Sequence[_Write]) -> None:
        sessions = {w.turn.session_id: w.turn.created_at for w in reversed(batch)}
        toolsets = {w.turn.tools_digest: w.turn.tools for w in batch if w.turn.tools_digest}
        new_sessions = [{"id": i, "created_at": at} for i, at in sessions.items() if i not in self._rows_known]
        new_toolsets = [
            {"digest": d, "tools": orjson.dumps(t)} for d, t in toolsets.items() if d not in self._rows_known
        ]
        with self._engine.begin() as connection:
            if new_sessions:
                connection.execute(insert(schema.sessions).on_conflict_do_nothing(), new_sessions)
            if new_toolsets:
                connection.execute(insert(schema.toolsets).on_conflict_do_nothing(), new_toolsets)
            connection.execute(schema.turns.insert(), [to_row(w.turn, w.options_digest) for w in batch])
        if len(self._rows_known) > _MOST_KNOWN:
            self._rows_known.clear()
        self._rows_known.update(sessions, toolsets)

    async def load_tree(self, session_id: str) -> SessionTree:
        """The live part of a session; an empty tree for one that is not known."""
        return await asyncio.to_thread(self._load_tree, session_id)

    def _load_tree(self, session_id: str) -> SessionTree:
        tree = SessionTree(session_id)
        for turn, options_digest in self._turns(session_id, after=-1, limit=-1):
            tree.add(turn, options_digest)
        return tree

    async def turns(self, session_id: str, *, after: int = -1, limit: int = -1) -> list[Turn] | None:
        """Turns of a session in order of ``seq``, those after ``after``, at most ``limit`` (-1: all); ``None`` for a
        session that is not known."""
        return await asyncio.to_thread(self._turns_or_none, session_id, after, limit)

    def _turns_or_none(self, session_id: str, after: int, limit: int) -> list[Turn] | None:
        turns = [turn for turn, _ in self._turns(session_id, after, limit)]
        return turns if turns or self._sessions([schema.sessions.c.id == session_id], 1) else None

    def _turns(self, session_id: str, after: int, limit: int) -> Iterator[tuple[Turn, str]]:
        query = (
            sa.select(schema.turns, schema.toolsets.c.tools)
            .outerjoin(schema.toolsets, schema.toolsets.c.digest == schema.turns.c.tools_digest)
            .where(schema.turns.c.session_id == session_id, schema.turns.c.seq > after)
            .order_by(schema.turns.c.seq)
        )
        with self._reading() as connection:
            for row in connection.execute(query if limit < 0 else query.limit(limit)):
                yield from_row(row, row.tools), row.options_digest

    async def session(self, session_id: str) -> SessionSummary | None:
        """One session, or ``None``."""
        found = await asyncio.to_thread(self._sessions, [schema.sessions.c.id == session_id], 1)
        return found[0] if found else None

    async def sessions(self, *, after: tuple[float, str] | None = None, limit: int = 100) -> list[SessionSummary]:
        """Sessions in order of creation, those after the ``(created_at, id)`` of another one."""
        order = sa.tuple_(schema.sessions.c.created_at, schema.sessions.c.id)
        conditions = [] if after is None else [order > after]
        return await asyncio.to_thread(self._sessions, conditions, limit)

    def _sessions(self, conditions: Sequence[sa.ColumnElement[bool]], limit: int) -> list[SessionSummary]:
        page = (
            sa.select(schema.sessions)
            .where(*conditions)
            .order_by(schema.sessions.c.created_at, schema.sessions.c.id)
            .limit(limit)
        ).subquery()
        turns = schema.turns.c
        counts = (
            sa.select(
                page.c.id,
                page.c.created_at,
                turns.outcome,
                sa.func.count(turns.id).label("n"),
                sa.func.max(turns.created_at).label("updated_at"),
                sa.func.sum(sa.func.length(turns.prompt_delta)).label("prompt_bytes"),
                sa.func.sum(sa.func.length(turns.completion)).label("completion_bytes"),
            )
            .outerjoin(schema.turns, turns.session_id == page.c.id)
            .group_by(page.c.id, page.c.created_at, turns.outcome)
            .order_by(page.c.created_at, page.c.id)
        )
        by_session: dict[str, list[Any]] = {}
        with self._reading() as connection:
            for row in connection.execute(counts):
                by_session.setdefault(row.id, []).append(row)
        return [_summary(session_id, rows) for session_id, rows in by_session.items()]

    def _reading(self) -> sa.Connection:
        try:
            return self._engine.connect()
        except sa.exc.SQLAlchemyError as error:
            raise StoreError(f"the tape {self.path} cannot be read: {error.__cause__ or error}") from error

    def close(self) -> None:
        """Commits what is on its way and closes the file."""
        self._writer.close()
        self._engine.dispose()


def _summary(session_id: str, rows: Sequence[Any]) -> SessionSummary:
    counted = [row for row in rows if row.outcome is not None]
    return SessionSummary(
        id=session_id,
        created_at=rows[0].created_at,
        updated_at=max((row.updated_at for row in counted), default=rows[0].created_at),
        turns=sum(row.n for row in counted),
        outcomes={row.outcome: row.n for row in counted},
        prompt_tokens=sum(row.prompt_bytes // 4 for row in counted),
        completion_tokens=sum(row.completion_bytes // 4 for row in counted),
    )


def _configure(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=10000", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
