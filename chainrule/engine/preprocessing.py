"""Preprocessing: the map from raw rows to the network's input A[0], fitted on the training rows alone.

    x′ = (x − offset)·scale               a numeric column
    x′ = [x is c₁], …, [x is c_k]         a categorical column with the categories c₁ … c_k, one-hot

A numeric column becomes one column, a categorical column one for each category, 1 for the row's own and 0
for the rest, at the place of the raw column; these are not scaled. Raw rows hold a category as its position
among the column's categories, 0 … k−1. Everything is computed in float64 and rounded once, to the type that
is asked for.

Whoever writes the map in another form finds in `Preprocessing`: `inputs`, the raw width; `outputs`, the
network's; `offset` and `scale`, float64, one for each raw column, 0 and 1 for a categorical one;
`categories`, for each raw column the names of its categories, or None if it is numeric; `is_identity`, and
`is_affine` where no column is categorical, so that the map can be folded into the first layer.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from chainrule.engine.arrays import FloatArray, IntArray
from chainrule.engine.data import Data
from chainrule.engine.errors import ConfigError, ShapeError, UnknownNameError

SCALINGS = {
    "none": "x′ = x",
    "standardize": "x′ = (x − μ)/σ, μ the mean and σ the standard deviation of the training rows",
    "min_max": "x′ = (x − min)/(max − min), of the training rows",
}
"""How numeric columns are scaled, with the equation."""
ENCODINGS = {"one_hot": "x′ = [x is c₁], …, [x is c_k]: 1 for the row's own category, 0 for the rest"}
"""How categorical columns are made numbers, with the equation."""
BLOCK_VALUES = 1 << 20
"""How many values are in float64 at once, whatever the width; at least one row."""

Categories = tuple[tuple[str, ...] | None, ...]


@dataclass(frozen=True)
class Preprocessing:
    """The fitted map: plain numbers, and the names of categories.

    Attributes:
        offset: (n,) float64, for each raw column.
        scale: (n,) float64, for each raw column.
        categories: for each raw column the names of its categories, None for a numeric one.
        names: of the raw columns, () if they have none.
    """

    offset: FloatArray
    scale: FloatArray
    categories: Categories
    names: tuple[str, ...] = ()

    @property
    def inputs(self) -> int:
        """The number of raw columns, n."""
        return len(self.categories)

    @property
    def outputs(self) -> int:
        """The number of columns the network takes, n_0."""
        return width(self.categories)

    @property
    def is_affine(self) -> bool:
        """Whether every column is numeric."""
        return all(column is None for column in self.categories)

    @cached_property
    def is_identity(self) -> bool:
        """Whether it changes nothing."""
        return self.is_affine and not self.offset.any() and bool((self.scale == 1).all())

    @property
    def output_names(self) -> tuple[str, ...]:
        """Name the columns the network takes: `age`, `colour=blue`, `colour=red`."""
        if not self.names:
            return ()
        found: list[str] = []
        for name, column in zip(self.names, self.categories, strict=True):
            found += [name] if column is None else [f"{name}={category}" for category in column]
        return tuple(found)

    def apply(self, X: ArrayLike, dtype: DTypeLike = np.float64) -> FloatArray:
        """Map raw rows (m, inputs) to what the network takes, (m, outputs).

        What is too large for dtype becomes infinite.

        Raises:
            ShapeError: X has another width.
        """
        raw = np.asarray(X)
        if raw.ndim != 2 or raw.shape[1] != self.inputs:
            raise ShapeError(f"The rows have shape {raw.shape}; they need {self.inputs} columns.")
        with np.errstate(over="ignore"):
            if self.is_identity:
                return raw.astype(dtype, copy=False)
            mapped, start = np.empty((len(raw), self.outputs), dtype), 0
            for block in _blocks(raw):
                self._map(block, mapped[start : start + len(block)])
                start += len(block)
        return mapped

    def transform(self, data: Data, dtype: DTypeLike = np.float64) -> Data:
        """Map the samples of a dataset, whose categories may be some of ours, in another order.

        Raises:
            ConfigError: a column is of another kind, or has a category that is none of ours.
            ShapeError: there are more columns or fewer.
        """
        if self.is_identity:
            return data
        X = self._recode(data.X, data.categories or (None,) * data.features)
        return Data(self.apply(X, dtype), data.Y, data.labels, data.classes, self.output_names, weights=data.weights)

    def raw_column(self, column: int) -> int:
        """Tell which raw column one of those the network takes was made of."""
        return int(np.searchsorted(self._places, column, side="right")) - 1

    def to_dict(self) -> dict[str, Any]:
        """Give everything as JSON can hold it, numbers to the last bit."""
        return {
            "offset": self.offset.tolist(),
            "scale": self.scale.tolist(),
            "categories": [None if column is None else list(column) for column in self.categories],
            "names": list(self.names),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Preprocessing":
        """Read back what `to_dict` gave, to the bit."""
        return cls(
            np.array(stored["offset"], dtype=np.float64),
            np.array(stored["scale"], dtype=np.float64),
            tuple(None if column is None else tuple(column) for column in stored["categories"]),
            tuple(stored["names"]),
        )

    @cached_property
    def _places(self) -> NDArray[np.intp]:
        """Where each raw column begins among those the network takes."""
        widths = (1 if column is None else len(column) for column in self.categories)
        return np.array(list(accumulate(widths, initial=0))[:-1], dtype=np.intp)

    def _map(self, block: FloatArray, out: FloatArray) -> None:
        if self.is_affine:
            np.multiply(block - self.offset, self.scale, out=out, casting="same_kind")
            return
        numeric = np.array([column is None for column in self.categories])
        out[:, self._places[numeric]] = (block[:, numeric] - self.offset[numeric]) * self.scale[numeric]
        for position, column in enumerate(self.categories):
            if column is not None:
                start = self._places[position]
                out[:, start : start + len(column)] = block[:, position, None] == np.arange(len(column))

    def _recode(self, X: NDArray[Any], theirs: Categories) -> NDArray[Any]:
        if theirs == self.categories:
            return X
        check_categories(self.categories, theirs, self.names)
        X = np.array(X)
        for position, (column, other) in enumerate(zip(self.categories, theirs, strict=True)):
            if column is not None and other is not None:
                ours = {name: code for code, name in enumerate(column)}
                X[:, position] = np.array([ours[name] for name in other])[X[:, position].astype(np.intp)]
        return X


def fit(data: Data, scaling: str = "none", rows: IntArray | None = None) -> Preprocessing:
    """Fit the map to training rows; a pure function of them.

        none          offset = 0,    scale = 1
        standardize   offset = μ,    scale = 1/σ,   σ² = (1/m)·Σᵢ(xᵢ − μ)²
        min_max       offset = min,  scale = 1/(max − min)

    μ and σ are those of u = (x − min)/2ᵏ, which lies in [0, 2) and cannot overflow, mapped back without rounding.
    A column that is the same in every row has no spread to divide by: its scale is 1, and it becomes 0.

    Args:
        data: the training rows, and nothing but them; or what `rows` chooses them of.
        scaling: one of SCALINGS, for all numeric columns.
        rows: which rows of the data are the training rows; None for all.

    Raises:
        UnknownNameError: there is no such scaling.
        ConfigError: a column spans more than a float can hold.
    """
    if scaling not in SCALINGS:
        raise UnknownNameError("scaling", scaling, SCALINGS, "inputs/scaling")
    categories = data.categories or (None,) * data.features
    numeric = np.array([column is None for column in categories])
    offset: FloatArray = np.zeros(data.features)
    scale: FloatArray = np.ones(data.features)
    if scaling != "none" and numeric.any():
        low, spread = _low_and_spread(data, rows)
        offset, divisor = low, spread
        if scaling == "standardize":
            unit = np.ldexp(1.0, np.frexp(spread)[1] - 1)
            mean, deviation = _mean_and_deviation(data.X, rows, low, unit)
            offset, divisor = low + unit * mean, unit * deviation
        with np.errstate(divide="ignore", over="ignore"):
            scale = 1 / divisor
        # No spread, or too little of it for its reciprocal to be a number.
        scale[~np.isfinite(scale)] = 1.0
        offset[~numeric], scale[~numeric] = 0.0, 1.0
    return Preprocessing(offset, scale, categories, data.feature_names)


def identity(inputs: int) -> Preprocessing:
    """Make the map that changes nothing."""
    return Preprocessing(np.zeros(inputs), np.ones(inputs), (None,) * inputs)


def width(categories: Categories) -> int:
    """Count the columns the network takes: one for a numeric column, k for one of k categories."""
    return sum(1 if column is None else len(column) for column in categories)


def check_categories(ours: Categories, theirs: Categories, names: tuple[str, ...] = ()) -> None:
    """Check that rows with the categories `theirs` can be mapped by what was fitted to `ours`.

    Raises:
        ShapeError: there are more columns or fewer.
        ConfigError: a column is of another kind, or has a category that is none of ours.
    """
    if len(ours) != len(theirs):
        raise ShapeError(f"There are {len(theirs)} columns; there must be {len(ours)}.")
    for position, (column, other) in enumerate(zip(ours, theirs, strict=True)):
        name = names[position] if names else f"number {position + 1}"
        if (column is None) != (other is None):
            kinds = ("numeric", "categorical") if column is None else ("categorical", "numeric")
            raise ConfigError(f"Column {name} is {kinds[1]} here and {kinds[0]} in the training data.")
        unknown = [category for category in other or () if category not in (column or ())]
        if unknown:
            raise ConfigError(
                f"Column {name} has the category {unknown[0]!r}, which the training data does not have; "
                f"it has {', '.join((column or ())[:20])}{', …' if len(column or ()) > 20 else ''}."
            )


def _blocks(X: NDArray[Any], rows: IntArray | None = None) -> Iterator[FloatArray]:
    at_once = max(1, BLOCK_VALUES // max(1, X.shape[1]))
    for start in range(0, len(X) if rows is None else len(rows), at_once):
        chosen = slice(start, start + at_once)
        yield np.asarray(X[chosen if rows is None else rows[chosen]], dtype=np.float64)


def _low_and_spread(data: Data, rows: IntArray | None) -> tuple[FloatArray, FloatArray]:
    """Compute min and max − min of each column."""
    low, high = np.full(data.features, np.inf), np.full(data.features, -np.inf)
    for block in _blocks(data.X, rows):
        np.minimum(low, block.min(axis=0), out=low)
        np.maximum(high, block.max(axis=0), out=high)
    with np.errstate(over="ignore"):
        spread = high - low
    if not np.isfinite(spread).all():
        position = int(np.argmin(np.isfinite(spread)))
        name = data.feature_names[position] if data.feature_names else f"number {position + 1}"
        raise ConfigError(
            f"Column {name} runs from {low[position]:g} to {high[position]:g}, further than a number can hold; "
            "divide it when you upload it (divide_by).",
            "inputs/scaling",
        )
    return low, spread


def _mean_and_deviation(
    X: NDArray[Any], rows: IntArray | None, low: FloatArray, unit: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Compute mean and standard deviation of u = (x − low)/unit, column by column."""
    mean, square = np.zeros(len(low)), np.zeros(len(low))
    m = len(X) if rows is None else len(rows)
    for block in _blocks(X, rows):
        mean += ((block - low) / unit).sum(axis=0)
    mean /= m
    for block in _blocks(X, rows):
        square += (((block - low) / unit - mean) ** 2).sum(axis=0)
    return mean, np.sqrt(square / m)
