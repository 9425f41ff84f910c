"""A walk: every result is recomputed of the step's operands alone, as its equation says."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from chainrule.engine import ACTIVATIONS, COSTS, LayerSpec, NetworkSpec, backward, cost, forward, walk
from chainrule.engine.walk import Step
from tests.engine.problems import NORMALIZED, PROBLEMS, Problem

Array = NDArray[Any]
SHOWN = [problem for problem in PROBLEMS if problem.sizes == (4, 5, 3)] + NORMALIZED


def recomputed(step: Step, given: dict[str, Array], spec: NetworkSpec, cost_name: str) -> dict[str, Array]:
    """Compute what comes out of a step, of what goes in, by the equations as they are written."""
    x, n = [given[name] for name in step.operands], step.layer
    layer = spec.layers[n - 1]
    g = ACTIVATIONS[layer.activation]
    (first, *others), w = list(step.results), given["w"][:, None] if "w" in step.operands else 1.0
    symbol = walk.symbol_of(first)
    if symbol == "Z":
        return {first: x[0] @ x[1].T + x[2]}
    if symbol == "A":
        return {first: g.forward(x[0])}
    if symbol in ("mean", "Zhat"):
        Z, gamma, beta = x[:3]
        axis = 1 if layer.normalization == "layer" else 0
        mean = x[3] if len(x) > 3 else Z.mean(axis=axis, keepdims=True)
        variance = x[4] if len(x) > 3 else Z.var(axis=axis, keepdims=True)
        Z_hat = (Z - mean) / np.sqrt(variance + 1e-5)
        own = {} if len(x) > 3 else {f"mean{n}": mean, f"var{n}": variance}
        return own | {f"Zhat{n}": Z_hat, f"N{n}": gamma * Z_hat + beta}
    if symbol == "E":
        A, Y = x[:2]
        if cost_name == "mse":
            E = ((A - Y) ** 2).sum(axis=1) / 2
        elif "cross_entropy" in cost_name and layer.activation == "softmax":
            E = -(Y * np.log(A)).sum(axis=1)
        elif "cross_entropy" in cost_name:
            E = -(Y * np.log(A) + (1 - Y) * np.log(1 - A)).sum(axis=1)
        else:
            d = np.abs(A - Y)
            E = (d if cost_name == "mae" else np.where(d <= 1, d**2 / 2, d - 0.5)).sum(axis=1)
        return {"E": E, "C": np.asarray((E[:, None] * w).mean())}
    if symbol == "dA" and step.operands[0].startswith("A"):
        A, Y = x[:2]
        if "cross_entropy" in cost_name:
            return {first: w * (-Y / A if layer.activation == "softmax" else -(Y / A - (1 - Y) / (1 - A)))}
        return {first: w * {"mse": A - Y, "mae": np.sign(A - Y), "huber": np.clip(A - Y, -1, 1)}[cost_name]}
    if symbol == "dW":
        return {first: x[0].T @ x[1] / len(x[0]), others[0]: x[0].mean(axis=0)}
    if symbol == "dA":
        return {first: x[0] @ x[1]}
    if symbol == "dgamma":
        return {first: (x[0] * x[1]).mean(axis=0), others[0]: x[0].mean(axis=0)}
    if step.operands[0].startswith("dN"):
        dN, gamma, Z_hat, variance = x
        d, scale = gamma * dN, 1 / np.sqrt(variance + 1e-5)
        if "running" in step.operands[3]:
            return {first: d * scale}
        axis = 1 if layer.normalization == "layer" else 0
        along = (d * Z_hat).mean(axis=axis, keepdims=True)
        return {first: (d - d.mean(axis=axis, keepdims=True) - Z_hat * along) * scale}
    if step.operands[0].startswith("A"):
        return {first: w * (x[0] - x[1])}
    return {first: g.backward(*x)}


@pytest.mark.parametrize("training", [False, True], ids=["as used", "as in a step"])
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("problem", SHOWN, ids=str)
def test_every_step_can_be_recomputed_of_its_operands(problem: Problem, weighted: bool, training: bool) -> None:
    network, X, Y = problem.make()
    weights = np.linspace(0.5, 2, len(X)) if weighted else None
    arrays = walk.arrays(network, problem.cost, X, Y, weights, training=training)
    seen = {"A0", "Y", "w", *(name for name in arrays if walk.of_network(name))}
    for step in walk.steps(problem.spec, problem.cost, weighted=weighted, training=training):
        assert seen.issuperset(step.operands), "an operand is no result of a step before"
        by_hand = recomputed(step, {name: arrays[name] for name in step.operands}, problem.spec, problem.cost)
        assert by_hand.keys() == step.results.keys()
        for name, array in by_hand.items():
            assert arrays[name].shape == array.shape, name
            np.testing.assert_allclose(arrays[name], array, rtol=1e-9, atol=1e-12, err_msg=name)
            assert step.results[name]
        seen.update(step.results)
    assert seen >= set(arrays)  # nothing is given that no step mentions


def test_a_layer_has_two_steps_forward_and_three_back() -> None:
    spec = NetworkSpec(4, (LayerSpec(3, "tanh", dropout=0.25), LayerSpec(2, "sigmoid")))
    steps = walk.steps(spec, "mse")
    assert [(step.phase, step.layer, tuple(step.results)) for step in steps] == [
        ("forward", 1, ("Z1",)), ("forward", 1, ("A1",)),
        ("forward", 2, ("Z2",)), ("forward", 2, ("A2",)),
        ("cost", 2, ("E", "C")),
        ("backward", 2, ("dA2",)),
        ("backward", 2, ("dZ2",)), ("backward", 2, ("dW2", "db2")), ("backward", 2, ("dA1",)),
        ("backward", 1, ("dZ1",)), ("backward", 1, ("dW1", "db1")), ("backward", 1, ("dA0",)),
    ]  # fmt: skip
    assert "0.25" in steps[1].note
    assert steps[0].results == {"Z1": "Z[1] = A[0]·W[1]ᵀ + b[1]"}
    assert steps[1].function == ACTIVATIONS["tanh"].equation
    assert steps[4].results["E"] == COSTS["mse"].equation


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("problem", [PROBLEMS[0], *NORMALIZED[:2]], ids=str)
def test_means_over_blocks_are_those_of_all_at_once(
    problem: Problem, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, X, Y = problem.make()
    weights = np.linspace(0.5, 2, len(X)) if weighted else None
    at_once = walk.arrays(network, problem.cost, X, Y, weights)
    monkeypatch.setattr(walk, "EVALUATION_ROWS", 3)
    found = walk.means(network, problem.cost, X, Y, weights)
    assert found.keys() == at_once.keys()
    for name, array in at_once.items():
        whole = walk.of_network(name) or walk.of_all(name, problem.spec)
        np.testing.assert_allclose(found[name], array if whole else array.mean(axis=0), rtol=1e-12, atol=1e-14)


def test_what_follows_from_means_does() -> None:
    problem = next(problem for problem in SHOWN if problem.cost == "mse" and problem.hidden == "tanh")
    network, X, Y = problem.make()
    means = walk.means(network, "mse", X, Y)
    given = {name: array if walk.of_network(name) or not array.ndim else array[None] for name, array in means.items()}
    told = []
    for step in walk.steps(problem.spec, "mse"):
        by_hand = recomputed(step, given, problem.spec, "mse")
        for name in step.results:
            if walk.follows_from_means(name, problem.spec):
                told.append(name)
                if name != "C":  # of the mean of E, which is beside it
                    np.testing.assert_allclose(by_hand[name].reshape(means[name].shape), means[name], rtol=1e-12)
    assert told == ["Z1", "Z2", "C", "db2", "dA1", "db1", "dA0"]


def test_a_walk_has_the_numbers_of_the_reading_path() -> None:
    network, X, Y = SHOWN[0].make()
    arrays = walk.arrays(network, SHOWN[0].cost, X, Y)
    caches = forward(network, X)
    for name, array in backward(caches, SHOWN[0].cost, Y).items():
        assert np.array_equal(arrays[name], array)
    last = caches[-1]
    E = cost(SHOWN[0].cost).per_sample(last.Z, last.A, Y, ACTIVATIONS[last.activation])
    assert np.array_equal(arrays["E"], E)
