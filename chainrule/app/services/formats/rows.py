"""Rows sent along as JSON."""

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chainrule.app.services.formats.category_column import CategoryColumn
from chainrule.app.services.formats.labels import encode_texts, whole
from chainrule.app.services.formats.table import (
    Limits,
    Table,
    check_finite,
    check_names,
    check_size,
    check_weights,
    listed,
    refuse,
    shown,
)

Row = Sequence[float | str]


def matrix(rows: Sequence[Row], pointer: str) -> NDArray[np.float64]:
    """Make a matrix of rows.

    Raises:
        InvalidInput: the rows differ in length, or hold what is not a finite number.
    """
    _check_shape(rows, pointer)
    if str in set(map(type, chain.from_iterable(rows))):
        row, column = next((i, j) for i, row in enumerate(rows) for j, value in enumerate(row) if type(value) is str)
        raise refuse(
            f"Row {row}, column {column} (from 0) is {shown(str(rows[row][column]))}; the column holds numbers.",
            f"{pointer}/{row}/{column}",
        )
    try:
        made = np.array(rows, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise refuse("The rows hold what is not a number, or too large for one.", pointer) from error
    if made.ndim != 2:
        raise refuse("The rows hold lists; each value needs to be a number.", pointer)
    check_finite(made, "The rows", pointer)
    return made


def coded(
    rows: Sequence[Row], categories: Sequence[Sequence[str] | None], names: Sequence[str], pointer: str
) -> NDArray[np.float64]:
    """Make a matrix of rows whose categories are known; it holds their positions.

    A number names the category that is written so, never one by its position.

    Args:
        rows: as wide as `categories`.
        categories: for each column the names of its categories, None for numbers.
        names: of the columns.
        pointer: where the rows were sent.

    Raises:
        InvalidInput: as `matrix`, or there is no such category; lists those there are.
    """
    _check_shape(rows, pointer)
    known = {j: {name: code for code, name in enumerate(c)} for j, c in enumerate(categories) if c is not None}
    if not known:
        return matrix(rows, pointer)
    copy = [list(row) for row in rows]
    for i, row in enumerate(copy):
        for j, codes in known.items():
            text = _label(row[j], f"{pointer}/{i}/{j}", "category").strip()
            code = codes.get(text, codes.get(whole(text)))
            if code is None:
                raise refuse(
                    f"Column {names[j]} has no category {shown(whole(text))}; it has {listed(list(codes))}.",
                    f"{pointer}/{i}/{j}",
                )
            row[j] = code
    return matrix(copy, pointer)


def _check_shape(rows: Sequence[Row], pointer: str) -> None:
    if not rows:
        raise refuse("There are no rows; send at least one.", pointer)
    width = len(rows[0])
    if width < 1:
        raise refuse("The rows are empty; each needs at least one value.", f"{pointer}/0")
    for position, row in enumerate(rows):
        if len(row) != width:
            raise refuse(f"Row {position} has {len(row)} values and row 0 has {width}.", f"{pointer}/{position}")


def read(
    samples: Sequence[Row],
    targets: Sequence[Sequence[float]] | None,
    labels: Sequence[Any] | None,
    feature_names: Sequence[str] | None,
    limits: Limits,
    weights: Sequence[float] | None = None,
) -> Table:
    """Read a dataset of rows; a column is categorical if the first row has a text there.

    Raises:
        InvalidInput: rows, targets and names do not fit together.
        LimitExceeded: more values than are allowed.
    """
    check_size(len(samples), max((len(row) for row in samples), default=0), limits, "/samples")
    if (targets is None) == (labels is None):
        raise refuse("Send either labels or targets.", "/labels")
    _check_shape(samples, "/samples")
    width = len(samples[0])
    names = list(feature_names or [f"x{position}" for position in range(1, width + 1)])
    if len(names) != width:
        raise refuse(f"There are {width} features and {len(names)} names; give each feature one.", "/feature_names")
    check_names(names, "feature", "/feature_names")
    categories = _categories(samples, names)
    X = coded(samples, categories, names, "/samples")
    table = Table(X=X, feature_names=names, categories=categories, report={"format": "json"})
    if labels is not None:
        if len(labels) != len(X):
            raise refuse(f"There are {len(X)} samples and {len(labels)} labels.", "/labels")
        texts = [_label(label, f"/labels/{position}") for position, label in enumerate(labels)]
        table.labels, table.classes = encode_texts(texts, "/labels")
        table.notes.append("Labels were sent: classification.")
    elif targets is not None:
        table.Y = matrix(targets, "/targets")
        if len(table.Y) != len(X):
            raise refuse(f"There are {len(X)} samples and {len(table.Y)} rows of targets.", "/targets")
        table.notes.append("Numeric targets were sent: regression.")
    if weights is not None:
        table.weights = _weights(weights, len(X))
        table.notes.append("Weights of the samples were sent.")
    table.notes += [
        f"Column {name!r} holds categories: its values are texts."
        for name, column in zip(names, categories, strict=False)
        if column is not None
    ]
    return table


def _weights(given: Sequence[float], samples: int) -> NDArray[np.float64]:
    if len(given) != samples:
        raise refuse(f"There are {samples} samples and {len(given)} weights.", "/weights")
    for position, weight in enumerate(given):
        if not 0 <= weight < math.inf:
            raise refuse(f"A weight is {weight}; it must be a finite number of at least 0.", f"/weights/{position}")
    weights = np.array(given, dtype=np.float64)
    check_weights(weights, "/weights")
    return weights


def _categories(samples: Sequence[Row], names: Sequence[str]) -> tuple[tuple[str, ...] | None, ...]:
    """Gather the categories of the columns that hold texts; () if all hold numbers."""
    texts = [position for position, value in enumerate(samples[0]) if isinstance(value, str)]
    if not texts:
        return ()
    found: list[tuple[str, ...] | None] = [None] * len(names)
    for j in texts:
        column = CategoryColumn(names[j], said=True, pointer="/samples")
        for i, row in enumerate(samples):
            value = row[j]
            if not isinstance(value, str):
                raise refuse(
                    f"Column {names[j]} is a text in row 0 and {value} in row {i}; send all its categories as texts.",
                    f"/samples/{i}/{j}",
                )
            if problem := column.add(i, value):
                raise refuse(problem.replace("Line", "Row", 1), f"/samples/{i}/{j}")
        found[j] = column.codes()[1]
    return tuple(found)


def _label(given: Any, pointer: str, what: str = "label") -> str:
    """Write a label as JSON does; 3 and 3.0 and "3" are one class."""
    if isinstance(given, bool):
        return str(given).lower()
    if isinstance(given, str):
        return given
    if isinstance(given, int) and abs(given) < 1 << 63:
        return str(given)
    if isinstance(given, float) and math.isfinite(given):
        return str(given)
    raise refuse(
        f"A {what} is {shown(repr(given)[:60])}; it needs to be a text, a finite number or a boolean.", pointer
    )
