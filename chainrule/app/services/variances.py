"""Variances: how each weight's gradient differs from sample to sample, and what follows for step and batch size."""

from dataclasses import dataclass

import numpy as np

from chainrule.app.config import Settings
from chainrule.app.errors import InvalidInput, LimitExceeded
from chainrule.app.services import batches, checkpoints, training, what_if
from chainrule.app.services.batches import Selection
from chainrule.app.store.database import Database
from chainrule.engine import TrainingConfig
from chainrule.engine.arrays import FloatArray
from chainrule.engine.coherence import Measured
from chainrule.engine.network import mean_cost
from chainrule.engine.variance import Spread, between, spread

MOST_BATCHES = 64
"""Batches whose mean gradients are compared: the first, of the samples in the order asked for."""
NO_VARIANCE = "No gradient varies over these samples."


@dataclass(frozen=True)
class Confusion:
    """Cosines between the mean gradients of batches: how many, of how many samples, the smallest and the mean."""

    batches: int
    batch_size: int
    minimum: Measured
    mean: Measured


@dataclass(frozen=True)
class Variances:
    """What was found; `measured` by the names of `engine.variance.EQUATIONS`."""

    m: int
    spread: Spread
    measured: dict[str, Measured]
    confusion: Confusion


def take(
    database: Database, settings: Settings, kept: checkpoints.Kept, selection: Selection, *, values: bool
) -> Variances:  # fmt: skip
    """Measure at the weights of a checkpoint, the network as it is used, with running statistics.

    Raises:
        InvalidInput: the samples do not fit, or there is one only.
        LimitExceeded: too much to compute, or to answer, in one request.
    """
    opened = checkpoints.open_kept(kept)
    network, spec = opened.network, opened.network.spec
    config = training.engine_config(opened.config, spec.inputs)
    m = batches.size(database, opened, selection)
    if m < 2:
        raise InvalidInput.at(selection.pointer, "One sample has no spread; ask for two or more.")
    batches.limit_operations(settings, spec, m, selection, passes=3)
    size = config.batch(m)
    count = min(MOST_BATCHES, m // size)
    held = count * spec.parameter_count + (2 * spec.parameter_count if values else 0)
    if held > settings.max_inspect_values:
        raise LimitExceeded(
            "The number of values to compute", held, settings.max_inspect_values, "CHAINRULE_MAX_INSPECT_VALUES",
            pointer=selection.pointer, hint="Ask for fewer samples, or leave values out.",
        )  # fmt: skip
    batch = batches.open_batch(database, settings, opened, selection)
    given = (network, config.cost, batch.X, batch.Y, batch.weights)
    with np.errstate(over="ignore", invalid="ignore"):
        found = spread(*given)
        cost = mean_cost(*given)
        first = count * size
        w = None if batch.weights is None else batch.weights[:first]
        pairs = between(network, config.cost, batch.X[:first], batch.Y[:first], w, size)
    rate = what_if.following_rate(database, kept, config)
    return Variances(m, found, _measured(found, m, cost, rate, config), _confused(pairs, size))


def _measured(found: Spread, m: int, cost: float, rate: float, config: TrainingConfig) -> dict[str, Measured]:
    gsnr = found.gsnr()
    plain = config.optimizer.name == "sgd"
    other = f"It is made for plain gradient descent; this run's optimizer is {config.optimizer.name}."
    ratio = Measured(None, NO_VARIANCE) if gsnr is None else Measured(gsnr)
    early = Measured(1 - m * gsnr) if plain and gsnr is not None else Measured(None, NO_VARIANCE if plain else other)
    if plain:
        size = Measured(rate * found.trace / cost) if cost > 0 else Measured(None, "C is 0.")
    else:
        size = Measured(None, other)
    return {"trace_sigma": Measured(found.trace), "gsnr": ratio, "early_stopping": early, "batch_size": size}


def _confused(pairs: FloatArray, size: int) -> Confusion:
    count = len(pairs)
    if count < 2:
        reason = f"There are no two batches of {size} among these samples; ask for more."
        return Confusion(count, size, Measured(None, reason), Measured(None, reason))
    each = pairs[~np.eye(count, dtype=bool)]
    each = each[np.isfinite(each)]
    if not each.size:
        nothing = Measured(None, "A gradient is 0.")
        return Confusion(count, size, nothing, nothing)
    return Confusion(count, size, Measured(float(each.min())), Measured(float(each.mean())))
