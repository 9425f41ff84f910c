"""What a network makes of each sample, held against the reading path and against gradients that are made."""

from typing import Any

import numpy as np
import pytest

from chainrule.engine import NetworkSpec, dense, initialize
from chainrule.engine.coherence import measure, norms
from chainrule.engine.gradients import PER_SAMPLE, gradients, names
from chainrule.engine.network import EVALUATION_ROWS, LayerSpec, mean_cost, predict
from chainrule.engine.samples import judge

NETWORKS = {
    "softmax": (dense(5, (7, "tanh"), (3, "softmax")), "cross_entropy", 3),
    "sigmoid": (dense(5, (7, "relu"), (1, "sigmoid")), "cross_entropy", 2),
    "labels": (dense(5, (7, "relu"), (4, "sigmoid")), "binary_cross_entropy", 0),
    "normalized": (NetworkSpec(5, (LayerSpec(7, "relu", normalization="batch"), LayerSpec(3, "softmax"))),
                   "cross_entropy", 3),
}  # fmt: skip


def problem(kind: str, m: int) -> tuple[Any, ...]:
    spec, cost, classes = NETWORKS[kind]
    rng = np.random.default_rng(3)
    X = rng.normal(size=(m, 5))
    if classes == 0:
        labels = rng.integers(0, 2, (m, 4))
        Y = labels.astype(float)
    else:
        labels = rng.integers(0, classes, m)
        Y = np.eye(classes)[labels] if spec.outputs > 1 else labels[:, None].astype(float)
    return initialize(spec, 4, "float64"), cost, X, Y, labels, classes


@pytest.mark.parametrize("kind", NETWORKS)
def test_each_sample_is_judged_as_if_it_were_alone(kind: str) -> None:
    network, cost, X, Y, labels, classes = problem(kind, EVALUATION_ROWS + 3)
    found = judge(network, cost, X, Y, labels, classes)
    np.testing.assert_allclose(found.outputs, predict(network, X), rtol=1e-12)
    assert found.wrong is not None
    assert found.predictions is not None
    assert found.confidences is not None
    for i in (0, 1, EVALUATION_ROWS, EVALUATION_ROWS + 2):
        assert found.costs[i] == pytest.approx(mean_cost(network, cost, X[i : i + 1], Y[i : i + 1]), rel=1e-12)
        assert bool(found.wrong[i]) == bool(np.any(found.predictions[i] != labels[i]))
    assert found.confidences.min() >= 1 / max(classes, 2)
    assert found.confidences.max() <= 1


def test_of_a_regression_nothing_is_right_or_wrong() -> None:
    network, rng = initialize(dense(5, (4, "tanh"), (2, "linear")), 1, "float64"), np.random.default_rng(0)
    X, Y = rng.normal(size=(6, 5)), rng.normal(size=(6, 2))
    found = judge(network, "mse", X, Y, None, 0)
    assert (found.wrong, found.predictions, found.confidences) == (None, None, None)
    np.testing.assert_allclose(found.costs, 0.5 * np.sum((predict(network, X) - Y) ** 2, axis=1), rtol=1e-12)


@pytest.mark.parametrize("kind", NETWORKS)
def test_norms_are_those_of_gradients_that_are_made(kind: str) -> None:
    network, cost, X, Y, _, _ = problem(kind, 11)
    weights = np.linspace(0.5, 2, 11)
    wanted = [name for name in names(network.spec) if name.startswith(PER_SAMPLE)]
    each = gradients(network, cost, X, Y, wanted, per_sample=True, weights=weights)
    made = np.sqrt(sum(np.sum(G.reshape(11, -1) ** 2, axis=1) for G in each.values()))
    np.testing.assert_allclose(norms(network, cost, X, Y, weights), made, rtol=1e-10)
    np.testing.assert_allclose(measure(network, cost, X, Y, weights).norms, made, rtol=1e-10)
