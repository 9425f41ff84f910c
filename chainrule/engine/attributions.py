"""Attributions: how much each input of a sample had to do with one output.

    saliency                |∂a_c/∂x|
    gradient_times_input    x ⊙ ∂a_c/∂x
    integrated_gradients    (x − x₀) ⊙ (1/n) Σₖ ∂a_c/∂x at x₀ + ((k − ½)/n)·(x − x₀),  k = 1…n

c is the class asked about; x the network's input, after preprocessing; x₀ the baseline. Integrated gradients add up
to a_c(x) − a_c(x₀) but for the residual, which falls with n.

Sources: Simonyan, Vedaldi and Zisserman (2014); Sundararajan, Taly and Yan, "Axiomatic attribution for deep networks"
(2017).
"""

from dataclasses import dataclass

import numpy as np

from chainrule.engine import layers, normalization
from chainrule.engine.arrays import FloatArray, IntArray
from chainrule.engine.network import EVALUATION_ROWS, Network, forward, predict

SALIENCY, TIMES_INPUT, INTEGRATED = METHODS = ("saliency", "gradient_times_input", "integrated_gradients")
EQUATIONS = {
    SALIENCY: "|∂a_c/∂x|",
    TIMES_INPUT: "x ⊙ ∂a_c/∂x",
    INTEGRATED: "(x − x₀) ⊙ (1/n) Σₖ ∂a_c/∂x at x₀ + ((k − ½)/n)·(x − x₀); together a_c(x) − a_c(x₀) + residual",
}


@dataclass(frozen=True)
class Attribution:
    """What inputs had to do with outputs.

    Attributes:
        values: (m, n_0).
        outputs: (m,) a_c(x).
        baseline_outputs: (m,) a_c(x₀); None where there is no baseline.
        residuals: (m,) Σ values − (a_c(x) − a_c(x₀)); likewise.
    """

    values: FloatArray
    outputs: FloatArray
    baseline_outputs: FloatArray | None = None
    residuals: FloatArray | None = None


def output_gradient(network: Network, X: FloatArray, units: IntArray) -> FloatArray:
    """Compute ∂A[L][i, units[i]]/∂A[0][i], (m, n_0), of the network as it is used."""
    caches = forward(network, X)
    dA = np.zeros_like(caches[-1].A)
    dA[np.arange(len(X)), units] = 1
    for cache in reversed(caches):
        dZ = layers.through_activation(dA, cache)
        if cache.normalized is not None:
            dZ = normalization.backward(dZ, cache.normalized)
        dA = dZ @ cache.W
    return dA


def attribute(
    network: Network, X: FloatArray, units: IntArray, method: str, baseline: FloatArray | None = None, steps: int = 50
) -> Attribution:
    """Attribute an output of each sample to its inputs.

    Args:
        network: with the weights to look at.
        X: (m, n_0) samples as the network takes them.
        units: (m,) which output of each.
        method: one of METHODS.
        baseline: (n_0,) x₀ of integrated gradients; zeros where none is given.
        steps: n of integrated gradients.
    """
    m = len(X)
    outputs = np.asarray(predict(network, X)[np.arange(m), units], np.float64)
    if method != INTEGRATED:
        dX = output_gradient(network, X, units).astype(np.float64)
        return Attribution(np.abs(dX) if method == SALIENCY else X * dX, outputs)
    values: FloatArray = np.empty(X.shape)
    start: FloatArray = np.zeros(X.shape[1]) if baseline is None else np.asarray(baseline, np.float64)
    at_once = max(1, EVALUATION_ROWS // steps)
    shares = (np.arange(steps) + 0.5)[:, None, None] / steps
    for first in range(0, m, at_once):
        x = X[first : first + at_once].astype(np.float64)
        path: FloatArray = (start + shares * (x - start)).reshape(-1, X.shape[1])
        moved = output_gradient(network, path, np.tile(units[first : first + at_once], steps))
        mean = moved.reshape(steps, len(x), -1).mean(axis=0, dtype=np.float64)
        values[first : first + at_once] = (x - start) * mean
    before = np.asarray(predict(network, np.broadcast_to(start, X.shape))[np.arange(m), units], np.float64)
    return Attribution(values, outputs, before, values.sum(axis=1) - (outputs - before))
