"""What is recorded of a network over the probe, beside the statistics of its gradients: signals, units, noise.

All of it is read off the forward and backward pass that the gradient over the probe takes anyway; see
`fast.gradient_loop`. With m samples, dZ and A of the reading path:

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
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chainrule.engine.activations import activation, saturated
from chainrule.engine.arrays import FloatArray
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
    inputs: Inputs,
    A: Mapping[int, FloatArray],
    Z_last: FloatArray,
    squares: Mapping[int, FloatArray],
    weights: Mapping[int, FloatArray],
    square_of_mean: float,
    classes: int,
    *,
    first: bool,
) -> Probe | None:
    """Describe a network by what its pass over the probe has left; None where a number is not finite.

    Args:
        spec: its shape.
        inputs: of the probe.
        A: l to the hidden layers' (n_l, m).
        Z_last: (n_L, m).
        squares: l to (m,), Σ over units of (dZ[l]/m)².
        weights: l to W; none are looked at but for the first.
        square_of_mean: ‖ḡ‖².
        classes: how many; 0 where outputs are no classes.
        first: whether it is epoch 0.
    """
    m = len(inputs.squares)
    per_sample, layers = np.zeros(m), []
    for number, layer in enumerate(spec.layers, start=1):
        dZ = squares[number].astype(np.float64) * m**2
        below = inputs.squares if number == 1 else np.einsum("ij,ij->j", A[number - 1], A[number - 1])
        per_sample += dZ * (below + 1)
        zeros = dead = near_an_end = None
        if (a := A.get(number)) is not None:
            if layer.activation == "relu":
                zeros = (a.size - np.count_nonzero(a)) / a.size
                dead = (len(a) - np.count_nonzero(np.maximum.reduce(a, axis=1))) / len(a)
            near_an_end = saturated(layer.activation, a)
        twins = _twins(weights[number], weights[number + 1]) if first and number in A else None
        layers.append(LayerProbe(number, float(np.sqrt(dZ.sum() / (m * layer.units))), zeros, dead, near_an_end, twins))
    predicted = None if classes == 0 else _distinct(Z_last, spec.layers[-1].activation, classes)
    found = Probe(
        m, float(per_sample.mean()), square_of_mean, predicted, inputs.largest if first else None,
        inputs.spread if first else None, tuple(layers),
    )  # fmt: skip
    numbers = (found.mean_square, square_of_mean, *(layer.error_rms for layer in layers), inputs.spread)
    return found if all(map(math.isfinite, numbers)) else None


def _distinct(Z: FloatArray, output: str, classes: int) -> int:
    # The largest pre-activation is the largest output; one output is held against ½.
    chosen = classify(activation(output).forward(Z, axis=0) if len(Z) == 1 else Z, classes, axis=0)
    return int(np.count_nonzero(np.bincount(chosen, minlength=classes)))


def _twins(W: FloatArray, W_next: FloatArray) -> float:
    seen = Counter(row.tobytes() + column.tobytes() for row, column in zip(W, W_next.T, strict=True))
    return sum(count for count in seen.values() if count > 1) / len(W)
