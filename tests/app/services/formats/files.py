"""Dataset files made in memory, and readings of them."""

import gzip
import io
import struct
import tracemalloc
import zipfile
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from chainrule.app.errors import InvalidInput, LimitExceeded, UnsupportedMediaType
from chainrule.app.services.formats import Limits, Options, Table, read

LIMITS = Limits(upload_bytes=1 << 20, values=100_000)
IDX_TYPES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def read_file(content: bytes, labels: bytes | None = None, *, limits: Limits = LIMITS, **options: Any) -> Table:
    labels_file = None if labels is None else io.BytesIO(labels)
    table = read(io.BytesIO(content), labels_file, Options(**options), limits)
    check(table)
    return table


def check(table: Table) -> None:
    """What holds of every table, however it was read."""
    assert table.X.ndim == 2
    assert table.X.dtype in (np.dtype(np.uint8), np.dtype(np.float32), np.dtype(np.float64))
    assert table.X.dtype.isnative
    assert np.isfinite(table.X).all()
    assert min(table.X.shape) > 0
    assert len(table.feature_names) == len(set(table.feature_names)) == table.X.shape[1]
    assert table.categories == () or len(table.categories) == table.X.shape[1]
    for column, values in zip(table.column_categories, table.X.T, strict=True):
        if column is not None:
            assert sorted(set(values.tolist())) == list(range(len(column)))
            assert len(set(column)) == len(column)
    assert (table.labels is None) != (table.Y is None)
    if table.labels is not None:
        assert table.labels.dtype == np.int32
        assert table.labels.shape == (len(table.X),)
        assert sorted(set(table.labels.tolist())) == list(range(len(table.classes)))
        assert len(set(table.classes)) == len(table.classes) >= 2
    if table.Y is not None:
        assert table.Y.dtype == np.float64
        assert table.Y.shape[0] == len(table.X)
        assert np.isfinite(table.Y).all()
        assert table.classes == []
    assert table.report["format"]
    assert table.notes


def refusal(content: bytes, labels: bytes | None = None, *, limits: Limits = LIMITS, **options: Any) -> InvalidInput:
    with pytest.raises(InvalidInput) as refused:
        read_file(content, labels, limits=limits, **options)
    assert refused.value.errors
    for error in refused.value.errors:
        assert error.pointer.startswith("/")
        assert error.detail.endswith(".")
    return refused.value


def over_limit(content: bytes, labels: bytes | None = None, *, limits: Limits = LIMITS, **options: Any) -> str:
    """The setting that a file is refused for; nothing of the size it claims is allocated."""
    tracemalloc.start()
    try:
        refused = refusal(content, labels, limits=limits, **options)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(refused, LimitExceeded)
    assert peak < 4 * len(content) + 4 * limits.upload_bytes + (3 << 20)
    return str(refused.extra["setting"])


def read_or_refused(content: bytes, labels: bytes | None = None, **options: Any) -> Table | None:
    """A reading, or None for a refusal; any other exception fails the test."""
    try:
        return read_file(content, labels, **options)
    except (InvalidInput, UnsupportedMediaType):
        return None


def class_names(table: Table) -> list[str]:
    assert table.labels is not None
    return [table.classes[label] for label in table.labels]


def npy(array: NDArray[Any], version: tuple[int, int] | None = None) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version, allow_pickle=True)
    return file.getvalue()


def npy_claiming(shape: str, descr: str = "'<f8'", body: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    """An array file whose header says what we like."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    length = struct.pack("<H" if version == b"\x01\x00" else "<I", len(header))
    return b"\x93NUMPY" + version + length + header + body


def npz(*, compressed: bool = True, **arrays: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    if compressed:
        np.savez_compressed(file, allow_pickle=True, **arrays)
    else:
        np.savez(file, allow_pickle=True, **arrays)
    return file.getvalue()


def archive(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as made:
        for name, content in members.items():
            made.writestr(name, content)
    return file.getvalue()


def idx(array: NDArray[Any]) -> bytes:
    code = IDX_TYPES[array.dtype.str[1:]]
    header = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def zipped(content: bytes) -> bytes:
    return gzip.compress(content, 9, mtime=0)
