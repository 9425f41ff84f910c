"""What is recorded of a network over the probe, beside the statistics of its gradients: signals, units, noise.

All of it is read off the forward and backward pass that the gradient over the probe takes anyway; see
`fast.gradient_pass`. With m samples, dZ and A of the reading path:

    error_rms       √((1/(m·n_l)) Σ dZ[l]²)
    zeros           the share of A[l] that is exactly 0
    dead            the share of units whose A[l] is 0 for every sample
    saturated       the share of A[l] with |a| > 0.97 (tanh), or outside of 0.02 … 0.98 (sigmoid)
    twins           the share of hidden units whose row of W[l] and column of W[l+1] are those of another; at epoch 0
    mean_square     (1/m) Σᵢ ‖g⁽ⁱ⁾‖² = (1/m) Σᵢ Σ_l ‖dZ[l]⁽ⁱ⁾‖²·(‖A[l-1]⁽ⁱ⁾‖² + 1)
    square_of_mean  ‖ḡ‖², of dW and db

Source:
    Sums of squares: Goodfellow (2015), "Efficient per-example gradient computations"; noise: McCandlish, Kaplan and
    Amodei (2018), appendix A.1.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chainrule.engine.activations import activation, saturated
from chainrule.engine.arrays import BoolArray, FloatArray
from chainrule.engine.network import NetworkSpec, classify

EQUATIONS = {
    "error_rms": "√((1/(m·n_l)) Σ dZ[l]²)",
    "zeros": "share of A[l] that is exactly 0; of relu",
    "dead": "share of units whose A[l] is 0 for every sample of the probe; of relu",
    "saturated": "share of A[l] with |a| > 0.97 (tanh), or outside of 0.02 … 0.98 (sigmoid)",
    "twins": "share of hidden units whose row of W[l] and column of W[l+1] are those of another; at epoch 0",
    "mean_square": "(1/m) Σᵢ ‖g⁽ⁱ⁾‖², g⁽ⁱ⁾ being sample i's own dW and db",
    "square_of_mean": "‖ḡ‖², ḡ being dW and db over the probe",
    "predicted": "how many classes are the network's answer to some sample of the probe",
    "largest_input": "max |A[0]| over the probe; at epoch 0",
    "spread_of_inputs": "largest over smallest standard deviation of the columns of A[0] that are not constant; at "
    "epoch 0",
}


@dataclass(frozen=True)
class LayerProbe:
    """One layer over the probe; what does not go with its activation function is None."""

    layer: int
    error_rms: float
    zeros: float | None = None
    dead: float | None = None
    saturated: float | None = None
    twins: float | None = None


@dataclass(frozen=True)
class Probe:
    """A network over the probe: the first samples it trains on.

    Attributes:
        samples: m.
        mean_square: (1/m) Σᵢ ‖g⁽ⁱ⁾‖², of dW and db.
        square_of_mean: ‖ḡ‖², likewise.
        predicted: how many classes are its answer to some sample; None where there are none.
        largest_input: max |A[0]|; at epoch 0.
        spread_of_inputs: largest over smallest standard deviation of columns that are not constant; at epoch 0.
        layers: each.
    """

    samples: int
    mean_square: float
    square_of_mean: float
    predicted: int | None
    largest_input: float | None
    spread_of_inputs: float | None
    layers: tuple[LayerProbe, ...]

    @property
    def trace(self) -> float | None:
        """Tr Σ = (m/(m − 1))·(mean_square − square_of_mean)."""
        m = self.samples
        return None if m < 2 else max(0.0, (self.mean_square - self.square_of_mean) * m / (m - 1))

    @property
    def signal(self) -> float | None:
        """|G|² = ‖ḡ‖² − tr Σ/m."""
        return None if self.trace is None else self.square_of_mean - self.trace / self.samples

    @property
    def noise_scale(self) -> float | None:
        """B_simple = tr Σ/|G|²; None where there is no signal."""
        return None if self.signal is None or self.trace is None or self.signal <= 0 else self.trace / self.signal

    def to_dict(self) -> dict[str, Any]:
        """Give everything as JSON has it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> "Probe":
        """Read back what `to_dict` gave."""
        return cls(**{**found, "layers": tuple(LayerProbe(**layer) for layer in found["layers"])})


class Inputs:
    """What is known of the inputs of the probe, X (m, n_0): found once, for they stay the same."""

    def __init__(self, X: NDArray[Any]) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            self.squares = np.einsum("ij,ij->i", X, X, dtype=np.float64)
            low, high = X.min(axis=0), X.max(axis=0)
            self.largest = float(max(-low.min(), high.max()))
            varying = low < high
            # As shares of their range, squares neither overflow nor vanish.
            ranges = high[varying].astype(np.float64) - low[varying]
            shares = (X[:, varying] - low[varying]) / ranges.astype(X.dtype)
            shares -= shares.mean(axis=0)
            deviations = ranges * np.sqrt(np.einsum("ij,ij->j", shares, shares))
        widest, narrowest = (float(deviations.max()), float(deviations.min())) if deviations.size else (1.0, 1.0)
        self.spread = math.inf if not math.isfinite(widest) else widest / narrowest if narrowest > 0 else 1.0


def described(
    spec: NetworkSpec,
    inputs: Sequence[Inputs],
    A: Mapping[int, FloatArray],
    Z_last: FloatArray,
    squares: Mapping[int, FloatArray],
    W: Mapping[int, FloatArray],
    square_of_mean: Sequence[float],
    classes: int,
    begins: Sequence[bool],
) -> list[Probe | None]:
    """Describe networks of one shape by what their passes over the probe have left; None where a number is not finite.

    Args:
        spec: their shape.
        inputs: of the probe, of each of the r networks.
        A: l to the hidden layers' (r, n_l, m).
        Z_last: (r, n_L, m).
        squares: l to (r, m), Σ over units of (dZ[l]/m)².
        W: l to (r, n_l, n_{l-1}).
        square_of_mean: ‖ḡ‖² of each.
        classes: how many; 0 where outputs are no classes.
        begins: of each whether it is at epoch 0.
    """
    count, _, m = Z_last.shape
    alike = all(one is inputs[0] for one in inputs)
    below = inputs[0].squares if alike else np.array([one.squares for one in inputs])
    per_sample, layers, nothing = np.zeros((count, m)), [], [None] * count
    for number, layer in enumerate(spec.layers, start=1):
        dZ = squares[number].astype(np.float64) * m**2
        per_sample += dZ * (below + 1)
        error_rms = np.sqrt(dZ.sum(axis=-1) / (m * layer.units)).tolist()
        zeros: Sequence[float | None] = nothing
        dead: Sequence[float | None] = nothing
        ends: Sequence[float | None] = nothing
        twins: Sequence[float | None] = nothing
        if (a := A.get(number)) is not None:
            below = np.einsum("rij,rij->rj", a, a)
            if layer.activation == "relu":
                zeros, dead = _shares(a == 0), _shares(np.maximum.reduce(a, axis=-1) == 0)
            near_an_end = saturated(layer.activation, a)
            ends = nothing if near_an_end is None else _shares(near_an_end)
            twins = [_twins(W[number][r], W[number + 1][r]) if first else None for r, first in enumerate(begins)]
        of_rows = zip(error_rms, zeros, dead, ends, twins, strict=True)
        layers.append([LayerProbe(number, *of_row) for of_row in of_rows])
    predicted = nothing if classes == 0 else _distinct(Z_last, spec.layers[-1].activation, classes)
    found: list[Probe | None] = []
    for r, (mean, of_layers) in enumerate(
        zip(per_sample.mean(axis=-1).tolist(), zip(*layers, strict=True), strict=True)
    ):
        largest, spread = (inputs[r].largest, inputs[r].spread) if begins[r] else (None, None)
        numbers = (mean, square_of_mean[r], *(one.error_rms for one in of_layers), inputs[r].spread)
        of_row = Probe(m, mean, square_of_mean[r], predicted[r], largest, spread, of_layers)
        found.append(of_row if all(map(math.isfinite, numbers)) else None)
    return found


def _shares(such: BoolArray) -> list[float]:
    """Tell which share of each row is true."""
    return [np.count_nonzero(row) / row.size for row in such]


def _distinct(Z: FloatArray, output: str, classes: int) -> list[int]:
    """Count the classes that are an answer, of each row of (r, n_L, m)."""
    # The largest pre-activation is the largest output; one output is held against ½.
    units = Z.shape[1]
    if units == 1:
        chosen = classify(activation(output).forward(Z, axis=1), classes, axis=1)
    else:  # the first of the largest: NumPy's argmax over units as rows takes five times as long
        places = np.arange(units, 0, -1, dtype=np.min_scalar_type(units))[:, None]
        chosen = units - np.max((Z.max(axis=1, keepdims=True) == Z) * places, axis=1).astype(np.int64)
    return [int(np.count_nonzero(np.bincount(row, minlength=classes))) for row in chosen]


def _twins(W: FloatArray, W_next: FloatArray) -> float:
    seen = Counter(row.tobytes() + column.tobytes() for row, column in zip(W, W_next.T, strict=True))
    return sum(count for count in seen.values() if count > 1) / len(W)
