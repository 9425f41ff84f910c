"""Smoothed targets, class weights, sample weights and labels that hold or not: in training and in what is reported."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from chainrule.engine import (
    ConfigError,
    Data,
    Epoch,
    Network,
    OptimizerSpec,
    ShapeError,
    TrainingConfig,
    backward,
    dense,
    forward,
    goal,
    initialize,
    train,
)
from chainrule.engine.network import mean_cost
from chainrule.engine.optimizers import Stepper

RNG = np.random.default_rng(0)
X, LABELS = RNG.normal(size=(13, 4)), np.array([0, 1, 2, 0, 0, 0, 1, 2, 0, 1, 0, 0, 0])
DATA = Data(X, labels=LABELS, classes=("a", "b", "c"))
WEIGHED = replace(DATA, weights=np.linspace(0, 3, 13))
SOFTMAX = dense(4, (5, "tanh"), (3, "softmax"))
CONFIG = TrainingConfig(
    SOFTMAX, optimizer=OptimizerSpec("adam", 0.02), epochs=5, batch_size=4, shuffle=False, dtype="float64"
)


@pytest.mark.parametrize("data", [DATA, WEIGHED], ids=["", "sample weights"])
@pytest.mark.parametrize(
    "config",
    [
        {"label_smoothing": 0.1},
        {"class_weights": (0.5, 2.0, 1.0)},
        {"class_weights": "balanced", "label_smoothing": 0.2},
        {"class_weights": "balanced", "optimizer": OptimizerSpec("sgd", 0.3)},
    ],
    ids=str,
)
def test_training_for_a_goal_is_what_the_reading_path_does(config: dict[str, Any], data: Data) -> None:
    made = replace(CONFIG, **config)
    found = [event for event in train(made, data) if isinstance(event, Epoch)]
    network, sought, t, costs = initialize(SOFTMAX, 0, "float64"), goal(made, data), 0, []
    stepper = Stepper(made.optimizer, network.parameters)
    for _ in range(5):
        total = 0.0
        for start in range(0, 13, 4):
            rows = slice(start, start + 4)
            weights = None if sought.weights is None else sought.weights[rows]
            total += mean_cost(network, "cross_entropy", X[rows], sought.Y[rows], weights) * len(X[rows])
            G = backward(forward(network, X[rows]), "cross_entropy", sought.Y[rows], weights)
            t += 1
            named = {name[1:]: array for name, array in G.items() if name[:2] in ("dW", "db")}
            stepper.step(network.parameters, Network.from_named(SOFTMAX, named).parameters, t)
        costs.append(total / 13)
    np.testing.assert_allclose(found[-1].network.parameters, network.parameters, rtol=1e-11)
    np.testing.assert_allclose([epoch.cost for epoch in found[1:]], costs, rtol=1e-12)


def test_smoothed_targets_worked_by_hand() -> None:
    np.testing.assert_allclose(goal(replace(CONFIG, label_smoothing=0.3), DATA).Y[1], [0.1, 0.8, 0.1])


def test_balanced_weights_even_the_classes_out() -> None:
    sought = goal(replace(CONFIG, class_weights="balanced"), DATA)
    assert sought.weights is not None
    sums = [sought.weights[label == LABELS].sum() for label in range(3)]
    np.testing.assert_allclose(sums, 13 / 3)


def test_validation_data_is_weighed_as_the_training_data_says() -> None:
    config, judged = replace(CONFIG, class_weights="balanced"), DATA.take(np.array([1, 2, 2]))
    sought = goal(config, judged, DATA)
    assert sought.weights is not None
    np.testing.assert_allclose(sought.weights, 13 / 3 / np.array([3.0, 2.0, 2.0]))
    *_, last = (event for event in train(config, DATA, judged) if isinstance(event, Epoch))
    assert last.validation_cost == pytest.approx(
        mean_cost(last.network, "cross_entropy", judged.X, sought.Y, sought.weights), rel=1e-12
    )


def test_a_sample_that_weighs_nothing_teaches_nothing() -> None:
    weights = np.ones(13)
    weights[3] = 0
    changed = X.copy()
    changed[3] = 7.0
    ends = []
    for of in (X, changed):
        *_, last = train(replace(CONFIG, gradients_every=None), replace(DATA, X=of, weights=weights))
        ends.append(last.resume_point().parameters.tobytes())
    assert ends[0] == ends[1]


def test_labels_that_hold_or_not_are_each_learned_and_a_sample_is_wrong_if_any_is() -> None:
    Y = np.column_stack([X[:, 0] > 0, X[:, 1] > 0.3]).astype(float)
    config = replace(
        CONFIG, network=dense(4, (8, "tanh"), (2, "sigmoid")), cost="binary_cross_entropy", epochs=150, shuffle=True
    )
    found = [event for event in train(config, Data(X, Y=Y), Data(X, Y=Y)) if isinstance(event, Epoch)]
    for epoch in (found[0], found[30], found[-1]):
        wrong = (forward(epoch.network, X)[-1].A > 0.5) != (Y > 0.5) if epoch is found[-1] else None
        if wrong is not None:
            assert epoch.validation_error == np.mean(wrong.any(axis=1))
    assert found[0].error is not None
    assert found[0].error > 0.3
    assert found[-1].error == 0


@pytest.mark.parametrize(
    ("config", "data", "match"),
    [
        (replace(CONFIG, class_weights=(1.0, 2.0)), DATA, "3 classes and 2 class weights"),
        (replace(CONFIG, cost="mse", label_smoothing=0.1), Data(X, Y=np.zeros((13, 3))), "label_smoothing"),
        (replace(CONFIG, cost="mse", class_weights="balanced"), Data(X, Y=np.zeros((13, 3))), "class_weights"),
        (
            replace(CONFIG, network=dense(4, (3, "sigmoid")), cost="binary_cross_entropy"),
            Data(X, Y=np.full((13, 3), 1.5)),
            "from 0 to 1",
        ),
        (CONFIG, replace(DATA, categories=(("u", "v"), None, None, None)), "categories"),
    ],
)
def test_data_that_does_not_fit_the_goal_is_refused(config: TrainingConfig, data: Data, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        next(iter(train(config, data)))


@pytest.mark.parametrize("weights", [np.ones(12), np.full(13, -1.0), np.full(13, np.nan)])
def test_weights_that_make_no_sense_are_refused(weights: np.ndarray) -> None:
    with pytest.raises(ShapeError, match="weights"):
        replace(DATA, weights=weights)


@pytest.mark.parametrize(
    "given", [{"label_smoothing": 1.0}, {"label_smoothing": -0.1}, {"class_weights": (1.0, -1.0, 1.0)}]
)
def test_a_config_that_makes_no_sense_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as refusal:
        replace(CONFIG, **given)
    assert refusal.value.field == next(iter(given))
