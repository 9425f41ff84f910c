"""What pages draw: one array of a walk, the decision surface, samples in a plane, and what inputs had to do with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.app.config import Settings
from chainrule.app.errors import InvalidInput, LimitExceeded
from chainrule.app.services import batches, checkpoints, training, walks
from chainrule.app.services.batches import Batch, Selection
from chainrule.app.store.database import Database
from chainrule.engine import NetworkSpec, forward, walk
from chainrule.engine.arrays import FloatArray, IntArray, generator
from chainrule.engine.attributions import INTEGRATED, Attribution, attribute
from chainrule.engine.network import EVALUATION_ROWS
from chainrule.engine.pictures import principal_plane

FARTHEST = 1e100
"""Outputs beyond it are shown there, so that squares of them are numbers; those that are none are shown at 0."""
MARGIN = 0.1
"""Of the range of a feature, shown beyond it on either side."""
LAST, OWN = ("last", "epoch")


def array(
    database: Database, settings: Settings, kept: checkpoints.Kept, selection: Selection, name: str, mode: str
) -> FloatArray:
    """Give one array of a walk by name; of a split what has a row for each sample is given as their mean.

    Raises:
        InvalidInput: the network has no such array, or the samples do not fit.
        LimitExceeded: too much to compute in one request.
    """
    if walk.symbol_of(name) in ("W", "b", "gamma", "beta", "running_mean", "running_var"):
        network = checkpoints.open_kept(kept).network
        found = network.blocks | network.statistics
    else:
        found = walks.take(database, settings, kept, selection, mode=mode).arrays
    if name not in found:
        spec = checkpoints.open_kept(kept).network.spec
        raise InvalidInput.at("/name", f"The network has no array {name[:50]!r}; it has {', '.join(_names(spec))}.")
    return found[name]


def _names(spec: NetworkSpec) -> list[str]:
    named = [f"{symbol}{n}" for n in range(1, len(spec.layers) + 1) for symbol in ("W", "b", "Z", "A", "dA", "dZ", "dW",
                                                                                   "db")]  # fmt: skip
    return ["A0", "dA0", *named, "E", "C", "Y"]


@dataclass(frozen=True)
class Surface:
    """What a network makes of a plane of features.

    Attributes:
        x, y: (n,) values of the two features.
        outputs: (k, n, n), rows are y.
        units: l to (n_l, n, n), of hidden layers; None if not asked for.
        classes, names: of the dataset.
    """

    run_id: str
    epoch: int
    x: FloatArray
    y: FloatArray
    outputs: FloatArray
    units: dict[int, FloatArray] | None
    classes: tuple[str, ...]
    names: tuple[str, ...]


def surface(database: Database, settings: Settings, kept: checkpoints.Kept, n: int, *, with_units: bool) -> Surface:
    """Put a grid over the two features of a dataset through the network, preprocessed as the samples were.

    Raises:
        InvalidInput: the dataset has not two numeric features.
        LimitExceeded: too much to compute in one request.
    """
    opened = checkpoints.open_kept(kept)
    spec, inputs = opened.network.spec, opened.inputs
    if inputs.inputs != 2 or not inputs.is_affine:
        kind = "features" if inputs.is_affine else "features, some of them categorical"
        raise InvalidInput.at(
            "", f"A decision surface is of two numeric features; the dataset of run {kept.run_id} has {inputs.inputs} "
            f"{kind}. An embedding shows samples of any dataset.",
        )  # fmt: skip
    values = n * n * sum(spec.sizes)
    if values > settings.max_inspect_values:
        raise LimitExceeded(
            "The number of values to compute", values, settings.max_inspect_values, "CHAINRULE_MAX_INSPECT_VALUES",
            pointer="/n", hint="Ask for a smaller n.",
        )  # fmt: skip
    data = training.open_data(database, settings, opened.config, opened.config["dataset"])
    low, high = data.X.min(axis=0).astype(np.float64), data.X.max(axis=0).astype(np.float64)
    room = np.where(high > low, MARGIN * (high - low), 1.0)
    x, y = (np.linspace(low[k] - room[k], high[k] + room[k], n) for k in (0, 1))
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    with np.errstate(over="ignore", invalid="ignore"):
        caches = forward(opened.network, inputs.apply(grid))
    planes = [cache.A.T.reshape(-1, n, n) for cache in caches]
    units = dict(enumerate(planes[:-1], start=1)) if with_units else None
    return Surface(kept.run_id, kept.epoch, x, y, planes[-1], units, data.classes, data.feature_names)


@dataclass(frozen=True)
class Embedding:
    """Samples in a plane.

    Attributes:
        layer: whose A it is.
        basis_epoch: the epoch whose A made the plane.
        batch: all samples of the split.
        chosen: positions in it of those shown.
        points: (m, 2).
        explained: shares of the variance at this epoch along each direction.
    """

    run_id: str
    epoch: int
    layer: int
    basis_epoch: int
    batch: Batch
    chosen: IntArray
    points: FloatArray
    explained: tuple[float | None, float | None]


def embedding(
    database: Database, settings: Settings, kept: checkpoints.Kept, basis: checkpoints.Kept, split: str,
    layer: int | None, most: int,
) -> Embedding:  # fmt: skip
    """Project A[l] of some samples onto the plane of the largest principal components of another epoch's, or its own.

    The samples are the same for every epoch: a seeded choice of at most `most` of the split.

    Raises:
        InvalidInput: the network has no such layer, or the run no such split.
        LimitExceeded: too much to compute in one request.
    """
    opened, selection = checkpoints.open_kept(kept), Selection(split=split)
    spec = opened.network.spec
    number = max(len(spec.layers) - 1, 1) if layer is None else layer
    if not 0 <= number <= len(spec.layers):
        raise InvalidInput.at("/layer", f"There is no layer {number}; there are 0 (the input) to {len(spec.layers)}.")
    size = batches.size(database, opened, selection)
    count = min(size, most)
    values = 2 * count * sum(spec.sizes)
    operations = count * spec.sizes[number] ** 2
    for what, value, limit, setting in (
        ("number of values", values, settings.max_inspect_values, "CHAINRULE_MAX_INSPECT_VALUES"),
        ("operations", operations, settings.max_metrics_operations, "CHAINRULE_MAX_METRICS_OPERATIONS"),
    ):
        if value > limit:
            raise LimitExceeded(
                f"The {what} to compute", value, limit, setting, pointer="/limit", hint="Ask for fewer samples."
            )
    batch = batches.open_batch(database, settings, opened, selection)
    chosen = np.sort(generator(0, "embedding").permutation(size)[:count])
    X = batch.X[chosen]
    with np.errstate(over="ignore", invalid="ignore"):
        made, own = (
            np.clip(np.nan_to_num(_activations(checkpoints.open_kept(one).network, X, number)), -FARTHEST, FARTHEST)
            for one in (basis, kept)
        )
    plane = principal_plane(made)
    return Embedding(
        kept.run_id, kept.epoch, number, basis.epoch, batch, chosen, plane.points(own), plane.explained(own)
    )  # fmt: skip


def _activations(network: Any, X: FloatArray, layer: int) -> FloatArray:
    if layer == 0:
        return X.astype(np.float64)
    parts = [forward(network, X[start : start + EVALUATION_ROWS])[layer - 1].A for start in
             range(0, len(X), EVALUATION_ROWS)]  # fmt: skip
    return np.concatenate(parts).astype(np.float64)


@dataclass(frozen=True)
class Attributed:
    """Attributions of some samples; `units` are the outputs asked about."""

    run_id: str
    epoch: int
    batch: Batch
    names: Sequence[str]
    units: list[int]
    found: Attribution


def attributions(
    database: Database, settings: Settings, kept: checkpoints.Kept, rows: Sequence[int], method: str, baseline: str,
    unit: int | None, steps: int,
) -> Attributed:  # fmt: skip
    """Attribute an output of each row to its inputs: the one asked for, else the largest.

    Raises:
        InvalidInput: a row or the output is not there.
        LimitExceeded: too much to compute in one request.
    """
    opened, selection = checkpoints.open_kept(kept), Selection(rows=rows)
    spec = opened.network.spec
    passes = steps if method == INTEGRATED else 1
    at_once = max(len(rows), min(EVALUATION_ROWS, len(rows) * passes))
    batches.limit_values(settings, len(rows) * spec.inputs + batches.values_of(spec, at_once), selection)
    batches.limit_operations(settings, spec, len(rows), selection, passes=passes)
    if unit is not None and unit >= spec.outputs:
        raise InvalidInput.at("/unit", f"There is no output {unit}; there are 0 to {spec.outputs - 1}.")
    batch = batches.open_batch(database, settings, opened, selection)
    X0 = None
    if method == INTEGRATED and baseline == "mean":
        data, _ = training.load_split(database, settings, kept.run_id, kept.config)
        X0 = np.asarray(data.X.mean(axis=0, dtype=np.float64))
    with np.errstate(over="ignore", invalid="ignore"):
        largest = forward(opened.network, batch.X)[-1].A.argmax(axis=1)
        units = largest if unit is None else np.full(len(rows), unit)
        found = attribute(opened.network, batch.X, units, method, X0, steps)
    return Attributed(kept.run_id, kept.epoch, batch, opened.inputs.output_names, units.tolist(), found)
