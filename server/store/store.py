"""The tape: turns in, trees and turns out, and transactions for everything else that is on it."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import orjson
import sqlalchemy as sa

from tickertape.server.errors import InvalidRequest
from tickertape.server.store import arrays, runs, schema
from tickertape.server.store.database import (
    Database,
    NotHoldable,
    StoreError,
    StoreUnavailable,
    check_place,
    insert,
    insert_plain,
)
from tickertape.server.store.durability import Durability
from tickertape.server.store.opening import open_tape
from tickertape.server.store.rows import from_row, to_row
from tickertape.server.store.schema import State
from tickertape.server.store.sessions import Touched, state_of, touch
from tickertape.server.store.tape_health import TapeHealth
from tickertape.server.store.turn_writes import CommitCall, TurnWrites, Write, known_turns, log_lost, size_of
from tickertape.server.store.writer import GroupWriter
from tickertape.server.trajectories.tree import SessionTree
from tickertape.server.trajectories.turn import Turn

__all__ = ["SessionDeleted", "Store", "StoreError", "StoreUnavailable"]

#: How many toolsets and closed sessions are remembered.
_MOST_KNOWN = 100_000

P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def _holdable() -> Iterator[None]:
    """Turns what no tape can hold, and so can never be found on one either, into an error that is the client's to
    mend."""
    try:
        yield
    except (OverflowError, UnicodeEncodeError, NotHoldable) as error:
        said = error.__cause__ or error
        raise InvalidRequest(
            f"integers have 64 bits, and text no lone surrogates, nor NUL on PostgreSQL: {getattr(said, 'orig', said)}",
            code="invalid_value",
        ) from error


class SessionDeleted(StoreError):
    """A session that is in use here was deleted, perhaps by another server."""


class Store:
    """One tape. Writes are durable when :meth:`commit` or :meth:`write` returns."""

    def __init__(
        self, place: str | Path, *, serving: bool = False, make: bool = True, durability: Durability | None = None
    ) -> None:
        """Opens or creates a tape, and leads an older one to this schema version.

        Args:
            place: the path of an SQLite file, or ``sqlite:///PATH``; or ``postgresql://USER@HOST/DATABASE``.
            serving: this process answers agents. A file has one such process; readers go beside it.
            make: make a tape where there is none.
            durability: what a commit survives, and what becomes of turns while the store fails.

        Raises:
            StoreError: it cannot be opened, is of a later schema version, or is a file that has a server.
        """
        durability = durability or Durability()
        check_place(place, make=make)
        self._database = Database(place, durability.sync)
        self.path = self._database.path
        """The tape's place, without a password."""
        try:
            if serving:
                self._database.serve()
            self._open(make)
        except StoreError as error:
            self._database.close()
            raise StoreError(f"the tape {self.path} cannot be opened: {_why(error)}") from error
        except BaseException:
            self._database.close()
            raise
        self._known_toolsets: set[str] = set()
        self._closed: OrderedDict[str, None] = OrderedDict()
        self.standing = TapeHealth()
        """The store's health: it says whether the tape can be written, as far as is known."""
        self._most_waiting = durability.backlog_memory
        self.transactions = 0
        """That committed turns, each of them one or many."""
        self.run_id: str | None = None
        """Of the server that runs on this tape here, see ``runs``."""
        self._writer: GroupWriter[CommitCall] = GroupWriter(
            TurnWrites(self._write, self._known, self._probe),
            self.standing,
            patience=durability.patience,
            most=durability.batch,
            every=runs.EVERY if serving else runs.NEVER,
        )

    def _open(self, make: bool) -> None:
        def open_it(connection: sa.Connection) -> None:
            self._database.open_alone(connection)
            open_tape(connection, make=make)

        self._database.write(open_it)

    @property
    def is_shared(self) -> bool:
        """Returns True if other servers may commit turns to the same tape."""
        return self._database.is_shared

    # Turns.

    def check(self) -> None:
        """Refuses a call before it costs anything, while its turns could not be committed.

        Raises:
            StoreUnavailable: the tape is known to fail, or as much waits for it as may.
        """
        waiting = self._writer.waiting_bytes
        full = f"{waiting} bytes of turns wait for the tape, {self._most_waiting} may (backlog_memory)"
        self.standing.check(full if waiting >= self._most_waiting else None)

    async def commit(self, turn: Turn, options_digest: str = "", *others: Turn) -> None:
        """Makes a turn durable (DURABLE), and sets its ``seq``; with it ``others`` of the same call, or none of them.

        Raises:
            StoreUnavailable: the store failed for longer than its patience. The turns are kept, and committed as
                undelivered as soon as it works again.
            StoreError: they could not be written; nothing of them was.
        """
        call = [Write(each, options_digest) for each in (turn, *others)]
        try:
            await self._writer.put(call, sum(size_of(each.turn) for each in call))
        except StoreUnavailable:
            raise
        except Exception as error:
            for write in call:
                log_lost(write.turn, error)
            raise

    @property
    def backlog(self) -> int:
        """Returns how many calls' turns wait for a store that works again."""
        return self._writer.backlog

    def _known(self, turn_ids: Sequence[str]) -> set[str]:
        return self.read_now(known_turns, turn_ids)

    def _probe(self) -> None:
        with self._database.writing() as connection:
            runs.note_seen(connection, self.run_id, time.time())
        self._database.tidy()

    def _write(self, batch: Sequence[Write]) -> None:
        toolsets = {w.turn.tools_digest: w.turn.tools for w in batch if w.turn.tools_digest}
        new_toolsets = [
            {"digest": digest, "tools": orjson.dumps(tools)}
            for digest, tools in sorted(toolsets.items())  # in one order, as everything that is locked
            if digest not in self._known_toolsets
        ]
        rows = [to_row(w.turn, w.options_digest) for w in batch]
        array_rows = [row for w in batch for row in arrays.to_rows(w.turn)]
        sessions = _counted(rows, array_rows)

        def write(connection: sa.Connection) -> dict[str, Touched]:
            if new_toolsets:
                connection.execute(insert(connection, schema.toolsets).on_conflict_do_nothing(), new_toolsets)
            found = touch(connection, sessions.values())
            _place(rows, sessions, found)
            insert_plain(connection, schema.turns, rows)
            if array_rows:
                connection.execute(schema.token_arrays.insert(), array_rows)
            return found

        found = self._database.write(write)
        self.transactions += 1
        for written, row in zip(batch, rows, strict=True):
            written.turn.seq = row["seq"]
        self._remember_closed(session_id for session_id, after in found.items() if after.state is not State.OPEN)
        if len(self._known_toolsets) > _MOST_KNOWN:
            self._known_toolsets.clear()
        self._known_toolsets.update(toolsets)

    async def load_tree(self, session_id: str) -> SessionTree:
        """The live part of a session; an empty tree for one that is not known."""
        return await self._on_thread(lambda: self._load_tree(session_id))

    def _load_tree(self, session_id: str) -> SessionTree:
        tree = SessionTree(session_id)
        with self._database.reading() as connection:
            if state_of(connection, session_id) not in (State.OPEN, None):
                self._remember_closed([session_id])
            for turn, options_digest in _turns(connection, session_id, after=-1, limit=-1):
                tree.add(turn, options_digest)
        return tree

    async def news(self, session_id: str, after: int) -> list[tuple[Turn, str]]:
        """Returns turns of a session that were committed after the place ``after``, here or by another server, each
        with its options' digest, in order; and notes here whether the session is closed. Costs little where there is
        nothing.

        Raises:
            StoreError: the tape cannot be read.
            SessionDeleted: turns up to ``after`` were on tape, and are no more.
        """
        return await self._on_thread(lambda: self._news(session_id, after))

    def _news(self, session_id: str, after: int) -> list[tuple[Turn, str]]:
        table = schema.sessions.c
        found: list[tuple[Turn, str]] = []
        with self._database.reading() as connection:
            query = sa.select(table.state, table.next_seq).where(table.id == session_id)
            state, next_seq = connection.execute(query).one_or_none() or (State.OPEN, 0)
            if next_seq > after + 1:
                found = list(_turns(connection, session_id, after=after, limit=-1))
        if state == State.OPEN:
            self.note_deleted(session_id)
        else:
            self._remember_closed([session_id])
        if next_seq <= after:
            raise SessionDeleted(f"the session {session_id!r} was deleted while it was in use")
        return found

    async def turns(self, session_id: str, *, after: int = -1, limit: int = -1) -> list[Turn] | None:
        """Turns of a session in order of ``seq``, those after ``after``, at most ``limit`` (-1: all); ``None`` for a
        session that is not known."""
        return await self.read(turns_of, session_id, after, limit)

    # Everything else, as functions over a transaction.

    async def read(self, function: Callable[Concatenate[sa.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """``function(connection, …)`` in a transaction that sees one state of the tape, on a thread.

        Raises:
            StoreError: the tape cannot be read.
            InvalidRequest: a value is none that a tape can hold.
        """
        return await self._on_thread(lambda: self.read_now(function, *args, **kwargs))

    def read_now(self, function: Callable[Concatenate[sa.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """:meth:`read` for callers that are on a thread already."""
        with _holdable(), self._database.reading() as connection:
            return function(connection, *args, **kwargs)

    async def write(self, function: Callable[Concatenate[sa.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls ``function(connection, …)`` in a transaction beside which no other writes, on a thread; all of it
        becomes durable, or, if it raises, nothing.

        Raises:
            StoreError: the tape cannot be written.
            InvalidRequest: a value is none that a tape can hold.
        """

        def run() -> T:
            with _holdable():
                return self._database.write(lambda connection: function(connection, *args, **kwargs))

        self.standing.check()
        return await self._on_thread(run)

    async def _on_thread(self, function: Callable[[], T]) -> T:
        """If the store fails here, it is found out whether it fails everybody."""
        try:
            return await asyncio.to_thread(function)
        except StoreUnavailable:
            self._writer.suspect()
            raise

    # Closed sessions: known here without a look at the tape, so that a call of an agent is refused before it costs.

    def is_closed(self, session_id: str) -> bool:
        """Returns True if the session is known to be finished or discarded. A session that another process has closed
        is known when its tree is loaded or its next turn is committed (as a late one)."""
        return session_id in self._closed

    def note_closed(self, session_id: str) -> None:
        """The session was finished or discarded."""
        self._remember_closed([session_id])

    def note_deleted(self, session_id: str) -> None:
        """The session is no more; its id may be used anew."""
        self._closed.pop(session_id, None)

    def _remember_closed(self, session_ids: "Iterator[str] | list[str]") -> None:
        for session_id in session_ids:
            self._closed[session_id] = None
        while len(self._closed) > _MOST_KNOWN:
            self._closed.popitem(last=False)

    def close(self) -> None:
        """Commits what is on its way and closes the file."""
        self._writer.close()
        self._database.close()


def _why(error: StoreError) -> object:
    cause = error.__cause__
    return error if cause is None else getattr(cause, "orig", None) or cause.__cause__ or cause


def _counted(rows: Sequence[dict[str, Any]], array_rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Counts what a batch of turns adds to each session."""
    sessions: dict[str, dict[str, Any]] = {}
    for row in rows:
        at = row["created_at"]
        session = sessions.setdefault(
            row["session_id"],
            {
                "id": row["session_id"],
                "created_at": at,
                "active_at": at,
                "turns": 0,
                "prompt_tokens": 0,
                "completion_tokens": 0,
                "stored_bytes": 0,
            },
        )
        session["active_at"] = max(session["active_at"], at)
        session["turns"] += 1
        session["prompt_tokens"] += len(row["prompt_delta"]) // 4
        session["completion_tokens"] += len(row["completion"]) // 4
        session["stored_bytes"] += sum(len(row[name]) for name in ("prompt_delta", "completion", "logprobs", "rest"))
    for row in array_rows:
        sessions[row["session_id"]]["stored_bytes"] += len(row["data"])
    return sessions


def _place(
    rows: Sequence[dict[str, Any]], added: Mapping[str, Mapping[str, Any]], touched: Mapping[str, Touched]
) -> None:
    """Enters which place each turn has in its session, and whether it came too late.

    Raises:
        SessionDeleted: meanwhile.
    """
    places = {session_id: after.next_seq - added[session_id]["turns"] for session_id, after in touched.items()}
    for row in rows:
        session_id = row["session_id"]
        after = touched[session_id]
        if row["parent_id"] is not None and after.turns == added[session_id]["turns"]:
            raise SessionDeleted(f"the session {session_id!r} was deleted while this turn was taken")
        row["late"] = after.state is not State.OPEN
        row["seq"] = places[session_id]
        places[session_id] += 1


def _turns(connection: sa.Connection, session_id: str, after: int, limit: int) -> Iterator[tuple[Turn, str]]:
    query = (
        sa.select(schema.turns, schema.toolsets.c.tools)
        .outerjoin(schema.toolsets, schema.toolsets.c.digest == schema.turns.c.tools_digest)
        .where(schema.turns.c.session_id == session_id, schema.turns.c.seq > after)
        .order_by(schema.turns.c.seq)
    )
    for row in connection.execute(query if limit < 0 else query.limit(limit)):
        yield from_row(row, row.tools), row.options_digest


def turns_of(connection: sa.Connection, session_id: str, after: int = -1, limit: int = -1) -> list[Turn] | None:
    """See :meth:`Store.turns`."""
    turns = [turn for turn, _ in _turns(connection, session_id, after, limit)]
    return turns if turns or state_of(connection, session_id) is not None else None
