"""Verifications: runs that train once more what another has recorded, and compare."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("runs", sa.Column("verifies", sa.String(64), nullable=True))
    op.add_column("runs", sa.Column("verification", sa.JSON(none_as_null=True), nullable=True))
    op.create_index("ix_runs_verifies", "runs", ["verifies"])


def downgrade() -> None:
    """Undo."""
    op.drop_index("ix_runs_verifies", table_name="runs")
    op.drop_column("runs", "verification")
    op.drop_column("runs", "verifies")
