"""A network: its shape, its parameters, forward and backward.

This is the reading path: it says what is meant, in the order of the equations. `fast` does the same
without allocating, and the tests hold the two equal.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from chainrule.engine import layers, normalization
from chainrule.engine.activations import activation
from chainrule.engine.arrays import FloatArray, IntArray, dtype_of, generator
from chainrule.engine.costs import cost
from chainrule.engine.errors import ConfigError, ShapeError, UnknownNameError
from chainrule.engine.initializers import default_initializer, initializer
from chainrule.engine.layers import Cache
from chainrule.engine.normalization import NORMALIZATIONS, Normalized, axis_of

FOLDED_INPUTS = 128
"""A layer of at most so many inputs keeps b as one more column of W: one product instead of a product and a sum."""
EVALUATION_ROWS = 4096
"""How many samples are evaluated at once; bounds memory, changes no result but in the last bits."""


@dataclass(frozen=True)
class LayerSpec:
    """One dense layer.

    Attributes:
        units: its width, n_l.
        activation: g, by name.
        initializer: where W begins, by name; None to choose by activation.
        dropout: the share of A[l] that is set to 0 in each step of training; hidden layers only.
        normalization: what is done to Z[l] before g, by name; None for nothing; hidden layers only.
    """

    units: int
    activation: str
    initializer: str | None = None
    dropout: float = 0.0
    normalization: str | None = None


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
            if not 0 <= layer.dropout < 1:
                raise ConfigError("dropout must be at least 0 and below 1.", f"{field}/dropout")
            if layer.dropout > 0 and position == len(self.layers) - 1:
                raise ConfigError("The output layer has no dropout; set it on hidden layers.", f"{field}/dropout")
            if layer.initializer is not None:
                initializer(layer.initializer, f"{field}/initializer")
            if layer.normalization is not None:
                self._check_normalization(layer, position)
        if self.layers[-1].activation == "softmax" and self.outputs == 1:
            raise ConfigError(
                "Softmax over one unit is always 1; use sigmoid for one unit, or one unit for each class.",
                f"network/layers/{len(self.layers) - 1}/units",
            )

    def _check_normalization(self, layer: LayerSpec, position: int) -> None:
        field = f"network/layers/{position}"
        if layer.normalization not in NORMALIZATIONS:
            raise UnknownNameError("normalization", layer.normalization, NORMALIZATIONS, f"{field}/normalization")
        if position == len(self.layers) - 1:
            raise ConfigError(
                "The output layer has no normalization; set it on hidden layers.", f"{field}/normalization"
            )
        if layer.normalization == "layer" and layer.units == 1:
            raise ConfigError(
                "Layer normalization over one unit is always 0; give the layer more units, or use 'batch'.",
                f"{field}/normalization",
            )

    @property
    def sizes(self) -> tuple[int, ...]:
        """The widths n_0, n_1, …, n_L."""
        return (self.inputs, *(layer.units for layer in self.layers))

    @property
    def outputs(self) -> int:
        """The width of the last layer, n_L."""
        return self.layers[-1].units

    @cached_property
    def parameter_count(self) -> int:
        """The number of parameters, Σ n_l·(n_{l-1} + 1), and 2·n_l, γ and β, for each layer that normalizes."""
        sizes = self.sizes
        normalizing = sum(layer.units for layer in self.layers if layer.normalization is not None)
        return sum(n * (n_prev + 1) for n_prev, n in pairwise(sizes)) + 2 * normalizing

    @cached_property
    def running_count(self) -> int:
        """The number of running statistics, 2·n_l for each layer with batch normalization."""
        return 2 * sum(layer.units for layer in self.layers if layer.normalization == "batch")


def dense(inputs: int, *shape: tuple[int, str]) -> NetworkSpec:
    """Write a network down in one line.

    >>> dense(64, (32, "relu"), (10, "softmax")).sizes
    (64, 32, 10)
    """
    return NetworkSpec(inputs, tuple(LayerSpec(units, name) for units, name in shape))


class Network:
    """A shape with its parameters, which lie in one vector; W and b are views into it.

    Attributes:
        spec: the shape.
        parameters: the vector.
        running: μ and σ² of batch normalization for use outside of training; empty where no layer has it.
        W: l to the view (n_l, n_{l-1}), l from 1.
        b: l to the view (n_l,).
        blocks: W1, b1, …, and gamma1, beta1, … of layers that normalize, to their views.
        statistics: running_mean1, running_var1, … of layers with batch normalization, to their views.
    """

    def __init__(self, spec: NetworkSpec, parameters: FloatArray, running: FloatArray | None = None) -> None:
        """Put a network together; without running statistics it has those that training begins with, 0 and 1."""
        if parameters.shape != (spec.parameter_count,):
            raise ShapeError(f"The network has {spec.parameter_count} parameters, not {parameters.shape}.")
        self.spec = spec
        self.parameters = parameters
        self.running = np.empty(spec.running_count, parameters.dtype) if running is None else running
        if self.running.shape != (spec.running_count,):
            raise ShapeError(f"The network has {spec.running_count} running statistics, not {self.running.shape}.")
        if running is None and spec.running_count:
            for mean, variance in self.running_views.values():
                mean[:], variance[:] = 0, 1

    def copy(self) -> "Network":
        """Copy the network, so that neither changes with the other."""
        return Network(self.spec, self.parameters.copy(), self.running.copy())

    @cached_property
    def _views(self) -> dict[int, "LayerView"]:
        return views(self.spec, self.parameters)

    @cached_property
    def running_views(self) -> dict[int, tuple[FloatArray, FloatArray]]:
        """The running statistics of each layer with batch normalization: l to μ and σ²."""
        return running_views(self.spec, self.running)

    @cached_property
    def W(self) -> dict[int, FloatArray]:
        """The weights of each layer."""
        return {number: view.W for number, view in self._views.items()}

    @cached_property
    def b(self) -> dict[int, FloatArray]:
        """The biases of each layer."""
        return {number: view.b for number, view in self._views.items()}

    @cached_property
    def blocks(self) -> dict[str, FloatArray]:
        """The parameters, block by block."""
        return {f"{symbol}{number}": a for number, view in self._views.items() for symbol, a in view.blocks.items()}

    @cached_property
    def statistics(self) -> dict[str, FloatArray]:
        """The running statistics, layer by layer."""
        found: dict[str, FloatArray] = {}
        for number, (mean, variance) in self.running_views.items():
            found |= {f"running_mean{number}": mean, f"running_var{number}": variance}
        return found

    def named(self) -> dict[str, FloatArray]:
        """Copy everything out as W1, b1, W2, …"""
        return {name: array.copy() for name, array in (self.blocks | self.statistics).items()}

    @classmethod
    def from_named(cls, spec: NetworkSpec, arrays: Mapping[str, NDArray[Any]]) -> "Network":
        """Put a network together from W1, b1, W2, …

        Raises:
            ShapeError: an array is missing or has another shape.
        """
        dtype = np.result_type(*arrays.values()) if arrays else np.float32
        network = cls(spec, np.empty(spec.parameter_count, dtype))
        for name, into in (network.blocks | network.statistics).items():
            found = arrays.get(name)
            if found is None or found.shape != into.shape:
                raise ShapeError(f"{name} must have shape {into.shape}.")
            into[:] = found
        return network


@dataclass(frozen=True)
class LayerView:
    """One layer's part of a vector of parameters, or of their gradient.

    Attributes:
        W: (…, n_l, n_{l-1}).
        b: (…, n_l).
        folded: [W | b], (…, n_l, n_{l-1} + 1), if they lie so; with a row of ones below A[l-1], Z[l] is one
            product, and so are dW and db.
        gamma: γ of normalization, (…, n_l); None where the layer has none.
        beta: β, likewise.
    """

    W: FloatArray
    b: FloatArray
    folded: FloatArray | None
    gamma: FloatArray | None = None
    beta: FloatArray | None = None

    @property
    def blocks(self) -> dict[str, FloatArray]:
        """All there are, by symbol."""
        found = {"W": self.W, "b": self.b}
        if self.gamma is not None and self.beta is not None:
            found |= {"gamma": self.gamma, "beta": self.beta}
        return found


def views(spec: NetworkSpec, vector: FloatArray) -> dict[int, LayerView]:
    """View a vector of parameters, or several along the axes before the last, layer by layer.

    Narrow layers lie as [W | b], wide ones (over `FOLDED_INPUTS`) as W and then b, so that W is contiguous; γ and
    then β lie behind.
    """
    sizes, found, start, lead = spec.sizes, {}, 0, vector.shape[:-1]
    for number, layer in enumerate(spec.layers, start=1):
        n, n_prev = sizes[number], sizes[number - 1]
        part = vector[..., start : start + n * (n_prev + 1)]
        start += n * (n_prev + 1)
        normalizing: tuple[FloatArray, ...] = ()
        if layer.normalization is not None:
            normalizing = vector[..., start : start + n], vector[..., start + n : start + 2 * n]
            start += 2 * n
        if n_prev <= FOLDED_INPUTS:
            folded = part.reshape(*lead, n, n_prev + 1)
            found[number] = LayerView(folded[..., :-1], folded[..., -1], folded, *normalizing)
        else:
            W = part[..., : n * n_prev].reshape(*lead, n, n_prev)
            found[number] = LayerView(W, part[..., n * n_prev :], None, *normalizing)
    return found


def running_views(spec: NetworkSpec, vector: FloatArray) -> dict[int, tuple[FloatArray, FloatArray]]:
    """View running statistics, or several networks' along the axes before the last: l to μ and σ², (…, n_l)."""
    found, start = {}, 0
    for number, layer in enumerate(spec.layers, start=1):
        if layer.normalization == "batch":
            middle, end = start + layer.units, start + 2 * layer.units
            found[number] = vector[..., start:middle], vector[..., middle:end]
            start = end
    return found


def initialize(spec: NetworkSpec, seed: int, dtype: str = "float32") -> Network:
    """Make a network at its beginning: W at random, b and β 0, γ 1; a pure function of its arguments."""
    network = Network(spec, np.zeros(spec.parameter_count, dtype_of(dtype)))
    for number, layer in enumerate(spec.layers, start=1):
        make = initializer(layer.initializer or default_initializer(layer.activation))
        rng = generator(seed, f"weights {number}")
        network.W[number][:] = make(rng, spec.sizes[number], spec.sizes[number - 1])
        if layer.normalization is not None:
            network.blocks[f"gamma{number}"][:] = 1
    return network


def forward(
    network: Network, X: ArrayLike, masks: Mapping[int, FloatArray] | None = None, *, training: bool = False
) -> list[Cache]:
    """Run a batch through the network.

        A[0] = X;  Z[l] = A[l-1]·W[l]ᵀ + b[l],  A[l] = g(Z[l])  for l = 1…L

    In a step of training with dropout the layer after takes A[l] ⊙ mask[l] in place of A[l]. Where a layer
    normalizes, A[l] = g(N[l]); see `normalization`.

    Args:
        network: L layers.
        X: (m, n_0) samples as rows.
        masks: l to (m, n_l), of dropout; None to use the network as it is.
        training: whether batch normalization takes μ and σ² of this batch, as in a step, or running ones.

    Returns:
        The caches of layers 1…L, in this order.

    Raises:
        ShapeError: X does not fit the network.
    """
    A = np.asarray(X, dtype=network.parameters.dtype)
    caches = []
    for number, layer in enumerate(network.spec.layers, start=1):
        mask = None if masks is None else masks.get(number)
        normalize = None if layer.normalization is None else _normalizer(network, number, training)
        caches.append(layers.forward(A, network.W[number], network.b[number], layer.activation, mask, normalize))
        A = caches[-1].A if mask is None else caches[-1].A * mask
    return caches


def _normalizer(network: Network, number: int, training: bool) -> Callable[[FloatArray], Normalized]:
    """Tell what a layer does to its Z."""
    axis = axis_of(network.spec.layers[number - 1].normalization or "", training=training, units=1, samples=0)
    running = network.running_views.get(number)
    gamma, beta = network.blocks[f"gamma{number}"], network.blocks[f"beta{number}"]
    return partial(normalization.forward, gamma=gamma, beta=beta, axis=axis, running=running)


def follow(network: Network, caches: list[Cache]) -> None:
    """Move running statistics, in place, towards those of the batch that a step of training has run through."""
    for number, (mean, variance) in network.running_views.items():
        cache = caches[number - 1]
        if cache.normalized is not None:
            normalization.follow((mean[None], variance[None]), cache.normalized, len(cache.Z))


def predict(network: Network, X: ArrayLike) -> FloatArray:
    """Compute the output A[L], (m, n_L)."""
    return forward(network, X)[-1].A


def mean_cost(
    network: Network,
    cost_name: str,
    X: ArrayLike,
    Y: ArrayLike,
    weights: FloatArray | None = None,
    *,
    training: bool = False,
    masks: Mapping[int, FloatArray] | None = None,
) -> float:
    """Compute the cost C = (1/m) Σᵢ wᵢ·E⁽ⁱ⁾, with weights wᵢ = 1 where none are given; the rest as of `forward`."""
    last = forward(network, X, masks, training=training)[-1]
    output = activation(last.activation)
    errors = cost(cost_name).per_sample(last.Z, last.A, np.asarray(Y, last.A.dtype), output)
    return float(np.mean(errors if weights is None else errors * weights, dtype=np.float64))


def backward(
    caches: list[Cache], cost_name: str, Y: ArrayLike, weights: FloatArray | None = None
) -> dict[str, FloatArray]:
    """Carry the gradient of the cost back through all layers.

        dA[L]   = ∂E/∂A[L]                        step 1
        dZ[l]   = dA[l] ⊙ g′(Z[l])                step 2
        dW[l]   = (1/m)·dZ[l]ᵀ·A[l-1]             step 3
        db[l]   = (1/m)·Σᵢ dZ[l]⁽ⁱ⁾               step 4
        dA[l-1] = dZ[l]·W[l]                      step 5, down to dA[0]

    Where a layer normalizes, step 2 gives dN[l] = dA[l] ⊙ g′(N[l]), from which follow dγ[l], dβ[l] and dZ[l].

    Args:
        caches: what `forward` returned.
        cost_name: of the cost.
        Y: (m, n_L) targets.
        weights: (m,) how much each sample's error counts, w⁽ⁱ⁾·E⁽ⁱ⁾; None where all count 1.

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
    if weights is not None:
        w = weights.astype(Y.dtype)[:, None]
        gradients[f"dA{number}"], dZ = w * gradients[f"dA{number}"], w * dZ
    while True:
        gradients[f"dZ{number}"] = dZ
        dW, db, dA = layers.backward(dZ, caches[number - 1])
        gradients |= {f"dW{number}": dW, f"db{number}": db, f"dA{number - 1}": dA}
        number -= 1
        if number == 0:
            return gradients
        cache = caches[number - 1]
        dZ = layers.through_activation(dA, cache)
        if cache.normalized is not None:
            gradients[f"dN{number}"] = dZ
            dgamma, dbeta, dZ = layers.through_normalization(dZ, cache.normalized)
            gradients |= {f"dgamma{number}": dgamma, f"dbeta{number}": dbeta}


def classify(A: FloatArray, classes: int, axis: int = 1) -> IntArray:
    """Read classes off outputs, units along `axis`.

    The largest; for one unit and two classes whether it is above one half; without classes, for labels that
    hold or not, whether each is, of the shape of A.
    """
    chosen: IntArray
    if classes == 0:
        chosen = (A > 0.5).astype(np.int64)
    elif A.shape[axis] == 1 and classes == 2:
        chosen = (np.take(A, 0, axis=axis) > 0.5).astype(np.int64)
    else:
        chosen = np.argmax(A, axis=axis)
    return chosen


def evaluate(
    network: Network,
    cost_name: str,
    X: NDArray[Any],
    Y: FloatArray,
    labels: IntArray | None,
    classes: int,
    weights: FloatArray | None = None,
) -> tuple[float, float | None]:
    """Compute the cost over a whole set, and for classifiers the share of samples got wrong."""
    found, total, wrong = cost(cost_name), 0.0, 0
    output = activation(network.spec.layers[-1].activation)
    for start in range(0, len(X), EVALUATION_ROWS):
        rows = slice(start, start + EVALUATION_ROWS)
        last = forward(network, X[rows])[-1]
        errors = found.per_sample(last.Z, last.A, np.asarray(Y[rows], last.A.dtype), output)
        if weights is not None:
            errors = errors * weights[rows]
        total += float(np.sum(errors, dtype=np.float64))
        if labels is not None:
            differ = classify(last.A, classes) != labels[rows]
            wrong += int(np.count_nonzero(differ if labels.ndim == 1 else differ.any(axis=1)))
    return total / len(X), None if labels is None else wrong / len(X)
