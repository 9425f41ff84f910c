"""Variances and confusion equal what gradients that are made one by one give."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from chainrule.engine import variance
from chainrule.engine.coherence import gram, measure, summarize
from chainrule.engine.gradients import gradients
from chainrule.engine.variance import between, spread
from tests.engine.problems import NORMALIZED, PROBLEMS, Problem

Array = NDArray[Any]
SHOWN = [*PROBLEMS[::29], *NORMALIZED[::2]]


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("problem", SHOWN, ids=str)
def test_variances_are_those_of_gradients_made_one_by_one(
    problem: Problem, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, X, Y = problem.make()
    w = np.linspace(0.5, 2, len(X)) if weighted else None
    names = [f"d{name}" for name in network.blocks]
    each = gradients(network, problem.cost, X, Y, names, per_sample=True, weights=w)
    monkeypatch.setattr(variance, "EVALUATION_ROWS", 3)
    found = spread(network, problem.cost, X, Y, w)
    ratios = []
    for name, G in each.items():
        expected = G.var(axis=0, ddof=1)
        np.testing.assert_allclose(found.mean[name], G.mean(axis=0), rtol=1e-9, atol=1e-13)
        np.testing.assert_allclose(found.variance[name], expected, rtol=1e-7, atol=1e-12)
        varying = found.variance[name] > 0
        assert found.constant(name) == np.count_nonzero(~varying)
        ratios.append(G.mean(axis=0)[varying] ** 2 / found.variance[name][varying])
        of_block = found.gsnr(name)
        assert (of_block is None) == (not np.any(varying))
        if of_block is not None:
            np.testing.assert_allclose(of_block, ratios[-1].mean(), rtol=1e-6)
    together = np.concatenate(ratios)
    if together.size:
        np.testing.assert_allclose(found.gsnr() or 0, together.mean(), rtol=1e-6)
    trace = summarize(measure(network, problem.cost, X, Y, w))["trace_sigma"].value
    assert trace is not None
    np.testing.assert_allclose(found.trace, trace, rtol=1e-8, atol=1e-12)


def test_gradients_that_are_the_same_for_all_have_no_noise() -> None:
    network, X, Y = Problem((3, 4, 2), "tanh", "softmax", "cross_entropy").make()
    same = spread(network, "cross_entropy", np.repeat(X[:1], 6, axis=0), np.repeat(Y[:1], 6, axis=0))
    assert same.trace == 0
    assert same.gsnr() is None
    assert same.constant("dW1") == 12


def test_the_confusion_of_batches_is_that_of_their_mean_gradients() -> None:
    network, X, Y = Problem((3, 4, 2), "tanh", "softmax", "cross_entropy").make(17)
    found = between(network, "cross_entropy", X, Y, None, 5)
    K = gram(network, "cross_entropy", X, Y)[:15, :15].reshape(3, 5, 3, 5).mean(axis=(1, 3))
    norms = np.sqrt(np.diag(K))
    np.testing.assert_allclose(found, K / np.outer(norms, norms), rtol=1e-9)
