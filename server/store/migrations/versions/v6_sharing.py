"""What servers on one tape must agree on: conversations of clients without a session id, and the policy."""

import sqlalchemy as sa
from alembic import op

revision = "6"
down_revision = "5"
branch_labels = None
depends_on = None

_INTEGER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.add_column("turns", sa.Column("client_digest", sa.LargeBinary))
    known = sa.text("client_digest IS NOT NULL")
    op.create_index("turns_by_conversation", "turns", ["context_digest"], sqlite_where=known, postgresql_where=known)
    op.create_table(
        "policies",
        sa.Column("number", _INTEGER, primary_key=True, autoincrement=False),
        sa.Column("version", sa.Text),
        sa.Column("paused", sa.String(16)),
        sa.Column("timeout", sa.Float, nullable=False),
        sa.Column("changed_at", sa.Float, nullable=False),
    )
    op.add_column("runs", sa.Column("policy_number", _INTEGER, nullable=False, server_default=sa.text("0")))
    op.add_column("runs", sa.Column("policy_error", sa.Text))
    op.add_column("runs", sa.Column("policy_told", sa.JSON))
