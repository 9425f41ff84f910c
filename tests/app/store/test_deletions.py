"""Deletions: what is marked can be restored, what is condemned goes, piece by piece."""

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import func, select

from chainrule.app.run_status import RunStatus
from chainrule.app.store import checkpoints, deletions, epochs, gradients, runs, sweeps
from chainrule.app.store.database import Database, now
from chainrule.app.store.models import Checkpoint, Epoch, GradientRecord, Run, RunTransition, Sweep
from tests.app.store.test_database import epoch_row
from tests.app.store.test_runs import queued_run
from tests.app.store.test_sweeps import SWEEP, sweep_of

ENDED = {"status": RunStatus.SUCCEEDED}


def ended_run(database: Database, recorded: int = 3) -> str:
    """Store a run that has ended, with so many epochs, each with a checkpoint and two gradient records."""
    run_id = queued_run(database)
    numbers = dict.fromkeys(("norm", "mean", "standard_deviation", "minimum", "maximum", "zeros"), 0.0)
    with database.writing() as session:
        session.get_one(Run, run_id).status = RunStatus.SUCCEEDED
        session.flush()
        for epoch in range(recorded):
            epochs.add(session, [epoch_row(run_id, epoch)])
            row = {"run_id": run_id, "epoch": epoch, "sha256": "", "size_bytes": 10, "weights": b"0123456789"}
            checkpoints.add(session, [row])
            named: list[dict[str, Any]] = [
                {"run_id": run_id, "epoch": epoch, "layer": 1, "gradient": name, **numbers, "update_ratio": None}
                for name in ("dW1", "db1")
            ]
            gradients.add(session, named)
        checkpoints.put_resume_point(session, run_id, recorded - 1, 0, b"")
    return run_id


def left(database: Database) -> list[int]:
    """Count what is left of all runs."""
    with database.reading() as session:
        tables = (Run, RunTransition, Epoch, Checkpoint, GradientRecord)
        return [session.scalar(select(func.count()).select_from(table)) or 0 for table in tables]


def listed(database: Database, *, deleted: bool = False) -> list[str]:
    with database.reading() as session:
        return [run.id for run in runs.page(session, limit=9, deleted=deleted)]


def condemn(database: Database, *, after_s: float = 0.0) -> list[str]:
    with database.writing() as session:
        deletions.condemn(session, now() - timedelta(seconds=after_s), 9)
        return list(deletions.condemned(session, 9))


def test_only_a_run_that_has_ended_is_deleted_and_only_once(database: Database) -> None:
    waiting, ended = queued_run(database), ended_run(database)
    with database.writing() as session:
        assert not deletions.mark_run(session, waiting)
        assert not deletions.mark_run(session, waiting, for_good=True)
        assert deletions.mark_run(session, ended)
        assert not deletions.mark_run(session, ended)
        assert deletions.mark_run(session, ended, for_good=True)
        assert not deletions.mark_run(session, ended, for_good=True)


def test_a_deleted_run_is_restored_as_it_was(database: Database) -> None:
    run_id = ended_run(database)
    before = left(database)
    with database.writing() as session:
        deletions.mark_run(session, run_id)
    assert (listed(database), listed(database, deleted=True)) == ([], [run_id])
    with database.reading() as session:
        assert runs.watch(session, [run_id]) == {}
    with database.writing() as session:
        assert deletions.restore_run(session, run_id)
        assert not deletions.restore_run(session, run_id)
    assert (listed(database), listed(database, deleted=True)) == ([run_id], [])
    assert left(database) == before


def test_what_is_condemned_is_neither_listed_nor_restored(database: Database) -> None:
    run_id = ended_run(database)
    with database.writing() as session:
        deletions.mark_run(session, run_id)
    assert condemn(database, after_s=60) == []
    assert condemn(database) == [run_id]
    assert (listed(database), listed(database, deleted=True)) == ([], [])
    with database.writing() as session:
        assert not deletions.restore_run(session, run_id)


def test_what_was_restored_meanwhile_is_not_condemned(database: Database) -> None:
    run_id = ended_run(database)
    with database.writing() as session:
        deletions.mark_run(session, run_id)
        deletions.restore_run(session, run_id)
    assert condemn(database) == []
    with database.writing() as session:
        assert deletions.remove_some(session, run_id)  # nothing is left to do
    assert listed(database) == [run_id]


def test_a_condemned_run_goes_piece_by_piece_and_nothing_else_with_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = ended_run(database, recorded=2)
    before = left(database)
    run_id = ended_run(database, recorded=7)
    monkeypatch.setattr(deletions, "MOST_BYTES", 25)
    monkeypatch.setattr(deletions, "MOST_ROWS", 4)
    with database.writing() as session:
        deletions.mark_run(session, run_id, for_good=True)
    counts = []
    while True:
        with database.writing() as session:
            done = deletions.remove_some(session, run_id)
        counts.append(sum(left(database)))
        if done:
            break
    pieces = [one - other for one, other in pairwise(counts)]
    assert len(counts) > 6
    assert all(0 < piece <= 13 for piece in pieces)
    assert left(database) == before
    assert listed(database) == [kept]


def test_a_sweep_is_deleted_and_restored_with_its_runs_but_for_those_deleted_before(database: Database) -> None:
    ids = sweep_of(database, ENDED, ENDED, ENDED)
    with database.writing() as session:
        deletions.mark_run(session, ids[0])
    with database.writing() as session:
        deletions.mark_sweep(session, session.get_one(Sweep, SWEEP))
    assert listed(database) == []
    with database.reading() as session:
        assert sweeps.page(session, limit=9, cursor_id=None) == []
        assert sweeps.watch(session, [SWEEP]) == {}
        (found,) = sweeps.page(session, limit=9, cursor_id=None, deleted=True)
        assert sweeps.totals(session, [found.id])[SWEEP].statuses == {"succeeded": 2}
    with database.writing() as session:
        deletions.restore_sweep(session, session.get_one(Sweep, SWEEP))
    assert listed(database) == ids[:0:-1]
    with database.reading() as session:
        assert [member.run.id for member in sweeps.members(session, SWEEP, "cost")] == ids[1:]


def test_a_deleted_sweep_goes_when_its_time_is_over(database: Database) -> None:
    ids = sweep_of(database, ENDED, ENDED)
    with database.writing() as session:
        deletions.mark_sweep(session, session.get_one(Sweep, SWEEP))
    assert sorted(condemn(database)) == ids
    with database.writing() as session:
        assert sweeps.get(session, SWEEP) is None
        assert all(deletions.remove_some(session, run_id) for run_id in ids)
    assert left(database) == [0] * 5
