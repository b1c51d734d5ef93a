"""From older tapes to this one: a function for each step of the schema version.

A step says what it adds in words of its own, so that it stays right when the schema moves on.
"""

from collections.abc import Callable

import orjson
import sqlalchemy as sa

from tickertape.server.store import schema

_V2_SESSIONS = [
    "active_at FLOAT NOT NULL DEFAULT 0",
    "state VARCHAR(16) NOT NULL DEFAULT 'open'",
    "task_id VARCHAR(200)",
    "group_id VARCHAR(200)",
    "policy_version VARCHAR(200)",
    "metadata JSON NOT NULL DEFAULT '{}'",
    "reward FLOAT",
    "turns INTEGER NOT NULL DEFAULT 0",
    "prompt_tokens INTEGER NOT NULL DEFAULT 0",
    "completion_tokens INTEGER NOT NULL DEFAULT 0",
    "stored_bytes INTEGER NOT NULL DEFAULT 0",
    "finished_at FLOAT",
    "finish_number INTEGER",
    "samples INTEGER",
    "sample_tokens INTEGER",
    "sampled_turns INTEGER",
    "sampled_tokens INTEGER",
    "per_turn_tokens INTEGER",
    "freshest INTEGER",
    "lease_id VARCHAR(64)",
    "acked_at FLOAT",
    "acked_by VARCHAR(200)",
]
_V2_COUNTS = """
UPDATE sessions SET
  active_at = COALESCE((SELECT MAX(created_at) FROM turns WHERE session_id = sessions.id), created_at),
  turns = (SELECT COUNT(*) FROM turns WHERE session_id = sessions.id),
  prompt_tokens = COALESCE((SELECT SUM(LENGTH(prompt_delta)) / 4 FROM turns WHERE session_id = sessions.id), 0),
  completion_tokens = COALESCE((SELECT SUM(LENGTH(completion)) / 4 FROM turns WHERE session_id = sessions.id), 0),
  stored_bytes = COALESCE((SELECT SUM(LENGTH(prompt_delta) + LENGTH(completion) + LENGTH(logprobs) + LENGTH(rest))
    FROM turns WHERE session_id = sessions.id), 0)
"""


def _to_2(connection: sa.Connection) -> None:
    """States, groups, rewards, leases. Every session of version 1 is open: nobody has said that it is done.

    What samples need of a turn's JSON gets a column of its own.
    """
    for column in _V2_SESSIONS:
        connection.exec_driver_sql(f"ALTER TABLE sessions ADD COLUMN {column}")
    connection.exec_driver_sql("ALTER TABLE tape ADD COLUMN last_finish_number INTEGER NOT NULL DEFAULT 0")
    connection.exec_driver_sql("ALTER TABLE turns ADD COLUMN late BOOLEAN NOT NULL DEFAULT FALSE")
    connection.exec_driver_sql("ALTER TABLE turns ADD COLUMN layout BLOB NOT NULL DEFAULT '[[],[],[]]'")
    connection.exec_driver_sql(_V2_COUNTS)
    for (turn_id,) in connection.execute(sa.text("SELECT id FROM turns")).all():
        said = orjson.loads(connection.scalar(sa.text("SELECT rest FROM turns WHERE id = :id"), {"id": turn_id}))
        layout = [said["versions"], said["prompt_spans"], [message["role"] for message in said["messages"]]]
        values = {"layout": orjson.dumps(layout), "id": turn_id}
        connection.execute(sa.text("UPDATE turns SET layout = :layout WHERE id = :id"), values)


_V3_ARRAYS = """
CREATE TABLE token_arrays (
  turn_id VARCHAR(64) NOT NULL, name VARCHAR(64) NOT NULL, session_id VARCHAR(200) NOT NULL,
  dtype VARCHAR(16) NOT NULL, shape JSON NOT NULL, data BLOB NOT NULL,
  PRIMARY KEY (turn_id, name), FOREIGN KEY(session_id) REFERENCES sessions (id))
"""


def _to_3(connection: sa.Connection) -> None:
    """Token arrays; no turn of version 2 has any."""
    connection.exec_driver_sql(_V3_ARRAYS)


_V4_HIDDEN = """
CREATE TABLE hidden_answers (
  turn_id VARCHAR(64) NOT NULL, session_id VARCHAR(200) NOT NULL, hidden_at FLOAT NOT NULL,
  PRIMARY KEY (turn_id), FOREIGN KEY(session_id) REFERENCES sessions (id))
"""


def _to_4(connection: sa.Connection) -> None:
    """Answers that clients have deleted; none of version 3 was."""
    connection.exec_driver_sql(_V4_HIDDEN)


#: The version that a step leads to, and the step.
STEPS: dict[int, Callable[[sa.Connection], None]] = {2: _to_2, 3: _to_3, 4: _to_4}


def migrate(connection: sa.Connection, version: int) -> None:
    """Leads a tape of ``version`` to the schema's, in the transaction of ``connection``. What it finds there stays."""
    for number in range(version + 1, schema.SCHEMA_VERSION + 1):
        STEPS[number](connection)
    schema.metadata.create_all(connection)
    for table in schema.metadata.sorted_tables:
        for index in table.indexes:
            index.create(connection, checkfirst=True)
    connection.execute(schema.tape.update().values(schema_version=schema.SCHEMA_VERSION))
