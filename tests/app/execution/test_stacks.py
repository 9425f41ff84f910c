"""Runs trained as one computation: each ends as it would have alone, and leaves without harm to the others."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import select, update

from chainrule.app.config import Settings
from chainrule.app.execution.dispatcher import Dispatcher
from chainrule.app.services import runs as services
from chainrule.app.store import queue
from chainrule.app.store.changes import Changes
from chainrule.app.store.database import Database
from chainrule.app.store.models import Checkpoint, Epoch, GradientRecord, Run
from tests.app.execution.test_standby import children
from tests.waiting import wait_for

K = 4
SPEC: dict[str, Any] = {
    "dataset": "digits",
    "validation": {"fraction": 0.2, "seed": 0},
    "network": {"layers": [{"units": 12, "activation": "relu"}, {"units": 10, "activation": "softmax"}]},
    "epochs": 12,
    "batch_size": 50,
    "checkpoints": {"every": 5, "keep": None},
}


def submit(database: Database, settings: Settings, *, stacked: bool, **changes: Any) -> list[str]:
    """Submit runs that differ in seed and learning rate."""
    ids = []
    for number in range(K):
        optimizer = {"name": "adam", "learning_rate": 0.001 * (number + 1)}
        spec = SPEC | {"seed": number, "optimizer": optimizer} | changes
        ids.append(services.submit(database, settings, spec, key=None).run["id"])
    if stacked:
        with database.writing() as session:
            session.execute(update(Run).where(Run.id.in_(ids)).values(stack_key="alike"))
    return ids


@contextmanager
def dispatching(database: Database, settings: Settings) -> Iterator[None]:
    changes = Changes(database)
    dispatcher = Dispatcher(database, settings, changes)
    changes.start()
    dispatcher.start()
    try:
        yield
    finally:
        dispatcher.drain()
        changes.stop()


def ended(database: Database, ids: list[str]) -> bool:
    return all(services.get(database, run_id)["done"] for run_id in ids)


def one_slot(settings: Settings, **changes: Any) -> Settings:
    return settings.model_copy(update={"slots": 1, **changes})


def told(database: Database, run_id: str) -> tuple[Any, ...]:
    """All that is recorded of a run, but for how long things took."""
    with database.reading() as session:
        epochs = session.execute(
            select(Epoch.epoch, Epoch.cost, Epoch.error, Epoch.validation_cost, Epoch.learning_rate)
            .where(Epoch.run_id == run_id)
            .order_by(Epoch.epoch)
        ).all()
        weights = session.execute(
            select(Checkpoint.epoch, Checkpoint.sha256).where(Checkpoint.run_id == run_id).order_by(Checkpoint.epoch)
        ).all()
        gradients = session.execute(
            select(GradientRecord.epoch, GradientRecord.gradient, GradientRecord.norm, GradientRecord.update_ratio)
            .where(GradientRecord.run_id == run_id)
            .order_by(GradientRecord.epoch, GradientRecord.gradient)
        ).all()
    return [tuple(row) for row in epochs], [tuple(row) for row in weights], [tuple(row) for row in gradients]


def attempts_of(database: Database, ids: list[str]) -> set[tuple[str, int, int]]:
    found = [services.get(database, run_id) for run_id in ids]
    return {(run["status"], run["attempts"], run["failures"]) for run in found}


def test_a_stack_records_to_the_bit_what_its_runs_record_alone(database: Database, settings: Settings) -> None:
    alone = submit(database, settings, stacked=False)
    together = submit(database, settings, stacked=True)
    with dispatching(database, one_slot(settings)):
        wait_for(lambda: ended(database, alone + together))
    assert attempts_of(database, alone + together) == {("succeeded", 1, 0)}
    assert [told(database, run_id) for run_id in together] == [told(database, run_id) for run_id in alone]
    with database.reading() as session:
        started = session.scalars(select(Run.started_at).where(Run.id.in_(together))).all()
    assert len(set(started)) <= 2  # claimed in one transaction


def test_runs_of_a_stack_may_stop_early_or_diverge_each_by_itself(database: Database, settings: Settings) -> None:
    changes = {
        "early_stopping": {"patience": 1, "min_delta": 0.01},
        "checkpoints": {"every": 100, "keep": None},
        "epochs": 40,
        "batch_size": 10,
    }
    alone = submit(database, settings, stacked=False, **changes)
    together = submit(database, settings, stacked=True, **changes)
    with dispatching(database, one_slot(settings)):
        wait_for(lambda: ended(database, alone + together))
    found = [services.get(database, run_id) for run_id in together]
    assert [told(database, run_id) for run_id in together] == [told(database, run_id) for run_id in alone]
    assert {run["reason"] for run in found} == {"early_stopped"}
    assert len({run["progress"]["epochs_done"] for run in found}) > 1
    for run in found:
        epochs, weights, _ = told(database, run["id"])
        best = min(epochs[:-1], key=lambda epoch: epoch[3])[0]
        kept = [epoch for epoch, _ in weights]
        assert kept == sorted({0, 1, run["best_epoch"], epochs[-1][0]})
        assert epochs[run["best_epoch"]][3] - 0.01 <= epochs[best][3]


def test_one_run_of_a_stack_is_cancelled_and_the_others_end_as_they_would_have(
    database: Database, settings: Settings
) -> None:
    alone = submit(database, settings, stacked=False, epochs=400)
    together = submit(database, settings, stacked=True, epochs=400)
    with dispatching(database, one_slot(settings, flush_interval_s=0.05)):
        wait_for(lambda: services.get(database, together[2])["progress"]["epochs_done"] > 5)
        services.cancel(database, together[2], if_match=None)
        wait_for(lambda: ended(database, alone + together))
    assert services.get(database, together[2])["status"] == "cancelled"
    rest = [number for number in range(K) if number != 2]
    assert attempts_of(database, [together[number] for number in rest]) == {("succeeded", 1, 0)}
    for number in rest:
        assert told(database, together[number]) == told(database, alone[number])
    cancelled, whole = told(database, together[2]), told(database, alone[2])
    assert cancelled[0] == whole[0][: len(cancelled[0])]


def test_one_run_of_a_stack_is_paused_and_ends_later_as_it_would_have(database: Database, settings: Settings) -> None:
    alone = submit(database, settings, stacked=False, epochs=400)
    together = submit(database, settings, stacked=True, epochs=400)
    paused, rest = together[1], [run_id for run_id in together if run_id != together[1]]
    with dispatching(database, one_slot(settings, flush_interval_s=0.05)):
        wait_for(lambda: services.get(database, paused)["progress"]["epochs_done"] > 5)
        services.pause(database, paused, if_match=None)
        wait_for(lambda: ended(database, alone + rest))
        assert attempts_of(database, rest) == {("succeeded", 1, 0)}
        assert attempts_of(database, [paused]) == {("paused", 1, 0)}
        assert 5 < services.get(database, paused)["progress"]["epochs_done"] < 400
        services.resume(database, settings, paused, if_match=None)
        wait_for(lambda: ended(database, together))
    assert attempts_of(database, [paused]) == {("succeeded", 2, 0)}
    assert [told(database, run_id) for run_id in together] == [told(database, run_id) for run_id in alone]


def test_a_killed_stack_is_trained_again_run_by_run_to_the_same_bits(database: Database, settings: Settings) -> None:
    alone = submit(database, settings, stacked=False, epochs=300)
    with dispatching(database, one_slot(settings)):
        wait_for(lambda: ended(database, alone))
    together = submit(database, settings, stacked=True, epochs=300)
    with dispatching(database, one_slot(settings, flush_interval_s=0.05)):
        wait_for(lambda: services.get(database, together[0])["progress"]["epochs_done"] > 5)
        for child in children():
            os.kill(child.pid, signal.SIGKILL)
        wait_for(lambda: ended(database, together))
    assert attempts_of(database, together) == {("succeeded", 2, 1)}
    assert [told(database, run_id) for run_id in together] == [told(database, run_id) for run_id in alone]


def test_a_drained_stack_goes_on_where_it_was(database: Database, settings: Settings) -> None:
    alone = submit(database, settings, stacked=False, epochs=300)
    with dispatching(database, one_slot(settings)):
        wait_for(lambda: ended(database, alone))
    together = submit(database, settings, stacked=True, epochs=300)
    with dispatching(database, one_slot(settings)):
        wait_for(lambda: services.get(database, together[0])["progress"]["epochs_done"] > 5)
    assert attempts_of(database, together) == {("queued", 1, 0)}
    with dispatching(database, one_slot(settings)):
        wait_for(lambda: ended(database, together))
    assert attempts_of(database, together) == {("succeeded", 2, 0)}
    assert [told(database, run_id) for run_id in together] == [told(database, run_id) for run_id in alone]


@pytest.mark.parametrize(
    ("slots", "most", "share"), [(1, 64, 10), (2, 64, 5), (3, 64, 4), (4, 64, 3), (1, 6, 6), (1, 1, 1)]
)
def test_slots_share_the_runs_that_are_alike(
    database: Database, settings: Settings, slots: int, most: int, share: int
) -> None:
    submit(database, settings, stacked=True)
    submit(database, settings, stacked=True)
    submit(database, settings, stacked=True)
    other = submit(database, settings, stacked=False)
    with database.writing() as session:
        session.execute(update(Run).where(Run.id.in_(other[:2])).values(stack_key="other"))
        lost = select(Run.id).where(Run.stack_key == "alike").order_by(Run.id.desc()).limit(2)
        session.execute(update(Run).where(Run.id.in_(lost)).values(failures=1))
    with database.writing() as session:
        best = queue.claim(session, "a1", "here:1")
        assert best is not None
        alike = queue.claim_alike(session, best, slots, most, "a1", "here:1", None)
        assert 1 + len(alike) == share
        assert {run.stack_key for run in alike} <= {"alike"}
        assert all(run.status == "running" and run.attempt_id == "a1" and run.failures == 0 for run in alike)
        assert [run.id for run in alike] == sorted(run.id for run in alike)


def test_a_run_that_lost_an_attempt_is_claimed_by_itself(database: Database, settings: Settings) -> None:
    ids = submit(database, settings, stacked=True)
    with database.writing() as session:
        session.execute(update(Run).where(Run.id == ids[0]).values(failures=1))
        best = queue.claim(session, "a1", "here:1")
        assert best is not None
        assert best.id == ids[0]
        assert queue.claim_alike(session, best, 1, 64, "a1", "here:1", None) == []
