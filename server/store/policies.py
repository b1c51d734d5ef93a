"""The policies that were set, and which servers have done so. Every function works in the transaction it is given."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from tickertape.server.store import schema


@dataclass(frozen=True, slots=True)
class Order:
    """One setting of the policy; the last one holds."""

    number: int
    version: str | None
    paused: str | None
    """The pause's mode; ``None``: it is not paused."""
    timeout: float
    """Seconds that a pause may wait for what runs."""
    changed_at: float


@dataclass(frozen=True, slots=True)
class ReplicaProgress:
    """The progress that one server has made with an order."""

    host: str
    pid: int
    number: int
    """Of the order that it has followed last."""
    error: str | None
    """The reason why it could not."""
    told: Mapping[str, str]
    """The engines' answers, by name."""


def latest(connection: sa.Connection) -> Order | None:
    """The order that holds; ``None`` if there was none yet."""
    row = connection.execute(
        sa.select(schema.policies).order_by(schema.policies.c.number.desc()).limit(1)
    ).one_or_none()
    return None if row is None else Order(*row)


def put(connection: sa.Connection, version: str | None, paused: str | None, timeout: float, now: float) -> int:
    """Sets the policy for all servers of the tape; returns the order's number."""
    # The tape's row is locked, so that two orders at once have an order of their own.
    connection.execute(schema.tape.update().values(schema_version=schema.tape.c.schema_version))
    before = latest(connection)
    number = 1 if before is None else before.number + 1
    row = {"number": number, "version": version, "paused": paused, "timeout": timeout, "changed_at": now}
    connection.execute(schema.policies.insert().values(row))
    return number


def note_followed(
    connection: sa.Connection, run_id: str, number: int, error: str | None, told: Mapping[str, str]
) -> None:
    """A server has done what an order says, or says why it could not."""
    values: dict[str, Any] = {"policy_number": number, "policy_error": error, "policy_told": dict(told)}
    connection.execute(schema.runs.update().where(schema.runs.c.id == run_id).values(values))


def others(connection: sa.Connection, run_id: str, alive_since: float) -> list[ReplicaProgress]:
    """The other servers that run on this tape, as far as is known."""
    table = schema.runs.c
    columns = (table.host, table.pid, table.policy_number, table.policy_error, table.policy_told)
    query = sa.select(*columns).where(table.id != run_id, table.stopped_at.is_(None), table.seen_at >= alive_since)
    return [ReplicaProgress(*row[:4], row.policy_told or {}) for row in connection.execute(query)]
