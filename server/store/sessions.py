"""Sessions as rows: made, listed, changed, closed, deleted. Every function works in the transaction it is given."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import itemgetter
from typing import Any, NamedTuple

import sqlalchemy as sa

from tickertape.server.errors import Conflict, NotFound
from tickertape.server.store import schema
from tickertape.server.store.database import insert, returned
from tickertape.server.store.filters import SessionFilter
from tickertape.server.store.rollouts import shapes
from tickertape.server.store.schema import State
from tickertape.server.trajectories.statistics import Statistics, statistics

_STATISTICS = tuple(Statistics.__dataclass_fields__)
_EVERY = SessionFilter()
#: As text, and not put together by SQLAlchemy: that would take a millisecond for every turn, since it does not remember
#: the SQL of an upsert.
_TOUCH = """
INSERT INTO sessions (id, created_at, active_at, turns, next_seq, prompt_tokens, completion_tokens, stored_bytes)
VALUES (:id, :created_at, :active_at, :turns, :turns, :prompt_tokens, :completion_tokens, :stored_bytes)
ON CONFLICT (id) DO UPDATE SET
  active_at = CASE WHEN excluded.active_at > sessions.active_at THEN excluded.active_at ELSE sessions.active_at END,
  turns = sessions.turns + excluded.turns,
  next_seq = sessions.next_seq + excluded.turns,
  prompt_tokens = sessions.prompt_tokens + excluded.prompt_tokens,
  completion_tokens = sessions.completion_tokens + excluded.completion_tokens,
  stored_bytes = sessions.stored_bytes + excluded.stored_bytes
RETURNING state, turns, next_seq
"""


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """One session, counted up. See :class:`tickertape.clients.tape.Session`."""

    id: str
    state: str
    created_at: float
    updated_at: float
    finished_at: float | None
    task_id: str | None
    group_id: str | None
    policy_version: str | None
    metadata: dict[str, Any]
    reward: float | None
    turns: int
    outcomes: dict[str, int]
    late_turns: int
    prompt_tokens: int
    """Tokens that turns added to their prompts; shared prefixes count once."""
    completion_tokens: int
    statistics: dict[str, int | None] | None
    lease_id: str | None
    acked_at: float | None
    acked_by: str | None


def create(connection: sa.Connection, session_id: str, now: float, fields: Mapping[str, Any]) -> None:
    """Makes a session that has no turns yet.

    Raises:
        Conflict: there is one of that id.
    """
    row = {"id": session_id, "created_at": now, "active_at": now, **fields}
    statement = insert(connection, schema.sessions).values(row).on_conflict_do_nothing()
    if connection.scalar(statement.returning(schema.sessions.c.id)) is None:
        raise Conflict(
            f"there is a session {session_id!r} already: leave the id out and one is made for you",
            param="id",
            code="session_exists",
        )


class Touched(NamedTuple):
    """A session after turns were added to it."""

    state: State
    turns: int
    next_seq: int
    """Of the turn that comes next: those that were added have the places before it."""


def touch(connection: sa.Connection, rows: Iterable[Mapping[str, Any]]) -> dict[str, Touched]:
    """Makes sessions that are new and adds to the counts of the others. From here to the end of the transaction no
    other changes them, so that the places of their turns (``seq``) are given out in the order of commits, each once.

    Args:
        connection: writes.
        rows: one for each session: ``id``, ``created_at``, ``active_at`` and the counts to add.

    Returns:
        What became of each.
    """
    found = {}
    for row in sorted(rows, key=itemgetter("id")):  # in one order everywhere: two servers must not wait for each other
        state, turns, next_seq = returned(connection, _TOUCH, row)
        found[row["id"]] = Touched(State(state), turns, next_seq)
    return found


def get(connection: sa.Connection, session_id: str) -> SessionRecord:
    """One session; if it is open, with the statistics that it would have if it were finished now.

    Raises:
        NotFound: there is none of that id.
    """
    row = _row(connection, session_id)
    (record,) = _records(connection, [row], now=row.state == State.OPEN)
    return record


def page(
    connection: sa.Connection,
    wanted: SessionFilter = _EVERY,
    *,
    after: tuple[float, str] | None = None,
    limit: int = 100,
) -> list[SessionRecord]:
    """Sessions in order of creation, those after the ``(created_at, id)`` of another one."""
    table = schema.sessions.c
    query = sa.select(schema.sessions).where(*wanted.conditions()).order_by(table.created_at, table.id).limit(limit)
    if after is not None:
        query = query.where(sa.tuple_(table.created_at, table.id) > after)
    return _records(connection, connection.execute(query).all())


def update(connection: sa.Connection, session_id: str, fields: Mapping[str, Any]) -> None:
    """Changes what a trainer says of a session.

    Raises:
        NotFound: there is none of that id.
    """
    _row(connection, session_id)
    if fields:
        connection.execute(schema.sessions.update().where(schema.sessions.c.id == session_id).values(**fields))


def finish(connection: sa.Connection, session_id: str, now: float) -> None:
    """Makes a session's samples ready. Finishing twice changes nothing.

    Raises:
        NotFound: there is none of that id.
        Conflict: it was discarded.
    """
    row = lock(connection, session_id)
    if row.state == State.DISCARDED:
        raise Conflict(f"the session {session_id!r} was discarded", param="session_id", code="session_discarded")
    if row.state == State.FINISHED:
        return
    last = schema.tape.c.last_finish_number
    number = connection.scalar(schema.tape.update().values(last_finish_number=last + 1).returning(last))
    update(
        connection,
        session_id,
        {
            "state": State.FINISHED.value,
            "finished_at": now,
            "finish_number": number,
            **asdict(statistics(shapes(connection, session_id))),
        },
    )


def discard(connection: sa.Connection, session_id: str) -> None:
    """Takes a session out of the samples for good.

    Raises:
        NotFound: there is none of that id.
        Conflict: its samples are leased.
    """
    row = lock(connection, session_id)
    _refuse_leased(row)
    update(connection, session_id, {"state": State.DISCARDED.value, "finish_number": None})


def delete(connection: sa.Connection, session_id: str) -> None:
    """Takes a session off the tape.

    Raises:
        NotFound: there is none of that id.
        Conflict: it is open, or its samples are leased.
    """
    row = lock(connection, session_id)
    if row.state == State.OPEN:
        raise Conflict(
            f"the session {session_id!r} is open: finish or discard it first", param="session_id", code="session_open"
        )
    _refuse_leased(row)
    delete_rows(connection, [session_id])


def delete_rows(connection: sa.Connection, session_ids: Sequence[str]) -> None:
    """Takes sessions off the tape, whatever they are."""
    for table in (schema.rewards, schema.token_arrays, schema.hidden_answers, schema.turns):
        connection.execute(table.delete().where(table.c.session_id.in_(session_ids)))
    connection.execute(schema.sessions.delete().where(schema.sessions.c.id.in_(session_ids)))


def is_leased() -> sa.ColumnElement[bool]:
    """Returns a condition: a consumer holds the session's samples and is not done with them."""
    return schema.sessions.c.lease_id.is_not(None) & schema.sessions.c.acked_at.is_(None)


def state_of(connection: sa.Connection, session_id: str) -> State | None:
    """``None`` for a session that is not known."""
    state = connection.scalar(sa.select(schema.sessions.c.state).where(schema.sessions.c.id == session_id))
    return None if state is None else State(state)


def no_session(session_id: str) -> NotFound:
    return NotFound(f"there is no session {session_id!r}", param="session_id", code="session_not_found")


def lock(connection: sa.Connection, session_id: str) -> Any:
    """Returns a session's row, which no other changes until the end of the transaction.

    Raises:
        NotFound: there is none of that id.
    """
    return _row(connection, session_id, locked=True)


def lock_all(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> list[str]:
    """Ids of the sessions that meet all conditions, locked in the one order in which sessions are."""
    table = schema.sessions.c
    return list(connection.scalars(sa.select(table.id).where(*conditions).order_by(table.id).with_for_update()))


def _row(connection: sa.Connection, session_id: str, *, locked: bool = False) -> Any:
    query = sa.select(schema.sessions).where(schema.sessions.c.id == session_id)
    row = connection.execute(query.with_for_update() if locked else query).one_or_none()
    if row is None:
        raise no_session(session_id)
    return row


def _refuse_leased(row: Any) -> None:
    if row.lease_id is not None and row.acked_at is None:
        raise Conflict(
            f"the session {row.id!r} is leased: its samples are out under {row.lease_id}",
            param="session_id",
            code="session_leased",
        )


def _records(connection: sa.Connection, rows: Sequence[Any], *, now: bool = False) -> list[SessionRecord]:
    turns = schema.turns.c
    counts = connection.execute(
        sa.select(turns.session_id, turns.outcome, turns.late, sa.func.count().label("n"))
        .where(turns.session_id.in_([row.id for row in rows]))
        .group_by(turns.session_id, turns.outcome, turns.late)
    )
    by_session: dict[str, list[Any]] = {}
    for count in counts:
        by_session.setdefault(count.session_id, []).append(count)
    found = []
    for row in rows:
        counted = _counted(row) or (asdict(statistics(shapes(connection, row.id))) if now else None)
        found.append(_record(row, by_session.get(row.id, ()), counted))
    return found


def _record(row: Any, counts: Iterable[Any], counted: dict[str, int | None] | None) -> SessionRecord:
    outcomes: Counter[str] = Counter()
    late = 0
    for count in counts:
        outcomes[count.outcome] += count.n
        late += count.n if count.late else 0
    return SessionRecord(
        id=row.id,
        state=row.state,
        created_at=row.created_at,
        updated_at=row.active_at,
        finished_at=row.finished_at,
        task_id=row.task_id,
        group_id=row.group_id,
        policy_version=row.policy_version,
        metadata=row.metadata,
        reward=row.reward,
        turns=row.turns,
        outcomes=dict(outcomes),
        late_turns=late,
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        statistics=counted,
        lease_id=row.lease_id if row.acked_at is None else None,
        acked_at=row.acked_at,
        acked_by=row.acked_by,
    )


def _counted(row: Any) -> dict[str, int | None] | None:
    return None if row.samples is None else {name: getattr(row, name) for name in _STATISTICS}
