"""States, groups, rewards, leases. Every session of version 1 is open: nobody has said that it is done.

What samples need of a turn's JSON gets a column of its own.
"""

import orjson
import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"
branch_labels = None
depends_on = None

_SESSIONS = [
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
_COUNTS = """
UPDATE sessions SET
  active_at = COALESCE((SELECT MAX(created_at) FROM turns WHERE session_id = sessions.id), created_at),
  turns = (SELECT COUNT(*) FROM turns WHERE session_id = sessions.id),
  prompt_tokens = COALESCE((SELECT SUM(LENGTH(prompt_delta)) / 4 FROM turns WHERE session_id = sessions.id), 0),
  completion_tokens = COALESCE((SELECT SUM(LENGTH(completion)) / 4 FROM turns WHERE session_id = sessions.id), 0),
  stored_bytes = COALESCE((SELECT SUM(LENGTH(prompt_delta) + LENGTH(completion) + LENGTH(logprobs) + LENGTH(rest))
    FROM turns WHERE session_id = sessions.id), 0)
"""
_TABLES = """
CREATE TABLE leases (
  id VARCHAR(64) NOT NULL, consumer VARCHAR(200) NOT NULL, created_at FLOAT NOT NULL, expires_at FLOAT NOT NULL,
  closed_at FLOAT, sessions INTEGER NOT NULL, acked INTEGER DEFAULT 0 NOT NULL, released INTEGER DEFAULT 0 NOT NULL,
  expired INTEGER DEFAULT 0 NOT NULL, options JSON NOT NULL, PRIMARY KEY (id));
CREATE TABLE rewards (
  turn_id VARCHAR(64) NOT NULL, session_id VARCHAR(200) NOT NULL, reward FLOAT, token_rewards BLOB,
  updated_at FLOAT NOT NULL, PRIMARY KEY (turn_id), FOREIGN KEY(session_id) REFERENCES sessions (id));
CREATE INDEX ix_rewards_session_id ON rewards (session_id);
CREATE INDEX leases_open ON leases (closed_at, expires_at);
CREATE UNIQUE INDEX sessions_by_finish ON sessions (finish_number);
CREATE INDEX sessions_by_group ON sessions (group_id);
CREATE INDEX sessions_by_lease ON sessions (lease_id);
CREATE INDEX sessions_by_task ON sessions (task_id);
CREATE INDEX sessions_to_lease ON sessions (acked_at, lease_id, finish_number)
"""


def upgrade() -> None:
    for column in _SESSIONS:
        op.execute(f"ALTER TABLE sessions ADD COLUMN {column}")
    op.execute("ALTER TABLE tape ADD COLUMN last_finish_number INTEGER NOT NULL DEFAULT 0")
    op.execute("ALTER TABLE turns ADD COLUMN late BOOLEAN NOT NULL DEFAULT FALSE")
    op.execute("ALTER TABLE turns ADD COLUMN layout BLOB NOT NULL DEFAULT '[[],[],[]]'")
    op.execute(_COUNTS)
    for statement in _TABLES.split(";"):
        op.execute(statement)
    _fill_layouts(op.get_bind())


def _fill_layouts(connection: sa.Connection) -> None:
    for (turn_id,) in connection.execute(sa.text("SELECT id FROM turns")).all():
        said = orjson.loads(connection.scalar(sa.text("SELECT rest FROM turns WHERE id = :id"), {"id": turn_id}))
        layout = [said["versions"], said["prompt_spans"], [message["role"] for message in said["messages"]]]
        values = {"layout": orjson.dumps(layout), "id": turn_id}
        connection.execute(sa.text("UPDATE turns SET layout = :layout WHERE id = :id"), values)
