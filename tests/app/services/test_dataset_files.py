"""The canonical file of a dataset, and its local copy."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from chainrule.app.errors import AppError
from chainrule.app.services.dataset_files import CHUNK_BYTES, Content, Names, open_copy

NAMES = Names(("no", "yes"), ("x1",))


@given(
    arrays.arrays(
        st.sampled_from([np.uint8, np.float32, np.float64]),
        arrays.array_shapes(min_dims=2, max_dims=2),
        elements={"allow_nan": False},
    ),
    st.booleans(),
)
def test_the_file_is_safetensors_with_every_array_aligned(X: NDArray[np.generic], classified: bool) -> None:
    labels = np.arange(len(X), dtype=np.int32) if classified else None
    Y = None if classified else np.arange(2.0 * len(X)).reshape(-1, 2)
    content = Content(X, labels, Y)
    written = b"".join(content.chunks())
    assert len(written) == content.size_bytes
    read = safetensors.numpy.load(written)
    assert {name: array.tobytes() for name, array in read.items()} == {
        name: array.tobytes() for name, array in (("X", X), ("labels", labels), ("Y", Y)) if array is not None
    }
    assert read["X"].shape == X.shape
    at = len(content.header)
    for array in content.arrays.values():
        assert at % array.dtype.itemsize == 0
        at += array.nbytes


def test_an_array_in_another_order_of_memory_is_the_same_content() -> None:
    X = np.arange(12.0).reshape(3, 4)
    labels = np.zeros(3, dtype=np.int32)
    plain, transposed = Content(X, labels, None), Content(np.asfortranarray(X), labels, None)
    assert b"".join(plain.chunks()) == b"".join(transposed.chunks())


def test_pieces_are_views_of_the_arrays_of_at_most_a_chunk() -> None:
    X = np.zeros((CHUNK_BYTES + 1, 1), dtype=np.uint8)
    pieces = list(Content(X, np.zeros(len(X), dtype=np.int32), None).pieces())
    assert [len(piece) for piece in pieces[1:]] == [CHUNK_BYTES] * 4 + [4, CHUNK_BYTES, 1]
    X[-1] = 7
    assert bytes(pieces[-1]) == b"\7"


def test_names_belong_to_the_identity() -> None:
    pieces = [b"a", b"b"]
    hashes = {
        names.sha256(pieces)
        for names in (
            NAMES,
            Names(("yes", "no"), ("x1",)),
            Names(("no", "yes"), ("x2",)),
            Names((), ("no", "yes", "x1")),
        )
    }
    assert len(hashes) == 4
    assert NAMES.sha256([b"ab"]) == NAMES.sha256(pieces)


def test_what_is_stored_damaged_is_not_opened_and_leaves_no_file(tmp_path: Path) -> None:
    content = Content(np.ones((2, 1)), np.array([0, 1], dtype=np.int32), None)
    sha256 = NAMES.sha256(content.pieces())
    chunks = list(content.chunks())
    for damaged in (chunks[:-1], [], [*chunks, b"!"], [chunks[0], *chunks[:0:-1]]):
        with pytest.raises(AppError, match="does not match its hash"):
            open_copy(tmp_path / "copy", NAMES, sha256, damaged.__iter__, 0)
        assert list(tmp_path.iterdir()) == []
    assert open_copy(tmp_path / "copy", NAMES, sha256, content.chunks, 0)["X"].tolist() == [[1], [1]]
