"""Whatever is sent is read or refused: no other exception, no hang, no memory beyond the limit."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.app.services.formats.reading import FORMATS
from tests.app.services.formats.files import idx, npy, npy_claiming, npz, read_file, read_or_refused, zipped

X = np.array([[0.5, 2.0], [1.5, 3.0], [2.5, 4.0], [3.5, 5.0]])
y = np.array([0, 1, 0, 1], dtype=np.uint8)
LABELS = idx(y)
CSV = b'\xef\xbb\xbfa;"b;c";label\r\n0.5;2;"x, y"\r\n1.5;"3";z\r\n\r\n2.5;-4e-3;z\r\n'
FILES = {
    "csv": CSV,
    "csv.gz": zipped(CSV),
    "npy": npy(np.column_stack([X, y])),
    "npy 3.0": npy(np.column_stack([X, y]).astype(">f4"), (3, 0)),
    "npz": npz(X=X, y=np.array(["a", "b", "é", "a"])),
    "npz stored": npz(compressed=False, X=X.astype(np.uint8), y=y),
    "npz.gz": zipped(npz(X=X, y=y)),
    "idx": idx(X.astype(np.float32)),
    "idx.gz": zipped(idx(X.astype(np.uint8))),
}
BYTES_OF_TEXT = st.sampled_from([bytes([byte]) for byte in b'0123456789.,;\t"\r\n -+eEnaif_\xc3\xa9\x00'])


def labels_of(name: str) -> bytes | None:
    return LABELS if name.startswith("idx") else None


@pytest.mark.parametrize("name", FILES)
def test_every_truncation_is_read_or_refused(name: str) -> None:
    content = FILES[name]
    whole = read_file(content, labels_of(name))
    for end in range(len(content)):
        table = read_or_refused(content[:end], labels_of(name))
        # Text cut at the end of a line, or within its last cell, is a text; all else knows its length.
        assert table is None or (name == "csv" and len(table.X) <= len(whole.X))


@pytest.mark.parametrize("name", FILES)
@given(data=st.data())
def test_flipped_bits_are_read_or_refused(name: str, data: st.DataObject) -> None:
    content = bytearray(FILES[name])
    for bit in data.draw(st.lists(st.integers(0, 8 * len(content) - 1), min_size=1, max_size=4)):
        content[bit // 8] ^= 1 << bit % 8
    read_or_refused(bytes(content), labels_of(name), format=data.draw(st.sampled_from([None, name[:3]])))


@pytest.mark.parametrize("name", ["npz", "npz stored", "npy", "idx"])
def test_every_single_flipped_bit_is_read_or_refused(name: str) -> None:
    for bit in range(8 * len(FILES[name])):
        content = bytearray(FILES[name])
        content[bit // 8] ^= 1 << bit % 8
        read_or_refused(bytes(content), labels_of(name), format=name[:3])


@given(
    content=st.binary(max_size=300),
    start=st.sampled_from([b"", b"\x93NUMPY\x01\x00", b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b\x08", b"\0\0\x08\x02"]),
    labels=st.none() | st.binary(max_size=50),
    said=st.sampled_from([None, *FORMATS]),
)
@settings(max_examples=300)
def test_random_bytes_are_read_or_refused(content: bytes, start: bytes, labels: bytes | None, said: str | None) -> None:
    read_or_refused(start + content, labels, format=said)


@given(
    cells=st.lists(BYTES_OF_TEXT, max_size=60),
    header=st.sampled_from([None, True, False]),
    chosen=st.sampled_from([{}, {"label_column": "0"}, {"target_columns": ("-1",)}]),
)
@settings(max_examples=300)
def test_random_text_is_read_or_refused(cells: list[bytes], header: bool | None, chosen: dict[str, Any]) -> None:
    read_or_refused(b"".join(cells), format="csv", header=header, **chosen)


@given(
    shape=st.text("(), 0123456789-L[]", max_size=30),
    descr=st.sampled_from(["'<f8'", "'|b1'", "'<U3'", "'|S2'", "'|O'", "[('a', '<f4')]", "'<f8', 'descr': '<i4'"]),
    body=st.binary(max_size=100),
    version=st.sampled_from([b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x00\x00"]),
)
def test_random_headers_are_read_or_refused(shape: str, descr: str, body: bytes, version: bytes) -> None:
    read_or_refused(npy_claiming(shape, descr, body, version), format="npy")
