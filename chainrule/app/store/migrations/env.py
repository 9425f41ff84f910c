"""Alembic's entry: migrate over the connection handed in, or over CHAINRULE_DATABASE_URL."""

from alembic import context
from sqlalchemy import Connection

from chainrule.app.config import Settings
from chainrule.app.store.database import Database
from chainrule.app.store.models import Base


def migrate(connection: Connection) -> None:
    """Run the migrations inside the caller's transaction."""
    context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


handed_in = context.config.attributes.get("connection")
if handed_in is not None:
    migrate(handed_in)
else:
    with Database(Settings().database_url).migrating() as connection:
        migrate(connection)
