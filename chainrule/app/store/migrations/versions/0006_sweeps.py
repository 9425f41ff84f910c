"""Sweeps: many runs of one spec with some of its fields varied."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "sweeps",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("objective", sa.String(32), nullable=False),
        sa.Column("rung", sa.BigInteger(), nullable=False),
        sa.Column("rungs", sa.BigInteger(), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_sweeps"),
    )
    op.create_table(
        "sweep_members",
        sa.Column("sweep_id", sa.String(64), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("rung", sa.BigInteger(), nullable=False),
        sa.Column("varied", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["sweep_id"], ["sweeps.id"], name="fk_sweep_members_sweep_id_sweeps", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_sweep_members_run_id_runs", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("sweep_id", "position", name="pk_sweep_members"),
    )
    op.create_index("ix_sweep_members_run_id", "sweep_members", ["run_id"])
    op.add_column("runs", sa.Column("sweep_id", sa.String(64), nullable=True))
    op.create_index("ix_runs_sweep_id", "runs", ["sweep_id"])


def downgrade() -> None:
    """Undo."""
    op.drop_index("ix_runs_sweep_id", table_name="runs")
    op.drop_column("runs", "sweep_id")
    op.drop_table("sweep_members")
    op.drop_table("sweeps")
