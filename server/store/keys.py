"""Keys and secrets of a tape, as functions over a transaction."""

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from tickertape.server.errors import NotFound
from tickertape.server.store import schema
from tickertape.server.store.database import insert

_SESSION_KEYS = "session_keys"


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key, without what would let a reader use it. Times are seconds since the epoch."""

    id: str
    role: str
    """``agent``, ``trainer`` or ``admin``."""
    name: str
    created_at: float
    expires_at: float | None
    revoked_at: float | None


@dataclass(frozen=True, slots=True)
class Credentials:
    """All that a server must know to tell who calls."""

    keys: Mapping[str, KeyRecord]
    """By hash."""
    session_secret: bytes | None
    """``None``: no session key was made yet."""


def load(connection: sa.Connection) -> Credentials:
    """Returns what is on tape now."""
    rows = connection.execute(sa.select(schema.keys)).all()
    return Credentials({row.hash: _record(row) for row in rows}, _secret(connection))


def add_key(connection: sa.Connection, record: KeyRecord, digest: str) -> None:
    """Keeps a new key."""
    values = {name: getattr(record, name) for name in KeyRecord.__dataclass_fields__}
    connection.execute(schema.keys.insert().values(hash=digest, **values))


def list_keys(connection: sa.Connection) -> list[KeyRecord]:
    """Every key that there ever was, in order of creation."""
    order = schema.keys.c.created_at, schema.keys.c.id
    return [_record(row) for row in connection.execute(sa.select(schema.keys).order_by(*order))]


def revoke_key(connection: sa.Connection, key_id: str) -> KeyRecord:
    """Ends a key; its row stays, so that a tape whose last key was revoked does not open itself to everybody.

    Raises:
        NotFound: there is none of this id.
    """
    row = connection.execute(sa.select(schema.keys).where(schema.keys.c.id == key_id)).one_or_none()
    if row is None:
        raise NotFound(f"there is no key {key_id!r:.100}", param="key_id")
    if row.revoked_at is None:
        connection.execute(schema.keys.update().where(schema.keys.c.id == key_id).values(revoked_at=time.time()))
    return _record(connection.execute(sa.select(schema.keys).where(schema.keys.c.id == key_id)).one())


def session_secret(connection: sa.Connection, size: int) -> bytes:
    """The secret that session keys are signed with; made if there is none. Replicas that make it at once agree."""
    made = {"name": _SESSION_KEYS, "value": secrets.token_bytes(size), "created_at": time.time()}
    connection.execute(insert(connection, schema.secrets).values(made).on_conflict_do_nothing())
    secret = _secret(connection)
    assert secret is not None  # noqa: S101  (this transaction has put it there)
    return secret


def rotate_session_secret(connection: sa.Connection, size: int) -> None:
    """Another secret from now on: session keys that were made before are worth nothing."""
    connection.execute(schema.secrets.delete().where(schema.secrets.c.name == _SESSION_KEYS))
    session_secret(connection, size)


def _secret(connection: sa.Connection) -> bytes | None:
    found = connection.scalar(sa.select(schema.secrets.c.value).where(schema.secrets.c.name == _SESSION_KEYS))
    return None if found is None else bytes(found)


def _record(row: sa.Row[tuple[object, ...]]) -> KeyRecord:
    return KeyRecord(**{name: getattr(row, name) for name in KeyRecord.__dataclass_fields__})
