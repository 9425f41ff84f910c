"""The fast path does what the reading path says."""

import numpy as np
import pytest

from chainrule.engine import (
    OPTIMIZERS,
    Data,
    Epoch,
    OptimizerSpec,
    TrainingConfig,
    backward,
    forward,
    initialize,
    train,
)
from chainrule.engine.arrays import FloatArray, generator
from chainrule.engine.fast import Batches, BatchPass, Gradient
from chainrule.engine.network import Network, mean_cost
from chainrule.engine.optimizers import Stepper
from tests.engine.problems import DEEP, FITTING, HIDDEN, PROBLEMS, SHALLOW, Problem

SAMPLES, BATCH, EPOCHS, SEED = 13, 4, 13, 5  # 3 full steps and a last of one sample, 52 in all


def make(problem: Problem, optimizer: str, dtype: str) -> tuple[TrainingConfig, Data, FloatArray]:
    _, X, Y = problem.make(SAMPLES, dtype)
    units = problem.sizes[-1]
    data = Data(X, Y=Y)
    if problem.cost == "cross_entropy":
        labels = np.random.default_rng(0).integers(0, units, SAMPLES)
        data = Data(X, labels=labels, classes=tuple(map(str, range(units))))
        Y = np.eye(units, dtype=dtype)[labels]
    config = TrainingConfig(
        problem.spec,
        problem.cost,
        OptimizerSpec(optimizer, learning_rate=0.01, epsilon=1e-4),
        epochs=EPOCHS,
        batch_size=BATCH,
        seed=SEED,
        dtype=dtype,
        gradients_every=None,
    )
    return config, data, Y


def read(config: TrainingConfig, X: FloatArray, Y: FloatArray) -> tuple[Network, list[float]]:
    """Train by the reading path, as one would write it down."""
    network = initialize(config.network, config.seed, config.dtype)
    stepper, t, costs = Stepper(config.optimizer, network.parameters), 0, []
    for epoch in range(1, EPOCHS + 1):
        order, total = generator(config.seed, "shuffle", epoch).permutation(SAMPLES), 0.0
        for start in range(0, SAMPLES, BATCH):
            rows = order[start : start + BATCH]
            total += len(rows) * mean_cost(network, config.cost, X[rows], Y[rows])
            found = backward(forward(network, X[rows]), config.cost, Y[rows])
            named = {name[1:]: G for name, G in found.items() if name.startswith(("dW", "db"))}
            t += 1
            stepper.step(network.parameters, Network.from_named(config.network, named).parameters, t)
        costs.append(total / SAMPLES)
    return network, costs


def equal_after_training(problem: Problem, optimizer: str, dtype: str, tolerance: float) -> None:
    config, data, Y = make(problem, optimizer, dtype)
    epochs = [event for event in train(config, data) if isinstance(event, Epoch)]
    network, costs = read(config, data.X, Y)
    np.testing.assert_allclose(epochs[-1].network.parameters, network.parameters, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose([epoch.cost for epoch in epochs[1:]], costs, rtol=tolerance)


@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-5)])
def test_one_pass_gives_the_gradient_and_the_outputs_of_the_reading_path(
    problem: Problem, dtype: str, tolerance: float
) -> None:
    network, X, Y = problem.make(dtype=dtype)
    caches = forward(network, X)
    expected = backward(caches, problem.cost, Y)
    gradient, Z = Gradient(network.spec, network.parameters.dtype), np.empty(Y.T.shape, Y.dtype)
    with_one = np.column_stack([X, np.ones(len(X), X.dtype)])
    one = BatchPass(network, gradient, problem.cost, len(X))
    for _ in range(2):  # what the first pass leaves in the buffers must not matter to the second
        with np.errstate(over="ignore"):
            one.run(with_one, np.ascontiguousarray(Y.T), Z)
        np.testing.assert_allclose(Z.T, caches[-1].Z, rtol=tolerance, atol=tolerance)
        for number, block in gradient.blocks.items():
            np.testing.assert_allclose(block[:, :-1], expected[f"dW{number}"], rtol=tolerance, atol=tolerance)
            np.testing.assert_allclose(block[:, -1], expected[f"db{number}"], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize(("output", "cost"), FITTING)
def test_fifty_steps_end_where_the_reading_path_does(hidden: str, output: str, cost: str, optimizer: str) -> None:
    equal_after_training(Problem(SHALLOW, hidden, output, cost), optimizer, "float64", 1e-10)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("output", "cost"), FITTING)
def test_fifty_steps_of_a_deep_network_in_float32_end_close_by(output: str, cost: str, optimizer: str) -> None:
    equal_after_training(Problem(DEEP, "tanh", output, cost), optimizer, "float32", 1e-4)


def test_batches_cover_their_rows_and_lay_targets_units_first() -> None:
    network = initialize(Problem(SHALLOW, "tanh", "linear", "mse").spec, 0, "float64")
    one = BatchPass(network, Gradient(network.spec, network.parameters.dtype), "mse", 4)
    X, Y = np.arange(13 * 5.0).reshape(13, 5), np.arange(13 * 3.0).reshape(13, 3)
    part = Batches(one, X, steps=2, first=3, row=1)
    part.fill(Y)
    np.testing.assert_array_equal(part.X[1], X[5:9])
    np.testing.assert_array_equal(part.Y[1], Y[5:9].T)
    assert np.shares_memory(part.X, X)
    assert [part.between(start, 5) for start in (0, 3, 4, 5)] == [slice(0, 2), slice(0, 2), slice(1, 2), slice(2, 2)]
    assert part.between(0, 2) == slice(0, 0)
