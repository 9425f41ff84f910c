"""Batches: the samples an inspection asks about, as the network of a checkpoint takes them.

Rows of the run's dataset, samples sent along, or a whole split; with their targets and what their errors weigh.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chainrule.app.config import Settings
from chainrule.app.errors import InvalidInput, LimitExceeded
from chainrule.app.services import checkpoints, datasets, training
from chainrule.app.services.formats import rows as sent
from chainrule.app.services.formats.rows import Row
from chainrule.app.store.database import Database
from chainrule.engine import Data, EngineError, NetworkSpec, goal
from chainrule.engine.arrays import FloatArray, IntArray
from chainrule.engine.preprocessing import Preprocessing

TRAINING, VALIDATION = SPLITS = ("training", "validation")
UNIT_OPERATIONS = 100
"""What a unit's functions take for one sample, in multiplications of a matrix product."""


@dataclass(frozen=True)
class Selection:
    """Which samples: rows of the run's dataset, samples sent along with labels or targets, or a split."""

    rows: Sequence[int] | None = None
    samples: Sequence[Row] | None = None
    labels: Sequence[Any] | None = None
    targets: list[list[float]] | None = None
    split: str | None = None

    @property
    def pointer(self) -> str:
        """Where in a request the number of samples is decided."""
        return "/rows" if self.rows is not None else "/split" if self.split is not None else "/samples"


@dataclass(frozen=True)
class Batch:
    """Samples as a network takes them.

    Attributes:
        X: (m, n_0), features after preprocessing.
        Y: (m, n_L) targets, smoothed if the run smooths labels.
        weights: (m,) what each sample's error counts; None where all count 1.
        rows: (m,) row numbers of the dataset they are from; None if they were sent along.
        labels: (m,) their classes by number; None where there are none.
        classes: the names of the classes.
    """

    X: FloatArray
    Y: FloatArray
    weights: FloatArray | None
    rows: IntArray | None
    labels: IntArray | None
    classes: tuple[str, ...]

    @property
    def m(self) -> int:
        """How many."""
        return len(self.X)

    def row(self, position: int) -> int | None:
        """Name the dataset's row of one of them."""
        return None if self.rows is None else int(self.rows[position])


def open_batch(
    database: Database, settings: Settings, opened: checkpoints.Opened, selection: Selection,
    edited: Callable[[Data], Data] | None = None,
) -> Batch:  # fmt: skip
    """Read the samples that are asked about, and what the run is to learn of them.

    Args:
        database: of the service.
        settings: of the service.
        opened: the checkpoint.
        selection: which samples.
        edited: what to make of rows of the dataset before they are preprocessed.

    Raises:
        InvalidInput: a row, a sample, a label or the split does not fit.
    """
    config, rows = opened.config, None
    if selection.split is not None:
        data, rows = _split(database, settings, opened, selection.split)
    elif selection.rows is not None:
        data = training.open_data(database, settings, config, config["dataset"])
        data, rows = rows_of(data, selection.rows, opened.inputs, edited), np.array(selection.rows, dtype=np.int64)
    else:
        data = _sent(database, opened, selection)
    try:
        sought = goal(
            training.engine_config(config, opened.network.spec.inputs),
            data,
            training.class_balance(database, settings, config),
        )
    except EngineError as error:
        raise InvalidInput.at("/targets", str(error)) from error
    return Batch(data.X, sought.Y, sought.weights, rows, data.labels, data.classes)


def first_rows(database: Database, settings: Settings, opened: checkpoints.Opened, m: int) -> Batch:
    """Read the first m samples of those trained on: for m up to the probe's size, whom recorded statistics are of."""
    part, _ = training.raw_split(database, settings, opened.config)
    rows = np.arange(part.data.samples) if part.rows is None else np.asarray(part.rows)
    return open_batch(database, settings, opened, Selection(rows=rows[:m].tolist()))


def rows_of(
    data: Data, rows: Sequence[int], inputs: Preprocessing, edited: Callable[[Data], Data] | None = None
) -> Data:
    """Take rows of a dataset, X as the network takes it.

    Raises:
        InvalidInput: a row that is not there.
    """
    for position, row in enumerate(rows):
        if not 0 <= row < data.samples:
            raise InvalidInput.at(
                f"/rows/{position}", f"There is no row {row}; the dataset has rows 0 to {data.samples - 1}."
            )
    taken = data.take(np.array(rows, dtype=np.int64))
    chosen = inputs.transform(taken if edited is None else edited(taken))
    return replace(chosen, X=np.asarray(chosen.X, dtype=np.float64))


def size(database: Database, opened: checkpoints.Opened, selection: Selection) -> int:
    """Count the samples that are asked about, before any is read.

    Raises:
        InvalidInput: the run has no such split.
    """
    if selection.split is None:
        return len(selection.rows if selection.rows is not None else selection.samples or ())
    validation = opened.config["validation"]
    _check_split(opened, selection.split)
    other = validation and validation.get("dataset")
    counts = training.split_sizes(
        datasets.describe(database, opened.config["dataset"]).samples,
        validation,
        datasets.describe(database, other).samples if other else None,
    )
    return counts[selection.split == VALIDATION]


def limit_values(settings: Settings, values: int, selection: Selection, hint: str = "") -> None:
    """Refuse to compute more values at once than is allowed.

    Raises:
        LimitExceeded: they are more.
    """
    if values > settings.max_inspect_values:
        raise LimitExceeded(
            "The number of values to compute", values, settings.max_inspect_values, "CHAINRULE_MAX_INSPECT_VALUES",
            pointer=selection.pointer, hint=hint or "Ask for fewer samples at once.",
        )  # fmt: skip


def limit_operations(settings: Settings, spec: NetworkSpec, m: int, selection: Selection, passes: int = 1) -> None:
    """Refuse to compute longer, block by block, than is allowed; a pass there and back counts as three times there.

    Raises:
        LimitExceeded: it would take more.
    """
    operations = 3 * passes * m * (spec.parameter_count + UNIT_OPERATIONS * sum(spec.sizes[1:]))
    if operations > settings.max_metrics_operations:
        raise LimitExceeded(
            f"The operations for {m:,} samples", operations, settings.max_metrics_operations,
            "CHAINRULE_MAX_METRICS_OPERATIONS", pointer=selection.pointer, hint="Ask for fewer samples, as rows.",
        )  # fmt: skip


def values_of(spec: NetworkSpec, m: int) -> int:
    """Count the values of a forward and a backward pass."""
    normalizing = sum(layer.units for layer in spec.layers if layer.normalization is not None)
    return m * (4 * sum(spec.sizes) + 3 * normalizing) + spec.parameter_count


def _check_split(opened: checkpoints.Opened, split: str) -> None:
    if split == VALIDATION and opened.config["validation"] is None:
        raise InvalidInput.at(
            "/split",
            f"Run {opened.run_id} has no validation samples; ask for split=training, or submit it with `validation`.",
        )


def _split(
    database: Database, settings: Settings, opened: checkpoints.Opened, split: str
) -> tuple[Data, NDArray[np.int64]]:
    """Open a split as the network takes it, with the numbers of its rows."""
    _check_split(opened, split)
    parts = training.raw_split(database, settings, opened.config)
    data = training.load_split(database, settings, opened.run_id, opened.config)
    part, chosen = parts[split == VALIDATION], data[split == VALIDATION]
    assert part is not None
    assert chosen is not None
    rows = np.arange(chosen.samples) if part.rows is None else np.asarray(part.rows, np.int64)
    return chosen, rows


def _sent(database: Database, opened: checkpoints.Opened, selection: Selection) -> Data:
    """Read samples that were sent along; each weighs 1, beside what its class weighs."""
    X = checkpoints.fitting_samples(opened, selection.samples or [])
    classes = datasets.describe(database, opened.config["dataset"]).classes
    if selection.labels is not None:
        if not classes:
            raise InvalidInput.at("/labels", "The run is a regression; send targets in place of labels.")
        position = {name: number for number, name in enumerate(classes)}
        for at, label in enumerate(selection.labels):
            if str(label) not in position:
                raise InvalidInput.at(
                    f"/labels/{at}", f"There is no class {str(label)!r}; the classes are {', '.join(classes)}."
                )
        labels = np.array([position[str(label)] for label in selection.labels], dtype=np.int64)
        _as_many(X, labels, "labels")
        return Data(X, labels=labels, classes=classes)
    if classes:
        raise InvalidInput.at("/targets", f"The run is a classifier; send labels: {', '.join(classes)}.")
    Y = checkpoints.fitting_type(opened, sent.matrix(selection.targets or [], "/targets"), "/targets")
    _as_many(X, Y, "targets")
    return Data(X, Y=Y)


def _as_many(samples: NDArray[Any], given: NDArray[Any], name: str) -> None:
    if len(given) != len(samples):
        raise InvalidInput.at(f"/{name}", f"There are {len(samples)} samples and {len(given)} {name}.")
