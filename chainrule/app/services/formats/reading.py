"""Which format a file is in, and unpacking it within its limit."""

import gzip
import tempfile
import zlib
from typing import BinaryIO, cast

from chainrule.app.errors import LimitExceeded, UnsupportedMediaType
from chainrule.app.services.formats import delimited, idx, npy
from chainrule.app.services.formats.table import Limits, Options, Table, refuse

FORMATS = ("csv", "npy", "npz", "idx")
IN_MEMORY_BYTES = 8 << 20
BLOCK_BYTES = 1 << 20

__all__ = ["FORMATS", "Limits", "Options", "Table", "read"]


def read(file: BinaryIO, labels: BinaryIO | None, options: Options, limits: Limits) -> Table:
    """Read a dataset file of any known format, gzipped or not.

    Raises:
        InvalidInput: the file is damaged or does not say what it must.
        LimitExceeded: it is larger than allowed, as it says itself or as it unpacks.
        UnsupportedMediaType: it is in no format that is read here.
    """
    if options.divide_by is not None and not options.divide_by > 0:
        raise refuse("divide_by must be above 0.", "/divide_by")
    if options.format is not None and options.format not in FORMATS:
        raise UnsupportedMediaType(f"Format {options.format!r} is not read here; known: {', '.join(FORMATS)}.")
    with _unpacked(file, limits) as plain:
        chosen = options.format or _guess(plain, options.filename)
        if chosen == "idx":
            if labels is None:
                return idx.read(plain, None, options, limits)
            with _unpacked(labels, limits) as plain_labels:
                return idx.read(plain, plain_labels, options, limits)
        if chosen == "npy":
            return npy.read_npy(plain, options, limits)
        if chosen == "npz":
            return npy.read_npz(plain, options, limits)
        table = delimited.read(plain, options, limits)
        if options.divide_by is not None:
            table.X = table.X / options.divide_by
            table.notes.append(f"Features were divided by {options.divide_by:g}.")
        return table


def _guess(file: BinaryIO, filename: str) -> str:
    """Tell the format by its first bytes, text by default."""
    start = file.read(16)
    file.seek(0)
    if not start:
        raise refuse("The file is empty.")
    if start.startswith(npy.MAGIC):
        return "npy"
    if start.startswith(b"PK\x03\x04"):
        return "npz"
    if idx.looks_like_idx(start):
        return "idx"
    if start.startswith(b"PAR1") or filename.endswith((".parquet", ".xlsx", ".h5", ".pkl", ".pickle")):
        raise UnsupportedMediaType(
            f"The file {filename!r} is in a format that is not read here; send CSV, NPY, NPZ, IDX (each may be "
            "gzipped) or JSON rows."
        )
    return "csv"


def _unpacked(file: BinaryIO, limits: Limits) -> BinaryIO:
    """Copy a file, unpacking gzip, into one that can be read at will; stops at the limit."""
    start = file.read(2)
    file.seek(0)
    plain = cast("BinaryIO", tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES))  # noqa: SIM115
    source: BinaryIO = cast("BinaryIO", gzip.GzipFile(fileobj=file)) if start == b"\x1f\x8b" else file
    size = 0
    try:
        while block := source.read(BLOCK_BYTES):
            size += len(block)
            if size > limits.upload_bytes:
                raise LimitExceeded(
                    "The unpacked size in bytes", size, limits.upload_bytes, "CHAINRULE_MAX_UPLOAD_BYTES",
                    pointer="/file",
                )  # fmt: skip
            plain.write(block)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        plain.close()
        raise refuse(f"The gzip file is damaged or truncated: {error}.") from error
    except LimitExceeded:
        plain.close()
        raise
    plain.seek(0)
    return plain
