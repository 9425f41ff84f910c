"""Files and rows that are no dataset, made in memory: of every format, each with one thing wrong."""

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.app.services.formats.files import archive, idx, npy, npy_claiming, npz, zipped

X = np.array([[0.5, 2.0], [1.5, 3.0], [2.5, 4.0], [3.5, 5.0]])
y = np.array([0, 1, 0, 1], dtype=np.uint8)
CSV = b"a,b,label\n0.5,2,x\n1.5,3,y\n2.5,4,x\n3.5,5,y\n"
ROWS: dict[str, Any] = {"samples": [[0, 0], [0, 1], [1, 0], [1, 1]], "labels": ["a", "b", "b", "a"]}
GIB = 1 << 30
TERABYTES = "(1000000, 1000000)"


@dataclass(frozen=True)
class Malformed:
    """One request to `POST /v1/datasets` that must be refused: files and fields of a form, or a body."""

    name: str
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    content_type: str = ""


def every() -> Iterator[Malformed]:
    """Go through all of them."""
    for made in (_csv, _npy, _npz, _idx, _packed, _rows, _bodies, _forms):
        yield from made()


def _file(name: str, content: bytes, labels: bytes | None = None, **fields: str) -> Malformed:
    files = {"file": ("data", content)} | ({} if labels is None else {"labels_file": ("labels", labels)})
    return Malformed(name, files, fields)


def _csv() -> Iterator[Malformed]:
    for what, cell in {
        "nothing": b"", "blanks": b"  ", "nan": b"nan", "infinity": b"inf", "minus infinity": b"-Infinity",
        "na": b"NA", "an overflow": b"1e999", "two points": b"1.2.3", "an expression": b"1+1", "hexadecimal": b"0x10",
        "an underscore": b"1_000", "a sign alone": b"-", "a NUL": b"1\x00", "a formula": b"=1+1",
    }.items():  # fmt: skip
        yield _file(f"csv: a number that is {what}", b"a,b,label\n0.5,2,x\n1.5,%s,y\n2.5,4,x\n" % cell, format="csv")
    for what, content in {
        "a header alone": b"a,b,label\n",
        "a short row": b"a,b,label\n1,2,x\n1,y\n",
        "a long row": b"a,b,label\n1,2,x\n1,2,3,y\n",
        "an open quote": b'a,b,label\n1,2,"x\n1,2,y\n',
        "text behind a quote": b'a,b,label\n1,2,"x"z\n1,2,y\n',
        "blank lines alone": b"\n\n\n",
        "a byte order mark alone": b"\xef\xbb\xbf",
        "latin 1": b"a,b,label\n1,2,\xe9t\xe9\n1,2,y\n",
        "UTF-16": CSV.decode().encode("utf-16"),
        "UTF-32": CSV.decode().encode("utf-32"),
        "a surrogate": b"a,b,label\n1,2,\xed\xa0\x80\n1,2,y\n",
        "an overlong form": b"a,b,label\n1,2,\xc0\xaf\n1,2,y\n",
        "one class": b"a,b,label\n1,2,x\n1,2,x\n",
        "a column alone": b"a\n1\n2\n1\n",
        "an empty label": b"a,b,label\n1,2,x\n1,2,\n",
        "a column named twice": b"a,a,label\n1,2,x\n1,2,y\n",
        "thousands of columns": b",".join([b"1"] * 60_000) + b"\n" + b",".join([b"2"] * 60_000) + b"\n",
        "a cell of a megabyte": b"a,b,label\n1,2,x\n1,%s,y\n" % (b"9" * (1 << 20)),
        "a page of HTML": b"<!DOCTYPE html>\n<html><body><h1>404, not found</h1></body></html>\n",
        "a program": b"#!/bin/sh\necho hello\n",
        "control characters": bytes(range(1, 32)) * 8,
        "words where numbers began": b"a,b,label\n" + b"1,2,x\n" * 40 + b"one,2,y\n",
    }.items():
        yield _file(f"csv: {what}", content, format="csv")
    for what, fields in {
        "a label column that is not there": {"label_column": "z"},
        "a label column beyond the last": {"label_column": "7"},
        "a target column that is not there": {"target_columns": "z"},
        "target columns of words": {"target_columns": "label"},
        "every column a target": {"target_columns": "a,b,label"},
        "a column both label and target": {"label_column": "label", "target_columns": "label"},
        "a category that is the label": {"categorical_columns": "label", "label_column": "label"},
        "weights that are words": {"weight_column": "label"},
        "weights that are not there": {"weight_column": "w"},
        "a division by nothing": {"divide_by": "0"},
        "a division by infinity": {"divide_by": "inf"},
        "a division by a word": {"divide_by": "ten"},
        "a header perhaps": {"header": "perhaps"},
        "no header where there is one": {"header": "false", "label_column": "label"},
        "another format": {"format": "npy"},
        "a format nobody knows": {"format": "parquet"},
    }.items():
        yield _file(f"csv: {what}", CSV, None, **fields)


def _npy() -> Iterator[Malformed]:
    good = npy(np.column_stack([X, y]))
    for what, (shape, descr) in {
        "terabytes": (TERABYTES, "'<f8'"), "more than any memory": (f"({2**62}, 3)", "'<f8'"),
        "a product beyond 64 bits": (f"({2**40}, {2**40})", "'<f8'"), "a negative size": ("(-4, 3)", "'<f8'"),
        "no size": ("()", "'<f8'"), "an empty axis": ("(0, 3)", "'<f8'"), "five axes": ("(1,1,1,1,1)", "'<f8'"),
        "a size that is text": ("('4', 3)", "'<f8'"), "a size with a fraction": ("(4.0, 3)", "'<f8'"),
        "a size with hundreds of digits": ("(%s, 3)" % ("9" * 300), "'<f8'"), "sizes without end": ("(" * 200, "'<f8'"),
        "a call": ("__import__('os')", "'<f8'"), "objects": ("(4, 3)", "'|O'"), "times": ("(4, 3)", "'<M8[s]'"),
        "complex numbers": ("(4, 3)", "'<c16'"), "raw bytes": ("(4, 3)", "'|V8'"), "texts": ("(4, 3)", "'<U3'"),
        "fields": ("(4,)", "[('a', '<f4'), ('b', '<f8')]"), "fields within fields": ("(4,)", "[('a', [('b', '|O')])]"),
        "an unknown type": ("(4, 3)", "'<q99'"), "a type of no size": ("(4, 3)", "'|S0'"),
        "a type that is none": ("(4, 3)", "None"), "more than is there": ("(4000, 3)", "'<f8'"),
    }.items():  # fmt: skip
        yield _file(f"npy: {what}", npy_claiming(shape, descr, bytes(96)))
    for version in (0, 4, 255):
        yield _file(f"npy: version {version}", good[:6] + bytes([version]) + good[7:])
    for what, content in {
        "a magic alone": good[:6],
        "a version alone": good[:8],
        "half a header": good[:40],
        "a header alone": good[:128],
        "half of the numbers": good[:-40],
        "a number too many": good + bytes(8),
        "a header of no Python": good[:10] + b"}" * 118 + good[128:],
        "a header that is a list": good[:10] + b"[]".ljust(118) + good[128:],
        "a header of gigabytes": good[:6] + b"\x02\x00" + struct.pack("<I", 2**32 - 1) + good[10:],
        "NaN": npy(np.column_stack([X * np.nan, y])),
        "infinity": npy(np.column_stack([X * np.inf, y])),
        "pickled objects": npy(np.array([[{}, 1], [2, 3]], dtype=object)),
        "one axis": npy(X[:, 0]),
        "one column": npy(X[:, :1]),
        "no rows": npy(X[:0]),
    }.items():
        yield _file(f"npy: {what}", content)


def _npz() -> Iterator[Malformed]:
    good, table = npz(X=X, y=y), npy(X)
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made:
        with made.open("X.npy", "w") as member:
            member.write(npy_claiming(f"({1 << 21}, 8)", "'<f8'"))
            for _ in range(128):
                member.write(bytes(1 << 20))
        made.writestr("y.npy", npy(y))
    quoted = archive({"X.npy": npy_claiming(TERABYTES, "'<f8'", bytes(64)), "y.npy": npy(y)})
    for what, content in {
        "a bomb": bomb.getvalue(),
        "a header that claims terabytes": quoted,
        "no member": archive({}),
        "other things": archive({"readme.txt": b"hello"}),
        "a member that is no array": archive({"X.npy": b"hello", "y.npy": npy(y)}),
        "samples alone": npz(X=X),
        "labels alone": npz(y=y),
        "labels of another length": npz(X=X, y=y[:3]),
        "labels of two axes": npz(X=X, y=np.stack([y, y]).T[:3]),
        "samples of no axis": npz(X=np.array(1.0), y=y),
        "samples without rows": npz(X=X[:0], y=y[:0]),
        "samples of NaN": npz(X=X * np.nan, y=y),
        "one class": npz(X=X, y=y * 0),
        "objects": archive({"X.npy": npy(np.array([[{}]], dtype=object)), "y.npy": npy(y)}),
        "a path out of the archive": archive({"../../X.npy": table, "../y.npy": npy(y)}),
        "hundreds of members": archive({f"m{i}.npy": table for i in range(400)}),
        "bzip2": archive({"X.npy": table, "y.npy": npy(y)}, zipfile.ZIP_BZIP2),
        "lzma": archive({"X.npy": table, "y.npy": npy(y)}, zipfile.ZIP_LZMA),
        "half of it": good[: len(good) // 2],
        "no directory": good[:-22],
        "an end alone": good[-22:],
        "a flipped bit among the numbers": good[:60] + bytes([good[60] ^ 16]) + good[61:],
        "a directory that points nowhere": good[:-6] + struct.pack("<I", 2**31) + good[-2:],
    }.items():
        yield _file(f"npz: {what}", content, format="npz")


def _idx() -> Iterator[Malformed]:
    images, labels = idx(X.astype(np.uint8)), idx(y)
    for code in (0x00, 0x07, 0x0A, 0x0F, 0xFF):
        yield _file(f"idx: type {code:#x}", images[:2] + bytes([code]) + images[3:], labels, format="idx")
    for what, sizes in {
        "terabytes": (10**6, 10**6), "all sizes at their largest": (2**32 - 1, 2**32 - 1), "no samples": (0, 2),
        "no features": (4, 0), "a sample too many": (5, 2), "a sample too few": (3, 2),
    }.items():  # fmt: skip
        claim = images[:4] + struct.pack(">2I", *sizes) + images[12:]
        yield _file(f"idx: {what}", claim, labels, format="idx")
    for what, (content, beside) in {
        "255 axes": (bytes([0, 0, 8, 255]) + bytes(1020), labels),
        "no axis": (bytes([0, 0, 8, 0]) + b"1", labels),
        "a first byte": (b"\x01" + images[1:], labels),
        "half a header": (images[:7], labels),
        "a header alone": (images[:12], labels),
        "no labels": (images, None),
        "labels without samples": (labels, labels),
        "half of the labels": (images, labels[:-2]),
        "labels of another number": (images, idx(y[:3])),
        "labels of two axes": (images, images),
        "labels of one class": (images, idx(y * 0)),
        "labels that are text": (images, b"a\nb\n"),
        "labels that are empty": (images, b""),
        "labels that are a bomb": (images, _bomb()),
        "samples of NaN": (idx(np.full((4, 2), np.nan, dtype=np.float32)), labels),
    }.items():
        yield _file(f"idx: {what}", content, beside, format="idx")


def _bomb() -> bytes:
    """Pack a gibibyte of zeros into a megabyte, as a thousand gzip files in one."""
    return zipped(bytes(1 << 20)) * (GIB >> 20)


def _packed() -> Iterator[Malformed]:
    good = zipped(CSV)
    raw = zlib.compressobj(wbits=-15)
    for what, content in {
        "a bomb": _bomb(),
        "a bomb of text": zipped(b"1,2,3\n" * 200_000) * 60,
        "a bomb within": zipped(zipped(bytes(64 << 20))),
        "a magic alone": good[:2],
        "a header alone": good[:10],
        "half of it": good[: len(good) // 2],
        "no checksum": good[:-8],
        "a wrong checksum": good[:-8] + bytes(4) + good[-4:],
        "a wrong length": good[:-4] + bytes(4),
        "an unknown method": good[:2] + b"\x07" + good[3:],
        "other data behind it": good + b"hello",
        "a damaged block": good[:12] + b"\xff\xff\xff" + good[15:],
        "nothing in it": zipped(b""),
        "gzip within gzip": zipped(good),
        "bare deflate": raw.compress(CSV) + raw.flush(),
        "zlib": zlib.compress(CSV),
    }.items():
        yield _file(f"gzip: {what}", content)


def _rows() -> Iterator[Malformed]:
    wrong: dict[str, dict[str, Any]] = {
        "no samples": {"samples": []}, "an empty sample": {"samples": [[], [], [], []]},
        "samples of two lengths": {"samples": [[0, 0], [0], [1, 0], [1, 1]]},
        "samples within samples": {"samples": [[[0]], [[1]], [[2]], [[3]]]},
        "samples that are numbers": {"samples": [0, 1, 2, 3]}, "samples that are text": {"samples": "0 1"},
        "samples that are an object": {"samples": {"0": [0, 0]}}, "null in a sample": {"samples": [[0, None]] * 4},
        "true in a sample": {"samples": [[0, True]] * 4}, "an object in a sample": {"samples": [[0, {}]] * 4},
        "a text among numbers": {"samples": [[0, 0], [0, "x"], [1, 0], [1, 1]]},
        "more values than are allowed": {"samples": [[0] * 40_000] * 4},
        "an integer beyond float": {"samples": [[0, 10**400]] * 4},
        "labels of another number": {"labels": ["a", "b"]}, "no labels": {"labels": None},
        "one class": {"labels": ["a"] * 4}, "labels that are lists": {"labels": [["a"], ["b"], ["a"], ["b"]]},
        "an empty label": {"labels": ["a", "b", "", "a"]}, "a long label": {"labels": ["a" * 300, "b", "a", "b"]},
        "a surrogate as label": {"labels": ["\ud800", "b", "a", "b"]}, "null as label": {"labels": [None] * 4},
        "a NUL in a label": {"labels": ["\0", "b", "a", "b"]},
        "labels and targets": {"targets": [[0], [1], [1], [0]]},
        "targets of two lengths": {"labels": None, "targets": [[0], [1, 2], [1], [0]]},
        "targets of another number": {"labels": None, "targets": [[0]]},
        "targets of no width": {"labels": None, "targets": [[], [], [], []]},
        "targets that are text": {"labels": None, "targets": [["a"], ["b"], ["a"], ["b"]]},
        "names of another number": {"feature_names": ["a"]}, "one name twice": {"feature_names": ["a", "a"]},
        "a name that is a number": {"feature_names": [1, 2]}, "a line break in a name": {"name": "a\nb"},
        "weights of another number": {"weights": [1]}, "weights below zero": {"weights": [-1, 1, 1, 1]},
        "weights of nothing": {"weights": [0, 0, 0, 0]}, "weights that are text": {"weights": ["1", 1, 1, 1]},
        "a field that is none": {"sample": []}, "a long name": {"name": "x" * 300},
    }  # fmt: skip
    for what, changes in wrong.items():
        yield _body(f"rows: {what}", json.dumps(ROWS | changes).encode())
    for number in ("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" * 5000):
        yield _body(f"rows: {number[:9]} in a sample", json.dumps(ROWS).replace("[0, 1]", f"[0, {number}]").encode())


def _body(name: str, body: bytes, content_type: str = "application/json") -> Malformed:
    return Malformed(name, body=body, content_type=content_type)


def _bodies() -> Iterator[Malformed]:
    good = json.dumps(ROWS).encode()
    for what, body in {
        "nothing": b"", "half of it": good[: len(good) // 2], "more behind it": good + b"{}", "a list": b"[]",
        "null": b"null", "a number": b"1", "a text": b'"samples"', "lists without end": b"[" * 200_000,
        "deep lists": b'{"samples": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "a comment": b"{} // none",
        "single quotes": b"{'samples': []}", "a comma too many": b'{"samples": [[0, 1],]}',
        "UTF-16": good.decode().encode("utf-16"), "latin 1": '{"name": "é"}'.encode("latin-1"),
        "a surrogate in bytes": b'{"name": "\xed\xa0\x80"}',
        "a NUL": b"\x00" + good,
        "a million digits": b'{"samples": [[' + b"1" * (1 << 20) + b"]]}",
        "a line break in a text": b'{"name": "a\nb"}',
    }.items():  # fmt: skip
        yield _body(f"json: {what}", body)
    for kind in ("", "text/csv", "application/x-www-form-urlencoded", "application/octet-stream", "text/plain"):
        yield _body(f"json: sent as {kind or 'nothing'}", good, kind)


def _forms() -> Iterator[Malformed]:
    part = b'--B\r\nContent-Disposition: form-data; name="file"; filename="d.csv"\r\n\r\n%s\r\n' % CSV
    field = b'--B\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    form = "multipart/form-data; boundary=B"
    for what, (body, kind) in {
        "no boundary": (part + b"--B--\r\n", "multipart/form-data"),
        "another boundary": (part + b"--B--\r\n", "multipart/form-data; boundary=C"),
        "a boundary of nothing": (part + b"--B--\r\n", 'multipart/form-data; boundary=""'),
        "a boundary without end": (part + b"--B--\r\n", "multipart/form-data; boundary=" + "B" * 5000),
        "no part": (b"--B--\r\n", form),
        "nothing": (b"", form),
        "no end": (part[:-20], form),
        "no header": (b"--B\r\n\r\nhello\r\n--B--\r\n", form),
        "a part without a name": (b"--B\r\nContent-Disposition: form-data\r\n\r\nhello\r\n--B--\r\n", form),
        "a header without end": (b"--B\r\n" + b"X" * 100_000 + b": 1\r\n\r\nhello\r\n--B--\r\n", form),
        "a header line that is none": (b"--B\r\nhello\r\n\r\nhello\r\n--B--\r\n", form),
        "two files": (part + part + b"--B--\r\n", form),
        "a file that is a field": (field % (b"file", CSV) + b"--B--\r\n", form),
        "a field that is a file": (part + part.replace(b'"file"', b'"name"') + b"--B--\r\n", form),
        "an unknown field": (part + field % (b"colour", b"red") + b"--B--\r\n", form),
        "a field given twice": (part + field % (b"name", b"a") * 2 + b"--B--\r\n", form),
        "fields without end": (part + field % (b"name", b"a") * 2000 + b"--B--\r\n", form),
        "files without end": (part * 50 + b"--B--\r\n", form),
        "a field of megabytes": (part + field % (b"name", b"a" * (2 << 20)) + b"--B--\r\n", form),
        "a NUL in a field": (part + field % (b"name", b"a\x00b") + b"--B--\r\n", form),
    }.items():
        yield _body(f"multipart: {what}", body, kind)
