"""The schema's history; Alembic owns it, and the wheel carries it."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

import chainrule
from chainrule.app.store.database import Database


class NewerSchema(Exception):
    """The database was written by a newer version than this one."""

    def __init__(self, revision: str) -> None:
        super().__init__(
            f"the database has schema {revision}, which Chainrule {chainrule.__version__} does not know: a newer "
            "version has migrated it. Install that version again, or restore the backup made before (chainrule "
            "restore-backup FILE)."
        )


_LOCK = 0x436861696E  # any number that nothing else in this database uses


def upgrade(database: Database) -> None:
    """Bring the schema to the newest revision; harmless when it is there.

    Concurrency: processes that start together take turns, by an advisory lock on PostgreSQL and by
    `BEGIN IMMEDIATE` on SQLite.

    Raises:
        ValueError: a row would refer to one that is not there; nothing has been changed.
        NewerSchema: a newer version was here.
    """
    with database.migrating() as connection:
        if not database.sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        current = MigrationContext.configure(connection).get_current_revision()
        config = _config()
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if current is not None and current not in known:
            raise NewerSchema(current)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        if database.sqlite and (lost := connection.execute(text("PRAGMA foreign_key_check")).first()):
            raise ValueError(f"a row of {lost[0]} refers to one of {lost[2]} that is not there")


def revisions(database: Database) -> tuple[str | None, str | None]:
    """Tell the database's revision and the newest one."""
    with database.reading() as session:
        current = MigrationContext.configure(session.connection()).get_current_revision()
    return current, ScriptDirectory.from_config(_config()).get_current_head()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config
