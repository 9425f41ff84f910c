"""Diagnoses: what is recorded over the probe, and the verdicts on each run."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "probe_records",
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("found", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_probe_records_run_id_runs", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "epoch", name="pk_probe_records"),
    )
    op.add_column("runs", sa.Column("diagnoses", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Undo."""
    op.drop_column("runs", "diagnoses")
    op.drop_table("probe_records")
