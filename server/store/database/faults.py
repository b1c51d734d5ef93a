"""The attribution of errors: the store's own, or that of what it was to hold."""

import sqlite3

import sqlalchemy as sa

#: SQLite's primary result codes that are no fault of a statement or its values.
_SQLITE = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOTADB,
}
#: PostgreSQL's classes of SQLSTATE (Appendix A): connections, read-only, rolled back for another transaction's sake,
#: resources, not in the state for it, intervention of an operator, the system, and broken data.
_POSTGRES = ("08", "25006", "40", "53", "55", "57", "58", "XX")


def is_unavailable(error: BaseException) -> bool:
    """Returns True if an error of SQLAlchemy's or of a driver's is the store's own."""
    if isinstance(error, sa.exc.DBAPIError):
        return error.connection_invalidated or (error.orig is not None and is_unavailable(error.orig))
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in _SQLITE
    if isinstance(error, sa.exc.TimeoutError):  # no connection was free
        return True
    if not hasattr(error, "sqlstate"):
        return False
    state = error.sqlstate  # psycopg's; none where it did not get as far as the server
    return state is None if type(error).__name__ == "OperationalError" else str(state).startswith(_POSTGRES)
