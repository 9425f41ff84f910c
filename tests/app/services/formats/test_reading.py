"""Which format a file is in, and unpacking it."""

import gzip
import io

import numpy as np
import pytest

from chainrule.app.errors import UnsupportedMediaType
from chainrule.app.services.formats import Limits, Options, read
from tests.app.services.formats.files import LIMITS, archive, idx, npy, npz, over_limit, read_file, refusal, zipped

X = np.array([[0.5, 2.0], [1.5, 3.0], [2.5, 4.0], [3.5, 5.0]])
y = np.array([0, 1, 0, 1], dtype=np.uint8)
CSV = b"a,b,label\n0.5,2,0\n1.5,3,1\n2.5,4,0\n3.5,5,1\n"
FILES = {"csv": CSV, "npy": npy(np.column_stack([X, y])), "npz": npz(X=X, y=y), "idx": idx(X)}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("said", [False, True])
def test_every_format_is_told_by_its_first_bytes_gzipped_or_not(name: str, packed: bool, said: bool) -> None:
    content = zipped(FILES[name]) if packed else FILES[name]
    labels = idx(y) if name == "idx" else None
    table = read_file(content, labels, format=name if said else None, filename="data.bin")
    assert table.report["format"] == name
    assert table.X.tolist() == X.tolist()
    assert table.classes == ["0", "1"]


def test_a_file_is_read_from_its_beginning_and_stays_open() -> None:
    file = io.BytesIO(CSV)
    file.seek(7)
    for _ in range(2):
        assert len(read(file, None, Options(), LIMITS).X) == 4
    assert not file.closed


@pytest.mark.parametrize(
    ("content", "filename"),
    [
        (b"PAR1" + bytes(20), "data"),
        (b"\x89HDF\r\n\x1a\n", "data"),
        (b"\x80\x04\x95" + bytes(20), "data"),
        (CSV, "table.PARQUET"),
        (archive({"[Content_Types].xml": b""}), "table.xlsx"),
        (b'{"samples": [[1]]}', "rows.json"),
    ],
)
def test_other_formats_are_unsupported(content: bytes, filename: str) -> None:
    with pytest.raises(UnsupportedMediaType, match="send CSV, NPY, NPZ, IDX"):
        read_file(content, filename=filename)


def test_an_unknown_format_lists_those_there_are() -> None:
    with pytest.raises(UnsupportedMediaType, match="known: csv, npy, npz, idx"):
        read_file(CSV, format="arff")


@pytest.mark.parametrize("name", FILES)
def test_a_file_said_to_be_of_another_format_is_refused(name: str) -> None:
    for other in set(FILES) - {name}:
        refusal(FILES[name], idx(y) if other == "idx" else None, format=other)


@pytest.mark.parametrize("name", ["csv", "npy", "npz"])
def test_a_file_of_labels_goes_with_idx_only(name: str) -> None:
    refused = refusal(FILES[name], idx(y))
    assert refused.errors[0].pointer == "/labels_file"
    assert f"file is {name.upper()}" in refused.detail


@pytest.mark.parametrize("divide_by", [0.0, -1.0, float("nan"), float("inf")])
def test_features_are_divided_by_what_makes_sense(divide_by: float) -> None:
    assert refusal(CSV, divide_by=divide_by).errors[0].pointer == "/divide_by"


@pytest.mark.parametrize("content", [b"", zipped(b"")])
def test_nothing_is_refused(content: bytes) -> None:
    assert "empty" in refusal(content).detail


def test_concatenated_gzip_members_are_one_file() -> None:
    assert read_file(zipped(CSV[:20]) + zipped(b"") + zipped(CSV[20:])).X.tolist() == X.tolist()


def test_a_damaged_gzip_file_is_refused() -> None:
    packed = bytearray(zipped(CSV))
    packed[-6] ^= 1  # of the checksum
    for content in (
        bytes(packed),
        zipped(CSV) + b"garbage",
        zipped(CSV)[:-1],
        b"\x1f\x8b",
        b"\x1f\x8b\x08" + bytes(30),
    ):
        assert "The gzip file is damaged or truncated" in refusal(content).detail


def test_a_file_over_the_limit_is_refused_however_it_is_packed() -> None:
    limits = Limits(upload_bytes=len(CSV), values=100)
    assert len(read_file(CSV, limits=limits).X) == 4
    assert len(read_file(zipped(CSV), limits=limits).X) == 4
    assert over_limit(CSV + b"\n", limits=limits) == "CHAINRULE_MAX_UPLOAD_BYTES"
    assert over_limit(zipped(CSV + b"\n"), limits=limits) == "CHAINRULE_MAX_UPLOAD_BYTES"


def test_a_gzip_bomb_is_refused_before_it_goes_off() -> None:
    bomb = gzip.compress(bytes(100 << 20), 9) * 3
    assert over_limit(bomb) == "CHAINRULE_MAX_UPLOAD_BYTES"
    refused = refusal(idx(X), bomb)
    assert refused.errors[0].pointer == "/labels_file"
