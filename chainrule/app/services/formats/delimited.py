"""CSV and its relatives: a header or none, numbers, and a column of class labels or numeric targets."""

import csv
import io
import itertools
import math
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from chainrule.app.errors import FieldError
from chainrule.app.services.formats.table import (
    MOST_ERRORS,
    Limits,
    Options,
    Table,
    check_size,
    encode_labels,
    refuse,
    refuse_all,
)

LABEL_NAMES = {"label", "labels", "class", "target", "species", "category", "y"}
MOST_INFERRED_CLASSES = 20
MOST_COLUMNS = 1_000_000
BLOCK_ROWS = 4096


def read(file: BinaryIO, options: Options, limits: Limits) -> Table:
    """Read a delimited text file.

    Raises:
        InvalidInput: ragged, not numeric where it must be, NaN or infinity, no such column, …
        LimitExceeded: more values than are allowed.
    """
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    try:
        return _read(text, options, limits)
    except UnicodeDecodeError as error:
        raise refuse(f"The file is not UTF-8 text (byte {error.start}); save it as UTF-8.") from error
    except csv.Error as error:
        raise refuse(f"The file is not delimited text: {error}.") from error
    finally:
        text.detach()


def _read(text: io.TextIOWrapper, options: Options, limits: Limits) -> Table:
    sample = text.read(64 * 1024)
    if not sample.strip():
        raise refuse("The file is empty; it needs one line for each sample.")
    if "\x00" in sample:
        raise refuse("The file is binary, not delimited text; name its format if it is NPY, NPZ or IDX.")
    text.seek(0)
    delimiter = max(",;\t", key=sample.splitlines()[0].count)
    rows = (row for row in _numbered(csv.reader(text, delimiter=delimiter, strict=True)) if any(row[1]))
    line, first = next(rows)
    first = [cell.strip() for cell in first]
    if len(first) > MOST_COLUMNS:
        raise refuse(f"The first line has {len(first):,} columns, more than {MOST_COLUMNS:,}.")
    second = next(rows, None)
    header = _is_header(first, None if second is None else second[1]) if options.header is None else options.header
    body = itertools.chain([] if second is None else [second], rows)
    if header:
        names = first
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise refuse(f"The header names column {twice!r} twice; give each column a name of its own.")
    else:
        names = [f"column_{number}" for number in range(1, len(first) + 1)]
        body = itertools.chain([(line, first)], body)
    columns = _Columns(names, _chosen(names, options), limits)
    columns.fill(body)
    table = columns.table(options)
    table.report = {"format": "csv", "header": header, **table.report}
    inferred = "" if options.header is not None else " (inferred)"
    table.notes.insert(0, f"The first line is {'a header' if header else 'a sample, not a header'}{inferred}.")
    return table


def _numbered(reader: "csv._reader") -> Iterator[tuple[int, list[str]]]:  # type: ignore[name-defined]
    for row in reader:
        yield reader.line_num, row


def _is_header(first: list[str], second: list[str] | None) -> bool:
    """A header has words where the next line has numbers, or no numbers at all."""
    words = [_number(cell) is None for cell in first]
    if not any(words):
        return False
    if second is None or all(words):
        return True
    return any(word and _number(cell) is not None for word, cell in zip(words, second, strict=False))


def _chosen(names: list[str], options: Options) -> tuple[int | None, list[int]]:
    """Find the columns the client names: that of the labels, those of numeric targets."""
    if options.label_column is not None and options.target_columns:
        raise refuse("Name either label_column or target_columns, not both.", "/label_column")
    label = None if options.label_column is None else _column(names, options.label_column, "/label_column")
    targets = [_column(names, name, "/target_columns") for name in options.target_columns]
    if len(set(targets)) < len(targets):
        raise refuse("target_columns names a column twice.", "/target_columns")
    return label, targets


def _column(names: list[str], wanted: str, pointer: str) -> int:
    if wanted in names:
        return names.index(wanted)
    if wanted.lstrip("-").isdigit() and -len(names) <= int(wanted) < len(names):
        return int(wanted) % len(names)
    shown = ", ".join(names[:50]) + (", …" if len(names) > 50 else "")
    raise refuse(f"There is no column {wanted!r}; the columns are: {shown}.", pointer)


class _Columns:
    """Gathers rows: numbers into blocks, the candidates for labels also as text."""

    def __init__(self, names: list[str], chosen: tuple[int | None, list[int]], limits: Limits) -> None:
        self._names = names
        self._label, self._targets = chosen
        self._limits = limits
        # Without a word from the client the last column decides what it is; it is kept as text until then.
        self._as_text = self._label if self._label is not None else (None if self._targets else len(names) - 1)
        self._texts: list[str] = []
        self._lines: list[int] = []
        self._blocks: list[np.ndarray] = []
        self._rows: list[list[float]] = []
        self._problems: list[FieldError] = []
        if len(names) < 2:
            raise refuse("The file has one column; it needs at least one feature and one label or target.")

    def fill(self, rows: Iterator[tuple[int, list[str]]]) -> None:
        count = 0
        for line, row in rows:
            count += 1
            if count * len(self._names) > self._limits.values:
                check_size(count, len(self._names), self._limits)
            self._add(line, row)
            if len(self._problems) >= MOST_ERRORS:
                break
            if len(self._rows) == BLOCK_ROWS:
                self._flush()
        self._flush()
        if self._problems:
            raise refuse_all(self._problems)
        if not count:
            raise refuse("The file has a header and no samples.")

    def _add(self, line: int, row: list[str]) -> None:
        if len(row) != len(self._names):
            self._problem(f"Line {line} has {len(row)} columns; the first line has {len(self._names)}.")
            return
        numbers = []
        for position, cell in enumerate(row):
            if position == self._as_text:
                self._texts.append(cell.strip())
                self._lines.append(line)
                if not cell.strip():
                    self._problem(f"Line {line}, column {self._names[position]!r} is empty; it needs a label.")
                continue
            number = _number(cell)
            if number is None or not math.isfinite(number):
                shown = repr(cell.strip()) if cell.strip() else "empty"
                self._problem(
                    f"Line {line}, column {self._names[position]!r} is {shown}; it needs a finite number. "
                    "Only the label column may hold text: name it in label_column."
                )
                number = 0.0
            numbers.append(number)
        self._rows.append(numbers)

    def _problem(self, detail: str) -> None:
        self._problems.append(FieldError("/file", detail))

    def _flush(self) -> None:
        if self._rows:
            self._blocks.append(np.array(self._rows, dtype=np.float64))
            self._rows = []

    def table(self, options: Options) -> Table:
        numbers = np.concatenate(self._blocks)
        self._blocks = []
        if self._targets:
            chosen = [i for i in range(len(self._names)) if i not in set(self._targets)]
            if not chosen:
                raise refuse("target_columns names every column; at least one must be a feature.", "/target_columns")
            return Table(
                X=numbers[:, chosen],
                Y=np.ascontiguousarray(numbers[:, self._targets]),
                feature_names=[self._names[i] for i in chosen],
                report={"target_columns": [self._names[i] for i in self._targets]},
                notes=["The target columns were named by the request: regression."],
            )
        assert self._as_text is not None
        name = self._names[self._as_text]
        features = [n for i, n in enumerate(self._names) if i != self._as_text]
        check_size(len(numbers), len(features), self._limits)
        classes, why = self._judge(options)
        if classes:
            labels, found = encode_labels(self._texts)
            return Table(
                X=numbers, labels=labels, classes=found, feature_names=features,
                report={"label_column": name}, notes=[f"Column {name!r} holds class labels: {why}."],
            )  # fmt: skip
        Y = np.array([[_number(text)] for text in self._texts], dtype=np.float64)
        if not np.isfinite(Y).all():
            line = self._lines[int(np.argwhere(~np.isfinite(Y))[0][0])]
            raise refuse(f"Line {line}, column {name!r} is not a finite number; remove or replace it.")
        return Table(
            X=numbers, Y=Y, feature_names=features,
            report={"target_columns": [name]}, notes=[f"Column {name!r} holds numeric targets: {why}."],
        )  # fmt: skip

    def _judge(self, options: Options) -> tuple[bool, str]:
        """Decide whether the last column holds labels or numbers to predict."""
        assert self._as_text is not None
        if options.label_column is not None:
            return True, "named by the request"
        name = self._names[self._as_text]
        values = [_number(text) for text in self._texts]
        words = [number for number, value in enumerate(values) if value is None]
        if words:
            if len(words) < len(values) / 2 and name.lower() not in LABEL_NAMES:
                at = words[0]
                raise refuse(
                    f"Line {self._lines[at]}, column {name!r} is {self._texts[at]!r}, while most of the column are "
                    "numbers; mend it, or name the column in label_column if it holds labels."
                )
            return True, "the last column, and its values are words"
        distinct = len(set(values))
        whole = all(value is not None and value == int(value) for value in values if math.isfinite(value or 0.0))
        if whole and name.lower() in LABEL_NAMES:
            return True, "the last column, with whole numbers and the name of a label"
        if whole and distinct <= MOST_INFERRED_CLASSES and len(values) >= 2 * distinct:
            return True, f"the last column, with only {distinct} different whole numbers"
        return False, "the last column, and its values are numbers"


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
