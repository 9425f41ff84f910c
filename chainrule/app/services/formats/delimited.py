"""CSV and its relatives: a header or none, numbers, categories, and a column of class labels or numeric targets."""

import csv
import io
import itertools
import math
import re
from array import array
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from chainrule.app.errors import FieldError
from chainrule.app.services.formats.category_column import CategoryColumn
from chainrule.app.services.formats.columns import choose, choose_categorical, choose_weights
from chainrule.app.services.formats.label_column import NAMES as LABEL_NAMES
from chainrule.app.services.formats.label_column import LabelColumn
from chainrule.app.services.formats.labels import number
from chainrule.app.services.formats.table import (
    MOST_ERRORS,
    Limits,
    Options,
    Table,
    check_names,
    check_size,
    check_weights,
    refuse,
    refuse_all,
    shown,
)

SNIFFED_CHARACTERS = 64 * 1024
MOST_LINE_CHARACTERS = 4 << 20
MISSING = {"", "?", "-", "na", "n/a", "nan", "null", "none"}

_DECIMAL_COMMA = re.compile(r"\s*[+-]?[0-9]+,[0-9]+\s*")

Row = tuple[int, list[str]]
"""The number of a line, from 1, and its cells."""


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
        raise refuse(f"Line {_undecodable(file)} is not UTF-8 text; save the file as UTF-8.") from error
    finally:
        text.detach()


def _read(text: io.TextIOWrapper, options: Options, limits: Limits) -> Table:
    start = text.read(SNIFFED_CHARACTERS)
    if "\0" in start:
        raise refuse("The file is binary, not delimited text; name its format if it is NPY, NPZ or IDX.")
    text.seek(0)
    delimiter = _delimiter(start)
    rows = _rows(text, delimiter)
    line, first = next(rows, (0, []))
    if not first:
        raise refuse("The file is empty; it needs one line for each sample.")
    second = next(rows, None)
    header = options.header
    if header is None:
        header = _is_header(first, None if second is None else second[1])
    body = itertools.chain([] if second is None else [second], rows)
    names = [f"column_{position}" for position in range(1, len(first) + 1)]
    if header:
        names = [cell.strip() or name for cell, name in zip(first, names, strict=True)]
    else:
        body = itertools.chain([(line, first)], body)
    if len(names) < 2:
        raise refuse(
            "The file has one column; it needs at least one feature and one label or target, separated by comma, "
            "semicolon or tab."
        )
    check_names(names, "column")
    columns = _Columns(names, options, limits)
    columns.fill(body)
    table = columns.table()
    table.report = {"format": "csv", "delimiter": delimiter, "header": header, **table.report}
    inferred = "" if options.header is not None else " (inferred)"
    table.notes.insert(0, f"The first line is {'a header' if header else 'a sample, not a header'}{inferred}.")
    if header and not all(cell.strip() for cell in first):
        table.notes.append("Columns without a name were named by their position.")
    return table


def _delimiter(start: str) -> str:
    """Take what separates most cells of the first line; what stands in quotes does not count."""
    line = next((line for line in re.split(r"[\r\n]", start.lstrip("\ufeff")) if line.strip()), "")
    return max(",;\t", key=re.sub(r'"[^"]*"?', "", line).count)


def _rows(text: io.TextIOWrapper, delimiter: str) -> Iterator[Row]:
    """Read line by line, without blank ones; nothing the file holds makes a row larger than a few megabytes."""
    characters = 0
    line = 1

    def lines() -> Iterator[str]:
        nonlocal characters
        while content := text.readline(MOST_LINE_CHARACTERS):
            characters += len(content)
            if characters >= MOST_LINE_CHARACTERS:
                raise refuse(
                    f"Line {line} is longer than {MOST_LINE_CHARACTERS:,} characters, or a quote is not closed."
                )
            yield content

    reader = csv.reader(lines(), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if len(row) > 1 or (row and row[0].strip()):
                yield line, row
            line, characters = reader.line_num + 1, 0
    except csv.Error as error:
        raise refuse(f"From line {line} on the file is not delimited text: {error}; look for a stray quote.") from error


def _undecodable(file: BinaryIO) -> int:
    file.seek(0)
    for line, content in enumerate(file, 1):
        try:
            content.decode()
        except UnicodeDecodeError:
            return line
    return 1


def _is_header(first: list[str], second: list[str] | None) -> bool:
    """Tell a header: words and no numbers, or words where the next line has numbers beside whole numbers (0, 1, 2)."""
    words = [number(cell) is None and cell.strip().lower() not in MISSING for cell in first]
    if not any(words):
        return False
    numbers = [cell.strip() for cell in first if number(cell) is not None]
    if second is None or not numbers:
        return True
    # A sample with a slip in it must not pass for a header, or it would be lost in silence.
    if not all(cell.isdigit() for cell in numbers):
        return False
    return any(word and number(cell) is not None for word, cell in zip(words, second, strict=False))


class _Columns:
    """Gathers rows: features and named targets as numbers, categories and the column that may hold labels apart.

    Whether a feature is categorical is told by the first sample, or said by the client.
    """

    def __init__(self, names: list[str], options: Options, limits: Limits) -> None:
        label, targets = choose(names, options)
        weights = choose_weights(names, options, [*targets, *(() if label is None else (label,))])
        said = label is not None
        # Without a word from the client it is the last column, or the first if only that is named like a label.
        first, *_, last = (position for position in range(len(names)) if position != weights)
        if label is None and not targets:
            label = first if names[first].lower() in LABEL_NAMES and names[last].lower() not in LABEL_NAMES else last
        self._width = len(names)
        self._label_position = label
        place = "the last column" if last == len(names) - 1 else "the last column but the weights"
        if label == first:
            place = "the first column, by its name"
        self._label = None if label is None else LabelColumn(names[label], said=said, place=place)
        self._names = [name for position, name in enumerate(names) if position != label]
        self._targets = targets
        taken = {*targets, label, weights} - {None}
        categorical = choose_categorical(names, options, [position for position in taken if position is not None])
        self._said = {position - (label is not None and position > label) for position in categorical}
        self._weights = None if weights is None else weights - (label is not None and weights > label)
        self._categories: dict[int, CategoryColumn] = {}
        self._limits = limits
        self._numbers = array("d")
        self._problems: list[FieldError] = []

    def fill(self, rows: Iterable[Row]) -> None:
        features = len(self._names) - len(self._targets) - (self._weights is not None)
        count = 0
        for line, row in rows:
            count += 1
            if count == 1:
                self._tell(row)
            if count * features > self._limits.values:
                check_size(count, features, self._limits)
            self._add(line, row)
            if len(self._problems) >= MOST_ERRORS:
                break
        if self._problems:
            raise refuse_all(self._problems)
        if not count:
            raise refuse("The file has a header and no samples.")
        check_size(count, features, self._limits)

    def _tell(self, first: list[str]) -> None:
        """Tell the categorical columns by the first sample: words, not numbers and nothing that stands for neither."""
        if len(first) != self._width:
            return
        cells = [cell for position, cell in enumerate(first) if position != self._label_position]
        for position, (name, cell) in enumerate(zip(self._names, cells, strict=True)):
            word = number(cell) is None and cell.strip().lower() not in MISSING and not _DECIMAL_COMMA.fullmatch(cell)
            if position in self._said or (word and position not in self._targets and position != self._weights):
                self._categories[position] = CategoryColumn(name, said=position in self._said)

    def _add(self, line: int, row: list[str]) -> None:
        if len(row) != self._width:
            self._problem(f"Line {line} has {len(row)} columns; the first line has {self._width}.")
            return
        if self._label is not None and self._label_position is not None:
            problem = self._label.add(line, row.pop(self._label_position))
            if problem:
                self._problem(problem)
        for position, column in self._categories.items():
            problem = column.add(line, row[position])
            if problem:
                self._problem(problem)
            row[position] = "0"  # its place is taken by the category's number at the end
        numbers = _finite(row)
        if numbers is None:
            self._explain(line, row)
        elif self._weights is not None and numbers[self._weights] < 0:
            name, value = self._names[self._weights], row[self._weights].strip()
            self._problem(f"Line {line}, column {shown(name)} is {value}; a weight must be at least 0.")
        else:
            self._numbers.extend(numbers)

    def _explain(self, line: int, row: list[str]) -> None:
        for position, (name, cell) in enumerate(zip(self._names, row, strict=True)):
            value = number(cell)
            if value is None or not math.isfinite(value):
                found = shown(cell.strip()) if cell.strip() else "empty"
                hint = "Name the column in categorical_columns if its values are categories, in label_column if labels."
                if position == self._weights:
                    hint = "It holds the samples' weights."
                if _DECIMAL_COMMA.fullmatch(cell):
                    hint = "Write decimals with a point."
                self._problem(f"Line {line}, column {shown(name)} is {found}; it needs a finite number. {hint}")
                if len(self._problems) >= MOST_ERRORS:
                    return

    def _problem(self, detail: str) -> None:
        self._problems.append(FieldError("/file", detail))

    def table(self) -> Table:
        numbers = np.frombuffer(self._numbers).reshape(-1, len(self._names))
        categories: list[tuple[str, ...] | None] = [None] * len(self._names)
        for position, column in self._categories.items():
            numbers[:, position], categories[position] = column.codes()
        left_out = {*self._targets, self._weights}
        features = [position for position in range(len(self._names)) if position not in left_out]
        table = Table(
            X=numbers if len(features) == len(self._names) else np.ascontiguousarray(numbers[:, features]),
            feature_names=[self._names[position] for position in features],
            categories=tuple(categories[position] for position in features) if self._categories else (),
        )
        self._name_targets(table, numbers)
        if self._weights is not None:
            name = self._names[self._weights]
            table.weights = numbers[:, self._weights].copy()
            check_weights(table.weights, "/weight_column")
            table.report["weight_column"] = name
            table.notes.append(f"Column {name!r} holds the samples' weights: named by the request.")
        table.notes += self._category_notes()
        return table

    def _name_targets(self, table: Table, numbers: NDArray[np.float64]) -> None:
        if self._label is None:
            table.Y = np.ascontiguousarray(numbers[:, self._targets])
            table.report = {"target_columns": [self._names[position] for position in self._targets]}
            table.notes.append("The target columns were named by the request: regression.")
            return
        name = self._label.name
        classes, why = self._label.judge()
        if classes:
            table.labels, table.classes = self._label.labels()
            table.report = {"label_column": name}
            table.notes.append(f"Column {name!r} holds class labels: {why}.")
        else:
            table.Y = self._label.targets()
            table.report = {"target_columns": [name]}
            table.notes.append(
                f"Column {name!r} holds numeric targets: {why}; name it in label_column if they are labels."
            )

    def _category_notes(self) -> list[str]:
        """Say which columns were taken for categories, for a label overlooked among them would mislead."""
        return [
            f"Column {column.name!r} holds categories: named by the request."
            if column.said
            else f"Column {column.name!r} holds categories: its values are words; name it in label_column if they are "
            "the labels."
            for _, column in sorted(self._categories.items())
        ]


def _finite(row: list[str]) -> list[float] | None:
    """Read a row of finite numbers, or None; the whole row at once, because files have millions."""
    written = "".join(row)
    if "_" in written or not written.isascii():
        return None
    try:
        numbers = [float(cell) for cell in row]
    except ValueError:
        return None
    return numbers if all(map(math.isfinite, numbers)) else None
