"""Regularization: what keeps the weights W small; the biases b are left alone.

    l1         C + λ₁·Σ|w| is made smaller:     dW ← dW + λ₁·sign(W), sign(0) = 0
    l2         C + ½·λ₂·Σw² is made smaller:    dW ← dW + λ₂·W
    max-norm   after each step a row of W, one unit's incoming weights w, is shortened to c where it is
               longer:                          w ← w·min(1, c/‖w‖)

Sums go over the weights of all layers. With sgd, l2 is the weight decay of the common frameworks; with
an optimizer that scales its gradient it is not, and adamw has that. Sources: l1, Tibshirani (1996);
l2, Krogh and Hertz (1992); max-norm, Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov (2014).
"""

from dataclasses import dataclass

import numpy as np

from chainrule.engine.arrays import FloatArray
from chainrule.engine.errors import ConfigError
from chainrule.engine.network import NetworkSpec, blocks


@dataclass(frozen=True)
class RegularizationSpec:
    """How the weights are kept small: λ₁, λ₂ (0 for not at all), and c (None for no bound).

    Raises:
        ConfigError: with the path of the wrong field.
    """

    l1: float = 0.0
    l2: float = 0.0
    max_norm: float | None = None

    def __post_init__(self) -> None:
        """Check every number."""
        for field in ("l1", "l2"):
            if not 0 <= getattr(self, field) < float("inf"):
                raise ConfigError(f"{field} must be a number of at least 0.", f"regularization/{field}")
        if self.max_norm is not None and not 0 < self.max_norm < float("inf"):
            raise ConfigError("max_norm must be a number above 0.", "regularization/max_norm")

    @property
    def penalizes(self) -> bool:
        """Whether anything is added to the gradient."""
        return self.l1 > 0 or self.l2 > 0

    @property
    def vectors(self) -> int:
        """How many vectors as long as the parameters it computes with."""
        return (self.l1 > 0) + (self.l2 > 0) + self.penalizes + 2 * (self.max_norm is not None)


class Penalty:
    """Adds the gradient of the penalty: λ₁ and λ₂ as vectors that are 0 at the biases, and one to compute in."""

    def __init__(self, spec: RegularizationSpec, network: NetworkSpec, dtype: np.dtype[np.floating]) -> None:
        is_weight = np.ones(network.parameter_count, dtype)
        for block in blocks(network, is_weight).values():
            block[:, -1] = 0
        self._l1 = spec.l1 * is_weight if spec.l1 > 0 else None
        self._l2 = spec.l2 * is_weight if spec.l2 > 0 else None
        self._work = is_weight

    def add(self, P: FloatArray, G: FloatArray) -> None:
        """Change G, in place, by the penalty's gradient at P."""
        if self._l1 is not None:
            np.sign(P, out=self._work)
            np.multiply(self._work, self._l1, out=self._work)
            np.add(G, self._work, out=G)
        if self._l2 is not None:
            np.multiply(P, self._l2, out=self._work)
            np.add(G, self._work, out=G)


class MaxNorm:
    """Shortens the rows of W that are longer than c."""

    def __init__(self, c: float, network: NetworkSpec, dtype: np.dtype[np.floating]) -> None:
        self._c, self._c_squared, self._network = c, dtype.type(c * c), network
        self._work = np.empty(network.parameter_count, dtype)
        # The vector is row after row [w | b]; sums over w and over b take turns.
        self._lengths = [n for block in blocks(network, self._work).values() for w in block for n in (len(w) - 1, 1)]
        self._starts = np.cumsum([0, *self._lengths[:-1]])
        self._sums = np.empty(len(self._lengths), dtype)
        self._squares = self._sums[::2]

    def shorten(self, P: FloatArray) -> None:
        """Change P in place."""
        np.multiply(P, P, out=self._work)
        np.add.reduceat(self._work, self._starts, out=self._sums)
        longest = np.maximum.reduce(self._squares)
        if not longest > self._c_squared:
            return
        # The squares overflow long before the weights do.
        norms = np.sqrt(self._squares) if np.isfinite(longest) else self._norms(P)
        shares = np.ones_like(self._sums)
        np.divide(self._c, norms, out=shares[::2], where=self._squares > self._c_squared)
        np.multiply(P, np.repeat(shares, self._lengths), out=P)

    def _norms(self, P: FloatArray) -> FloatArray:
        norms = []
        for block in blocks(self._network, P).values():
            W = block[:, :-1].astype(np.float64)
            largest = np.maximum(np.max(np.abs(W), axis=1), 1)
            norms.append(largest * np.sqrt(np.sum((W / largest[:, None]) ** 2, axis=1)))
        return np.concatenate(norms)
