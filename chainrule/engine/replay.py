"""Replay: an epoch trained once more, to be looked at step by step; by the code that trains, so to the same bits.

A step is looked at as it began, at the weights before its update and over its own batch, with dropout's masks and
the batch's μ and σ²:

    C      the cost that the step makes smaller, without penalties
    dW     its gradient, before penalties, clip and optimizer make an update of it
    ΔW     W after − W before, the update; ‖ΔW‖/‖W‖ is its ratio

Along a step the cost is C(θ + s·Δ), θ all parameters and Δ their update: s = 0 is where the step began, 1 where it
ended. A parabola is fitted to cost and slope at both, each weighed by one over its variance over the samples, and

    α = 1/s* − 1,  s* its minimum: 0 where the step went to the minimum, −1 to 0 short of it, above 0 beyond it, and 1
                   as far up the other side; −1 where the parabola bends down, and below −1 where the step set out
                   uphill.

Source of α: Mahsereci and Hennig (2015); Schneider, Dangel and Hennig (2021), "Cockpit", section 2.2.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from chainrule.engine.activations import activation
from chainrule.engine.arrays import FloatArray, IntArray
from chainrule.engine.checkpoint import ResumePoint
from chainrule.engine.config import TrainingConfig
from chainrule.engine.costs import cost
from chainrule.engine.data import Data, shuffled
from chainrule.engine.dropout import masks
from chainrule.engine.epoch import Epoch, StepBoundary
from chainrule.engine.errors import DivergedError, ShapeError
from chainrule.engine.layers import Cache
from chainrule.engine.member import goal
from chainrule.engine.network import Network, backward, forward
from chainrule.engine.training import train

PLACES = np.linspace(-0.5, 2, 21)
"""Of s, along a step."""


@dataclass(frozen=True)
class Batch:
    """What a step is taken for.

    Attributes:
        rows: (m,) which training samples.
        X: (m, n_0) samples.
        Y: (m, n_L) targets.
        weights: (m,) how much each sample's error counts; None where all count 1.
        masks: l to (m, n_l), what dropout multiplies A[l] by in this step.
    """

    rows: IntArray
    X: FloatArray
    Y: FloatArray
    weights: FloatArray | None
    masks: dict[int, FloatArray]


@dataclass(frozen=True)
class Step:
    """One step of an epoch: its number, from 1, and copies of the network before and after its update.

    `after` is None of the last step of an epoch in which the training diverged.
    """

    number: int
    before: Network
    after: Network | None


@dataclass(frozen=True)
class Update:
    """What a step did to one block of parameters: ‖dX‖, ‖ΔX‖, and ‖ΔX‖/‖X‖, None where X was 0."""

    gradient: float
    update: float
    ratio: float | None


@dataclass(frozen=True)
class Looked:
    """A step in a few numbers: m of its batch, C before its update, ‖dW‖ and ‖ΔW‖ of all and of each block.

    What concerns the update is None where there is no network after it. `broken` names the first quantity that is not
    finite, in the order in which they are computed: Z1, …, C, dZ[L], dW[L], …, and W1, … of the network it led to; or
    the first length of one that is too large for a number, ‖dW1‖ or ‖ΔW1‖. None where all are finite.
    """

    number: int
    samples: int
    cost: float
    gradient: float
    update: float | None
    ratio: float | None
    blocks: dict[str, Update | None]
    broken: str | None


@dataclass(frozen=True)
class Along:
    """The cost along a step.

    Attributes:
        s: places, 0 where the step began and 1 where it ended.
        costs: C(θ + s·Δ) at each.
        slopes: dC/ds at 0 and at 1.
        parabola: c₀, c₁, c₂ of c₀ + c₁·s + c₂·s².
        alpha: None with the reason where it is undefined.
        weighted: whether the fit knew variances; in a step of batch normalization no sample has a gradient of its own.
    """

    s: FloatArray
    costs: FloatArray
    slopes: tuple[float, float]
    parabola: tuple[float, float, float]
    alpha: float | None
    reason: str
    weighted: bool


class Replay:
    """An epoch of a training, to be trained once more.

    Args:
        config: of the training.
        data: the samples it learns from.
        epoch: which, from 1.
        validation: samples it is judged by; needed only where what comes next depends on them.
        resume: a place at or before the epoch's beginning; None for the beginning of all.

    Attributes:
        begin: all it takes to begin with the epoch; once its first step has been taken.
        end: the epoch; once its last step has been taken.
        after: all it takes to go on behind it; likewise.
        diverged: whether the training diverged in it.
    """

    def __init__(
        self,
        config: TrainingConfig,
        data: Data,
        epoch: int,
        *,
        validation: Data | None = None,
        resume: ResumePoint | None = None,
    ) -> None:
        self.config = replace(config, gradients_every=None)  # statistics change nothing
        self.epoch, self.samples = epoch, data.samples
        self.count = config.steps_per_epoch(data.samples)
        self._data, self._validation, self._resume = data, validation, resume
        self.begin: ResumePoint | None = None
        self.end: Epoch | None = None
        self.after: ResumePoint | None = None
        self.diverged = False
        if resume is not None and (resume.epoch, resume.step) > (epoch - 1, 0):
            raise ShapeError(f"Epoch {epoch} began before the resume point.")
        if resume is not None and resume.epoch == epoch - 1:
            self.begin = resume

    def steps(self) -> Iterator[Step]:
        """Train up to the epoch, and then give its steps one by one.

        Raises:
            DivergedError: an epoch before it diverged.
            ShapeError: the training ended before it.
        """
        if self.begin is None and self.epoch > 1:
            self.begin = self._begun()
        training = train(self.config, self._data, self._validation, resume=self.begin, each_step=True)
        number, before = 0, None
        if self.begin is not None:
            before = Network(self.config.network, self.begin.parameters, self.begin.running).copy()
        try:
            for event in training:
                if isinstance(event, Epoch) and event.epoch == 0:
                    before, self.begin = event.network, event.resume_point()
                    continue
                assert before is not None, "steps follow the end of the epoch before"
                after = event.network() if isinstance(event, StepBoundary) else event.network
                if isinstance(event, Epoch):
                    self.end, self.after = event, event.resume_point()
                number += 1
                yield Step(number, before, after)
                if self.end is not None:
                    return
                before = after
        except DivergedError:
            if before is None:
                raise  # the untrained network's cost was infinite
            self.diverged = True
            yield Step(self.count, before, None)

    def _begun(self) -> ResumePoint:
        """Train up to the epoch's beginning."""
        for event in train(self.config, self._data, self._validation, resume=self._resume):
            if isinstance(event, Epoch) and event.epoch == self.epoch - 1:
                return event.resume_point()
        raise ShapeError(f"The training ended before epoch {self.epoch}.")

    @cached_property
    def _goal(self) -> tuple[FloatArray, FloatArray | None]:
        found = goal(self.config, self._data)
        return found.Y, found.weights

    @cached_property
    def _order(self) -> IntArray | None:
        if not self.config.shuffle or self.count == 1:
            return None
        return shuffled(self.config.seed, self.epoch, self.samples)

    def rows(self, number: int) -> IntArray:
        """Tell which training samples a step takes, in their order."""
        size = self.config.batch(self.samples)
        start, stop = (number - 1) * size, min(number * size, self.samples)
        return np.arange(start, stop) if self._order is None else self._order[start:stop]

    def batch(self, number: int) -> Batch:
        """Give what a step, from 1, is taken for."""
        config, rows, (Y, weights) = self.config, self.rows(number), self._goal
        dtype = np.dtype(config.dtype)
        drawn = {
            layer: masks(
                config.seed, layer, p, self.epoch, range(number - 1, number), config.network.sizes[layer],
                config.batch(self.samples), len(rows), dtype,
            )[0].T
            for layer, p in config.dropout.items()
        }  # fmt: skip
        X = np.asarray(self._data.X[rows], dtype)
        return Batch(rows, X, Y[rows], None if weights is None else weights[rows], drawn)

    def look(self, step: Step) -> Looked:
        """Measure a step."""
        batch = self.batch(step.number)
        caches = _forward(step.before, batch)
        back = backward(caches, self.config.cost, batch.Y, batch.weights)
        after = None if step.after is None else step.after.blocks
        blocks: dict[str, Update | None] = {}
        squares = np.zeros(3)
        for name, block in step.before.blocks.items():
            dX, X = _norm(back[f"d{name}"]), _norm(block)
            moved = 0.0 if after is None else _norm(after[name].astype(np.float64) - block)
            blocks[name] = None if after is None else Update(dX, moved, moved / X if X > 0 else None)
            squares += np.square((dX, moved, X))
        G, moved, P = np.sqrt(squares).tolist()
        C, gone = _cost(caches, self.config.cost, batch), step.after is None
        return Looked(
            step.number,
            len(batch.rows),
            C,
            G,
            None if gone else moved,
            None if gone or P == 0 else moved / P,
            blocks,
            None if math.isfinite(C + G + moved) and not gone else _broken(caches, C, back, after or {}, blocks),
        )

    def along(self, step: Step) -> Along:
        """Compute the cost along a step, in float64.

        Raises:
            DivergedError: there is no network after it.
        """
        if step.after is None:
            raise DivergedError(self.epoch)
        spec, batch, cost_name = self.config.network, self.batch(step.number), self.config.cost
        P, running = step.before.parameters.astype(np.float64), step.before.running.astype(np.float64)
        D = step.after.parameters - P
        costs = np.array([_cost(_forward(Network(spec, P + s * D, running), batch), cost_name, batch) for s in PLACES])
        of_each = spec.running_count == 0
        seen, variances, slopes = [], [], []
        for s in (0.0, 1.0):
            network = Network(spec, P + s * D, running)
            caches = _forward(network, batch)
            back = backward(caches, cost_name, batch.Y, batch.weights)
            blocks = Network(spec, D, running).blocks
            slopes.append(sum(float(np.sum(back[f"d{name}"] * block)) for name, block in blocks.items()))
            seen.append(_cost(caches, cost_name, batch))
            if of_each:
                variances.append((_errors(caches, cost_name, batch), _slopes(caches, back, blocks)))
        weighted = of_each and len(batch.rows) > 1
        weights = np.ones(4)
        if weighted:
            (E_0, slope_0), (E_1, slope_1) = variances
            spread = np.array([np.var(each, ddof=1) for each in (E_0, E_1, slope_0, slope_1)])
            with np.errstate(divide="ignore", invalid="ignore"):
                weights = 1 / np.maximum(spread, np.finfo(np.float64).tiny)
            weighted = bool(np.all(np.isfinite(weights))) and bool(np.all(spread > 0))
            weights = weights / np.max(weights) if weighted else np.ones(4)
        parabola, alpha, reason = _fitted((*seen, *slopes), weights)
        return Along(PLACES, costs, (slopes[0], slopes[1]), parabola, alpha, reason, weighted)


def _fitted(
    observed: tuple[float, ...], weights: FloatArray
) -> tuple[tuple[float, float, float], float | None, str]:  # fmt: skip
    """Fit a parabola to f(0), f(1), f′(0), f′(1) by weighted least squares, and read α off it."""
    design = np.array([[1, 0, 0], [1, 1, 1], [0, 1, 0], [0, 1, 2.0]])
    if not np.all(np.isfinite(observed)):
        nan = float("nan")
        return (nan, nan, nan), None, "The cost or its slope is not finite at an end of the step."
    roots = np.sqrt(weights)
    c_0, c_1, c_2 = np.linalg.lstsq(design * roots[:, None], np.array(observed) * roots, rcond=None)[0].tolist()
    if c_2 < 0:
        return (c_0, c_1, c_2), -1.0, ""
    if c_2 == 0 or c_1 == 0:
        return (c_0, c_1, c_2), None, "The fitted parabola is flat: it has no minimum ahead."
    return (c_0, c_1, c_2), -2 * c_2 / c_1 - 1, ""


def _broken(
    caches: list[Cache], C: float, back: dict[str, FloatArray], after: dict[str, FloatArray],
    blocks: dict[str, Update | None],
) -> str | None:  # fmt: skip
    """Name the first array that is not finite; dA[L] may be, for dZ[L] is not computed from it."""
    forth = {f"{symbol}{n}": getattr(cache, symbol) for n, cache in enumerate(caches, start=1) for symbol in "ZNA"}
    back = {name: array for name, array in back.items() if name != f"dA{len(caches)}"}
    lengths: dict[str, float] = {}
    for name, one in blocks.items():
        lengths |= {} if one is None else {f"‖d{name}‖": one.gradient, f"‖Δ{name}‖": one.update}
    in_order: tuple[tuple[str, Any], ...] = (
        *forth.items(), ("C", C), *back.items(), *after.items(), *lengths.items(),
    )  # fmt: skip
    return next((name for name, array in in_order if not np.isfinite(array).all()), None)


def _forward(network: Network, batch: Batch) -> list[Cache]:
    return forward(network, batch.X, batch.masks or None, training=True)


def _errors(caches: list[Cache], cost_name: str, batch: Batch) -> FloatArray:
    """Give w·E of each sample."""
    last = caches[-1]
    Y = batch.Y.astype(last.A.dtype)
    E = cost(cost_name).per_sample(last.Z, last.A, Y, activation(last.activation))
    return E if batch.weights is None else E * batch.weights


def _cost(caches: list[Cache], cost_name: str, batch: Batch) -> float:
    return float(np.mean(_errors(caches, cost_name, batch), dtype=np.float64))


def _slopes(caches: list[Cache], back: dict[str, FloatArray], D: dict[str, FloatArray]) -> FloatArray:
    """Give each sample's own slope along D, g⁽ⁱ⁾·Δ = Σ_l dz⁽ⁱ⁾·(ΔW·a⁽ⁱ⁾ + Δb), and γ and β likewise."""
    found = np.zeros(len(caches[0].Z))
    for number, cache in enumerate(caches, start=1):
        moved = cache.A_prev @ D[f"W{number}"].T + D[f"b{number}"]
        found += np.sum(back[f"dZ{number}"] * moved, axis=1)
        if cache.normalized is not None:
            shifted = cache.normalized.Z_hat * D[f"gamma{number}"] + D[f"beta{number}"]
            found += np.sum(back[f"dN{number}"] * shifted, axis=1)
    return found


def _norm(array: FloatArray) -> float:
    return float(np.linalg.norm(array.astype(np.float64)))
