"""Which sessions are meant."""

from dataclasses import dataclass, field

import sqlalchemy as sa

from tickertape.server.store import schema
from tickertape.server.store.database import json_equals
from tickertape.server.store.schema import State
from tickertape.server.trajectories.options import OptionError
from tickertape.server.trajectories.turn import Outcome

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """Every condition that is given must hold. Times are seconds since the epoch; ``after`` includes its own moment,
    ``before`` does not."""

    state: State | None = None
    task_id: str | None = None
    group_id: str | None = None
    policy_version: str | None = None
    outcome: Outcome | None = None
    """A turn of the session ended like this."""
    created_after: float | None = None
    created_before: float | None = None
    finished_after: float | None = None
    finished_before: float | None = None
    metadata: dict[str, Scalar] = field(default_factory=dict)
    """Keys of the session's metadata and what each must equal, in type too; ``None``: null, or no such key."""

    def __post_init__(self) -> None:
        for key in self.metadata:
            if any(mark in key for mark in '"\\\0'):
                raise OptionError(
                    f"metadata.{key}: keys with quotation marks, backslashes or nulls cannot be asked for",
                    key,
                )

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """As SQL over ``sessions``."""
        table = schema.sessions.c
        found: list[sa.ColumnElement[bool]] = []
        for name in ("state", "task_id", "group_id", "policy_version"):
            value = getattr(self, name)
            if value is not None:
                found.append(table[name] == value)
        for column, after, before in (
            (table.created_at, self.created_after, self.created_before),
            (table.finished_at, self.finished_after, self.finished_before),
        ):
            if after is not None:
                found.append(column >= after)
            if before is not None:
                found.append(column < before)
        if self.outcome is not None:
            turns = schema.turns.c
            found.append(sa.exists().where(turns.session_id == table.id, turns.outcome == self.outcome.value))
        return found + [json_equals(table.metadata, key, value) for key, value in self.metadata.items()]
