"""The first schema that was released."""

revision = "1"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing leads here: a tape is made whole, in the version of its time."""
