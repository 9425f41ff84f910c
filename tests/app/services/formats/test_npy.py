"""NPY: one array."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from chainrule.app.services.formats import Limits
from tests.app.services.formats.files import class_names, npy, npy_claiming, over_limit, read_file, refusal

SMALL = np.array([[0.5, 2.0, 1.0], [1.5, 3.0, 0.0], [2.5, 4.0, 1.0], [3.5, 5.0, 0.0]])
NUMBERS = ("<f8", ">f8", "<f4", ">f4", "<f2", "<i8", ">i4", "<i2", "|i1", "|u1", "<u2", ">u4", "<u8")


def test_the_last_column_holds_labels_if_its_whole_numbers_repeat() -> None:
    table = read_file(npy(SMALL))
    assert table.X.tolist() == [[0.5, 2], [1.5, 3], [2.5, 4], [3.5, 5]]
    assert table.feature_names == ["x1", "x2"]
    assert class_names(table) == ["1", "0", "1", "0"]
    assert table.report == {"format": "npy"}
    assert table.notes == [
        "The last column holds the targets; the others are features.",
        "The targets have 2 different values: class labels; name them in target_columns if they are numbers to "
        "predict.",
    ]


def test_the_last_column_holds_targets_otherwise() -> None:
    table = read_file(npy(SMALL + 0.25))
    assert table.Y is not None
    assert table.Y.tolist() == [[1.25], [0.25], [1.25], [0.25]]


def test_columns_are_chosen_by_number_or_name() -> None:
    labels = read_file(npy(SMALL), label_column="1")
    assert labels.feature_names == ["x1", "x3"]
    assert class_names(labels) == ["2", "3", "4", "5"]
    targets = read_file(npy(SMALL), target_columns=("x3", "0"))
    assert targets.feature_names == ["x2"]
    assert targets.Y is not None
    assert targets.Y.tolist() == SMALL[:, [2, 0]].tolist()
    single = read_file(npy(SMALL), target_columns=("-1",))
    assert single.Y is not None
    assert single.Y.tolist() == SMALL[:, [2]].tolist()
    assert "There is no column 'x9'" in refusal(npy(SMALL), label_column="x9").detail
    assert "every column" in refusal(npy(SMALL), target_columns=("0", "1", "2")).detail


@pytest.mark.parametrize("dtype", [*NUMBERS, "?"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_types_byte_orders_memory_orders_and_versions_are_read(
    dtype: str, order: str, version: tuple[int, int]
) -> None:
    array = np.array([[0, 1, 1], [1, 0, 0], [1, 1, 1], [0, 0, 0]]).astype(dtype)
    made = np.asfortranarray(array) if order == "F" else array
    table = read_file(npy(made, version))
    assert table.X.tolist() == [[0, 1], [1, 0], [1, 1], [0, 0]]
    assert class_names(table) == (["True", "False"] * 2 if dtype == "?" else ["1", "0"] * 2)


def test_bytes_stay_bytes_until_they_are_divided() -> None:
    array = np.array([[0, 255, 1], [51, 102, 0]], dtype=np.uint8)
    kept = read_file(npy(array))
    assert kept.X.dtype == np.uint8
    assert kept.notes[-1] == "The features are bytes; divide_by=255 makes them numbers from 0 to 1."
    divided = read_file(npy(array), divide_by=255.0)
    assert divided.X.dtype == np.float32
    assert divided.X.tolist() == [[0, 1], [np.float32(0.2), np.float32(0.4)]]


@given(
    arrays.arrays(
        st.sampled_from(NUMBERS),
        arrays.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=8),
        elements={"allow_nan": False, "allow_infinity": False},
    ),
    st.booleans(),
)
def test_a_saved_array_reads_back_the_same(array: NDArray[np.generic], fortran: bool) -> None:
    table = read_file(npy(np.asfortranarray(array) if fortran else array), target_columns=("0",))
    assert table.Y is not None
    assert np.array_equal(table.X, array[:, 1:].astype(np.float64))
    assert np.array_equal(table.Y, array[:, :1].astype(np.float64))


@pytest.mark.parametrize("place", [(0, 0), (2, 1), (3, 2)])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_named_by_row_and_column(place: tuple[int, int], value: float) -> None:
    array = SMALL.copy()
    array[place] = value
    detail = refusal(npy(array)).detail
    assert f"The array has {value} at row {place[0]}, column {place[1]} (counted from 0)" in detail


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.array([[1, "a"], [2, None]], dtype=object), "pickled"),
        (np.zeros((3, 2), dtype=[("a", "f4")]), "numbers of at most 8 bytes"),
        (np.zeros((3, 2), dtype=complex), "type '<c16'"),
        (np.zeros((3, 2), dtype="M8[s]"), "type '<M8[s]'"),
        (np.array([["1", "2"], ["3", "4"]]), "two dimensions of numbers"),
        (np.array([[b"1", b"2"], [b"3", b"4"]]), "two dimensions of numbers"),
        (np.zeros(3), "shape (3,)"),
        (np.zeros((3, 1)), "shape (3, 1)"),
        (np.zeros((3, 2, 2)), "shape (3, 2, 2)"),
        (np.float64(3.0), "single number"),
        (np.zeros((0, 4)), "is empty"),
        (np.zeros((4, 0)), "is empty"),
    ],
)
def test_arrays_that_are_no_table_of_numbers_are_refused(array: NDArray[np.generic], says: str) -> None:
    assert says in refusal(npy(np.asarray(array))).detail


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\x93NUMPY", "versions 1.0 to 3.0"),
        (b"\x93NUMPY\x04\x00", "versions 1.0 to 3.0"),
        (b"\x93NUMPY\x01\x00\x50", "truncated within its header"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + b"[" * 100, "a header of 2,147,483,647 bytes"),
        (npy_claiming("(2, 2)")[:-1], "truncated within its header"),
        (npy_claiming("(2, 2)", body=bytes(31)), "claims 32 bytes and 31 are there"),
        (npy_claiming("(2, 2)", body=bytes(33)), "longer than the 32 bytes"),
        (npy_claiming("(-1, 2)", body=bytes(32)), "claims the shape"),
        (npy_claiming("(2.0, 2)", body=bytes(32)), "claims the shape"),
        (npy_claiming("(True, 2)", body=bytes(16)), "claims the shape"),
        (npy_claiming("[2, 2]", body=bytes(32)), "claims the shape"),
        (npy_claiming(f"({1 << 63}, 2)"), "claims the shape"),
        (npy_claiming(f"({'1, ' * 33})", body=bytes(8)), "claims the shape"),
        (npy_claiming(f"(0, {1 << 62})"), "is empty"),
        (npy_claiming("(1" + "0" * 5000 + ", 2)"), "damaged header"),
        (npy_claiming("-" * 9000 + "1"), "damaged header"),
        (npy_claiming("(" * 4000), "damaged header"),
        (npy_claiming("__import__('os').abort()"), "damaged header"),
        (npy_claiming("(2, 2)", "'<U0'"), "type '<U0'"),
        (npy_claiming("(2, 2)", "'<f3'"), "type '<f3'"),
        (npy_claiming("(2, 2)", "'<f16'", bytes(64)), "type '<f16'"),
        (npy_claiming("(2, 2)", "'|O'"), "pickled"),
        (npy_claiming("(2, 2)", "17"), "type '17'"),
        (npy_claiming("(2, 2)", "'x" + "x" * 5000 + "'"), "type 'xxx"),
    ],
)
def test_a_header_is_judged_before_an_array_is_made(content: bytes, says: str) -> None:
    detail = refusal(content, format="npy").detail
    assert says in detail
    assert len(detail) < 400


def test_a_header_that_claims_terabytes_is_refused_before_they_are_allocated() -> None:
    assert over_limit(npy_claiming("(1000000000000, 2)")) == "CHAINRULE_MAX_UPLOAD_BYTES"
    assert over_limit(npy_claiming(f"({', '.join([str((1 << 63) - 1)] * 32)})")) == "CHAINRULE_MAX_UPLOAD_BYTES"
    assert over_limit(npy_claiming("(2, 200000)", "'|u1'")) == "CHAINRULE_MAX_DATASET_VALUES"
    wide = refusal(npy_claiming("(1, 1000000)", "'|u1'"), limits=Limits(1 << 28, 1 << 28))
    assert "999,999 features" in wide.detail


def test_a_header_python_2_wrote_is_read() -> None:
    content = npy_claiming("(2L, 2L)", body=np.array([[1.0, 0], [2, 1]]).tobytes())
    assert read_file(content, label_column="1").X.tolist() == [[1], [2]]


def test_booleans_that_are_no_zero_and_one_become_so() -> None:
    content = npy_claiming("(2, 2)", "'|b1'", bytes([7, 0, 0, 2]))
    table = read_file(content)
    assert table.X.tolist() == [[1], [0]]
    assert class_names(table) == ["False", "True"]


def test_a_division_that_overflows_is_refused() -> None:
    refused = refusal(npy(SMALL * 1e300), divide_by=1e-20, target_columns=("0",))
    assert refused.errors[0].pointer == "/divide_by"
    assert "has inf at row 0, column 0" in refused.detail
