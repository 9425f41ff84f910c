"""Which columns hold labels, targets, weights or categories: by name or by number, as the client says."""

import re
from collections.abc import Collection, Sequence

from chainrule.app.services.formats.table import Options, listed, refuse, shown

_NUMBER = re.compile(r"-?[0-9]{1,9}")


def choose(names: Sequence[str], options: Options) -> tuple[int | None, list[int]]:
    """Find the columns the client names: that of the labels, those of numeric targets.

    Raises:
        InvalidInput: no such column, both, one twice, or none is left for the features.
    """
    if options.label_column is not None and options.target_columns:
        raise refuse("Name either label_column or target_columns, not both.", "/label_column")
    if options.label_column is not None:
        return _column(names, options.label_column, "/label_column"), []
    targets = [_column(names, name, "/target_columns") for name in options.target_columns]
    if len(set(targets)) < len(targets):
        raise refuse("target_columns names a column twice; name each once.", "/target_columns")
    if len(targets) == len(names):
        raise refuse("target_columns names every column; at least one must be a feature.", "/target_columns")
    return None, targets


def choose_weights(names: Sequence[str], options: Options, taken: Collection[int]) -> int | None:
    """Find the column that the client says holds the weights of the samples.

    Args:
        names: of all columns.
        options: what the client says.
        taken: the columns that the client says hold labels or targets.

    Raises:
        InvalidInput: no such column, or it is taken, or none is left for the features.
    """
    if options.weight_column is None:
        return None
    position = _column(names, options.weight_column, "/weight_column")
    if position in taken:
        raise refuse(
            f"Column {shown(names[position])} holds labels or targets; weight_column names another.", "/weight_column"
        )
    if len(names) - max(len(taken), 1) < 2:
        raise refuse("No column is left for the features beside labels or targets and weights.", "/weight_column")
    return position


def choose_categorical(names: Sequence[str], options: Options, taken: Collection[int]) -> list[int]:
    """Find the feature columns that the client says hold categories.

    Args:
        names: of all columns.
        options: what the client says.
        taken: the columns of labels, targets or weights.

    Raises:
        InvalidInput: no such column, or it is none of the features.
    """
    chosen = [_column(names, name, "/categorical_columns") for name in options.categorical_columns]
    for position in chosen:
        if position in taken:
            raise refuse(
                f"Column {shown(names[position])} holds labels, targets or weights; name features in "
                "categorical_columns.",
                "/categorical_columns",
            )
    return chosen


def _column(names: Sequence[str], wanted: str, pointer: str) -> int:
    if wanted in names:
        return names.index(wanted)
    if _NUMBER.fullmatch(wanted) and -len(names) <= int(wanted) < len(names):
        return int(wanted) % len(names)
    raise refuse(
        f"There is no column {shown(wanted)}; the columns are: {listed(names)} (or their numbers, from 0, -1 being "
        "the last).",
        pointer,
    )
