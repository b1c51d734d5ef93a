"""The tables: a row for each session and each turn, each set of tools once, rewards, leases and token arrays beside
them; and what the servers of one tape share: keys, secrets, who is running.

Token ids are packed little-endian int32, logprobs and token rewards little-endian float32. JSON holds what is only ever
read completely. Turns are never changed; rewards, which come later and may change, have a table of their own.
"""

from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy import Boolean, Column, Float, ForeignKey, Index, LargeBinary, MetaData, String, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

#: Raised with every change of these tables, by a step in ``migrations/versions`` that leads an older tape to it.
SCHEMA_VERSION = 1

# One schema for both databases. SQLite's integers have 64 bits whatever they are called, and its JSON is text; what is
# compared in type on PostgreSQL is jsonb.
Integer = sa.BigInteger().with_variant(sa.Integer, "sqlite")
Json = sa.JSON().with_variant(JSONB, "postgresql")


class State(StrEnum):
    """Of a session."""

    OPEN = "open"
    FINISHED = "finished"
    """Its samples are ready; later turns are refused."""
    DISCARDED = "discarded"
    """Kept for the record, never a sample."""


metadata = MetaData()

tape = Table(
    "tape",
    metadata,
    Column("schema_version", Integer, primary_key=True),
    # The finish_number given out last. It never goes back, whatever is deleted: a cursor must not miss a session.
    Column("last_finish_number", Integer, nullable=False, server_default=sa.text("0")),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", String(200), primary_key=True),
    Column("created_at", Float, nullable=False),
    Column("active_at", Float, nullable=False, server_default=sa.text("0")),  # when its last turn's request came in
    Column("state", String(16), nullable=False, server_default=State.OPEN.value),
    Column("task_id", String(200)),
    Column("group_id", String(200)),
    Column("policy_version", String(200)),  # the one that its turns are expected to be sampled with
    Column("metadata", Json, nullable=False, server_default="{}"),
    Column("reward", Float),
    # Counted as turns are committed; a session is listed without a look at its turns.
    Column("turns", Integer, nullable=False, server_default=sa.text("0")),
    Column("next_seq", Integer, nullable=False, server_default=sa.text("0")),  # of the turn that is committed next
    Column("prompt_tokens", Integer, nullable=False, server_default=sa.text("0")),
    Column("completion_tokens", Integer, nullable=False, server_default=sa.text("0")),
    Column("stored_bytes", Integer, nullable=False, server_default=sa.text("0")),
    # Set when it is finished. finish_number grows in the order of commits: a cursor.
    Column("finished_at", Float),
    Column("finish_number", Integer),
    Column("samples", Integer),
    Column("sample_tokens", Integer),
    Column("sampled_turns", Integer),
    Column("sampled_tokens", Integer),
    Column("per_turn_tokens", Integer),  # of samples of one turn each
    Column("freshest", Integer),  # number of the policy version of its freshest turn
    # Handing out.
    Column("lease_id", String(64)),
    Column("acked_at", Float),
    Column("acked_by", String(200)),
)
Index("sessions_by_time", sessions.c.created_at, sessions.c.id)
Index("sessions_by_group", sessions.c.group_id)
Index("sessions_by_task", sessions.c.task_id)
Index("sessions_by_finish", sessions.c.finish_number, unique=True)
Index("sessions_by_lease", sessions.c.lease_id)
#: What can be leased, in the order in which it is.
Index("sessions_to_lease", sessions.c.acked_at, sessions.c.lease_id, sessions.c.finish_number)

toolsets = Table(
    "toolsets",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("tools", LargeBinary, nullable=False),  # JSON
)

turns = Table(
    "turns",
    metadata,
    Column("session_id", String(200), ForeignKey("sessions.id"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    # Committed after its session was finished or discarded: on the record, in no sample.
    Column("late", Boolean, nullable=False, server_default=sa.false()),
    Column("parent_id", String(64)),
    Column("created_at", Float, nullable=False),
    Column("dialect", String(32), nullable=False),
    Column("model", Text, nullable=False),
    Column("outcome", String(32), nullable=False),
    Column("first_message", Integer, nullable=False),
    # SQLite reads a row from its front: what samples are made of stands before what they are not.
    Column("layout", LargeBinary, nullable=False),  # JSON: see rows.Layout
    Column("tools_digest", String(64), nullable=False),
    Column("options_digest", String(64), nullable=False),
    Column("prompt_delta", LargeBinary, nullable=False),
    Column("completion", LargeBinary, nullable=False),
    Column("logprobs", LargeBinary, nullable=False),
    Column("error", Text),
    Column("engine", Text, nullable=False),
    # An engine's own word, which has no bound: SQLite does not hold it to the length, PostgreSQL has none.
    Column("finish_reason", String(32).with_variant(Text, "postgresql")),
    Column("fork_reason", Text),
    Column("context_digest", LargeBinary, nullable=False),
    Column("rest", LargeBinary, nullable=False),  # JSON: messages, sampling, response, usage, …
)

#: Per-token extras of engines, written with their turn; ``tickertape.server.turns.token_arrays`` says what rows hold.
token_arrays = Table(
    "token_arrays",
    metadata,
    Column("turn_id", String(64), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("session_id", String(200), ForeignKey("sessions.id"), nullable=False, index=True),
    Column("dtype", String(16), nullable=False),  # numpy's spelling: <i2
    Column("shape", Json, nullable=False),
    Column("data", LargeBinary, nullable=False),  # little-endian, in C order; last, so that the others are read without
)

rewards = Table(
    "rewards",
    metadata,
    Column("turn_id", String(64), primary_key=True),
    Column("session_id", String(200), ForeignKey("sessions.id"), nullable=False, index=True),
    Column("reward", Float),
    Column("token_rewards", LargeBinary),  # one for each token of the completion
    Column("updated_at", Float, nullable=False),
)

#: Answers that a client has deleted: not given again by their id. Their turns stay on tape.
hidden_answers = Table(
    "hidden_answers",
    metadata,
    Column("turn_id", String(64), primary_key=True),
    Column("session_id", String(200), ForeignKey("sessions.id"), nullable=False, index=True),
    Column("hidden_at", Float, nullable=False),
)

leases = Table(
    "leases",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("consumer", String(200), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("closed_at", Float),  # when all of it was acked, released or taken back
    Column("sessions", Integer, nullable=False),
    Column("acked", Integer, nullable=False, server_default=sa.text("0")),  # how many of its sessions
    Column("released", Integer, nullable=False, server_default=sa.text("0")),
    Column("expired", Integer, nullable=False, server_default=sa.text("0")),
    Column("options", Json, nullable=False),  # how its samples are made
)
Index("leases_open", leases.c.closed_at, leases.c.expires_at)

#: Who may call; only a hash of each key is kept.
keys = Table(
    "keys",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("role", String(16), nullable=False),  # agent, trainer or admin
    Column("name", String(200), nullable=False),
    Column("hash", String(128), nullable=False, unique=True),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("revoked_at", Float),
)

#: What the servers of one tape must agree on and that is not configured.
secrets = Table(
    "secrets",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", LargeBinary, nullable=False),
    Column("created_at", Float, nullable=False),
)

#: A row for each server process that has run on this tape.
runs = Table(
    "runs",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("seen_at", Float, nullable=False),
    Column("stopped_at", Float),  # null while it runs, and for ever if it was killed
    Column("version", Text, nullable=False),  # Tickertape's
    Column("policy_number", Integer, nullable=False, server_default=sa.text("0")),  # of what it has done last
    Column("policy_error", Text),  # why it could not
    Column("policy_told", sa.JSON),  # what engines said
)

#: What the policy was set to, one row for each change: the last one holds for all servers.
policies = Table(
    "policies",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("version", Text),
    Column("paused", String(16)),  # the mode
    Column("timeout", Float, nullable=False),  # seconds that a pause may wait for what runs
    Column("changed_at", Float, nullable=False),
)
