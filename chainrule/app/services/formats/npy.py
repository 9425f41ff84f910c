"""NPY: one array as NumPy saves it; the header is judged before an array is made."""

import ast
import math
import re
import struct
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chainrule.app.services.formats.columns import choose
from chainrule.app.services.formats.labels import MOST_CLASSES, encode_array
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
    shown,
)

MAGIC = b"\x93NUMPY"
VERSIONS = {b"\x01\x00": ("<H", "latin1"), b"\x02\x00": ("<I", "latin1"), b"\x03\x00": ("<I", "utf-8")}
TYPES = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248]|[SU][1-9][0-9]{0,3})")
MOST_HEADER_BYTES = 10_000
MOST_DIMENSIONS = 32
BLOCK_BYTES = 1 << 20


class Header(NamedTuple):
    """What an array says of itself."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]


def read(file: IO[bytes], options: Options, limits: Limits) -> Table:
    """Read one array: samples as rows, the last column being the labels or targets if no other is named.

    Raises:
        InvalidInput: pickled, truncated, not numeric, not two-dimensional.
        LimitExceeded: its header claims more than is allowed.
    """
    header = read_header(file, limits, "The file")
    if len(header.shape) != 2 or header.shape[1] < 2 or header.dtype.kind in "SU":
        raise refuse(
            f"The array has shape {header.shape} and type {header.dtype}; it needs two dimensions of numbers, samples "
            "and columns, the last column being the label or target. Use NPZ with arrays X and y to keep them apart."
        )
    samples, columns = header.shape
    check_size(samples, max(1, columns - max(1, len(options.target_columns))), limits)
    names = [f"x{position}" for position in range(1, columns + 1)]
    label, targets = choose(names, options)
    array = read_body(file, header, "The file")
    check_finite(array, "The array")
    chosen = targets or [columns - 1 if label is None else label]
    y = array[:, chosen] if targets else array[:, chosen[0]]
    said = None if label is None and not targets else label is not None
    table = labelled(np.delete(array, chosen, axis=1), y, said)
    table.feature_names = [name for position, name in enumerate(names) if position not in chosen]
    table.report["format"] = "npy"
    which = "The last column holds" if said is None else f"{', '.join(names[i] for i in chosen)} (named) hold"
    table.notes.insert(0, f"{which} the targets; the others are features.")
    if options.divide_by is not None:
        divide(table, options.divide_by)
    return table


def labelled(X: NDArray[Any], y: NDArray[Any], said: bool | None) -> Table:
    """Make a table of samples and what they are to be learned as.

    Args:
        X: (m, n) samples.
        y: (m,) labels or targets, or (m, k) targets.
        said: True if the client says that these are labels, False for targets, None to infer it.

    Raises:
        InvalidInput: not what the client says, too many classes, or only one.
    """
    table = Table(X=compact(X), feature_names=[f"x{position}" for position in range(1, X.shape[1] + 1)])
    if said is True and y.ndim > 1:
        raise refuse(f"The labels have shape {y.shape}; they need one dimension.", "/label_column")
    if said is not False and y.ndim == 1 and (said or _looks_like_labels(y)):
        table.labels, table.classes = encode_array(y)
        hint = "" if said else "; name them in target_columns if they are numbers to predict"
        table.notes.append(f"The targets have {len(table.classes)} different values: class labels{hint}.")
    elif y.dtype.kind in "US":
        raise refuse("Targets that are strings must be one-dimensional class labels.")
    else:
        table.Y = np.ascontiguousarray(y, dtype=np.float64).reshape(len(X), -1)
        hint = "" if said is False else "; name them in label_column if they are labels" if y.ndim == 1 else ""
        table.notes.append(f"The targets are numbers to predict: regression{hint}.")
    if table.X.dtype == np.uint8:
        table.notes.append("The features are bytes; divide_by=255 makes them numbers from 0 to 1.")
    return table


def _looks_like_labels(y: NDArray[Any]) -> bool:
    if y.dtype.kind in "USb":
        return True
    distinct = len(np.unique(y))
    return (
        bool(np.all(np.mod(y, 1) == 0))
        and distinct <= MOST_CLASSES
        and (y.dtype.kind in "iu" or len(y) >= 2 * distinct)
    )


def read_header(file: IO[bytes], limits: Limits, what: str) -> Header:
    """Read what an array says of itself, and refuse what is not reasonable.

    Raises:
        InvalidInput: no array, pickled, not of numbers or strings, empty.
        LimitExceeded: it claims more than is allowed.
    """
    start = file.read(len(MAGIC) + 2)
    if not start.startswith(MAGIC) or start[len(MAGIC) :] not in VERSIONS:
        raise refuse(f"{what} is not a NumPy array: it does not begin as versions 1.0 to 3.0 of NPY do.")
    form, encoding = VERSIONS[start[len(MAGIC) :]]
    prefix = file.read(struct.calcsize(form))
    if len(prefix) < struct.calcsize(form):
        raise refuse(f"{what} is truncated within its header.")
    (length,) = struct.unpack(form, prefix)
    if length > MOST_HEADER_BYTES:
        raise refuse(f"{what} has a header of {length:,} bytes; an array of numbers needs a few hundred.")
    content = file.read(length)
    if len(content) < length:
        raise refuse(f"{what} is truncated within its header.")
    try:
        # Python 2 wrote the lengths as 4L.
        fields = ast.literal_eval(re.sub(r"(?<=[0-9])L\b", "", content.decode(encoding)))
        type_name, fortran, shape = (fields[key] for key in ("descr", "fortran_order", "shape"))
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError) as error:
        raise refuse(f"{what} has a damaged header; save the array again.") from error
    dtype = _dtype(type_name, what)
    if not (
        isinstance(shape, tuple)
        and len(shape) <= MOST_DIMENSIONS
        and all(type(length) is int and 0 <= length < 1 << 63 for length in shape)
    ):
        raise refuse(f"{what} claims the shape {shown(str(shape))}, which is none.")
    if not shape:
        raise refuse(f"{what} is a single number; it needs samples as rows.")
    if 0 in shape:
        raise refuse(f"{what} is empty: its shape is {shape}.")
    check_bytes(math.prod(shape) * dtype.itemsize, limits, "/file")
    return Header(shape, bool(fortran), dtype)


def _dtype(name: Any, what: str) -> np.dtype[Any]:
    if isinstance(name, str) and "O" in name:
        raise refuse(f"{what} is pickled (its type is object); save it as an array of numbers or of strings.")
    if not isinstance(name, str) or not TYPES.fullmatch(name):
        raise refuse(f"{what} has type {shown(str(name))}; it needs numbers of at most 8 bytes.")
    return np.dtype(name)


def read_body(file: IO[bytes], header: Header, what: str) -> NDArray[Any]:
    """Read the array whose header has been found reasonable, to the end of the file.

    Raises:
        InvalidInput: less or more than the header claims.
    """
    size = math.prod(header.shape) * header.dtype.itemsize
    content = bytearray()
    while len(content) < size and (block := file.read(min(BLOCK_BYTES, size - len(content)))):
        content += block
    if len(content) < size:
        raise refuse(f"{what} is truncated: its header claims {size:,} bytes and {len(content):,} are there.")
    # Reading on is also what makes an archive compare the checksum of its member.
    if file.read(1):
        raise refuse(f"{what} is longer than the {size:,} bytes its header claims; save the array again.")
    if header.dtype.kind == "b":
        array: NDArray[Any] = np.frombuffer(content, dtype=np.uint8) != 0
    else:
        array = np.frombuffer(content, dtype=header.dtype)
        array = array.astype(header.dtype.newbyteorder("="), copy=False)
    return array.reshape(header.shape, order="F" if header.fortran else "C")
