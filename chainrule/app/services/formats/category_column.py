"""A feature column of words: each different one once, and each sample's position among them."""

from array import array

import numpy as np
from numpy.typing import NDArray

from chainrule.app.services.formats.labels import number, ordered
from chainrule.app.services.formats.table import MOST_NAME_CHARACTERS, check_names, refuse, shown

MOST_CATEGORIES = 1000


class CategoryColumn:
    """Gathers one column of categories.

    Args:
        name: of the column.
        said: whether the client says that it holds categories; then they may look like numbers.
        pointer: where the column was sent.
    """

    def __init__(self, name: str, *, said: bool, pointer: str = "/file") -> None:
        self.name = name
        self.said = said
        self._pointer = pointer
        self._known: dict[str, int] = {}
        self._positions = array("i")
        self._first = (0, "")

    def add(self, line: int, cell: str) -> str | None:
        """Take the next sample's cell; returns what is wrong with it.

        Raises:
            InvalidInput: there are too many categories.
        """
        text = cell.strip()
        if not self._first[0]:
            self._first = (line, text)
        if not text:
            return f"Line {line}, column {shown(self.name)} is empty; it needs a category."
        if len(text) > MOST_NAME_CHARACTERS:
            return (
                f"Line {line}, column {shown(self.name)} has a category of {len(text):,} characters, more than "
                f"{MOST_NAME_CHARACTERS}."
            )
        if not self.said and number(text) is not None:
            first, word = self._first
            return (
                f"Line {first}, column {shown(self.name)} is {shown(word)} and line {line} has the number {text}; "
                "mend it, or name the column in categorical_columns if its values are categories."
            )
        if text not in self._known:
            self._room()
        self._positions.append(self._known.setdefault(text, len(self._known)))
        return None

    def codes(self) -> tuple[NDArray[np.int32], tuple[str, ...]]:
        """Return each sample's position among the categories, and the categories in order.

        Raises:
            InvalidInput: a name cannot be stored.
        """
        names, categories = ordered(list(self._known))
        check_names(categories, "category", self._pointer)
        place = {name: code for code, name in enumerate(categories)}
        positions = np.frombuffer(self._positions, dtype=np.intc)
        return np.array([place[name] for name in names], dtype=np.int32)[positions], tuple(categories)

    def _room(self) -> None:
        if len(self._known) == MOST_CATEGORIES:
            raise refuse(
                f"Column {shown(self.name)} has more than {MOST_CATEGORIES:,} different words, too many for "
                "categories; leave the column out.",
                self._pointer,
            )
