"""The address of a tape: a path or URL, read; and as it may be shown."""

from pathlib import Path

import sqlalchemy as sa

from tickertape.server.store.database.errors import StoreError

_POSTGRES = ("postgresql", "postgres", "postgresql+psycopg")
_SECRET = ("password", "passfile", "sslpassword")


def address(place: str | Path) -> sa.URL:
    """A path or ``sqlite:///…`` is a file of SQLite's, ``postgresql://…`` (or ``postgres://``,
    ``postgresql+psycopg://``) a database of a PostgreSQL server.

    Raises:
        StoreError: it is another URL, or one that cannot be read. The text does not repeat it: it may hold a password.
    """
    scheme, separator, _ = str(place).partition("://")
    if isinstance(place, Path) or not separator:
        return sa.URL.create("sqlite", database=str(place))
    try:
        url = sa.make_url(place)
    except (sa.exc.ArgumentError, ValueError):
        raise StoreError(f"the address {scheme}://… of the tape is no URL that can be read") from None
    if scheme == "sqlite":
        if url.host or not url.database:
            raise StoreError("the address of the tape must be sqlite:/// and a path")
        return sa.URL.create("sqlite", database=url.database)
    if scheme in _POSTGRES:
        return url.set(drivername="postgresql+psycopg")
    raise StoreError(f"a tape is a path, sqlite:///PATH or postgresql://USER@HOST/DATABASE, not {scheme}://…")


def check_place(place: str | Path, *, make: bool = True) -> None:
    """Looks whether a tape can be there, without opening it.

    Args:
        place: see :func:`address`.
        make: a file of SQLite's may be missing, since it is made; its folder may not.

    Raises:
        StoreError: it cannot.
    """
    url = address(place)
    if url.drivername != "sqlite" or url.database == ":memory:":
        return
    path = Path(url.database or "")
    folder = path.resolve().parent
    if path.is_dir():
        why = "it is a folder; name a file in it"
    elif not folder.is_dir():
        why = f"there is no folder {folder}"
    elif not make and not path.exists():
        why = "there is no such file"
    else:
        return
    raise StoreError(f"the tape {path} cannot be opened: {why}")


def is_postgres(place: str | Path) -> bool:
    """Returns True if it names a database of a PostgreSQL server."""
    return isinstance(place, str) and place.partition("://")[0] in _POSTGRES and "://" in place


def shown(url: sa.URL) -> str:
    """As people may read it: without its password."""
    if url.drivername == "sqlite":
        return url.database or ""
    hidden = {name: "***" for name in _SECRET if name in url.query}
    url = url.set(drivername="postgresql").update_query_dict(hidden)
    return url.render_as_string(hide_password=True).replace("%2A%2A%2A", "***").replace("%2F", "/")


def shown_place(place: str | Path) -> str:
    """A path or URL as people may read it.

    Raises:
        StoreError: see :func:`address`.
    """
    return shown(address(place))
