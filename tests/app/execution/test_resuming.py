"""Resuming is exact in every mode: killed again and again, in the middle of epochs too, a run records the same bits."""

import random
import time
from contextlib import suppress
from functools import partial
from typing import Any

import psutil
from sqlalchemy import func, select, update

from chainrule.app.config import Settings
from chainrule.app.services import runs as services
from chainrule.app.store.database import Database
from chainrule.app.store.models import ResumePoint, Run, RunAttempt
from tests.app.execution.test_stacks import dispatching, ended, told
from tests.processes import busiest
from tests.waiting import wait_for

SEED = 4
KILLS = 8
PATIENCE_S = 180.0


def network(**hidden: Any) -> dict[str, Any]:
    return {"layers": [{"units": 16, "activation": "relu", **hidden}, {"units": 10, "activation": "softmax"}]}


SPEC: dict[str, Any] = {
    "dataset": "digits",
    "validation": {"fraction": 0.2, "seed": 0},
    "network": network(),
    "optimizer": {"name": "adam", "learning_rate": 0.002},
    "epochs": 16,
    "batch_size": 2,
    "checkpoints": {"every": 7, "keep": None},
    "gradients": {"every": 3},
}
MODES: dict[str, dict[str, Any]] = {
    "Adam, statistics, validation": {},
    "dropout, weights of classes": {"network": network(dropout=0.3), "class_weights": "balanced"},
    "plateau and early stopping": {
        "schedule": {"name": "plateau", "patience": 1, "factor": 0.5},
        "early_stopping": {"patience": 4, "min_delta": 0.001},
        "optimizer": {"name": "nesterov", "learning_rate": 0.05},
    },
    "cosine with warm-up, clip, penalties": {
        "schedule": {"name": "cosine", "warmup_epochs": 3},
        "clip": {"norm": 0.5},
        "regularization": {"l1": 1e-4, "l2": 1e-3, "max_norm": 2.0},
        "optimizer": {"name": "adamw"},
    },
    "batch normalization, float64": {"network": network(normalization="batch"), "batch_size": 8, "dtype": "float64"},
    "L-BFGS": {"optimizer": {"name": "lbfgs"}, "batch_size": None, "epochs": 30},
    "stacked, one": {"seed": 1, "network": network(normalization="layer"), "optimizer": {"name": "rmsprop"}},
    "stacked, another": {"seed": 2, "network": network(normalization="layer"), "optimizer": {"name": "rmsprop"}},
}


def submit_all(database: Database, settings: Settings) -> list[str]:
    ids = [services.submit(database, settings, SPEC | mode, key=None).run["id"] for mode in MODES.values()]
    with database.writing() as session:
        session.execute(update(Run).where(Run.id.in_(ids[-2:])).values(stack_key=ids[-1][:64]))
    return ids


def all_told(database: Database, run_id: str) -> tuple[Any, ...]:
    """All that is recorded of a run, moments and sums of its resume point included."""
    run = services.get(database, run_id)
    with database.reading() as session:
        point = session.execute(
            select(ResumePoint.epoch, ResumePoint.step, ResumePoint.content).where(ResumePoint.run_id == run_id)
        ).one()
    state = {name: run[name] for name in ("status", "reason", "best_epoch", "cost", "validation_cost", "diagnoses")}
    return state, run["progress"]["steps_done"], tuple(point), told(database, run_id)


def kill_one(database: Database) -> bool:
    """End the busiest training process as the kernel would; False if there is none."""
    training = busiest(psutil.Process())
    if training is None:
        return False
    with suppress(psutil.NoSuchProcess):
        training.kill()
    return at_once(database)


def at_once(database: Database) -> bool:
    """Let no run wait before it is tried again; one by one, as others lock several in an order of theirs."""
    with database.reading() as session:
        waiting = session.scalars(select(Run.id).where(Run.not_before.is_not(None))).all()
    for run_id in waiting:
        with database.writing() as session:
            session.execute(update(Run).where(Run.id == run_id).values(not_before=None))
    return True


def kill_again_and_again(database: Database, settings: Settings, undisturbed: list[str]) -> list[bool]:
    """Submit all once more, kill whoever trains them, and hold what they record against what the others did.

    Returns:
        Of each attempt after a run's first, whether it went on in the middle of an epoch.
    """
    killed = submit_all(database, settings)
    moments, seen = random.Random(SEED), 0

    def done() -> int:
        with database.reading() as session:
            return session.scalar(select(func.sum(Run.steps_done)).where(Run.id.in_(killed))) or 0

    def further(than: int) -> bool:
        return done() > than or ended(database, killed)

    with dispatching(database, settings):
        for _ in range(KILLS):
            wait_for(partial(further, seen))  # there is something to go on from
            time.sleep(moments.uniform(0.05, 0.3))
            wait_for(lambda: kill_one(database) or ended(database, killed))
            seen = done()
        wait_for(lambda: at_once(database) and ended(database, killed), PATIENCE_S)
    for name, one, other in zip(MODES, undisturbed, killed, strict=True):
        assert all_told(database, other) == all_told(database, one), name
    with database.reading() as session:
        began = session.execute(
            select(RunAttempt.started_steps, Run.steps_per_epoch)
            .join(Run, Run.id == RunAttempt.run_id)
            .where(RunAttempt.run_id.in_(killed), RunAttempt.number > 1)
        ).all()
    assert len(began) >= KILLS / 2
    return [step % steps_per_epoch > 0 for step, steps_per_epoch in began]


def test_in_every_mode_a_run_that_is_killed_again_and_again_records_what_it_would_have(
    database: Database, settings: Settings
) -> None:
    settings = settings.model_copy(update={"flush_interval_s": 0.01, "max_failures": 1000})
    undisturbed = submit_all(database, settings)
    with dispatching(database, settings):
        wait_for(lambda: ended(database, undisturbed), PATIENCE_S)
    assert any(kill_again_and_again(database, settings, undisturbed)), "nobody went on in the middle of one"
