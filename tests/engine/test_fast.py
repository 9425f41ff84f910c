"""The fast path does what the reading path says."""

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from chainrule.engine import (
    SCHEDULES,
    ClipSpec,
    Data,
    Epoch,
    OptimizerSpec,
    RegularizationSpec,
    ScheduleSpec,
    TrainingConfig,
    backward,
    fast,
    forward,
    initialize,
    train,
)
from chainrule.engine.arrays import FloatArray, generator
from chainrule.engine.fast import Batches, gradient_pass, input_width
from chainrule.engine.network import Network, follow, mean_cost
from chainrule.engine.optimizers import Stepper
from tests.engine.problems import DEEP, FITTING, HIDDEN, NORMALIZED, PROBLEMS, SHALLOW, STEPPING, Problem

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
        batch_size=5 if problem.normalization == "batch" else BATCH,  # 13 = 5 + 5 + 3
        seed=SEED,
        dtype=dtype,
        gradients_every=None,
    )
    return config, data, Y


def read(config: TrainingConfig, X: FloatArray, Y: FloatArray) -> tuple[Network, list[float]]:
    """Train by the reading path, as one would write it down."""
    network = initialize(config.network, config.seed, config.dtype)
    stepper, t, costs = Stepper(config.optimizer, network.parameters), 0, []
    batch = config.batch(SAMPLES)
    for epoch in range(1, EPOCHS + 1):
        stepper.set_learning_rate(config.schedule.rate(config.optimizer.learning_rate, epoch, EPOCHS))
        order, total = generator(config.seed, "shuffle", epoch).permutation(SAMPLES), 0.0
        for start in range(0, SAMPLES, batch):
            rows = order[start : start + batch]
            total += len(rows) * mean_cost(network, config.cost, X[rows], Y[rows], training=True)
            caches = forward(network, X[rows], training=True)
            found = backward(caches, config.cost, Y[rows])
            follow(network, caches)
            G = Network(config.network, np.empty_like(network.parameters))
            for name, block in G.blocks.items():
                block[:] = found[f"d{name}"]
            for number, W in network.W.items():
                G.W[number] += config.regularization.l1 * np.sign(W) + config.regularization.l2 * W
            clip(config.clip, G.parameters)
            t += 1
            stepper.step(network.parameters, G.parameters, t)
            for W in network.W.values():
                shorten(config.regularization.max_norm, W)
        costs.append(total / SAMPLES)
    return network, costs


def clip(spec: ClipSpec | None, G: FloatArray) -> None:
    """Clip a gradient as a textbook would."""
    if spec is not None and spec.norm is not None:
        G *= min(1, spec.norm / float(np.linalg.norm(G)))
    elif spec is not None:
        G[:] = np.clip(G, -(spec.value or 0), spec.value)


def shorten(c: float | None, W: FloatArray) -> None:
    """Bound each unit's incoming weights as a textbook would."""
    for w in W if c is not None else ():
        w *= min(1, (c or 0) / float(np.linalg.norm(w)))


def equal_after_training(problem: Problem, optimizer: str, dtype: str, tolerance: float, **shaped_by: Any) -> None:
    config, data, Y = make(problem, optimizer, dtype)
    config = replace(config, **shaped_by)
    epochs = [event for event in train(config, data) if isinstance(event, Epoch)]
    network, costs = read(config, data.X, Y)
    np.testing.assert_allclose(epochs[-1].network.parameters, network.parameters, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(epochs[-1].network.running, network.running, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose([epoch.cost for epoch in epochs[1:]], costs, rtol=tolerance)


@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-5)])
def test_one_pass_gives_the_gradient_and_the_outputs_of_the_reading_path(
    problem: Problem, dtype: str, tolerance: float
) -> None:
    network, X, Y = problem.make(dtype=dtype)
    caches = forward(network, X)
    expected = backward(caches, problem.cost, Y)
    gradient = Network(network.spec, np.zeros_like(network.parameters))
    X_rows = np.ones((1, len(X), input_width(network.spec)), X.dtype)
    X_rows[..., : X.shape[1]] = X
    batches = Batches(network.spec, X_rows)
    batches.fill((), np.arange(len(X))[None], None, Y)
    once = gradient_pass(network.spec, problem.cost, network.parameters, gradient.parameters, network.running, batches)
    for _ in range(2):  # what the first pass leaves in the buffers must not matter to the second
        with np.errstate(over="ignore"):
            once()
        np.testing.assert_allclose(batches.Z[0].T, caches[-1].Z, rtol=tolerance, atol=tolerance)
        for name, block in gradient.blocks.items():
            np.testing.assert_allclose(block, expected[f"d{name}"], rtol=tolerance, atol=tolerance)


# Every hidden activation with every output and cost, the optimizers in turn.
IN_TURN = [
    (hidden, *fit, STEPPING[number % len(STEPPING)]) for number, (hidden, fit) in enumerate(product(HIDDEN, FITTING))
]


@pytest.mark.parametrize(("hidden", "output", "cost", "optimizer"), IN_TURN)
def test_fifty_steps_end_where_the_reading_path_does(hidden: str, output: str, cost: str, optimizer: str) -> None:
    equal_after_training(Problem(SHALLOW, hidden, output, cost), optimizer, "float64", 1e-10)


@pytest.mark.parametrize("optimizer", STEPPING)
@pytest.mark.parametrize(("output", "cost"), FITTING)
def test_fifty_steps_of_a_deep_network_in_float32_end_close_by(output: str, cost: str, optimizer: str) -> None:
    equal_after_training(Problem(DEEP, "tanh", output, cost), optimizer, "float32", 1e-4)


@pytest.mark.parametrize("problem", NORMALIZED, ids=str)
def test_fifty_steps_with_normalization_end_where_the_reading_path_does(problem: Problem) -> None:
    optimizer = ("sgd", "adam", "nesterov", "adamw")[NORMALIZED.index(problem) % 4]
    equal_after_training(problem, optimizer, "float64", 1e-9)
    equal_after_training(problem, optimizer, "float32", 1e-3)


SHAPED_BY: list[tuple[str, Any]] = [
    *(
        ("schedule", ScheduleSpec(name, every=4, factor=0.8, warmup_epochs=3))
        for name in SCHEDULES
        if name != "plateau"
    ),
    ("clip", ClipSpec(norm=0.1)),
    ("clip", ClipSpec(value=0.01)),
    ("regularization", RegularizationSpec(l1=0.02)),
    ("regularization", RegularizationSpec(l2=0.1)),
    ("regularization", RegularizationSpec(max_norm=0.9)),
    ("regularization", RegularizationSpec(0.02, 0.1, 0.9)),
]
REGULARIZATIONS = [spec for name, spec in SHAPED_BY if name == "regularization"]
SOFTMAX = Problem(SHALLOW, "tanh", "softmax", "cross_entropy")


@pytest.mark.parametrize("optimizer", ["sgd", "nesterov", "adam", "adamw"])
@pytest.mark.parametrize("clipped", [None, ClipSpec(norm=0.1), ClipSpec(value=0.01)], ids=str)
@pytest.mark.parametrize("regularization", REGULARIZATIONS, ids=str)
@pytest.mark.parametrize("schedule", [spec for name, spec in SHAPED_BY if name == "schedule"], ids=lambda s: s.name)
def test_fifty_steps_of_any_shape_end_where_the_textbook_does(
    schedule: ScheduleSpec, regularization: RegularizationSpec, clipped: ClipSpec | None, optimizer: str
) -> None:
    shaped_by = {"schedule": schedule, "clip": clipped, "regularization": regularization}
    equal_after_training(SOFTMAX, optimizer, "float64", 1e-10, **shaped_by)
    equal_after_training(SOFTMAX, optimizer, "float32", 1e-4, **shaped_by)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_everything_that_shapes_a_step_makes_a_difference_of_its_own(optimizer: str) -> None:
    config, data, _ = make(SOFTMAX, optimizer, "float64")
    ends = set()
    for shaped_by in ({}, *({name: spec} for name, spec in SHAPED_BY)):
        *_, last = train(replace(config, **shaped_by), data)
        ends.add(last.resume_point().parameters.tobytes())
    assert len(ends) == len(SHAPED_BY) + 1


@pytest.mark.parametrize("block", [3, 5, 8])
@pytest.mark.parametrize("optimizer", [name for name in STEPPING if name != "sgd"])
def test_an_update_block_by_block_ends_with_the_same_bytes(
    optimizer: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, data, _ = make(SOFTMAX, optimizer, "float32")
    config = replace(config, schedule=ScheduleSpec("cosine"), clip=ClipSpec(norm=0.5))
    ends = []
    for size in (fast.BLOCK, block):
        monkeypatch.setattr(fast, "BLOCK", size)
        *_, last = train(config, data)
        ends.append(last.resume_point())
    assert ends[0].parameters.size >= 4 * block
    assert ends[0].parameters.tobytes() == ends[1].parameters.tobytes()
    for name, vector in ends[0].optimizer_state.items():
        assert vector.tobytes() == ends[1].optimizer_state[name].tobytes()


def test_batches_take_samples_over_and_lay_targets_units_first() -> None:
    spec = Problem(SHALLOW, "tanh", "linear", "mse").spec
    X, Y = np.arange(13.0 * input_width(spec)).reshape(13, -1), np.arange(13 * 3.0).reshape(13, 3)
    batches = Batches(spec, np.empty((2, 4, input_width(spec))), weighted=True)
    rows = np.array([3, 1, 4, 12, 5, 9, 2, 6])
    batches.fill((), rows.reshape(2, 4), X, Y, np.arange(13.0))
    np.testing.assert_array_equal(batches.X[1], X[rows[4:]])
    np.testing.assert_array_equal(batches.Y[1], Y[rows[4:]].T)
    assert batches.scale is not None
    np.testing.assert_array_equal(batches.scale[1], [rows[4:] / 4])
    assert np.shares_memory(batches.changing["X_T"][1], batches.X[1])
