"""What every format is read into, and the checks all share."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chainrule.app.errors import FieldError, InvalidInput, LimitExceeded

MOST_ERRORS = 20
MOST_FEATURES = 100_000
MOST_NAME_CHARACTERS = 200


@dataclass(frozen=True)
class Options:
    """What the client says about its file; None where it leaves the choice to us."""

    filename: str = ""
    format: str | None = None
    header: bool | None = None
    label_column: str | None = None
    target_columns: tuple[str, ...] = ()
    categorical_columns: tuple[str, ...] = ()
    weight_column: str | None = None
    divide_by: float | None = None


@dataclass(frozen=True)
class Limits:
    """How large a dataset may be: bytes unpacked, and samples x features."""

    upload_bytes: int
    values: int


@dataclass
class Table:
    """Samples with labels or numeric targets, how much each counts, and what was inferred on the way.

    X holds the positions of categories where `categories` has their names for the column; () if it has none.
    """

    X: NDArray[Any]
    Y: NDArray[np.float64] | None = None
    labels: NDArray[np.int32] | None = None
    classes: list[str] = field(default_factory=list)
    feature_names: list[str] = field(default_factory=list)
    categories: tuple[tuple[str, ...] | None, ...] = ()
    weights: NDArray[np.float64] | None = None
    report: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def column_categories(self) -> tuple[tuple[str, ...] | None, ...]:
        """For each column the names of its categories, None for a numeric one."""
        return self.categories or (None,) * self.X.shape[1]


def refuse(detail: str, pointer: str = "/file") -> InvalidInput:
    """Refuse a file, or one place in it."""
    return InvalidInput.at(pointer, detail)


def refuse_all(problems: Sequence[FieldError]) -> InvalidInput:
    """Refuse a file for several reasons, the first of which is the summary."""
    listed = tuple(problems[:MOST_ERRORS])
    more = f" ({len(listed)} problems are listed.)" if len(listed) > 1 else ""
    return InvalidInput(listed[0].detail + more, errors=listed)


def shown(text: str) -> str:
    """Quote a text of the client's in a message, cut to what fits there."""
    return repr(text if len(text) <= 50 else f"{text[:49]}…")


def listed(names: Sequence[str]) -> str:
    """List names in a message, the first of many only."""
    return ", ".join(name[:MOST_NAME_CHARACTERS] for name in names[:50]) + (", …" if len(names) > 50 else "")


def check_size(samples: int, features: int, limits: Limits, pointer: str = "/file") -> None:
    """Refuse a table that is empty or too large, before anything of its size is made."""
    if samples < 1 or features < 1:
        raise refuse(f"The data has {samples} samples and {features} features; it needs at least one of each.", pointer)
    if samples * features > limits.values:
        raise LimitExceeded(
            "The number of values (samples x features)",
            samples * features,
            limits.values,
            "CHAINRULE_MAX_DATASET_VALUES",
            pointer=pointer,
        )
    if features > MOST_FEATURES:
        # Each feature has a name, which costs far more than its values do.
        raise refuse(f"The data has {features:,} features; more than {MOST_FEATURES:,} are not taken.", pointer)


def check_bytes(
    size: int, limits: Limits, pointer: str, *, what: str = "The size in bytes that the header claims"
) -> None:
    """Refuse what would be too large in memory, before it is read."""
    if size > limits.upload_bytes:
        raise LimitExceeded(what, size, limits.upload_bytes, "CHAINRULE_MAX_UPLOAD_BYTES", pointer=pointer)


def check_finite(array: NDArray[Any], what: str, pointer: str = "/file") -> None:
    """Refuse NaN and infinity, naming the first."""
    if array.dtype.kind != "f":
        return
    finite = np.isfinite(array)
    if not finite.all():
        place = tuple(int(i) for i in np.unravel_index(int(np.argmin(finite)), array.shape))
        where = f"row {place[0]}" + (f", column {place[1]}" if len(place) > 1 else "")
        raise refuse(f"{what} has {array[place]} at {where} (counted from 0); remove or replace it.", pointer)


def check_names(names: Sequence[str], what: str, pointer: str = "/file") -> None:
    """Refuse names that could not be stored or shown, and names that occur twice."""
    for name in names:
        if not name:
            raise refuse(f"A {what} has an empty name; give it one.", pointer)
        if len(name) > MOST_NAME_CHARACTERS:
            raise refuse(
                f"The {what} name {shown(name)} has {len(name):,} characters, more than {MOST_NAME_CHARACTERS}.",
                pointer,
            )
        if "\0" in name or not _is_unicode(name):
            raise refuse(f"The {what} name {shown(name)} has a character that cannot be stored; rename it.", pointer)
    if len(set(names)) < len(names):
        seen: set[str] = set()
        twice = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise refuse(f"Two have the {what} name {shown(twice)}; give each a name of its own.", pointer)


def _is_unicode(text: str) -> bool:
    """Tell whether the text has no half of a surrogate pair, which JSON and NPY can hold and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_weights(weights: NDArray[np.float64], pointer: str) -> None:
    """Refuse weights of samples of which none counts."""
    if not weights.any():
        raise refuse("The weights of all samples are 0, so that nothing could be learnt; raise one of them.", pointer)


def compact(X: NDArray[Any]) -> NDArray[Any]:
    """Keep bytes as bytes and float32 as float32; all else becomes float64."""
    keep = X.dtype if X.dtype in (np.dtype(np.uint8), np.dtype(np.float32)) else np.dtype(np.float64)
    return np.ascontiguousarray(X, dtype=keep)


def divide(table: Table, by: float, why: str = "") -> None:
    """Divide the features; bytes become float32.

    Raises:
        InvalidInput: the result is not finite.
    """
    dtype = np.float32 if table.X.dtype.itemsize < 8 else np.float64
    # Categories are no quantities; what was divided by 1 has not changed.
    divisors = [by if column is None else 1.0 for column in table.column_categories] if table.categories else by
    with np.errstate(all="ignore"):
        table.X = np.divide(table.X, divisors, dtype=dtype)
    check_finite(table.X, f"Divided by {by:g}, the data", "/divide_by")
    table.notes.append(f"{'Numeric features' if table.categories else 'Features'} were divided by {by:g}{why}.")
