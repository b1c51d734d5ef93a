"""Conversations of clients that name no session, known again by what was said in them."""

from collections.abc import Sequence

import sqlalchemy as sa

from tickertape.server.store import schema
from tickertape.server.store.schema import State

#: Of the last messages: whoever goes on with a conversation repeats the end of it, too.
_MOST = 50


def find(connection: sa.Connection, client: bytes, digests: Sequence[bytes]) -> str | None:
    """The open session of the deepest conversation that a request goes on with, the newest of several.

    Args:
        connection: reads.
        client: the client's digest.
        digests: of the request's messages, each with all before it.
    """
    turns, sessions = schema.turns.c, schema.sessions.c
    asked = [*digests[-_MOST:]]
    query = (
        sa.select(turns.context_digest, turns.session_id)
        .join(schema.sessions, sessions.id == turns.session_id)
        .where(turns.client_digest.is_not(None), turns.client_digest == client, turns.context_digest.in_(asked))
        .where(sessions.state == State.OPEN.value)
        .order_by(turns.created_at)
    )
    found = {row.context_digest: row.session_id for row in connection.execute(query)}
    return next((found[digest] for digest in reversed(asked) if digest in found), None)
