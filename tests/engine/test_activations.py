import inspect
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from chainrule.engine import ACTIVATIONS, UnknownNameError, activation
from chainrule.engine.activations import LEAK
from chainrule.engine.arrays import DTYPES, FloatArray

PLAIN: dict[str, Callable[[FloatArray], FloatArray]] = {
    "sigmoid": lambda Z: 1 / (1 + np.exp(-Z)),
    "tanh": lambda Z: (np.exp(Z) - np.exp(-Z)) / (np.exp(Z) + np.exp(-Z)),
    "relu": lambda Z: np.where(Z > 0, Z, 0),
    "leaky_relu": lambda Z: np.where(Z > 0, Z, LEAK * Z),
    "elu": lambda Z: np.where(Z > 0, Z, np.expm1(Z)),
    "softplus": lambda Z: np.log1p(np.exp(Z)),
    "silu": lambda Z: Z / (1 + np.exp(-Z)),
    "gelu": lambda Z: Z / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (Z + 0.044715 * Z**3))),
    "linear": lambda Z: Z,
    "softmax": lambda Z: np.exp(Z) / np.sum(np.exp(Z), axis=-1, keepdims=True),
}
SIZES = [0.0, 1e-30, 1.0, 88.8, 800.0, 1e4, 1e30, 3.4028e38]
every_activation = pytest.mark.parametrize("name", ACTIVATIONS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def finite(dtype: type[np.float32] | type[np.float64]) -> st.SearchStrategy[FloatArray]:
    floats = st.floats(width=np.dtype(dtype).itemsize * 8, allow_nan=False, allow_infinity=False)  # type: ignore[arg-type]
    return hnp.arrays(dtype, st.tuples(st.integers(1, 4), st.integers(2, 5)), elements=floats)


def test_every_registered_activation_has_a_plain_formula_here() -> None:
    assert set(PLAIN) == set(ACTIVATIONS)


@every_activation
def test_it_equals_the_plain_formula(name: str) -> None:
    Z = np.random.default_rng(0).normal(0, 5, (50, 6))
    np.testing.assert_allclose(activation(name).forward(Z), PLAIN[name](Z), rtol=1e-13, atol=1e-15)


@every_activation
@every_dtype
def test_it_is_finite_at_extremes_and_its_derivative_too(name: str, dtype: str) -> None:
    found = activation(name)
    Z = np.array([[a, b] for a in SIZES for b in (-a, 0.0, 1.0, -3.4028e38)], dtype=dtype)
    A = found.forward(Z)
    dZ = found.backward(np.full_like(Z, -2.5), Z, A)
    assert A.dtype == dZ.dtype == dtype
    assert np.isfinite(A).all()
    assert np.isfinite(dZ).all()


@every_activation
@given(Z=st.one_of(finite(np.float32), finite(np.float64)))
def test_it_is_finite_for_every_finite_z(name: str, Z: FloatArray) -> None:
    found = activation(name)
    A = found.forward(Z)
    dZ = found.backward(np.ones_like(Z), Z, A)
    assert np.isfinite(A).all()
    assert np.isfinite(dZ).all()


@every_activation
def test_the_way_back_is_the_derivative(name: str) -> None:
    found, rng, h = activation(name), np.random.default_rng(1), 1e-6
    Z, dA = rng.normal(0, 2, (5, 4)), rng.normal(size=(5, 4))
    assert all(np.abs(Z - kink).min() > 1e-3 for kink in found.kinks)
    numeric = np.empty_like(Z)
    for unit in range(4):
        step = np.zeros(4)
        step[unit] = h
        change = found.forward(Z + step) - found.forward(Z - step)
        numeric[:, unit] = np.sum(dA * change, axis=1) / (2 * h)
    np.testing.assert_allclose(found.backward(dA, Z, found.forward(Z)), numeric, rtol=1e-7, atol=1e-9)


@every_activation
def test_units_may_lie_along_any_axis(name: str) -> None:
    found, rng = activation(name), np.random.default_rng(3)
    Z, dA = rng.normal(size=(6, 5)), rng.normal(size=(6, 5))
    A = found.forward(Z)
    np.testing.assert_allclose(found.forward(Z.T, axis=0), A.T, rtol=1e-14)
    np.testing.assert_allclose(found.backward(dA.T, Z.T, A.T, axis=0), found.backward(dA, Z, A).T, rtol=1e-13)
    stacked = np.stack([Z.T, -Z.T])
    np.testing.assert_allclose(found.forward(stacked, axis=1)[1], found.forward(-Z).T, rtol=1e-14)


@every_activation
def test_without_its_errstate_it_is_the_same_function(name: str) -> None:
    found, Z = activation(name), np.array([[-900.0, 2.0]])
    with np.errstate(over="ignore"):
        bare = inspect.unwrap(found.forward)(Z)
    assert bare.tobytes() == found.forward(Z).tobytes()


@every_dtype
def test_rectifiers_hand_da_on_bit_for_bit_above_zero(dtype: str) -> None:
    rng = np.random.default_rng(4)
    Z, dA = np.abs(rng.normal(size=(40, 9))).astype(dtype), rng.normal(size=(40, 9)).astype(dtype)
    for name in ("relu", "leaky_relu"):
        found = activation(name)
        assert found.backward(dA, Z, found.forward(Z)).tobytes() == dA.tobytes()


@every_dtype
def test_rectifiers_have_their_lower_slope_at_zero_and_below(dtype: str) -> None:
    Z = np.array([[-2.0, -1e-40, -0.0, 0.0]], dtype=dtype)
    dA = np.array([[3.0, -5.0, 7.0, np.finfo(dtype).max]], dtype=dtype)
    relu, leaky = activation("relu"), activation("leaky_relu")
    assert not relu.backward(dA, Z, relu.forward(Z)).any()
    np.testing.assert_array_equal(leaky.backward(dA, Z, leaky.forward(Z)), dA * np.array(LEAK, dtype))


def test_the_smallest_positive_z_counts_as_positive() -> None:
    Z, dA = np.array([[5e-324]]), np.array([[2.0]])
    for name in ("relu", "leaky_relu"):
        assert activation(name).backward(dA, Z, activation(name).forward(Z)) == 2.0


def test_sigmoid_does_not_overflow_at_minus_800() -> None:
    A = activation("sigmoid").forward(np.array([-800.0, 800.0]))
    np.testing.assert_array_equal(A, [0.0, 1.0])


@given(Z=finite(np.float64))
def test_softmax_gives_probabilities(Z: FloatArray) -> None:
    A = activation("softmax").forward(Z)
    assert (A >= 0).all()
    np.testing.assert_allclose(A.sum(axis=-1), 1, rtol=1e-14)


def test_an_unknown_activation_is_refused_with_those_known() -> None:
    with pytest.raises(UnknownNameError, match=r"'swish'.*sigmoid, tanh, relu") as refusal:
        activation("swish", "network/layers/0/activation")
    assert refusal.value.field == "network/layers/0/activation"
