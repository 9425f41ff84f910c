"""A state is what the reading path says; the step is the one that training takes."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from chainrule.engine import (
    ClipSpec,
    ConfigError,
    Data,
    Epoch,
    LayerSpec,
    NetworkSpec,
    OptimizerSpec,
    RegularizationSpec,
    TrainingConfig,
    dense,
    digits,
    goal,
    initialize,
    train,
)
from chainrule.engine.gradients import gradients
from chainrule.engine.network import mean_cost
from chainrule.engine.what_if import state, stepped
from tests.engine.problems import NORMALIZED, PROBLEMS, STEPPING, Problem

SMALL: Data = dataclasses.replace(digits(), X=digits().X[:60], labels=np.asarray(digits().labels)[:60])
PLAIN = dense(64, (9, "tanh"), (10, "softmax"))
BATCH = NetworkSpec(64, (LayerSpec(9, "relu", None, 0.0, "batch"), LayerSpec(10, "softmax")))


def config(**changes: Any) -> TrainingConfig:
    given: dict[str, Any] = {"network": PLAIN, "epochs": 1, "batch_size": None, "dtype": "float64", "seed": 3}
    return TrainingConfig(**(given | changes))


@pytest.mark.parametrize("problem", [*PROBLEMS[::31], *NORMALIZED[::3]], ids=str)
@pytest.mark.parametrize("training", [False, True])
def test_a_state_is_what_the_reading_path_says(problem: Problem, training: bool) -> None:
    network, X, Y = problem.make()
    w = np.linspace(0.5, 2, len(X))
    found = state(network, problem.cost, X, Y, w, training=training)
    names = [f"d{name}" for name in network.blocks]
    G = gradients(network, problem.cost, X, Y, names, weights=w, training=training)
    np.testing.assert_allclose(found.cost, mean_cost(network, problem.cost, X, Y, w, training=training))
    np.testing.assert_allclose(found.errors.mean(), found.cost)
    assert found.norms == {name: float(np.linalg.norm(g)) for name, g in G.items()}
    np.testing.assert_allclose(found.norm**2, sum(np.sum(g * g) for g in G.values()))
    assert found.outputs.shape == (len(X), problem.sizes[-1])


@pytest.mark.parametrize(
    "changes",
    [
        *({"optimizer": OptimizerSpec(name)} for name in STEPPING),
        {"clip": ClipSpec(norm=0.01)},
        {"clip": ClipSpec(value=0.01), "regularization": RegularizationSpec(l1=0.01, l2=0.1)},
        {"regularization": RegularizationSpec(max_norm=0.8), "label_smoothing": 0.2, "class_weights": "balanced"},
        {"network": BATCH},
    ],
    ids=[*STEPPING, "clipped by norm", "clipped by value, penalized", "shortened, weighted", "batch normalization"],
)
def test_the_step_is_the_first_that_training_takes(changes: dict[str, Any]) -> None:
    chosen = config(**changes)
    begun, ended = [epoch.network for epoch in train(chosen, SMALL) if isinstance(epoch, Epoch)]
    sought = goal(chosen, SMALL)
    rate = chosen.optimizer.learning_rate
    made = stepped(begun, chosen, rate, np.asarray(SMALL.X, np.float64), sought.Y, sought.weights)
    np.testing.assert_allclose(made.parameters, ended.parameters, rtol=1e-7, atol=1e-12)
    np.testing.assert_array_equal(begun.parameters, initialize(chosen.network, 3, "float64").parameters)
    other = stepped(begun, chosen, 3 * rate, np.asarray(SMALL.X, np.float64), sought.Y, sought.weights)
    assert not np.allclose(other.parameters, ended.parameters)


def test_a_line_search_is_no_step_along_one_gradient() -> None:
    chosen = config(optimizer=OptimizerSpec("lbfgs"))
    sought = goal(chosen, SMALL)
    with pytest.raises(ConfigError):
        stepped(initialize(PLAIN, 3, "float64"), chosen, 1.0, np.asarray(SMALL.X), sought.Y, None)
