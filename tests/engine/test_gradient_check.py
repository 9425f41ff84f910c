import math

import numpy as np
import pytest

from chainrule.engine import ShapeError, dense, gradient_check, initialize, layers
from chainrule.engine.arrays import FloatArray
from chainrule.engine.gradient_check import check
from chainrule.engine.layers import Cache
from tests.engine.problems import DEEP, PROBLEMS, SHALLOW, Problem


@pytest.mark.parametrize("problem", PROBLEMS[::5], ids=str)
def test_it_passes_every_block(problem: Problem) -> None:
    network, X, Y = problem.make()
    results = check(network, problem.cost, X, Y)
    assert [result.name for result in results] == list(network.blocks)
    for result in results:
        assert result.verdict == "pass"
        assert result.relative_error <= 1e-6
        assert (result.checked, result.kinks) == (math.prod(result.shape), 0)


@pytest.mark.parametrize("factor", [2.0, 0.5, 1.01, -1.0])
def test_it_fails_a_wrong_gradient(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    def wrong(dZ: FloatArray, cache: Cache) -> tuple[FloatArray, FloatArray, FloatArray]:
        dW, db, dA_prev = right(dZ, cache)
        return dW * factor, db, dA_prev

    right = layers.backward
    network, X, Y = Problem(SHALLOW, "tanh", "softmax", "cross_entropy").make()
    monkeypatch.setattr(layers, "backward", wrong)
    verdicts = {result.name: result.verdict for result in check(network, "cross_entropy", X, Y)}
    assert verdicts == {"W1": "fail", "b1": "pass", "W2": "fail", "b2": "pass"}


def test_it_leaves_out_entries_that_move_a_unit_across_a_kink() -> None:
    network = initialize(dense(1, (1, "relu"), (1, "linear")), 0, "float64")
    network.W[1][:], network.b[1][:], network.W[2][:] = 1.0, 0.0, 1.0
    results = {result.name: result for result in check(network, "mse", [[0.0]], [[1.0]])}  # Z1 = 0: at the kink
    assert (results["b1"].checked, results["b1"].kinks, results["b1"].worst) == (0, 1, None)
    assert (results["b2"].checked, results["b2"].kinks) == (1, 0)


def test_it_checks_as_many_entries_as_asked_for_and_the_same_for_the_same_seed() -> None:
    network, X, Y = Problem(DEEP, "tanh", "softmax", "mse").make()
    one, same, other = (check(network, "mse", X, Y, entries=4, seed=seed) for seed in (1, 1, 2))
    assert {result.checked for result in one} == {3, 4}  # the last bias has three entries
    assert one == same != other


def test_it_changes_nothing_and_works_in_float64() -> None:
    network, X, Y = Problem(SHALLOW, "tanh", "sigmoid", "mse").make(dtype="float32")
    kept = network.parameters.copy()
    assert {result.verdict for result in check(network, "mse", X, Y)} == {"pass"}
    assert network.parameters.tobytes() == kept.tobytes()
    assert network.parameters.dtype == np.float32


def test_the_worst_entry_is_the_one_that_differs_most() -> None:
    network, X, Y = Problem(SHALLOW, "tanh", "sigmoid", "mse").make()
    for result in check(network, "mse", X, Y):
        assert result.worst is not None
        assert abs(result.worst.analytic - result.worst.numeric) < 1e-8


def test_verdicts_change_at_their_limits() -> None:
    def verdict(error: float) -> str:
        return gradient_check.BlockCheck("W1", (1,), 1, 0, error, None).verdict

    assert [verdict(error) for error in (1e-6, 2e-6, 1e-4, 2e-4)] == ["pass", "suspicious", "suspicious", "fail"]
    assert verdict(float("nan")) == "fail"


def test_data_that_does_not_fit_is_refused() -> None:
    network, X, Y = Problem(SHALLOW, "tanh", "sigmoid", "mse").make()
    with pytest.raises(ShapeError):
        check(network, "mse", X[:, :-1], Y)


def test_it_checks_the_gradient_of_the_weighed_cost() -> None:
    network, X, Y = Problem(SHALLOW, "tanh", "softmax", "cross_entropy").make()
    weights = np.linspace(0, 3, len(X))
    weighed, plain = check(network, "cross_entropy", X, Y, weights=weights), check(network, "cross_entropy", X, Y)
    assert {result.verdict for result in weighed} == {"pass"}
    assert [result.worst for result in weighed] != [result.worst for result in plain]
    twice = check(network, "cross_entropy", X, Y, weights=np.full(len(X), 2.0))
    for double, single in zip(twice, plain, strict=True):
        assert double.worst is not None
        assert single.worst is not None
        assert abs(double.worst.analytic) <= 2 * max(abs(single.worst.analytic), 10)
