"""How much room runs take, and what is left of those that are thinned."""

import pytest
from sqlalchemy import select, update

from chainrule.app.run_status import RunStatus
from chainrule.app.store import checkpoints, deletions, storage
from chainrule.app.store.database import Database, now
from chainrule.app.store.models import Checkpoint, Epoch, GradientRecord, Run
from tests.app.store.test_deletions import ended_run, left
from tests.app.store.test_runs import queued_run


def kept(database: Database, run_id: str) -> tuple[list[int], list[int]]:
    """List the epochs of which a run has weights, and statistics."""
    with database.reading() as session:
        weights = session.scalars(select(Checkpoint.epoch).where(Checkpoint.run_id == run_id))
        records = session.scalars(select(GradientRecord.epoch).where(GradientRecord.run_id == run_id).distinct())
        return sorted(weights), sorted(records)


def thin(database: Database, run_id: str) -> int:
    """Thin a run, and count the pieces."""
    pieces, done = 0, False
    while not done:
        with database.writing() as session:
            done = storage.thin_some(session, run_id)
        pieces += 1
    return pieces


def test_waiting_runs_count_as_estimated_and_ended_ones_as_measured(database: Database) -> None:
    waiting, ended = queued_run(database), ended_run(database, recorded=3)
    with database.writing() as session:
        session.execute(update(Run).values(estimated_bytes=10_000))
    with database.writing() as session:
        assert storage.total_bytes(session) == 20_000
        assert storage.unmeasured(session, 9) == [ended]
        storage.measure(session, ended)
        assert storage.unmeasured(session, 9) == []
        of_epochs, of_records = 1 * storage.EPOCH_BYTES, 6 * storage.RECORD_BYTES
        assert storage.total_bytes(session) == 10_000 + 3 * 10 + of_epochs + of_records
        storage.measure(session, waiting)  # which has not ended: nothing comes of it
    with database.of("somebody").reading() as session:
        assert storage.total_bytes(session) > 10_000  # the room is everybody's
    assert left(database)[0] == 2


def test_the_last_best_and_final_epochs_are_left_of_a_thinned_run(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletions, "MOST_BYTES", 25)
    monkeypatch.setattr(deletions, "MOST_ROWS", 3)
    run_id, other = ended_run(database, recorded=9), ended_run(database, recorded=9)
    with database.writing() as session:
        session.execute(update(Epoch).where(Epoch.epoch == 3).values(validation_cost=-1.0))
        session.execute(update(Run).where(Run.id == run_id).values(best_epoch=5, stored_bytes=7))
    assert thin(database, run_id) > 4
    assert kept(database, run_id) == ([3, 5, 8], [3, 5, 8])
    assert kept(database, other) == (list(range(9)), list(range(9)))
    with database.reading() as session:
        assert session.get_one(Run, run_id).thinned_at is not None
        assert checkpoints.get_resume_point(session, run_id) == b""
        assert run_id in storage.unmeasured(session, 9)
    assert thin(database, run_id) == 1


def test_only_runs_that_ended_before_and_are_not_deleted_are_thinned(database: Database) -> None:
    old, recent, deleted = (ended_run(database) for _ in range(3))
    running = queued_run(database)
    with database.writing() as session:
        moment = now()
        session.execute(update(Run).where(Run.id != recent, Run.id != running).values(finished_at=moment))
        deletions.mark_run(session, deleted)
    cutoff = now()
    with database.writing() as session:
        session.execute(update(Run).where(Run.id == recent).values(finished_at=now()))
        session.execute(update(Run).where(Run.id == running).values(status=RunStatus.RUNNING))
    with database.reading() as session:
        assert storage.to_thin(session, cutoff, 9) == [old]
    for untouched in (deleted, running):
        assert thin(database, untouched) == 1
    assert kept(database, deleted) == ([0, 1, 2], [0, 1, 2])
