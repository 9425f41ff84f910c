"""Runs that can be trained as one computation."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("runs", sa.Column("stack_key", sa.String(64), nullable=True))
    waiting = sa.text("status = 'queued'")
    op.create_index("ix_runs_alike", "runs", ["stack_key"], postgresql_where=waiting, sqlite_where=waiting)


def downgrade() -> None:
    """Undo."""
    op.drop_index("ix_runs_alike", table_name="runs")
    op.drop_column("runs", "stack_key")
