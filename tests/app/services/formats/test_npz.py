"""NPZ: an archive of arrays."""

import struct
import zipfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from chainrule.app.services.formats import Limits
from tests.app.services.formats.files import archive, class_names, npy, npz, over_limit, read_file, refusal

X = np.array([[0.5, 2.0], [1.5, 3.0], [2.5, 4.0], [3.5, 5.0]])
LABELS = np.array([1, 0, 1, 0])


@pytest.mark.parametrize("samples", ["X", "x", "data", "samples", "images"])
@pytest.mark.parametrize("targets", ["y", "Y", "labels", "targets", "target", "label"])
@pytest.mark.parametrize("compressed", [True, False])
def test_samples_and_labels_are_found_by_their_usual_names(samples: str, targets: str, compressed: bool) -> None:
    table = read_file(npz(compressed=compressed, **{targets: LABELS, samples: X, "other": np.zeros(9)}))
    assert table.X.tolist() == X.tolist()
    assert class_names(table) == ["1", "0", "1", "0"]
    assert table.report == {"format": "npz"}
    assert table.notes[0] == f"{samples} holds the samples and {targets} their targets."


def test_the_array_of_labels_or_targets_may_be_named() -> None:
    content = npz(X=X, y=LABELS, age=np.array([10, 20, 30, 40]))
    labels = read_file(content, label_column="age")
    assert labels.classes == ["10", "20", "30", "40"]
    targets = read_file(content, target_columns=("age",))
    assert targets.Y is not None
    assert targets.Y.tolist() == [[10], [20], [30], [40]]
    assert "labels or targets ('weight')" in refusal(content, label_column="weight").detail
    assert "labels or targets ('X')" in refusal(content, label_column="X").detail
    assert "name one array" in refusal(content, target_columns=("y", "age")).detail
    assert "name one array" in refusal(content, label_column="y", target_columns=("age",)).detail


@pytest.mark.parametrize(
    ("y", "names"),
    [
        (np.array(["b", "a", "é", "b"]), ["b", "a", "é", "b"]),
        (np.array(["b", "a", "c", "b"]).astype(">U3"), ["b", "a", "c", "b"]),
        (np.array([b"b", b"a", b"c", b"b"]), ["b", "a", "c", "b"]),
        (np.array([True, False, True, True]), ["True", "False", "True", "True"]),
        (np.array([10, 9, 2, 2], dtype=np.uint8), ["10", "9", "2", "2"]),
        (np.array([-1.0, 1.0, 1.0, -1.0], dtype=np.float32), ["-1", "1", "1", "-1"]),
        (np.array([[3], [4], [3], [4]]), ["3", "4", "3", "4"]),
    ],
)
def test_labels_are_named_as_people_write_them(y: NDArray[np.generic], names: list[str]) -> None:
    assert class_names(read_file(npz(X=X, y=y))) == names


def test_numeric_labels_are_in_numeric_order() -> None:
    table = read_file(npz(X=X, y=np.array([10, 9, 2, 2])))
    assert table.classes == ["2", "9", "10"]
    assert read_file(npz(X=X, y=np.array([0.1, 0.2, 0.1, 0.2], np.float32)), label_column="y").classes == ["0.1", "0.2"]


@pytest.mark.parametrize("y", [np.array([0.5, 1.5, 2.5, 3.5]), np.array([1.0, 2.0, 3.0, 4.0]), np.eye(4)[:, :3]])
def test_other_targets_are_numbers_to_predict(y: NDArray[np.float64]) -> None:
    table = read_file(npz(X=X, y=y))
    assert table.Y is not None
    assert table.Y.tolist() == y.reshape(4, -1).tolist()
    assert any("regression" in note for note in table.notes)


def test_pictures_are_laid_out_as_features() -> None:
    pictures = np.arange(4 * 2 * 3, dtype=np.uint8).reshape(4, 2, 3)
    table = read_file(npz(images=np.asfortranarray(pictures), y=LABELS))
    assert table.X.tolist() == pictures.reshape(4, 6).tolist()
    assert table.X.dtype == np.uint8


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ({"X": X}, "The archive has the arrays X; it needs"),
        ({"y": LABELS}, "The archive has the arrays y; it needs"),
        (
            {"x_train": X, "y_train": LABELS},
            "The archive has the arrays x_train, y_train; it needs samples (X, x, data",
        ),
        ({"X": X, "y": LABELS[:3]}, "X has shape (4, 2) and type float64, y (3,)"),
        ({"X": X[:, 0], "y": LABELS}, "X has shape (4,)"),
        ({"X": X, "y": np.zeros((4, 2, 2))}, "y (4, 2, 2)"),
        ({"X": X.astype(str), "y": LABELS}, "type <U"),
        ({"X": X, "y": np.float64(3)}, "Array 'y' is a single number"),
        ({"X": X[:0], "y": LABELS[:0]}, "Array 'X' is empty"),
        ({"X": X, "y": np.array([["a"] * 2] * 4)}, "one-dimensional"),
        ({"X": X, "y": np.array([1, 2, "a", None], dtype=object)}, "Array 'y' is pickled"),
        ({"X": X.astype(object), "y": LABELS}, "Array 'X' is pickled"),
        ({"X": X.astype(complex), "y": LABELS}, "Array 'X' has type"),
        ({"X": X, "y": np.ones(4, dtype=int)}, "All samples have the label '1'"),
        ({"X": X, "y": np.array(["a", "b", "", "a"])}, "empty name"),
        ({"X": X, "y": np.array(["a", "b", "\ud800", "a"])}, "cannot be stored"),
        ({"X": X, "y": np.array([b"a", b"b", b"\xff", b"a"])}, "not Unicode"),
        ({"X": X, "y": np.array(["a", "b" * 201, "c", "a"])}, "201 characters"),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(made: dict[str, Any], says: str) -> None:
    assert says in refusal(npz(**made)).detail


def test_labels_that_are_no_code_points_are_refused() -> None:
    y = np.frombuffer(b"\xff\xff\xff\x7f" * 4, dtype="<U1")
    assert "not Unicode" in refusal(npz(X=X, y=y)).detail


def test_what_is_not_finite_is_named_by_array_row_and_column() -> None:
    for place, what in (((2, 1), "Array 'X' has nan at row 2, column 1"), ((0, 0), "Array 'X' has nan at row 0")):
        samples = X.copy()
        samples[place] = np.nan
        assert what in refusal(npz(X=samples, y=LABELS)).detail
    assert "Array 'y' has inf at row 3 (" in refusal(npz(X=X, y=np.array([1, 2, 3, np.inf]))).detail


def test_more_than_a_thousand_labels_are_refused_if_they_are_said_to_be_labels() -> None:
    content = npz(X=np.zeros((1001, 1)), y=np.arange(1001))
    assert read_file(content).Y is not None
    assert "more than 1,000 different labels" in refusal(content, label_column="y").detail


@given(st.data())
def test_a_saved_archive_reads_back_the_same(data: st.DataObject) -> None:
    finite = {"allow_nan": False, "allow_infinity": False}
    shape = data.draw(arrays.array_shapes(min_dims=2, max_dims=3, min_side=2, max_side=5))
    samples = data.draw(arrays.arrays(st.sampled_from(["f8", "f4", "u1", "i4"]), shape, elements=finite))
    words = [
        *data.draw(st.lists(st.sampled_from("abcdé"), min_size=len(samples) - 2, max_size=len(samples) - 2)),
        "x",
        "y",
    ]
    table = read_file(npz(compressed=data.draw(st.booleans()), X=samples, y=np.array(words)))
    assert np.array_equal(table.X, samples.reshape(len(samples), -1))
    assert class_names(table) == words
    assert table.classes == sorted(set(words))


def lying(content: bytes, claimed: int) -> bytes:
    """The archive with another unpacked size in the directory, for every member."""
    changed = bytearray(content)
    at = -1
    while (at := content.find(b"PK\x01\x02", at + 1)) >= 0:
        struct.pack_into("<I", changed, at + 24, claimed)
    return bytes(changed)


def test_a_bomb_is_refused_by_what_it_says_and_by_what_it_is() -> None:
    limits = Limits(1 << 20, 1 << 30)
    bomb = npz(X=np.zeros((64, 1 << 16)), y=np.arange(64))
    assert len(bomb) < 50_000
    assert over_limit(bomb, limits=limits) == "CHAINRULE_MAX_UPLOAD_BYTES"
    assert over_limit(lying(bomb, 500_000), limits=limits) == "CHAINRULE_MAX_UPLOAD_BYTES"
    modest = npz(X=np.zeros((64, 64)), y=np.arange(64))
    assert "damaged" in refusal(lying(modest, 1000), limits=limits).detail


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_unpack_without_bound_are_refused(method: int) -> None:
    content = archive({"X.npy": npy(X), "y.npy": npy(LABELS)}, method)
    assert "a method NumPy does not use" in refusal(content).detail


def test_an_archive_of_other_things_is_refused() -> None:
    assert "The archive has the arrays none" in refusal(archive({})).detail
    assert "Array 'X' is not a NumPy array" in refusal(archive({"X.npy": b"1,2", "y.npy": npy(LABELS)})).detail
    assert "Array 'y' is longer than" in refusal(archive({"X.npy": npy(X), "y.npy": npy(LABELS) + b"!"})).detail
    assert "too many arrays" in refusal(archive({f"array{n}": b"" for n in range(20_000)}, zipfile.ZIP_STORED),
                                        limits=Limits(1 << 24, 1 << 20)).detail  # fmt: skip
    assert len(refusal(archive({f"array{n}": b"" for n in range(1000)})).detail) < 1000


def test_an_encrypted_archive_is_refused() -> None:
    content = bytearray(npz(X=X, y=LABELS))
    for mark, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        at = -1
        while (at := content.find(mark, at + 1)) >= 0:
            content[at + offset] |= 1
    assert "Array 'X' is encrypted" in refusal(bytes(content)).detail


@pytest.mark.parametrize("compressed", [True, False])
def test_a_changed_number_is_found_by_its_checksum(compressed: bool) -> None:
    content = bytearray(npz(compressed=compressed, X=X, y=LABELS))
    at = content.find(X.tobytes()) if not compressed else content.find(b"PK\x03\x04", 4) - 12
    content[at] ^= 1
    assert "damaged" in refusal(bytes(content)).detail
