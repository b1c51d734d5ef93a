"""``tickertape keys``: works on the tape itself, so that the first key can be made while no caller can ask for one."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Concatenate, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from tickertape.server.auth.access import Role
from tickertape.server.commands.output import reported, say
from tickertape.server.settings.sources import load

if TYPE_CHECKING:  # imported where they are used: help needs no database
    import sqlalchemy as sa

    from tickertape.server.store.keys import KeyRecord

P = ParamSpec("P")
T = TypeVar("T")

keys = typer.Typer(no_args_is_help=True, help="API keys of a tape: made, listed, revoked.")

_Db = Annotated[str | None, typer.Option(help="The tape; default: what `tickertape serve` would take.")]
_Config = Annotated[Path | None, typer.Option(help="Settings as a TOML file; also $TICKERTAPE_CONFIG.")]
_DAY = 86400.0


@keys.command("create")
@reported()
def create(
    role: Annotated[Role, typer.Option(help="What it may do: see docs/security.md.")],
    name: Annotated[str, typer.Option(help="For whom or what it is.")],
    days: Annotated[float | None, typer.Option(min=0, help="Days until it expires. Default: never.")] = None,
    db: _Db = None,
    config: _Config = None,
) -> None:
    """Make a key and print it, once: the tape keeps its hash. From the first key on the server asks for one."""
    if not 0 < len(name) <= 200:
        raise typer.BadParameter("a name has 1 to 200 characters", param_hint="--name")
    from tickertape.server.auth.keyring import make_key
    from tickertape.server.store import keys as rows

    made = make_key(role, name, None if days is None else days * _DAY)
    where = _write(db, config, True, rows.add_key, made.record, made.digest)[0]
    say(f"{role} key {made.record.id} ({name}), {_expiry(made.record)}; on the tape {where}. It is not shown again:")
    if role is Role.AGENT:
        say(f"Sessions that it opens itself have ids that begin with '{made.record.id}.', or none that it names")
    typer.echo(made.key)


@keys.command("list")
@reported()
def list_all(db: _Db = None, config: _Config = None) -> None:
    """Every key that was made on a tape; none of them can be read from it."""
    from tickertape.server.store.keys import list_keys

    _, found = _write(db, config, False, list_keys)
    table = Table("id", "role", "name", "made", "state", box=None, pad_edge=False)
    for record in found:
        table.add_row(record.id, record.role, record.name, _day(record.created_at), _state(record))
    Console(highlight=False).print(table if found else "there is no key")


@keys.command("revoke")
@reported()
def revoke(
    key_id: Annotated[str, typer.Argument(help="As `tickertape keys list` has it.")],
    db: _Db = None,
    config: _Config = None,
) -> None:
    """End a key; running servers refuse it within two seconds."""
    from tickertape.server.store.keys import revoke_key

    _, record = _write(db, config, False, revoke_key, key_id)
    say(f"{record.role} key {record.id} ({record.name}) is revoked")


@keys.command("rotate-secret")
@reported()
def rotate(db: _Db = None, config: _Config = None) -> None:
    """Sign session keys with another secret from now on: those made before end, within two seconds."""
    from tickertape.server.auth.session_keys import SECRET_SIZE
    from tickertape.server.store.keys import rotate_session_secret

    where, _ = _write(db, config, False, rotate_session_secret, SECRET_SIZE)
    say(f"session keys of the tape {where} that were made before now are worth nothing")


def _write(
    db: str | None,
    config: Path | None,
    make: bool,
    function: "Callable[Concatenate[sa.Connection, P], T]",
    *args: P.args,
    **kwargs: P.kwargs,
) -> tuple[str, T]:
    """The tape's name, and what the function says of it. Only who makes a key may make the tape, too."""
    # A key must not be made on a tape of its own because another setting is wrong: all of them are read.
    from tickertape.server.store.database import shown_place
    from tickertape.server.store.store import Store

    path = load({} if db is None else {"db": db}, config=config).settings.db
    store = Store(path, make=make)
    try:
        return shown_place(path), asyncio.run(store.write(function, *args, **kwargs))
    finally:
        store.close()


def _state(record: "KeyRecord") -> str:
    if record.revoked_at is not None:
        return f"revoked {_day(record.revoked_at)}"
    if record.expires_at is not None and record.expires_at <= time.time():
        return f"expired {_day(record.expires_at)}"
    return f"good, {_expiry(record)}"


def _expiry(record: "KeyRecord") -> str:
    return "until it is revoked" if record.expires_at is None else f"until {_day(record.expires_at)}"


def _day(when: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(when))
