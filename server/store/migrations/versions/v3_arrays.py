"""Token arrays; no turn of version 2 has any."""

from alembic import op

revision = "3"
down_revision = "2"
branch_labels = None
depends_on = None

_ARRAYS = """
CREATE TABLE token_arrays (
  turn_id VARCHAR(64) NOT NULL, name VARCHAR(64) NOT NULL, session_id VARCHAR(200) NOT NULL,
  dtype VARCHAR(16) NOT NULL, shape JSON NOT NULL, data BLOB NOT NULL,
  PRIMARY KEY (turn_id, name), FOREIGN KEY(session_id) REFERENCES sessions (id))
"""


def upgrade() -> None:
    op.execute(_ARRAYS)
    op.execute("CREATE INDEX ix_token_arrays_session_id ON token_arrays (session_id)")
