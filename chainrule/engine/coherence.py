"""Each sample's own gradient, told by its size and its direction, without ever making one.

A dense layer's gradient of one sample is the product of two vectors, dW⁽ⁱ⁾ = dz⁽ⁱ⁾ᵀ·a⁽ⁱ⁾, so with g⁽ⁱ⁾ all of dW⁽ⁱ⁾ and
db⁽ⁱ⁾ (and dγ⁽ⁱ⁾, dβ⁽ⁱ⁾, which are vectors) of all layers, without 1/m:

    ‖g⁽ⁱ⁾‖²    = Σ_l ‖dz⁽ⁱ⁾‖²·(‖a⁽ⁱ⁾‖² + 1)
    g⁽ⁱ⁾·ḡ     = Σ_l dz⁽ⁱ⁾·(dW·a⁽ⁱ⁾ + db)                        ḡ = (1/m) Σᵢ g⁽ⁱ⁾, that is dW and db
    K[i,j]     = g⁽ⁱ⁾·g⁽ʲ⁾ = Σ_l (dz⁽ⁱ⁾·dz⁽ʲ⁾)·(a⁽ⁱ⁾·a⁽ʲ⁾ + 1)

The network is taken as it is used, with running statistics: in a step batch normalization mixes samples, and none has
a gradient of its own. Sums are taken in float64.

Sources: norms, Goodfellow (2015), "Efficient per-example gradient computations"; noise scale, McCandlish, Kaplan and
Amodei (2018), appendix A.1; coherence, Chatterjee and Zielinski (2020); tests of norm, inner product and
orthogonality, Byrd et al. (2012), Bollapragada, Byrd and Nocedal (2017).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from chainrule.engine.arrays import FloatArray, IntArray
from chainrule.engine.gradients import gradients
from chainrule.engine.layers import Cache
from chainrule.engine.network import EVALUATION_ROWS, Network, backward, forward

EQUATIONS = {
    "mean_square_norm": "(1/m) Σᵢ ‖g⁽ⁱ⁾‖²",
    "gradient_square_norm": "‖ḡ‖², of dW and db",
    "trace_sigma": "tr Σ = (Σᵢ ‖g⁽ⁱ⁾‖² − m·‖ḡ‖²)/(m − 1)",
    "signal": "|G|² = ‖ḡ‖² − tr Σ/m",
    "noise_scale": "B_simple = tr Σ/|G|²",
    "coherence": "m·‖ḡ‖²/((1/m) Σᵢ ‖g⁽ⁱ⁾‖²): 1 where gradients are orthogonal, m where they are the same",
    "norm_test": "√(tr Σ/(m·‖ḡ‖²))",
    "inner_product_test": "√(Var(g⁽ⁱ⁾·ḡ)/(m·‖ḡ‖⁴))",
    "orthogonality_test": "√((1/(m − 1)) Σᵢ (‖g⁽ⁱ⁾‖² − (g⁽ⁱ⁾·ḡ)²/‖ḡ‖²)/(m·‖ḡ‖²))",
}
ONE_SAMPLE = "One sample has no spread; ask for two or more."
NO_GRADIENT = "The mean gradient is 0."
ROUNDING = 1e-12
"""A difference of two numbers that is a smaller share of them is their rounding."""
NO_SIGNAL = "|G|² ≤ 0: these samples show no signal above their noise; ask for more."


@dataclass(frozen=True)
class Samples:
    """Each sample's own gradient in two numbers.

    Attributes:
        norms: (m,) ‖g⁽ⁱ⁾‖.
        along: (m,) g⁽ⁱ⁾·ḡ.
        mean_square: ‖ḡ‖².
    """

    norms: FloatArray
    along: FloatArray
    mean_square: float

    @property
    def cosines(self) -> FloatArray:
        """The cosines between g⁽ⁱ⁾ and ḡ, (m,); NaN where either is 0."""
        with np.errstate(invalid="ignore", divide="ignore"):
            found: FloatArray = self.along / (self.norms * self.mean_square**0.5)
            return found


@dataclass(frozen=True)
class Measured:
    """A number; None with the reason where it is undefined."""

    value: float | None
    reason: str = ""


def _factors(caches: list[Cache], back: dict[str, FloatArray]) -> Iterator[tuple[str, FloatArray, FloatArray | None]]:
    """Go through what gradients of one sample are made of: dz and a, whose product they are, or what they are alone."""
    for number, cache in enumerate(caches, start=1):
        yield f"{number}", back[f"dZ{number}"].astype(np.float64), cache.A_prev.astype(np.float64)
        if cache.normalized is not None:
            dN = back[f"dN{number}"].astype(np.float64)
            yield f"dgamma{number}", dN * cache.normalized.Z_hat, None
            yield f"dbeta{number}", dN, None


def measure(
    network: Network, cost_name: str, X: FloatArray, Y: FloatArray, weights: FloatArray | None = None
) -> Samples:
    """Compute the norm of each sample's gradient and its inner product with their mean, block by block."""
    m = len(X)
    blocks = [slice(start, start + EVALUATION_ROWS) for start in range(0, m, EVALUATION_ROWS)]
    names = [f"d{name}" for name in network.blocks]
    mean = dict.fromkeys(names, np.zeros(()))
    for rows in blocks:
        w = None if weights is None else weights[rows]
        found = gradients(network, cost_name, X[rows], Y[rows], names, weights=w)
        share = len(X[rows]) / m
        mean = {name: mean[name] + found[name].astype(np.float64) * share for name in names}
    squares, along = np.zeros(m), np.zeros(m)
    for rows in blocks:
        caches = forward(network, X[rows])
        back = backward(caches, cost_name, Y[rows], None if weights is None else weights[rows])
        for name, d, a in _factors(caches, back):
            square = np.sum(d * d, axis=1)
            if a is None:
                squares[rows] += square
                along[rows] += d @ mean[name]
            else:
                squares[rows] += square * (np.sum(a * a, axis=1) + 1)
                along[rows] += np.sum(d * (a @ mean[f"dW{name}"].T + mean[f"db{name}"]), axis=1)
    return Samples(np.sqrt(squares), along, float(sum(np.sum(G * G) for G in mean.values())))


def norms(
    network: Network, cost_name: str, X: FloatArray, Y: FloatArray, weights: FloatArray | None = None
) -> FloatArray:
    """Compute ‖g⁽ⁱ⁾‖, (m,), block by block."""
    squares = np.zeros(len(X))
    for start in range(0, len(X), EVALUATION_ROWS):
        rows = slice(start, start + EVALUATION_ROWS)
        caches = forward(network, X[rows])
        back = backward(caches, cost_name, Y[rows], None if weights is None else weights[rows])
        for _, d, a in _factors(caches, back):
            squares[rows] += np.sum(d * d, axis=1) * (1.0 if a is None else np.sum(a * a, axis=1) + 1)
    return np.sqrt(squares)


def gram(
    network: Network, cost_name: str, X: FloatArray, Y: FloatArray, weights: FloatArray | None = None
) -> FloatArray:
    """Compute K, (m, m), the inner products of the samples' gradients."""
    caches = forward(network, X)
    back = backward(caches, cost_name, Y, weights)
    K = np.zeros((len(X), len(X)))
    for _, d, a in _factors(caches, back):
        K += d @ d.T if a is None else (d @ d.T) * (a @ a.T + 1)
    return K


def summarize(found: Samples) -> dict[str, Measured]:
    """Tell signal from noise; None with the reason where that cannot be done."""
    m, mean_square = len(found.norms), found.mean_square
    squares = found.norms**2
    total = float(np.sum(squares))
    measured = {"mean_square_norm": Measured(total / m), "gradient_square_norm": Measured(mean_square)}
    coherent = Measured(m * mean_square / (total / m)) if total > 0 else Measured(None, NO_GRADIENT)
    tests = ("norm_test", "inner_product_test", "orthogonality_test")
    if m == 1:
        undefined = Measured(None, ONE_SAMPLE)
        measured |= dict.fromkeys(("trace_sigma", "signal", "noise_scale"), undefined) | {"coherence": coherent}
        return measured | dict.fromkeys(tests, undefined)
    trace = max(0.0, (total - m * mean_square) / (m - 1))
    signal = mean_square - trace / m
    if abs(signal) < ROUNDING * mean_square:
        signal = 0.0
    measured |= {
        "trace_sigma": Measured(trace),
        "signal": Measured(signal),
        "noise_scale": Measured(trace / signal) if signal > 0 else Measured(None, NO_SIGNAL),
        "coherence": coherent,
    }
    if mean_square == 0:
        return measured | dict.fromkeys(tests, Measured(None, NO_GRADIENT))
    across = np.maximum(squares - found.along**2 / mean_square, 0)
    values = (
        trace / (m * mean_square),
        float(np.var(found.along, ddof=1)) / (m * mean_square**2),
        float(np.sum(across)) / (m - 1) / (m * mean_square),
    )
    return measured | {name: Measured(value**0.5) for name, value in zip(tests, values, strict=True)}


def cosines(K: FloatArray) -> FloatArray:
    """Divide inner products by the norms; NaN where a gradient is 0."""
    norms = np.sqrt(np.diag(K))
    with np.errstate(invalid="ignore", divide="ignore"):
        found: FloatArray = K / np.outer(norms, norms)
    return found


def between_classes(K: FloatArray, labels: IntArray, classes: int) -> FloatArray:
    """Compute the mean cosine between the gradients of two samples of a class and another, (k, k).

    A sample is not compared with itself; NaN where there are no two to compare.
    """
    C = cosines(K)
    member = np.eye(classes)[labels].T * ~np.isnan(np.diag(C))
    pairs = np.nan_to_num(C * ~np.eye(len(K), dtype=bool))
    sizes = member.sum(axis=1)
    counts = np.outer(sizes, sizes) - np.diag(sizes)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: FloatArray = member @ pairs @ member.T / counts
    return found


def between_batches(K: FloatArray, size: int) -> FloatArray:
    """Compute the cosines between the mean gradients of batches of so many samples, in order; a rest is left out."""
    batches = len(K) // size
    blocks = K[: batches * size, : batches * size].reshape(batches, size, batches, size)
    return cosines(blocks.mean(axis=(1, 3)))
