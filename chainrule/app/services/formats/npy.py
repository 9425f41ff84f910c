"""NPY and NPZ: arrays as NumPy saves them; the header is judged before an array is made."""

import struct
import zipfile
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from chainrule.app.errors import LimitExceeded
from chainrule.app.services.formats.table import (
    Limits,
    Options,
    Table,
    check_finite,
    check_size,
    encode_labels,
    label_texts,
    refuse,
)

SAMPLES = ("X", "x", "data", "samples", "images")
TARGETS = ("y", "Y", "labels", "targets", "target", "label")
MAGIC = b"\x93NUMPY"
BLOCK_BYTES = 1 << 20


def read_npy(file: BinaryIO, options: Options, limits: Limits) -> Table:
    """Read one array: samples as rows, the last column being the labels or targets.

    Raises:
        InvalidInput: pickled, truncated, not numeric, not two-dimensional.
        LimitExceeded: its header claims more than is allowed.
    """
    array = _array(file, limits, "The file")
    if array.ndim != 2 or array.shape[1] < 2:
        raise refuse(
            f"The array has shape {array.shape}; it needs two dimensions, samples and columns, the last column "
            "being the label or target. Use NPZ with arrays X and y to keep them apart."
        )
    check_size(array.shape[0], array.shape[1] - 1, limits)
    check_finite(array, "The array")
    note = "The last column holds the targets; the others are features."
    return _with_targets(np.ascontiguousarray(array[:, :-1]), array[:, -1], options, "npy", note)


def read_npz(file: BinaryIO, options: Options, limits: Limits) -> Table:
    """Read an archive with the samples (X) and their labels or targets (y).

    Raises:
        InvalidInput: pickled, truncated, no such arrays, not numeric.
        LimitExceeded: more than is allowed, as its headers claim or as it unpacks.
    """
    try:
        archive = zipfile.ZipFile(file)
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        names = [next((name for name in known if name in members), None) for known in (SAMPLES, TARGETS)]
        if names[0] is None or names[1] is None:
            raise refuse(
                f"The archive has the arrays {', '.join(sorted(members)) or 'none'}; it needs samples "
                f"({', '.join(SAMPLES)}) and labels or targets ({', '.join(TARGETS)})."
            )
        total = sum(members[name].file_size for name in names if name)
        if total > limits.upload_bytes:
            raise LimitExceeded(
                "The unpacked size in bytes", total, limits.upload_bytes, "CHAINRULE_MAX_UPLOAD_BYTES", pointer="/file"
            )
        arrays = []
        for name in names:
            assert name is not None
            with archive.open(members[name]) as member:
                arrays.append(_array(member, limits, f"Array {name!r}"))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, struct.error) as error:
        raise refuse(f"The NPZ archive is damaged or truncated: {error}.") from error
    X, y = arrays
    X = X.reshape(len(X), -1) if X.ndim > 2 else X
    if X.ndim != 2 or len(X) != len(np.atleast_1d(y)) or y.ndim not in (1, 2):
        raise refuse(
            f"{names[0]} has shape {arrays[0].shape} and {names[1]} {y.shape}; they need the same number of rows, "
            "and y one or two dimensions."
        )
    check_size(X.shape[0], X.shape[1], limits)
    check_finite(X, f"Array {names[0]!r}")
    check_finite(y, f"Array {names[1]!r}")
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    return _with_targets(X, y, options, "npz", f"{names[0]} holds the samples and {names[1]} their targets.")


def _with_targets(X: NDArray[Any], y: NDArray[Any], options: Options, name: str, note: str) -> Table:
    notes = [note]
    if options.divide_by is not None:
        X = X / options.divide_by
        notes.append(f"Features were divided by {options.divide_by:g}.")
    features = [f"x{number}" for number in range(1, X.shape[1] + 1)]
    table = Table(X=_compact(X), feature_names=features, report={"format": name}, notes=notes)
    wanted_labels = options.label_column is not None
    if y.ndim == 1 and not options.target_columns and (wanted_labels or _looks_like_labels(y)):
        table.labels, table.classes = encode_labels(label_texts(y))
        notes.append(f"The targets have {len(table.classes)} different values: class labels.")
    elif y.dtype.kind in "US":
        raise refuse("Targets that are strings must be one-dimensional class labels.")
    else:
        table.Y = np.asarray(y, dtype=np.float64).reshape(len(X), -1)
        notes.append("The targets are numbers to predict: regression.")
    return table


def _looks_like_labels(y: NDArray[Any]) -> bool:
    if y.dtype.kind in "USb":
        return True
    distinct = len(np.unique(y))
    return bool(np.all(np.mod(y, 1) == 0)) and distinct <= 1000 and (y.dtype.kind in "iu" or len(y) >= 2 * distinct)


def _compact(X: NDArray[Any]) -> NDArray[Any]:
    """Keep bytes as bytes and float32 as float32; all else becomes float64."""
    keep = X.dtype if X.dtype in (np.dtype(np.uint8), np.dtype(np.float32)) else np.dtype(np.float64)
    return np.ascontiguousarray(X, dtype=keep)


def _array(file: Any, limits: Limits, what: str) -> NDArray[Any]:
    """Read an array whose header has been found reasonable."""
    try:
        version = npy.read_magic(file)
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = header(file)
    except ValueError as error:
        raise refuse(f"{what} is not a NumPy array, or truncated: {error}.") from error
    if dtype.hasobject:
        raise refuse(f"{what} is pickled (its type is object); save it as an array of numbers or of strings.")
    if dtype.kind not in "biufUS":
        raise refuse(f"{what} has type {dtype}; it needs numbers.")
    count = 1
    for length in shape:
        count *= int(length)
    size = count * dtype.itemsize
    if size > limits.upload_bytes:
        raise LimitExceeded(
            "The size in bytes that the header claims", size, limits.upload_bytes, "CHAINRULE_MAX_UPLOAD_BYTES",
            pointer="/file",
        )  # fmt: skip
    content = bytearray()
    while len(content) < size and (block := file.read(min(BLOCK_BYTES, size - len(content)))):
        content += block
    if len(content) < size:
        raise refuse(f"{what} is truncated: its header claims {size:,} bytes and {len(content):,} are there.")
    flat = np.frombuffer(content, dtype=dtype, count=count)
    array: NDArray[Any] = flat.reshape(shape, order="F" if fortran else "C")
    if array.ndim == 0:
        raise refuse(f"{what} is a single number; it needs samples as rows.")
    return array
