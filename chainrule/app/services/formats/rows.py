"""Rows sent along as JSON."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chainrule.app.services.formats.labels import encode_texts
from chainrule.app.services.formats.table import Limits, Table, check_finite, check_names, check_size, refuse, shown


def matrix(rows: Sequence[Sequence[float]], pointer: str) -> NDArray[np.float64]:
    """Make a matrix of rows.

    Raises:
        InvalidInput: the rows differ in length, or hold what is not a finite number.
    """
    if not rows:
        raise refuse("There are no rows; send at least one.", pointer)
    width = len(rows[0])
    if width < 1:
        raise refuse("The rows are empty; each needs at least one value.", f"{pointer}/0")
    for position, row in enumerate(rows):
        if len(row) != width:
            raise refuse(f"Row {position} has {len(row)} values and row 0 has {width}.", f"{pointer}/{position}")
    try:
        made = np.array(rows, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise refuse("The rows hold what is not a number, or too large for one.", pointer) from error
    if made.ndim != 2:
        raise refuse("The rows hold lists; each value needs to be a number.", pointer)
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
    check_size(len(samples), max((len(row) for row in samples), default=0), limits, "/samples")
    if (targets is None) == (labels is None):
        raise refuse("Send either labels or targets.", "/labels")
    X = matrix(samples, "/samples")
    names = list(feature_names or [f"x{position}" for position in range(1, X.shape[1] + 1)])
    if len(names) != X.shape[1]:
        raise refuse(
            f"There are {X.shape[1]} features and {len(names)} names; give each feature one.", "/feature_names"
        )
    check_names(names, "feature", "/feature_names")
    table = Table(X=X, feature_names=names, report={"format": "json"})
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
    return table


def _label(given: Any, pointer: str) -> str:
    """Write a label as JSON does; 3 and 3.0 and "3" are one class."""
    if isinstance(given, bool):
        return str(given).lower()
    if isinstance(given, str):
        return given
    if isinstance(given, int) and abs(given) < 1 << 63:
        return str(given)
    if isinstance(given, float) and math.isfinite(given):
        return str(given)
    raise refuse(f"A label is {shown(repr(given)[:60])}; it needs to be a text, a finite number or a boolean.", pointer)
