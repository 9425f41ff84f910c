"""Diagnoses of a training by the engine: what the examination is told of config, data and epochs."""

import numpy as np

from chainrule.engine.config import TrainingConfig
from chainrule.engine.data import Data
from chainrule.engine.epoch import Epoch
from chainrule.engine.examination import Facts, Point
from chainrule.engine.member import class_weights


def facts_of(config: TrainingConfig, data: Data) -> Facts:
    """Tell what is known beforehand."""
    classes, rarest = len(data.classes), None
    if data.labels is not None and classes and data.samples:
        rarest = float(np.bincount(data.labels, minlength=classes).min()) / data.samples
    last = config.network.layers[-1]
    weight = _mean_weight(config, data)
    return Facts(classes, last.units, last.activation, config.cost, config.batch(data.samples), rarest, weight)


def _mean_weight(config: TrainingConfig, data: Data) -> float:
    """(1/m) Σᵢ w⁽ⁱ⁾: what the same error of every sample is multiplied by in C."""
    weights = np.ones(data.samples) if data.weights is None else data.weights
    if config.class_weights is not None and data.labels is not None:
        weights = class_weights(config, data)[data.labels] * weights
    return float(np.mean(weights, dtype=np.float64))


def point_of(epoch: Epoch) -> Point:
    """Tell what is recorded of an epoch."""
    weights = [record for record in epoch.gradients or () if record.name.startswith("dW")]
    return Point(
        epoch.epoch,
        epoch.cost,
        epoch.error,
        epoch.validation_cost,
        {record.layer: record.update_ratio for record in weights if record.update_ratio is not None},
        {record.layer: record.norm for record in weights},
        epoch.probe,
    )
