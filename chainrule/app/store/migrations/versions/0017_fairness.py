"""What a claim needs to be fair: each owner's waiting runs in order instead of all in one, and whose are trained."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    waiting, running = sa.text("status = 'queued'"), sa.text("status = 'running'")
    columns = [sa.text(column) for column in ("status", "owner", "priority DESC", "id")]
    op.create_index("ix_runs_waiting_of_owner", "runs", columns, postgresql_where=waiting, sqlite_where=waiting)
    of_owner = ["status", "owner", "attempt_id"]
    op.create_index("ix_runs_running_of_owner", "runs", of_owner, postgresql_where=running, sqlite_where=running)
    op.drop_index("ix_runs_waiting", table_name="runs")


def downgrade() -> None:
    """Undo."""
    waiting, columns = sa.text("status = 'queued'"), [sa.text(column) for column in ("priority DESC", "id")]
    op.create_index("ix_runs_waiting", "runs", columns, postgresql_where=waiting, sqlite_where=waiting)
    op.drop_index("ix_runs_running_of_owner", table_name="runs")
    op.drop_index("ix_runs_waiting_of_owner", table_name="runs")
