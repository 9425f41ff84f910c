"""Owners: what belongs to whom, and the keys by which they are known."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    for table in ("runs", "sweeps"):
        op.add_column(table, _owner())
        op.create_index(f"ix_{table}_owner_id", table, ["owner", "id"])
    _check()
    with op.batch_alter_table("datasets") as datasets:
        datasets.add_column(_owner())
        datasets.drop_constraint("uq_datasets_sha256", type_="unique")
        datasets.create_unique_constraint("uq_datasets_owner", ["owner", "sha256"])
    with op.batch_alter_table("idempotency_keys") as answers:
        answers.add_column(_owner())
        answers.drop_constraint("pk_idempotency_keys", type_="primary")
        answers.create_primary_key("pk_idempotency_keys", ["owner", "key"])
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("scope", sa.String(16), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("previous_sha256", sa.String(64), nullable=True),
        sa.Column("previous_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("rotated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("scope IN ('read', 'submit', 'admin')", name=op.f("ck_api_keys_scope")),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
    )
    op.create_index("ix_api_keys_owner_id", "api_keys", ["owner", "id"])
    op.create_table(
        "audit_entries",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("key_id", sa.String(64), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("method", sa.String(16), nullable=False),
        sa.Column("route", sa.String(200), nullable=False),
        sa.Column("object_id", sa.String(64), nullable=True),
        sa.Column("client", sa.String(64), nullable=True),
        sa.Column("status", sa.BigInteger(), nullable=False),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_entries"),
    )
    op.create_index("ix_audit_entries_owner_id", "audit_entries", ["owner", "id"])


def downgrade() -> None:
    """Undo; possible as long as no two owners have the same content or the same idempotency key."""
    _check()
    op.drop_table("audit_entries")
    op.drop_table("api_keys")
    with op.batch_alter_table("idempotency_keys") as answers:
        answers.drop_constraint("pk_idempotency_keys", type_="primary")
        answers.create_primary_key("pk_idempotency_keys", ["key"])
        answers.drop_column("owner")
    with op.batch_alter_table("datasets") as datasets:
        datasets.drop_constraint("uq_datasets_owner", type_="unique")
        datasets.create_unique_constraint("uq_datasets_sha256", ["sha256"])
        datasets.drop_column("owner")
    for table in ("sweeps", "runs"):
        op.drop_index(f"ix_{table}_owner_id", table_name=table)
        op.drop_column(table, "owner")


def _check() -> None:
    """Refuse to copy tables while dropping one would delete what refers to it: see `Database.migrating`."""
    connection = op.get_bind()
    if connection.dialect.name == "sqlite" and connection.exec_driver_sql("PRAGMA foreign_keys").scalar_one():
        raise RuntimeError("turn foreign keys off before this migration, outside of the transaction")


def _owner() -> sa.Column[str]:
    return sa.Column("owner", sa.String(64), nullable=False, server_default="local")
