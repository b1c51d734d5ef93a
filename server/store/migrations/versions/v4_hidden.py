"""Answers that clients have deleted; none of version 3 was."""

from alembic import op

revision = "4"
down_revision = "3"
branch_labels = None
depends_on = None

_HIDDEN = """
CREATE TABLE hidden_answers (
  turn_id VARCHAR(64) NOT NULL, session_id VARCHAR(200) NOT NULL, hidden_at FLOAT NOT NULL,
  PRIMARY KEY (turn_id), FOREIGN KEY(session_id) REFERENCES sessions (id))
"""


def upgrade() -> None:
    op.execute(_HIDDEN)
    op.execute("CREATE INDEX ix_hidden_answers_session_id ON hidden_answers (session_id)")
