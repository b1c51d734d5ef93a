"""The differences between databases, in one place: connecting, transactions, upserts, JSON. Everything else under
``store`` is SQLAlchemy Core that SQLite and PostgreSQL both understand."""

from tickertape.server.store.database.address import address, check_place, is_postgres, shown, shown_place
from tickertape.server.store.database.database import Database
from tickertape.server.store.database.errors import NotHoldable, StoreError, StoreUnavailable
from tickertape.server.store.database.statements import insert, insert_plain, json_equals, returned

__all__ = [
    "Database",
    "NotHoldable",
    "StoreError",
    "StoreUnavailable",
    "address",
    "check_place",
    "insert",
    "insert_plain",
    "is_postgres",
    "json_equals",
    "returned",
    "shown",
    "shown_place",
]
