"""Each sample by itself: what the network makes of it, whether that is right, and what it costs."""

from dataclasses import dataclass

import numpy as np

from chainrule.engine.activations import activation
from chainrule.engine.arrays import FloatArray, IntArray
from chainrule.engine.costs import cost
from chainrule.engine.network import EVALUATION_ROWS, Network, classify, forward

EQUATIONS = {
    "cost": "E⁽ⁱ⁾, the sample's own error, without its weight",
    "confidence": "the largest of a[L]⁽ⁱ⁾; of one output for two classes max(a, 1 − a); of labels that hold or not the "
    "smallest max(a, 1 − a)",
    "gradient_norm": "‖g⁽ⁱ⁾‖ = √Σ_l ‖dZ[l]⁽ⁱ⁾‖²·(‖A[l-1]⁽ⁱ⁾‖² + 1), of the sample's own dW and db, with its weight and "
    "without the 1/m; of layers that normalize those of γ and β are in it too",
}


@dataclass(frozen=True)
class Judged:
    """What a network makes of samples.

    Attributes:
        outputs: (m, n_L) A[L].
        costs: (m,) E⁽ⁱ⁾.
        predictions: (m,) classes, or (m, n_L) labels that hold or not; None for regression.
        confidences: (m,) how sure the network is of them; None for regression.
        wrong: (m,) whether it is wrong, in any label; None for regression.
    """

    outputs: FloatArray
    costs: FloatArray
    predictions: IntArray | None
    confidences: FloatArray | None
    wrong: IntArray | None


def judge(
    network: Network, cost_name: str, X: FloatArray, Y: FloatArray, labels: IntArray | None, classes: int
) -> Judged:
    """Put samples through a network as it is used, block by block, and judge each.

    Args:
        network: with the weights to look at.
        cost_name: of the cost.
        X: (m, n_0) samples.
        Y: (m, n_L) targets.
        labels: (m,) classes, or (m, n_L) labels that hold or not; None for regression.
        classes: how many there are; 0 of labels that hold or not.
    """
    found, output, m = cost(cost_name), activation(network.spec.layers[-1].activation), len(X)
    outputs, costs = np.empty((m, network.spec.outputs)), np.empty(m)
    for start in range(0, m, EVALUATION_ROWS):
        rows = slice(start, start + EVALUATION_ROWS)
        last = forward(network, X[rows])[-1]
        outputs[rows] = last.A
        costs[rows] = found.per_sample(last.Z, last.A, np.asarray(Y[rows], last.A.dtype), output)
    if labels is None:
        return Judged(outputs, costs, None, None, None)
    predictions = classify(outputs, classes)
    differ = predictions != labels
    sure = np.maximum(outputs, 1 - outputs) if classes == 0 or outputs.shape[1] == 1 else outputs
    confidences = sure.min(axis=1) if classes == 0 else sure.max(axis=1)
    return Judged(outputs, costs, predictions, confidences, differ if differ.ndim == 1 else differ.any(axis=1))
