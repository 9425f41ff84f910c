"""IDX: the format of the MNIST files; images in one file, labels in another."""

import struct
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from chainrule.app.errors import LimitExceeded
from chainrule.app.services.formats.table import Limits, Options, Table, check_finite, check_size, encode_labels, refuse

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def looks_like_idx(start: bytes) -> bool:
    """Tell IDX by its first bytes."""
    return len(start) >= 4 and start[:2] == b"\0\0" and start[2] in TYPES and 1 <= start[3] <= 8


def read(file: BinaryIO, labels: BinaryIO | None, options: Options, limits: Limits) -> Table:
    """Read samples and their labels.

    Raises:
        InvalidInput: not IDX, truncated, no labels, or not as many labels as samples.
        LimitExceeded: a header claims more than is allowed.
    """
    if labels is None:
        raise refuse("IDX keeps labels in a file of their own; send it as labels_file.", "/labels_file")
    samples = _array(file, limits, "/file")
    if samples.ndim < 2:
        raise refuse("The file has one dimension: it holds labels; send it as labels_file, and the images as file.")
    y = _array(labels, limits, "/labels_file")
    if y.ndim != 1 or len(y) != len(samples):
        raise refuse(f"There are {len(samples)} samples and labels of shape {y.shape}.", "/labels_file")
    X = samples.reshape(len(samples), -1)
    check_size(X.shape[0], X.shape[1], limits)
    check_finite(X, "The file")
    notes = [f"{len(X)} samples of shape {samples.shape[1:]} were laid out as {X.shape[1]} features."]
    divide_by = options.divide_by if options.divide_by is not None else (255.0 if X.dtype == np.uint8 else 1.0)
    if divide_by != 1:
        X = (X / divide_by).astype(np.float32 if samples.dtype.itemsize <= 2 else np.float64)
        given = "" if options.divide_by is not None else " (bytes become numbers from 0 to 1; divide_by=1 keeps them)"
        notes.append(f"Features were divided by {divide_by:g}{given}.")
    elif X.dtype != np.uint8:
        X = X.astype(np.float64)
    numbers, classes = encode_labels([str(value) for value in y.tolist()])
    names = [f"pixel_{number}" for number in range(X.shape[1])]
    return Table(X=X, labels=numbers, classes=classes, feature_names=names, report={"format": "idx"}, notes=notes)


def _array(file: BinaryIO, limits: Limits, pointer: str) -> NDArray[Any]:
    start = file.read(4)
    if not looks_like_idx(start):
        raise refuse("The file is not IDX: its first bytes are not a known type and number of dimensions.", pointer)
    dtype, dimensions = np.dtype(TYPES[start[2]]), start[3]
    lengths = file.read(4 * dimensions)
    if len(lengths) < 4 * dimensions:
        raise refuse("The IDX file is truncated within its header.", pointer)
    shape = struct.unpack(f">{dimensions}I", lengths)
    count = 1
    for length in shape:
        count *= length
    size = count * dtype.itemsize
    if size > limits.upload_bytes:
        raise LimitExceeded(
            "The size in bytes that the header claims", size, limits.upload_bytes, "CHAINRULE_MAX_UPLOAD_BYTES",
            pointer=pointer,
        )  # fmt: skip
    content = file.read(size)
    if len(content) < size:
        raise refuse(
            f"The IDX file is truncated: its header claims {size:,} bytes and {len(content):,} are there.", pointer
        )
    return np.frombuffer(content, dtype=dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
