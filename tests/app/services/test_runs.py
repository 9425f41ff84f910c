"""Runs: what may be submitted while others do other things."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from chainrule.app.config import Settings
from chainrule.app.errors import AppError, Conflict, InvalidInput
from chainrule.app.run_status import Reason, RunStatus
from chainrule.app.services import datasets, diagnoses, epochs, plans, runs, training
from chainrule.app.store import attempts, queue
from chainrule.app.store.attempts import Attempt
from chainrule.app.store.database import Database
from chainrule.app.store.models import Run
from chainrule.engine import RegularizationSpec, ScheduleSpec, compiled

SPEC: dict[str, Any] = {
    "network": {"layers": [{"units": 2, "activation": "softmax"}]},
    "epochs": 1,
}


def test_a_dataset_is_deleted_or_its_run_is_stored_but_never_both(database: Database, settings: Settings) -> None:
    for number in range(40):
        made = datasets.create_from_rows(
            database, settings, name="", samples=[[0.0], [float(number + 1)]], targets=None,
            labels=["a", "b"], feature_names=None,
        )  # fmt: skip
        dataset, start = made.dataset["id"], threading.Barrier(2)

        def submit(dataset: str = dataset, start: threading.Barrier = start) -> AppError | None:
            start.wait()
            try:
                runs.submit(database, settings, SPEC | {"dataset": dataset}, key=None)
            except InvalidInput as error:
                return error
            return None

        def delete(dataset: str = dataset, start: threading.Barrier = start) -> AppError | None:
            start.wait()
            try:
                datasets.delete(database, dataset)
            except Conflict as error:
                return error
            return None

        with ThreadPoolExecutor(2) as threads:
            refused = [future.result() for future in (threads.submit(submit), threads.submit(delete))]
        assert refused.count(None) == 1, refused
        if refused[0] is not None:
            assert f"There is no dataset '{dataset}'" in str(refused[0])


def test_a_verdict_by_a_rule_of_another_version_is_left_out(database: Database, settings: Settings) -> None:
    run_id = runs.submit(database, settings, SPEC | {"dataset": "moons"}, key=None).run["id"]
    of_tomorrow = {"rule": "of_tomorrow", "layer": None, "first": 1, "raised": 1, "last": 1, "cleared": None}
    with database.writing() as session:
        session.get_one(Run, run_id).diagnoses = [of_tomorrow]
    assert runs.get(database, run_id)["diagnoses"] == []
    assert diagnoses.of_run(database, run_id)["items"] == []
    assert epochs.page(database, run_id, after=-1, limit=10).diagnoses == []


def test_a_plan_says_all_that_determines_the_run(database: Database, settings: Settings) -> None:
    plan = plans.make(database, settings, SPEC | {"dataset": "moons"})
    assert plan.config == {
        "name": "",
        "dataset": "moons",
        "validation": None,
        "inputs": None,
        "network": {
            "inputs": 2,
            "layers": [{"units": 2, "activation": "softmax", "initializer": "xavier_uniform", "dropout": 0.0}],
        },
        "cost": "cross_entropy",
        "label_smoothing": 0.0,
        "class_weights": None,
        "sample_weights": True,
        "optimizer": {"name": "sgd", "learning_rate": 0.1},
        "schedule": {"name": "constant", "warmup_epochs": 0},
        "clip": None,
        "regularization": None,
        "early_stopping": None,
        "epochs": 1,
        "batch_size": None,
        "shuffle": True,
        "seed": 0,
        "dtype": "float32",
        "step": "numpy",
        "shards": 1,
        "shards_even_if_slower": False,
        "checkpoints": {"every": 1, "keep": None},
        "gradients": {"every": 1},
        "priority": 0,
        "max_duration_s": None,
        "max_memory_bytes": None,
    }
    assert plan.estimate["parameters"] == 6
    assert plan.estimate["steps"] == 1


@pytest.mark.parametrize(
    ("given", "completed"),
    [
        ({"schedule": {}}, {"name": "constant", "warmup_epochs": 0}),
        ({"schedule": {"warmup_epochs": 3}}, {"name": "constant", "warmup_epochs": 3}),
        ({"schedule": {"name": "step"}}, {"name": "step", "every": 10, "factor": 0.1, "warmup_epochs": 0}),
        (
            {"schedule": {"name": "exponential", "factor": 0.5, "every": None}},
            {"name": "exponential", "factor": 0.5, "warmup_epochs": 0},
        ),
        ({"schedule": {"name": "cosine"}}, {"name": "cosine", "minimum": 0.0, "warmup_epochs": 0}),
        ({"clip": {"norm": 2.0, "value": None}}, {"norm": 2.0}),
        ({"clip": {"norm": None, "value": 0.5}}, {"value": 0.5}),
        ({"regularization": {}}, None),
        ({"regularization": {"l1": 0.0, "l2": None}}, None),
        ({"regularization": {"l1": 0.0, "l2": 0.1, "max_norm": 3.0}}, {"l2": 0.1, "max_norm": 3.0}),
    ],
)
def test_what_shapes_a_step_is_stored_with_the_numbers_it_uses_and_no_others(
    database: Database, settings: Settings, given: dict[str, Any], completed: dict[str, Any] | None
) -> None:
    ((kind, _),) = given.items()
    plan = plans.make(database, settings, SPEC | {"dataset": "moons"} | given)
    assert plan.config[kind] == completed
    again = plans.make(database, settings, plan.config)
    assert (again.config, again.engine) == (plan.config, plan.engine)


@pytest.mark.parametrize(
    ("given", "pointer", "words"),
    [
        ({"schedule": {"name": "linear"}}, "/schedule/name", "known: constant, step, exponential, cosine, plateau"),
        ({"schedule": {"factor": 0.5}}, "/schedule/factor", "'constant' does not use factor; it uses warmup_epochs."),
        (
            {"schedule": {"name": "step", "minimum": 0.0}},
            "/schedule/minimum",
            "Schedule 'step' does not use minimum; it uses every, factor, warmup_epochs.",
        ),
        ({"schedule": {"name": "cosine", "every": 2}}, "/schedule/every", "it uses minimum, warmup_epochs."),
        ({"schedule": {"name": "step", "factor": 2.0}}, "/schedule/factor", "at most 1"),
        ({"schedule": {"name": "cosine", "minimum": 0.2}}, "/schedule/minimum", "at most the learning rate, 0.1"),
        ({"clip": {"norm": 1.0, "value": 1.0}}, "/clip", "either norm or value"),
        ({"clip": {"norm": -1.0}}, "/clip/norm", "above 0"),
        ({"clip": {"value": 1e39}}, "/clip/value", "float32"),
        ({"regularization": {"l1": -1.0}}, "/regularization/l1", "at least 0"),
        ({"regularization": {"l2": 1e39}}, "/regularization/l2", "float32"),
        ({"regularization": {"max_norm": -1.0}}, "/regularization/max_norm", "above 0"),
    ],
)
def test_what_shapes_a_step_is_refused_at_its_place(
    database: Database, settings: Settings, given: dict[str, Any], pointer: str, words: str
) -> None:
    with pytest.raises(InvalidInput) as refusal:
        plans.make(database, settings, SPEC | {"dataset": "moons"} | given)
    (error,) = refusal.value.errors
    assert error.pointer == pointer
    assert words in error.detail


def test_a_config_stored_before_schedules_clipping_and_regularization_trains_as_it_did(
    database: Database, settings: Settings
) -> None:
    plan = plans.make(database, settings, SPEC | {"dataset": "moons"})
    old = {k: v for k, v in plan.config.items() if k not in ("schedule", "clip", "regularization")}
    assert training.engine_config(old, 2) == plan.engine
    off = (plan.engine.schedule, plan.engine.clip, plan.engine.regularization)
    assert off == (ScheduleSpec(), None, RegularizationSpec())


def test_compiled_steps_are_refused_where_numba_is_missing(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "version", lambda: None)
    with pytest.raises(InvalidInput, match=r"pip install 'chainrule\[fast\]'") as refusal:
        plans.make(database, settings, SPEC | {"dataset": "moons", "step": "compiled"})
    assert [error.pointer for error in refusal.value.errors] == ["/step"]
    assert plans.make(database, settings, SPEC | {"dataset": "moons"}).config["step"] == "numpy"
    assert "numba" not in training.builds(settings)


def test_the_storage_of_a_run_is_estimated_well(database: Database, settings: Settings) -> None:
    spec = SPEC | {"dataset": "digits", "epochs": 50, "network": {"layers": [{"units": 10, "activation": "softmax"}]}}
    estimate = plans.make(database, settings, spec).estimate["storage_bytes"]
    weights = (64 + 1) * 10 * 4
    assert 51 * weights < estimate < 2 * 51 * weights
    kept = plans.make(database, settings, spec | {"checkpoints": {"every": 10, "keep": 2}}).estimate["storage_bytes"]
    assert kept < estimate / 3


def test_a_wish_to_cancel_is_heard_while_the_run_is_put_back_into_the_queue(
    database: Database, settings: Settings
) -> None:
    run_id = runs.submit(database, settings, SPEC | {"dataset": "xor"}, key=None).run["id"]
    attempt = Attempt(run_id, "a1")
    with database.writing() as session:
        assert queue.claim(session, "a1", "here:1") is not None
    with ThreadPoolExecutor() as pool:
        with database.writing() as session:
            assert attempts.end_attempt(session, attempt, RunStatus.QUEUED, Reason.DRAINED) is RunStatus.QUEUED
            cancelling = pool.submit(runs.cancel, database, run_id, if_match=None)
            time.sleep(0.3)  # it has seen the run running, and waits
        assert cancelling.result()["status"] == "cancelled"
