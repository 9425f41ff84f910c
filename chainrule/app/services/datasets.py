"""Datasets: taken in once for each content, described, and opened for training."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, BinaryIO

import numpy as np
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from chainrule.app.config import Settings
from chainrule.app.errors import Conflict, InvalidInput, NotFound
from chainrule.app.services import idempotency, quotas
from chainrule.app.services.dataset_files import Content, Names, open_copy
from chainrule.app.services.formats import Limits, Options, Table, read, rows
from chainrule.app.store import datasets as store
from chainrule.app.store import runs
from chainrule.app.store.database import Database, now
from chainrule.app.store.models import LOCAL, Dataset
from chainrule.engine import BUILT_IN, Data
from chainrule.engine.preprocessing import Categories

MOST_RANGES = 1000


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
    categories: Categories


@dataclass(frozen=True)
class Created:
    """The dataset as clients see it, whether it is new, and whether a repeated request is answered."""

    dataset: dict[str, Any]
    created: bool
    replayed: bool = False


def create_from_upload(
    database: Database, settings: Settings, upload: Upload, *, key: idempotency.Key | None = None
) -> Created:
    """Take a file in, or refuse it with the place where it is wrong.

    Raises:
        InvalidInput, LimitExceeded, UnsupportedMediaType: see `formats`.
        StorageFull: there is no room for it.
    """
    with idempotency.in_flight(key):
        if given := idempotency.find(database, key):
            return Created(given.body, given.status_code == 201, replayed=True)
        table = read(upload.content, upload.labels, upload.options, _limits(settings))
        return _create(database, settings, upload.name or upload.options.filename or "dataset", table, key)


def create_from_rows(
    database: Database,
    settings: Settings,
    *,
    name: str,
    samples: Sequence[rows.Row],
    targets: Sequence[Sequence[float]] | None,
    labels: Sequence[Any] | None,
    feature_names: Sequence[str] | None,
    weights: Sequence[float] | None = None,
    key: idempotency.Key | None = None,
) -> Created:
    """Take rows in.

    Raises:
        InvalidInput, LimitExceeded: with a pointer to the row.
        StorageFull: there is no room for them.
    """
    with idempotency.in_flight(key):
        if given := idempotency.find(database, key):
            return Created(given.body, given.status_code == 201, replayed=True)
        table = rows.read(samples, targets, labels, feature_names, _limits(settings), weights)
        return _create(database, settings, name or "dataset", table, key)


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
    rows = first.X.tolist()
    for position, column in enumerate(data.categories):
        if column is not None:
            for row in rows:
                row[position] = column[int(row[position])]
    return {
        "feature_names": list(data.feature_names),
        "rows": rows,
        "labels": None if first.labels is None else [data.classes[label] for label in first.labels],
        "targets": None if first.Y is None else first.Y.tolist(),
        "weights": None if first.weights is None else first.weights.tolist(),
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
        if not store.hold(session, dataset_id, to_delete=True):
            raise _not_there(dataset_id)
        if runs.uses_dataset(session, dataset_id):
            raise Conflict(
                f"Dataset {dataset_id} is used by runs; delete them first. Those deleted already (GET "
                f"/v1/runs?deleted=true&dataset={dataset_id}) need it to be restored, and let go of it when they are "
                "purged: DELETE /v1/runs/{run_id}?purge=true."
            )
        store.remove(session, dataset_id)


def hold(session: Session, dataset_id: str | None, pointer: str) -> None:
    """Keep a dataset from being deleted until this transaction ends.

    Raises:
        InvalidInput: it has been deleted meanwhile.
    """
    if dataset_id is not None and dataset_id not in BUILT_IN and not store.hold(session, dataset_id):
        raise InvalidInput.at(pointer, _not_there(dataset_id).detail)


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
    return DatasetInfo(
        id=dataset_id,
        samples=shown["samples"],
        features=shown["features"],
        targets=shown["targets"],
        classes=tuple(shown["classes"]),
        categories=_categories(shown["report"]) or (None,) * shown["features"],
    )


def open_data(database: Database, settings: Settings, dataset_id: str) -> Data:
    """Open a dataset for reading; its arrays are mapped from the local cache.

    Raises:
        NotFound: there is none of this id.
    """
    if dataset_id in BUILT_IN:
        return _built_in(dataset_id)
    with database.reading() as session:
        dataset = _found(store.get(session, dataset_id), dataset_id)
    categories = _categories(dataset.report)
    names = Names(tuple(dataset.classes), tuple(dataset.report["feature_names"]), categories)

    def stored() -> Iterator[bytes]:
        with database.reading() as session:
            _found(store.get(session, dataset_id), dataset_id)
            yield from store.chunks(session, dataset_id)

    path = settings.cache_dir / f"{dataset_id}.safetensors"
    arrays = open_copy(path, names, dataset.sha256, stored, settings.max_cache_bytes)
    return Data(
        arrays["X"], arrays.get("Y"), arrays.get("labels"), names.classes, names.features, categories,
        arrays.get("weights"),
    )  # fmt: skip


def _limits(settings: Settings) -> Limits:
    return Limits(settings.max_upload_bytes, settings.max_dataset_values)


def _create(database: Database, settings: Settings, name: str, table: Table, key: idempotency.Key | None) -> Created:
    content = Content(table.X, table.labels, table.Y, table.weights)
    names = Names(tuple(table.classes), tuple(table.feature_names), table.categories)
    sha256 = names.sha256(content.pieces())
    dataset = Dataset(
        id=f"ds_{_own_hash(database.owner, sha256)[:24]}",
        name="".join(character for character in name if character.isprintable())[:200],
        sha256=sha256,
        samples=len(table.X),
        features=table.X.shape[1],
        targets=1 if table.Y is None else table.Y.shape[1],
        classes=table.classes,
        size_bytes=content.size_bytes,
        report=_report(table),
        created_at=now(),
    )
    try:
        return _store(database, settings, dataset, content, key)
    except IntegrityError:
        # Two uploads of one content at the same time: the other was faster, and its dataset is ours as well.
        return _store(database, settings, dataset, content, key)


def _own_hash(owner: str | None, sha256: str) -> str:
    """Name a content for an owner: no two have a dataset in common, and nobody learns what others have."""
    return sha256 if owner in (None, LOCAL) else hashlib.sha256(f"{owner} {sha256}".encode()).hexdigest()


def _store(
    database: Database, settings: Settings, dataset: Dataset, content: Content, key: idempotency.Key | None
) -> Created:
    """Store the dataset, or find that its content is known, and keep the answer.

    Transaction: one, of this function.
    """
    with database.writing() as session:
        if given := idempotency.begin(session, key):
            return Created(given.body, given.status_code == 201, replayed=True)
        known = store.get(session, dataset.id)
        shown = _view(known or dataset)
        if known is None:
            quotas.admit_bytes(session, settings, dataset.size_bytes)
            store.add(session, dataset, content.chunks())
        status = 200 if known else 201
        idempotency.keep(session, key, idempotency.Answer(status, f"/v1/datasets/{dataset.id}", shown))
    return Created(shown, created=known is None)


def _report(table: Table) -> dict[str, Any]:
    report: dict[str, Any] = dict(table.report)
    report["feature_names"] = table.feature_names
    report["columns"] = _columns(table)
    report["task"] = "classification" if table.classes else "regression"
    if table.labels is not None:
        counts = np.bincount(table.labels, minlength=len(table.classes)).tolist()
        report["classes"] = [
            {"name": name, "samples": count} for name, count in zip(table.classes, counts, strict=True)
        ]
    if (weights := table.weights) is not None:
        report["weights"] = {
            "minimum": float(weights.min()),
            "maximum": float(weights.max()),
            "mean": float((weights / len(weights)).sum()),
            "zeros": int(np.count_nonzero(weights == 0)),
        }
    # Of categories there is no range: they are in no order.
    numeric = [position for position, column in enumerate(table.column_categories) if column is None]
    shown = table.X[:, :MOST_RANGES] if table.categories == () else table.X[:, numeric[:MOST_RANGES]]
    lows, highs = shown.min(axis=0), shown.max(axis=0)
    with np.errstate(over="ignore", invalid="ignore"):
        means = shown.mean(axis=0, dtype=np.float64)
        if not np.isfinite(means).all():
            # The sum of numbers near the largest is infinite, which JSON cannot say; their parts can be added.
            means = np.clip((shown / float(len(shown))).sum(axis=0), lows, highs)
    named = [table.feature_names[position] for position in numeric]
    report["ranges"] = [
        {"feature": name, "minimum": float(low), "maximum": float(high), "mean": float(mean)}
        for name, low, high, mean in zip(named, lows, highs, means, strict=False)
    ]
    notes = list(table.notes)
    if len(numeric) > MOST_RANGES:
        notes.append(f"Ranges are listed for the first {MOST_RANGES} features.")
    report["notes"] = notes
    return report


def _columns(table: Table) -> list[dict[str, Any]]:
    """Describe the feature columns; if all are numeric the first of many will do."""
    shown = MOST_RANGES if table.categories == () else None
    return [
        {"name": name, "kind": "numeric"}
        if column is None
        else {"name": name, "kind": "categorical", "categories": list(column)}
        for name, column in zip(table.feature_names[:shown], table.column_categories[:shown], strict=True)
    ]


def _categories(report: dict[str, Any]) -> Categories:
    """Read the categories of each column off a report, () if all are numeric; older reports have no columns."""
    found = tuple(
        tuple(column["categories"]) if "categories" in column else None for column in report.get("columns", ())
    )
    return found if any(column is not None for column in found) else ()


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
    table = Table(
        X=data.X,
        labels=data.labels.astype(np.int32),
        classes=list(data.classes),
        feature_names=list(data.feature_names),
        report={"format": "built-in"},
        notes=[(BUILT_IN[name].__doc__ or "").splitlines()[0]],
    )
    content = Content(table.X, table.labels, None)
    return {
        "id": name,
        "name": name,
        "builtin": True,
        "sha256": Names(data.classes, data.feature_names).sha256(content.pieces()),
        "samples": data.samples,
        "features": data.features,
        "targets": 1,
        "classes": list(data.classes),
        "size_bytes": content.size_bytes,
        "created_at": None,
        "report": _report(table),
    }


def _found(dataset: Dataset | None, dataset_id: str) -> Dataset:
    if dataset is None:
        raise _not_there(dataset_id)
    return dataset


def _not_there(dataset_id: str) -> NotFound:
    return NotFound(f"There is no dataset {dataset_id!r}; built in are {', '.join(BUILT_IN)}.")
