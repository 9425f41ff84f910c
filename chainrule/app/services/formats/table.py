"""What every format is read into, and the checks all share."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chainrule.app.errors import FieldError, InvalidInput, LimitExceeded

MOST_ERRORS = 20
MOST_CLASSES = 1000


@dataclass(frozen=True)
class Options:
    """What the client says about its file; None where it leaves the choice to us."""

    filename: str = ""
    format: str | None = None
    header: bool | None = None
    label_column: str | None = None
    target_columns: tuple[str, ...] = ()
    divide_by: float | None = None


@dataclass(frozen=True)
class Limits:
    """How large a dataset may be: bytes unpacked, and samples x features."""

    upload_bytes: int
    values: int


@dataclass
class Table:
    """Samples with labels or numeric targets, and what was inferred on the way."""

    X: NDArray[Any]
    Y: NDArray[np.float64] | None = None
    labels: NDArray[np.int32] | None = None
    classes: list[str] = field(default_factory=list)
    feature_names: list[str] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def refuse(detail: str, pointer: str = "/file") -> InvalidInput:
    """Refuse a file, or one place in it."""
    return InvalidInput.at(pointer, detail)


def refuse_all(problems: list[FieldError]) -> InvalidInput:
    """Refuse a file for several reasons, the first of which is the summary."""
    more = f" ({len(problems)} problems are listed.)" if len(problems) > 1 else ""
    return InvalidInput(problems[0].detail + more, errors=tuple(problems[:MOST_ERRORS]))


def check_size(samples: int, features: int, limits: Limits) -> None:
    """Refuse a table that is empty or too large, before anything of its size is made."""
    if samples < 1 or features < 1:
        raise refuse(f"The data has {samples} samples and {features} features; it needs at least one of each.")
    if samples * features > limits.values:
        raise LimitExceeded(
            "The number of values (samples x features)",
            samples * features,
            limits.values,
            "CHAINRULE_MAX_DATASET_VALUES",
            pointer="/file",
        )


def check_finite(array: NDArray[Any], what: str, pointer: str = "/file") -> None:
    """Refuse NaN and infinity, naming the first."""
    if array.dtype.kind != "f":
        return
    finite = np.isfinite(array)
    if not finite.all():
        place = tuple(int(i) for i in np.argwhere(~finite)[0])
        where = f"row {place[0]}" + (f", column {place[1]}" if len(place) > 1 else "")
        raise refuse(f"{what} has {array[place]} at {where} (counted from 0); remove or replace it.", pointer)


def encode_labels(values: list[str]) -> tuple[NDArray[np.int32], list[str]]:
    """Number class labels: classes in order, numerically where all are numbers."""
    classes = sorted(set(values), key=_natural(values))
    if len(classes) < 2:
        raise refuse(f"All samples have the label {classes[0]!r}; a classifier needs at least two classes.")
    if len(classes) > MOST_CLASSES:
        raise refuse(
            f"There are {len(classes):,} different labels, more than {MOST_CLASSES:,}; for numeric targets "
            "name them in target_columns."
        )
    position = {name: number for number, name in enumerate(classes)}
    return np.array([position[value] for value in values], dtype=np.int32), classes


def label_texts(values: NDArray[Any]) -> list[str]:
    """Write label values as the names of classes: whole numbers without a point."""
    if values.dtype.kind == "f" and np.all(np.mod(values, 1) == 0):
        values = values.astype(np.int64)
    return [str(value) for value in values.tolist()]


def _natural(values: list[str]) -> Any:
    try:
        for value in set(values):
            float(value)
    except ValueError:
        return str
    return lambda text: (float(text), text)
