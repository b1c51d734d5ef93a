"""Leases: finished sessions handed out to consumers, each to one at a time, until it is acked once.

The unit is the session: all its samples go to one consumer and are acked together. A lease that expires loses its
sessions when a consumer next asks for samples; until then its holder may still ack, so that work that is done is not
done again.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from tickertape.server.errors import Conflict, NotFound
from tickertape.server.store import schema
from tickertape.server.store.filters import SessionFilter
from tickertape.server.store.rollouts import Sized, finished, fit, sizes
from tickertape.server.store.schema import State
from tickertape.server.store.sessions import lock_all
from tickertape.server.trajectories.options import SampleOptions

_log = logging.getLogger("tickertape")
_IDS_A_STATEMENT = 10_000


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """One lease. Times are seconds since the epoch."""

    id: str
    consumer: str
    created_at: float
    expires_at: float
    closed_at: float | None
    """Time at which the last of its sessions was acked, released or taken back."""
    sessions: int
    """Number of sessions that it was given."""
    acked: int
    released: int
    expired: int
    options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Remaining:
    """Counts of what there is beside a lease, in sessions."""

    available: int
    """Finished, of this filter, and not handed out."""
    stale: int
    """As those, but without a turn that is fresh enough: no consumer gets them by this filter."""
    leased: int
    """With a consumer that has not acked them."""
    open: int
    """Not finished."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The lease and the sessions that a consumer got."""

    lease: LeaseRecord | None
    """``None`` if there was nothing to get."""
    sessions: list[Sized]
    remaining: Remaining


def take(
    connection: sa.Connection,
    lease_id: str,
    consumer: str,
    wanted: SessionFilter,
    options: SampleOptions,
    options_json: dict[str, Any],
    *,
    max_samples: int,
    max_tokens: int,
    expires_in: float,
    now: float,
    expired_by: float | None = None,
) -> Taken:
    """Hands out finished sessions in the order of finishing, up to the limits; one that alone exceeds them is handed
    out alone. First takes back what has expired by ``expired_by``, by now if it is not given."""
    take_back_expired(connection, now if expired_by is None else expired_by)
    samples, tokens = sizes(options)
    table = schema.sessions.c
    query = (
        sa.select(table.id, table.finish_number, samples.label("samples"), tokens.label("tokens"))
        .where(*_free(), *finished(wanted, options))
        .order_by(table.finish_number)
        .limit(max_samples)
        .with_for_update(skip_locked=True)  # where rows can be locked; SQLite has one writer anyway
    )
    chosen = fit([Sized(*row) for row in connection.execute(query)], max_samples, max_tokens)
    if not chosen:
        return Taken(None, [], _remaining(connection, wanted, options))
    _update(connection, [each.id for each in chosen], {"lease_id": lease_id})
    row = {
        "id": lease_id,
        "consumer": consumer,
        "created_at": now,
        "expires_at": now + expires_in,
        "sessions": len(chosen),
        "options": options_json,
    }
    connection.execute(schema.leases.insert().values(row))
    return Taken(_record(connection, lease_id), chosen, _remaining(connection, wanted, options))


def get(connection: sa.Connection, lease_id: str) -> LeaseRecord:
    """One lease.

    Raises:
        NotFound: there is none of that id.
    """
    return _record(connection, lease_id)


def held(connection: sa.Connection, lease_id: str) -> list[Sized]:
    """The sessions that a lease still holds, in the order of finishing.

    Raises:
        NotFound, Conflict: see :func:`ack`.
    """
    _open(connection, lease_id)
    table = schema.sessions.c
    query = sa.select(table.id, table.finish_number, table.samples, table.per_turn_tokens).where(*_held(lease_id))
    return [Sized(*row) for row in connection.execute(query.order_by(table.finish_number))]


def ack(connection: sa.Connection, lease_id: str, session_ids: Sequence[str] | None, now: float) -> LeaseRecord:
    """The holder is done with sessions, with all if none are named. They are never handed out again. Asked twice, it
    changes nothing.

    Raises:
        NotFound: there is no such lease.
        Conflict: they went back before: it expired, or they were released.
    """
    lease = _record(connection, lease_id, locked=True)
    table = schema.sessions.c
    mine = table.lease_id == lease_id
    if session_ids is None:
        if lease.released or lease.expired:
            _refuse_gone(lease)
    else:
        known = {row.id for row in connection.execute(sa.select(table.id).where(mine))}
        for session_id in session_ids:
            if session_id not in known:
                _refuse_not_held(lease, session_id)
    acked = _change(connection, lease_id, session_ids, {"acked_at": now, "acked_by": lease.consumer})
    return _settle(connection, lease_id, "acked", acked, now)


def release(connection: sa.Connection, lease_id: str, session_ids: Sequence[str] | None, now: float) -> LeaseRecord:
    """Gives back the holder's sessions, all that it has not acked if none are named; others may have them at once.

    Raises:
        NotFound: there is no such lease.
    """
    _record(connection, lease_id, locked=True)
    released = _change(connection, lease_id, session_ids, {"lease_id": None})
    return _settle(connection, lease_id, "released", released, now)


def extend(connection: sa.Connection, lease_id: str, expires_in: float, now: float) -> LeaseRecord:
    """Lets a lease expire ``expires_in`` seconds from now.

    Raises:
        NotFound, Conflict: see :func:`ack`.
    """
    _open(connection, lease_id, locked=True)
    row = schema.leases.update().where(schema.leases.c.id == lease_id).values(expires_at=now + expires_in)
    connection.execute(row)
    return _record(connection, lease_id)


def take_back_expired(connection: sa.Connection, now: float) -> None:
    """Returns the sessions of expired leases."""
    table = schema.leases.c
    query = sa.select(table.id, table.consumer).where(table.closed_at.is_(None), table.expires_at <= now)
    expired = connection.execute(query.order_by(table.id).with_for_update(skip_locked=True)).all()
    if not expired:
        return
    held = schema.sessions.c
    lock_all(connection, held.lease_id.in_([lease.id for lease in expired]), held.acked_at.is_(None))
    for lease_id, consumer in expired:
        returned = _change(connection, lease_id, None, {"lease_id": None})
        _settle(connection, lease_id, "expired", returned, now)
        _log.warning("lease %s of %s expired: %d sessions can be leased again", lease_id, consumer, returned)


def _free() -> list[sa.ColumnElement[bool]]:
    table = schema.sessions.c
    return [table.acked_at.is_(None), table.lease_id.is_(None), table.samples > 0]


def _held(lease_id: str) -> list[sa.ColumnElement[bool]]:
    table = schema.sessions.c
    return [table.lease_id == lease_id, table.acked_at.is_(None)]


def _remaining(connection: sa.Connection, wanted: SessionFilter, options: SampleOptions) -> Remaining:
    table = schema.sessions.c

    def count(*conditions: sa.ColumnElement[bool]) -> int:
        query = sa.select(sa.func.count()).select_from(schema.sessions).where(*wanted.conditions(), *conditions)
        return connection.scalar(query) or 0

    free = (table.state == State.FINISHED.value, *_free())
    available = count(*free, *finished(wanted, options))
    return Remaining(
        available=available,
        stale=count(*free) - available,
        leased=count(table.lease_id.is_not(None), table.acked_at.is_(None)),
        open=count(table.state == State.OPEN.value),
    )


def _change(connection: sa.Connection, lease_id: str, session_ids: Sequence[str] | None, values: dict[str, Any]) -> int:
    """Changes the sessions that a lease holds, or those of them that are named; returns how many."""
    lock_all(connection, *_held(lease_id))
    if session_ids is None:
        update = schema.sessions.update().where(*_held(lease_id)).values(**values)
        return connection.execute(update).rowcount
    return _update(connection, session_ids, values, *_held(lease_id))


def _update(
    connection: sa.Connection, session_ids: Sequence[str], values: dict[str, Any], *also: sa.ColumnElement[bool]
) -> int:
    changed = 0
    for start in range(0, len(session_ids), _IDS_A_STATEMENT):
        some = session_ids[start : start + _IDS_A_STATEMENT]
        update = schema.sessions.update().where(schema.sessions.c.id.in_(some), *also).values(**values)
        changed += connection.execute(update).rowcount
    return changed


def _settle(connection: sa.Connection, lease_id: str, what: str, number: int, now: float) -> LeaseRecord:
    """Counts sessions that left the lease, and closes it after the last one."""
    table = schema.leases.c
    update = schema.leases.update().where(table.id == lease_id)
    connection.execute(update.values({what: table[what] + number}))
    gone = table.acked + table.released + table.expired
    connection.execute(update.where(table.closed_at.is_(None), gone >= table.sessions).values(closed_at=now))
    return _record(connection, lease_id)


def _open(connection: sa.Connection, lease_id: str, *, locked: bool = False) -> LeaseRecord:
    lease = _record(connection, lease_id, locked=locked)
    if lease.closed_at is not None:
        _refuse_gone(lease)
    return lease


def _record(connection: sa.Connection, lease_id: str, *, locked: bool = False) -> LeaseRecord:
    query = sa.select(schema.leases).where(schema.leases.c.id == lease_id)
    row = connection.execute(query.with_for_update() if locked else query).one_or_none()
    if row is None:
        raise NotFound(f"there is no lease {lease_id!r}", param="lease_id", code="lease_not_found")
    return LeaseRecord(**row._mapping)


def _refuse_gone(lease: LeaseRecord) -> None:
    if lease.expired:
        raise Conflict(
            f"the lease {lease.id!r} expired, and {lease.expired} of its {lease.sessions} sessions went back: "
            "extend a lease while you work on it, or ask for a longer one",
            param="lease_id",
            code="lease_expired",
        )
    raise Conflict(
        f"the lease {lease.id!r} holds nothing any more: {lease.acked} of its {lease.sessions} sessions were acked and "
        f"{lease.released} released",
        param="lease_id",
        code="lease_closed",
    )


def _refuse_not_held(lease: LeaseRecord, session_id: str) -> None:
    if lease.expired:
        _refuse_gone(lease)
    raise Conflict(
        f"the lease {lease.id!r} does not hold the session {session_id!r}", param="sessions", code="not_leased"
    )
