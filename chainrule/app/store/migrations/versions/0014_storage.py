"""Storage: what each run was estimated to take, what it takes, and whether it was thinned."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("runs", sa.Column("estimated_bytes", sa.BigInteger(), nullable=True))
    op.add_column("runs", sa.Column("stored_bytes", sa.BigInteger(), nullable=True))
    op.add_column("runs", sa.Column("thinned_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Undo."""
    op.drop_column("runs", "thinned_at")
    op.drop_column("runs", "stored_bytes")
    op.drop_column("runs", "estimated_bytes")
