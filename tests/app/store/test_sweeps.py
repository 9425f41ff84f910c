"""Sweeps: which member counts as the best, and what adds up."""

from typing import Any

from chainrule.app.run_status import RunStatus
from chainrule.app.store import epochs, sweeps
from chainrule.app.store.database import Database, now
from chainrule.app.store.models import Run, Sweep
from tests.app.store.test_database import epoch_row
from tests.app.store.test_runs import queued_run

SWEEP = "sweep_1"


def sweep_of(database: Database, *runs: dict[str, Any]) -> list[str]:
    """Store a sweep whose runs stand as told; return their ids."""
    ids = [queued_run(database) for _ in runs]
    made = Sweep(
        id=SWEEP, name="", spec={}, objective="cost", rung=0, rungs=1, cancel_requested=False, created_at=now()
    )
    with database.writing() as session:
        sweeps.add(session, made)
        for position, (run_id, told) in enumerate(zip(ids, runs, strict=True)):
            run = session.get(Run, run_id)
            for name, value in ({"sweep_id": SWEEP} | told).items():
                setattr(run, name, value)
            session.flush()
            row = {"sweep_id": SWEEP, "position": position, "run_id": run_id, "rung": 0, "varied": {"seed": position}}
            sweeps.add_members(session, [row])
    return ids


def ranking(database: Database, objective: str = "cost") -> list[tuple[int, float | None]]:
    with database.reading() as session:
        return [(member.place.position, member.value) for member in sweeps.ranked(session, SWEEP, objective)]


def test_the_lowest_is_best_and_of_equals_who_has_trained_longer_then_the_first(database: Database) -> None:
    told = [(0.5, 3), (0.2, 3), (0.2, 6), (0.2, 6)]
    sweep_of(database, *({"cost": cost, "epochs_done": done} for cost, done in told))
    assert [position for position, _ in ranking(database)] == [2, 3, 1, 0]


def test_who_has_failed_or_has_no_value_yet_is_not_ranked(database: Database) -> None:
    sweep_of(database, {"cost": 0.1, "status": RunStatus.FAILED}, {"cost": None}, {"cost": 0.3})
    assert ranking(database) == [(2, 0.3)]


def test_with_early_stopping_the_best_epoch_counts_and_not_the_newest(database: Database) -> None:
    first, _ = sweep_of(
        database,
        {"cost": 0.9, "validation_cost": 0.9, "best_epoch": 1, "epochs_done": 2},
        {"cost": 0.5, "validation_cost": 0.5, "epochs_done": 2},
    )
    with database.writing() as session:
        rows = [(1, 0.4, 0.2), (2, 0.9, 0.9)]
        epochs.add(session, [epoch_row(first, n, cost=cost, validation_cost=held) for n, cost, held in rows])
    assert ranking(database) == [(0, 0.4), (1, 0.5)]
    assert ranking(database, "validation_cost") == [(0, 0.2), (1, 0.5)]


def test_positions_go_on_behind_the_last_that_there_is(database: Database) -> None:
    sweep_of(database, {}, {}, {})
    with database.writing() as session:
        assert sweeps.next_position(session, SWEEP) == 3
        assert sweeps.next_position(session, "sweep_2") == 0
