"""IDX: images in one file, labels in another."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from chainrule.app.services.formats import Limits
from tests.app.services.formats.files import IDX_TYPES, class_names, idx, over_limit, read_file, refusal, zipped

IMAGES = np.arange(4 * 2 * 3, dtype=np.uint8).reshape(4, 2, 3) * 10
LABELS = np.array([7, 2, 7, 10], dtype=np.uint8)


@pytest.mark.parametrize("packed", [(False, False), (True, False), (False, True), (True, True)])
def test_images_and_labels_are_read_gzipped_or_not(packed: tuple[bool, bool]) -> None:
    images, labels = (zipped(idx(a)) if zip_it else idx(a) for a, zip_it in zip((IMAGES, LABELS), packed, strict=True))
    table = read_file(images, labels)
    assert table.X.dtype == np.float32
    assert np.array_equal(table.X, (IMAGES.reshape(4, 6) / 255).astype(np.float32))
    assert class_names(table) == ["7", "2", "7", "10"]
    assert table.classes == ["2", "7", "10"]
    assert table.feature_names == [f"pixel_{n}" for n in range(6)]
    assert table.notes == [
        "4 samples of shape (2, 3) were laid out as 6 features.",
        "Features were divided by 255 (bytes become numbers from 0 to 1; divide_by=1 keeps them).",
    ]


def test_bytes_are_divided_as_the_client_says() -> None:
    kept = read_file(idx(IMAGES), idx(LABELS), divide_by=1.0)
    assert kept.X.dtype == np.uint8
    assert kept.X.tolist() == IMAGES.reshape(4, 6).tolist()
    assert len(kept.notes) == 1
    assert read_file(idx(IMAGES), idx(LABELS), divide_by=10.0).X.max() == 23


@pytest.mark.parametrize("dtype", sorted(IDX_TYPES))
def test_every_type_is_read(dtype: str) -> None:
    table = read_file(idx(IMAGES.astype(dtype)), idx(LABELS.astype(dtype)), divide_by=1.0)
    assert table.X.tolist() == IMAGES.astype(dtype).reshape(4, 6).tolist()
    assert class_names(table) == ["7", "2", "7", "10"]


@given(
    arrays.arrays(
        st.sampled_from(sorted(IDX_TYPES)),
        arrays.array_shapes(min_dims=2, max_dims=4, min_side=2, max_side=4),
        elements={"allow_nan": False, "allow_infinity": False},
    )
)
def test_a_written_file_reads_back_the_same(images: NDArray[np.generic]) -> None:
    labels = np.arange(len(images), dtype=np.int32)
    table = read_file(idx(images), idx(labels), divide_by=1.0)
    assert np.array_equal(table.X, images.reshape(len(images), -1))
    assert class_names(table) == [str(n) for n in range(len(images))]


def claiming(code: int, *shape: int) -> bytes:
    return bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)


@pytest.mark.parametrize(
    ("images", "labels", "pointer", "says"),
    [
        (idx(IMAGES), None, "/labels_file", "send it as labels_file"),
        (idx(LABELS), idx(LABELS), "/file", "it holds labels"),
        (idx(IMAGES), idx(IMAGES), "/labels_file", "it holds images"),
        (idx(IMAGES), idx(LABELS[:3]), "/labels_file", "There are 4 samples and 3 labels."),
        (idx(IMAGES), idx(LABELS[:1].repeat(4)), "/labels_file", "All samples have the label '7'"),
        (idx(IMAGES)[:3], idx(LABELS), "/file", "not IDX"),
        (idx(IMAGES)[:15], idx(LABELS), "/file", "truncated within its header"),
        (idx(IMAGES)[:-1], idx(LABELS), "/file", "claims 24 bytes and 23 are there"),
        (idx(IMAGES) + b"!", idx(LABELS), "/file", "longer than the 24 bytes"),
        (idx(IMAGES), idx(LABELS)[:7], "/labels_file", "truncated within its header"),
        (idx(IMAGES), idx(LABELS)[:-1], "/labels_file", "claims 4 bytes and 3 are there"),
        (idx(IMAGES), idx(LABELS) + b"!", "/labels_file", "longer"),
        (idx(IMAGES), b"", "/labels_file", "not IDX"),
        (idx(IMAGES), b"label\n7\n2\n", "/labels_file", "not IDX"),
        (b"\0\0\x0a\x03" + idx(IMAGES)[4:], idx(LABELS), "/file", "not IDX"),
        (b"\0\0\x08\x00" + idx(IMAGES)[4:], idx(LABELS), "/file", "not IDX"),
        (b"\0\0\x08\x09" + idx(IMAGES)[4:], idx(LABELS), "/file", "not IDX"),
        (b"\1\0\x08\x03" + idx(IMAGES)[4:], idx(LABELS), "/file", "not IDX"),
        (claiming(8, 0, 28, 28), claiming(8, 0), "/file", "is empty"),
        (claiming(8, 4, 0, 28), idx(LABELS), "/file", "is empty"),
        (idx(IMAGES), claiming(8, 0), "/labels_file", "is empty"),
        (idx(np.array([[1, np.nan]] * 4)), idx(LABELS), "/file", "The file has nan at row 0, column 1"),
        (idx(IMAGES), idx(np.array([1, np.inf, 2, 2])), "/labels_file", "labels_file has inf at row 1"),
        (idx(IMAGES), zipped(idx(LABELS))[:-4], "/labels_file", "gzip file is damaged"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(
    images: bytes, labels: bytes | None, pointer: str, says: str
) -> None:
    refused = refusal(images, labels, format="idx")
    assert says in refused.detail
    assert refused.errors[0].pointer == pointer


def test_columns_cannot_be_named() -> None:
    assert "no columns" in refusal(idx(IMAGES), idx(LABELS), label_column="label").detail
    assert "no columns" in refusal(idx(IMAGES), idx(LABELS), target_columns=("0",)).detail


def test_a_header_that_claims_terabytes_is_refused_before_they_are_allocated() -> None:
    assert over_limit(claiming(8, 1 << 20, 1 << 20), idx(LABELS)) == "CHAINRULE_MAX_UPLOAD_BYTES"
    assert over_limit(claiming(0x0E, *[0xFFFFFFFF] * 8), idx(LABELS)) == "CHAINRULE_MAX_UPLOAD_BYTES"
    assert over_limit(idx(IMAGES), claiming(8, 0xFFFFFFFF)) == "CHAINRULE_MAX_UPLOAD_BYTES"
    assert over_limit(claiming(8, 1000, 1000), idx(LABELS)) == "CHAINRULE_MAX_DATASET_VALUES"
    assert "200,000 features" in refusal(claiming(8, 1, 200_000), idx(LABELS), limits=Limits(1 << 20, 1 << 20)).detail
