"""Explanations: the terms add up to the number, and the number is that of the reading path."""

from typing import Any

import numpy as np
import pytest

from chainrule.engine import ShapeError, UnknownNameError, walk
from chainrule.engine.explain import BIAS, SAMPLES, Explanation, explain, explained, shape_of
from tests.engine.problems import NORMALIZED, PROBLEMS, Problem

SHOWN = [p for p in PROBLEMS if p.sizes == (4, 5, 3) and p.hidden in ("tanh", "gelu")] + NORMALIZED[::4]


def total(found: Explanation) -> float:
    """Add up what is shown."""
    return sum(term.contribution for term in found.terms) + found.rest


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("problem", SHOWN, ids=str)
def test_every_number_is_the_sum_of_its_terms_or_the_function_of_its_operands(problem: Problem, weighted: bool) -> None:
    network, X, Y = problem.make()
    weights = np.linspace(0.5, 2, len(X)) if weighted else None
    arrays = walk.arrays(network, problem.cost, X, Y, weights)
    for name in explained(problem.spec):
        shape = shape_of(name, problem.spec, len(X))
        assert arrays[name].shape == shape
        for index in {tuple(0 for _ in shape), tuple(size - 1 for size in shape)}:
            found = explain(network, problem.cost, X, Y, name, index, weights, top=2)
            np.testing.assert_allclose(found.value, arrays[name][index], rtol=1e-12, atol=1e-15, err_msg=name)
            np.testing.assert_allclose(found.recomputed, found.value, rtol=1e-10, atol=1e-13, err_msg=f"{name} {index}")
            if found.over:
                np.testing.assert_allclose(total(found), found.recomputed, rtol=1e-12, atol=1e-15)
                assert len(found.terms) == min(2, found.count)
            assert (found.name, found.index) == (name, index)
            assert found.equation


def test_a_gradient_of_a_weight_is_a_mean_over_samples() -> None:
    problem = SHOWN[0]
    network, X, Y = problem.make()
    arrays = walk.arrays(network, problem.cost, X, Y)
    found = explain(network, problem.cost, X, Y, "dW2", (1, 3), top=3)
    assert found.equation == "dW[2][1,3] = (1/m) Σᵢ dZ[2][i,1]·A[1][i,3]"
    assert (found.over, found.count) == (SAMPLES, len(X))
    products = arrays["dZ2"][:, 1] * arrays["A1"][:, 3]
    order = np.argsort(-np.abs(products))[:3]
    assert [term.number for term in found.terms] == order.tolist()
    for term in found.terms:
        i = term.number
        assert term.factors == {f"dZ2[{i},1]": arrays["dZ2"][i, 1], f"A1[{i},3]": arrays["A1"][i, 3]}
        assert np.isclose(term.contribution, products[i] / len(X), rtol=1e-15)
    np.testing.assert_allclose(found.rest, np.delete(products, order).sum() / len(X), rtol=1e-12)


def test_the_bias_is_a_term_of_a_pre_activation() -> None:
    network, X, Y = SHOWN[0].make()
    found = explain(network, SHOWN[0].cost, X, Y, "Z2", (4, 1))
    (bias,) = [term for term in found.terms if term.number == BIAS]
    assert bias.factors == {"b2[1]": network.b[2][1]}
    assert found.count == 6
    assert found.rest == 0


def test_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    network, X, Y = SHOWN[0].make()
    asked: dict[str, Any] = {"dW1": (2, 1), "db2": (0,), "C": ()}
    whole = {name: explain(network, SHOWN[0].cost, X, Y, name, index) for name, index in asked.items()}
    monkeypatch.setattr("chainrule.engine.explain.EVALUATION_ROWS", 3)
    for name, index in asked.items():
        found = explain(network, SHOWN[0].cost, X, Y, name, index)
        assert [term.number for term in found.terms] == [term.number for term in whole[name].terms]
        np.testing.assert_allclose(found.value, whole[name].value, rtol=1e-12)


def test_in_float32_the_sum_differs_by_rounding_only() -> None:
    network, X, Y = SHOWN[0].make(dtype="float32")
    for name, index in (("dW2", (1, 3)), ("Z2", (4, 1)), ("dA1", (4, 1)), ("C", ())):
        found = explain(network, SHOWN[0].cost, X, Y, name, index)
        np.testing.assert_allclose(found.recomputed, found.value, rtol=1e-5, atol=1e-7)


def test_what_is_not_there_is_refused() -> None:
    network, X, Y = SHOWN[0].make()
    with pytest.raises(UnknownNameError, match="W2"):
        explain(network, SHOWN[0].cost, X, Y, "W2", (0, 0))
    for name, index in (("dW2", (0,)), ("dW2", (3, 0)), ("dW2", (-1, 0)), ("C", (0,)), ("E", (7,)), ("A0", (0, 4))):
        with pytest.raises(ShapeError, match=name):
            explain(network, SHOWN[0].cost, X, Y, name, index)
