"""What is stored: a row for each session and each turn, and each set of tools once.

Token ids are packed little-endian int32, logprobs little-endian float32. JSON holds what is only ever read whole.
"""

from sqlalchemy import Column, Float, ForeignKey, Index, Integer, LargeBinary, MetaData, String, Table, Text

#: Raised with every change of these tables; a tape of another version is refused, never guessed at.
SCHEMA_VERSION = 1

metadata = MetaData()

tape = Table("tape", metadata, Column("schema_version", Integer, primary_key=True))

sessions = Table(
    "sessions",
    metadata,
    Column("id", String(200), primary_key=True),
    Column("created_at", Float, nullable=False),
)
Index("sessions_by_time", sessions.c.created_at, sessions.c.id)

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
    Column("parent_id", String(64)),
    Column("created_at", Float, nullable=False),
    Column("dialect", String(32), nullable=False),
    Column("model", Text, nullable=False),
    Column("first_message", Integer, nullable=False),
    Column("tools_digest", String(64), nullable=False),
    Column("options_digest", String(64), nullable=False),
    Column("prompt_delta", LargeBinary, nullable=False),
    Column("completion", LargeBinary, nullable=False),
    Column("logprobs", LargeBinary, nullable=False),
    Column("outcome", String(32), nullable=False),
    Column("error", Text),
    Column("engine", Text, nullable=False),
    Column("finish_reason", String(32)),
    Column("fork_reason", Text),
    Column("context_digest", LargeBinary, nullable=False),
    Column("rest", LargeBinary, nullable=False),  # JSON: messages, sampling, spans, versions, response, usage, …
)
