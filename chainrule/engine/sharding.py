"""Data-parallel steps: K shards compute parts of a batch's gradient, wherever they are, and one adds them.

A batch of m samples, in the epoch's order, is cut into K consecutive parts. Shard k computes from its own part

    G_k = (1/m) Σᵢ w⁽ⁱ⁾ ∂E⁽ⁱ⁾/∂P,    E_k = Σᵢ w⁽ⁱ⁾ E⁽ⁱ⁾

and G = ((G_1 + G_2) + …) + G_K, Σ E likewise: always in this order, so that for one K the bits are the same whoever
computed the parts, and when. Another K is another order of the same sum, and differs by rounding only.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np

from chainrule.engine.activations import activation
from chainrule.engine.arrays import FloatArray, IntArray
from chainrule.engine.clipping import by_norm, by_value
from chainrule.engine.config import TrainingConfig
from chainrule.engine.costs import cost
from chainrule.engine.data import Data, shuffled
from chainrule.engine.dropout import masks
from chainrule.engine.fast import Batches, input_width, record_gradient
from chainrule.engine.member import Goal, goal
from chainrule.engine.network import classify
from chainrule.engine.optimizers import OPTIMIZERS, fixed, flush
from chainrule.engine.recording import Loop, Recorder
from chainrule.engine.regularization import MaxNorm, add_penalty, of_weights


class Part(NamedTuple):
    """What a shard computed of a batch.

    Attributes:
        G: its part of the gradient, (p,).
        cost: Σ w·E over its samples.
        wrong: how many of them were got wrong.
    """

    G: FloatArray
    cost: float
    wrong: int


class Gang(Protocol):
    """All shards of a training."""

    def parts(self, P: FloatArray, epoch: int, step: int, /) -> Sequence[Part]:
        """Have every shard compute its part, in the order of the shards.

        Args:
            P: (p,) parameters.
            epoch: from 1.
            step: of the epoch, from 0.
        """


class Shard:
    """One shard: computes its part of any batch.

    Args:
        config: of the training.
        data: all samples to learn from, mapped from a file where they are many.
        number: which shard, from 0.
        sought: what is to be learned of the data, if somebody has made it already.
    """

    def __init__(self, config: TrainingConfig, data: Data, number: int, sought: Goal | None = None) -> None:
        self._config, self._number, self._classes = config, number, len(data.classes)
        self._X = np.ascontiguousarray(data.X, config.dtype)
        self._goal = sought or goal(config, data)
        self._P = np.empty(config.network.parameter_count, config.dtype)
        self._G, self._R = np.zeros_like(self._P), np.empty(0, self._P.dtype)
        self._output, self._per_sample = activation(config.network.layers[-1].activation), cost(config.cost).per_sample
        self._made: dict[int, tuple[Batches, Loop]] = {}
        self._order: tuple[int, IntArray | None] = 0, None

    def part(self, P: FloatArray, epoch: int, step: int) -> Part:
        """Compute its part of one batch, at the parameters P; the gradient is valid until it is asked again."""
        config, samples = self._config, len(self._X)
        batch, K = config.batch(samples), config.shards
        begin = step * batch
        m = min(batch, samples - begin)
        first, last = m * self._number // K, m * (self._number + 1) // K
        if first == last:
            self._G[:] = 0
            return Part(self._G, 0.0, 0)
        rows = self._rows(epoch, begin + first, begin + last)
        batches, loop = self._loop(m, last - first)
        labels = self._goal.labels
        batches.fill((), rows[None], self._X, self._goal.Y, None, None if labels is None or labels.ndim > 1 else labels)
        if batches.scale is not None and self._goal.weights is not None:
            batches.scale[0, 0] = self._goal.weights[rows] / m
        for number, p in config.dropout.items():
            units, dtype = config.network.sizes[number], self._P.dtype
            drawn = masks(config.seed, number, p, epoch, range(step, step + 1), units, batch, m, dtype)
            batches.masks[number][:] = drawn[..., first:last]
        self._P[:] = P
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            loop(zip(*batches.changing.values(), strict=True), None)
            return Part(self._G, *self._judged(batches, rows))

    def _rows(self, epoch: int, start: int, stop: int) -> IntArray:
        """Tell which samples stand at some places of an epoch's order."""
        samples = len(self._X)
        if not self._config.shuffle or self._config.steps_per_epoch(samples) == 1:
            return np.arange(start, stop)
        if self._order[0] != epoch:
            self._order = epoch, shuffled(self._config.seed, epoch, samples)
        assert self._order[1] is not None
        return self._order[1][start:stop]

    def _loop(self, m: int, own: int) -> tuple[Batches, Loop]:
        """Make the loop for batches of m samples, of which so many are this shard's; once."""
        if m not in self._made:
            config = self._config
            X = np.ones((1, own, input_width(config.network)), self._P.dtype)
            batches = Batches(config.network, X, weighted=self._goal.weights is not None, dropped=config.dropout)
            recorder = Recorder(self._P.dtype, {name: held[0] for name, held in batches.changing.items()})
            scale = 1 / m if batches.scale is None else recorder.changing["scale"]
            spec = config.network
            record_gradient(recorder, spec, config.cost, self._P, self._G, self._R, scale, training=True)
            self._made[m] = batches, recorder.loop()
        return self._made[m]

    def _judged(self, batches: Batches, rows: IntArray) -> tuple[float, int]:
        Z, Y, labels = batches.Z[0], batches.Y[0], self._goal.labels
        A = self._output.forward(Z, axis=0)
        errors = self._per_sample(Z, A, Y, self._output, axis=0)
        if self._goal.weights is not None:
            errors = errors * self._goal.weights[rows]
        wrong = 0
        if labels is not None and labels.ndim == 1:
            wrong = int(np.count_nonzero(classify(A, self._classes, axis=0) != labels[rows]))
        elif labels is not None:  # labels that hold or not; wrong if any is
            wrong = int(np.count_nonzero((classify(A, 0) != classify(Y, 0)).any(axis=0)))
        return float(np.sum(errors, dtype=np.float64)), wrong


class Threads:
    """A gang in this process: a thread for each shard, all on the same samples."""

    def __init__(self, config: TrainingConfig, data: Data) -> None:
        data, sought = replace(data, X=np.ascontiguousarray(data.X, config.dtype)), goal(config, data)
        self._shards = [Shard(config, data, number, sought) for number in range(config.shards)]
        self._executor = ThreadPoolExecutor(config.shards - 1, "shard")

    def parts(self, P: FloatArray, epoch: int, step: int) -> Sequence[Part]:
        """Have every shard compute its part, the first one in the thread that asks."""
        others = [self._executor.submit(shard.part, P, epoch, step) for shard in self._shards[1:]]
        return [self._shards[0].part(P, epoch, step), *(other.result() for other in others)]

    def close(self) -> None:
        """End the threads."""
        self._executor.shutdown()


@contextmanager
def threads(config: TrainingConfig, data: Data) -> Iterator[Threads]:
    """Have a gang in this process for a while."""
    gang = Threads(config, data)
    try:
        yield gang
    finally:
        gang.close()


class ShardedSteps:
    """The steps of a training by shards: `fast.Steps`, with the gradient from a gang.

    Args:
        config: of the training.
        P: (p,) parameters, to be changed.
        G: (p,), where the gradient goes.
        state: the optimizer's vectors.
        gang: the shards.
    """

    def __init__(
        self, config: TrainingConfig, P: FloatArray, G: FloatArray, state: dict[str, FloatArray], gang: Gang
    ) -> None:
        self._config, self._P, self._G, self._state, self._gang = config, P, G, state, gang
        self._optimizer, self._number = OPTIMIZERS[config.optimizer.name], P.dtype.type
        regularization, weights = config.regularization, of_weights(config.network, P.dtype)
        self._l1 = self._number(regularization.l1) * weights if regularization.l1 > 0 else None
        self._l2 = self._number(regularization.l2) * weights if regularization.l2 > 0 else None
        bound = regularization.max_norm
        self._max_norm = None if bound is None else MaxNorm(bound, config.network, P.dtype)

    def take(self, epoch: int, step: int, rate: float, t: int) -> tuple[float, int]:
        """Take step t (from 1); return Σ w·E over its batch, and how many it got wrong, at the weights before it."""
        P, G, clip = self._P, self._G, self._config.clip
        first, *others = self._gang.parts(P, epoch, step)
        G[:] = first.G
        total, wrong = first.cost, first.wrong
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for part in others:
                G += part.G
                total, wrong = total + part.cost, wrong + part.wrong
            add_penalty(P, G, self._l1, self._l2)
            if clip is not None and clip.value is not None:
                by_value(G, np.array(-clip.value, P.dtype), np.array(clip.value, P.dtype))
            if clip is not None and clip.norm is not None:
                by_norm(clip.norm)(G)
            spec, update = self._config.optimizer, self._optimizer.update
            assert update is not None, "else a step is no update along one gradient"
            numbers = fixed(spec) | self._optimizer.coefficients(spec, rate, t)
            update({name: self._number(value) for name, value in numbers.items()}, P, G, self._state)
            if self._max_norm is not None:
                self._max_norm.shorten(P)
        flush(self._state, t)
        return total, wrong
