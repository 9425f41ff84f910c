"""Layers: how strong signals are in each, in the network of a checkpoint or in one that has not been trained yet."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.app.config import Settings
from chainrule.app.errors import InvalidInput
from chainrule.app.services import batches, checkpoints, datasets, plans, training
from chainrule.app.services.batches import Selection, rows_of
from chainrule.app.store.database import Database
from chainrule.engine import EngineError, Goal, goal, initialize
from chainrule.engine.arrays import FloatArray
from chainrule.engine.network import Network, mean_cost
from chainrule.engine.signals import Signals, signals

MOST_SAMPLES = 512
"""As of recorded statistics: enough to see what is wrong, and soon done."""


@dataclass(frozen=True)
class Measured:
    """The layers of a network over m samples, and its cost C there."""

    m: int
    cost: float
    layers: Sequence[Signals]


@dataclass(frozen=True)
class Beginning:
    """A network at its beginning, and the cost of outputs that know nothing (None where that is undefined)."""

    config: dict[str, Any]
    estimate: dict[str, int]
    measured: Measured
    cost_at_chance: float | None


def of_checkpoint(database: Database, settings: Settings, kept: checkpoints.Kept) -> Measured:
    """Measure over up to 512 of the samples the run trains on, spread evenly.

    Raises:
        LimitExceeded: too much to compute in one request.
    """
    opened, selection = checkpoints.open_kept(kept), Selection(split=batches.TRAINING)
    m = min(MOST_SAMPLES, batches.size(database, opened, selection))
    batches.limit_values(settings, batches.values_of(opened.network.spec, m), selection)
    batch = batches.open_batch(database, settings, opened, selection)
    rows = _spread(batch.m)
    weights = None if batch.weights is None else batch.weights[rows]
    return _measured(opened.network, opened.config["cost"], batch.X[rows], batch.Y[rows], weights)


def at_beginning(database: Database, settings: Settings, spec: dict[str, Any]) -> Beginning:
    """Measure the network that a run of this spec would begin with, over up to 512 samples of its dataset.

    Raises:
        InvalidInput: the spec is wrong; with a pointer to the place.
        LimitExceeded: a run of it would take more than a limit of the service, or this too much to compute.
    """
    plan = plans.make(database, settings, spec)
    engine, network_spec = plan.engine, plan.engine.network
    rows = _spread(datasets.describe(database, spec["dataset"]).samples).tolist()
    batches.limit_values(settings, batches.values_of(network_spec, len(rows)), Selection(rows=rows))
    try:
        data = training.open_data(database, settings, plan.config, spec["dataset"])
        chosen = rows_of(data, rows, plan.inputs)
        sought = goal(engine, chosen, training.class_balance(database, settings, plan.config))
        network = initialize(network_spec, plan.config["seed"], plan.config["dtype"])
    except EngineError as error:
        raise InvalidInput.at(f"/{error.field}" if error.field else "", str(error)) from error
    measured = _measured(network, engine.cost, chosen.X, sought.Y, sought.weights)
    return Beginning(plan.config, plan.estimate, measured, _at_chance(engine.cost, network, sought))


def _measured(network: Network, cost_name: str, X: FloatArray, Y: FloatArray, weights: FloatArray | None) -> Measured:
    # What overflows is shown as it is: an infinity here is a finding, and no warning would say more.
    with np.errstate(over="ignore", invalid="ignore"):
        return Measured(
            len(X), mean_cost(network, cost_name, X, Y, weights), signals(network, cost_name, X, Y, weights)
        )


def _at_chance(cost_name: str, network: Network, sought: Goal) -> float | None:
    """Tell C of outputs that are the same for every sample: all classes alike, or the mean of the targets."""
    Y = sought.Y.astype(np.float64)
    w = np.ones(len(Y)) if sought.weights is None else sought.weights.astype(np.float64)
    mean = float(np.mean(w))
    if cost_name == "mse":
        middle = w @ Y / np.sum(w) if mean > 0 else 0.0
        return float(0.5 * np.mean(w * np.sum(np.square(Y - middle), axis=1)))
    if cost_name == "cross_entropy" and network.spec.layers[-1].activation == "softmax":
        return mean * math.log(network.spec.outputs)
    if cost_name in ("cross_entropy", "binary_cross_entropy"):
        return mean * network.spec.outputs * math.log(2)
    return None


def _spread(samples: int) -> Any:
    """Choose up to 512 of so many, evenly: datasets may be sorted by class."""
    count = min(MOST_SAMPLES, samples)
    return np.arange(count) * samples // count
