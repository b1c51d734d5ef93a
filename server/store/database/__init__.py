"""What differs between databases, in one place: connecting, transactions, upserts, JSON. Everything else under
``store`` is SQLAlchemy Core that SQLite and PostgreSQL both understand."""

from tickertape.server.store.database.database import Database, StoreError, insert, json_equals, returned

__all__ = ["Database", "StoreError", "insert", "json_equals", "returned"]
