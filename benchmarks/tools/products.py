"""The matrix products that backpropagation needs, in our engine's layout, and nothing else.

    Z[l]    = W[l]·A[l-1]       (n_l, n_{l-1})·(n_{l-1}, m), units as rows
    dW[l]   = dZ[l]·A[l-1]ᵀ     (n_l, m)·(m, n_{l-1})
    dA[l-1] = W[l]ᵀ·dZ[l]       (n_{l-1}, n_l)·(n_l, m), for l > 1

What our engine takes beyond this is its own; what this takes only another BLAS could take away.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks.workloads import Workload
from chainrule.engine.arrays import FloatArray, generator


class Training:
    """See `benchmarks.tools.Training`."""

    def __init__(self, workload: Workload) -> None:
        m, batch, weights = workload.data.samples, workload.batch, [W for W, _ in workload.weights]
        of_size = {size: _pass(weights, size) for size in {batch, m % batch or batch}}
        starts = range(0, m, batch)
        batches = [workload.X[start : start + batch] for start in starts]
        epoch = [partial(of_size[len(X)], X) for X in batches]
        self._steps = epoch * workload.config.epochs

    def restart(self) -> None:
        """Have nothing to undo."""

    def train(self) -> None:
        """Make the products of every step."""
        for step in self._steps:
            step()

    def weights(self) -> None:
        """Have come to none."""


def _pass(weights: list[FloatArray], m: int) -> Callable[[FloatArray], None]:
    """Make the products of one step of m samples, every buffer made once."""
    dot, rng, dtype = np.dot, generator(0, "products"), weights[0].dtype

    def room(units: int) -> FloatArray:
        return rng.normal(size=(units, m)).astype(dtype)

    first, *others = weights
    Z, dZ, dW = room(len(first)), room(len(first)), np.empty_like(first)
    inner = [(W, room(W.shape[1]), room(len(W)), room(len(W)), np.empty_like(W), room(W.shape[1])) for W in others]
    ahead = [(W, A_prev, Z) for W, A_prev, Z, _, _, _ in inner]
    back = [(dZ, A_prev.T, dW, W.T, dA) for W, A_prev, _, dZ, dW, dA in reversed(inner)]

    def products(X: FloatArray) -> None:
        dot(first, X.T, Z)
        for W, A_prev, Z_of in ahead:
            dot(W, A_prev, Z_of)
        for dZ_of, A_prev_T, dW_of, W_T, dA in back:
            dot(dZ_of, A_prev_T, dW_of)
            dot(W_T, dZ_of, dA)
        dot(dZ, X, dW)

    return products
