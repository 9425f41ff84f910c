"""The examination of a training: its rules, held against what is recorded, epoch by epoch.

Verdicts are a pure function of the recorded points, in order: whoever sees the same points comes to the same.
"""

import math
from bisect import insort
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from chainrule.engine.probe import Probe
from chainrule.engine.rules import ABOVE, BY_ID, RULES, WINDOW, Rule

MOST_EPISODES = 3
"""Of one rule; a later one goes on with the last."""
MANY = 256
"""Samples from which on noise is measured well enough."""


@dataclass(frozen=True)
class Facts:
    """What is known of a training beforehand.

    Attributes:
        classes: how many; 0 of a regression, and of labels that hold or not.
        outputs: n_L.
        output: the last layer's activation function.
        cost: its name.
        batch: samples in a full batch.
        rarest: the rarest class's share of the training samples; None where there are none.
        weight: the mean of what the training samples' errors weigh.
    """

    classes: int
    outputs: int
    output: str
    cost: str
    batch: int
    rarest: float | None = None
    weight: float = 1.0

    @property
    def chance_error(self) -> float | None:
        """1 − 1/K."""
        return 1 - 1 / self.classes if self.classes > 1 else None

    @property
    def chance_cost(self) -> float | None:
        """C of outputs that know nothing: w̄·ln K of softmax, w̄·n_L·ln 2 of sigmoid, and likewise of mse."""
        if self.classes < 2 or self.output not in ("softmax", "sigmoid"):
            return None
        if self.cost in ("cross_entropy", "binary_cross_entropy"):
            return self.weight * (math.log(self.classes) if self.output == "softmax" else self.outputs * math.log(2))
        if self.cost == "mse":
            return self.weight * (0.5 * (1 - 1 / self.classes) if self.output == "softmax" else self.outputs / 8)
        return None


@dataclass(frozen=True)
class Point:
    """What is recorded of an epoch.

    Attributes:
        epoch: its number.
        cost, error, validation_cost: as of `training.Epoch`.
        updates: l to ‖ΔW[l]‖/‖W[l]‖ of its last step.
        norms: l to ‖dW[l]‖ over the probe.
        probe: what else is recorded.
    """

    epoch: int
    cost: float
    error: float | None
    validation_cost: float | None
    updates: Mapping[int, float]
    norms: Mapping[int, float]
    probe: Probe | None


@dataclass(frozen=True)
class Verdict:
    """A finding.

    Attributes:
        rule: its id.
        layer: where it is found; None if in none alone.
        first: the epoch of the first point at which it was so.
        raised: at which it was said.
        last: of the last one.
        cleared: at which it was over; None while it is so.
        value: at the last one.
        worst: of all.
        more: what else the sentence has.
    """

    rule: str
    layer: int | None
    first: int
    raised: int
    last: int
    cleared: int | None
    value: float
    worst: float
    more: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Give everything as JSON has it."""
        return asdict(self)

    @property
    def sentence(self) -> str:
        """Say it."""
        rule = BY_ID[self.rule]
        return rule.sentence.format(
            value=self.value, layer=self.layer, epoch=self.raised, threshold=rule.threshold, **self.more
        )

    @property
    def fix(self) -> str:
        """Say what helps."""
        return BY_ID[self.rule].fix.format(**self.more)


@dataclass(frozen=True)
class Found:
    """A quantity at a point."""

    value: float
    layer: int | None = None
    more: dict[str, Any] | None = None


class Examination:
    """Sees one point after another, and gives verdicts.

    Attributes:
        facts: of the training.
        points: the last ones.
        verdicts: so far, in the order they were raised.
    """

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.points: deque[Point] = deque(maxlen=WINDOW)
        self.verdicts: list[Verdict] = []
        self.first: Point | None = None
        self.best: Point | None = None
        self.norms: list[float] = []  # ‖ḡ‖ of all points so far, sorted
        self._streaks: dict[str, tuple[int, int]] = {}  # how many points in a row, and the first one's epoch
        self._open: dict[str, int] = {}  # the place of a verdict that holds

    def see(self, point: Point) -> None:
        """Hold a point against all rules."""
        if self.first is None and point.epoch == 0:
            self.first = point
        self.points.append(point)
        if point.norms:
            insort(self.norms, _norm(point))
        for name, measure in MEASURES.items():
            found = measure(self)
            if found is not None and math.isfinite(found.value):
                self._judge(BY_ID[name], found, holds=True)
            else:
                self._judge(BY_ID[name], None, holds=False)
        cost = point.validation_cost
        if cost is not None and (self.best is None or cost < (self.best.validation_cost or 0.0)):
            self.best = point

    def diverged(self, epoch: int) -> None:
        """Take note that the training has ended at a number that is not finite."""
        self._raise(BY_ID["nonfinite"], Found(1.0), epoch, epoch)

    def _judge(self, rule: Rule, found: Found | None, *, holds: bool) -> None:
        epoch, value = self.points[-1].epoch, found.value if found else 0.0
        beyond = holds and (value > rule.threshold if rule.side == ABOVE else value < rule.threshold)
        if rule.id in self._open:
            place = self._open[rule.id]
            verdict = self.verdicts[place]
            if beyond and found is not None:
                worst = max(verdict.worst, value) if rule.side == ABOVE else min(verdict.worst, value)
                self.verdicts[place] = replace(
                    verdict, last=epoch, value=value, worst=worst, layer=found.layer, more=found.more or {}
                )
            elif rule.points > 1 and (not holds or (value < rule.clear if rule.side == ABOVE else value > rule.clear)):
                self.verdicts[place] = replace(verdict, cleared=epoch)
                del self._open[rule.id], self._streaks[rule.id]
            return
        if not beyond or found is None:
            self._streaks.pop(rule.id, None)
            return
        count, first = self._streaks.get(rule.id, (0, epoch))
        self._streaks[rule.id] = count + 1, first
        if count + 1 >= rule.points:
            self._raise(rule, found, first, epoch)

    def _raise(self, rule: Rule, found: Found, first: int, epoch: int) -> None:
        of_rule = [place for place, verdict in enumerate(self.verdicts) if verdict.rule == rule.id]
        value, more = found.value, found.more or {}
        if len(of_rule) >= MOST_EPISODES:
            place = of_rule[-1]
            self.verdicts[place] = replace(
                self.verdicts[place], last=epoch, cleared=None, value=value, layer=found.layer, more=more
            )
        else:
            place = len(self.verdicts)
            self.verdicts.append(Verdict(rule.id, found.layer, first, epoch, epoch, None, value, value, more))
        self._open[rule.id] = place


def _norm(point: Point) -> float:
    """‖ḡ‖, over all W."""
    return math.sqrt(sum(norm**2 for norm in point.norms.values()))


def _last(seen: Examination) -> Point:
    return seen.points[-1]


def _learned_little(seen: Examination) -> bool:
    point, chance = _last(seen), seen.facts.chance_error
    if chance is not None and point.error is not None:
        return point.error > chance / 2
    return seen.first is not None and point.cost > seen.first.cost / 2


def _chance(seen: Examination) -> float | None:
    return seen.facts.chance_cost or (seen.first.cost if seen.first is not None else None)


def _signals(seen: Examination) -> dict[int, float]:
    """RMS(dZ[l])/RMS(dZ[L]) of hidden layers; a signal of nothing at the output tells nothing."""
    probe = _last(seen).probe
    if probe is None or len(probe.layers) < 2 or probe.layers[-1].error_rms == 0:
        return {}
    return {layer.layer: layer.error_rms / probe.layers[-1].error_rms for layer in probe.layers[:-1]}


def _extreme(values: Mapping[int, float | None], choose: Callable[..., Any]) -> Found | None:
    known = {layer: value for layer, value in values.items() if value is not None}
    if not known:
        return None
    layer = choose(known, key=known.__getitem__)
    return Found(known[layer], layer)


def _diverged(seen: Examination) -> Found | None:
    point, chance, before = _last(seen), _chance(seen), list(seen.points)[-4:-1]
    if chance is None or chance <= 0 or not before or point.epoch < 1:
        return None
    if seen.first is not None and point.cost <= seen.first.cost:
        return None
    value = point.cost / (3 * chance)
    lowest = min(earlier.cost for earlier in before)
    if point.cost > chance and lowest > 0:
        value = max(value, point.cost / (2 * lowest))
    return Found(value)


def _vanishing(seen: Examination) -> Found | None:
    return _extreme(_signals(seen), min) if _learned_little(seen) else None


def _exploding(seen: Examination) -> Found | None:
    if not _learned_little(seen):
        return None
    found = _extreme({layer: ratio / 1e3 for layer, ratio in _signals(seen).items()}, max)
    norms, point = seen.norms, _last(seen)
    if len(norms) < 5 or not point.norms:
        return found
    middle = (norms[(len(norms) - 1) // 2] + norms[len(norms) // 2]) / 2
    grown = _norm(point) / (10 * middle) if middle > 0 else 0.0
    if found is None or grown > found.value:
        return Found(grown, max(point.norms, key=point.norms.__getitem__))
    return found


def _of_layers(name: str) -> Callable[[Examination], Found | None]:
    def measure(seen: Examination) -> Found | None:
        probe = _last(seen).probe
        return None if probe is None else _extreme({one.layer: getattr(one, name) for one in probe.layers}, max)

    return measure


def _lr_high(seen: Examination) -> Found | None:
    point, points = _last(seen), list(seen.points)
    if point.epoch < 2 or len(points) < 4 or point.cost < points[-4].cost or not _learned_little(seen):
        return None
    return _extreme(point.updates, max)


def _lr_low(seen: Examination) -> Found | None:
    point, first = _last(seen), seen.first
    if first is None or point.epoch < 3 or abs(point.cost - first.cost) > 0.1 * first.cost or not point.updates:
        return None
    largest = max(point.updates.values())
    return Found(largest) if largest > 0 else None  # no step at all is no short one


def _update_ratio(seen: Examination) -> Found | None:
    updates = _last(seen).updates
    if not updates or not _learned_little(seen):
        return None
    return _extreme({layer: max(u / 3e-2, 1e-4 / u) for layer, u in updates.items() if u > 0}, max)


def _bad_start(seen: Examination) -> Found | None:
    chance, point = seen.facts.chance_cost, _last(seen)
    return Found(point.cost / chance) if point.epoch == 0 and chance else None


def _symmetric(seen: Examination) -> Found | None:
    point = _last(seen)
    if point.epoch != 0 or point.probe is None:
        return None
    return _extreme({layer.layer: layer.twins for layer in point.probe.layers}, max)


def _no_signal(seen: Examination) -> Found | None:
    probe = _last(seen).probe
    if probe is None or probe.samples < MANY or probe.signal is None or not _learned_little(seen):
        return None
    # Of gradients that are all 0 the mean is not above the noise either.
    return Found(probe.signal / probe.square_of_mean if probe.square_of_mean > 0 else -1.0)


def _one_class(seen: Examination) -> Found | None:
    probe, classes, point = _last(seen).probe, seen.facts.classes, _last(seen)
    if probe is None or probe.predicted is None or classes < 2 or point.epoch < 2 or not _learned_little(seen):
        return None
    if probe.samples < 10 * classes:
        return None
    more = {"predicted": probe.predicted, "classes": classes}
    return Found((probe.predicted - 1) / (classes - 1), None, more)


def _batch_small(seen: Examination) -> Found | None:
    return _noise(seen, lambda noise, batch: noise / (20 * batch))


def _batch_large(seen: Examination) -> Found | None:
    return _noise(seen, lambda noise, batch: batch / (10 * noise) if noise > 0 else math.inf)


def _noise(seen: Examination, value: Callable[[float, int], float]) -> Found | None:
    probe, batch = _last(seen).probe, seen.facts.batch
    if probe is None or probe.samples < MANY or probe.noise_scale is None:
        return None
    return Found(value(probe.noise_scale, batch), None, {"noise": probe.noise_scale, "batch": batch})


def _overfit(seen: Examination) -> Found | None:
    point, best = _last(seen), seen.best
    if point.validation_cost is None or best is None or not best.validation_cost or point.cost >= best.cost:
        return None
    return Found(point.validation_cost / best.validation_cost, None, {"best": best.epoch})


def _plateau(seen: Examination) -> Found | None:
    points = list(seen.points)
    if len(points) < 6 or points[-1].cost <= 0 or not _learned_little(seen):
        return None
    return Found(abs(points[-1].cost - points[-6].cost) / points[-1].cost)


def _oscillating(seen: Examination) -> Found | None:
    points, chance = list(seen.points), _chance(seen)
    if len(points) < WINDOW or chance is None or points[-1].cost <= chance / 20:
        return None
    costs = np.array([point.cost for point in points])
    changes = np.diff(costs)
    moved = np.abs(changes) > 0.03 * costs[1:]
    turns = np.count_nonzero(changes[1:] * changes[:-1] < 0) / (len(changes) - 1)
    return Found(float(turns) if moved.mean() >= 0.5 else 0.0)


def _input_scale(seen: Examination) -> Found | None:
    probe = _last(seen).probe
    if probe is None or probe.largest_input is None or probe.spread_of_inputs is None:
        return None
    return Found(max(probe.largest_input / 10, probe.spread_of_inputs / 1000))


def _rare_class(seen: Examination) -> Found | None:
    facts = seen.facts
    if facts.rarest is None or facts.classes < 2 or _last(seen).epoch != 0:
        return None
    return Found(10 * facts.classes * facts.rarest)


def _loss_mismatch(seen: Examination) -> Found | None:
    facts = seen.facts
    if _last(seen).epoch != 0:
        return None
    met = facts.cost == "mse" and facts.output in ("sigmoid", "softmax")
    return Found(float(met), None, {"output": facts.output})


MEASURES: dict[str, Callable[[Examination], Found | None]] = {
    "diverged": _diverged,
    "vanishing": _vanishing,
    "exploding": _exploding,
    "dead_relu": _of_layers("dead"),
    "saturated": _of_layers("saturated"),
    "lr_high": _lr_high,
    "lr_low": _lr_low,
    "update_ratio": _update_ratio,
    "bad_start": _bad_start,
    "symmetric": _symmetric,
    "no_signal": _no_signal,
    "one_class": _one_class,
    "batch_small": _batch_small,
    "batch_large": _batch_large,
    "overfit": _overfit,
    "plateau": _plateau,
    "oscillating": _oscillating,
    "input_scale": _input_scale,
    "rare_class": _rare_class,
    "loss_mismatch": _loss_mismatch,
}
"""The quantities of the rules; None where there is none, or its condition does not hold."""


def examine(facts: Facts, points: Sequence[Point]) -> list[Verdict]:
    """Give the verdicts on a training."""
    seen = Examination(facts)
    for point in points:
        seen.see(point)
    return seen.verdicts


assert {*MEASURES, "nonfinite"} == {rule.id for rule in RULES}, "each rule has its quantity"
