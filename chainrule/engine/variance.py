"""How much each weight's gradient differs from sample to sample, and batches' gradients from each other.

The squares of dW⁽ⁱ⁾ = dz⁽ⁱ⁾ᵀ·a⁽ⁱ⁾ are the products of the squares, so that no sample's gradient is made for

    σ²[W]     = ((dZ ⊙ dZ)ᵀ·(A_prev ⊙ A_prev) − m·dW ⊙ dW)/(m − 1)      of each weight; their sum is tr Σ
    gsnr      = mean of ḡ²/σ² over the parameters, ḡ being dW, db, …     signal to noise
    EB        = 1 − m·gsnr      evidence: above 0 the mean gradient over m samples is no more than noise
    CABS      = η·tr Σ/C        the batch size whose noise goes with this learning rate

EB and CABS are made for plain gradient descent over m samples. Parameters whose gradient is the same for all samples
have no ratio and are left out. Of batches B of so many samples, the confusion of their mean gradients is

    cos(g_B, g_B′) of each two; its minimum and mean: below 0 a step for one undoes what one for the other did

Sources: GSNR, Liu et al. (2020); EB, Mahsereci, Balles, Lassner and Hennig (2017), "Early stopping without a
validation set"; CABS, Balles, Romero and Hennig (2017); confusion, Sankararaman et al. (2020), of batches, since that
of single samples is far below 0 in healthy trainings.
"""

from dataclasses import dataclass

import numpy as np

from chainrule.engine.arrays import FloatArray
from chainrule.engine.coherence import cosines
from chainrule.engine.gradients import gradients
from chainrule.engine.network import EVALUATION_ROWS, Network, backward, forward

EQUATIONS = {
    "variance": "σ² = (Σᵢ g⁽ⁱ⁾² − m·ḡ²)/(m − 1), element by element",
    "trace_sigma": "tr Σ = Σ σ²",
    "gsnr": "mean of ḡ²/σ²",
    "early_stopping": "EB = 1 − m·gsnr: above 0 stop",
    "batch_size": "CABS = η·tr Σ/C",
    "confusion": "cos(g_B, g_B′) between the mean gradients of batches",
}


@dataclass(frozen=True)
class Spread:
    """The mean of samples' gradients and their variance, each by name, as dW1, db1, …; (m − 1) in the variance."""

    mean: dict[str, FloatArray]
    variance: dict[str, FloatArray]

    @property
    def trace(self) -> float:
        """Σ σ², of all parameters."""
        return float(sum(np.sum(block) for block in self.variance.values()))

    def gsnr(self, name: str | None = None) -> float | None:
        """Give the mean ratio of signal to noise, of one block or of all; None if no gradient varies."""
        names = self.mean if name is None else (name,)
        means = np.concatenate([self.mean[each].ravel() for each in names])
        variances = np.concatenate([self.variance[each].ravel() for each in names])
        varying = variances > 0
        if not np.any(varying):
            return None
        with np.errstate(over="ignore"):
            return float(np.mean(means[varying] ** 2 / variances[varying]))

    def constant(self, name: str) -> int:
        """Count the parameters of a block whose gradient is the same for all samples."""
        return int(np.count_nonzero(self.variance[name] == 0))


def spread(
    network: Network, cost_name: str, X: FloatArray, Y: FloatArray, weights: FloatArray | None = None
) -> Spread:  # fmt: skip
    """Compute mean and variance of the samples' own gradients, block by block and in float64.

    Args:
        network: as it is used, with running statistics.
        cost_name: of the cost.
        X: (m, n_0) samples, two at least.
        Y: (m, n_L) targets.
        weights: (m,) how much each sample's error counts; None where all count 1.
    """
    m = len(X)
    sums = {f"d{name}": np.zeros(block.shape) for name, block in network.blocks.items()}
    squares = {name: np.zeros_like(total) for name, total in sums.items()}

    def add(name: str, own: FloatArray) -> None:
        sums[name] += np.sum(own, axis=0)
        squares[name] += np.sum(own * own, axis=0)

    for start in range(0, m, EVALUATION_ROWS):
        rows = slice(start, start + EVALUATION_ROWS)
        caches = forward(network, X[rows])
        back = backward(caches, cost_name, Y[rows], None if weights is None else weights[rows])
        for number, cache in enumerate(caches, start=1):
            dZ, A = back[f"dZ{number}"].astype(np.float64), cache.A_prev.astype(np.float64)
            sums[f"dW{number}"] += dZ.T @ A
            squares[f"dW{number}"] += (dZ * dZ).T @ (A * A)
            add(f"db{number}", dZ)
            if cache.normalized is not None:
                dN = back[f"dN{number}"].astype(np.float64)
                add(f"dgamma{number}", dN * cache.normalized.Z_hat)
                add(f"dbeta{number}", dN)
    mean: dict[str, FloatArray] = {name: total / m for name, total in sums.items()}
    variance: dict[str, FloatArray] = {}
    for name, square in squares.items():
        left = square - m * mean[name] ** 2
        # What is left of equal numbers is their rounding.
        rounding = 4 * m * np.finfo(network.parameters.dtype).eps * square
        variance[name] = np.where(left > rounding, left, 0) / (m - 1)
    return Spread(mean, variance)


def between(
    network: Network, cost_name: str, X: FloatArray, Y: FloatArray, weights: FloatArray | None, size: int
) -> FloatArray:
    """Compute the cosines between the mean gradients of batches of so many samples, in order; a rest is left out."""
    names = [f"d{name}" for name in network.blocks]
    found = []
    for start in range(0, len(X) - size + 1, size):
        rows = slice(start, start + size)
        w = None if weights is None else weights[rows]
        G = gradients(network, cost_name, X[rows], Y[rows], names, weights=w)
        found.append(np.concatenate([g.astype(np.float64).ravel() for g in G.values()]))
    stacked = np.array(found)
    return cosines(stacked @ stacked.T)
