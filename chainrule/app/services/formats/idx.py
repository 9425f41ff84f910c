"""IDX: the format of the MNIST files; images in one file, labels in another."""

import math
import struct
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from chainrule.app.services.formats.labels import encode_array
from chainrule.app.services.formats.table import (
    Limits,
    Options,
    Table,
    check_bytes,
    check_finite,
    check_size,
    compact,
    divide,
    refuse,
)

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
    if options.label_column is not None or options.target_columns:
        raise refuse("IDX has no columns; its labels are those of labels_file.", "/label_column")
    shape, dtype = _header(file, limits, "/file")
    if len(shape) < 2:
        raise refuse("The file has one dimension: it holds labels; send it as labels_file, and the images as file.")
    check_size(shape[0], math.prod(shape[1:]), limits)
    label_shape, label_dtype = _header(labels, limits, "/labels_file")
    if len(label_shape) != 1:
        raise refuse(
            f"labels_file has {len(label_shape)} dimensions: it holds images; send it as file, and the labels as "
            "labels_file.",
            "/labels_file",
        )
    if label_shape != shape[:1]:
        raise refuse(f"There are {shape[0]:,} samples and {label_shape[0]:,} labels.", "/labels_file")
    X = _body(file, shape, dtype, "/file").reshape(shape[0], -1)
    check_finite(X, "The file")
    y = _body(labels, label_shape, label_dtype, "/labels_file")
    check_finite(y, "labels_file", "/labels_file")
    numbers, classes = encode_array(y, "/labels_file")
    table = Table(
        X=compact(X),
        labels=numbers,
        classes=classes,
        feature_names=[f"pixel_{position}" for position in range(X.shape[1])],
        report={"format": "idx"},
        notes=[f"{shape[0]} samples of shape {shape[1:]} were laid out as {X.shape[1]} features."],
    )
    if options.divide_by is None and table.X.dtype == np.uint8:
        divide(table, 255.0, " (bytes become numbers from 0 to 1; divide_by=1 keeps them)")
    elif options.divide_by not in (None, 1):
        divide(table, options.divide_by)
    return table


def _header(file: BinaryIO, limits: Limits, pointer: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    start = file.read(4)
    if not looks_like_idx(start):
        raise refuse("The file is not IDX: its first bytes are not a known type and number of dimensions.", pointer)
    dtype, dimensions = np.dtype(TYPES[start[2]]), start[3]
    lengths = file.read(4 * dimensions)
    if len(lengths) < 4 * dimensions:
        raise refuse("The IDX file is truncated within its header.", pointer)
    shape = struct.unpack(f">{dimensions}I", lengths)
    if 0 in shape:
        raise refuse(f"The IDX file is empty: its header claims the shape {shape}.", pointer)
    check_bytes(math.prod(shape) * dtype.itemsize, limits, pointer)
    return shape, dtype


def _body(file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype[Any], pointer: str) -> NDArray[Any]:
    size = math.prod(shape) * dtype.itemsize
    content = file.read(size)
    if len(content) < size:
        raise refuse(
            f"The IDX file is truncated: its header claims {size:,} bytes and {len(content):,} are there.", pointer
        )
    if file.read(1):
        raise refuse(f"The IDX file is longer than the {size:,} bytes its header claims.", pointer)
    return np.frombuffer(content, dtype=dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
