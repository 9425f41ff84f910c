"""Plans: what costs, weights and stopping a run may ask for, and what it comes to."""

from typing import Any

import numpy as np
import pytest

from chainrule.app.config import Settings
from chainrule.app.errors import InvalidInput
from chainrule.app.services import datasets, plans, runs, training
from chainrule.app.store.database import Database
from chainrule.engine import EarlyStoppingSpec, NetworkSpec, dense, spirals

SPEC: dict[str, Any] = {
    "dataset": "spirals",
    "network": {"layers": [{"units": 4, "activation": "tanh", "dropout": 0.25}, {"units": 3, "activation": "softmax"}]},
    "epochs": 50,
}
OUTPUTS: dict[str, Any] = {"network": {"layers": [{"units": 2, "activation": "sigmoid"}]}}


def numeric(database: Database, settings: Settings, targets: list[list[float]]) -> str:
    """Make a dataset with numeric targets."""
    made = datasets.create_from_rows(
        database, settings, name="", samples=[[float(row)] for row in range(len(targets))], targets=targets,
        labels=None, feature_names=None,
    )  # fmt: skip
    dataset: str = made.dataset["id"]
    return dataset


def test_what_a_spec_asks_for_reaches_the_engine(database: Database, settings: Settings) -> None:
    asked = {
        "label_smoothing": 0.1,
        "class_weights": [1, 2.5, 0],
        "schedule": {"name": "plateau", "factor": 0.5, "patience": 3},
        "early_stopping": {"patience": 4, "min_delta": 0.01},
    }
    plan = plans.make(database, settings, SPEC | asked)
    engine = plan.engine
    assert [layer.dropout for layer in engine.network.layers] == [0.25, 0.0]
    assert (engine.label_smoothing, engine.class_weights) == (0.1, (1, 2.5, 0))
    assert engine.early_stopping == EarlyStoppingSpec(4, 0.01)
    assert (engine.schedule.name, engine.schedule.factor, engine.schedule.patience) == ("plateau", 0.5, 3)
    assert plan.config["schedule"] == {
        "name": "plateau", "factor": 0.5, "minimum": 0.0, "patience": 3, "warmup_epochs": 0,
    }  # fmt: skip
    assert plans.make(database, settings, plan.config).config == plan.config
    balanced = plans.make(database, settings, SPEC | {"class_weights": "balanced"})
    assert balanced.config["class_weights"] == balanced.engine.class_weights == "balanced"


def test_a_config_of_before_these_were_known_asks_for_none_of_them(database: Database, settings: Settings) -> None:
    config = plans.make(database, settings, SPEC).config
    layers = [{name: layer[name] for name in ("units", "activation")} for layer in config["network"]["layers"]]
    new = ("label_smoothing", "class_weights", "sample_weights", "early_stopping")
    old = {name: value for name, value in config.items() if name not in new} | {
        "network": {"inputs": 2, "layers": layers}
    }
    engine = training.engine_config(old, 2)
    assert (engine.dropout, engine.label_smoothing, engine.class_weights, engine.early_stopping) == ({}, 0, None, None)
    assert training.class_balance(database, settings, old) is None


@pytest.mark.parametrize(
    ("changes", "pointer", "words"),
    [
        ({"class_weights": [1, 2]}, "/class_weights", "There are 2 weights and 3 classes; give one for each"),
        ({"class_weights": [0, 0, 0]}, "/class_weights", "All weights are 0"),
        ({"class_weights": [1, -1, 1]}, "/class_weights", "at least 0"),
        ({"label_smoothing": 1.0}, "/label_smoothing", "below 1"),
        ({"early_stopping": {"patience": 0}}, "/early_stopping/patience", "1 or more"),
        ({"early_stopping": {"min_delta": -1.0}}, "/early_stopping/min_delta", "at least 0"),
        ({"schedule": {"name": "step", "patience": 3}}, "/schedule/patience", "does not use patience"),
        ({"schedule": {"name": "plateau", "every": 3}}, "/schedule/every", "does not use every"),
        ({"cost": "binary_cross_entropy"}, "/cost", "does not fit the output activation 'softmax'"),
        (
            {"network": {"layers": [{"units": 3, "activation": "softmax", "dropout": 0.5}]}},
            "/network/layers/0/dropout",
            "The output layer has no dropout",
        ),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_at_its_place(
    database: Database, settings: Settings, changes: dict[str, Any], pointer: str, words: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        plans.make(database, settings, SPEC | changes)
    assert refused.value.errors[0].pointer == pointer
    assert words in refused.value.detail


@pytest.mark.parametrize("changes", [{"label_smoothing": 0.1}, {"class_weights": "balanced"}, {"class_weights": [1.0]}])
def test_what_is_for_classes_is_refused_for_numeric_targets(
    database: Database, settings: Settings, changes: dict[str, Any]
) -> None:
    dataset = numeric(database, settings, [[0, 1], [1, 0]])
    with pytest.raises(InvalidInput, match="for class labels and the dataset has numeric targets") as refused:
        plans.make(database, settings, SPEC | OUTPUTS | {"dataset": dataset} | changes)
    assert refused.value.errors[0].pointer == f"/{next(iter(changes))}"


def test_binary_cross_entropy_takes_targets_from_0_to_1_and_no_others(database: Database, settings: Settings) -> None:
    spec = SPEC | OUTPUTS | {"cost": "binary_cross_entropy"}
    fitting = numeric(database, settings, [[0, 1], [0.5, 0], [1, 1]])
    assert plans.make(database, settings, spec | {"dataset": fitting}).engine.cost == "binary_cross_entropy"
    for targets, words in (
        ([[0.0, 1.5], [1.0, 0.0]], "run from 0 to 1.5"),
        ([[0.0, 1.0], [-1.0, 0.0]], "run from -1 to 1"),
    ):
        other = numeric(database, settings, targets)
        with pytest.raises(InvalidInput, match=words) as refused:
            plans.make(database, settings, spec | {"dataset": other})
        assert refused.value.errors[0].pointer == "/dataset"
        with pytest.raises(InvalidInput, match=words) as refused:
            plans.make(database, settings, spec | {"dataset": fitting, "validation": {"dataset": other}})
        assert refused.value.errors[0].pointer == "/validation/dataset"


def test_the_best_weights_count_in_the_storage_of_a_run_that_may_stop_early(
    database: Database, settings: Settings
) -> None:
    spec = SPEC | {"checkpoints": {"every": 10, "keep": 2}}
    whole = plans.make(database, settings, spec).estimate
    stopping = plans.make(database, settings, spec | {"early_stopping": {"patience": 5}}).estimate
    weights = 4 * whole["parameters"]
    assert 2 * weights < stopping["storage_bytes"] - whole["storage_bytes"] < 2 * weights + 1000
    assert stopping["steps"] == whole["steps"]


def test_classes_are_balanced_by_the_samples_that_train(database: Database, settings: Settings) -> None:
    spec = SPEC | {"class_weights": "balanced", "validation": {"fraction": 0.3, "seed": 5}}
    found = training.class_balance(database, settings, plans.make(database, settings, spec).config)
    expected, _ = spirals().split(0.3, 5)
    assert found is not None
    assert expected.labels is not None
    assert np.array_equal(found.labels, expected.labels)  # type: ignore[arg-type]
    other = plans.make(database, settings, spec | {"validation": {"dataset": "spirals"}}).config
    whole = training.class_balance(database, settings, other)
    assert whole is not None
    assert np.array_equal(whole.labels, spirals().labels)  # type: ignore[arg-type]


def test_the_samples_weights_count_unless_a_run_leaves_them_out(database: Database, settings: Settings) -> None:
    made = datasets.create_from_rows(
        database, settings, name="", samples=[[0.0], [1], [2], [3]], targets=None, labels=["a", "b", "a", "b"],
        feature_names=None, weights=[1, 2, 3, 4],
    )  # fmt: skip
    spec = SPEC | {
        "dataset": made.dataset["id"],
        "network": {"layers": [{"units": 2, "activation": "softmax"}]},
        "validation": {"fraction": 0.5, "seed": 0},
    }
    for inputs in (None, {"scaling": "standardize"}):
        run = runs.submit(database, settings, spec | {"inputs": inputs}, key=None).run
        parts = training.load_split(database, settings, run["id"], run["config"])
        weights = [part.weights.tolist() for part in parts if part is not None and part.weights is not None]
        assert [len(part) for part in weights] == [2, 2]
        assert sorted(weights[0] + weights[1]) == [1, 2, 3, 4]
        if inputs is None:
            assert [part.X[:, 0].tolist() for part in parts if part] == [[w - 1 for w in part] for part in weights]
        left_out = run["config"] | {"sample_weights": False}
        bare = training.load_split(database, settings, run["id"], left_out)
        assert [part.weights for part in bare if part is not None] == [None, None]


@pytest.mark.parametrize(
    ("epochs", "spec", "samples", "every"),
    [
        (20, dense(2, (8, "tanh"), (1, "sigmoid")), 4, 1),
        (40, dense(2, (8, "tanh"), (1, "sigmoid")), 4, 8),
        (5000, dense(2, (8, "tanh"), (1, "sigmoid")), 4, 209),
        (100, dense(64, (32, "relu"), (10, "softmax")), 1797, 20),
        (1000, dense(64, (32, "relu"), (10, "softmax")), 1797, 14),
        (100, dense(784, (128, "relu"), (10, "softmax")), 60_000, 1),
        (1000, dense(784, (128, "relu"), (10, "softmax")), 60_000, 10),
    ],
)
def test_statistics_are_recorded_as_often_as_less_than_a_twentieth_of_the_time_allows(
    epochs: int, spec: NetworkSpec, samples: int, every: int
) -> None:
    assert training.default_gradients_every(epochs, spec, samples, 32) == every
