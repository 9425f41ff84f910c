"""Transactions, rows by the thousand, identifiers."""

import math
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select, text
from sqlalchemy.exc import IntegrityError

from chainrule.app.store import checkpoints, epochs, gradients
from chainrule.app.store.database import Database
from chainrule.app.store.models import Checkpoint, Epoch, GradientRecord
from tests.app.store.test_runs import queued_run


def epoch_row(run_id: str, epoch: int, **changes: Any) -> dict[str, Any]:
    row = {"run_id": run_id, "epoch": epoch, "cost": 0.1 * epoch, "error": None, "validation_cost": 1 / 3,
           "validation_error": 0.0, "learning_rate": 1e-300, "seconds": 1e300}  # fmt: skip
    return row | changes


def test_many_rows_are_stored_as_they_are(database: Database) -> None:
    run_id = queued_run(database)
    blobs = [bytes(range(256)) * n for n in range(3)]
    statistics = dict.fromkeys(("mean", "standard_deviation", "minimum", "maximum", "zeros"), math.pi)
    with database.writing() as session:
        epochs.add(session, [epoch_row(run_id, n) for n in range(1000)])
        checkpoints.add(
            session,
            [
                {"run_id": run_id, "epoch": n, "sha256": "0" * 64, "size_bytes": len(blob), "weights": blob}
                for n, blob in enumerate(blobs)
            ],
        )
        gradients.add(
            session,
            [{"run_id": run_id, "epoch": 0, "layer": 1, "gradient": "dW1", "norm": 5e-324, "update_ratio": None}
             | statistics],
        )  # fmt: skip
    with database.reading() as session:
        stored = session.scalars(select(Epoch).order_by(Epoch.epoch)).all()
        assert [(row.epoch, row.cost, row.error) for row in stored] == [(n, 0.1 * n, None) for n in range(1000)]
        assert (stored[7].validation_cost, stored[7].learning_rate, stored[7].seconds) == (1 / 3, 1e-300, 1e300)
        assert session.scalars(select(Checkpoint.weights).order_by(Checkpoint.epoch)).all() == blobs
        record = session.scalars(select(GradientRecord)).one()
        assert (record.norm, record.mean, record.update_ratio) == (5e-324, math.pi, None)


def test_an_epoch_that_is_there_already_is_refused_and_nothing_of_the_write_is_left(database: Database) -> None:
    run_id = queued_run(database)
    with database.writing() as session:
        epochs.add(session, [epoch_row(run_id, 1)])
    with pytest.raises(IntegrityError), database.writing() as session:
        epochs.add(session, [epoch_row(run_id, 0), epoch_row(run_id, 1)])
    with database.reading() as session:
        assert session.scalars(select(Epoch.epoch)).all() == [1]


def test_rows_of_a_run_that_is_not_there_are_refused(database: Database) -> None:
    with pytest.raises(IntegrityError), database.writing() as session:
        epochs.add(session, [epoch_row("run_nowhere", 0)])


def test_a_reader_sees_one_moment_and_is_not_held_up_by_a_writer(database: Database) -> None:
    run_id = queued_run(database)
    with database.writing() as session:
        epochs.add(session, [epoch_row(run_id, 0)])
        session.flush()
        with database.reading() as reader:
            assert reader.scalars(select(Epoch.epoch)).all() == []


def test_a_connection_that_comes_back_after_all_were_closed_is_closed_too(database: Database) -> None:
    closed: list[Any] = []
    event.listen(database.engine, "close", lambda connection, _: closed.append(connection))
    with database.reading() as session:
        used = session.connection().connection.dbapi_connection
        database.dispose()
        assert closed == []
    assert closed == [used]
    for _ in range(2):
        with database.reading() as session:
            session.execute(select(1))
    assert closed == [used]  # those made since are kept


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_that_other_processes_cannot_reach_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must be a file"):
        Database(url)


@pytest.mark.parametrize("durable", [True, False])
def test_sqlite_is_set_up_for_many_processes_and_for_loss_of_power(tmp_path: Path, durable: bool) -> None:
    database = Database(f"sqlite:///{tmp_path}/deep/down/x.sqlite3", durable=durable)
    with database.reading() as session:
        names = ("journal_mode", "foreign_keys", "synchronous")
        assert [session.execute(text(f"PRAGMA {name}")).scalar() for name in names] == ["wal", 1, 2 if durable else 1]
    database.dispose()
