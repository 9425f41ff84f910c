"""A walk: the way of a batch through a network and back, step by step, each with its equations and operands.

Forward there are two steps for each layer, Z and A, then the cost; backward the gradient begins with dA[L], and for
each layer come dZ, then dW and db, then dA of the layer before. A layer that normalizes has one step more on the way
there and two on the way back. Every operand is the network's own, the data's, or the result of a step before.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from chainrule.engine.activations import activation
from chainrule.engine.arrays import FloatArray
from chainrule.engine.costs import cost
from chainrule.engine.gradients import equation
from chainrule.engine.network import EVALUATION_ROWS, LayerSpec, Network, NetworkSpec, backward, forward

FORWARD, COST, BACKWARD = PHASES = ("forward", "cost", "backward")
OF_ALL = ("W", "b", "gamma", "beta", "mean", "var", "running_mean", "running_var", "C", "dW", "db", "dgamma", "dbeta")
"""Symbols of what has no row for each sample; μ and σ² of layer normalization have one."""
FROM_MEANS = ("Z", "C", "db", "dbeta")
"""Symbols of results that follow from the means of their operands, beside dA of hidden layers."""


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        phase: forward, cost or backward.
        layer: whose, from 1; the cost is the last one's.
        operands: names of what goes in.
        results: name to equation of what comes out.
        function: g and g′, or E of one sample, where the equations mention them.
        note: what else is to be said of it.
    """

    phase: str
    layer: int
    operands: tuple[str, ...]
    results: dict[str, str]
    function: str = ""
    note: str = ""


@dataclass(frozen=True)
class _Way:
    """What the steps depend on; `weighted` and `training` as of `gradients.equation`."""

    spec: NetworkSpec
    cost_name: str
    weighted: bool = False
    training: bool = False
    w: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "w", ("w",) if self.weighted else ())

    def equations(self, *names: str) -> dict[str, str]:
        """Tell the equation of each quantity."""
        return {
            name: equation(name, self.spec, self.cost_name, weighted=self.weighted, training=self.training)
            for name in names
        }

    def running(self, layer: LayerSpec) -> bool:
        """Whether a layer normalizes by statistics that do not depend on the samples."""
        return layer.normalization == "batch" and not self.training


def steps(spec: NetworkSpec, cost_name: str, *, weighted: bool = False, training: bool = False) -> list[Step]:
    """List the steps of a walk, in order.

    Args:
        spec: of the network.
        cost_name: of the cost.
        weighted: whether the samples' errors have weights w.
        training: whether batch normalization takes μ and σ² of the samples, as in a step, or running ones.
    """
    way, L = _Way(spec, cost_name, weighted, training), len(spec.layers)
    there = chain.from_iterable(_forward(way, number) for number in range(1, L + 1))
    back = chain.from_iterable(_backward(way, number) for number in range(L, 0, -1))
    C = "C = (1/m) Σᵢ w⁽ⁱ⁾·E⁽ⁱ⁾" if weighted else "C = (1/m) Σᵢ E⁽ⁱ⁾"
    E = cost(cost_name).equation
    output = (f"A{L}", "Y", *way.w)
    return [
        *there,
        Step(COST, L, output, {"E": E, "C": C}),
        Step(BACKWARD, L, output, way.equations(f"dA{L}"), E),
        *back,
    ]


def _forward(way: _Way, number: int) -> Iterator[Step]:
    layer = way.spec.layers[number - 1]
    g = activation(layer.activation).equation
    yield Step(FORWARD, number, (f"A{number - 1}", f"W{number}", f"b{number}"), way.equations(f"Z{number}"))
    if layer.normalization is not None:
        running = (f"running_mean{number}", f"running_var{number}") if way.running(layer) else ()
        over = "the units of each sample" if layer.normalization == "layer" else "the samples"
        own = {} if running else {f"mean{number}": f"μ = mean of Z[{number}] over {over}",
                                  f"var{number}": f"σ² = mean of (Z[{number}] − μ)² over {over}"}  # fmt: skip
        yield Step(
            FORWARD,
            number,
            (f"Z{number}", f"gamma{number}", f"beta{number}", *running),
            own
            | {f"Zhat{number}": f"Ẑ[{number}] = (Z[{number}] − μ)/√(σ² + ε), ε = 10⁻⁵"}
            | {f"N{number}": f"N[{number}] = γ[{number}] ⊙ Ẑ[{number}] + β[{number}]"},
            note="μ and σ² are running ones, as the network is used." if running else "",
        )
    yield Step(
        FORWARD, number, (_before_g(layer, number),), way.equations(f"A{number}"), g,
        f"In a step of training a share of {layer.dropout:g} of A[{number}] is set to 0, the rest divided by "
        f"{1 - layer.dropout:g}; here the network is used as it is." if layer.dropout else "",
    )  # fmt: skip


def _backward(way: _Way, number: int) -> Iterator[Step]:
    layer, last = way.spec.layers[number - 1], number == len(way.spec.layers)
    g = activation(layer.activation).equation
    through = f"dN{number}" if layer.normalization else f"dZ{number}"
    if last and "cross_entropy" in way.cost_name:
        yield Step(BACKWARD, number, (f"A{number}", "Y", *way.w), way.equations(through), g)
    else:
        yield Step(BACKWARD, number, (f"dA{number}", _before_g(layer, number), f"A{number}"), way.equations(through), g)
    if layer.normalization is not None:
        yield Step(
            BACKWARD, number, (f"dN{number}", f"Zhat{number}"), way.equations(f"dgamma{number}", f"dbeta{number}")
        )
        variance = f"running_var{number}" if way.running(layer) else f"var{number}"
        yield Step(
            BACKWARD,
            number,
            (f"dN{number}", f"gamma{number}", f"Zhat{number}", variance),
            way.equations(f"dZ{number}"),
        )
    yield Step(
        BACKWARD, number, (f"dZ{number}", f"A{number - 1}"), way.equations(f"dW{number}", f"db{number}"),
        note="μ takes b away again: db is 0." if layer.normalization == "batch" and way.training else "",
    )  # fmt: skip
    yield Step(BACKWARD, number, (f"dZ{number}", f"W{number}"), way.equations(f"dA{number - 1}"))


def _before_g(layer: LayerSpec, number: int) -> str:
    return f"N{number}" if layer.normalization else f"Z{number}"


def follows_from_means(name: str, spec: NetworkSpec) -> bool:
    """Tell whether a result follows from the means of its operands: a mean of products is no product of means."""
    symbol = symbol_of(name)
    return symbol in FROM_MEANS or (symbol == "dA" and int(name[2:]) < len(spec.layers))


def symbol_of(name: str) -> str:
    """Give a name without its layer's number."""
    return name.rstrip("0123456789")


def layer_of(name: str) -> int:
    """Give the number of the layer in a name that has one."""
    return int(name[len(symbol_of(name)) :])


def arrays(
    network: Network,
    cost_name: str,
    X: ArrayLike,
    Y: ArrayLike,
    weights: FloatArray | None = None,
    *,
    training: bool = False,
) -> dict[str, FloatArray]:
    """Compute every operand and every result of a walk, by the reading path.

    Raises:
        ShapeError: X or Y do not fit, or there is no sample.
    """
    found: dict[str, FloatArray] = dict(network.blocks)
    caches = forward(network, X, training=training)
    last = caches[-1]
    Y = np.asarray(Y, last.A.dtype)
    back = backward(caches, cost_name, Y, weights)
    if not training:
        found |= network.statistics
    found |= {"A0": caches[0].A_prev, "Y": Y}
    for number, cache in enumerate(caches, start=1):
        found[f"Z{number}"] = cache.Z
        if (normalized := cache.normalized) is not None:
            if normalized.axis is not None:
                found |= {f"mean{number}": normalized.mean, f"var{number}": normalized.variance}
            found |= {f"Zhat{number}": normalized.Z_hat, f"N{number}": normalized.N}
        found[f"A{number}"] = cache.A
    E = cost(cost_name).per_sample(last.Z, last.A, Y, activation(last.activation))
    found["E"] = E
    if weights is not None:
        found["w"] = weights
    found["C"] = np.asarray(np.mean(E if weights is None else E * weights, dtype=np.float64))
    return found | back


def means(
    network: Network,
    cost_name: str,
    X: FloatArray,
    Y: FloatArray,
    weights: FloatArray | None = None,
) -> dict[str, FloatArray]:
    """Compute the same over many samples, block by block, with the mean over them of what has a row for each.

    Sums are taken in float64. Batch normalization takes running statistics, by which each sample is on its own.
    """
    total: dict[str, Any] = {}
    for start in range(0, len(X), EVALUATION_ROWS):
        rows = slice(start, start + EVALUATION_ROWS)
        found = arrays(network, cost_name, X[rows], Y[rows], None if weights is None else weights[rows])
        count = len(found["A0"])
        for name, array in found.items():
            if of_network(name):
                total[name] = array
            elif of_all(name, network.spec):
                total[name] = total.get(name, 0) + array.astype(np.float64) * count
            else:
                total[name] = total.get(name, 0) + np.sum(array, axis=0, dtype=np.float64)
    return {name: array if of_network(name) else np.asarray(array / len(X)) for name, array in total.items()}


def of_network(name: str) -> bool:
    """Tell whether an operand is the network's own, whatever the samples."""
    return symbol_of(name) in ("W", "b", "gamma", "beta", "running_mean", "running_var")


def of_all(name: str, spec: NetworkSpec) -> bool:
    """Tell whether a quantity belongs to all samples together, and has no row for each."""
    symbol = symbol_of(name)
    by_sample = symbol in ("mean", "var") and spec.layers[layer_of(name) - 1].normalization == "layer"
    return symbol in OF_ALL and not by_sample
