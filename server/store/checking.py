"""A check that trees on tape are sound: parents, places, lengths, spans. Finds, and repairs nothing."""

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import sqlalchemy as sa

from tickertape.server.store import schema
from tickertape.server.store.rows import Layout

#: Sessions looked at, at most, and turns of one that are.
MOST_SESSIONS, MOST_TURNS = 200, 2000

_TABLE = schema.turns.c
#: Lengths in bytes; blobs themselves stay where they are.
_COLUMNS = (
    _TABLE.seq,
    _TABLE.id,
    _TABLE.parent_id,
    _TABLE.layout,
    *(sa.func.length(_TABLE[name]).label(name) for name in ("prompt_delta", "completion", "logprobs")),
)


class Broken(NamedTuple):
    """The fault of a session."""

    session_id: str
    finding: str


def check_recent(connection: sa.Connection, seconds: float) -> tuple[int, list[Broken]]:
    """Looks at the sessions that were active last, for about so long.

    Returns:
        How many it looked at, and what is wrong.
    """
    until = time.monotonic() + seconds
    table = schema.sessions.c
    # By creation, which has an index: a session is rarely active long after.
    recent = sa.select(table.id, table.turns, table.next_seq).order_by(table.created_at.desc(), table.id.desc())
    checked, broken = 0, []
    for session in connection.execute(recent.limit(MOST_SESSIONS)).all():
        if time.monotonic() > until:
            break
        if session.turns > MOST_TURNS:
            continue
        checked += 1
        broken += [Broken(session.id, finding) for finding in _findings(connection, session)]
    return checked, broken


def _findings(connection: sa.Connection, session: Any) -> Iterator[str]:
    query = sa.select(*_COLUMNS).where(_TABLE.session_id == session.id).order_by(_TABLE.seq)
    rows = connection.execute(query).all()
    if len(rows) != session.turns:
        yield f"it counts {session.turns} turns and has {len(rows)}"
    if [row.seq for row in rows] != list(range(session.next_seq)):
        yield f"the places of its turns are not 0 to {session.next_seq - 1}, each once"
    places = {row.id: row.seq for row in rows}
    for row in rows:
        if row.parent_id is not None and places.get(row.parent_id, row.seq) >= row.seq:
            yield f"the parent of turn {row.id} does not stand before it"
        yield from _wrong_lengths(row)


def _wrong_lengths(row: Any) -> Iterator[str]:
    for name in ("prompt_delta", "completion"):
        if getattr(row, name) % 4:
            yield f"turn {row.id} has {getattr(row, name)} bytes of {name}, no whole number of tokens"
    if row.logprobs != row.completion:
        yield f"turn {row.id} has {row.completion // 4} sampled tokens and {row.logprobs // 4} logprobs"
    try:
        layout = Layout.read(row.layout)
    except (ValueError, TypeError) as error:
        yield f"the layout of turn {row.id} cannot be read: {error}"
        return
    spans = sum(length for _, _, length in layout.prompt_spans)
    if spans != row.prompt_delta // 4 and layout.prompt_spans:
        yield f"the spans of turn {row.id} cover {spans} of {row.prompt_delta // 4} prompt tokens"
    stamped = sum(length for _, length in layout.versions)
    if stamped != row.completion // 4:
        yield f"the policy versions of turn {row.id} cover {stamped} of {row.completion // 4} sampled tokens"
