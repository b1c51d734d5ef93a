"""alembic's environment: the connection that ``opening`` hands it, in the transaction that is open there."""

from alembic import context

from tickertape.server.store import schema

context.configure(connection=context.config.attributes["connection"], target_metadata=schema.metadata)
context.run_migrations()
