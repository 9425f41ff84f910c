"""Walks: samples through the network of a checkpoint and back, step by step."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chainrule.app.config import Settings
from chainrule.app.errors import InvalidInput
from chainrule.app.services import batches, checkpoints
from chainrule.app.services.batches import Batch, Selection
from chainrule.app.store.database import Database
from chainrule.engine import walk
from chainrule.engine.arrays import FloatArray
from chainrule.engine.normalization import EVALUATION, MODES, TRAINING
from chainrule.engine.walk import Step

WHOLE, MEAN = REDUCTIONS = ("none", "mean")
"""How what has a row for each sample is shown."""


@dataclass(frozen=True)
class Walk:
    """A walk.

    Attributes:
        reduced: whether what has a row for each sample is given as the mean over them.
        steps: in order.
        follows: of each step, whether its results follow from its operands as they are given.
        arrays: every operand and result, by name.
    """

    run_id: str
    epoch: int
    batch: Batch
    mode: str
    dtype: str
    reduced: bool
    steps: list[Step]
    follows: list[bool]
    arrays: dict[str, FloatArray]


def take(
    database: Database, settings: Settings, kept: checkpoints.Kept, selection: Selection, *,
    mode: str = EVALUATION, reduce: str | None = None, names: Sequence[str] | None = None,
) -> Walk:  # fmt: skip
    """Take samples through the network and back; a split is reduced to means unless asked otherwise.

    Of the arrays those named are kept, by default all.

    Raises:
        InvalidInput: the samples, the mode or the reduction do not fit, or there is no array of a name.
        LimitExceeded: too much to compute in one request.
    """
    check_mode(mode)
    if reduce is not None and reduce not in REDUCTIONS:
        raise InvalidInput.at("/reduce", f"There is no reduction {reduce!r}; there are {', '.join(REDUCTIONS)}.")
    opened = checkpoints.open_kept(kept)
    network, spec, cost_name = opened.network, opened.network.spec, opened.config["cost"]
    reduced = (reduce or (MEAN if selection.split else WHOLE)) == MEAN
    training = mode == TRAINING and spec.running_count > 0
    m = batches.size(database, opened, selection)
    if reduced and not training:
        batches.limit_operations(settings, spec, m, selection)
    else:
        batches.limit_values(settings, batches.values_of(spec, m), selection, "Ask for fewer samples, or their means.")
    batch = batches.open_batch(database, settings, opened, selection)
    # What overflows is shown as it is: an infinity here is a finding, and no warning would say more.
    with np.errstate(over="ignore", invalid="ignore"):
        if reduced and not training:
            arrays = walk.means(network, cost_name, batch.X, batch.Y, batch.weights)
        else:
            arrays = walk.arrays(network, cost_name, batch.X, batch.Y, batch.weights, training=training)
        if reduced and training:
            arrays = {
                name: array if walk.of_network(name) or walk.of_all(name, spec) else np.mean(array, 0, np.float64)
                for name, array in arrays.items()
            }
    if names is not None:
        arrays = _named(arrays, names)
    steps = walk.steps(spec, cost_name, weighted=batch.weights is not None, training=training)
    alone = not reduced or batch.m == 1
    follows = [alone or all(walk.follows_from_means(name, spec) for name in step.results) for step in steps]
    return Walk(
        kept.run_id, kept.epoch, batch, mode, str(network.parameters.dtype), reduced, steps, follows, arrays
    )  # fmt: skip


def _named(arrays: dict[str, FloatArray], names: Sequence[str]) -> dict[str, FloatArray]:
    for name in names:
        if name not in arrays:
            raise InvalidInput.at("/names", f"The walk has no array {name[:64]!r}; it has {', '.join(arrays)}.")
    return {name: arrays[name] for name in names}


def check_mode(mode: str) -> None:
    """Refuse what is no mode.

    Raises:
        InvalidInput: it is none.
    """
    if mode not in MODES:
        raise InvalidInput.at("/mode", f"There is no mode {mode!r}; there are {', '.join(MODES)}.")
