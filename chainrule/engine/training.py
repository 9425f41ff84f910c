"""Training: a generator of epochs, exactly repeatable and exactly resumable."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from chainrule.engine.activations import activation
from chainrule.engine.arrays import FloatArray, IntArray, dtype_of, generator
from chainrule.engine.checkpoint import ResumePoint
from chainrule.engine.clipping import ClipSpec, clipper
from chainrule.engine.costs import cost, costs_for
from chainrule.engine.data import Data, targets
from chainrule.engine.errors import ConfigError, DivergedError, ShapeError
from chainrule.engine.fast import Batches, BatchPass, Gradient
from chainrule.engine.gradients import statistics
from chainrule.engine.network import (
    EVALUATION_ROWS,
    Network,
    NetworkSpec,
    blocks,
    classify,
    evaluate,
    initialize,
)
from chainrule.engine.optimizers import OPTIMIZERS, OptimizerSpec, Stepper
from chainrule.engine.regularization import MaxNorm, Penalty, RegularizationSpec
from chainrule.engine.schedules import SCHEDULES, ScheduleSpec

Step = Callable[[FloatArray, FloatArray, int], None]
PROBE = 512
"""Gradient statistics are taken over the first min(PROBE, m) training samples."""


@dataclass(frozen=True)
class TrainingConfig:
    """What determines a training, together with its data.

    Attributes:
        network: the shape.
        cost: what is made smaller, and reported, without the penalties of regularization.
        optimizer: how.
        schedule: the learning rate of each epoch.
        clip: the bound of the gradient that is handed to the optimizer; None for none.
        regularization: what keeps the weights small.
        epochs: how many passes over the data.
        batch_size: samples in a step; None, or more than there are, for all of them. A last smaller
            batch is used, with its own 1/m.
        seed: of initial weights and order.
        dtype: float32 or float64.
        shuffle: whether each epoch has an order of its own; with one batch for all there is nothing to order.
        gradients_every: record gradient statistics each so many epochs, and at epoch 0, 1 and the
            last; None for never.

    Raises:
        ConfigError, UnknownNameError: with the path of the wrong field.
    """

    network: NetworkSpec
    cost: str = "cross_entropy"
    optimizer: OptimizerSpec = field(default_factory=OptimizerSpec)
    epochs: int = 10
    batch_size: int | None = 32
    seed: int = 0
    dtype: str = "float32"
    shuffle: bool = True
    gradients_every: int | None = 1
    schedule: ScheduleSpec = field(default_factory=ScheduleSpec)
    clip: ClipSpec | None = None
    regularization: RegularizationSpec = field(default_factory=RegularizationSpec)

    def __post_init__(self) -> None:
        """Check what the parts cannot check alone."""
        output = self.network.layers[-1].activation
        if output not in cost(self.cost).fits:
            fitting = " or ".join(f"'{name}'" for name in costs_for(output))
            raise ConfigError(
                f"Cost {self.cost!r} does not fit the output activation {output!r}; use {fitting}, "
                f"or an output of {' or '.join(cost(self.cost).fits)}.",
                "cost",
            )
        if self.epochs < 1:
            raise ConfigError("A training needs at least one epoch.", "epochs")
        if self.batch_size is not None and self.batch_size < 1:
            raise ConfigError("A batch needs at least one sample.", "batch_size")
        if self.seed < 0:
            raise ConfigError("The seed must be 0 or larger.", "seed")
        if self.gradients_every is not None and self.gradients_every < 1:
            raise ConfigError("Gradient statistics are recorded every 1 or more epochs, or never.", "gradients/every")
        learning_rate, minimum = self.optimizer.learning_rate, self.schedule.minimum
        if "minimum" in SCHEDULES[self.schedule.name].uses and minimum > learning_rate:
            raise ConfigError(f"minimum must be at most the learning rate, {learning_rate}.", "schedule/minimum")
        self._check_range()

    def _check_range(self) -> None:
        """Check that the float type can hold the numbers, and the squares of those that are compared with squares."""
        info = np.finfo(dtype_of(self.dtype))
        tiny, most = float(info.tiny), float(info.max)
        clip, regularization = self.clip or ClipSpec(norm=1.0), self.regularization
        for place, value, low, high in (
            ("optimizer/learning_rate", self.optimizer.learning_rate, tiny, most),
            ("optimizer/epsilon", self.optimizer.epsilon, tiny, most),
            ("clip/norm", clip.norm, math.sqrt(tiny), math.sqrt(most)),
            ("clip/value", clip.value, tiny, most),
            ("regularization/l1", regularization.l1, 0.0, most),
            ("regularization/l2", regularization.l2, 0.0, most),
            ("regularization/max_norm", regularization.max_norm, math.sqrt(tiny), math.sqrt(most)),
        ):
            if value is not None and not low <= value <= high:
                name = place.rpartition("/")[2]
                raise ConfigError(f"{name} must lie between {low:.3g} and {high:.3g} in {self.dtype}.", place)

    def learning_rate(self, epoch: int) -> float:
        """The learning rate of an epoch's steps; for epoch 0, which has none, the optimizer's own."""
        own = self.optimizer.learning_rate
        return self.schedule.rate(own, epoch, self.epochs) if epoch > 0 else own

    def batch(self, samples: int) -> int:
        """The number of samples in a full batch."""
        return samples if self.batch_size is None else min(self.batch_size, samples)

    def steps_per_epoch(self, samples: int) -> int:
        """The number of steps in an epoch."""
        return math.ceil(samples / self.batch(samples))

    def memory_bytes(self, samples: int, validation_samples: int = 0) -> int:
        """Estimate the most memory a training takes, from sizes alone."""
        spec, sizes, batch = self.network, self.network.sizes, self.batch(samples)
        size, units = np.dtype(dtype_of(self.dtype)).itemsize, sum(sizes[1:])
        orders = 2 if self.shuffle and batch < samples else 1
        data = orders * samples * (sizes[0] + 1) + 4 * samples * sizes[-1] + validation_samples * sizes[-1]
        passes = 4 * (batch + samples % batch) * units
        judged = min(EVALUATION_ROWS, max(samples, validation_samples))
        judging = 4 * judged * units + min(EVALUATION_ROWS, validation_samples) * sizes[0]
        recording = 0 if self.gradients_every is None else 4 * min(PROBE, samples) * (sizes[0] + units)
        # Parameters, their gradient, those before the last step, room to compute in; and a resume point's copies.
        vectors = 6 + 2 * len(OPTIMIZERS[self.optimizer.name].state) + self.regularization.vectors
        in_float64 = samples * 3 + 5 * judged * sizes[-1] + 2 * spec.parameter_count
        return size * (data + passes + max(judging, recording) + vectors * spec.parameter_count) + 8 * in_float64


@dataclass(frozen=True)
class GradientRecord:
    """Statistics of one gradient at the end of one epoch, over the probe.

    Attributes:
        name: dW1, db1, …
        layer: its layer.
        norm, mean, standard_deviation, minimum, maximum, zeros: as in `gradients.Statistics`.
        update_ratio: ‖ΔW‖/‖W‖ of the epoch's last step; None at epoch 0 and where W is zero.
    """

    name: str
    layer: int
    norm: float
    mean: float
    standard_deviation: float
    minimum: float
    maximum: float
    zeros: float
    update_ratio: float | None


@dataclass
class StepBoundary:
    """A place between two steps of an epoch, given when `snapshot_due` asks for one."""

    epoch: int
    step: int
    _training: "_Training" = field(repr=False)

    def resume_point(self) -> ResumePoint:
        """Copy all it takes to go on from here; only before the generator is advanced."""
        return self._training.resume_point(self.epoch, self.step)


@dataclass
class Epoch:
    """What one epoch came to; epoch 0 is the untrained network.

    Attributes:
        epoch: its number.
        cost: the mean over the epoch's samples of E, each under the weights its own step started from.
        error: the share of them got wrong, likewise; None for regression.
        validation_cost, validation_error: at the weights at the epoch's end; None without validation data.
        learning_rate: of its steps; for epoch 0 the optimizer's own.
        seconds: how long it took, without what the caller did.
        gradients: statistics at the weights at its end, None if not recorded.
    """

    epoch: int
    cost: float
    error: float | None
    validation_cost: float | None
    validation_error: float | None
    learning_rate: float
    seconds: float
    gradients: list[GradientRecord] | None
    _training: "_Training" = field(repr=False)

    @cached_property
    def network(self) -> Network:
        """A copy of the network at the epoch's end; ask before the generator is advanced."""
        network = self._training.network
        return Network(network.spec, network.parameters.copy())

    def resume_point(self) -> ResumePoint:
        """Copy all it takes to go on from here; only before the generator is advanced."""
        return self._training.resume_point(self.epoch, 0)


def train(
    config: TrainingConfig,
    data: Data,
    validation: Data | None = None,
    *,
    resume: ResumePoint | None = None,
    snapshot_due: Callable[[], bool] | None = None,
) -> Iterator[Epoch | StepBoundary]:
    """Train a network, epoch by epoch.

    The same config, data, NumPy build and number of BLAS threads give the same bits, whether or not
    the training was interrupted at a resume point and taken up again.

    Args:
        config: what determines the training.
        data: the samples to learn from.
        validation: samples to be judged by, never learned from.
        resume: where to go on; None to begin. What was yielded before it is not yielded again.
        snapshot_due: asked at each step boundary within an epoch, so it must be quick; where it
            says yes, a `StepBoundary` is yielded.

    Yields:
        `Epoch` 0, the untrained network, then 1 … `config.epochs`; and step boundaries when asked.

    Raises:
        ConfigError: the data does not fit the cost.
        ShapeError: the data, or the resume point, does not fit the network.
        DivergedError: a cost, a parameter or a recorded gradient is not finite (any more).
    """
    training = _Training(config, data, validation, resume)
    if resume is None:
        yield training.untrained()
    for epoch in range(training.epoch + 1, config.epochs + 1):
        yield from training.train_epoch(epoch, snapshot_due)


class _Training:
    """The state of one training: network, optimizer, and the buffers of an epoch."""

    def __init__(self, config: TrainingConfig, data: Data, validation: Data | None, resume: ResumePoint | None) -> None:
        spec, m = config.network, data.samples
        self.config = config
        self.network = initialize(spec, config.seed, config.dtype)
        self._dtype = self.network.parameters.dtype
        self._Y, self._labels = self._targets(data, "data")
        self._X = np.ones((m, data.features + 1), self._dtype)
        with np.errstate(over="ignore"):
            self._X[:, :-1] = data.X
        if not (math.isfinite(self._X.min()) and math.isfinite(self._X.max())):
            raise DivergedError(0)
        self._validation = None
        if validation is not None:
            self._validation = validation.X, *self._targets(validation, "validation data")
        self._classes = len(data.classes)
        self._output = activation(spec.layers[-1].activation)
        self._per_sample = cost(config.cost).per_sample

        batch = config.batch(m)
        self._steps, full = config.steps_per_epoch(m), m // batch
        self._shuffled = config.shuffle and self._steps > 1
        # In the data's own order no copy is needed.
        self._X_epoch = np.empty_like(self._X) if self._shuffled else self._X
        self._labels_epoch = self._labels
        self._gradient = Gradient(spec, self._dtype)
        self._batches = [self._part(self._X_epoch, full, batch)]
        if m % batch:
            self._batches.append(self._part(self._X_epoch, 1, m % batch, first=full, row=full * batch))
        if not self._shuffled:
            for part in self._batches:
                part.fill(self._Y)
        if config.gradients_every is not None:
            self._probe = self._part(self._X, 1, min(PROBE, m))
            self._probe.fill(self._Y)
        self._P_before = np.empty_like(self.network.parameters)
        self._before = blocks(spec, self._P_before)

        self.epoch, self._step, self._t, self._cost_sum, self._wrong, self._summed = 0, 0, 0, 0.0, 0, 0
        state = None
        if resume is not None:
            if resume.parameters.shape != self.network.parameters.shape:
                raise ShapeError(
                    f"The resume point has {resume.parameters.size} parameters and the network {spec.parameter_count}."
                )
            self.network.parameters[:] = resume.parameters
            self.epoch, self._step, self._t = resume.epoch, resume.step, resume.steps
            self._cost_sum, self._wrong, self._summed = resume.cost_sum, resume.wrong, resume.step
            state = resume.optimizer_state
        self._stepper = Stepper(config.optimizer, self.network.parameters, state)
        self._take_step = self._step_with(self._stepper.step)

    def _step_with(self, optimize: Step) -> Step:
        """Put one step together, of what the config uses and nothing else.

        From the gradient G of the cost C, in this order:

            penalty      G ← G + λ₁·sign(W) + λ₂·W, at the weights
            clip         G ← G·min(1, c/‖G‖), or each element within ±c
            optimizer    P ← P − η·…
            max-norm     rows of W shortened to c
        """
        config, dtype = self.config, self._dtype
        spec, regularization = config.network, config.regularization
        before: list[Callable[[FloatArray, FloatArray], None]] = []
        if regularization.penalizes:
            before.append(Penalty(regularization, spec, dtype).add)
        if config.clip is not None:
            clip = clipper(config.clip, dtype)
            before.append(lambda P, G: clip(G))
        bound = None if regularization.max_norm is None else MaxNorm(regularization.max_norm, spec, dtype)
        if not before and bound is None:
            return optimize

        def step(P: FloatArray, G: FloatArray, t: int) -> None:
            for change in before:
                change(P, G)
            optimize(P, G, t)
            if bound is not None:
                bound.shorten(P)

        return step

    def _targets(self, data: Data, name: str) -> tuple[FloatArray, IntArray | None]:
        spec = self.config.network
        if data.features != spec.inputs:
            raise ShapeError(f"The network takes {spec.inputs} inputs and the {name} has {data.features} features.")
        if data.samples == 0:
            raise ShapeError(f"The {name} has no samples.")
        if data.labels is None and self.config.cost == "cross_entropy":
            raise ConfigError("Cost 'cross_entropy' needs class labels; for numeric targets use 'mse'.", "cost")
        with np.errstate(over="ignore"):
            return targets(data, spec.outputs).astype(self._dtype), data.labels

    def _part(self, X: FloatArray, steps: int, batch: int, first: int = 0, row: int = 0) -> Batches:
        one = BatchPass(self.network, self._gradient, self.config.cost, batch)
        return Batches(one, X, steps, first, row)

    def resume_point(self, epoch: int, step: int) -> ResumePoint:
        """Copy where the training stands."""
        self._sum_up_to(step)
        return ResumePoint(
            epoch=epoch if step == 0 else epoch - 1,
            step=step,
            steps=self._t,
            parameters=self.network.parameters.copy(),
            optimizer_state={name: vector.copy() for name, vector in self._stepper.state.items()},
            cost_sum=self._cost_sum,
            wrong=self._wrong,
        )

    @np.errstate(over="ignore", invalid="ignore")
    def untrained(self) -> Epoch:
        """Judge the network as it begins."""
        started = time.perf_counter()
        found, error = evaluate(self.network, self.config.cost, self._X[:, :-1], self._Y, self._labels, self._classes)
        return self._epoch(0, found, error, started)

    def train_epoch(self, epoch: int, snapshot_due: Callable[[], bool] | None) -> Iterator[Epoch | StepBoundary]:
        """Train one epoch, from where a resume point left it if it did."""
        started = time.perf_counter()
        self._arrange(epoch)
        self._stepper.set_learning_rate(self.config.learning_rate(epoch))
        step = self._take_steps(epoch, self._step, snapshot_due)
        while step < self._steps:
            left = time.perf_counter()
            yield StepBoundary(epoch, step, self)
            started += time.perf_counter() - left  # what the caller does is not the epoch's time
            step = self._take_steps(epoch, step, snapshot_due)
        yield self._end(epoch, started)

    def _take_steps(self, epoch: int, step: int, snapshot_due: Callable[[], bool] | None) -> int:
        """Take steps from `step` to the epoch's end, or to where a snapshot is due; return where that is."""
        P, G, take_step = self.network.parameters, self._gradient.vector, self._take_step
        t, last = self._t, self._steps - 1 if self._recorded(epoch) else None
        # Numbers that overflow end the epoch as diverged; a warning for each step would say no more.
        with np.errstate(over="ignore", invalid="ignore"):
            for run, X, Y, Z in self._from(step):
                run(X, Y, Z)
                if step == last:
                    self._P_before[:] = P
                step += 1
                t += 1
                take_step(P, G, t)
                if snapshot_due is not None and step < self._steps and snapshot_due():
                    break
        self._t = t
        return step

    def _from(self, step: int) -> Iterator[tuple[Callable[..., None], FloatArray, FloatArray, FloatArray]]:
        for part in self._batches:
            rest = part.between(step, self._steps)
            for X, Y, Z in zip(part.X[rest], part.Y[rest], part.Z[rest], strict=True):
                yield part.one.run, X, Y, Z

    def _arrange(self, epoch: int) -> None:
        """Put the samples into the epoch's order: one copy, instead of one for each step."""
        if not self._shuffled:
            return
        order = generator(self.config.seed, "shuffle", epoch).permutation(len(self._X))
        np.take(self._X, order, axis=0, out=self._X_epoch, mode="clip")
        Y = self._Y[order]
        for part in self._batches:
            part.fill(Y)
        if self._labels is not None:
            self._labels_epoch = self._labels[order]

    @np.errstate(over="ignore", invalid="ignore")
    def _sum_up_to(self, step: int) -> None:
        """Add the costs of the steps done since the last sum; in their order, so that it never matters when."""
        for part in self._batches:
            new, at_once = part.between(self._summed, step), max(EVALUATION_ROWS // part.one.m, 1)
            for start in range(new.start, new.stop, at_once):
                self._add(part, slice(start, min(start + at_once, new.stop)))
        self._summed = step

    def _add(self, part: Batches, steps: slice) -> None:
        Z = part.Z[steps]
        A = self._output.forward(Z, axis=1)
        errors = self._per_sample(Z, A, part.Y[steps], self._output, axis=1)
        for of_step in np.add.reduce(errors, axis=1).tolist():
            self._cost_sum += of_step
        if self._labels_epoch is not None:
            labels = self._labels_epoch[part.rows].reshape(-1, part.one.m)[steps]
            self._wrong += int(np.count_nonzero(classify(A, self._classes) != labels))

    def _recorded(self, epoch: int) -> bool:
        every = self.config.gradients_every
        return every is not None and (epoch in (0, 1, self.config.epochs) or epoch % every == 0)

    @np.errstate(over="ignore", invalid="ignore")
    def _end(self, epoch: int, started: float) -> Epoch:
        self._sum_up_to(self._steps)
        m = len(self._X)
        mean, error = self._cost_sum / m, None if self._labels is None else self._wrong / m
        self.epoch, self._step, self._cost_sum, self._wrong, self._summed = epoch, 0, 0.0, 0, 0
        if not np.isfinite(self.network.parameters).all():
            raise DivergedError(epoch)
        return self._epoch(epoch, mean, error, started)

    def _epoch(self, epoch: int, mean: float, error: float | None, started: float) -> Epoch:
        validation_cost = validation_error = records = None
        if self._validation is not None:
            X, Y, labels = self._validation
            validation_cost, validation_error = evaluate(self.network, self.config.cost, X, Y, labels, self._classes)
        if self._recorded(epoch):
            records = self._records(epoch)
        if not (math.isfinite(mean) and (validation_cost is None or math.isfinite(validation_cost))):
            raise DivergedError(epoch)
        return Epoch(
            epoch=epoch,
            cost=mean,
            error=error,
            validation_cost=validation_cost,
            validation_error=validation_error,
            learning_rate=self.config.learning_rate(epoch),
            seconds=time.perf_counter() - started,
            gradients=records,
            _training=self,
        )

    def _records(self, epoch: int) -> list[GradientRecord]:
        probe = self._probe
        probe.one.run(probe.X[0], probe.Y[0], probe.Z[0])
        records = []
        for number, found in self._gradient.blocks.items():
            now, then = self.network.blocks[number], self._before[number]
            for symbol, of in (("dW", np.s_[:, :-1]), ("db", np.s_[:, -1])):
                described = vars(statistics(found[of]))
                ratio = _ratio(now[of], then[of]) if epoch > 0 else None
                if not all(map(math.isfinite, (*described.values(), ratio or 0.0))):
                    raise DivergedError(epoch)
                records.append(GradientRecord(f"{symbol}{number}", number, **described, update_ratio=ratio))
        return records


def _ratio(now: FloatArray, then: FloatArray) -> float | None:
    before = then.astype(np.float64).ravel()
    update = now.ravel() - before
    size = math.sqrt(before @ before)
    return math.sqrt(update @ update) / size if size > 0 else None
