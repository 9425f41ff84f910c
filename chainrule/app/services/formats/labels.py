"""Class labels: their names, their order, and each sample's position among them."""

import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chainrule.app.services.formats.table import check_names, refuse, shown

MOST_CLASSES = 1000
_WHOLE = re.compile(r"[+-]?[0-9]+(\.0*)?")

Encoded = tuple[NDArray[np.int32], list[str]]


def number(text: str) -> float | None:
    """Read a number as it is written in files, or None; `1_000` and full-width digits are for programs and print."""
    if "_" in text or not text.isascii():
        return None
    try:
        return float(text)
    except ValueError:
        return None


def encode(positions: NDArray[np.integer[Any]], names: Sequence[str], pointer: str = "/file") -> Encoded:
    """Number class labels: classes in order, numerically where all are numbers; 1.0 is class 1.

    Args:
        positions: (m,) each sample's position in names.
        names: the different labels as they are written.
        pointer: where they were sent.

    Returns:
        Each sample's position among the classes, and the names of the classes.

    Raises:
        InvalidInput: fewer than two classes, too many, or a name that cannot be stored.
    """
    names, classes = ordered(names)
    if len(classes) > MOST_CLASSES:
        raise too_many(pointer)
    check_names(classes, "class", pointer)
    if len(classes) < 2:
        raise refuse(
            f"All samples have the label {shown(classes[0])}; a classifier needs at least two classes.", pointer
        )
    place = {name: number for number, name in enumerate(classes)}
    return np.array([place[name] for name in names], dtype=np.int32)[positions], classes


def whole(text: str) -> str:
    """Write a whole number without its decimals: 1.0 is 1; other texts stay as they are."""
    return text.partition(".")[0] if _WHOLE.fullmatch(text) else text


def ordered(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Name each text as the same value is always named (1.0 is 1), and put the different names in order."""
    if all(_WHOLE.fullmatch(name) for name in names):
        names = [whole(name) for name in names]
    return list(names), sorted(set(names), key=_order(names))


def encode_texts(values: Sequence[str], pointer: str = "/file") -> Encoded:
    """Number class labels that are texts."""
    known: dict[str, int] = {}
    positions = np.array([known.setdefault(value, len(known)) for value in values], dtype=np.int32)
    return encode(positions, list(known), pointer)


def encode_array(values: NDArray[Any], pointer: str = "/file") -> Encoded:
    """Number class labels that are an array of numbers, booleans or strings."""
    unreadable = "A label is not Unicode text; save the labels as UTF-8 or as numbers."
    # NumPy trusts its files here, and fails in ways nobody can catch in earnest.
    if values.dtype.kind == "U" and np.ascontiguousarray(values).view(np.uint32).max() > sys.maxunicode:
        raise refuse(unreadable, pointer)
    distinct, positions = np.unique(values, return_inverse=True)
    if len(distinct) > MOST_CLASSES:
        raise too_many(pointer)
    try:
        names = [value.decode() if isinstance(value, bytes) else str(value) for value in distinct]
    except UnicodeDecodeError as error:
        raise refuse(unreadable, pointer) from error
    return encode(positions, names, pointer)


def too_many(pointer: str = "/file") -> Exception:
    """Refuse what can hardly be classes."""
    return refuse(
        f"There are more than {MOST_CLASSES:,} different labels; for numeric targets name them in target_columns.",
        pointer,
    )


def _order(names: Sequence[str]) -> Callable[[str], Any]:
    values = {name: number(name) for name in names}
    if any(value is None or not np.isfinite(value) for value in values.values()):
        return str
    return lambda name: (values[name], name)
