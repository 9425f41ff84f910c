"""Regularization: what keeps the weights W small; b, and γ and β of normalization, are left alone.

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
from chainrule.engine.network import NetworkSpec, views


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
        return 2 * (self.l1 > 0) + 2 * (self.l2 > 0) + 2 * (self.max_norm is not None)


def of_weights(network: NetworkSpec, dtype: np.dtype[np.floating]) -> FloatArray:
    """Make a vector like the parameters that is 1 at the weights and 0 at all else."""
    vector = np.zeros(network.parameter_count, dtype)
    for view in views(network, vector).values():
        view.W[:] = 1
    return vector


def add_penalty(P: FloatArray, G: FloatArray, l1: FloatArray | None, l2: FloatArray | None) -> None:
    """Change G, in place, by the penalty's gradient at P; made of ufuncs alone.

    Args:
        P: parameters.
        G: their gradient.
        l1: λ₁ at the weights and 0 at the biases, like P; None for none.
        l2: λ₂, likewise.
    """
    if l1 is not None:
        G += np.sign(P) * l1
    if l2 is not None:
        G += P * l2


class MaxNorm:
    """Shortens the rows of W that are longer than c."""

    def __init__(self, c: float, network: NetworkSpec, dtype: np.dtype[np.floating]) -> None:
        self._c, self._c_squared, self._network = c, dtype.type(c * c), network
        self._work = np.empty(network.parameter_count, dtype)
        # Sums over the rows of W, and over what lies between them.
        self._lengths: list[int] = []
        is_row: list[bool] = []
        for view in views(network, self._work).values():
            n, n_prev = view.W.shape
            self._lengths += [n_prev] * n + [n] if view.folded is None else [n_prev, 1] * n
            is_row += [True] * n + [False] if view.folded is None else [True, False] * n
            if view.gamma is not None:
                self._lengths.append(2 * n)
                is_row.append(False)
        self._starts = np.cumsum([0, *self._lengths[:-1]])
        self._sums = np.empty(len(self._lengths), dtype)
        self._rows = np.flatnonzero(is_row)

    def shorten(self, P: FloatArray) -> None:
        """Change P in place."""
        np.multiply(P, P, out=self._work)
        np.add.reduceat(self._work, self._starts, out=self._sums)
        squares = self._sums[self._rows]
        longest = np.maximum.reduce(squares)
        if not longest > self._c_squared:
            return
        # The squares overflow long before the weights do.
        norms = np.sqrt(squares) if np.isfinite(longest) else self._norms(P)
        shares = np.ones_like(self._sums)
        shares[self._rows] = np.divide(self._c, norms, out=np.ones_like(norms), where=squares > self._c_squared)
        np.multiply(P, np.repeat(shares, self._lengths), out=P)

    def _norms(self, P: FloatArray) -> FloatArray:
        norms = []
        for view in views(self._network, P).values():
            W = view.W.astype(np.float64)
            largest = np.maximum(np.max(np.abs(W), axis=1), 1)
            norms.append(largest * np.sqrt(np.sum((W / largest[:, None]) ** 2, axis=1)))
        return np.concatenate(norms)
