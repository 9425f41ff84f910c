"""Runs: what may be submitted while others do other things."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from chainrule.app.config import Settings
from chainrule.app.errors import AppError, Conflict, InvalidInput
from chainrule.app.services import datasets, plans, runs
from chainrule.app.store.database import Database

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


def test_a_plan_says_all_that_determines_the_run(database: Database, settings: Settings) -> None:
    plan = plans.make(database, settings, SPEC | {"dataset": "moons"})
    assert plan.config == {
        "name": "",
        "dataset": "moons",
        "validation": None,
        "network": {
            "inputs": 2,
            "layers": [{"units": 2, "activation": "softmax", "initializer": "xavier_uniform"}],
        },
        "cost": "cross_entropy",
        "optimizer": {"name": "sgd", "learning_rate": 0.1},
        "epochs": 1,
        "batch_size": None,
        "shuffle": True,
        "seed": 0,
        "dtype": "float32",
        "checkpoints": {"every": 1, "keep": None},
        "gradients": {"every": 1},
        "priority": 0,
    }
    assert plan.estimate["parameters"] == 6
    assert plan.estimate["steps"] == 1


def test_the_storage_of_a_run_is_estimated_well(database: Database, settings: Settings) -> None:
    spec = SPEC | {"dataset": "digits", "epochs": 50, "network": {"layers": [{"units": 10, "activation": "softmax"}]}}
    estimate = plans.make(database, settings, spec).estimate["storage_bytes"]
    weights = (64 + 1) * 10 * 4
    assert 51 * weights < estimate < 2 * 51 * weights
    kept = plans.make(database, settings, spec | {"checkpoints": {"every": 10, "keep": 2}}).estimate["storage_bytes"]
    assert kept < estimate / 3
