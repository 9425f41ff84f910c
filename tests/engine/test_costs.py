from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from chainrule.engine import ACTIVATIONS, COSTS, UnknownNameError, activation, cost, costs_for
from chainrule.engine.arrays import DTYPES, FloatArray
from chainrule.engine.costs import softmax_of_labels
from chainrule.engine.network import classify
from tests.engine.problems import FITTING

EXTREMES = [0.0, 88.8, 800.0, 1e4, 1e30, 3.4028e38]


def plain_cross_entropy(A: FloatArray, Y: FloatArray, output: str) -> FloatArray:
    terms = Y * np.log(A) if output == "softmax" else Y * np.log(A) + (1 - Y) * np.log(1 - A)
    return np.asarray(-terms.sum(axis=-1))


def plain_cross_entropy_dA(A: FloatArray, Y: FloatArray, output: str) -> FloatArray:
    return -Y / A if output == "softmax" else -(Y / A - (1 - Y) / (1 - A))


PLAIN: dict[str, Callable[[FloatArray, FloatArray, str], FloatArray]] = {
    "mse": lambda A, Y, output: np.asarray(((Y - A) ** 2).sum(axis=-1) / 2),
    "huber": lambda A, Y, output: np.where(abs(A - Y) <= 1, (A - Y) ** 2 / 2, abs(A - Y) - 0.5).sum(axis=-1),
    "mae": lambda A, Y, output: np.asarray(abs(A - Y).sum(axis=-1)),
    "cross_entropy": plain_cross_entropy,
    "binary_cross_entropy": plain_cross_entropy,
}
PLAIN_DA: dict[str, Callable[[FloatArray, FloatArray, str], FloatArray]] = {
    "mse": lambda A, Y, output: A - Y,
    "huber": lambda A, Y, output: np.where(abs(A - Y) <= 1, A - Y, np.where(A > Y, 1.0, -1.0)),
    "mae": lambda A, Y, output: np.where(A == Y, 0.0, np.where(A > Y, 1.0, -1.0)),
    "cross_entropy": plain_cross_entropy_dA,
    "binary_cross_entropy": plain_cross_entropy_dA,
}
every_fit = pytest.mark.parametrize(("output", "name"), FITTING)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def batch(seed: int = 0, spread: float = 3.0) -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    return rng.normal(0, spread, (20, 4)), np.eye(4)[rng.integers(0, 4, 20)]


def test_every_registered_cost_has_a_plain_formula_here() -> None:
    assert set(PLAIN) == set(PLAIN_DA) == set(COSTS)


@every_fit
def test_the_error_and_its_derivative_equal_the_plain_formulas(output: str, name: str) -> None:
    found, g = cost(name), activation(output)
    Z, Y = batch()
    A = g.forward(Z)
    np.testing.assert_allclose(found.per_sample(Z, A, Y, g), PLAIN[name](A, Y, output), rtol=1e-12)
    np.testing.assert_allclose(found.output_dA(Z, A, Y, g), PLAIN_DA[name](A, Y, output), rtol=1e-11)


@every_fit
def test_dz_is_da_carried_through_the_output_activation(output: str, name: str) -> None:
    found, g = cost(name), activation(output)
    Z, Y = batch()
    A = g.forward(Z)
    through = g.backward(found.output_dA(Z, A, Y, g), Z, A)
    np.testing.assert_allclose(found.output_dZ(Z, A, Y, g), through, rtol=1e-11, atol=1e-15)


@every_fit
@every_dtype
def test_everything_is_finite_at_saturated_outputs(output: str, name: str, dtype: str) -> None:
    found, g = cost(name), activation(output)
    Z = np.array([[a, b] for a in EXTREMES for b in (-a, 0.0, 1.0, -3.4028e38)], dtype=dtype)
    for Y in (np.zeros_like(Z), np.ones_like(Z), np.tile(np.array([0, 1], Z.dtype), (len(Z), 1))):
        A = g.forward(Z)
        for what in (found.per_sample, found.output_dA, found.output_dZ):
            assert np.isfinite(what(Z, A, Y, g)).all()


@every_fit
@given(data=st.data(), width=st.sampled_from([32, 64]))
def test_everything_is_finite_for_every_finite_z(output: str, name: str, data: st.DataObject, width: int) -> None:
    dtype = f"float{width}"
    floats = st.floats(width=width, allow_nan=False, allow_infinity=False)  # type: ignore[arg-type]
    Z = data.draw(hnp.arrays(dtype, (3, 4), elements=floats))
    Y = np.eye(4, dtype=dtype)[data.draw(hnp.arrays(np.int64, 3, elements=st.integers(0, 3)))]
    found, g = cost(name), activation(output)
    A = g.forward(Z)
    for what in (found.per_sample, found.output_dA, found.output_dZ):
        assert np.isfinite(what(Z, A, Y, g)).all()


@every_fit
def test_units_may_lie_along_any_axis(output: str, name: str) -> None:
    found, g = cost(name), activation(output)
    Z, Y = batch(1)
    A = g.forward(Z)
    for what in (found.per_sample, found.output_dA, found.output_dZ):
        np.testing.assert_allclose(what(Z.T, A.T, Y.T, g, axis=0), what(Z, A, Y, g).T, rtol=1e-13, atol=1e-15)


@every_fit
def test_errors_are_float64_whatever_the_network_is(output: str, name: str) -> None:
    found, g = cost(name), activation(output)
    Z, Y = (array.astype(np.float32) for array in batch(3))
    assert found.per_sample(Z, g.forward(Z), Y, g).dtype == np.float64


def test_cross_entropy_of_a_saturated_wrong_output_is_z_not_infinity() -> None:
    Z, Y = np.array([[-800.0]]), np.array([[1.0]])
    g = activation("sigmoid")
    assert cost("cross_entropy").per_sample(Z, g.forward(Z), Y, g) == 800.0
    Z, Y = np.array([[-800.0, 800.0]]), np.array([[1.0, 0.0]])
    g = activation("softmax")
    assert cost("cross_entropy").per_sample(Z, g.forward(Z), Y, g) == 1600.0


@given(
    Z=hnp.arrays(
        st.sampled_from([np.float32, np.float64]),
        st.tuples(st.integers(2, 12), st.integers(2, 9)),
        elements=st.sampled_from([-1e30, -800.0, -1.0, -1e-9, 0.0, 1e-9, 0.25, 1.0, 1.0000001, 90.0, 3e38]),
    ),
    data=st.data(),
)
def test_softmax_of_labels_is_the_cross_entropy_of_targets_and_the_class_of_the_outputs(
    Z: FloatArray, data: st.DataObject
) -> None:
    classes, samples = Z.shape
    labels = data.draw(hnp.arrays(np.int64, samples, elements=st.integers(0, classes - 1)))
    softmax, Y = activation("softmax"), np.eye(classes, dtype=Z.dtype)[labels].T
    A = softmax.forward(Z, axis=0)
    errors, wrong = softmax_of_labels(Z, labels)
    assert errors.dtype == np.float64
    np.testing.assert_allclose(errors, cost("cross_entropy").per_sample(Z, A, Y, softmax, axis=0), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(wrong, classify(A, classes, axis=0) != labels)


def test_mean_squared_error_of_float32_outputs_may_exceed_float32() -> None:
    A = np.array([[1e30]], np.float32)
    error = cost("mse").per_sample(A, A, np.zeros_like(A), activation("linear"))
    np.testing.assert_allclose(error, 5e59, rtol=1e-6)


def test_costs_that_fit_an_output_are_listed() -> None:
    assert costs_for("softmax") == ("mse", "huber", "mae", "cross_entropy")
    assert costs_for("linear") == ("mse", "huber", "mae")
    assert {output for output in ACTIVATIONS if not costs_for(output)} == set()
    with pytest.raises(UnknownNameError):
        costs_for("swish")


def test_an_unknown_cost_is_refused_with_those_known() -> None:
    with pytest.raises(UnknownNameError, match=r"'hinge'.*mse, huber, mae, cross_entropy") as refusal:
        cost("hinge")
    assert refusal.value.field == "cost"
