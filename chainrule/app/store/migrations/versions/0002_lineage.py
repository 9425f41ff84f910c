"""Lineage: the run that a run extends or is cloned from, and the steps it has from there."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("runs", sa.Column("extends", sa.String(length=64), nullable=True))
    op.add_column("runs", sa.Column("cloned_from", sa.String(length=64), nullable=True))
    op.add_column("runs", sa.Column("steps_inherited", sa.BigInteger(), nullable=False, server_default="0"))


def downgrade() -> None:
    """Undo."""
    # One by one, as SQLite can: copying the table would let the deletion of the old one cascade.
    for name in ("steps_inherited", "cloned_from", "extends"):
        op.drop_column("runs", name)
