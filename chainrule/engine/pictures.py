"""Arrays as pictures of a byte a pixel, small enough to be drawn; and points in a plane.

    code = 128 + 127·sign(v)·√(|v|/limit), rounded; limit = max |v|; 128 is 0, and 0 is what is not finite

Where an array has more rows or columns than there are pixels, a pixel is the value of largest magnitude of its block.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chainrule.engine.arrays import FloatArray

SCALE = "v = sign(c − 128)·((c − 128)/127)²·limit of code c; 128 is 0, and code 0 is not finite"


@dataclass(frozen=True)
class Picture:
    """A picture.

    Attributes:
        codes: (rows, columns) bytes.
        limit: max |v| of what is finite; 0 if all are 0.
        block: how many rows and columns of the array a pixel stands for.
        nonfinite: how many elements of the array are not finite.
    """

    codes: NDArray[np.uint8]
    limit: float
    block: tuple[int, int]
    nonfinite: int


def picture(array: NDArray[Any], size: int | tuple[int, int]) -> Picture:
    """Make a picture of at most size × size pixels, or of so many rows and columns; a vector is one row, further axes
    are rows.

    Raises:
        ValueError: the array has no element.
    """
    if not array.size:
        raise ValueError("An array without elements is no picture.")
    A = np.asarray(array, np.float64)
    A = A.reshape(-1, A.shape[-1]) if A.ndim > 1 else A.reshape(1, -1)
    broken = ~np.isfinite(A)
    most = (size, size) if isinstance(size, int) else size
    rows, columns = (-(-n // m) for n, m in zip(A.shape, most, strict=True))
    limit = float(np.abs(np.where(broken, 0, A)).max())
    values, lost = _pooled(np.where(broken, 0, A), rows, columns), _pooled(broken.astype(np.float64), rows, columns)
    share = values / limit if limit > 0 else values
    codes = np.rint(128 + 127 * np.sign(share) * np.sqrt(np.abs(share))).astype(np.uint8)
    codes[lost > 0] = 0
    return Picture(codes, limit, (rows, columns), int(broken.sum()))


def _pooled(A: FloatArray, rows: int, columns: int) -> FloatArray:
    """Take of each block the element of largest magnitude."""
    if rows == columns == 1:
        return A
    height, width = -(-A.shape[0] // rows), -(-A.shape[1] // columns)
    padded = np.zeros((height * rows, width * columns))
    padded[: A.shape[0], : A.shape[1]] = A
    blocks = padded.reshape(height, rows, width, columns).transpose(0, 2, 1, 3).reshape(height, width, -1)
    found: FloatArray = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=2)[..., None], axis=2)[..., 0]
    return found


@dataclass(frozen=True)
class Plane:
    """A plane through a cloud of points: its middle (n,), and two directions (2, n)."""

    middle: FloatArray
    axes: FloatArray

    def points(self, A: FloatArray) -> FloatArray:
        """Project (m, n) points onto it, (m, 2)."""
        found: FloatArray = (A - self.middle) @ self.axes.T
        return found

    def explained(self, A: FloatArray) -> tuple[float | None, float | None]:
        """Tell which share of the variance of points lies along each direction; None where there is none."""
        total = float(np.sum(np.var(A, axis=0)))
        if total == 0:
            return None, None
        first, second = (np.var(self.points(A), axis=0) / total).tolist()
        return first, second


def principal_plane(A: FloatArray) -> Plane:
    """Find the plane of the two largest principal components of (m, n) points; their signs are fixed.

    Source:
        Pearson (1901); by the singular value decomposition of A − mean.
    """
    middle = A.mean(axis=0)
    axes = np.linalg.svd(A - middle, full_matrices=False)[2][:2]
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])
    found = np.zeros((2, A.shape[1]))
    found[: len(axes)] = axes * np.where(signs == 0, 1, signs)[:, None]
    return Plane(middle, found)
