"""Histograms in bins that are the same for every array, so that they can be compared over epochs and added up.

Bins are powers of two on either side of zero: one for 2ᵏ ≤ v < 2ᵏ⁺¹ and one for −2ᵏ⁺¹ < v ≤ −2ᵏ, k from LOWEST to
HIGHEST − 1; what is nearer to zero than 2^LOWEST, or farther than 2^HIGHEST, has a bin of its own on each side. Zeros,
NaN and infinities are counted apart. A number's bin is read off its exponent, so it is exact.
"""

from dataclasses import dataclass
from functools import reduce

import numpy as np

from chainrule.engine.arrays import FloatArray, IntArray
from chainrule.engine.errors import ShapeError

LOWEST, HIGHEST = -48, 16
SIDE = HIGHEST - LOWEST + 2
"""Bins on one side of zero."""
BINS = 2 * SIDE
ZERO = -1
"""The place of zeros in a joint histogram."""
BLOCK = 1 << 18
"""Numbers counted at once: working on them takes several times their room."""


@dataclass(frozen=True)
class Histogram:
    """How many numbers of an array fall where.

    Attributes:
        counts: (BINS,) from the most negative to the largest.
        zeros, nan, positive_infinite, negative_infinite: what is in no bin.
    """

    counts: IntArray
    zeros: int
    nan: int
    positive_infinite: int
    negative_infinite: int

    def __add__(self, other: "Histogram") -> "Histogram":
        """Count both arrays together."""
        return Histogram(
            self.counts + other.counts,
            self.zeros + other.zeros,
            self.nan + other.nan,
            self.positive_infinite + other.positive_infinite,
            self.negative_infinite + other.negative_infinite,
        )

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return int(self.counts.sum()) + self.zeros + self.nan + self.positive_infinite + self.negative_infinite


def edges() -> list[float]:
    """List the edges of the bins, BINS + 1 of them, from −∞ over 0 to ∞."""
    powers = [2.0**k for k in range(LOWEST, HIGHEST + 1)]
    return [-np.inf, *(-power for power in reversed(powers)), 0.0, *powers, np.inf]


def places(values: FloatArray) -> IntArray:
    """Tell the bin of each number, `ZERO` of zeros; of what is not finite it means nothing."""
    with np.errstate(invalid="ignore"):
        exponents = np.frexp(values)[1].astype(np.int64) - 1
        above = np.clip(exponents, LOWEST - 1, HIGHEST) - (LOWEST - 1)
        found: IntArray = np.where(values > 0, SIDE + above, SIDE - 1 - above)
        found[values == 0] = ZERO
    return found


def histogram(values: FloatArray) -> Histogram:
    """Count the numbers of an array, of any shape, block by block."""
    flat = np.ravel(values)
    return merged([_counted(flat[start : start + BLOCK]) for start in range(0, max(flat.size, 1), BLOCK)])


def _counted(flat: FloatArray) -> Histogram:
    finite = flat[np.isfinite(flat)]
    filled = finite[finite != 0]
    return Histogram(
        np.bincount(places(filled), minlength=BINS),
        len(finite) - len(filled),
        int(np.count_nonzero(np.isnan(flat))),
        int(np.count_nonzero(flat == np.inf)),
        int(np.count_nonzero(flat == -np.inf)),
    )


def merged(parts: list[Histogram]) -> Histogram:
    """Count several arrays together."""
    return reduce(Histogram.__add__, parts)


@dataclass(frozen=True)
class Joint:
    """How many pairs of numbers of two arrays fall where.

    Attributes:
        cells: (n, 3) bin in the first, bin in the second (`ZERO` for zeros), and how many; those that are not empty.
        nonfinite: pairs of which a number is not finite.
    """

    cells: IntArray
    nonfinite: int


def joint(first: FloatArray, second: FloatArray) -> Joint:
    """Count the pairs of numbers that stand at the same place of two arrays.

    Raises:
        ShapeError: the arrays have other shapes.
    """
    if first.shape != second.shape:
        raise ShapeError(f"Pairs are of arrays of one shape, not {first.shape} and {second.shape}.")
    finite = np.isfinite(first) & np.isfinite(second)
    width = BINS + 1
    pairs = (places(first[finite]) - ZERO) * width + places(second[finite]) - ZERO
    counts = np.bincount(pairs, minlength=width * width)
    filled = np.flatnonzero(counts)
    cells = np.stack([filled // width + ZERO, filled % width + ZERO, counts[filled]], axis=1)
    return Joint(cells, int(finite.size - np.count_nonzero(finite)))
