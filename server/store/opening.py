"""A tape is opened: made if it is new, led to this schema version if it is older, refused if it is newer."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from tickertape.server.store import schema
from tickertape.server.store.database import StoreError

if TYPE_CHECKING:  # alembic is imported where it is used: a tape that is of this version needs none of it
    from alembic.script import ScriptDirectory

_MIGRATIONS = Path(__file__).with_name("migrations")


def open_tape(connection: sa.Connection, *, make: bool = True) -> None:
    """Makes the tape one of this schema version, in the transaction of ``connection``: wholly, or it stays as it is.

    Raises:
        StoreError: it is of a later schema version; or there is none, and none is to be made.
    """
    if not make and not sa.inspect(connection).has_table(schema.tape.name):
        raise StoreError("there is no tape in it")
    schema.tape.create(connection, checkfirst=True)
    version = connection.scalar(sa.select(schema.tape.c.schema_version))
    if version is None:
        schema.metadata.create_all(connection)
        connection.execute(schema.tape.insert().values(schema_version=schema.SCHEMA_VERSION))
        _stamp(connection)
    elif version > schema.SCHEMA_VERSION:
        raise StoreError(f"it has schema version {version}, this Tickertape reads up to {schema.SCHEMA_VERSION}")
    elif version < schema.SCHEMA_VERSION:
        _upgrade(connection)
        connection.execute(schema.tape.update().values(schema_version=schema.SCHEMA_VERSION))


@cache
def scripts() -> "ScriptDirectory":
    """The steps."""
    from alembic.script import ScriptDirectory

    return ScriptDirectory(str(_MIGRATIONS))


def _stamp(connection: sa.Connection) -> None:
    from alembic.migration import MigrationContext

    MigrationContext.configure(connection).stamp(scripts(), str(schema.SCHEMA_VERSION))


def _upgrade(connection: sa.Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
