"""Datasets: taken in once for each content, described, and opened for training.

The canonical form of a dataset is one safetensors file with X and labels or Y. Its SHA-256, with the
names of classes and features, is the dataset's identity; workers keep it in a local cache and map it
into memory.
"""

import contextlib
import hashlib
import json
import os
import struct
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.exc import IntegrityError

from chainrule.app.config import Settings
from chainrule.app.errors import Conflict, NotFound
from chainrule.app.services import idempotency
from chainrule.app.services.formats import Limits, Options, Table, read, rows
from chainrule.app.store import datasets as store
from chainrule.app.store import runs
from chainrule.app.store.database import Database, now
from chainrule.app.store.models import Dataset
from chainrule.engine import BUILT_IN, Data

CHUNK_BYTES = 1 << 20
MOST_RANGES = 1000
_TYPES = {"U8": np.uint8, "I32": np.int32, "F32": np.float32, "F64": np.float64}
_TYPE_NAMES = {np.dtype(dtype): name for name, dtype in _TYPES.items()}


@dataclass(frozen=True)
class Upload:
    """A dataset file as it was sent, with what the client says about it."""

    content: BinaryIO
    options: Options
    name: str = ""
    labels: BinaryIO | None = None


@dataclass(frozen=True)
class DatasetInfo:
    """What submitting a run needs to know of its dataset."""

    id: str
    samples: int
    features: int
    targets: int
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Created:
    """The dataset as clients see it, and whether it is new."""

    dataset: dict[str, Any]
    created: bool


def create_from_upload(
    database: Database, settings: Settings, upload: Upload, *, key: idempotency.Key | None = None
) -> Created:
    """Take a file in, or refuse it with the place where it is wrong.

    Raises:
        InvalidInput, LimitExceeded, UnsupportedMediaType: see `formats`.
    """
    with idempotency.in_flight(key):
        if given := idempotency.find(database, key):
            return Created(given.body, given.status_code == 201)
        table = read(upload.content, upload.labels, upload.options, _limits(settings))
        return _create(database, upload.name or upload.options.filename or "dataset", table, key)


def create_from_rows(
    database: Database,
    settings: Settings,
    *,
    name: str,
    samples: Sequence[Sequence[float]],
    targets: Sequence[Sequence[float]] | None,
    labels: Sequence[Any] | None,
    feature_names: Sequence[str] | None,
    key: idempotency.Key | None = None,
) -> Created:
    """Take rows in.

    Raises:
        InvalidInput, LimitExceeded: with a pointer to the row.
    """
    with idempotency.in_flight(key):
        if given := idempotency.find(database, key):
            return Created(given.body, given.status_code == 201)
        table = rows.read(samples, targets, labels, feature_names, _limits(settings))
        return _create(database, name or "dataset", table, key)


def get(database: Database, dataset_id: str) -> dict[str, Any]:
    """Look at one dataset.

    Raises:
        NotFound: there is none of this id.
    """
    if dataset_id in BUILT_IN:
        return _view_built_in(dataset_id)
    with database.reading() as session:
        return _view(_found(store.get(session, dataset_id), dataset_id))


def page(database: Database, limit: int, after: str | None) -> list[dict[str, Any]]:
    """List datasets, from behind `after`: the built-in ones first, then the others by id."""
    names = list(BUILT_IN)
    listed: list[dict[str, Any]] = []
    if after is None or after in BUILT_IN:
        start = 0 if after is None else names.index(after) + 1
        listed = [_view_built_in(name) for name in names[start : start + limit]]
        after = None
    if len(listed) < limit:
        with database.reading() as session:
            listed += [_view(dataset) for dataset in store.page(session, limit - len(listed), after)]
    return listed


def preview(database: Database, settings: Settings, dataset_id: str, limit: int) -> dict[str, Any]:
    """Show the first samples."""
    data = open_data(database, settings, dataset_id)
    first = data.take(slice(0, limit))
    return {
        "feature_names": list(data.feature_names),
        "rows": first.X.tolist(),
        "labels": None if first.labels is None else [data.classes[label] for label in first.labels],
        "targets": None if first.Y is None else first.Y.tolist(),
    }


def delete(database: Database, dataset_id: str) -> None:
    """Delete a dataset no run uses.

    Raises:
        NotFound: there is none of this id.
        Conflict: it is built in, or a run uses it.
    """
    if dataset_id in BUILT_IN:
        raise Conflict(f"Dataset {dataset_id!r} is built in and cannot be deleted.")
    with database.writing() as session:
        _found(store.get(session, dataset_id), dataset_id)
        if runs.uses_dataset(session, dataset_id):
            raise Conflict(f"Dataset {dataset_id} is used by runs; delete them first.")
        store.remove(session, dataset_id)


def describe(database: Database, dataset_id: str) -> DatasetInfo:
    """Tell what submitting a run needs to know.

    Raises:
        NotFound: there is none of this id.
    """
    if dataset_id in BUILT_IN:
        shown = _view_built_in(dataset_id)
    else:
        with database.reading() as session:
            shown = _view(_found(store.get(session, dataset_id), dataset_id))
    return DatasetInfo(dataset_id, shown["samples"], shown["features"], shown["targets"], tuple(shown["classes"]))


def open_data(database: Database, settings: Settings, dataset_id: str) -> Data:
    """Open a dataset for reading; its arrays are mapped from the local cache.

    Raises:
        NotFound: there is none of this id.
    """
    if dataset_id in BUILT_IN:
        return _built_in(dataset_id)
    with database.reading() as session:
        dataset = _found(store.get(session, dataset_id), dataset_id)
        path = settings.cache_dir / f"{dataset.id}.safetensors"
        if not (path.exists() and path.stat().st_size == dataset.size_bytes):
            _fetch(path, store.chunks(session, dataset_id))
    arrays = _map(path)
    return Data(
        arrays["X"],
        arrays.get("Y"),
        arrays.get("labels"),
        tuple(dataset.classes),
        tuple(dataset.report["feature_names"]),
    )


def _limits(settings: Settings) -> Limits:
    return Limits(settings.max_upload_bytes, settings.max_dataset_values)


def _create(database: Database, name: str, table: Table, key: idempotency.Key | None) -> Created:
    arrays: dict[str, NDArray[Any]] = {"X": table.X}
    if table.labels is not None:
        arrays["labels"] = table.labels
    elif table.Y is not None:
        arrays["Y"] = table.Y
    header = _header(arrays)
    digest = hashlib.sha256(json.dumps([table.classes, table.feature_names]).encode())
    digest.update(header)
    for piece in _pieces(arrays):
        digest.update(piece)
    sha256 = digest.hexdigest()
    dataset = Dataset(
        id=f"ds_{sha256[:24]}",
        name=name[:200],
        sha256=sha256,
        samples=len(table.X),
        features=table.X.shape[1],
        targets=1 if table.Y is None else table.Y.shape[1],
        classes=table.classes,
        size_bytes=len(header) + sum(array.nbytes for array in arrays.values()),
        report=_report(table),
        created_at=now(),
    )
    shown = _view(dataset)
    try:
        with database.writing() as session:
            if given := idempotency.begin(session, key):
                return Created(given.body, given.status_code == 201)
            known = store.get(session, dataset.id)
            if known is not None:
                shown = _view(known)
            else:
                store.add(session, dataset, _chunked(header, arrays))
            status = 200 if known else 201
            idempotency.keep(session, key, idempotency.Answer(status, f"/v1/datasets/{dataset.id}", shown))
    except IntegrityError:
        # Two uploads of one content at the same time: the other was faster, and its dataset is ours as well.
        return Created(get(database, dataset.id), created=False)
    return Created(shown, created=known is None)


def _report(table: Table) -> dict[str, Any]:
    report: dict[str, Any] = dict(table.report)
    report["feature_names"] = table.feature_names
    report["task"] = "classification" if table.classes else "regression"
    if table.labels is not None:
        counts = np.bincount(table.labels, minlength=len(table.classes)).tolist()
        report["classes"] = [
            {"name": name, "samples": count} for name, count in zip(table.classes, counts, strict=True)
        ]
    shown = table.X[:, :MOST_RANGES]
    columns = zip(
        table.feature_names, shown.min(axis=0), shown.max(axis=0), shown.mean(axis=0, dtype=np.float64), strict=False
    )
    report["ranges"] = [
        {"feature": name, "minimum": float(low), "maximum": float(high), "mean": float(mean)}
        for name, low, high, mean in columns
    ]
    notes = list(table.notes)
    if table.X.shape[1] > MOST_RANGES:
        notes.append(f"Ranges are listed for the first {MOST_RANGES} features.")
    report["notes"] = notes
    return report


def _view(dataset: Dataset) -> dict[str, Any]:
    return {
        "id": dataset.id,
        "name": dataset.name,
        "builtin": False,
        "sha256": dataset.sha256,
        "samples": dataset.samples,
        "features": dataset.features,
        "targets": dataset.targets,
        "classes": dataset.classes,
        "size_bytes": dataset.size_bytes,
        "created_at": dataset.created_at.isoformat().replace("+00:00", "Z"),
        "report": dataset.report,
    }


@cache
def _built_in(name: str) -> Data:
    return BUILT_IN[name]()


@cache
def _view_built_in(name: str) -> dict[str, Any]:
    data = _built_in(name)
    assert data.labels is not None
    labels = data.labels.astype(np.int32)
    table = Table(data.X, None, labels, list(data.classes), list(data.feature_names), {"format": "built-in"})
    table.notes.append((BUILT_IN[name].__doc__ or "").splitlines()[0])
    arrays = {"X": data.X, "labels": labels}
    digest = hashlib.sha256(_header(arrays))
    for piece in _pieces(arrays):
        digest.update(piece)
    return {
        "id": name,
        "name": name,
        "builtin": True,
        "sha256": digest.hexdigest(),
        "samples": data.samples,
        "features": data.features,
        "targets": 1,
        "classes": list(data.classes),
        "size_bytes": sum(array.nbytes for array in arrays.values()),
        "created_at": None,
        "report": _report(table),
    }


def _found(dataset: Dataset | None, dataset_id: str) -> Dataset:
    if dataset is None:
        raise NotFound(f"There is no dataset {dataset_id!r}; built in are {', '.join(BUILT_IN)}.")
    return dataset


def _header(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Write the safetensors header; its length keeps the arrays aligned to 8 bytes."""
    entries, start = {}, 0
    for name, array in arrays.items():
        entries[name] = {
            "dtype": _TYPE_NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [start, start + array.nbytes],
        }
        start += array.nbytes
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _pieces(arrays: Mapping[str, NDArray[Any]]) -> Iterator[memoryview]:
    for array in arrays.values():
        flat = memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        for start in range(0, len(flat), CHUNK_BYTES):
            yield flat[start : start + CHUNK_BYTES]


def _chunked(header: bytes, arrays: Mapping[str, NDArray[Any]]) -> Iterator[bytes]:
    yield header
    for piece in _pieces(arrays):
        yield bytes(piece)


def _fetch(path: Path, chunks: Iterator[bytes]) -> None:
    """Write a local copy beside its place, then move it there: no reader ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def _map(path: Path) -> dict[str, NDArray[Any]]:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        entries = json.loads(file.read(length))
    return {
        name: np.memmap(
            path,
            dtype=_TYPES[entry["dtype"]],
            mode="r",
            offset=8 + length + entry["data_offsets"][0],
            shape=tuple(entry["shape"]),
        )
        for name, entry in entries.items()
    }
