"""Gradient clipping: the gradient G of the whole network kept within bounds before a step.

    norm     G ← G·min(1, c/‖G‖)           the direction stays
    value    G ← min(max(G, −c), c)        element by element

Sources: Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks" (2013);
by value, Goodfellow, Bengio and Courville (2016), section 10.11.1.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from chainrule.engine.arrays import FloatArray
from chainrule.engine.errors import ConfigError


@dataclass(frozen=True)
class ClipSpec:
    """Where a gradient is clipped: c of its norm, or c of each of its elements.

    Raises:
        ConfigError: with the path of the wrong field.
    """

    norm: float | None = None
    value: float | None = None

    def __post_init__(self) -> None:
        """Check that there is one bound."""
        if (self.norm is None) == (self.value is None):
            raise ConfigError("Give either norm or value.", "clip")
        for field in ("norm", "value"):
            bound = getattr(self, field)
            if bound is not None and not 0 < bound < float("inf"):
                raise ConfigError(f"{field} must be a number above 0.", f"clip/{field}")


def by_norm(c: float) -> Callable[[FloatArray], None]:
    """Make what clips a gradient vector in place by its norm; a NaN or an infinity leaves NaN behind."""

    def clip(G: FloatArray) -> None:
        square = float(np.dot(G, G))
        if square <= c * c:
            return
        if math.isfinite(square):
            np.multiply(G, c / math.sqrt(square), out=G)
            return
        # The squares overflow long before the gradient does.
        np.divide(G, np.max(np.abs(G)), out=G)
        np.multiply(G, c / math.sqrt(float(np.dot(G, G))), out=G)

    return clip


def by_value(G: FloatArray, low: FloatArray, high: FloatArray) -> None:
    """Clip each element, in place, to between −c and c, given as arrays; made of ufuncs alone."""
    np.minimum(G, high, out=G)
    np.maximum(G, low, out=G)
