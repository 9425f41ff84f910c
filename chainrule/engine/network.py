"""A network: its shape, its parameters, forward and backward.

This is the reading path: it says what is meant, in the order of the equations. `fast` does the same
without allocating, and the tests hold the two equal.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from chainrule.engine import layers
from chainrule.engine.activations import activation
from chainrule.engine.arrays import FloatArray, IntArray, dtype_of, generator
from chainrule.engine.costs import cost
from chainrule.engine.errors import ConfigError, ShapeError
from chainrule.engine.initializers import default_initializer, initializer
from chainrule.engine.layers import Cache

EVALUATION_ROWS = 4096
"""How many samples are evaluated at once; bounds memory, changes no result but in the last bits."""


@dataclass(frozen=True)
class LayerSpec:
    """One dense layer: its width, activation function and initializer (None: by activation)."""

    units: int
    activation: str
    initializer: str | None = None


@dataclass(frozen=True)
class NetworkSpec:
    """The shape of a network.

    Raises:
        ConfigError, UnknownNameError: with the path of the wrong field, such as `network/layers/0/units`.
    """

    inputs: int
    layers: tuple[LayerSpec, ...]

    def __post_init__(self) -> None:
        """Check every layer."""
        if self.inputs < 1:
            raise ConfigError("A network needs at least one input.", "network/inputs")
        if not self.layers:
            raise ConfigError("A network needs at least one layer.", "network/layers")
        for position, layer in enumerate(self.layers):
            field = f"network/layers/{position}"
            if layer.units < 1:
                raise ConfigError("A layer needs at least one unit.", f"{field}/units")
            found = activation(layer.activation, f"{field}/activation")
            if found.output_only and position < len(self.layers) - 1:
                raise ConfigError(
                    f"Activation {found.name!r} is for the output layer; use relu, tanh or sigmoid in hidden layers.",
                    f"{field}/activation",
                )
            if layer.initializer is not None:
                initializer(layer.initializer, f"{field}/initializer")
        if self.layers[-1].activation == "softmax" and self.outputs == 1:
            raise ConfigError(
                "Softmax over one unit is always 1; use sigmoid for one unit, or one unit for each class.",
                f"network/layers/{len(self.layers) - 1}/units",
            )

    @property
    def sizes(self) -> tuple[int, ...]:
        """The widths n_0, n_1, …, n_L."""
        return (self.inputs, *(layer.units for layer in self.layers))

    @property
    def outputs(self) -> int:
        """The width of the last layer, n_L."""
        return self.layers[-1].units

    @property
    def parameter_count(self) -> int:
        """The number of weights and biases, Σ n_l·(n_{l-1} + 1)."""
        sizes = self.sizes
        return sum(n * (n_prev + 1) for n_prev, n in pairwise(sizes))


def dense(inputs: int, *shape: tuple[int, str]) -> NetworkSpec:
    """Write a network down in one line.

    >>> dense(64, (32, "relu"), (10, "softmax")).sizes
    (64, 32, 10)
    """
    return NetworkSpec(inputs, tuple(LayerSpec(units, name) for units, name in shape))


class Network:
    """A shape with its parameters, which lie in one vector; W and b are views into it.

    The block of layer l is [W | b], (n_l, n_{l-1} + 1): with a column of ones behind A[l-1], forward
    and the gradients of both are one matrix product each.

    Attributes:
        spec: the shape.
        parameters: the vector.
        blocks: l to the view [W | b].
        W: l to the view (n_l, n_{l-1}), l from 1.
        b: l to the view (n_l,).
    """

    def __init__(self, spec: NetworkSpec, parameters: FloatArray) -> None:
        if parameters.shape != (spec.parameter_count,):
            raise ShapeError(f"The network has {spec.parameter_count} parameters, not {parameters.shape}.")
        self.spec = spec
        self.parameters = parameters
        self.blocks = blocks(spec, parameters)

    @cached_property
    def W(self) -> dict[int, FloatArray]:
        """The weights of each layer."""
        return {number: block[:, :-1] for number, block in self.blocks.items()}

    @cached_property
    def b(self) -> dict[int, FloatArray]:
        """The biases of each layer."""
        return {number: block[:, -1] for number, block in self.blocks.items()}

    def named(self) -> dict[str, FloatArray]:
        """Copy the parameters out as W1, b1, W2, …"""
        arrays: dict[str, FloatArray] = {}
        for number, block in self.blocks.items():
            arrays[f"W{number}"] = block[:, :-1].copy()
            arrays[f"b{number}"] = block[:, -1].copy()
        return arrays

    @classmethod
    def from_named(cls, spec: NetworkSpec, arrays: Mapping[str, NDArray[Any]]) -> "Network":
        """Put a network together from W1, b1, W2, …

        Raises:
            ShapeError: an array is missing or has another shape.
        """
        sizes = spec.sizes
        parts = []
        for number in range(1, len(sizes)):
            W, b = arrays.get(f"W{number}"), arrays.get(f"b{number}")
            if W is None or b is None or W.shape != (sizes[number], sizes[number - 1]) or b.shape != (sizes[number],):
                raise ShapeError(f"W{number} must be ({sizes[number]}, {sizes[number - 1]}) and b{number} as long.")
            parts.append(np.column_stack([W, b]).ravel())
        return cls(spec, np.concatenate(parts))


def blocks(spec: NetworkSpec, vector: FloatArray) -> dict[int, FloatArray]:
    """View a vector of parameters, or of their gradients, as the blocks [W | b] of the layers."""
    sizes, views, start = spec.sizes, {}, 0
    for number in range(1, len(sizes)):
        shape = (sizes[number], sizes[number - 1] + 1)
        views[number] = vector[start : start + shape[0] * shape[1]].reshape(shape)
        start += shape[0] * shape[1]
    return views


def initialize(spec: NetworkSpec, seed: int, dtype: str = "float32") -> Network:
    """Make a network at its beginning: weights at random, biases zero; a pure function of its arguments."""
    network = Network(spec, np.zeros(spec.parameter_count, dtype_of(dtype)))
    for number, layer in enumerate(spec.layers, start=1):
        make = initializer(layer.initializer or default_initializer(layer.activation))
        rng = generator(seed, f"weights {number}")
        network.W[number][:] = make(rng, spec.sizes[number], spec.sizes[number - 1])
    return network


def forward(network: Network, X: ArrayLike) -> list[Cache]:
    """Run a batch through the network.

        A[0] = X;  Z[l] = A[l-1]·W[l]ᵀ + b[l],  A[l] = g(Z[l])  for l = 1…L

    Args:
        network: L layers.
        X: (m, n_0) samples as rows.

    Returns:
        The caches of layers 1…L, in this order.

    Raises:
        ShapeError: X does not fit the network.
    """
    A = np.asarray(X, dtype=network.parameters.dtype)
    caches = []
    for number, layer in enumerate(network.spec.layers, start=1):
        caches.append(layers.forward(A, network.W[number], network.b[number], layer.activation))
        A = caches[-1].A
    return caches


def predict(network: Network, X: ArrayLike) -> FloatArray:
    """Compute the output A[L], (m, n_L)."""
    return forward(network, X)[-1].A


def mean_cost(network: Network, cost_name: str, X: ArrayLike, Y: ArrayLike) -> float:
    """Compute the cost C = (1/m) Σᵢ E⁽ⁱ⁾."""
    last = forward(network, X)[-1]
    output = activation(last.activation)
    errors = cost(cost_name).per_sample(last.Z, last.A, np.asarray(Y, last.A.dtype), output)
    return float(np.mean(errors, dtype=np.float64))


def backward(caches: list[Cache], cost_name: str, Y: ArrayLike) -> dict[str, FloatArray]:
    """Carry the gradient of the cost back through all layers.

        dA[L]   = ∂E/∂A[L]                        step 1
        dZ[l]   = dA[l] ⊙ g′(Z[l])                step 2
        dW[l]   = (1/m)·dZ[l]ᵀ·A[l-1]             step 3
        db[l]   = (1/m)·Σᵢ dZ[l]⁽ⁱ⁾               step 4
        dA[l-1] = dZ[l]·W[l]                      step 5, down to dA[0]

    Args:
        caches: what `forward` returned.
        cost_name: of the cost.
        Y: (m, n_L) targets.

    Returns:
        dA0, dW1, db1, dZ1, dA1, … by name.

    Raises:
        ShapeError: Y does not fit the output, or there is no sample.
    """
    last = caches[-1]
    Y = np.asarray(Y, dtype=last.A.dtype)
    if Y.shape != last.A.shape:
        raise ShapeError(f"Y has shape {Y.shape} and the output {last.A.shape}.")
    if not len(Y):
        raise ShapeError("A gradient is a mean over samples; it needs at least one.")
    found, output, number = cost(cost_name), activation(last.activation), len(caches)
    gradients = {f"dA{number}": found.output_dA(last.Z, last.A, Y, output)}
    # At the output step 2 is taken with step 1 in one, from Z: dA may be too steep to be multiplied.
    dZ = found.output_dZ(last.Z, last.A, Y, output)
    while True:
        gradients[f"dZ{number}"] = dZ
        dW, db, dA = layers.backward(dZ, caches[number - 1])
        gradients |= {f"dW{number}": dW, f"db{number}": db, f"dA{number - 1}": dA}
        number -= 1
        if number == 0:
            return gradients
        dZ = layers.through_activation(dA, caches[number - 1])


def classify(A: FloatArray, classes: int) -> IntArray:
    """Read classes off outputs, units along axis 1: the largest, or for one unit whether it is above one half."""
    if A.shape[1] == 1 and classes == 2:
        return (A[:, 0] > 0.5).astype(np.int64)
    result: IntArray = np.argmax(A, axis=1)
    return result


def evaluate(
    network: Network, cost_name: str, X: NDArray[Any], Y: FloatArray, labels: IntArray | None, classes: int
) -> tuple[float, float | None]:
    """Compute the cost over a whole set, and for classifiers the share of samples got wrong."""
    found, total, wrong = cost(cost_name), 0.0, 0
    output = activation(network.spec.layers[-1].activation)
    for start in range(0, len(X), EVALUATION_ROWS):
        rows = slice(start, start + EVALUATION_ROWS)
        last = forward(network, X[rows])[-1]
        errors = found.per_sample(last.Z, last.A, np.asarray(Y[rows], last.A.dtype), output)
        total += float(np.sum(errors, dtype=np.float64))
        if labels is not None:
            wrong += int(np.count_nonzero(classify(last.A, classes) != labels[rows]))
    return total / len(X), None if labels is None else wrong / len(X)
