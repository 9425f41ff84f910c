"""Activation functions A = g(Z) and the way back through them, dZ from dA."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from chainrule.engine.arrays import FloatArray
from chainrule.engine.errors import UnknownNameError

LEAK = 0.01
"""Slope of leaky ReLU for negative Z."""
GELU_SLOPE, GELU_CUBIC = math.sqrt(2 / math.pi), 0.044715
"""Of the form with tanh that approximates z·Φ(z); Hendrycks and Gimpel (2016)."""
GELU_BOUND = 20.0


@dataclass(frozen=True)
class Activation:
    """One activation function.

    Attributes:
        name: as configurations spell it.
        equation: g(Z), and g′(Z) or the Jacobian.
        forward: (Z, out, axis) to A.
        backward: (dA, Z, A, out, axis) to dZ = dA ⊙ g′(Z); `out` must be neither dA, Z nor A.
        kinks: the Z at which g′ jumps.
        output_only: whether it makes sense for the last layer only.

    Both take arrays of any shape; softmax runs over `axis`, the units, -1 where rows are samples.
    With `out` they write there; those of one exponential allocate no numbers of their size.
    """

    name: str
    equation: str
    forward: Callable[..., FloatArray]
    backward: Callable[..., FloatArray]
    kinks: tuple[float, ...] = ()
    output_only: bool = False


@np.errstate(over="ignore")  # e^800 is infinite, and 1/(1 + ∞) = 0 is the right answer
def _sigmoid(Z: FloatArray, out: FloatArray | None = None, axis: int = -1) -> FloatArray:
    out = np.negative(Z, out=out)
    np.exp(out, out=out)
    np.add(out, 1, out=out)
    return np.reciprocal(out, out=out)


def _sigmoid_back(
    dA: FloatArray, Z: FloatArray, A: FloatArray, out: FloatArray | None = None, axis: int = -1
) -> FloatArray:
    out = np.subtract(1, A, out=out)
    np.multiply(out, A, out=out)
    return np.multiply(out, dA, out=out)


def _tanh(Z: FloatArray, out: FloatArray | None = None, axis: int = -1) -> FloatArray:
    result: FloatArray = np.tanh(Z, out=out)
    return result


def _tanh_back(
    dA: FloatArray, Z: FloatArray, A: FloatArray, out: FloatArray | None = None, axis: int = -1
) -> FloatArray:
    out = np.multiply(A, A, out=out)
    np.subtract(1, out, out=out)
    return np.multiply(out, dA, out=out)


def _relu(Z: FloatArray, out: FloatArray | None = None, axis: int = -1) -> FloatArray:
    result: FloatArray = np.maximum(Z, 0, out=out)
    return result


def _relu_back(
    dA: FloatArray, Z: FloatArray, A: FloatArray, out: FloatArray | None = None, axis: int = -1
) -> FloatArray:
    out = np.empty_like(Z) if out is None else out
    np.copyto(out, np.greater(Z, 0))  # as numbers: a product of booleans and numbers is slow
    return np.multiply(out, dA, out=out)


def _leaky_relu(Z: FloatArray, out: FloatArray | None = None, axis: int = -1) -> FloatArray:
    out = np.multiply(Z, LEAK, out=out)
    result: FloatArray = np.maximum(Z, out, out=out)
    return result


def _leaky_relu_back(
    dA: FloatArray, Z: FloatArray, A: FloatArray, out: FloatArray | None = None, axis: int = -1
) -> FloatArray:
    out = np.empty_like(Z) if out is None else out
    np.copyto(out, np.greater(Z, 0))
    np.maximum(out, LEAK, out=out)
    return np.multiply(out, dA, out=out)


def _linear(Z: FloatArray, out: FloatArray | None = None, axis: int = -1) -> FloatArray:
    result: FloatArray = np.positive(Z, out=out)
    return result


def _linear_back(
    dA: FloatArray, Z: FloatArray, A: FloatArray, out: FloatArray | None = None, axis: int = -1
) -> FloatArray:
    result: FloatArray = np.positive(dA, out=out)
    return result


@np.errstate(over="ignore")
def _elu(Z: FloatArray, out: FloatArray | None = None, axis: int = -1) -> FloatArray:
    out = np.minimum(Z, 0, out=out)
    np.expm1(out, out=out)
    result: FloatArray = np.maximum(Z, out, out=out)
    return result


def _elu_back(
    dA: FloatArray, Z: FloatArray, A: FloatArray, out: FloatArray | None = None, axis: int = -1
) -> FloatArray:
    # a + 1 = eᶻ below zero and more than 1 above
    out = np.add(A, 1, out=out)
    np.minimum(out, 1, out=out)
    return np.multiply(out, dA, out=out)


def _softplus(Z: FloatArray, out: FloatArray | None = None, axis: int = -1) -> FloatArray:
    # log(1 + eᶻ) = max(z, 0) + log(1 + e^−|z|)
    out = np.abs(Z, out=out)
    np.negative(out, out=out)
    np.exp(out, out=out)
    np.log1p(out, out=out)
    return np.add(out, np.maximum(Z, 0), out=out)


def _softplus_back(
    dA: FloatArray, Z: FloatArray, A: FloatArray, out: FloatArray | None = None, axis: int = -1
) -> FloatArray:
    out = _sigmoid(Z, out=out)
    return np.multiply(out, dA, out=out)


def _silu(Z: FloatArray, out: FloatArray | None = None, axis: int = -1) -> FloatArray:
    out = _sigmoid(Z, out=out)
    return np.multiply(out, Z, out=out)


def _silu_back(
    dA: FloatArray, Z: FloatArray, A: FloatArray, out: FloatArray | None = None, axis: int = -1
) -> FloatArray:
    # σ + z·σ·(1 − σ) = σ + a·(1 − σ)
    out = _sigmoid(Z, out=out)
    rest = np.subtract(1, out)
    np.multiply(rest, A, out=rest)
    np.add(out, rest, out=out)
    return np.multiply(out, dA, out=out)


def _gelu_inner(Z: FloatArray) -> tuple[FloatArray, FloatArray]:
    # Beyond ±GELU_BOUND the tanh is ±1 to the last bit, and z³ would overflow.
    z = np.clip(Z, -GELU_BOUND, GELU_BOUND)
    square = np.multiply(z, z)
    return np.tanh(GELU_SLOPE * z * (1 + GELU_CUBIC * square)), square


def _gelu(Z: FloatArray, out: FloatArray | None = None, axis: int = -1) -> FloatArray:
    t, _ = _gelu_inner(Z)
    np.add(t, 1, out=t)
    np.multiply(t, 0.5, out=t)
    return np.multiply(t, Z, out=out)


def _gelu_back(
    dA: FloatArray, Z: FloatArray, A: FloatArray, out: FloatArray | None = None, axis: int = -1
) -> FloatArray:
    t, square = _gelu_inner(Z)
    slope = np.multiply(1 - t * t, GELU_SLOPE * (1 + 3 * GELU_CUBIC * square))
    z = np.clip(Z, -GELU_BOUND, GELU_BOUND)
    dZ: FloatArray = np.multiply(0.5 * (1 + t + z * slope), dA, out=out)
    return dZ


@np.errstate(over="ignore")  # two finite numbers may lie infinitely far apart, and e^−∞ = 0 is right
def _softmax(Z: FloatArray, out: FloatArray | None = None, axis: int = -1) -> FloatArray:
    out = np.subtract(Z, np.maximum.reduce(Z, axis=axis, keepdims=True), out=out)
    np.exp(out, out=out)
    return np.divide(out, np.add.reduce(out, axis=axis, keepdims=True), out=out)


def _softmax_back(
    dA: FloatArray, Z: FloatArray, A: FloatArray, out: FloatArray | None = None, axis: int = -1
) -> FloatArray:
    out = np.multiply(dA, A, out=out)
    weighed = np.add.reduce(out, axis=axis, keepdims=True)
    np.subtract(dA, weighed, out=out)
    return np.multiply(out, A, out=out)


ACTIVATIONS: dict[str, Activation] = {
    a.name: a
    for a in (
        Activation("sigmoid", "a = 1/(1 + e⁻ᶻ), g′ = a(1 − a)", _sigmoid, _sigmoid_back),
        Activation("tanh", "a = tanh z, g′ = 1 − a²", _tanh, _tanh_back),
        Activation("relu", "a = max(z, 0), g′ = 1 for z > 0, else 0", _relu, _relu_back, kinks=(0.0,)),
        Activation(
            "leaky_relu",
            f"a = max(z, {LEAK}·z), g′ = 1 for z > 0, else {LEAK}",
            _leaky_relu,
            _leaky_relu_back,
            kinks=(0.0,),
        ),
        Activation("elu", "a = z for z > 0, else eᶻ − 1, g′ = 1 for z > 0, else eᶻ", _elu, _elu_back),
        Activation("softplus", "a = log(1 + eᶻ), g′ = σ(z)", _softplus, _softplus_back),
        Activation("silu", "a = z·σ(z), g′ = σ(z) + a·(1 − σ(z))", _silu, _silu_back),
        Activation(
            "gelu",
            "a = ½z·(1 + t), t = tanh u, u = √(2/π)·(z + 0.044715·z³), g′ = ½(1 + t) + ½z·(1 − t²)·u′",
            _gelu,
            _gelu_back,
        ),
        Activation("linear", "a = z, g′ = 1", _linear, _linear_back),
        Activation(
            "softmax",
            "aⱼ = eᶻʲ / Σₖ eᶻᵏ, dzⱼ = aⱼ·(daⱼ − Σₖ daₖ·aₖ)",
            _softmax,
            _softmax_back,
            output_only=True,
        ),
    )
}


def activation(name: str, field: str = "") -> Activation:
    """Look an activation function up.

    Raises:
        UnknownNameError: there is none of this name; lists those there are.
    """
    if name not in ACTIVATIONS:
        raise UnknownNameError("activation", name, ACTIVATIONS, field)
    return ACTIVATIONS[name]
