"""Activation functions A = g(Z) and the way back through them, dZ from dA."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from chainrule.engine.arrays import BoolArray, FloatArray
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
        forward: (Z, axis) to A.
        backward: (dA, Z, A, axis) to dZ = dA ⊙ g′(Z).
        bend: (dA, Z, A, RZ, axis) to how dZ changes as Z does by RZ, with dA as it is: dA ⊙ g″(Z) ⊙ RZ.
        kinks: the Z at which g′ jumps.
        output_only: whether it makes sense for the last layer only.

    Both take arrays of any shape; softmax runs over `axis`, the units, -1 where rows are samples. They are
    made of ufuncs alone, so that they can be recorded (see `recording`).
    """

    name: str
    equation: str
    forward: Callable[..., FloatArray]
    backward: Callable[..., FloatArray]
    bend: Callable[..., FloatArray]
    kinks: tuple[float, ...] = ()
    output_only: bool = False


@np.errstate(over="ignore")  # e^800 is infinite, and 1/(1 + ∞) = 0 is the right answer
def _sigmoid(Z: FloatArray, axis: int = -1) -> FloatArray:
    result: FloatArray = np.reciprocal(np.exp(-Z) + 1)
    return result


def _sigmoid_bend(dA: FloatArray, Z: FloatArray, A: FloatArray, RZ: FloatArray, axis: int = -1) -> FloatArray:
    return dA * RZ * (A * (1 - A) * (1 - 2 * A))


def _sigmoid_back(dA: FloatArray, Z: FloatArray, A: FloatArray, axis: int = -1) -> FloatArray:
    return dA * (A * (1 - A))


def _tanh(Z: FloatArray, axis: int = -1) -> FloatArray:
    result: FloatArray = np.tanh(Z)
    return result


def _tanh_back(dA: FloatArray, Z: FloatArray, A: FloatArray, axis: int = -1) -> FloatArray:
    return dA * (1 - A * A)


def _tanh_bend(dA: FloatArray, Z: FloatArray, A: FloatArray, RZ: FloatArray, axis: int = -1) -> FloatArray:
    return dA * RZ * (-2 * A * (1 - A * A))


def _straight(dA: FloatArray, Z: FloatArray, A: FloatArray, RZ: FloatArray, axis: int = -1) -> FloatArray:
    return np.zeros_like(Z)


def _relu(Z: FloatArray, axis: int = -1) -> FloatArray:
    result: FloatArray = np.maximum(Z, 0)
    return result


def _relu_back(dA: FloatArray, Z: FloatArray, A: FloatArray, axis: int = -1) -> FloatArray:
    # g′ = sign a: a product of booleans and numbers would be slow
    return dA * np.sign(A)


def _leaky_relu(Z: FloatArray, axis: int = -1) -> FloatArray:
    result: FloatArray = np.maximum(Z, Z * LEAK)
    return result


def _leaky_relu_back(dA: FloatArray, Z: FloatArray, A: FloatArray, axis: int = -1) -> FloatArray:
    return dA * np.maximum(np.sign(Z), LEAK)


def _linear(Z: FloatArray, axis: int = -1) -> FloatArray:
    result: FloatArray = np.positive(Z)
    return result


def _linear_back(dA: FloatArray, Z: FloatArray, A: FloatArray, axis: int = -1) -> FloatArray:
    result: FloatArray = np.positive(dA)
    return result


def _elu(Z: FloatArray, axis: int = -1) -> FloatArray:
    result: FloatArray = np.maximum(Z, np.expm1(np.minimum(Z, 0)))
    return result


def _elu_back(dA: FloatArray, Z: FloatArray, A: FloatArray, axis: int = -1) -> FloatArray:
    # a + 1 = eᶻ below zero and more than 1 above
    return dA * np.minimum(A + 1, 1)


def _elu_bend(dA: FloatArray, Z: FloatArray, A: FloatArray, RZ: FloatArray, axis: int = -1) -> FloatArray:
    # eᶻ below zero and 0 above; at zero, where g″ jumps, that of above
    return dA * RZ * np.where(Z < 0, A + 1, 0).astype(Z.dtype)


def _softplus(Z: FloatArray, axis: int = -1) -> FloatArray:
    # log(1 + eᶻ) = max(z, 0) + log(1 + e^−|z|)
    return np.log1p(np.exp(-np.abs(Z))) + np.maximum(Z, 0)


def _softplus_back(dA: FloatArray, Z: FloatArray, A: FloatArray, axis: int = -1) -> FloatArray:
    return dA * _sigmoid(Z)


def _softplus_bend(dA: FloatArray, Z: FloatArray, A: FloatArray, RZ: FloatArray, axis: int = -1) -> FloatArray:
    σ = _sigmoid(Z)
    return dA * RZ * (σ * (1 - σ))


def _silu(Z: FloatArray, axis: int = -1) -> FloatArray:
    return Z * _sigmoid(Z)


def _silu_back(dA: FloatArray, Z: FloatArray, A: FloatArray, axis: int = -1) -> FloatArray:
    # σ + z·σ·(1 − σ) = σ + a·(1 − σ)
    σ = _sigmoid(Z)
    return dA * (σ + A * (1 - σ))


def _silu_bend(dA: FloatArray, Z: FloatArray, A: FloatArray, RZ: FloatArray, axis: int = -1) -> FloatArray:
    # σ′·(2 + z·(1 − 2σ)), σ′ = σ·(1 − σ)
    σ = _sigmoid(Z)
    return dA * RZ * (σ * (1 - σ) * 2 + A * (1 - σ) * (1 - 2 * σ))


def _gelu_inner(Z: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    # Beyond ±GELU_BOUND the tanh is ±1 to the last bit, and z³ would overflow.
    z = np.maximum(np.minimum(Z, GELU_BOUND), -GELU_BOUND)
    square = z * z
    return np.tanh(z * (square * GELU_CUBIC + 1) * GELU_SLOPE), z, square


def _gelu(Z: FloatArray, axis: int = -1) -> FloatArray:
    t, _, _ = _gelu_inner(Z)
    return (t + 1) * 0.5 * Z


def _gelu_back(dA: FloatArray, Z: FloatArray, A: FloatArray, axis: int = -1) -> FloatArray:
    t, z, square = _gelu_inner(Z)
    slope = (1 - t * t) * ((square * (3 * GELU_CUBIC) + 1) * GELU_SLOPE)
    return (t + 1 + z * slope) * 0.5 * dA


def _gelu_bend(dA: FloatArray, Z: FloatArray, A: FloatArray, RZ: FloatArray, axis: int = -1) -> FloatArray:
    # t′ = (1 − t²)·u′ and t″ = (1 − t²)·u″ − 2·t·(1 − t²)·u′²; g″ = t′ + ½z·t″
    t, z, square = _gelu_inner(Z)
    slope, bend = (square * (3 * GELU_CUBIC) + 1) * GELU_SLOPE, z * (6 * GELU_CUBIC * GELU_SLOPE)
    rest = 1 - t * t
    result: FloatArray = dA * RZ * (rest * (slope + 0.5 * z * (bend - 2 * t * slope * slope)))
    return result


@np.errstate(over="ignore")  # two finite numbers may lie infinitely far apart, and e^−∞ = 0 is right
def _softmax(Z: FloatArray, axis: int = -1) -> FloatArray:
    e = np.exp(Z - np.maximum.reduce(Z, axis=axis, keepdims=True))
    return e / np.add.reduce(e, axis=axis, keepdims=True)


def _softmax_back(dA: FloatArray, Z: FloatArray, A: FloatArray, axis: int = -1) -> FloatArray:
    return A * (dA - np.add.reduce(dA * A, axis=axis, keepdims=True))


def _softmax_bend(dA: FloatArray, Z: FloatArray, A: FloatArray, RZ: FloatArray, axis: int = -1) -> FloatArray:
    # dz = a ⊙ (da − s), s = Σ da·a; so R{dz} = R{a} ⊙ (da − s) − a·Σ da·R{a}, R{a} = a ⊙ (R{z} − Σ R{z}·a)
    RA = _softmax_back(RZ, Z, A, axis)
    s = np.add.reduce(dA * A, axis=axis, keepdims=True)
    result: FloatArray = RA * (dA - s) - A * np.add.reduce(dA * RA, axis=axis, keepdims=True)
    return result


ACTIVATIONS: dict[str, Activation] = {
    a.name: a
    for a in (
        Activation("sigmoid", "a = 1/(1 + e⁻ᶻ), g′ = a(1 − a)", _sigmoid, _sigmoid_back, _sigmoid_bend),
        Activation("tanh", "a = tanh z, g′ = 1 − a²", _tanh, _tanh_back, _tanh_bend),
        Activation("relu", "a = max(z, 0), g′ = 1 for z > 0, else 0", _relu, _relu_back, _straight, kinks=(0.0,)),
        Activation(
            "leaky_relu",
            f"a = max(z, {LEAK}·z), g′ = 1 for z > 0, else {LEAK}",
            _leaky_relu,
            _leaky_relu_back,
            _straight,
            kinks=(0.0,),
        ),
        Activation("elu", "a = z for z > 0, else eᶻ − 1, g′ = 1 for z > 0, else eᶻ", _elu, _elu_back, _elu_bend),
        Activation("softplus", "a = log(1 + eᶻ), g′ = σ(z)", _softplus, _softplus_back, _softplus_bend),
        Activation("silu", "a = z·σ(z), g′ = σ(z) + a·(1 − σ(z))", _silu, _silu_back, _silu_bend),
        Activation(
            "gelu",
            "a = ½z·(1 + t), t = tanh u, u = √(2/π)·(z + 0.044715·z³), g′ = ½(1 + t) + ½z·(1 − t²)·u′",
            _gelu,
            _gelu_back,
            _gelu_bend,
        ),
        Activation("linear", "a = z, g′ = 1", _linear, _linear_back, _straight),
        Activation(
            "softmax",
            "aⱼ = eᶻʲ / Σₖ eᶻᵏ, dzⱼ = aⱼ·(daⱼ − Σₖ daₖ·aₖ)",
            _softmax,
            _softmax_back,
            _softmax_bend,
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


SATURATED = {"tanh": (-0.97, 0.97), "sigmoid": (0.02, 0.98)}
"""Outputs beyond are saturated: g′ is next to 0 there."""


def saturated(name: str, A: FloatArray) -> BoolArray | None:
    """Tell which outputs are near an end of the function's range; None of a function without such ends."""
    if name not in SATURATED:
        return None
    low, high = SATURATED[name]
    near_an_end: BoolArray = (low > A) | (high < A)
    return near_an_end
