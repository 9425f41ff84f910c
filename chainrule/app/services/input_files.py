"""Inputs as files: X of a part of a dataset as a network takes it, made once, and mapped into memory by every run.

A file is in NPY format, followed by the SHA-256 of all before it. Its name says what it was made of, so that a
file is what it should be or is not there: whoever needs it first makes it, in blocks, and what a killed process
leaves behind has neither the name nor the hash.
"""

import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chainrule.app.config import Settings
from chainrule.app.services.dataset_files import CHUNK_BYTES, prune, stamp, used
from chainrule.engine import Data
from chainrule.engine.arrays import FloatArray, IntArray
from chainrule.engine.preprocessing import BLOCK_VALUES, Preprocessing

SHARED_BYTES = 8 << 20
"""What is smaller is made in memory, by each run for itself; that is quicker than any file."""
_DIGEST_BYTES = hashlib.sha256().digest_size

_intact: dict[Path, tuple[int, ...]] = {}
"""Files whose hash this process has compared, as they were then."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """Some samples of a dataset: the dataset's id, all its data, and the rows chosen of it; None for all."""

    dataset: str
    data: Data
    rows: IntArray | None = None

    @property
    def samples(self) -> int:
        """How many it has."""
        return self.data.samples if self.rows is None else len(self.rows)

    def take(self, start: int, stop: int) -> Data:
        """Copy consecutive samples of it out."""
        return self.data.take(slice(start, stop) if self.rows is None else self.rows[start:stop])


class _Made(NamedTuple):
    """What a file is made of: samples, the map to the network's input, and the type."""

    part: Part
    fitted: Preprocessing
    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, int]:
        return self.part.samples, self.fitted.outputs

    def name(self) -> str:
        part = self.part
        of = [part.dataset, self.shape, self.fitted.to_dict(), part.data.categories, self.dtype.str]
        digest = hashlib.sha256(json.dumps(of).encode())
        if part.rows is not None:
            digest.update(part.rows.tobytes())
        return f"{part.dataset}-{digest.hexdigest()[:32]}.npy"

    def blocks(self) -> Iterator[FloatArray]:
        rows = max(1, BLOCK_VALUES // max(self.shape[1], self.part.data.features))
        for start in range(0, self.part.samples, rows):
            with np.errstate(over="ignore"):
                mapped = self.fitted.transform(self.part.take(start, start + rows), self.dtype)
                yield np.ascontiguousarray(mapped.X, self.dtype)


def open_inputs(settings: Settings, part: Part, fitted: Preprocessing, dtype: type[np.floating[Any]]) -> Data:
    """Open samples as a network takes them; what is large is mapped, by all who open the same, and never copied.

    Concurrency: one process at a time makes a file; whoever needs the same one waits for it.
    """
    made = _Made(part, fitted, np.dtype(dtype))
    data, rows = part.data, part.rows
    if rows is None and fitted.is_identity and data.X.dtype == dtype:
        return data
    X = None if in_memory_bytes(*made.shape, made.dtype.itemsize) else _open_or_make(settings, made)
    if X is None:
        return fitted.transform(part.take(0, part.samples) if rows is not None else data, dtype)
    bare = replace(data, X=data.X[:, :0])
    names = data.feature_names if fitted.is_identity else fitted.output_names
    return replace(bare if rows is None else bare.take(rows), X=X, feature_names=names, categories=())


def in_memory_bytes(samples: int, inputs: int, itemsize: int) -> int:
    """Tell how much memory a run may need for samples made for it alone; 0 if they are mapped from a file."""
    size = samples * inputs * itemsize
    return size if size < SHARED_BYTES else 0


def _open_or_make(settings: Settings, made: _Made) -> NDArray[Any] | None:
    """Map the file, made first if it is not there; None if it cannot be written."""
    folder = settings.cache_dir
    path = folder / made.name()
    try:
        if (found := _open(path, made)) is not None:
            return found
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            if _open(path, made) is None:
                _write(path, made)
                prune(folder, settings.max_cache_bytes, path)
            return _open(path, made)
    except OSError as error:
        log.warning("cannot keep inputs as a file, each run holds them in memory: %s", error)
        return None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes, and threads, from writing here; the lock of one that is killed is free at once."""
    with (folder / "inputs.lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _open(path: Path, made: _Made) -> NDArray[Any] | None:
    with suppress(FileNotFoundError), path.open("rb") as file:
        if _intact.get(path) != stamp(file):
            if not _matches_hash(file):
                return None
            _intact[path] = stamp(file)
        used(path, file)
        file.seek(0)
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        return np.memmap(file, made.dtype, mode="r", offset=file.tell(), shape=made.shape)
    return None


def _matches_hash(file: BinaryIO) -> bool:
    left = os.fstat(file.fileno()).st_size - _DIGEST_BYTES
    digest = hashlib.sha256()
    while left > 0 and (piece := file.read(min(CHUNK_BYTES, left))):
        digest.update(piece)
        left -= len(piece)
    return left == 0 and file.read() == digest.digest()


def _write(path: Path, made: _Made) -> None:
    """Write the file beside its place, then move it there: no reader ever sees half of it."""
    draft = path.parent / "inputs.part"  # only one is written at a time; one that was left is overwritten
    digest = hashlib.sha256()
    header = {"descr": np.lib.format.dtype_to_descr(made.dtype), "fortran_order": False, "shape": made.shape}
    try:
        with draft.open("w+b") as file:
            np.lib.format.write_array_header_1_0(file, header)
            file.seek(0)
            digest.update(file.read())
            for block in made.blocks():
                file.write(block.data)
                digest.update(block.data)
            file.write(digest.digest())
            file.flush()
            _intact[path] = stamp(file)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
