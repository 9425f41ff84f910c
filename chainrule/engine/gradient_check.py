"""The gradient check: analytic gradients against central differences, block by block."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from chainrule.engine.activations import activation
from chainrule.engine.arrays import FloatArray, generator
from chainrule.engine.network import Network, backward, forward, mean_cost

PASS = 1e-6
SUSPICIOUS = 1e-4
METHOD = "central differences in float64: (C(θ+h) − C(θ−h)) / 2h"


@dataclass(frozen=True)
class WorstEntry:
    """The entry of a block where both gradients differ most."""

    index: tuple[int, ...]
    analytic: float
    numeric: float


@dataclass(frozen=True)
class BlockCheck:
    """What the check of one block, W1 or b1, …, came to.

    Attributes:
        name: of the block.
        shape: of the block.
        checked: how many entries were compared.
        kinks: how many were left out because an activation's kink lies between θ−h and θ+h.
        relative_error: ‖analytic − numeric‖ / (‖analytic‖ + ‖numeric‖) over the entries compared.
        worst: the entry with the largest difference, None if none was compared.
    """

    name: str
    shape: tuple[int, ...]
    checked: int
    kinks: int
    relative_error: float
    worst: WorstEntry | None

    @property
    def verdict(self) -> str:
        """`pass` up to 1e-6, `suspicious` up to 1e-4, else `fail`."""
        if self.relative_error <= PASS:
            return "pass"
        return "suspicious" if self.relative_error <= SUSPICIOUS else "fail"


def check(
    network: Network,
    cost_name: str,
    X: ArrayLike,
    Y: ArrayLike,
    *,
    h: float = 1e-5,
    entries: int | None = None,
    seed: int = 0,
    weights: FloatArray | None = None,
    training: bool = True,
) -> list[BlockCheck]:
    """Compare the gradients of every block with what moving its entries does to the cost.

        numeric_j = (C(θ + h·e_j) − C(θ − h·e_j)) / 2h

    In float64 whatever the network's type: in float32 the differences drown in rounding.

    Args:
        network: any; it is not changed.
        cost_name: of the cost.
        X: (m, n_0) samples.
        Y: (m, n_L) targets.
        h: how far each entry is moved.
        entries: how many entries of each block are checked, drawn at random; None for all.
        seed: of that draw.
        weights: (m,) how much each sample's error counts; None where all count 1.
        training: whether batch normalization takes μ and σ² of these samples, as in a step, or running ones.

    Raises:
        ShapeError: X or Y do not fit.

    Source:
        CS231n notes, "Gradient checks"; the error is relative to the block, so that an entry whose
        gradient happens to be nearly zero does not decide.
    """
    exact = Network(network.spec, network.parameters.astype(np.float64), network.running.astype(np.float64))
    X, Y = np.asarray(X, np.float64), np.asarray(Y, np.float64)
    analytic = backward(forward(exact, X, training=training), cost_name, Y, weights)

    def cost_and_sides() -> tuple[float, bytes]:
        return mean_cost(exact, cost_name, X, Y, weights, training=training), _sides(exact, X, training)

    results = []
    for name, block in exact.blocks.items():
        rng = generator(seed, f"gradient check {name}")
        results.append(_check_block(cost_and_sides, name, block, analytic[f"d{name}"], h, entries, rng))
    return results


def _check_block(
    cost_and_sides: Callable[[], tuple[float, bytes]],
    name: str,
    block: FloatArray,
    gradient: FloatArray,
    h: float,
    entries: int | None,
    rng: np.random.Generator,
) -> BlockCheck:
    chosen = np.arange(block.size)
    if entries is not None and entries < block.size:
        chosen = np.sort(rng.choice(block.size, entries, replace=False))
    found: list[WorstEntry] = []
    kinks = 0
    for flat in chosen:
        index = tuple(int(i) for i in np.unravel_index(flat, block.shape))
        numeric, crossed = _central_difference(cost_and_sides, block, index, h)
        kinks += crossed
        if not crossed:
            found.append(WorstEntry(index, float(gradient[index]), numeric))
    a = np.array([entry.analytic for entry in found])
    n = np.array([entry.numeric for entry in found])
    scale = float(np.linalg.norm(a) + np.linalg.norm(n))
    difference = float(np.linalg.norm(a - n))
    # Both nearly zero is agreement: below what central differences can tell from zero.
    relative = 0.0 if scale < 1e-9 else difference / scale
    worst = max(found, key=lambda entry: abs(entry.analytic - entry.numeric), default=None)
    return BlockCheck(name, block.shape, len(found), kinks, relative, worst)


def _central_difference(
    cost_and_sides: Callable[[], tuple[float, bytes]], block: FloatArray, index: Any, h: float
) -> tuple[float, bool]:
    kept = block[index]
    block[index] = kept + h
    above, side_above = cost_and_sides()
    block[index] = kept - h
    below, side_below = cost_and_sides()
    block[index] = kept
    return (above - below) / (2 * h), side_above != side_below


def _sides(network: Network, X: FloatArray, training: bool) -> bytes:
    """Tell on which side of every kink each pre-activation lies, after normalization."""
    sides: list[NDArray[np.bool_]] = []
    for cache in forward(network, X, training=training):
        sides += [kink < cache.N for kink in activation(cache.activation).kinks]
    return b"".join(np.packbits(side).tobytes() for side in sides)
