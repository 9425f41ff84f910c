"""Attempts as rows of their own; runs that can be paused, and the time they have trained."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_BEFORE = "status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')"
_NOW = "status IN ('queued', 'running', 'paused', 'succeeded', 'failed', 'cancelled')"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "attempts",
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("attempt_id", sa.String(32), nullable=False),
        sa.Column("worker", sa.String(200), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_epoch", sa.BigInteger(), nullable=False),
        sa.Column("started_steps", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_epoch", sa.BigInteger(), nullable=True),
        sa.Column("ended_steps", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.String(16), nullable=True),
        sa.Column("reason", sa.String(32), nullable=True),
        sa.Column("detail", sa.String(2000), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_attempts_run_id_runs", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "number", name="pk_attempts"),
    )
    op.add_column("runs", sa.Column("pause_requested", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("runs", sa.Column("trained_s", sa.Double(), nullable=False, server_default="0"))
    _allow(_BEFORE, _NOW)


def downgrade() -> None:
    """Undo; paused runs wait to be trained again."""
    op.execute("UPDATE runs SET status = 'queued' WHERE status = 'paused'")
    _allow(_NOW, _BEFORE)
    op.drop_column("runs", "trained_s")
    op.drop_column("runs", "pause_requested")
    op.drop_table("attempts")


def _allow(before: str, after: str) -> None:
    """Change which states a run may have."""
    connection = op.get_bind()
    if connection.dialect.name != "sqlite":
        op.drop_constraint(op.f("ck_runs_status"), "runs", type_="check")
        op.create_check_constraint(op.f("ck_runs_status"), "runs", after)
        return
    # SQLite alters no constraint. To copy the table and drop the old one would, with foreign keys on, delete all that
    # refers to it; so the text of the constraint is changed in place, as SQLite's page on ALTER TABLE describes.
    version = connection.exec_driver_sql("PRAGMA schema_version").scalar_one()
    connection.exec_driver_sql("PRAGMA writable_schema = ON")
    changed = connection.exec_driver_sql(
        "UPDATE sqlite_master SET sql = replace(sql, ?, ?) WHERE type = 'table' AND name = 'runs' AND instr(sql, ?)",
        (before, after, before),
    )
    connection.exec_driver_sql(f"PRAGMA schema_version = {version + 1}")
    connection.exec_driver_sql("PRAGMA writable_schema = OFF")
    if changed.rowcount != 1:
        raise RuntimeError("the table runs is not as the migrations left it: it lacks the constraint on status")
