"""Costs: what training makes smaller, C = (1/m) Σᵢ E⁽ⁱ⁾, and where its gradient begins.

Everything is finite for every finite Z: where the plain formula would divide by a saturated output,
the same value is computed from Z instead, and a number too large for the float type becomes the
largest that it holds. No epsilon changes any value.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from chainrule.engine.activations import ACTIVATIONS, Activation, activation
from chainrule.engine.arrays import BoolArray, FloatArray, IntArray
from chainrule.engine.errors import UnknownNameError

DELTA = 1.0
"""Where the Huber cost turns from a parabola into a line; Huber (1964)."""


@dataclass(frozen=True)
class Cost:
    """One cost.

    Attributes:
        name: as configurations spell it.
        equation: E of one sample.
        dA_equation: ∂E/∂A[L].
        fits: the output activations it is defined for.
        per_sample: (Z, A, Y, output, axis) to E⁽ⁱ⁾, one float64 for each sample.
        output_dA: (Z, A, Y, output, axis) to dA[L].
        output_dZ: (Z, A, Y, output, axis) to dZ[L].
        along: (Z, A, Y, RZ, output, axis) to how dZ[L] changes as Z does by RZ, (∂²E/∂Z[L]²)·RZ of each sample.

    `axis` is that of the units: -1 where rows are samples. The derivatives are made of ufuncs alone, so that
    they can be recorded (see `recording`).
    """

    name: str
    equation: str
    dA_equation: str
    fits: tuple[str, ...]
    per_sample: Callable[..., FloatArray]
    output_dA: Callable[..., FloatArray]
    output_dZ: Callable[..., FloatArray]
    along: Callable[..., FloatArray]


def _through_output(dA: Callable[..., FloatArray]) -> Callable[..., FloatArray]:
    """Make dZ[L] of a dA[L] that is safe to be carried through the output's activation as it is."""

    def dZ(Z: FloatArray, A: FloatArray, Y: FloatArray, output: Activation, axis: int = -1) -> FloatArray:
        return output.backward(dA(Z, A, Y, output, axis), Z, A, axis)

    return dZ


def _along_output(dA: Callable[..., FloatArray], bend: Callable[..., FloatArray]) -> Callable[..., FloatArray]:
    """Make `along` of dA[L] and of ∂²E/∂a², which is each output's own."""

    def along(
        Z: FloatArray, A: FloatArray, Y: FloatArray, RZ: FloatArray, output: Activation, axis: int = -1
    ) -> FloatArray:
        # The Jacobian of every activation is symmetric: forward it is what it is backward.
        RdA = bend(A, Y) * output.backward(RZ, Z, A, axis)
        bent = output.bend(dA(Z, A, Y, output, axis), Z, A, RZ, axis)
        result: FloatArray = output.backward(RdA, Z, A, axis) + bent
        return result

    return along


@np.errstate(over="ignore")
def _mse(Z: FloatArray, A: FloatArray, Y: FloatArray, output: Activation, axis: int = -1) -> FloatArray:
    difference = np.subtract(A, Y)
    return _sum(np.multiply(difference, difference, dtype=np.float64), axis) / 2


def _mse_dA(Z: FloatArray, A: FloatArray, Y: FloatArray, output: Activation, axis: int = -1) -> FloatArray:
    return A - Y


def _mse_bend(A: FloatArray, Y: FloatArray) -> FloatArray:
    return np.ones_like(A)


@np.errstate(over="ignore")
def _huber(Z: FloatArray, A: FloatArray, Y: FloatArray, output: Activation, axis: int = -1) -> FloatArray:
    # Both branches in one: c·(|d| − ½c) with c = min(|d|, δ)
    distance = np.abs(np.subtract(A, Y)).astype(np.float64)
    bounded = np.minimum(distance, DELTA)
    return _sum(bounded * (distance - bounded / 2), axis)


def _huber_dA(Z: FloatArray, A: FloatArray, Y: FloatArray, output: Activation, axis: int = -1) -> FloatArray:
    result: FloatArray = np.maximum(np.minimum(A - Y, DELTA), -DELTA)
    return result


def _huber_bend(A: FloatArray, Y: FloatArray) -> FloatArray:
    return (np.abs(A - Y) <= DELTA).astype(A.dtype)


@np.errstate(over="ignore")
def _mae(Z: FloatArray, A: FloatArray, Y: FloatArray, output: Activation, axis: int = -1) -> FloatArray:
    return _sum(np.abs(np.subtract(A, Y)), axis)


def _mae_dA(Z: FloatArray, A: FloatArray, Y: FloatArray, output: Activation, axis: int = -1) -> FloatArray:
    result: FloatArray = np.sign(A - Y)
    return result


def _mae_bend(A: FloatArray, Y: FloatArray) -> FloatArray:
    return np.zeros_like(A)


@np.errstate(over="ignore")
def _cross_entropy(Z: FloatArray, A: FloatArray, Y: FloatArray, output: Activation, axis: int = -1) -> FloatArray:
    if output.name == "softmax":
        # −Σ y·log a = Σ y·(z_max − z) − log(a_max)·Σ y, for a_max = 1/Σ e^(z − z_max); where y is 0 it is 0,
        # however large −log a
        below = np.maximum.reduce(Z, axis=axis, keepdims=True) - Z
        if np.maximum.reduce(below, axis=None) == np.inf:
            below = np.minimum(below, np.finfo(Z.dtype).max)
        log_sums: FloatArray = np.log(np.maximum.reduce(A, axis=axis)) * np.add.reduce(Y, axis=axis)
        return _sum(Y * below, axis) - log_sums
    # −[y·log a + (1−y)·log(1−a)] with log(1 + eᶻ) = max(z, 0) + log(1 + e^−|z|)
    return _sum(np.maximum(Z, 0) - Y * Z + np.log1p(np.exp(-np.abs(Z))), axis)


@np.errstate(over="ignore")
def _cross_entropy_dA(Z: FloatArray, A: FloatArray, Y: FloatArray, output: Activation, axis: int = -1) -> FloatArray:
    if output.name == "softmax":
        # −y/a with 1/a = e^(−log a)
        return -Y * _bounded_exp(_minus_log_softmax(Z, axis))
    # 1/a = 1 + e⁻ᶻ and 1/(1−a) = 1 + eᶻ
    return -(Y * (1 + _bounded_exp(-Z)) - (1 - Y) * (1 + _bounded_exp(Z)))


def _cross_entropy_dZ(Z: FloatArray, A: FloatArray, Y: FloatArray, output: Activation, axis: int = -1) -> FloatArray:
    return A - Y


def _cross_entropy_along(
    Z: FloatArray, A: FloatArray, Y: FloatArray, RZ: FloatArray, output: Activation, axis: int = -1
) -> FloatArray:
    result: FloatArray = output.backward(RZ, Z, A, axis)
    return result


def _sum(terms: FloatArray, axis: int) -> FloatArray:
    result: FloatArray = np.minimum(np.add.reduce(terms, axis=axis, dtype=np.float64), np.finfo(np.float64).max)
    return result


def _minus_log_softmax(Z: FloatArray, axis: int) -> FloatArray:
    # What lies infinitely far below the top has e^−∞ = 0 and −log a = ∞.
    below = np.maximum.reduce(Z, axis=axis, keepdims=True) - Z
    return below + np.log(np.add.reduce(np.exp(-below), axis=axis, keepdims=True))


def _bounded_exp(exponent: FloatArray) -> FloatArray:
    info = np.finfo(exponent.dtype)
    largest = np.log(info.max) * (1 - 4 * info.eps)
    result: FloatArray = np.exp(np.minimum(exponent, largest))
    return result


COSTS: dict[str, Cost] = {
    c.name: c
    for c in (
        Cost(
            "mse",
            "E = ½·‖a − y‖²",
            "dA[L] = A − Y",
            tuple(ACTIVATIONS),
            _mse,
            _mse_dA,
            _through_output(_mse_dA),
            _along_output(_mse_dA, _mse_bend),
        ),
        Cost(
            "huber",
            f"E = Σ ½d² where |d| ≤ δ, else δ·(|d| − ½δ), with d = a − y and δ = {DELTA:g}",
            "dA[L] = A − Y, held between −δ and δ",
            tuple(ACTIVATIONS),
            _huber,
            _huber_dA,
            _through_output(_huber_dA),
            _along_output(_huber_dA, _huber_bend),
        ),
        Cost(
            "mae",
            "E = Σ |a − y|",
            "dA[L] = sign(A − Y)",
            tuple(ACTIVATIONS),
            _mae,
            _mae_dA,
            _through_output(_mae_dA),
            _along_output(_mae_dA, _mae_bend),
        ),
        Cost(
            "cross_entropy",
            "E = −Σ [y·log a + (1−y)·log(1−a)] for sigmoid, −Σ y·log a for softmax",
            "dA[L] = −(Y/A − (1−Y)/(1−A)) for sigmoid, −Y/A for softmax",
            ("sigmoid", "softmax"),
            _cross_entropy,
            _cross_entropy_dA,
            _cross_entropy_dZ,
            _cross_entropy_along,
        ),
        Cost(
            "binary_cross_entropy",
            "E = −Σ [y·log a + (1−y)·log(1−a)], of labels that hold or not, each on its own",
            "dA[L] = −(Y/A − (1−Y)/(1−A))",
            ("sigmoid",),
            _cross_entropy,
            _cross_entropy_dA,
            _cross_entropy_dZ,
            _cross_entropy_along,
        ),
    )
}


def softmax_of_labels(Z: FloatArray, labels: IntArray) -> tuple[FloatArray, BoolArray]:
    """Compute the softmax cross-entropy of class labels, and who is got wrong, with less work than from targets.

        E = z_max − z_label + log Σₖ e^(zₖ − z_max)

    Args:
        Z: (n_L, …) pre-activations, units along the first axis.
        labels: (…) classes.

    Returns:
        E⁽ⁱ⁾, (…), and whether the first of the largest activations is another class's, (…).
    """
    with np.errstate(over="ignore"):
        above = Z - np.maximum.reduce(Z, axis=0)
    powers = np.exp(above)
    sums = np.add.reduce(powers, axis=0)
    # Where each sample's label lies in what is as long as Z.
    places = labels * labels.size + np.arange(labels.size).reshape(labels.shape)
    errors = np.log(sums) - np.maximum(above.take(places), np.finfo(Z.dtype).min).astype(np.float64)
    wrong = powers.take(places) != 1
    if np.count_nonzero(powers > 1 - 4 * np.finfo(Z.dtype).eps) != labels.size:
        # Several are largest, or nearly, or a number is none: what is the first of them shows when it is divided.
        wrong = np.argmax(powers / sums, axis=0) != labels
    return errors, wrong


def cost(name: str, field: str = "cost") -> Cost:
    """Look a cost up.

    Raises:
        UnknownNameError: there is none of this name; lists those there are.
    """
    if name not in COSTS:
        raise UnknownNameError("cost", name, COSTS, field)
    return COSTS[name]


def costs_for(output: str) -> tuple[str, ...]:
    """Name the costs that fit an output activation.

    >>> costs_for("tanh")
    ('mse', 'huber', 'mae')
    """
    activation(output)
    return tuple(name for name, found in COSTS.items() if output in found.fits)
