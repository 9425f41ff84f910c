"""L-BFGS: goes where the least is, in few steps, and goes on exactly."""

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule.engine import (
    ClipSpec,
    ConfigError,
    Data,
    DivergedError,
    EarlyStoppingSpec,
    Epoch,
    LayerSpec,
    NetworkSpec,
    OptimizerSpec,
    RegularizationSpec,
    ResumePoint,
    Round,
    ScheduleSpec,
    StepBoundary,
    Trainee,
    TrainingConfig,
    backward,
    dense,
    digits,
    forward,
    initialize,
    moons,
    targets,
    train,
    train_stacked,
    xor,
)
from chainrule.engine import lbfgs as module
from chainrule.engine.arrays import FloatArray
from chainrule.engine.network import Network, mean_cost
from chainrule.engine.optimizers import HISTORY
from tests.engine.problems import FITTING, HIDDEN, SHALLOW, Problem

CONFIG = TrainingConfig(
    dense(2, (8, "tanh"), (2, "softmax")), optimizer=OptimizerSpec("lbfgs"), epochs=25, batch_size=None, dtype="float64"
)
MOONS = moons(60)
RNG = np.random.default_rng(0)
SLOPE = RNG.normal(size=(6, 2))
X = RNG.normal(size=(40, 6)) * [1, 10, 0.1, 3, 1, 1]
PLANE = Data(X, Y=X @ SLOPE + RNG.normal(size=(40, 2)))
LINEAR = replace(CONFIG, network=dense(6, (2, "linear")), cost="mse")


def epochs_of(config: TrainingConfig, data: Data, **options: Any) -> list[Epoch]:
    epochs = []
    for event in train(config, data, **options):
        if isinstance(event, Epoch):
            assert event.network.parameters.size  # copied now, before training goes on
            epochs.append(event)
    return epochs


def told_of(config: TrainingConfig, data: Data, **options: Any) -> list[tuple[Any, ...]]:
    return [told(event) for event in train(config, data, **options) if isinstance(event, Epoch)]


def told(epoch: Epoch) -> tuple[Any, ...]:
    point = epoch.resume_point().to_arrays()
    return epoch.epoch, epoch.cost, epoch.error, epoch.gradients, {name: v.tobytes() for name, v in point.items()}


def counted(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Collect every value that is computed."""
    values: list[float] = []
    evaluate = module._Search._evaluate

    def evaluated(search: module._Search) -> float:
        values.append(evaluate(search))
        return values[-1]

    monkeypatch.setattr(module._Search, "_evaluate", evaluated)
    return values


def penalized(config: TrainingConfig, network: Network, data: Data) -> float:
    squares = sum(float(np.sum(W.astype(np.float64) ** 2)) for W in network.W.values())
    Y = targets(data, config.network.outputs)
    return mean_cost(network, config.cost, data.X, Y, data.weights) + 0.5 * config.regularization.l2 * squares


@pytest.mark.parametrize(("l2", "weights"), [(0.0, None), (0.3, None), (0.3, RNG.uniform(0, 2, 40))])
def test_a_quadratic_ends_at_its_exact_solution(l2: float, weights: FloatArray | None) -> None:
    # (1/m)·Σ wᵢ·½‖y − W·x − b‖² + ½·λ₂·‖W‖² is least where its gradient is zero: a linear system.
    config = replace(LINEAR, regularization=RegularizationSpec(l2=l2), epochs=80)
    data = replace(PLANE, weights=weights)
    *_, last = epochs_of(config, data)
    ones, w = np.column_stack([data.X, np.ones(40)]), np.ones(40) if weights is None else weights
    assert data.Y is not None
    A = ones.T @ (ones * w[:, None]) / 40 + np.diag([l2] * 6 + [0])
    solution = np.linalg.solve(A, ones.T @ (w[:, None] * data.Y) / 40)
    np.testing.assert_allclose(last.network.W[1], solution[:6].T, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(last.network.b[1], solution[6], rtol=1e-5, atol=1e-6)


def test_a_direction_is_that_of_the_matrix_the_pairs_make() -> None:
    # H ← (I − ρ·s·yᵀ)·H·(I − ρ·y·sᵀ) + ρ·s·sᵀ, from the oldest pair to the newest, begun with γ·I.
    G = RNG.normal(size=5)
    pairs = [(s, s + 0.2 * RNG.normal(size=5)) for s in RNG.normal(size=(4, 5))]
    s, y = pairs[0]
    H = np.eye(5) * (s @ y) / (y @ y)
    for s, y in reversed(pairs):
        V = np.eye(5) - np.outer(y, s) / (s @ y)
        H = V.T @ H @ V + np.outer(s, s) / (s @ y)
    np.testing.assert_allclose(module._direction(G, pairs), -H @ G, rtol=1e-12)
    assert math.isclose(float(np.linalg.norm(module._direction(100 * G, []))), 1)
    np.testing.assert_array_equal(module._direction(G / 100, []), -G / 100)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("data", "network", "epochs", "below"),
    [
        (xor(), dense(2, (4, "tanh"), (1, "sigmoid")), 40, 1e-3),
        (MOONS, CONFIG.network, 40, 1e-2),
        (digits().take(slice(300)), dense(64, (16, "relu"), (10, "softmax")), 40, 2e-2),
    ],
    ids=["xor", "moons", "digits"],
)
def test_it_gets_further_than_gradient_descent_with_as_many_gradients(
    monkeypatch: pytest.MonkeyPatch, data: Data, network: NetworkSpec, epochs: int, below: float, dtype: str
) -> None:
    evaluations = counted(monkeypatch)
    config = replace(CONFIG, network=network, cost="cross_entropy", epochs=epochs, dtype=dtype, seed=3)
    costs = [epoch.cost for epoch in epochs_of(config, data)]
    assert costs[-1] < below
    assert all(later <= earlier * (1 + 1e-6) for earlier, later in itertools.pairwise(costs))
    assert len(evaluations) < 3 * epochs
    descent = replace(config, optimizer=OptimizerSpec("sgd", 0.5), epochs=len(evaluations))
    assert costs[-1] < 0.5 * epochs_of(descent, data)[-1].cost


@pytest.mark.parametrize("fit", FITTING, ids=str)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_every_step_makes_cost_and_penalty_smaller_until_the_gradient_is_gone(
    hidden: str, fit: tuple[str, str]
) -> None:
    problem = Problem(SHALLOW, hidden, *fit)
    _, X, Y = problem.make(samples=11)
    data = (
        Data(X, labels=Y.argmax(axis=1), classes=("a", "b", "c"))
        if fit[1] == "cross_entropy"
        else Data(X, Y=Y, weights=np.linspace(0.5, 1.5, 11))
    )
    config = replace(
        CONFIG, network=problem.spec, cost=fit[1], epochs=30, regularization=RegularizationSpec(l2=0.01)
    )  # fmt: skip
    networks = [epoch.network for epoch in epochs_of(config, data)]
    values = [penalized(config, network, data) for network in networks]
    assert values[-1] < values[0]
    assert all(later <= earlier * (1 + 1e-12) for earlier, later in itertools.pairwise(values))
    assert len(set(values)) == len(values) or networks[-1].parameters.tobytes() == networks[-2].parameters.tobytes()


def test_costs_told_are_those_each_epoch_began_with_and_gradients_those_it_ended_with() -> None:
    epochs = epochs_of(replace(CONFIG, regularization=RegularizationSpec(l2=0.01)), MOONS)
    Y = targets(MOONS, 2)
    for before, epoch in itertools.pairwise(epochs):
        assert math.isclose(epoch.cost, mean_cost(before.network, "cross_entropy", MOONS.X, Y), rel_tol=1e-9)
        found = backward(forward(epoch.network, MOONS.X), "cross_entropy", Y)
        for record in epoch.gradients or []:
            assert math.isclose(record.norm, float(np.linalg.norm(found[record.name])), rel_tol=1e-6, abs_tol=1e-12)


@given(
    place=st.integers(0, 2 * HISTORY + 5),
    dtype=st.sampled_from(["float32", "float64"]),
    l2=st.sampled_from([0.0, 0.01]),
    hidden=st.sampled_from(["tanh", "relu"]),
    seed=st.integers(0, 5),
)
def test_going_on_from_any_epoch_equals_never_stopping(
    place: int, dtype: str, l2: float, hidden: str, seed: int
) -> None:
    network = dense(2, (6, hidden), (2, "softmax"))
    config = replace(
        CONFIG,
        network=network,
        dtype=dtype,
        regularization=RegularizationSpec(l2=l2),
        seed=seed,
        epochs=2 * HISTORY + 5,
    )
    uninterrupted = told_of(config, MOONS)
    stopped = next(itertools.islice(train(config, MOONS), place, None))
    point = ResumePoint.from_arrays({name: v.copy() for name, v in stopped.resume_point().to_arrays().items()})
    assert told_of(config, MOONS, resume=point) == uninterrupted[place + 1 :]


def test_at_the_end_of_what_numbers_can_tell_it_stays_and_stays_when_resumed() -> None:
    config = replace(LINEAR, dtype="float32", epochs=300)
    epochs, points = [], []
    for event in train(config, PLANE):
        assert isinstance(event, Epoch)
        epochs.append(told(event))
        points.append(event.resume_point())
    assert points[-1].parameters.tobytes() == points[-50].parameters.tobytes()
    assert told_of(config, PLANE, resume=points[-20]) == epochs[-19:]


def test_each_network_of_a_stack_has_the_bits_it_has_alone() -> None:
    configs = [
        replace(CONFIG, seed=seed, optimizer=OptimizerSpec("lbfgs", rate), regularization=RegularizationSpec(l2=l2))
        for seed, (rate, l2) in enumerate([(0.5, 0.01), (1.0, 0.1), (1.5, 0.001)])
    ]
    found: list[list[Any]] = [[], [], []]
    for event in train_stacked([Trainee(config, MOONS) for config in configs]):
        assert isinstance(event, Round)
        for k, epoch in event.items():
            assert isinstance(epoch, Epoch)
            found[k].append(told(epoch))
    for k, config in enumerate(configs):
        assert found[k] == told_of(config, MOONS)


def test_it_stops_early_and_is_asked_at_no_step_boundary() -> None:
    config = replace(CONFIG, epochs=200, early_stopping=EarlyStoppingSpec(patience=2, min_delta=0.01))
    events = list(train(config, MOONS, snapshot_due=lambda: True))
    assert not any(isinstance(event, StepBoundary) for event in events)
    assert len(events) < 60


@given(
    scale=st.floats(-300, 300).map(lambda exponent: 10.0**exponent),
    rate=st.sampled_from([1e-30, 1.0, 1e30]),
    l2=st.sampled_from([0.0, 1e-30, 1e30]),
    fit=st.sampled_from([fit for fit in FITTING if fit[1] != "binary_cross_entropy"]),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_whatever_the_numbers_each_epoch_is_finite_or_the_training_diverged(
    scale: float, rate: float, l2: float, fit: tuple[str, str], dtype: str
) -> None:
    rng = np.random.default_rng(0)
    with np.errstate(over="ignore"):
        X = rng.normal(size=(9, 4)) * scale
    given = {"labels": np.arange(9) % 3, "classes": ("a", "b", "c")}
    data = Data(X, **given) if fit[1] == "cross_entropy" else Data(X, Y=rng.normal(size=(9, 3)))  # type: ignore[arg-type]
    network = dense(4, (5, "relu"), (3, fit[0]))
    config = TrainingConfig(
        network, fit[1], OptimizerSpec("lbfgs", rate), epochs=8, batch_size=None, dtype=dtype,
        regularization=RegularizationSpec(l2=l2),
    )  # fmt: skip
    try:
        for epoch in epochs_of(config, data):
            assert math.isfinite(epoch.cost)
            assert np.isfinite(epoch.network.parameters).all()
    except DivergedError:
        pass


@pytest.mark.parametrize(
    ("changed", "field", "says"),
    [
        ({"schedule": ScheduleSpec("cosine")}, "schedule", "takes no schedule: its learning rate is only where"),
        ({"schedule": ScheduleSpec(warmup_epochs=3)}, "schedule", "takes no schedule"),
        ({"clip": ClipSpec(norm=1.0)}, "clip", "takes no clip: its line search needs the gradient as it is"),
        ({"regularization": RegularizationSpec(l1=0.1)}, "regularization/l1", "takes no l1: .*; use l2"),
        ({"regularization": RegularizationSpec(max_norm=1.0)}, "regularization/max_norm", "takes no max_norm"),
        (
            {"network": NetworkSpec(2, (LayerSpec(4, "tanh", dropout=0.5), LayerSpec(2, "softmax")))},
            "network/layers/0/dropout",
            "takes no dropout: each mask",
        ),
        (
            {"network": NetworkSpec(2, (LayerSpec(4, "tanh", normalization="batch"), LayerSpec(2, "softmax")))},
            "network/layers/0/normalization",
            "takes no normalization: use 'layer'",
        ),
        ({"step": "compiled"}, "step", "takes no step: its steps are not compiled"),
    ],
)  # fmt: skip
def test_what_a_line_search_cannot_do_with_is_refused_with_its_place(
    changed: dict[str, Any], field: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as refusal:
        replace(CONFIG, **changed)
    assert refusal.value.field == field


def test_batches_of_some_samples_are_refused_and_one_of_as_many_as_there_are_is_not() -> None:
    with pytest.raises(ConfigError, match="takes all 60 samples at once; leave batch_size out") as refusal:
        next(train(replace(CONFIG, batch_size=59), MOONS))
    assert refusal.value.field == "batch_size"
    assert told_of(replace(CONFIG, batch_size=60), MOONS) == told_of(CONFIG, MOONS)


def test_layer_normalization_goes_with_it() -> None:
    network = NetworkSpec(2, (LayerSpec(6, "tanh", normalization="layer"), LayerSpec(2, "softmax")))
    costs = [epoch.cost for epoch in epochs_of(replace(CONFIG, network=network), MOONS)]
    assert costs[-1] < 0.1 * costs[0]


@pytest.mark.parametrize("data", [MOONS, digits().take(slice(300))], ids=["moons", "digits"])
def test_it_ends_where_scipy_does_with_about_as_many_gradients(monkeypatch: pytest.MonkeyPatch, data: Data) -> None:
    optimize = pytest.importorskip("scipy.optimize", reason="SciPy is not among what we need")
    classes, l2 = len(data.classes), 0.01  # without hidden layers, and with a penalty, there is one minimum
    config = replace(
        CONFIG,
        network=dense(data.features, (classes, "softmax")),
        regularization=RegularizationSpec(l2=l2),
        epochs=200,
    )
    Y, start = targets(data, classes), initialize(config.network, config.seed, "float64").parameters

    def value(parameters: FloatArray) -> tuple[float, FloatArray]:
        network, G = (Network(config.network, vector) for vector in (parameters.copy(), np.empty_like(parameters)))
        found = backward(forward(network, data.X), "cross_entropy", Y)
        G.W[1][:], G.b[1][:] = found["dW1"] + l2 * network.W[1], found["db1"]
        return penalized(config, network, data), G.parameters

    theirs = optimize.minimize(
        value, start.copy(), jac=True, method="L-BFGS-B", options={"ftol": 1e-14, "gtol": 1e-8, "maxiter": 1000}
    )
    evaluations = counted(monkeypatch)
    ours = epochs_of(config, data)[-1].network
    assert math.isclose(penalized(config, ours, data), theirs.fun, rel_tol=1e-9)
    for number, W in Network(config.network, theirs.x).W.items():
        np.testing.assert_allclose(ours.W[number], W, atol=1e-4)
    assert len(evaluations) < 3 * theirs.nfev + 2 * module.MOST_TRIALS  # the last ones find that nothing is left
