"""Watching a cost from epoch to epoch: when to stop early, and when to lower the learning rate.

The cost watched is that of the validation data, or of the training where there is none. An epoch is better
if its cost is below the best so far by more than min_delta. After `patience` epochs in a row that are not,

    early stopping    ends the training; the best epoch's parameters are kept
    plateau           lowers the rate, η ← η·γ, and counts anew

Sources: Prechelt, "Early stopping, but when?" (1998), the simplest of his rules; the plateau rule as the
common frameworks have it.
"""

import math
from dataclasses import dataclass

import numpy as np

from chainrule.engine.arrays import FloatArray
from chainrule.engine.errors import ConfigError


@dataclass(frozen=True)
class EarlyStoppingSpec:
    """When a training ends before its last epoch.

    Attributes:
        patience: after how many epochs in a row that are not better.
        min_delta: by how much the cost must fall to be better.

    Raises:
        ConfigError: with the path of the wrong field.
    """

    patience: int = 10
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        """Check every number."""
        if self.patience < 1:
            raise ConfigError("patience must be 1 or more epochs.", "early_stopping/patience")
        if not 0 <= self.min_delta < math.inf:
            raise ConfigError("min_delta must be a number of at least 0.", "early_stopping/min_delta")


@dataclass
class Watched:
    """What is remembered of the epochs so far.

    Attributes:
        best: the lowest cost, None before the first.
        best_epoch: whose it is.
        waited: epochs since that were not better.
        lowest: the lowest cost as the plateau rule counts, which knows no min_delta.
        stale: epochs since that were not lower, or since the rate was lowered.
        lowered: how often the rate was lowered.
    """

    best: float = math.inf
    best_epoch: int = 0
    waited: int = 0
    lowest: float = math.inf
    stale: int = 0
    lowered: int = 0

    def see(self, epoch: int, cost: float, *, min_delta: float, plateau_patience: int | None) -> bool:
        """Take note of an epoch's cost; whether it is the best so far."""
        better = cost < self.best - min_delta if math.isfinite(self.best) else cost < self.best
        if better:
            self.best, self.best_epoch, self.waited = cost, epoch, 0
        else:
            self.waited += 1
        if cost < self.lowest:
            self.lowest, self.stale = cost, 0
        else:
            self.stale += 1
        if plateau_patience is not None and self.stale >= plateau_patience:
            self.lowered, self.stale = self.lowered + 1, 0
        return better

    def to_array(self) -> FloatArray:
        """Give everything as float64 numbers, which hold it exactly."""
        return np.array([self.best, self.best_epoch, self.waited, self.lowest, self.stale, self.lowered])

    @classmethod
    def from_array(cls, numbers: FloatArray) -> "Watched":
        """Read back what `to_array` gave."""
        best, best_epoch, waited, lowest, stale, lowered = numbers.tolist()
        return cls(best, int(best_epoch), int(waited), lowest, int(stale), int(lowered))
