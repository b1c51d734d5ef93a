"""From older tapes to this one, by alembic: a step for each schema version.

A step says what it changes in words of its own, so that it stays right when the schema moves on.
"""
