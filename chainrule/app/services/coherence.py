"""Coherence: how large each sample's own gradient is, how far they agree, and what is signal in them."""

from dataclasses import dataclass

import numpy as np

from chainrule.app.config import Settings
from chainrule.app.errors import LimitExceeded
from chainrule.app.services import batches, checkpoints
from chainrule.app.services.batches import Batch, Selection
from chainrule.app.services.walks import check_mode
from chainrule.app.store.database import Database
from chainrule.engine.arrays import FloatArray
from chainrule.engine.coherence import (
    EQUATIONS,
    Measured,
    Samples,
    between_batches,
    between_classes,
    cosines,
    gram,
    measure,
    summarize,
)
from chainrule.engine.normalization import TRAINING

MIXED = (
    "Batch normalization mixes the samples of a step through μ and σ²: none has a gradient of its own. "
    "In mode evaluation, with running statistics, each has."
)


@dataclass(frozen=True)
class Pairs:
    """Inner products of each sample's gradient with each other's, and what follows from them.

    Attributes:
        gram: K, (m, m).
        cosines: of the same; NaN where a gradient is 0.
        classes: mean cosines between classes; None of a regression.
        batch_size: of the batches below.
        batches: cosines between mean gradients of batches, in the order asked for; None where there are no two.
    """

    gram: FloatArray
    cosines: FloatArray
    classes: FloatArray | None
    batch_size: int
    batches: FloatArray | None


@dataclass(frozen=True)
class Coherence:
    """What was found; `samples` and `pairs` are None where samples have no gradients of their own."""

    run_id: str
    epoch: int
    batch: Batch
    mode: str
    measured: dict[str, Measured]
    samples: Samples | None
    pairs: Pairs | None


def take(
    database: Database, settings: Settings, kept: checkpoints.Kept, selection: Selection, mode: str, *,
    with_pairs: bool,
) -> Coherence:  # fmt: skip
    """Measure samples' own gradients at the weights of a checkpoint, and if asked each pair of them.

    Raises:
        InvalidInput: the samples or the mode do not fit.
        LimitExceeded: too much to compute in one request.
    """
    check_mode(mode)
    opened = checkpoints.open_kept(kept)
    network, spec, cost_name = opened.network, opened.network.spec, opened.config["cost"]
    m = batches.size(database, opened, selection)
    if with_pairs:
        pairs = 4 * m * m + batches.values_of(spec, m)
        if pairs > settings.max_inspect_values:
            raise LimitExceeded(
                "The number of values to compute", pairs, settings.max_inspect_values, "CHAINRULE_MAX_INSPECT_VALUES",
                pointer=selection.pointer, hint="Ask for fewer samples, or leave gram and classes out.",
            )  # fmt: skip
    batches.limit_operations(settings, spec, m, selection, passes=2)
    batch = batches.open_batch(database, settings, opened, selection)
    if mode == TRAINING and spec.running_count:
        undefined = dict.fromkeys(EQUATIONS, Measured(None, MIXED))
        return Coherence(kept.run_id, kept.epoch, batch, mode, undefined, None, None)
    given = (network, cost_name, batch.X, batch.Y, batch.weights)
    # What overflows is shown as it is: an infinity here is a finding, and no warning would say more.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        samples = measure(*given)
        found = _pairs(gram(*given), batch, opened.config["batch_size"]) if with_pairs else None
        return Coherence(kept.run_id, kept.epoch, batch, mode, summarize(samples), samples, found)


def _pairs(K: FloatArray, batch: Batch, batch_size: int | None) -> Pairs:
    by_class = batch.labels is not None and batch.labels.ndim == 1 and bool(batch.classes)
    size = min(batch_size or len(K), len(K))
    return Pairs(
        K,
        cosines(K),
        between_classes(K, np.asarray(batch.labels), len(batch.classes)) if by_class else None,
        size,
        between_batches(K, size) if len(K) >= 2 * size else None,
    )
