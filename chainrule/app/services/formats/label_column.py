"""The column of a text file that may hold class labels or numeric targets, until all of it is known."""

import math
from array import array

import numpy as np
from numpy.typing import NDArray

from chainrule.app.services.formats.labels import MOST_CLASSES, Encoded, encode, number, too_many
from chainrule.app.services.formats.table import MOST_NAME_CHARACTERS, refuse, shown

NAMES = {"label", "labels", "class", "target", "species", "category", "y"}
MOST_INFERRED_CLASSES = 20


class LabelColumn:
    """Gathers one column: each different text once, and the number it stands for.

    Args:
        name: of the column.
        said: whether the client says that it holds labels.
        place: where it stands, in words.
    """

    def __init__(self, name: str, *, said: bool, place: str) -> None:
        self.name = name
        self._said = said
        self._place = place
        self._known: dict[str, int] = {}
        self._positions = array("i")
        self._numbers = array("d")
        self._words = 0
        self._first_word = (0, "")

    def add(self, line: int, cell: str) -> str | None:
        """Take the next sample's cell; returns what is wrong with it."""
        text = cell.strip()
        if not text:
            return f"Line {line}, column {shown(self.name)} is empty; it needs a label."
        if len(text) > MOST_NAME_CHARACTERS:
            return (
                f"Line {line}, column {shown(self.name)} has a label of {len(text):,} characters, more than "
                f"{MOST_NAME_CHARACTERS}."
            )
        value = number(text)
        if value is None:
            self._words += 1
            if self._words == 1:
                self._first_word = (line, text)
        elif not math.isfinite(value):
            return f"Line {line}, column {shown(self.name)} is {shown(text)}; it needs a label or a finite number."
        self._numbers.append(np.nan if value is None else value)
        if text not in self._known:
            if len(self._known) == MOST_CLASSES:
                # These can only be numbers to predict; from here on the texts are not kept.
                if self._said:
                    raise too_many()
                return None
            self._known[text] = len(self._known)
        self._positions.append(self._known[text])
        return None

    def judge(self) -> tuple[bool, str]:
        """Decide whether the column holds labels or numbers to predict, and say why.

        Raises:
            InvalidInput: it holds numbers, and a few words among them.
        """
        if self._said:
            return True, "named by the request"
        named = self.name.lower() in NAMES
        if self._words:
            if self._words < len(self._numbers) / 2 and not named:
                line, text = self._first_word
                raise refuse(
                    f"Line {line}, column {shown(self.name)} is {shown(text)}, while most of the column are "
                    "numbers; mend it, or name the column in label_column if it holds labels."
                )
            return True, f"{self._place}, and its values are words"
        values = np.frombuffer(self._numbers)
        distinct = len(np.unique(values))
        if bool(np.all(values == np.floor(values))):
            if named and distinct <= MOST_CLASSES:
                return True, f"{self._place}, with whole numbers and the name of a label"
            if distinct <= MOST_INFERRED_CLASSES and len(values) >= 2 * distinct:
                return True, f"{self._place}, with only {distinct} different whole numbers"
        return False, f"{self._place}, and its values are numbers"

    def labels(self) -> Encoded:
        """Return the column as class labels.

        Raises:
            InvalidInput: too many classes, or only one.
        """
        if len(self._positions) < len(self._numbers):
            raise too_many()
        return encode(np.frombuffer(self._positions, dtype=np.intc), list(self._known))

    def targets(self) -> NDArray[np.float64]:
        """Return the column as numeric targets, (m, 1)."""
        return np.frombuffer(self._numbers).reshape(-1, 1)
