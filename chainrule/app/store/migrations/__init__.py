"""The schema's history; Alembic owns it, and the wheel carries it.

Alembic is loaded by whoever has something to migrate: it takes as long as a tenth of the service's start, and which
revision a database has and which is the newest can be told without it.
"""

from pathlib import Path

from sqlalchemy import Connection, inspect, text

import chainrule
from chainrule.app.store.database import Database

KNOWN = sorted(file.name.partition("_")[0] for file in (Path(__file__).parent / "versions").glob("[0-9]*_*.py"))
"""The revisions, each of which its file's name begins with, the newest last."""


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
        current = _current(connection)
        if current is not None and current not in KNOWN:
            raise NewerSchema(current)
        if current == KNOWN[-1]:
            return
        _migrate(connection)
        if database.sqlite and (lost := connection.execute(text("PRAGMA foreign_key_check")).first()):
            raise ValueError(f"a row of {lost[0]} refers to one of {lost[2]} that is not there")


def revisions(database: Database) -> tuple[str | None, str]:
    """Tell the database's revision and the newest one."""
    with database.reading() as session:
        return _current(session.connection()), KNOWN[-1]


def _current(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def _migrate(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
