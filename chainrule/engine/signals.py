"""Signals: how strong what goes forward and what comes back is in each layer, and which units say nothing."""

from dataclasses import dataclass

import numpy as np

from chainrule.engine.activations import saturated
from chainrule.engine.arrays import FloatArray
from chainrule.engine.network import Network, backward, forward

EQUATIONS = {
    "W_norm": "‖W[l]‖ = √Σw²",
    "dW_norm": "‖dW[l]‖ = √Σdw², dW[l] = (1/m)·dZ[l]ᵀ·A[l-1]",
    "Z_rms": "RMS(Z[l]) = √mean(z²), over samples and units",
    "A_rms": "RMS(A[l]) = √mean(a²)",
    "dZ_rms": "RMS(dZ[l]) = √mean(dz²), each sample's own, without the 1/m",
    "zeros": "share of A[l] that is exactly 0",
    "saturated": "share of A[l] near an end of its range: |a| > 0.97 of tanh, a < 0.02 or a > 0.98 of sigmoid; null of "
    "other functions",
    "dead": "share of units that are 0 for every one of these samples; null of functions other than relu",
}


@dataclass(frozen=True)
class Signals:
    """Of one layer, over some samples; `EQUATIONS` has what each is."""

    layer: int
    units: int
    activation: str
    parameters: int
    W_norm: float
    dW_norm: float
    Z_rms: float
    A_rms: float
    dZ_rms: float
    zeros: float
    saturated: float | None
    dead: float | None


def signals(
    network: Network, cost_name: str, X: FloatArray, Y: FloatArray, weights: FloatArray | None = None
) -> list[Signals]:
    """Measure every layer of a network as it is used, by the reading path.

    Args:
        network: L layers.
        cost_name: of the cost.
        X: (m, n_0) samples as rows.
        Y: (m, n_L) targets.
        weights: (m,) how much each sample's error counts; None where all count 1.

    Raises:
        ShapeError: X or Y do not fit.
    """
    caches = forward(network, X)
    found = backward(caches, cost_name, Y, weights)
    measured = []
    for number, cache in enumerate(caches, start=1):
        near_an_end = saturated(cache.activation, cache.A)
        measured.append(
            Signals(
                layer=number,
                units=cache.A.shape[1],
                activation=cache.activation,
                parameters=cache.W.size + cache.b.size + (0 if cache.normalized is None else 2 * cache.b.size),
                W_norm=_norm(cache.W),
                dW_norm=_norm(found[f"dW{number}"]),
                Z_rms=_rms(cache.Z),
                A_rms=_rms(cache.A),
                dZ_rms=_rms(found[f"dZ{number}"]),
                zeros=float(np.mean(cache.A == 0)),
                saturated=None if near_an_end is None else float(np.mean(near_an_end)),
                dead=float(np.mean(~cache.A.any(axis=0))) if cache.activation == "relu" else None,
            )
        )
    return measured


def _norm(array: FloatArray) -> float:
    return float(np.linalg.norm(array.astype(np.float64)))


def _rms(array: FloatArray) -> float:
    return float(np.sqrt(np.mean(np.square(array, dtype=np.float64))))
