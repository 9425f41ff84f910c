"""Samples: what the network of a checkpoint makes of each sample of a split, sorted and filtered, for galleries."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.app.config import Settings
from chainrule.app.errors import InvalidInput, LimitExceeded
from chainrule.app.services import batches, checkpoints, datasets, training
from chainrule.app.services.batches import VALIDATION, Batch, Selection
from chainrule.app.store.database import Database
from chainrule.engine.arrays import FloatArray, IntArray
from chainrule.engine.coherence import norms
from chainrule.engine.samples import Judged, judge

COST, CONFIDENCE, GRADIENT_NORM, INDEX = ("cost", "confidence", "gradient_norm", "index")
LARGEST, SMALLEST = ("largest", "smallest")


@dataclass(frozen=True)
class Wanted:
    """Which samples of a split, and in what order; `label` and `predicted` are names of classes."""

    split: str
    sort: str = COST
    order: str | None = None
    wrong: bool | None = None
    label: str | None = None
    predicted: str | None = None
    offset: int = 0
    limit: int = 20
    features: bool = False


@dataclass(frozen=True)
class Found:
    """Samples that were found.

    Attributes:
        dataset: whose rows they are.
        batch: all samples of the split.
        matching: how many of them fit the filters.
        chosen: positions in the batch of those to be shown, in order.
        judged: what the network makes of all of them.
        labels: what each should be, as `Judged.predictions`.
        norms: ‖g⁽ⁱ⁾‖ of the chosen ones.
        feature_names: of the dataset.
        features: raw, of the chosen ones, categories by name; None if they were not asked for.
    """

    run_id: str
    epoch: int
    dataset: str
    batch: Batch
    matching: int
    chosen: IntArray
    judged: Judged
    labels: IntArray | None
    norms: FloatArray
    feature_names: tuple[str, ...]
    features: list[list[Any]] | None


def find(database: Database, settings: Settings, kept: checkpoints.Kept, wanted: Wanted) -> Found:
    """Judge all samples of a split and choose those that are wanted.

    Raises:
        InvalidInput: the run has no such split or class, or nothing that is right or wrong.
        LimitExceeded: too much to compute, or too many features to show, in one request.
    """
    opened, selection = checkpoints.open_kept(kept), Selection(split=wanted.split)
    network, cost_name = opened.network, opened.config["cost"]
    batches.limit_operations(settings, network.spec, batches.size(database, opened, selection), selection)
    batch = batches.open_batch(database, settings, opened, selection)
    classes, labels = len(batch.classes), batch.labels
    if labels is None and cost_name == "binary_cross_entropy":
        labels = (batch.Y > 0.5).astype(np.int64)
    # What overflows is shown as it is: an infinity here is a finding, and no warning would say more.
    with np.errstate(over="ignore", invalid="ignore"):
        judged = judge(network, cost_name, batch.X, batch.Y, labels, classes)
        fitting = np.flatnonzero(_fits(kept, wanted, batch, judged))
        given = (batch.X, batch.Y) if batch.weights is None else (batch.X, batch.Y, batch.weights)
        keys: dict[str, Any] = {COST: judged.costs, CONFIDENCE: judged.confidences, INDEX: np.arange(batch.m)}
        if wanted.sort == GRADIENT_NORM:
            keys[GRADIENT_NORM] = norms(network, cost_name, *given)
        key = keys[wanted.sort]
        if key is None:
            raise InvalidInput.at("/sort", f"Run {kept.run_id} is a regression: it has no confidences.")
        order = wanted.order or (SMALLEST if wanted.sort == INDEX else LARGEST)
        ranked = np.nan_to_num(key[fitting], nan=np.inf)  # what is not a number is worse than any
        chosen = fitting[np.argsort(-ranked if order == LARGEST else ranked, kind="stable")]
        chosen = chosen[wanted.offset : wanted.offset + wanted.limit]
        of_all = keys.get(GRADIENT_NORM)
        own = norms(network, cost_name, *(a[chosen] for a in given)) if of_all is None else of_all[chosen]
    validation = kept.config["validation"] or {}
    dataset = validation.get("dataset") if wanted.split == VALIDATION else None
    dataset = dataset or kept.config["dataset"]
    names: tuple[str, ...] = ()
    features: list[list[Any]] | None = None
    if wanted.features:
        names, features = _features(database, settings, kept, dataset, batch, chosen)
    return Found(
        kept.run_id, kept.epoch, dataset, batch, len(fitting), chosen, judged, labels, own, names, features
    )  # fmt: skip


def _fits(kept: checkpoints.Kept, wanted: Wanted, batch: Batch, judged: Judged) -> Any:
    fits = np.ones(batch.m, bool)
    if wanted.wrong is not None:
        if judged.wrong is None:
            raise InvalidInput.at("/wrong", f"Run {kept.run_id} is a regression: no sample is right or wrong.")
        fits &= judged.wrong == wanted.wrong
    for pointer, name, of in (("/class", wanted.label, batch.labels), ("/predicted", wanted.predicted,
                                                                      judged.predictions)):  # fmt: skip
        if name is None:
            continue
        if name not in batch.classes:
            known = f"the classes are {', '.join(batch.classes[:100])}" if batch.classes else "it has none"
            raise InvalidInput.at(pointer, f"Run {kept.run_id} has no class {name[:50]!r}; {known}.")
        fits &= np.asarray(of) == batch.classes.index(name)
    return fits


def _features(
    database: Database, settings: Settings, kept: checkpoints.Kept, dataset: str, batch: Batch, chosen: IntArray
) -> tuple[tuple[str, ...], list[list[Any]]]:
    values = len(chosen) * datasets.describe(database, dataset).features
    if values > settings.max_inspect_values:
        raise LimitExceeded(
            "The number of features to show", values, settings.max_inspect_values, "CHAINRULE_MAX_INSPECT_VALUES",
            pointer="/limit", hint="Ask for fewer samples at once.",
        )  # fmt: skip
    data = training.open_data(database, settings, kept.config, dataset)
    assert batch.rows is not None
    rows = data.X[batch.rows[chosen]].tolist()
    for position, column in enumerate(data.categories):
        if column is not None:
            for row in rows:
                row[position] = column[int(row[position])]
    return data.feature_names, rows
