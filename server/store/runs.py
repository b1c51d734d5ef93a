"""Runs: a row for each server process that has run on this tape, kept fresh while it does."""

import os
import secrets
import socket
from dataclasses import dataclass
from importlib.metadata import version

import sqlalchemy as sa

from tickertape.server.store import schema

#: Seconds between two signs of life.
EVERY = 10.0
#: As good as never: a process that only reads shows no sign of life.
NEVER = 1e6
#: Seconds without one after which a run is taken for dead.
DEAD = 4 * EVERY


@dataclass(frozen=True, slots=True)
class ServerRun:
    """One process's run."""

    id: str
    host: str
    pid: int
    started_at: float
    seen_at: float
    stopped_at: float | None
    """``None`` while it runs, and if it was killed."""


def new_run_id() -> str:
    return secrets.token_hex(8)


def begin(connection: sa.Connection, run_id: str, now: float) -> None:
    """This process has begun to serve."""
    connection.execute(
        schema.runs.insert().values(
            id=run_id,
            host=socket.gethostname(),
            pid=os.getpid(),
            started_at=now,
            seen_at=now,
            version=version("tickertape"),
        )
    )


def note_seen(connection: sa.Connection, run_id: str | None, now: float) -> None:
    """It is alive; also what shows that the tape can be written."""
    if run_id is None:  # no server runs: the tape's own row is written as it is
        connection.execute(schema.tape.update().values(schema_version=schema.tape.c.schema_version))
        return
    connection.execute(schema.runs.update().where(schema.runs.c.id == run_id).values(seen_at=now))


def end(connection: sa.Connection, run_id: str, now: float) -> None:
    """It has stopped in good order."""
    connection.execute(schema.runs.update().where(schema.runs.c.id == run_id).values(seen_at=now, stopped_at=now))


def last(connection: sa.Connection, *, most: int = 20) -> list[ServerRun]:
    """The runs that began last, the newest first."""
    table = schema.runs.c
    columns = (table.id, table.host, table.pid, table.started_at, table.seen_at, table.stopped_at)
    rows = connection.execute(sa.select(*columns).order_by(table.started_at.desc()).limit(most))
    return [ServerRun(*row) for row in rows]
