"""Inputs: how a run maps raw features to its network's input, fitted when it was submitted."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "run_inputs",
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("fitted", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_run_inputs_run_id_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_run_inputs")),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("run_inputs")
