"""The canonical file of a dataset: its bytes, its hash, and the local copy that is mapped into memory.

It is one safetensors file with X, labels or Y, and the samples' weights if they have any. Its SHA-256,
taken together with the names of classes, features and categories, is the dataset's identity.
"""

import contextlib
import hashlib
import itertools
import json
import logging
import os
import struct
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from chainrule.app.errors import AppError

CHUNK_BYTES = 1 << 20
log = logging.getLogger(__name__)
_TYPES = {"U8": np.uint8, "I32": np.int32, "F32": np.float32, "F64": np.float64}
_TYPE_NAMES = {np.dtype(dtype): name for name, dtype in _TYPES.items()}

_intact: dict[Path, tuple[int, ...]] = {}
"""Local copies whose hash this process has compared, as they were then."""


@dataclass(frozen=True)
class Content:
    """What is stored of a dataset, as arrays; X is (m, n), labels (m,) or Y (m, k), weights (m,)."""

    X: NDArray[Any]
    labels: NDArray[np.int32] | None
    Y: NDArray[np.float64] | None
    weights: NDArray[np.float64] | None = None

    @cached_property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by name, the widest type first, so that each begins at a multiple of its own size."""
        given = {"X": self.X, "labels": self.labels, "Y": self.Y, "weights": self.weights}
        arrays = [(name, np.ascontiguousarray(array)) for name, array in given.items() if array is not None]
        return dict(sorted(arrays, key=lambda entry: -entry[1].dtype.itemsize))

    @cached_property
    def header(self) -> bytes:
        """The safetensors header, padded to a multiple of 8 bytes."""
        entries, start = {}, 0
        for name, array in self.arrays.items():
            entries[name] = {
                "dtype": _TYPE_NAMES[array.dtype],
                "shape": list(array.shape),
                "data_offsets": [start, start + array.nbytes],
            }
            start += array.nbytes
        text = json.dumps(entries, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return struct.pack("<Q", len(text)) + text

    @property
    def size_bytes(self) -> int:
        """The size of the file."""
        return len(self.header) + sum(array.nbytes for array in self.arrays.values())

    def pieces(self) -> Iterator[bytes | memoryview]:
        """Cut the file into chunks that are views, not copies."""
        yield self.header
        for array in self.arrays.values():
            flat = array.reshape(-1).view(np.uint8).data
            for start in range(0, len(flat), CHUNK_BYTES):
                yield flat[start : start + CHUNK_BYTES]

    def chunks(self) -> Iterator[bytes]:
        """Cut the file into chunks as they are stored."""
        return map(bytes, self.pieces())


@dataclass(frozen=True)
class Names:
    """The names that belong to a dataset's identity: of classes, features, and each feature's categories, if any."""

    classes: tuple[str, ...]
    features: tuple[str, ...]
    categories: tuple[tuple[str, ...] | None, ...] = ()

    def sha256(self, pieces: Iterable[bytes | memoryview]) -> str:
        """Compute the identity of a file together with these names."""
        # Datasets without categories are older than these, and keep their identity.
        named = [self.classes, self.features, *([self.categories] if self.categories else [])]
        digest = hashlib.sha256(json.dumps(named).encode())
        for piece in pieces:
            digest.update(piece)
        return digest.hexdigest()


def open_copy(
    path: Path, names: Names, sha256: str, stored: Callable[[], Iterator[bytes]], most_bytes: int
) -> dict[str, NDArray[Any]]:
    """Map the local copy into memory; fetch it first if it is not there or not what it should be.

    The copy is trusted by its hash alone, because equal runs must see equal bytes: it is compared when the
    copy is fetched, and when a process first opens it or finds it changed since.

    Args:
        path: of the copy, which may vanish at any time.
        names: of classes and features.
        sha256: the identity.
        stored: reads the file from where it is stored.
        most_bytes: room for all such files in its folder; others that were not used for longest make room for it.

    Raises:
        AppError: what is stored is damaged itself.
    """
    try:
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            if _is_intact(path, file, names, sha256):
                used(path, file)
                return _map(file)
        with _fetch(path, names, sha256, stored()) as file:
            prune(path.parent, most_bytes, path)
            return _map(file)
    except OSError as error:
        log.warning("cannot keep a copy of a dataset in %s, it is held in memory: %s", path.parent, error)
        return _held(names, sha256, stored())


def used(path: Path, file: BinaryIO) -> None:
    """Note that a file was used just now; its time of change, by which it is known, stays."""
    with contextlib.suppress(OSError):
        os.utime(path, ns=(time.time_ns(), os.fstat(file.fileno()).st_mtime_ns))


def prune(folder: Path, limit: int, kept: Path) -> None:
    """Remove the files that were not used for longest while all together take more than the limit."""
    found = []
    for path in itertools.chain(folder.glob("*.npy"), folder.glob("*.safetensors")):
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            found.append((path == kept, status.st_atime_ns, status.st_size, path))
    total = sum(size for _, _, size, _ in found)
    for _, _, size, path in sorted(found)[:-1]:
        if total <= limit:
            break
        path.unlink(missing_ok=True)  # those who have mapped it keep what they see
        total -= size


def _is_intact(path: Path, file: BinaryIO, names: Names, sha256: str) -> bool:
    if _intact.get(path) == stamp(file):
        return True
    intact = names.sha256(iter(lambda: file.read(CHUNK_BYTES), b"")) == sha256
    if intact:
        _intact[path] = stamp(file)
    return intact


def stamp(file: BinaryIO) -> tuple[int, ...]:
    """Tell a file from any other, and from itself once it has been changed."""
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _fetch(path: Path, names: Names, sha256: str, chunks: Iterator[bytes]) -> BinaryIO:
    """Write a local copy beside its place, then move it there: no reader ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    file = os.fdopen(descriptor, "w+b")
    try:
        _insist(names.sha256(_written(file, chunks)) == sha256)
        file.flush()
        _intact[path] = stamp(file)
        Path(temporary).replace(path)
    except BaseException:
        file.close()
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
    return file


def _written(file: BinaryIO, chunks: Iterator[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        file.write(chunk)
        yield chunk


def _insist(matches: bool) -> None:
    if not matches:
        raise AppError("The dataset as it is stored does not match its hash; delete it and upload it again.")


def _map(file: BinaryIO) -> dict[str, NDArray[Any]]:
    file.seek(0)
    (length,) = struct.unpack("<Q", file.read(8))
    entries = json.loads(file.read(length))
    return {
        name: np.memmap(
            file,
            dtype=_TYPES[entry["dtype"]],
            mode="r",
            offset=8 + length + entry["data_offsets"][0],
            shape=tuple(entry["shape"]),
        )
        for name, entry in entries.items()
    }


def _held(names: Names, sha256: str, chunks: Iterator[bytes]) -> dict[str, NDArray[Any]]:
    """Read the file into memory, where no copy of it can be kept."""
    content = b"".join(chunks)
    _insist(names.sha256([content]) == sha256)
    (length,) = struct.unpack("<Q", content[:8])
    arrays = {}
    for name, entry in json.loads(content[8 : 8 + length]).items():
        dtype, (start, end) = np.dtype(_TYPES[entry["dtype"]]), entry["data_offsets"]
        found = np.frombuffer(content, dtype, (end - start) // dtype.itemsize, 8 + length + start)
        arrays[name] = found.reshape(entry["shape"])
    return arrays
