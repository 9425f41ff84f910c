"""Feature columns of words, in CSV and in rows."""

from typing import Any

import numpy as np
import pytest

from chainrule.app.errors import InvalidInput
from chainrule.app.services.formats import Table, rows
from chainrule.app.services.formats.category_column import MOST_CATEGORIES
from tests.app.services.formats.files import LIMITS, check, read_file, refusal

SHIRTS = """size,colour,zip,sold
1.5,red,01067,yes
2,blue,10115,no
3,red,01067,yes
"""


def read_rows(samples: Any, **options: Any) -> Table:
    table = rows.read(samples, None, ["a", "b"] + ["a"] * (len(samples) - 2), options.get("names"), LIMITS)
    check(table)
    return table


def test_columns_of_words_become_positions_among_sorted_names() -> None:
    table = read_file(SHIRTS.encode())
    assert table.X.tolist() == [[1.5, 1, 1067], [2, 0, 10115], [3, 1, 1067]]
    assert table.categories == (None, ("blue", "red"), None)
    assert table.notes[-1] == (
        "Column 'colour' holds categories: its values are words; name it in label_column if they are the labels."
    )


def test_numbers_are_categories_where_the_client_says_so() -> None:
    table = read_file(SHIRTS.encode(), categorical_columns=("zip", "0"))
    assert table.categories == (("1.5", "2", "3"), ("blue", "red"), ("01067", "10115"))
    assert table.X.tolist() == [[0, 1, 0], [1, 0, 1], [2, 1, 0]]
    assert table.notes[-1] == "Column 'zip' holds categories: named by the request."


@pytest.mark.parametrize("label", ["sold", "size", "colour", "zip"])
def test_categories_stay_with_their_column_wherever_the_label_is(label: str) -> None:
    table = read_file(SHIRTS.encode(), label_column=label)
    found = dict(zip(table.feature_names, table.column_categories, strict=True))
    assert found == {
        name: column
        for name, column in (("size", None), ("colour", ("blue", "red")), ("zip", None), ("sold", ("no", "yes")))
        if name != label
    }
    values = dict(zip(table.feature_names, table.X.T.tolist(), strict=True))
    for name, expected in (("colour", [1, 0, 1]), ("sold", [1, 0, 1]), ("zip", [1067, 10115, 1067])):
        assert name == label or values[name] == expected


def test_categories_stay_with_their_column_where_targets_are_named() -> None:
    table = read_file(SHIRTS.encode(), target_columns=("size",))
    assert table.feature_names == ["colour", "zip", "sold"]
    assert table.categories == (("blue", "red"), None, ("no", "yes"))
    assert table.X.tolist() == [[1, 1067, 1], [0, 10115, 0], [1, 1067, 1]]


def test_whole_numbers_are_one_category_with_and_without_decimals() -> None:
    table = read_file(b"n,label\n10,a\n9.0,b\n10.0,a\n", categorical_columns=("n",))
    assert (table.categories, table.X.tolist()) == ((("9", "10"),), [[1], [0], [1]])


def test_dividing_leaves_categories_alone() -> None:
    table = read_file(SHIRTS.encode(), divide_by=2)
    assert table.X[:, :2].tolist() == [[0.75, 1], [1, 0], [1.5, 1]]
    assert table.notes[-1] == "Numeric features were divided by 2."


@pytest.mark.parametrize(
    ("content", "options", "pointer", "says"),
    [
        ("a,b,l\n1,x,p\n2,3,q\n", {}, "/file", "Line 2, column 'b' is 'x' and line 3 has the number 3; mend it"),
        ("a,b,l\n1,2,p\n2,x,q\n", {}, "/file", "Line 3, column 'b' is 'x'; it needs a finite number. Name the"),
        ("a,b,l\n1,x,p\n2,,q\n", {}, "/file", "Line 3, column 'b' is empty; it needs a category."),
        ("a,b,l\n1,?,p\n2,x,q\n", {}, "/file", "Line 2, column 'b' is '?'; it needs a finite number. Name the"),
        ("a,b,l\n1,2,p\n2,3,q\n", {"categorical_columns": ("c",)}, "/categorical_columns", "There is no column 'c'"),
        ("a,b,l\n1,2,p\n2,3,q\n", {"categorical_columns": ("l",)}, "/categorical_columns", "'l' holds labels"),
        ("a,b,l\n1,2,3\n2,x,4\n", {"target_columns": ("b",)}, "/file", "Line 3, column 'b' is 'x'"),
        ("a,l\nx,p\n" + "y" * 201 + ",q\n", {}, "/file", "has a category of 201 characters"),
        ("a,l\n" + "".join(f"w{n},{n % 2}\n" for n in range(MOST_CATEGORIES + 1)), {}, "/file",
         "Column 'a' has more than 1,000 different words, too many for categories; leave the column out."),
    ],
)  # fmt: skip
def test_what_is_no_column_of_categories_is_refused_by_place(
    content: str, options: dict[str, Any], pointer: str, says: str
) -> None:
    refused = refusal(content.encode(), **options)
    assert says in refused.detail
    assert refused.errors[0].pointer == pointer


def test_as_many_categories_as_are_allowed_are_taken() -> None:
    content = "a,l\n" + "".join(f"w{n},{n % 2}\n" for n in range(MOST_CATEGORIES))
    table = read_file(content.encode())
    assert len(table.categories[0] or ()) == MOST_CATEGORIES
    assert sorted(table.X[:, 0].tolist()) == list(range(MOST_CATEGORIES))


def test_categories_are_for_csv_and_rows() -> None:
    content = np.zeros((3, 3)).tobytes()
    refused = refusal(content, format="npy", categorical_columns=("x1",))
    assert refused.errors[0].pointer == "/categorical_columns"
    assert "send categories in CSV or JSON" in refused.detail


def test_texts_in_rows_are_categories() -> None:
    table = read_rows([[1, "red"], [2, "blue"], [3, "red"]], names=["size", "colour"])
    assert (table.categories, table.X.tolist()) == ((None, ("blue", "red")), [[1, 1], [2, 0], [3, 1]])
    assert "Column 'colour' holds categories: its values are texts." in table.notes
    assert read_rows([["10"], ["9"]]).categories == (("9", "10"),)


@pytest.mark.parametrize(
    ("samples", "pointer", "says"),
    [
        ([[1, "red"], [2, 3]], "/samples/1/1", "Column x2 is a text in row 0 and 3 in row 1; send all its categories"),
        ([[1, 2], [2, "red"]], "/samples/1/1", "Row 1, column 1 (from 0) is 'red'; the column holds numbers."),
        ([[1, 2], [2, "3"]], "/samples/1/1", "Row 1, column 1 (from 0) is '3'; the column holds numbers."),
        ([[1, "red"], [2, " "]], "/samples/1/1", "Row 1, column 'x2' is empty; it needs a category."),
        ([[1, "red"], [2, "\0"]], "/samples", "cannot be stored"),
        ([[1, "red"], [2, "\ud83d"]], "/samples", "cannot be stored"),
        ([[1, "red"], [2]], "/samples/1", "Row 1 has 1 values"),
    ],
)  # fmt: skip
def test_rows_of_mixed_columns_are_refused_by_place(samples: Any, pointer: str, says: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_rows(samples)
    assert says in refused.value.detail
    assert refused.value.errors[0].pointer == pointer


def test_rows_sent_later_name_their_categories_and_never_count_them() -> None:
    known: Any = (None, ("1", "3", "red"))
    assert rows.coded([[0.5, "red"], [1, 3], [2, 3.0], [3, "1"]], known, ("a", "b"), "/samples").tolist() == [
        [0.5, 2], [1, 1], [2, 1], [3, 0],
    ]  # fmt: skip
    with pytest.raises(InvalidInput, match="Column b has no category '0'; it has 1, 3, red") as refused:
        rows.coded([[0.5, "red"], [1, 0]], known, ("a", "b"), "/samples")
    assert refused.value.errors[0].pointer == "/samples/1/1"
