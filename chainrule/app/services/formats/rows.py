"""Rows sent along as JSON."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chainrule.app.services.formats.table import Limits, Table, check_finite, check_size, encode_labels, refuse


def matrix(rows: Sequence[Sequence[float]], pointer: str) -> NDArray[np.float64]:
    """Make a matrix of rows.

    Raises:
        InvalidInput: the rows differ in length, or hold what is not a finite number.
    """
    if not rows:
        raise refuse("There are no rows; send at least one.", pointer)
    width = len(rows[0])
    for number, row in enumerate(rows):
        if len(row) != width:
            raise refuse(f"Row {number} has {len(row)} values and row 0 has {width}.", f"{pointer}/{number}")
    if width < 1:
        raise refuse("The rows are empty; each needs at least one value.", f"{pointer}/0")
    made = np.array(rows, dtype=np.float64)
    check_finite(made, "The rows", pointer)
    return made


def read(
    samples: Sequence[Sequence[float]],
    targets: Sequence[Sequence[float]] | None,
    labels: Sequence[Any] | None,
    feature_names: Sequence[str] | None,
    limits: Limits,
) -> Table:
    """Read a dataset of rows.

    Raises:
        InvalidInput: rows, targets and names do not fit together.
        LimitExceeded: more values than are allowed.
    """
    check_size(len(samples), max((len(row) for row in samples), default=0), limits)
    X = matrix(samples, "/samples")
    if (targets is None) == (labels is None):
        raise refuse("Send either labels or targets.", "/labels")
    names = list(feature_names or [f"x{number}" for number in range(1, X.shape[1] + 1)])
    if len(names) != X.shape[1] or len(set(names)) < len(names):
        raise refuse(f"There are {X.shape[1]} features; give each one name of its own.", "/feature_names")
    table = Table(X=X, feature_names=names, report={"format": "json"})
    if labels is not None:
        if len(labels) != len(X):
            raise refuse(f"There are {len(X)} samples and {len(labels)} labels.", "/labels")
        table.labels, table.classes = encode_labels([str(label) for label in labels])
        table.notes.append("Labels were sent: classification.")
    elif targets is not None:
        table.Y = matrix(targets, "/targets")
        if len(table.Y) != len(X):
            raise refuse(f"There are {len(X)} samples and {len(table.Y)} rows of targets.", "/targets")
        table.notes.append("Numeric targets were sent: regression.")
    return table
