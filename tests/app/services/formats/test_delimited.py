"""CSV and its relatives."""

import csv
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule.app.errors import LimitExceeded
from chainrule.app.services.formats import Limits
from tests.app.services.formats.files import LIMITS, class_names, over_limit, read_file, refusal

FLOWERS = "length,width,species\n1.5,2,setosa\n3,4.25,virginica\n5,6,setosa\n"
FINITE = st.floats(allow_nan=False, allow_infinity=False)
NAME = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20).map(str.strip).filter(bool)


def test_a_header_and_words_in_the_last_column_are_inferred() -> None:
    table = read_file(FLOWERS.encode())
    assert table.X.tolist() == [[1.5, 2], [3, 4.25], [5, 6]]
    assert table.feature_names == ["length", "width"]
    assert table.classes == ["setosa", "virginica"]
    assert class_names(table) == ["setosa", "virginica", "setosa"]
    assert table.report == {"format": "csv", "delimiter": ",", "header": True, "label_column": "species"}
    assert table.notes == [
        "The first line is a header (inferred).",
        "Column 'species' holds class labels: the last column, and its values are words.",
    ]


def test_without_a_header_columns_are_named_by_position() -> None:
    table = read_file(b"1,2,a\n3,4,b\n")
    assert table.feature_names == ["column_1", "column_2"]
    assert table.X.tolist() == [[1, 2], [3, 4]]
    assert table.report["header"] is False
    assert table.notes[0] == "The first line is a sample, not a header (inferred)."


@pytest.mark.parametrize(
    ("first", "second", "header"),
    [
        ("a,b,label", "1,2,x", True),
        ("0,1,2,label", "5,6,7,0", True),
        ("5.1,3.5,setosa", "4.9,3.0,setosa", False),
        ("setosa,5.1,3.5", "virginica,4.9,3.0", False),
        ("1,2,0", "3,4,1", False),
    ],
)
def test_a_header_has_words_where_the_next_line_has_numbers(first: str, second: str, header: bool) -> None:
    rows = [first, second, second.replace("setosa", "virginica"), second[:-1] + "9"]
    table = read_file("\n".join(rows).encode(), label_column="-1" if not first.startswith("setosa") else "0")
    assert table.report["header"] is header
    assert len(table.X) == 3 + (not header)


@pytest.mark.parametrize("cell", ["abc", "", "NA", "?", "nan"])
def test_a_first_sample_with_a_slip_does_not_pass_for_a_header(cell: str) -> None:
    refused = refusal(f"5.1,{cell},1\n4.9,3,0\n4.7,3,1\n".encode())
    assert "Line 1, column 'column_2'" in refused.detail


def test_a_header_is_what_the_client_says() -> None:
    named = read_file(b"1,2,3\n4,5,0\n6,7,1\n", header=True, label_column="3")
    assert named.feature_names == ["1", "2"]
    assert len(named.X) == 2
    assert named.notes[0] == "The first line is a header."
    unnamed = read_file(b"1,2,3\n4,5,0\n6,7,1\n", header=False, label_column="-1")
    assert len(unnamed.X) == 3
    assert "Line 1, column 'column_1' is 'length'" in refusal(FLOWERS.encode(), header=False).detail


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("quote", ["", '"'])
def test_delimiters_line_ends_quotes_and_a_byte_order_mark_change_nothing(
    delimiter: str, ending: str, bom: str, quote: str
) -> None:
    lines = [delimiter.join(f"{quote}{cell}{quote}" for cell in line.split(",")) for line in FLOWERS.splitlines()]
    plain, table = read_file(FLOWERS.encode()), read_file((bom + ending.join(lines)).encode())
    assert table.report == plain.report | {"delimiter": delimiter}
    assert (table.X.tolist(), table.feature_names) == (plain.X.tolist(), plain.feature_names)
    assert class_names(table) == class_names(plain)


def test_delimiters_within_quotes_do_not_count() -> None:
    table = read_file(b'"a,b,c,d";"label"\n1;x\n2;"y; z"\n')
    assert table.feature_names == ["a,b,c,d"]
    assert table.classes == ["x", "y; z"]


def test_blank_lines_are_skipped_wherever_they_are() -> None:
    table = read_file(b"\n  \na;b;label\n\n1;2;x\n\r\n   \n3;4;y\n\n")
    assert table.X.tolist() == [[1, 2], [3, 4]]
    assert table.report["delimiter"] == ";"


def test_a_line_of_empty_cells_is_no_blank_line() -> None:
    refused = refusal(b"a,b,label\n1,2,x\n,,\n3,4,y\n")
    assert [error.detail.split(";")[0] for error in refused.errors] == [
        "Line 3, column 'label' is empty",
        "Line 3, column 'a' is empty",
        "Line 3, column 'b' is empty",
    ]


def test_lines_are_counted_as_an_editor_does() -> None:
    refused = refusal(b'a,label\n\n1,"two\nlines"\nx,y\n')
    assert refused.detail.startswith("Line 5, column 'a' is 'x'; it needs a finite number.")


@pytest.mark.parametrize("column", ["species", "2", "-1"])
def test_the_label_column_is_named_or_numbered(column: str) -> None:
    table = read_file(FLOWERS.encode(), label_column=column)
    assert table.report["label_column"] == "species"
    assert table.notes[1] == "Column 'species' holds class labels: named by the request."


@pytest.mark.parametrize(("position", "names"), [(0, ["b", "c"]), (1, ["a", "c"]), (2, ["a", "b"])])
def test_the_label_column_may_be_anywhere(position: int, names: list[str]) -> None:
    rows = [["a", "b", "c"], ["1", "2", "3"], ["4", "5", "6"]]
    for row, word in zip(rows[1:], ["yes", "no"], strict=True):
        row[position] = word
    table = read_file("\n".join(map(",".join, rows)).encode(), label_column="abc"[position])
    assert table.feature_names == names
    assert class_names(table) == ["yes", "no"]
    assert table.X.tolist() == [[value for value in (1, 2, 3) if value != position + 1],
                                [value for value in (4, 5, 6) if value != position + 4]]  # fmt: skip


@pytest.mark.parametrize("column", ["petal", "3", "-4", "²", "--1", "1_0", "9" * 5000, ""])
def test_a_column_that_is_not_there_lists_those_that_are(column: str) -> None:
    refused = refusal(FLOWERS.encode(), label_column=column)
    assert refused.errors[0].pointer == "/label_column"
    assert "the columns are: length, width, species (or their numbers" in refused.detail
    assert len(refused.detail) < 300
    assert refusal(FLOWERS.encode(), target_columns=(column,)).errors[0].pointer == "/target_columns"


def test_a_first_column_named_label_is_the_label() -> None:
    table = read_file(b"label,pixel0,pixel1\n3,0,255\n4,1,254\n3,2,3\n4,1,1\n")
    assert table.feature_names == ["pixel0", "pixel1"]
    assert class_names(table) == ["3", "4", "3", "4"]
    assert "the first column, by its name" in table.notes[1]
    assert read_file(b"y,x,label\n1,2,a\n1,3,b\n").report["label_column"] == "label"


def test_whole_numbers_that_repeat_are_labels_and_others_targets() -> None:
    labels = read_file(b"a,b\n" + b"".join(b"%d,%d\n" % (n, n % 3) for n in range(12)))
    assert labels.classes == ["0", "1", "2"]
    assert "with only 3 different whole numbers" in labels.notes[1]
    targets = read_file(b"a,b\n" + b"".join(b"%d,%d.5\n" % (n, n) for n in range(12)))
    assert targets.Y is not None
    assert targets.Y.tolist() == [[n + 0.5] for n in range(12)]
    assert targets.report["target_columns"] == ["b"]
    assert "name it in label_column" in targets.notes[1]
    many = read_file(b"a,b\n" + b"".join(b"%d,%d\n" % (n, n) for n in range(2000)))
    assert many.Y is not None


def test_numeric_labels_are_named_as_whole_numbers_in_numeric_order() -> None:
    table = read_file(b"a,label\n1,10\n2,9\n3,2\n4,10.0\n5,9.\n")
    assert table.classes == ["2", "9", "10"]
    assert class_names(table) == ["10", "9", "2", "10", "9"]
    assert read_file(b"a,label\n1,-1\n2,1\n", label_column="label").classes == ["-1", "1"]
    assert read_file(b"a,label\n1,1.0\n2,1.5\n", label_column="label").classes == ["1.0", "1.5"]


def test_target_columns_are_numbers_to_predict_wherever_they_are() -> None:
    table = read_file(b"t,a,u,b\n1,2,3,4\n5,6,7,8\n", target_columns=("u", "0"))
    assert table.Y is not None
    assert table.Y.tolist() == [[3, 1], [7, 5]]
    assert table.X.tolist() == [[2, 4], [6, 8]]
    assert table.feature_names == ["a", "b"]
    assert table.report["target_columns"] == ["u", "t"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"target_columns": ("a", "0")}, "names a column twice"),
        ({"target_columns": ("a", "b", "c")}, "names every column"),
        ({"target_columns": ("a",), "label_column": "b"}, "not both"),
    ],
)
def test_target_columns_that_make_no_sense_are_refused(options: dict[str, Any], says: str) -> None:
    assert says in refusal(b"a,b,c\n1,2,3\n4,5,6\n", **options).detail


def test_ragged_rows_are_named_with_their_columns() -> None:
    refused = refusal(b"a,b,label\n1,2,x\n1,2,3,y\n1\n3,4,y\n")
    assert [error.detail for error in refused.errors] == [
        "Line 3 has 4 columns; the first line has 3.",
        "Line 4 has 1 columns; the first line has 3.",
    ]
    assert refused.detail.endswith("(2 problems are listed.)")


@pytest.mark.parametrize(
    "cell",
    [
        "abc",
        "1_000",
        "\uff11\uff12",
        "0x10",
        "1e400",
        "-1e400",
        "nan",
        "NaN",
        "inf",
        "-Infinity",
        "1 2",
        "1.2.3",
        "True",
        "\u0663",
    ],
)
def test_what_is_no_finite_number_is_refused_by_line_and_column(cell: str) -> None:
    refused = refusal(f"a,b,label\n1,2,x\n3,{cell},y\n".encode())
    assert refused.detail.startswith(f"Line 3, column 'b' is '{cell}'; it needs a finite number.")
    target = refusal(f"a,b\n1,2\n3,{cell}\n".encode(), target_columns=("b",))
    assert target.detail.startswith(f"Line 3, column 'b' is '{cell}'; it needs a finite number.")


@pytest.mark.parametrize(("cell", "value"), [(" 1 ", 1), ("+1", 1), (".5", 0.5), ("5.", 5), ("-1E-3", -0.001)])
def test_numbers_are_read_in_all_the_ways_files_write_them(cell: str, value: float) -> None:
    assert read_file(f"a,label\n{cell},x\n2,y\n".encode()).X[0, 0] == value


def test_numbers_near_the_largest_are_read() -> None:
    table = read_file(b"a,b,label\n1.7e308,1.7e308,x\n-1.7e308,5e-324,y\n")
    assert table.X.tolist() == [[1.7e308, 1.7e308], [-1.7e308, 5e-324]]


def test_a_decimal_comma_is_explained() -> None:
    assert "Write decimals with a point." in refusal(b"a;b;label\n1,5;2,5;x\n1,5;3;y\n").detail


@pytest.mark.parametrize("cell", ["", " ", "nan", "inf", "1e400"])
def test_a_label_or_target_that_is_missing_is_refused_by_line_and_column(cell: str) -> None:
    for column in (None, "b"):
        assert refusal(f"a,b\n1,2\n3,{cell}\n".encode(), label_column=column).detail.startswith(
            "Line 3, column 'b' is "
        )


def test_a_few_words_among_numeric_targets_are_refused_by_line() -> None:
    rows = "".join(f"{n},{n}.5\n" for n in range(9))
    assert "Line 11, column 'b' is 'oops', while most" in refusal(f"a,b\n{rows}1,oops\n".encode()).detail


def test_no_more_than_20_problems_are_listed() -> None:
    refused = refusal(b"a,b,label\n1,2,w\n" + b"x,y,z\n" * 1000, header=True)
    assert len(refused.errors) == 20
    assert refused.detail.endswith("(20 problems are listed.)")
    wide = refusal(b"1," * 5000 + b"1\n" + b"x," * 5000 + b"1\n")
    assert len(wide.errors) == 20


def test_long_cells_are_cut_in_messages() -> None:
    assert len(refusal(b"a,label\n1,x\n" + b"z" * 100_000 + b",y\n").detail) < 300


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "The file is empty"),
        (b"\n \r\n\n", "The file is empty"),
        (b'""', "The file is empty"),
        (b"\xef\xbb\xbf", "The file is empty"),
        (b"a,b,label\n", "a header and no samples"),
        (b"a,b,label", "a header and no samples"),
        (b"1\n2\n3\n", "one column"),
        (b"1\x00,2\x00\n", "binary"),
        ("a,b\n1,2\n".encode("utf-16"), "Line 1 is not UTF-8"),
        (b"a,b,label\n1,2,x\n1,2,caf\xe9\n", "Line 3 is not UTF-8"),
        (b"a,label\n" + b"1,x\n" * 50_000 + b"2,\xff\n", "Line 50002 is not UTF-8"),
        (b"a,a,label\n1,2,x\n", "Two have the column name 'a'"),
        (b"a,b,label\n1,2,x\n3,4,x\n", "All samples have the label 'x'"),
        (b'a,b,label\n1,2,"x\n3,4,y\n', "From line 2 on"),
        (b'a,b,label\n1,2,"x"y\n3,4,y\n', "From line 2 on"),
        (b"a,label\n1," + b"x" * 140_000 + b"\n2,y\n", "field larger than field limit"),
        (b"a,label\n1," + b"x" * 201 + b"\n2,y\n", "label of 201 characters"),
        (b"a" * 201 + b",label\n1,x\n2,y\n", "201 characters"),
        (b"a,label\n1,x\n2,y\n" + b" " * 70_000 + b"\x00,z\n", "Line 4, column 'a'"),
    ],
)
def test_a_file_that_is_wrong_as_a_whole_says_how(content: bytes, says: str) -> None:
    assert says in refusal(content, format="csv").detail


def test_a_label_with_a_null_character_is_refused() -> None:
    content = b"a,label\n" + b"1,x\n" * 20_000 + b"2,y\x00z\n"
    assert "cannot be stored" in refusal(content).detail


def test_one_sample_can_be_a_regression_and_no_classification() -> None:
    table = read_file(b"a,b\n1,2.5\n")
    assert table.X.tolist() == [[1]]
    assert table.Y is not None
    assert "at least two classes" in refusal(b"a,b\n1,x\n").detail


def test_columns_without_a_name_are_named_by_position_and_noted() -> None:
    table = read_file(b",a,label\n0,1,x\n1,2,y\n")
    assert table.feature_names == ["column_1", "a"]
    assert "Columns without a name were named by their position." in table.notes


def test_too_many_different_labels_are_refused_and_too_many_numbers_are_targets() -> None:
    words = b"a,b\n" + b"".join(b"1,w%d\n" % n for n in range(1001))
    assert "more than 1,000 different labels" in refusal(words).detail
    numbers = b"a,b\n" + b"".join(b"1,%d\n" % n for n in range(1001))
    assert "more than 1,000 different labels" in refusal(numbers, label_column="b").detail
    assert read_file(numbers).Y is not None
    assert len(read_file(words[: words.rindex(b"1,w")]).classes) == 1000


def test_the_limit_of_values_counts_features_and_not_labels() -> None:
    content = b"a,b,label\n" + b"1,2,x\n3,4,y\n" * 5
    assert len(read_file(content, limits=Limits(1 << 20, 20)).X) == 10
    assert over_limit(content, limits=Limits(1 << 20, 19)) == "CHAINRULE_MAX_DATASET_VALUES"


def test_columns_without_end_are_refused_before_they_fill_the_memory() -> None:
    limits = Limits(1 << 28, 10**9)
    assert "is longer than" in refusal(b"11," * 2_000_000, limits=limits).detail
    quoted = (b"11," * 1000 + b'"\n",') * 2000
    assert "is longer than" in refusal(quoted, limits=limits).detail
    many = refusal(b",".join([b"1"] * 100_003) + b"\n", limits=limits, header=False)
    assert "100,002 features" in many.detail
    last = ",".join([*map(str, range(50_000)), "a", "a"]).encode()
    assert "'a'" in refusal(last, limits=limits, header=True).detail


def test_the_features_of_a_text_file_are_divided_if_asked() -> None:
    table = read_file(b"a,label\n2,x\n6,y\n", divide_by=4.0)
    assert table.X.tolist() == [[0.5], [1.5]]
    assert table.notes[-1] == "Features were divided by 4."


@given(
    samples=st.integers(1, 5).flatmap(
        lambda width: st.lists(st.lists(FINITE, min_size=width, max_size=width), min_size=2, max_size=20)
    ),
    words=st.lists(NAME.filter(lambda name: not name[0].isascii() or name[0].isalpha()), min_size=2, unique=True),
    delimiter=st.sampled_from(",;\t"),
    header=st.booleans(),
    data=st.data(),
)
def test_a_written_table_reads_back_the_same(
    samples: list[list[float]], words: list[str], delimiter: str, header: bool, data: st.DataObject
) -> None:
    words = [f"w{word}" for word in words]
    labels = [words[n] if n < 2 else data.draw(st.sampled_from(words)) for n in range(len(samples))]
    position = data.draw(st.integers(0, len(samples[0])))
    names = [f"feature {n}" for n in range(len(samples[0]))]
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter)
    if header:
        writer.writerow([*names[:position], "kind", *names[position:]])
    for row, label in zip(samples, labels, strict=True):
        writer.writerow([*map(repr, row[:position]), label, *map(repr, row[position:])])
    table = read_file(file.getvalue().encode(), header=header, label_column=str(position))
    assert np.array_equal(table.X, np.array(samples))
    assert class_names(table) == labels
    assert table.classes == sorted(set(labels))
    if header:
        assert table.feature_names == names


@given(
    samples=st.integers(2, 5).flatmap(
        lambda width: st.lists(st.lists(FINITE, min_size=width, max_size=width), min_size=1, max_size=20)
    )
)
def test_a_written_regression_reads_back_the_same(samples: list[list[float]]) -> None:
    content = "\n".join(",".join(map(repr, row)) for row in samples).encode()
    table = read_file(content, header=False, target_columns=("-1", "0")[: len(samples[0]) - 1])
    chosen = [len(samples[0]) - 1, 0][: len(samples[0]) - 1]
    assert table.Y is not None
    assert np.array_equal(table.Y, np.array(samples)[:, chosen])
    assert np.array_equal(table.X, np.delete(np.array(samples), chosen, axis=1))


def test_a_refusal_of_size_is_no_other_refusal() -> None:
    assert isinstance(refusal(b"1,2,3\n" * 50_001, target_columns=("0",)), LimitExceeded)
    assert LIMITS.values == 100_000


@pytest.mark.parametrize(
    ("content", "said", "features"),
    [
        ("w,a,y\n2,1,yes\n0,3,no\n", {}, ["a"]),
        ("a,w,y\n1,2,yes\n3,0,no\n", {"label_column": "y"}, ["a"]),
        ("a,y,w\n1,yes,2\n3,no,0\n", {}, ["a"]),
        ("class,a,w\nyes,1,2\nno,3,0\n", {}, ["a"]),
        ("a,t,w,u\n1,8,2,9\n3,7,0,6\n", {"target_columns": ("t", "u")}, ["a"]),
        ("word,w,a,y\nx,2,1,yes\nz,0,3,no\n", {}, ["word", "a"]),
    ],
    ids=["first", "between", "last", "label first", "targets", "beside categories"],
)
def test_a_column_of_weights_is_neither_feature_nor_label(content: str, said: Any, features: list[str]) -> None:
    table = read_file(content.encode(), weight_column="w", **said)
    assert table.weights is not None
    assert table.weights.tolist() == [2, 0]
    assert table.feature_names == features
    assert table.X[:, -1].tolist() == [1, 3]
    if table.classes:
        assert class_names(table) == ["yes", "no"]
    else:
        assert table.Y is not None
        assert table.Y.tolist() == [[8, 9], [7, 6]]
    assert table.report["weight_column"] == "w"
    assert "Column 'w' holds the samples' weights: named by the request." in table.notes


def test_a_column_of_weights_can_be_named_by_its_number() -> None:
    table = read_file(b"1,x,0.5\n3,y,0.25\n", weight_column="-1", header=False)
    assert table.weights is not None
    assert table.weights.tolist() == [0.5, 0.25]
    assert (
        table.notes[1]
        == "Column 'column_2' holds class labels: the last column but the weights, and its values are words."
    )


@pytest.mark.parametrize(
    ("content", "said", "pointer", "words"),
    [
        ("a,w,y\n1,2,yes\n3,-0.5,no\n", {}, "/file", "Line 3, column 'w' is -0.5; a weight must be at least 0."),
        ("a,w,y\n1,inf,yes\n3,1,no\n", {}, "/file", "Line 2, column 'w' is 'inf'; it needs a finite number."),
        ("a,w,y\n1,heavy,yes\n3,1,no\n", {}, "/file", "It holds the samples' weights."),
        ("a,w,y\n1,0,yes\n3,0,no\n", {}, "/weight_column", "The weights of all samples are 0"),
        ("a,b,y\n1,0,yes\n3,0,no\n", {}, "/weight_column", "There is no column 'w'; the columns are: a, b, y"),
        ("a,w,y\n1,1,yes\n3,2,no\n", {"label_column": "w"}, "/weight_column", "Column 'w' holds labels or targets"),
        ("a,w,y\n1,1,yes\n3,2,no\n", {"categorical_columns": ("w",)}, "/categorical_columns", "or weights; name"),
        ("w,y\n1,yes\n2,no\n", {}, "/weight_column", "No column is left for the features"),
        (
            "t,w,u\n1,1,2\n3,2,3\n",
            {"target_columns": ("t", "u")},
            "/weight_column",
            "No column is left for the features",
        ),
    ],
)
def test_weights_that_weigh_nothing_sensible_are_refused(content: str, said: Any, pointer: str, words: str) -> None:
    error = refusal(content.encode(), weight_column="w", **said)
    assert error.errors[0].pointer == pointer
    assert words in error.detail
