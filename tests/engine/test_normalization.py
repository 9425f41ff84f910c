"""Normalization: what it does to Z, the way back through it, and what training leaves for use."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chainrule.engine import (
    ConfigError,
    Data,
    EarlyStoppingSpec,
    Epoch,
    LayerSpec,
    Network,
    NetworkSpec,
    OptimizerSpec,
    RegularizationSpec,
    ResumePoint,
    TrainingConfig,
    UnknownNameError,
    backward,
    compiled,
    forward,
    initialize,
    moons,
    train,
)
from chainrule.engine.arrays import FloatArray
from chainrule.engine.gradient_check import check
from chainrule.engine.gradients import equation, gradients, mixed, names
from chainrule.engine.network import evaluate, follow, mean_cost
from chainrule.engine.normalization import EPSILON
from tests.engine.problems import NORMALIZED, SAMPLES, SHALLOW, Problem
from tests.engine.test_network import numeric_gradient, relative_error

BATCH = [problem for problem in NORMALIZED if problem.normalization == "batch"]
NETWORK = NetworkSpec(
    2,
    (
        LayerSpec(9, "tanh", normalization="batch"),
        LayerSpec(17, "relu", normalization="layer"),
        LayerSpec(5, "gelu", normalization="batch", dropout=0.2),
        LayerSpec(2, "softmax"),
    ),
)
CONFIG = TrainingConfig(NETWORK, optimizer=OptimizerSpec("adam", 0.01), epochs=3, batch_size=9, seed=1)
DATA, HELD_OUT = moons(30), moons(10, seed=9)  # 30 = 3·9 + 3


def shallow(kind: str) -> tuple[Network, FloatArray, FloatArray]:
    return Problem(SHALLOW, "tanh", "softmax", "cross_entropy", kind).make()


@pytest.mark.parametrize(("kind", "axis"), [("layer", 1), ("batch", 0)])
def test_pre_activations_get_mean_zero_and_variance_one_over_units_or_samples(kind: str, axis: int) -> None:
    network, X, _ = shallow(kind)
    cache = forward(network, X, training=True)[0]
    assert cache.normalized is not None
    Z, Z_hat = cache.Z, cache.normalized.Z_hat
    np.testing.assert_allclose(Z_hat.mean(axis=axis), 0, atol=1e-14)
    variance = Z.var(axis=axis)
    np.testing.assert_allclose(Z_hat.var(axis=axis), variance / (variance + EPSILON), rtol=1e-12)
    N = network.blocks["gamma1"] * Z_hat + network.blocks["beta1"]
    np.testing.assert_allclose(cache.N, N, rtol=1e-13)
    np.testing.assert_allclose(cache.A, np.tanh(N), rtol=1e-13)


def test_one_batch_worked_by_hand() -> None:
    # One input, one unit with W = [1], b = 0, γ = 2, β = 1; samples 1 and 3.
    #   Z = 1, 3:  μ = 2, σ² = 1, so Ẑ = −1, 1 but for ε, and N = −1, 3
    # An output that adds nothing, W = [1], b = 0, y = 0: dA = A = N.
    #   dγ = ½·(−1·−1 + 3·1) = 2,  dβ = ½·(−1 + 3) = 1
    #   dẐ = 2·N = −2, 6, mean 2; dẐ⊙Ẑ = 2, 6, mean 4:  dZ = dẐ − 2 − 4·Ẑ = 0, 0: of two samples Ẑ never changes
    spec = NetworkSpec(1, (LayerSpec(1, "linear", normalization="batch"), LayerSpec(1, "linear")))
    network = Network(spec, np.array([1.0, 0.0, 2.0, 1.0, 1.0, 0.0]))
    caches = forward(network, [[1.0], [3.0]], training=True)
    np.testing.assert_allclose(caches[0].N, [[-1], [3]], atol=1e-4)
    found = backward(caches, "mse", [[0.0], [0.0]])
    np.testing.assert_allclose(found["dgamma1"], [2], atol=1e-4)
    np.testing.assert_allclose(found["dbeta1"], [1], atol=1e-4)
    np.testing.assert_allclose(found["dZ1"], [[0], [0]], atol=1e-4)
    assert found["db1"] == 0
    # μ_run = 0.9·0 + 0.1·2;  σ²_run = 0.9·1 + 0.1·1·2/(2 − 1)
    follow(network, caches)
    np.testing.assert_allclose(network.statistics["running_mean1"], [0.2])
    np.testing.assert_allclose(network.statistics["running_var1"], [1.1])
    # In use: N = 2·(z − 0.2)/√1.1 + 1, for one sample as for many.
    np.testing.assert_allclose(forward(network, [[1.0]])[0].N, [[2 * 0.8 / np.sqrt(1.1 + EPSILON) + 1]])


@pytest.mark.parametrize("problem", BATCH, ids=str)
def test_gradients_through_the_statistics_of_a_batch_equal_central_differences(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, X, Y = problem.make()
    analytic = backward(forward(network, X, training=True), problem.cost, Y)

    def cost_in_training(*given: Any) -> float:
        return mean_cost(*given, training=True)

    monkeypatch.setattr("tests.engine.test_network.mean_cost", cost_in_training)
    moved = Network(network.spec, numeric_gradient(network, problem, X, Y, network.parameters), network.running)
    for name, block in moved.blocks.items():
        assert relative_error(analytic[f"d{name}"], block) <= 1e-6, name
    through_all = SAMPLES * numeric_gradient(network, problem, X, Y, X)  # what a sample does to the errors of all
    assert relative_error(analytic["dA0"], through_all) <= 1e-6


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("problem", NORMALIZED[::3], ids=str)
def test_the_gradient_check_passes_with_statistics_of_the_batch_and_with_running_ones(
    problem: Problem, training: bool
) -> None:
    network, X, Y = problem.make()
    kept = network.running.copy()
    results = check(network, problem.cost, X, Y, training=training)
    assert [result.name for result in results] == list(network.blocks)
    assert {result.verdict for result in results} == {"pass"}
    np.testing.assert_array_equal(network.running, kept)


@pytest.mark.parametrize(("kind", "training", "alike"), [
    ("layer", False, True), ("layer", True, True), ("batch", False, True), ("batch", True, False),
])  # fmt: skip
def test_only_over_a_batch_does_a_sample_depend_on_the_others(kind: str, training: bool, alike: bool) -> None:
    network, X, _ = shallow(kind)
    together, alone = forward(network, X, training=training)[-1].A[:2], forward(network, X[:2], training=training)[-1].A
    assert np.allclose(together, alone, rtol=1e-12) == alike


def test_after_many_epochs_running_statistics_are_close_to_those_of_the_data() -> None:
    config = replace(CONFIG, optimizer=OptimizerSpec("sgd", 1e-9), epochs=150, batch_size=None, dtype="float64")
    *_, last = train(config, DATA)
    assert isinstance(last, Epoch)
    Z = forward(last.network, DATA.X)[0].Z
    np.testing.assert_allclose(last.network.statistics["running_mean1"], Z.mean(axis=0), atol=0.02)
    np.testing.assert_allclose(last.network.statistics["running_var1"], Z.var(axis=0, ddof=1), rtol=0.05)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_a_bias_that_the_batch_takes_away_again_stays_where_it_is(optimizer: str) -> None:
    config = replace(CONFIG, optimizer=OptimizerSpec(optimizer), regularization=RegularizationSpec(0.01, 0.01, 0.5))
    *_, last = train(config, DATA)
    assert isinstance(last, Epoch)
    np.testing.assert_array_equal(last.network.b[1], 0)
    assert np.all(last.network.b[2] != 0)
    for W in last.network.W.values():  # γ and β are not bounded, and lie between the weights
        assert np.all(np.linalg.norm(W, axis=1) <= 0.5 * (1 + 1e-6))
    assert np.all(last.network.blocks["gamma2"] > 0.5)


def told(event: Epoch) -> tuple[Any, ...]:
    network, best = event.network, event.best
    return (
        event.cost, event.validation_cost, event.gradients, network.parameters.tobytes(), network.running.tobytes(),
        None if best is None else (best.parameters.tobytes(), best.running.tobytes()),
    )  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("place", range(13))
def test_resuming_anywhere_is_exact(place: int, dtype: str) -> None:
    config = replace(CONFIG, dtype=dtype, early_stopping=EarlyStoppingSpec(patience=9))
    whole = [told(event) for event in train(config, DATA, HELD_OUT) if isinstance(event, Epoch)]
    stopped = next(itertools.islice(train(config, DATA, HELD_OUT, snapshot_due=lambda: True), place, None))
    point = ResumePoint.from_arrays({name: a.copy() for name, a in stopped.resume_point().to_arrays().items()})
    after = [told(event) for event in train(config, DATA, HELD_OUT, resume=point) if isinstance(event, Epoch)]
    assert after == whole[point.epoch + 1 :]


@pytest.mark.skipif(compiled.version() is None, reason="needs the extra fast")
def test_a_compiled_step_ends_where_numpys_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    layers = LayerSpec(9, "tanh", normalization="batch"), LayerSpec(7, "relu", normalization="layer")
    network, ends = NetworkSpec(2, (*layers, LayerSpec(2, "softmax"))), []
    for step in ("numpy", "compiled"):
        *_, last = train(replace(CONFIG, network=network, dtype="float64", step=step, epochs=9), DATA)
        assert isinstance(last, Epoch)
        ends.append(np.concatenate([last.network.parameters, last.network.running]))
    np.testing.assert_allclose(ends[1], ends[0], rtol=1e-10, atol=1e-10)


def test_validation_uses_running_statistics_as_the_kept_network_does() -> None:
    *_, last = train(replace(CONFIG, dtype="float64"), DATA, HELD_OUT)
    assert isinstance(last, Epoch)
    again = Network.from_named(NETWORK, last.network.named())
    Y = np.eye(2)[HELD_OUT.labels]
    assert evaluate(again, "cross_entropy", HELD_OUT.X, Y, HELD_OUT.labels, 2)[0] == last.validation_cost


def test_recorded_statistics_are_those_asked_for_later_at_the_kept_weights() -> None:
    *_, last = train(replace(CONFIG, dtype="float64"), DATA)
    assert isinstance(last, Epoch)
    assert last.gradients is not None
    wanted = [f"d{name}" for name in last.network.blocks]
    assert [record.name for record in last.gradients] == wanted
    found = gradients(last.network, "cross_entropy", DATA.X, np.eye(2)[DATA.labels], wanted)
    for record in last.gradients:
        assert record.norm == pytest.approx(np.linalg.norm(found[record.name]), rel=1e-9)


def test_networks_begin_with_gamma_one_beta_zero_and_the_statistics_of_nothing() -> None:
    named = initialize(NETWORK, 0).named()
    assert list(named)[:4] == ["W1", "b1", "gamma1", "beta1"]
    assert list(named)[-4:] == ["running_mean1", "running_var1", "running_mean3", "running_var3"]
    for name, array in named.items():
        if not name.startswith("W"):
            np.testing.assert_array_equal(array, name.startswith(("gamma", "running_var")))


@pytest.mark.parametrize(("samples", "batch_size"), [(30, 1), (28, 9), (1, None)])
def test_a_batch_of_one_sample_is_refused_with_the_field(samples: int, batch_size: int | None) -> None:
    data = Data(np.zeros((samples, 2)), labels=np.zeros(samples, np.int64), classes=("a", "b"))
    with pytest.raises(ConfigError, match="at least two samples") as refusal:
        next(train(replace(CONFIG, batch_size=batch_size), data))
    assert refusal.value.field == "batch_size"


def test_a_kind_nobody_knows_is_refused_with_those_there_are() -> None:
    with pytest.raises(UnknownNameError, match="layer, batch"):
        NetworkSpec(2, (LayerSpec(3, "relu", normalization="group"), LayerSpec(1, "linear")))


def test_equations_say_where_mean_and_variance_come_from() -> None:
    layers = LayerSpec(3, "relu", normalization="layer"), LayerSpec(4, "relu", normalization="batch")
    spec = NetworkSpec(2, (*layers, LayerSpec(1, "tanh")))

    def of(name: str, training: bool = False) -> str:
        return equation(name, spec, "mse", training=training)

    assert names(spec)[2:12] == ["Z1", "N1", "A1", "dA1", "dN1", "dZ1", "dW1", "db1", "dgamma1", "dbeta1"]
    assert of("A1") == "A[1] = g(N[1])"
    assert of("dN1") == "dN[1] = dA[1] ⊙ g′(N[1])"
    assert of("N1").endswith("μ and σ² over the units of each sample")
    assert of("N2").endswith("with running μ and σ²")
    assert of("N2", training=True).endswith("μ and σ² over the samples")
    assert of("dZ2") == "dZ[2] = γ[2] ⊙ dN[2]/√(σ² + ε), with running σ²"
    assert "means over the samples; row i is what sample i does to the errors of all" in of("dZ2", training=True)
    assert "row i" in of("dA1", training=True)
    assert "row i" not in of("dA2", training=True) + of("dA1")
    assert of("dgamma2") == "dγ[2] = (1/m)·Σᵢ dN[2]⁽ⁱ⁾ ⊙ Ẑ[2]⁽ⁱ⁾"


def test_what_a_sample_has_of_its_own_in_training_is_what_a_change_of_it_alone_would_show() -> None:
    network, X, Y = Problem((3, 4, 5, 2), "tanh", "softmax", "cross_entropy", "batch").make()
    found = backward(forward(network, X, training=True), "cross_entropy", Y)
    changed = Y.copy()
    changed[0] = changed[0, ::-1]  # the target of sample 0: who has a gradient of his own does not notice
    other = backward(forward(network, X, training=True), "cross_entropy", changed)
    for name in names(network.spec):
        if name.startswith(("dA", "dN", "dZ")):
            assert np.array_equal(found[name][1:], other[name][1:]) == (not mixed(name, network.spec)), name
