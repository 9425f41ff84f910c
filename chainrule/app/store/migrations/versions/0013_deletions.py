"""Deletions with a way back: what is deleted is marked first, and removed later."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("runs", sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("runs", sa.Column("purging", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_index(
        "ix_runs_deleted_at",
        "runs",
        ["deleted_at"],
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
        sqlite_where=sa.text("deleted_at IS NOT NULL"),
    )
    op.add_column("sweeps", sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Undo."""
    op.drop_column("sweeps", "deleted_at")
    op.drop_index("ix_runs_deleted_at", table_name="runs")
    op.drop_column("runs", "purging")
    op.drop_column("runs", "deleted_at")
