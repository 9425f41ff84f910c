"""The migrations and the models say the same."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import func, inspect, select, text
from sqlalchemy.exc import IntegrityError

from chainrule.app.store import migrations
from chainrule.app.store.database import Database
from chainrule.app.store.models import Base, Dataset, DatasetChunk, IdempotencyKey, Run

OLD_RUN = """
INSERT INTO runs (id, name, status, reason, detail, priority, config, dataset, epochs_total, steps_per_epoch,
                  parameters, revision, cancel_requested, attempts, failures, heartbeat, epochs_done, steps_done,
                  steps_inherited, created_at)
VALUES ('r', '', 'queued', 'submitted', '', 0, '{}', 'xor', 1, 1, 1, 1, FALSE, 0, 0, 0, 0, 0, 0, CURRENT_TIMESTAMP)
"""

OLD_DATASET = """
INSERT INTO datasets (id, name, sha256, samples, features, targets, classes, size_bytes, report, created_at)
VALUES ('{}', '', 'same', 1, 1, 1, '[]', 1, '{{}}', CURRENT_TIMESTAMP)
"""


def alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", "chainrule:app/store/migrations")
    return config


def migrate(database: Database, how: Callable[[Config, str], Any], revision: str) -> None:
    with database.migrating() as connection:
        config = alembic()
        config.attributes["connection"] = connection
        how(config, revision)


def test_the_files_names_tell_the_revisions_in_their_order() -> None:
    history = [script.revision for script in ScriptDirectory.from_config(alembic()).walk_revisions()]
    assert history[::-1] == migrations.KNOWN


def test_the_migrated_schema_is_what_the_models_say(database: Database) -> None:
    with database.reading() as session, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="autogenerate skipping")
        # Neither database shows an index over an expression in a way that could be compared.
        context = MigrationContext.configure(
            session.connection(), opts={"include_name": lambda name, *_: name != "ix_runs_waiting_of_owner"}
        )
        differences = compare_metadata(context, Base.metadata)
        assert [d for d in differences if getattr(d[1], "name", "") != "ix_runs_waiting_of_owner"] == []
        assert "ix_runs_waiting_of_owner" in {
            index["name"] for index in inspect(session.connection()).get_indexes("runs")
        }


def test_migrating_again_is_harmless(database: Database) -> None:
    before = migrations.revisions(database)
    migrations.upgrade(database)
    assert migrations.revisions(database) == before
    assert before[0] == before[1]


def test_the_first_migration_can_be_undone(database: Database) -> None:
    migrate(database, command.downgrade, "base")
    assert migrations.revisions(database)[0] is None


def test_runs_stored_before_they_could_be_paused_keep_all_they_recorded_and_can_be(database_url: str) -> None:
    database = Database(database_url)
    migrate(database, command.downgrade, "0006")
    with database.writing() as session:
        session.execute(text(OLD_RUN))
        columns = "run_id, epoch, cost, learning_rate, seconds"
        session.execute(text(f"INSERT INTO epochs ({columns}) VALUES ('r', 0, 1, 1, 0)"))
    migrate(database, command.upgrade, "head")
    with database.writing() as session:
        assert session.execute(text("SELECT run_id, epoch FROM epochs")).all() == [("r", 0)]
        session.execute(text("UPDATE runs SET status = 'paused'"))
        assert session.execute(text("SELECT pause_requested, trained_s FROM runs")).all() == [(False, 0.0)]
    with pytest.raises(IntegrityError), database.writing() as session:
        session.execute(text("UPDATE runs SET status = 'lazy'"))
    migrate(database, command.downgrade, "0006")
    with database.reading() as session:
        assert session.execute(text("SELECT status FROM runs")).all() == [("queued",)]
        assert session.execute(text("SELECT run_id, epoch FROM epochs")).all() == [("r", 0)]
        if database.sqlite:
            assert session.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
    with pytest.raises(IntegrityError), database.writing() as session:
        session.execute(text("UPDATE runs SET status = 'paused'"))
    database.dispose()


def test_what_was_stored_before_there_were_owners_is_local_and_whole(database_url: str) -> None:
    database = Database(database_url)
    migrate(database, command.downgrade, "0006")
    with database.writing() as session:
        session.execute(text(OLD_RUN))
        session.execute(text(OLD_DATASET.format("ds")))
        session.execute(text("INSERT INTO dataset_chunks (dataset_id, position, content) VALUES ('ds', 0, 'bytes')"))
        session.execute(
            text(
                "INSERT INTO idempotency_keys (key, request_sha256, status_code, location, body, created_at) "
                "VALUES ('k', '', 201, '', '{}', CURRENT_TIMESTAMP)"
            )
        )
    migrations.upgrade(database)
    with database.of("local").reading() as session:
        for table in (Dataset, DatasetChunk, IdempotencyKey, Run):
            assert session.scalar(select(func.count()).select_from(table)) == 1, table
    with pytest.raises(IntegrityError), database.writing() as session:
        session.execute(text(OLD_DATASET.format("again")))
    with database.writing() as session:  # keys from table to table are there as before
        session.execute(text("DELETE FROM datasets"))
        assert session.scalar(text("SELECT count(*) FROM dataset_chunks")) == 0
    database.dispose()
