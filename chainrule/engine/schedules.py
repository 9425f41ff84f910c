"""Learning-rate schedules: the rate η(e) of each epoch e = 1…E, from the optimizer's η.

    constant      η(e) = η
    step          η(e) = η·γ^⌊(e−1)/k⌋
    exponential   η(e) = η·γ^(e−1)
    cosine        η(e) = η_min + ½·(η − η_min)·(1 + cos(π·(e−1)/E))
    plateau       η(e) = max(η·γ^k, η_min), lowered k times so far (see `stopping`)

Any of them can be warmed up: over the first w epochs the rate is η(e)·e/w.

A rate is a pure function of the epoch, and of k, so that a resumed training has the same rates. It never
exceeds η. Sources: step and exponential decay, Goodfellow, Bengio and Courville
(2016), section 8.3.1; cosine, Loshchilov and Hutter (2017), without restarts; warm-up, Goyal et al. (2017).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from chainrule.engine.errors import ConfigError, UnknownNameError


@dataclass(frozen=True)
class ScheduleSpec:
    """A schedule with its numbers; each uses only some of them (`SCHEDULES[name].uses`), and all the warm-up.

    Without a factor it takes the schedule's usual one.

    Attributes:
        name: which schedule.
        every: k of step, in epochs.
        factor: γ of step and exponential.
        minimum: η_min of cosine and plateau.
        patience: of plateau: after how many epochs without a lower cost the rate is lowered.
        warmup_epochs: w; 0 for no warm-up.

    Raises:
        ConfigError, UnknownNameError: with the path of the wrong field.
    """

    name: str = "constant"
    every: int = 10
    factor: float = None  # type: ignore[assignment]  # filled in below
    minimum: float = 0.0
    patience: int = 10
    warmup_epochs: int = 0

    def __post_init__(self) -> None:
        """Check every number."""
        if self.name not in SCHEDULES:
            raise UnknownNameError("schedule", self.name, SCHEDULES, "schedule/name")
        if self.factor is None:
            object.__setattr__(self, "factor", SCHEDULES[self.name].factor)
        if self.every < 1:
            raise ConfigError("every must be 1 or more epochs.", "schedule/every")
        if not 0 < self.factor <= 1:
            raise ConfigError("factor must be above 0 and at most 1.", "schedule/factor")
        if not 0 <= self.minimum < float("inf"):
            raise ConfigError("minimum must be a number of at least 0.", "schedule/minimum")
        if self.patience < 1:
            raise ConfigError("patience must be 1 or more epochs.", "schedule/patience")
        if self.warmup_epochs < 0:
            raise ConfigError("warmup_epochs must be 0 or more.", "schedule/warmup_epochs")

    def rate(self, learning_rate: float, epoch: int, epochs: int, lowered: int = 0) -> float:
        """Compute η(e).

        Args:
            learning_rate: η, the optimizer's.
            epoch: e, from 1.
            epochs: E, of the whole training.
            lowered: k of plateau.
        """
        if self.name == "plateau":
            rate = max(learning_rate * math.pow(self.factor, lowered), self.minimum)
        else:
            rate = SCHEDULES[self.name].rate(self, learning_rate, epoch, epochs)
        return rate * epoch / self.warmup_epochs if epoch < self.warmup_epochs else rate

    def rests(self, epoch: int) -> bool:
        """Tell whether the rate of an epoch is that of all after it."""
        return self.name == "constant" and epoch >= self.warmup_epochs


def _constant(s: ScheduleSpec, learning_rate: float, epoch: int, epochs: int) -> float:
    return learning_rate


def _step(s: ScheduleSpec, learning_rate: float, epoch: int, epochs: int) -> float:
    return learning_rate * math.pow(s.factor, (epoch - 1) // s.every)


def _exponential(s: ScheduleSpec, learning_rate: float, epoch: int, epochs: int) -> float:
    return learning_rate * math.pow(s.factor, epoch - 1)


def _cosine(s: ScheduleSpec, learning_rate: float, epoch: int, epochs: int) -> float:
    share = (1 + math.cos(math.pi * (epoch - 1) / epochs)) / 2
    return s.minimum + (learning_rate - s.minimum) * share


@dataclass(frozen=True)
class Schedule:
    """One schedule: its usual factor, the numbers it uses, its rate, and whether that depends on E."""

    factor: float
    uses: tuple[str, ...]
    rate: Callable[[ScheduleSpec, float, int, int], float]
    of_total: bool = False


SCHEDULES: dict[str, Schedule] = {
    "constant": Schedule(1.0, (), _constant),
    "step": Schedule(0.1, ("every", "factor"), _step),
    "exponential": Schedule(0.95, ("factor",), _exponential),
    "cosine": Schedule(1.0, ("minimum",), _cosine, of_total=True),
    "plateau": Schedule(0.1, ("factor", "minimum", "patience"), _constant),
}
