"""The migrations and the models say the same."""

import warnings

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import inspect

from chainrule.app.store import migrations
from chainrule.app.store.database import Database
from chainrule.app.store.models import Base


def test_the_migrated_schema_is_what_the_models_say(database: Database) -> None:
    with database.reading() as session, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="autogenerate skipping")
        # Neither database shows an index over an expression in a way that could be compared.
        context = MigrationContext.configure(
            session.connection(), opts={"include_name": lambda name, *_: name != "ix_runs_waiting"}
        )
        differences = compare_metadata(context, Base.metadata)
        assert [d for d in differences if getattr(d[1], "name", "") != "ix_runs_waiting"] == []
        assert "ix_runs_waiting" in {index["name"] for index in inspect(session.connection()).get_indexes("runs")}


def test_migrating_again_is_harmless(database: Database) -> None:
    before = migrations.revisions(database)
    migrations.upgrade(database)
    assert migrations.revisions(database) == before
    assert before[0] == before[1]


def test_the_first_migration_can_be_undone(database: Database) -> None:
    with database.writing() as session:
        config = Config()
        config.set_main_option("script_location", "chainrule:app/store/migrations")
        config.attributes["connection"] = session.connection()
        command.downgrade(config, "base")
    assert migrations.revisions(database)[0] is None
