"""Each identity equals what materialised gradients give; what is undefined is None with its reason."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from chainrule.engine import Network, coherence
from chainrule.engine.coherence import EQUATIONS, Samples, between_batches, between_classes, gram, measure, summarize
from chainrule.engine.gradients import gradients
from tests.engine.problems import NORMALIZED, PROBLEMS, Problem

Array = NDArray[Any]
SHOWN = [*PROBLEMS[::11], *NORMALIZED]


def materialised(network: Network, cost_name: str, X: Array, Y: Array, weights: Array | None) -> Array:
    """Make each sample's own gradient, (m, p)."""
    names = [f"d{name}" for name in network.blocks]
    found = gradients(network, cost_name, X, Y, names, per_sample=True, weights=weights)
    return np.concatenate([G.reshape(len(X), -1) for G in found.values()], axis=1)


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("problem", SHOWN, ids=str)
def test_identities_equal_materialised_gradients(
    problem: Problem, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, X, Y = problem.make()
    weights = np.linspace(0.5, 2, len(X)) if weighted else None
    G = materialised(network, problem.cost, X, Y, weights)
    m, mean = len(X), G.mean(axis=0)
    monkeypatch.setattr(coherence, "EVALUATION_ROWS", 3)
    found, K = measure(network, problem.cost, X, Y, weights), gram(network, problem.cost, X, Y, weights)
    np.testing.assert_allclose(found.norms, np.linalg.norm(G, axis=1), rtol=1e-11)
    np.testing.assert_allclose(found.along, G @ mean, rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(K, G @ G.T, rtol=1e-9, atol=1e-13)
    square = mean @ mean
    trace = ((G - mean) ** 2).sum() / (m - 1)
    along = G @ mean
    signal = square - trace / m
    signal = 0.0 if abs(signal) < 1e-12 * square else signal
    total = (G**2).sum()
    expected = {
        "mean_square_norm": total / m,
        "gradient_square_norm": square,
        "trace_sigma": trace,
        "signal": signal,
        "noise_scale": trace / signal if signal > 0 else None,
        "coherence": m * square / (total / m) if total > 0 else None,
    } | dict.fromkeys(("norm_test", "inner_product_test", "orthogonality_test"))
    if square > 0:  # else every unit is dead
        across = G - np.outer(along / square, mean)
        expected |= {
            "norm_test": np.sqrt(trace / (m * square)),
            "inner_product_test": np.sqrt(along.var(ddof=1) / (m * square**2)),
            "orthogonality_test": np.sqrt((across**2).sum() / (m - 1) / (m * square)),
        }
    measured = summarize(found)
    assert measured.keys() == expected.keys() == EQUATIONS.keys()
    for name, value in expected.items():
        got = measured[name].value
        assert (got is None) == (value is None), name
        assert (measured[name].reason != "") == (value is None)
        if value is not None and got is not None:
            # The root of a rounding error is much larger than the error.
            atol = 1e-7 if name.endswith("_test") else 1e-10
            np.testing.assert_allclose(got, value, rtol=1e-8, atol=atol, err_msg=name)


def test_gradients_that_are_the_same_are_all_signal() -> None:
    network, X, Y = SHOWN[0].make()
    same = np.repeat(X[:1], 5, axis=0), np.repeat(Y[:1], 5, axis=0)
    measured = summarize(measure(network, SHOWN[0].cost, *same))
    coherent, noise = measured["coherence"].value, measured["noise_scale"].value
    assert coherent is not None
    assert noise is not None
    assert np.isclose(coherent, 5)
    assert noise < 1e-10


def test_a_signal_that_is_rounding_is_none() -> None:
    alone = summarize(Samples(np.array([3.0, 0.0, 0.0]), np.array([3.0, 0.0, 0.0]), 1.0 + 1e-15))  # g, 0, 0
    assert alone["signal"].value == 0
    assert alone["noise_scale"].value is None


def test_what_is_undefined_says_why() -> None:
    one = summarize(Samples(np.ones(1), np.ones(1), 1.0))
    assert one["trace_sigma"].value is None
    assert "two or more" in one["noise_scale"].reason
    opposite = summarize(Samples(np.ones(2), np.zeros(2), 0.0))
    assert opposite["noise_scale"].value is None
    assert "|G|² ≤ 0" in opposite["noise_scale"].reason
    assert opposite["coherence"].value == 0
    assert opposite["norm_test"].reason
    nothing = summarize(Samples(np.zeros(3), np.zeros(3), 0.0))
    assert nothing["coherence"].value is None
    assert np.isnan(Samples(np.zeros(1), np.zeros(1), 0.0).cosines).all()


def test_cosines_between_classes_and_batches_are_those_of_pairs_and_of_means() -> None:
    network, X, Y = SHOWN[0].make()
    G = materialised(network, SHOWN[0].cost, X, Y, None)
    K, labels = gram(network, SHOWN[0].cost, X, Y), np.array([0, 1, 1, 0, 2, 1, 0])
    U = G / np.linalg.norm(G, axis=1, keepdims=True)
    found = between_classes(K, labels, 4)
    pairs = [U[i] @ U[j] for i in (0, 3, 6) for j in (1, 2, 5)]
    within = [U[i] @ U[j] for i in (1, 2, 5) for j in (1, 2, 5) if i != j]
    np.testing.assert_allclose([found[0, 1], found[1, 1]], [np.mean(pairs), np.mean(within)], rtol=1e-9)
    assert np.isnan(found[2, 2])
    assert np.isnan(found[3]).all()
    means = G[:6].reshape(3, 2, -1).mean(axis=1)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(between_batches(K, 2), means @ means.T, rtol=1e-9)
