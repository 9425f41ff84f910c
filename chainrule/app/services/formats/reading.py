"""Which format a file is in, and unpacking it within its limit."""

import gzip
import math
import tempfile
import zlib
from typing import BinaryIO, cast

from chainrule.app.errors import UnsupportedMediaType
from chainrule.app.services.formats import delimited, idx, npy, npz
from chainrule.app.services.formats.table import Limits, Options, Table, check_bytes, divide, refuse, shown

FORMATS = ("csv", "npy", "npz", "idx")
OTHER_STARTS = (b"PAR1", b"\x89HDF", b"\x89PNG", b"%PDF", b"MATLAB", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
OTHER_NAMES = (".parquet", ".xlsx", ".xls", ".h5", ".hdf5", ".mat", ".pkl", ".pickle", ".json", ".jsonl", ".ndjson")
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
    if options.divide_by is not None and not 0 < options.divide_by < math.inf:
        raise refuse("divide_by must be a finite number above 0.", "/divide_by")
    if options.format is not None and options.format not in FORMATS:
        raise UnsupportedMediaType(f"Format {shown(options.format)} is not read here; known: {', '.join(FORMATS)}.")
    with _unpacked(file, limits, "/file") as plain:
        chosen = options.format or _guess(plain, options.filename)
        for name, what, given in (
            ("categorical_columns", "categories", options.categorical_columns),
            ("weight_column", "weights", options.weight_column),
        ):
            if given and chosen != "csv":
                raise refuse(
                    f"{name} goes with CSV, and file is {chosen.upper()}; send {what} in CSV or JSON.", f"/{name}"
                )
        if chosen == "idx":
            if labels is None:
                return idx.read(plain, None, options, limits)
            with _unpacked(labels, limits, "/labels_file") as plain_labels:
                return idx.read(plain, plain_labels, options, limits)
        if labels is not None:
            raise refuse(
                f"labels_file goes with IDX only, and file is {chosen.upper()}; send the labels in it.", "/labels_file"
            )
        if chosen == "npy":
            return npy.read(plain, options, limits)
        if chosen == "npz":
            return npz.read(plain, options, limits)
        table = delimited.read(plain, options, limits)
        if options.divide_by is not None:
            divide(table, options.divide_by)
        return table


def _guess(file: BinaryIO, filename: str) -> str:
    """Tell the format by its first bytes, text by default."""
    start = file.read(16)
    file.seek(0)
    if not start:
        raise refuse("The file is empty.")
    if start.startswith(npy.MAGIC):
        return "npy"
    if idx.looks_like_idx(start):
        return "idx"
    if start.startswith(OTHER_STARTS) or filename.lower().endswith(OTHER_NAMES):
        raise UnsupportedMediaType(
            f"The file {shown(filename)} is in a format that is not read here; send CSV, NPY, NPZ, IDX (each may be "
            "gzipped) or JSON rows."
        )
    # An archive without members begins with its end.
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "npz"
    return "csv"


def _unpacked(file: BinaryIO, limits: Limits, pointer: str) -> BinaryIO:
    """Copy a file, unpacking gzip, into one that can be read at will; stops at the limit."""
    file.seek(0)
    start = file.read(2)
    file.seek(0)
    plain = cast("BinaryIO", tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES))  # noqa: SIM115
    source: BinaryIO = cast("BinaryIO", gzip.GzipFile(fileobj=file, mode="rb")) if start == b"\x1f\x8b" else file
    size = 0
    try:
        while block := source.read(BLOCK_BYTES):
            size += len(block)
            check_bytes(size, limits, pointer, what="The unpacked size in bytes")
            plain.write(block)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        plain.close()
        raise refuse(f"The gzip file is damaged or truncated: {error}.", pointer) from error
    except BaseException:
        plain.close()
        raise
    plain.seek(0)
    return plain
