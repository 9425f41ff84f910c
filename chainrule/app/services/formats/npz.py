"""NPZ: an archive of arrays as NumPy saves it, one of them the samples and one their labels or targets."""

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import IO, Any

from numpy.typing import NDArray

from chainrule.app.services.formats.npy import labelled, read_body, read_header
from chainrule.app.services.formats.table import (
    Limits,
    Options,
    Table,
    check_bytes,
    check_finite,
    check_size,
    divide,
    listed,
    refuse,
    shown,
)

SAMPLES = ("X", "x", "data", "samples", "images")
TARGETS = ("y", "Y", "labels", "targets", "target", "label")
MOST_DIRECTORY_BYTES = 1 << 20
_ENCRYPTED = 1
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, RuntimeError, EOFError, OSError, ValueError,
    OverflowError,
)  # fmt: skip


def read(file: IO[bytes], options: Options, limits: Limits) -> Table:
    """Read an archive with the samples (X) and their labels or targets (y, or the array that is named).

    Raises:
        InvalidInput: pickled, truncated, no such arrays, not numeric.
        LimitExceeded: more than is allowed, as its headers claim or as it unpacks.
    """
    try:
        with zipfile.ZipFile(_Archive(file)) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            names = _chosen(members, options)
            check_bytes(
                sum(members[name].file_size for name in names), limits, "/file", what="The unpacked size in bytes"
            )
            X, y = (_array(archive, name, members[name], limits) for name in names)
    except _DAMAGE as error:
        raise refuse(f"The NPZ archive is damaged or truncated: {error}.") from error
    said = None if options.label_column is None and not options.target_columns else options.label_column is not None
    samples = X.reshape(len(X), -1)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if X.ndim < 2 or X.dtype.kind in "SU" or y.ndim > 2 or len(X) != len(y):
        raise refuse(
            f"{names[0]} has shape {X.shape} and type {X.dtype}, {names[1]} {y.shape} and {y.dtype}; they need the "
            "same number of rows, samples two or more dimensions of numbers, labels or targets one or two."
        )
    check_size(samples.shape[0], samples.shape[1], limits)
    check_finite(samples, f"Array {names[0]!r}")
    check_finite(y, f"Array {names[1]!r}")
    table = labelled(samples, y, said)
    table.report["format"] = "npz"
    table.notes.insert(0, f"{names[0]} holds the samples and {names[1]} their targets.")
    if options.divide_by is not None:
        divide(table, options.divide_by)
    return table


def read_arrays(file: IO[bytes], limits: Limits) -> dict[str, NDArray[Any]]:
    """Read every array of an archive, by name.

    Raises:
        InvalidInput: pickled, truncated, not numeric.
        LimitExceeded: more than is allowed, as its headers claim or as it unpacks.
    """
    try:
        with zipfile.ZipFile(_Archive(file)) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            check_bytes(
                sum(info.file_size for info in members.values()), limits, "/file", what="The unpacked size in bytes"
            )
            return {name: _array(archive, name, info, limits) for name, info in members.items()}
    except _DAMAGE as error:
        raise refuse(f"The NPZ archive is damaged or truncated: {error}.") from error


def _chosen(members: Mapping[str, Any], options: Options) -> tuple[str, str]:
    """Find the names of the two arrays; label_column or target_columns may name the second."""
    samples = next((name for name in SAMPLES if name in members), None)
    named = (
        [*options.target_columns] if options.label_column is None else [options.label_column, *options.target_columns]
    )
    if len(named) > 1:
        raise refuse("Of an archive, name one array in label_column or in target_columns.", "/target_columns")
    targets = next((name for name in named or TARGETS if name in members), None)
    if samples is None or targets is None or samples == targets:
        wanted = shown(named[0]) if named else ", ".join(TARGETS)
        raise refuse(
            f"The archive has the arrays {listed(sorted(members)) or 'none'}; it needs samples ({', '.join(SAMPLES)}) "
            f"and labels or targets ({wanted})."
        )
    return samples, targets


def _array(archive: zipfile.ZipFile, name: str, member: zipfile.ZipInfo, limits: Limits) -> NDArray[Any]:
    what = f"Array {name!r}"
    if member.flag_bits & _ENCRYPTED:
        raise refuse(f"{what} is encrypted; send the archive without a password.")
    # The other methods unpack all they are given in one go, however much that is.
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise refuse(f"{what} is compressed by a method NumPy does not use; save it with numpy.savez_compressed.")
    with archive.open(member) as file:
        return read_body(file, read_header(file, limits, what), what)


class _Archive(io.RawIOBase):
    """A file whose directory is small: one of millions of members would fill the memory before we see it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if size > MOST_DIRECTORY_BYTES:
            raise refuse("The archive lists too many arrays; it needs two.")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True
