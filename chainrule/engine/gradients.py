"""Any quantity of backpropagation, by name, with its equation; and statistics of gradients."""

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from chainrule.engine.arrays import FloatArray, IntArray
from chainrule.engine.costs import cost
from chainrule.engine.errors import UnknownNameError
from chainrule.engine.network import LayerSpec, Network, NetworkSpec, backward, forward

EQUATIONS = {
    "Z": "Z[l] = A[l-1]·W[l]ᵀ + b[l]",
    "A": "A[l] = g(Z[l])",
    "dA": "dA[l] = dZ[l+1]·W[l+1]",
    "dZ": "dZ[l] = dA[l] ⊙ g′(Z[l])",
    "dW": "dW[l] = (1/m)·dZ[l]ᵀ·A[l-1]",
    "db": "db[l] = (1/m)·Σᵢ dZ[l]⁽ⁱ⁾",
}
NORMALIZED_EQUATIONS = {
    "Z": EQUATIONS["Z"],
    "N": "N[l] = γ[l] ⊙ Ẑ[l] + β[l], Ẑ[l] = (Z[l] − μ)/√(σ² + ε)",
    "A": "A[l] = g(N[l])",
    "dA": EQUATIONS["dA"],
    "dN": "dN[l] = dA[l] ⊙ g′(N[l])",
    "dZ": "dZ[l] = (dẐ − mean(dẐ) − Ẑ[l] ⊙ mean(dẐ ⊙ Ẑ[l]))/√(σ² + ε), dẐ = γ[l] ⊙ dN[l]",
    "dW": EQUATIONS["dW"],
    "db": EQUATIONS["db"],
    "dgamma": "dγ[l] = (1/m)·Σᵢ dN[l]⁽ⁱ⁾ ⊙ Ẑ[l]⁽ⁱ⁾",
    "dbeta": "dβ[l] = (1/m)·Σᵢ dN[l]⁽ⁱ⁾",
}
"""Of a layer that normalizes; where μ and σ² come from is said beside them."""
RUNNING_DZ = "dZ[l] = γ[l] ⊙ dN[l]/√(σ² + ε)"
PER_SAMPLE = ("dW", "db", "dgamma", "dbeta")
TOGETHER = 2**16
"""Arrays are described up to so many numbers at once."""
_NAME = re.compile(r"(Z|N|A|dA|dN|dZ|dW|db|dgamma|dbeta)(\d+)")


def names(spec: NetworkSpec) -> list[str]:
    """List every quantity a network has: A0, dA0, then Z1, A1, dA1, dZ1, dW1, db1, …

    A layer that normalizes also has N1 and dN1, and dgamma1 and dbeta1.
    """
    found = ["A0", "dA0"]
    for number, layer in enumerate(spec.layers, start=1):
        found += [f"{symbol}{number}" for symbol in (NORMALIZED_EQUATIONS if layer.normalization else EQUATIONS)]
    return found


def mixed(name: str, spec: NetworkSpec) -> bool:
    """Tell whether a gradient lies at or below the topmost layer with batch normalization.

    There a sample of a step's batch has no gradient of its own: through μ and σ² it changes the errors of all.
    """
    topmost = max((n for n, layer in enumerate(spec.layers, start=1) if layer.normalization == "batch"), default=0)
    symbol, number = _parse(name, spec)
    # What lies between this layer's normalization and the output is each sample's own.
    own_in_topmost = ("dA", "dN", "dgamma", "dbeta")
    return symbol.startswith("d") and number < topmost + (symbol not in own_in_topmost)


def equation(
    name: str,
    spec: NetworkSpec,
    cost_name: str,
    *,
    weighted: bool = False,
    training: bool = False,
    masked: Collection[int] = (),
) -> str:
    """Tell the equation of a quantity, its layer filled in.

    Args:
        name: of the quantity.
        spec: of the network.
        cost_name: of the cost.
        weighted: whether the samples' errors have weights w, which enter with dA[L] and dZ[L].
        training: whether batch normalization takes μ and σ² of the samples, or running ones.
        masked: the layers whose A dropout has multiplied by a mask.

    Raises:
        UnknownNameError: the network has no such quantity.
    """
    symbol, number = _parse(name, spec)
    if symbol == "A" and number == 0:
        return "A[0] = X"
    if number == len(spec.layers):
        output = spec.layers[-1].activation
        if symbol == "dA":
            text = cost(cost_name).dA_equation.replace("[L]", f"[{number}]")
            return f"{text}, times w⁽ⁱ⁾ in row i" if weighted else text
        if symbol == "dZ" and cost_name in ("cross_entropy", "binary_cross_entropy"):
            difference = f"w ⊙ (A[{number}] − Y)" if weighted else f"A[{number}] − Y"
            return f"dZ[{number}] = {difference}, which is dA[{number}] ⊙ g′(Z[{number}]) for {output}"
    text = EQUATIONS[symbol] if number == 0 else _written(symbol, spec.layers[number - 1], training)
    for written, value in (("l-1", number - 1), ("l+1", number + 1), ("l", number)):
        text = text.replace(f"[{written}]", f"[{value}]")
    if symbol in ("Z", "dW") and number - 1 in masked:
        text = text.replace(f"A[{number - 1}]", f"(A[{number - 1}] ⊙ mask[{number - 1}])")
    if symbol in ("dZ", "dN") and number in masked:
        text = text.replace(f"dA[{number}] ⊙", f"dA[{number}] ⊙ mask[{number}] ⊙")
    if training and symbol in ("dA", "dN", "dZ") and mixed(name, spec):
        text += "; row i is what sample i does to the errors of all, through μ and σ²"
    return text


def gradients(
    network: Network,
    cost_name: str,
    X: ArrayLike,
    Y: ArrayLike,
    wanted: Iterable[str],
    *,
    per_sample: bool = False,
    weights: FloatArray | None = None,
    training: bool = False,
    masks: Mapping[int, FloatArray] | None = None,
) -> dict[str, FloatArray]:
    """Compute quantities of one batch by name, by the reading path.

    Args:
        network: with the weights to look at.
        cost_name: of the cost.
        X: (m, n_0) samples as rows.
        Y: (m, n_L) targets.
        wanted: names such as `Z1`, `dA0`, `dW2`.
        per_sample: give each sample's own dW (m, n_l, n_{l-1}) and db, dgamma and dbeta (m, n_l), without the 1/m;
            in training not of a layer that is `mixed`.
        weights: (m,) how much each sample's error counts; None where all count 1.
        training: whether batch normalization takes μ and σ² of these samples, as in a step, or running ones.
        masks: l to (m, n_l), of a step's dropout, as of `network.forward`; None to use the network as it is.

    Returns:
        The arrays, in the order asked for.

    Raises:
        UnknownNameError: a name the network does not have; lists those it has.
        ShapeError: X or Y do not fit.
    """
    wanted = list(wanted)
    for name in wanted:
        _parse(name, network.spec)
    caches = forward(network, X, masks, training=training)
    found = backward(caches, cost_name, Y, weights)
    found["A0"] = caches[0].A_prev
    for number, cache in enumerate(caches, start=1):
        found[f"Z{number}"], found[f"A{number}"] = cache.Z, cache.A
        if cache.normalized is not None:
            found[f"N{number}"] = cache.N
    if per_sample:
        for name in wanted:
            symbol, number = _parse(name, network.spec)
            if symbol == "dW":
                found[name] = found[f"dZ{number}"][:, :, None] * caches[number - 1].A_prev[:, None, :]
            elif symbol == "db":
                found[name] = found[f"dZ{number}"]
            elif symbol == "dbeta":
                found[name] = found[f"dN{number}"]
            elif symbol == "dgamma" and (normalized := caches[number - 1].normalized) is not None:
                found[name] = found[f"dN{number}"] * normalized.Z_hat
    return {name: found[name] for name in wanted}


@dataclass(frozen=True)
class Statistics:
    """One array in a few numbers; `zeros` is the share of elements that are exactly zero."""

    norm: float
    mean: float
    standard_deviation: float
    minimum: float
    maximum: float
    zeros: float


def statistics(G: FloatArray) -> Statistics:
    """Describe an array: ‖G‖ = √Σg², mean, standard deviation, extremes, share of zeros.

    Sums are taken in float64, whatever the array is.
    """
    return statistics_of([G])[0]


def statistics_of(arrays: Sequence[FloatArray]) -> list[Statistics]:
    """Describe each of some arrays as `statistics` does.

    Small ones are taken side by side, for a call costs more than they do, and large ones in pieces, so that they take
    no room. Of pieces of n numbers with the mean μ and the sum of squares S of what differs from it, an array's own S
    is Σ S + Σ n·(μ − its mean)².

    Source:
        Chan, Golub and LeVeque (1983), "Algorithms for computing the sample variance".
    """
    rows = []
    for g, starts, sizes in _pieces(arrays):
        mean = np.add.reduceat(g, starts) / sizes
        room = np.repeat(mean, sizes)  # the only one: new memory takes longer than what is computed in it
        np.subtract(g, room, out=room)
        spread = np.add.reduceat(np.multiply(room, room, out=room), starts)
        squares = np.add.reduceat(np.multiply(g, g, out=room), starts)
        zeros = np.add.reduceat(np.equal(g, 0, out=room), starts)
        rows.append(
            [sizes, mean, squares, spread, zeros, np.minimum.reduceat(g, starts), np.maximum.reduceat(g, starts)]
        )
    n, mean, squares, spread, zeros, low, high = (np.concatenate(column) for column in zip(*rows, strict=True))
    counts, first = _pieces_of(arrays)
    size = np.add.reduceat(n, first)
    middle = np.add.reduceat(n * mean, first) / size
    spread = np.add.reduceat(spread + n * np.square(mean - np.repeat(middle, counts)), first)
    columns = (
        np.sqrt(np.add.reduceat(squares, first)), middle, np.sqrt(spread / size), np.minimum.reduceat(low, first),
        np.maximum.reduceat(high, first), np.add.reduceat(zeros, first) / size,
    )  # fmt: skip
    return [Statistics(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def update_ratios(now: Sequence[FloatArray], then: Sequence[FloatArray]) -> list[float | None]:
    """Give ‖ΔW‖/‖W‖ of each array, ΔW = now − then; None where W, which is then, is all zeros."""
    rows = []
    for (after, starts, _), (before, _, _) in zip(_pieces(now), _pieces(then), strict=True):
        update = np.subtract(after, before, out=after)
        of_update = np.add.reduceat(np.multiply(update, update, out=update), starts)
        rows.append([of_update, np.add.reduceat(np.multiply(before, before, out=before), starts)])
    _, first = _pieces_of(now)
    moved, were = (np.add.reduceat(np.concatenate(column), first).tolist() for column in zip(*rows, strict=True))
    return [math.sqrt(u) / math.sqrt(w) if w > 0 else None for u, w in zip(moved, were, strict=True)]


def _pieces(arrays: Sequence[FloatArray]) -> Iterator[tuple[FloatArray, IntArray, IntArray]]:
    """Put pieces of arrays one after another, in float64, `TOGETHER` numbers at most; with their starts and sizes."""
    together, room = list[FloatArray](), TOGETHER
    for array in arrays:
        flat = array.ravel()
        for start in range(0, flat.size, TOGETHER):
            piece = flat[start : start + TOGETHER]
            if piece.size > room:
                yield _joined(together)
                together, room = [], TOGETHER
            together.append(piece)
            room -= piece.size
    yield _joined(together)


def _joined(pieces: Sequence[FloatArray]) -> tuple[FloatArray, IntArray, IntArray]:
    sizes = np.array([piece.size for piece in pieces])
    return np.concatenate(pieces, dtype=np.float64), np.cumsum(sizes) - sizes, sizes


def _pieces_of(arrays: Sequence[FloatArray]) -> tuple[IntArray, IntArray]:
    """Tell into how many pieces each array goes, and which is its first."""
    counts = np.array([-(-array.size // TOGETHER) for array in arrays])
    return counts, np.cumsum(counts) - counts


def _written(symbol: str, layer: LayerSpec, training: bool) -> str:
    """Give the equation of a quantity of a layer, and where μ and σ² come from."""
    if layer.normalization is None:
        return EQUATIONS[symbol]
    running = layer.normalization == "batch" and not training
    text = RUNNING_DZ if running and symbol == "dZ" else NORMALIZED_EQUATIONS[symbol]
    over = "the units of each sample" if layer.normalization == "layer" else "the samples"
    if symbol == "N":
        return f"{text}, {'with running μ and σ²' if running else f'μ and σ² over {over}'}"
    if symbol == "dZ":
        return f"{text}, {'with running σ²' if running else f'means over {over}'}"
    return text


def _parse(name: Any, spec: NetworkSpec) -> tuple[str, int]:
    match = _NAME.fullmatch(str(name))
    if match is None or str(name) not in names(spec):
        raise UnknownNameError("quantity", name, names(spec), "names")
    return match.group(1), int(match.group(2))
