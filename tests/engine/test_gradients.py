from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule.engine import UnknownNameError, backward, dense, forward
from chainrule.engine.gradients import PER_SAMPLE, equation, gradients, names, statistics, statistics_of, update_ratios
from tests.engine.problems import NORMALIZED, PROBLEMS, SAMPLES, SHALLOW, Problem

PROBLEM = Problem(SHALLOW, "tanh", "softmax", "cross_entropy")


def test_every_quantity_is_listed_from_the_input_on() -> None:
    assert names(dense(2, (3, "relu"), (1, "sigmoid"))) == [
        *("A0", "dA0"),
        *("Z1", "A1", "dA1", "dZ1", "dW1", "db1"),
        *("Z2", "A2", "dA2", "dZ2", "dW2", "db2"),
    ]


@pytest.mark.parametrize("problem", [*PROBLEMS[:: len(PROBLEMS) // 12], *NORMALIZED[::9]], ids=str)
def test_every_name_gives_what_forward_and_backward_compute(problem: Problem) -> None:
    network, X, Y = problem.make()
    found = gradients(network, problem.cost, X, Y, names(network.spec))
    assert list(found) == names(network.spec)
    caches = forward(network, X)
    expected = backward(caches, problem.cost, Y) | {"A0": X}
    for number, cache in enumerate(caches, start=1):
        expected |= {f"Z{number}": cache.Z, f"A{number}": cache.A}
        expected |= {f"N{number}": cache.N} if cache.normalized else {}
    assert set(found) == set(expected)
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name])


def test_quantities_come_in_the_order_asked_for() -> None:
    network, X, Y = PROBLEM.make()
    assert list(gradients(network, PROBLEM.cost, X, Y, ["dW2", "A0", "dZ1"])) == ["dW2", "A0", "dZ1"]


@pytest.mark.parametrize("problem", [*PROBLEMS[:: len(PROBLEMS) // 12], *NORMALIZED[::9]], ids=str)
def test_each_samples_own_gradient_is_that_of_a_batch_of_it_alone(problem: Problem) -> None:
    network, X, Y = problem.make()
    wanted = [name for name in names(network.spec) if name.startswith(PER_SAMPLE)]
    own = gradients(network, problem.cost, X, Y, wanted, per_sample=True)
    for i in range(SAMPLES):
        alone = gradients(network, problem.cost, X[i : i + 1], Y[i : i + 1], wanted)
        for name in wanted:
            np.testing.assert_allclose(own[name][i], alone[name], rtol=1e-11, atol=1e-14)
    mean = gradients(network, problem.cost, X, Y, wanted)
    for name in wanted:
        np.testing.assert_allclose(own[name].mean(axis=0), mean[name], rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("name", ["dW3", "dZ0", "W1", "Z0", "dA", "", "dW01", "dW1 ", "db-1"])
def test_an_unknown_name_is_refused_with_those_known(name: str) -> None:
    network, X, Y = PROBLEM.make()
    with pytest.raises(UnknownNameError, match="A0, dA0, Z1, A1, dA1, dZ1, dW1, db1, Z2") as refusal:
        gradients(network, PROBLEM.cost, X, Y, ["dW1", name])
    assert refusal.value.field == "names"


def test_equations_are_written_for_their_layer() -> None:
    spec = dense(2, (3, "relu"), (2, "softmax"))
    found = {name: equation(name, spec, "cross_entropy") for name in names(spec)}
    assert found == {
        "A0": "A[0] = X",
        "dA0": "dA[0] = dZ[1]·W[1]",
        "Z1": "Z[1] = A[0]·W[1]ᵀ + b[1]",
        "A1": "A[1] = g(Z[1])",
        "dA1": "dA[1] = dZ[2]·W[2]",
        "dZ1": "dZ[1] = dA[1] ⊙ g′(Z[1])",
        "dW1": "dW[1] = (1/m)·dZ[1]ᵀ·A[0]",
        "db1": "db[1] = (1/m)·Σᵢ dZ[1]⁽ⁱ⁾",
        "Z2": "Z[2] = A[1]·W[2]ᵀ + b[2]",
        "A2": "A[2] = g(Z[2])",
        "dA2": "dA[2] = −(Y/A − (1−Y)/(1−A)) for sigmoid, −Y/A for softmax",
        "dZ2": "dZ[2] = A[2] − Y, which is dA[2] ⊙ g′(Z[2]) for softmax",
        "dW2": "dW[2] = (1/m)·dZ[2]ᵀ·A[1]",
        "db2": "db[2] = (1/m)·Σᵢ dZ[2]⁽ⁱ⁾",
    }
    assert equation("dA2", spec, "mse") == "dA[2] = A − Y"
    assert equation("dZ2", spec, "mse") == "dZ[2] = dA[2] ⊙ g′(Z[2])"


def test_statistics_describe_an_array() -> None:
    G = np.random.default_rng(0).normal(1, 2, (6, 7)).astype(np.float32)
    G[2, 3] = G[4, 1] = 0
    found, g = statistics(G), G.astype(np.float64)
    assert found.norm == pytest.approx(np.linalg.norm(g), rel=1e-12)
    assert found.mean == pytest.approx(g.mean(), rel=1e-12)
    assert found.standard_deviation == pytest.approx(g.std(), rel=1e-12)
    assert (found.minimum, found.maximum) == (g.min(), g.max())
    assert found.zeros == pytest.approx(2 / 42)


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    together=st.integers(1, 60),
    middle=st.sampled_from([0.0, 1.0, 1e6]),
)
def test_arrays_are_described_and_compared_alike_however_they_are_cut(
    sizes: list[int], together: int, middle: float
) -> None:
    rng = np.random.default_rng(sum(sizes))
    arrays, then = ([rng.normal(middle, 1, size) * (rng.random(size) < 0.8) for size in sizes] for _ in range(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("chainrule.engine.gradients.TOGETHER", together)
        described, ratios = statistics_of(arrays), update_ratios(arrays, then)
    for g, before, found, ratio in zip(arrays, then, described, ratios, strict=True):
        expected = (np.linalg.norm(g), g.mean(), g.std(), g.min(), g.max(), np.mean(g == 0))
        np.testing.assert_allclose(astuple(found), expected, rtol=1e-9, atol=1e-9)
        size = np.linalg.norm(before)
        assert ratio == (pytest.approx(np.linalg.norm(g - before) / size) if size > 0 else None)


def test_statistics_of_large_float32_numbers_do_not_overflow() -> None:
    assert statistics(np.full(4, 1e30, np.float32)).norm == pytest.approx(2e30, rel=1e-6)


@pytest.mark.parametrize("per_sample", [False, True])
def test_weights_multiply_what_each_sample_adds_to_a_gradient(per_sample: bool) -> None:
    network, X, Y = PROBLEM.make()
    wanted, w = names(network.spec), np.linspace(0, 2, SAMPLES)
    weighed = gradients(network, PROBLEM.cost, X, Y, wanted, weights=w, per_sample=per_sample)
    own = gradients(network, PROBLEM.cost, X, Y, wanted, per_sample=True)
    for name in wanted:
        by_sample = own[name] if name[0] != "d" else own[name] * w.reshape(-1, *[1] * (own[name].ndim - 1))
        expected = by_sample.mean(axis=0) if name.startswith(PER_SAMPLE) and not per_sample else by_sample
        np.testing.assert_allclose(weighed[name], expected, rtol=1e-11, atol=1e-14, err_msg=name)


def test_equations_say_where_weights_enter() -> None:
    spec = dense(2, (3, "relu"), (2, "sigmoid"))
    assert equation("dA2", spec, "mse", weighted=True) == "dA[2] = A − Y, times w⁽ⁱ⁾ in row i"
    assert equation("dZ2", spec, "mse", weighted=True) == equation("dZ2", spec, "mse")
    found = equation("dZ2", spec, "binary_cross_entropy", weighted=True)
    assert found == "dZ[2] = w ⊙ (A[2] − Y), which is dA[2] ⊙ g′(Z[2]) for sigmoid"
    assert equation("dW1", spec, "mse", weighted=True) == equation("dW1", spec, "mse")
