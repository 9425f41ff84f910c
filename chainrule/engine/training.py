"""Training: a generator of epochs, exactly repeatable and exactly resumable."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chainrule.engine.activations import activation
from chainrule.engine.arrays import FloatArray, IntArray, dtype_of, generator
from chainrule.engine.checkpoint import ResumePoint
from chainrule.engine.costs import cost, costs_for
from chainrule.engine.data import Data, targets
from chainrule.engine.errors import ConfigError, DivergedError, ShapeError
from chainrule.engine.fast import BatchPass, Gradient
from chainrule.engine.gradients import statistics
from chainrule.engine.network import Network, NetworkSpec, backward, classify, evaluate, forward, initialize
from chainrule.engine.optimizers import OPTIMIZERS, OptimizerSpec, Stepper

PROBE = 512
"""Gradient statistics are taken over the first min(PROBE, m) training samples."""


@dataclass(frozen=True)
class TrainingConfig:
    """What determines a training, together with its data.

    Attributes:
        network: the shape.
        cost: what is made smaller.
        optimizer: how.
        epochs: how many passes over the data.
        batch_size: samples in a step; None, or more than there are, for all of them. A last smaller
            batch is used, with its own 1/m.
        seed: of initial weights and order.
        dtype: float32 or float64.
        shuffle: whether each epoch has an order of its own.
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
        dtype_of(self.dtype)

    def batch(self, samples: int) -> int:
        """The number of samples in a full batch."""
        return samples if self.batch_size is None else min(self.batch_size, samples)

    def steps_per_epoch(self, samples: int) -> int:
        """The number of steps in an epoch."""
        return math.ceil(samples / self.batch(samples))

    def memory_bytes(self, samples: int, validation_samples: int = 0) -> int:
        """Estimate the most memory a training takes, from sizes alone."""
        size = np.dtype(dtype_of(self.dtype)).itemsize
        sizes, batch = self.network.sizes, self.batch(samples)
        data = 2 * samples * (sizes[0] + 1) + (samples * 5 + validation_samples) * sizes[-1]
        validation = validation_samples * sizes[0] + 2 * min(validation_samples, 4096) * sum(sizes)
        vectors = 4 + len(OPTIMIZERS[self.optimizer.name].state)
        work = 4 * batch * sum(sizes[1:]) + 5 * min(PROBE, samples) * sum(sizes)
        return size * (data + validation + work + vectors * self.network.parameter_count) + 8 * samples


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
        learning_rate: of its steps.
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
        ShapeError: the data does not fit the network.
        DivergedError: a cost or a parameter is not finite any more.
    """
    training = _Training(config, data, validation, resume)
    if resume is None:
        yield training.untrained()
    for epoch in range(training.epoch + 1, config.epochs + 1):
        yield from training.train_epoch(epoch, snapshot_due)


class _Training:
    """The state of one training: network, optimizer, and the buffers of an epoch."""

    def __init__(self, config: TrainingConfig, data: Data, validation: Data | None, resume: ResumePoint | None) -> None:
        spec = config.network
        if data.features != spec.inputs:
            raise ShapeError(f"The network takes {spec.inputs} inputs and the data has {data.features} features.")
        self.config = config
        self.network = initialize(spec, config.seed, config.dtype)
        self._dtype = self.network.parameters.dtype
        self._X = np.ones((data.samples, data.features + 1), self._dtype)
        self._X[:, :-1] = data.X
        self._Y = targets(data, spec.outputs).astype(self._dtype)
        self._labels, self._classes = data.labels, len(data.classes)
        self._validation = None if validation is None else self._prepare(validation)

        m, batch = data.samples, config.batch(data.samples)
        self._batch, self._steps, self._full = batch, config.steps_per_epoch(m), m // batch
        self._gradient = Gradient(spec, self._dtype)
        self._full_pass = BatchPass(self.network, self._gradient, config.cost, batch)
        ragged = m % batch
        self._ragged_pass = BatchPass(self.network, self._gradient, config.cost, ragged) if ragged else None
        self._Z = np.empty((self._full, spec.outputs, batch), self._dtype)
        self._Z_ragged = np.empty((spec.outputs, ragged), self._dtype)
        # Without shuffling an epoch's order is the data's own, and no copy is needed.
        self._X_epoch = np.empty_like(self._X) if config.shuffle else self._X
        self._Y_epoch = np.empty_like(self._Y) if config.shuffle else self._Y
        self._labels_epoch = self._labels
        self._before = np.empty_like(self.network.parameters)

        self.epoch, self._step, self._t, self._cost_sum, self._wrong, self._summed = 0, 0, 0, 0.0, 0, 0
        state = None
        if resume is not None:
            self.network.parameters[:] = resume.parameters
            self.epoch, self._step, self._t = resume.epoch, resume.step, resume.steps
            self._cost_sum, self._wrong, self._summed = resume.cost_sum, resume.wrong, resume.step
            state = resume.optimizer_state
        self._stepper = Stepper(config.optimizer, self.network.parameters, state)

    def _prepare(self, data: Data) -> tuple[NDArray[Any], FloatArray, IntArray | None]:
        if data.features != self.config.network.inputs:
            raise ShapeError(
                f"The network takes {self.config.network.inputs} inputs and the validation data has "
                f"{data.features} features."
            )
        return data.X, targets(data, self.config.network.outputs).astype(self._dtype), data.labels

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

    def untrained(self) -> Epoch:
        """Judge the network as it begins."""
        started = time.perf_counter()
        found, error = evaluate(self.network, self.config.cost, self._X[:, :-1], self._Y, self._labels, self._classes)
        return self._epoch(0, found, error, started, 0.0, last_step=False)

    def train_epoch(self, epoch: int, snapshot_due: Callable[[], bool] | None) -> Iterator[Epoch | StepBoundary]:
        """Train one epoch, from where a resume point left it if it did."""
        started, outside = time.perf_counter(), 0.0
        self._arrange(epoch)
        steps, recorded, step = self._steps, self._recorded(epoch), self._step
        while step < steps:
            step = self._take_steps(step, recorded, snapshot_due)
            if step < steps:
                left = time.perf_counter()
                yield StepBoundary(epoch, step, self)
                outside += time.perf_counter() - left
        self._sum_up_to(steps)
        m = len(self._X)
        mean, error = self._cost_sum / m, None if self._labels is None else self._wrong / m
        self.epoch, self._step, self._cost_sum, self._wrong, self._summed = epoch, 0, 0.0, 0, 0
        if not (math.isfinite(mean) and np.isfinite(self.network.parameters).all()):
            raise DivergedError(epoch)
        yield self._epoch(epoch, mean, error, started, outside, last_step=True)

    def _take_steps(self, step: int, recorded: bool, snapshot_due: Callable[[], bool] | None) -> int:
        """Take steps from `step` to the epoch's end, or to where a snapshot is due; return where that is."""
        P, G, stepper = self.network.parameters, self._gradient.vector, self._stepper
        batch, steps = self._batch, self._steps
        # Numbers that overflow end the epoch as diverged; a warning for each step would say no more.
        with np.errstate(over="ignore", invalid="ignore"):
            while step < steps:
                rows = slice(step * batch, step * batch + batch)
                if step < self._full:
                    self._full_pass.run(self._X_epoch[rows], self._Y_epoch[rows].T, self._Z[step])
                elif self._ragged_pass is not None:
                    self._ragged_pass.run(self._X_epoch[rows], self._Y_epoch[rows].T, self._Z_ragged)
                step += 1
                if recorded and step == steps:
                    self._before[:] = P
                self._t += 1
                stepper.step(P, G, self._t)
                if snapshot_due is not None and step < steps and snapshot_due():
                    break
        return step

    def _arrange(self, epoch: int) -> None:
        """Put the samples into the epoch's order: one copy, instead of one for each step."""
        if not self.config.shuffle:
            return
        order = generator(self.config.seed, "shuffle", epoch).permutation(len(self._X))
        np.take(self._X, order, axis=0, out=self._X_epoch, mode="clip")
        np.take(self._Y, order, axis=0, out=self._Y_epoch, mode="clip")
        if self._labels is not None:
            self._labels_epoch = self._labels[order]

    def _sum_up_to(self, step: int) -> None:
        """Add the costs of the steps done since the last sum; in their order, so that it never matters when."""
        full = min(step, self._full)
        if self._summed < full:
            Z = self._Z[self._summed : full]
            self._add(Z.transpose(1, 0, 2).reshape(Z.shape[1], -1), self._summed * self._batch)
        if step > self._full and self._summed < step:
            self._add(self._Z_ragged, self._full * self._batch)
        self._summed = step

    @np.errstate(over="ignore", invalid="ignore")
    def _add(self, Z: FloatArray, start: int) -> None:
        rows = slice(start, start + Z.shape[1])
        output = activation(self.config.network.layers[-1].activation)
        A = output.forward(Z, axis=0)
        errors = cost(self.config.cost).per_sample(Z, A, self._Y_epoch[rows].T, output, axis=0)
        batch = min(self._batch, Z.shape[1])
        sums = np.add.reduce(errors.reshape(-1, batch), axis=1, dtype=np.float64)
        for of_step in sums.tolist():
            self._cost_sum += of_step
        if self._labels_epoch is not None:
            self._wrong += int(np.count_nonzero(classify(A.T, self._classes) != self._labels_epoch[rows]))

    def _recorded(self, epoch: int) -> bool:
        every = self.config.gradients_every
        return every is not None and (epoch in (0, 1, self.config.epochs) or epoch % every == 0)

    @np.errstate(over="ignore", invalid="ignore")
    def _epoch(
        self, epoch: int, mean: float, error: float | None, started: float, outside: float, *, last_step: bool
    ) -> Epoch:
        validation_cost = validation_error = None
        if self._validation is not None:
            X, Y, labels = self._validation
            validation_cost, validation_error = evaluate(self.network, self.config.cost, X, Y, labels, self._classes)
            if not math.isfinite(validation_cost):
                raise DivergedError(epoch)
        return Epoch(
            epoch=epoch,
            cost=mean,
            error=error,
            validation_cost=validation_cost,
            validation_error=validation_error,
            learning_rate=self.config.optimizer.learning_rate,
            seconds=time.perf_counter() - started - outside,
            gradients=self._records(last_step) if self._recorded(epoch) else None,
            _training=self,
        )

    def _records(self, last_step: bool) -> list[GradientRecord]:
        probe = slice(0, PROBE)
        found = backward(forward(self.network, self._X[probe, :-1]), self.config.cost, self._Y[probe])
        before = Network(self.network.spec, self._before)
        records = []
        for number in range(1, len(self.network.spec.layers) + 1):
            views = (
                ("dW", self.network.W[number], before.W[number]),
                ("db", self.network.b[number], before.b[number]),
            )
            for symbol, now, then in views:
                name = f"{symbol}{number}"
                ratio = _ratio(now, then) if last_step else None
                records.append(GradientRecord(name, number, **vars(statistics(found[name])), update_ratio=ratio))
        return records


def _ratio(now: FloatArray, then: FloatArray) -> float | None:
    size = float(np.linalg.norm(then))
    return float(np.linalg.norm(now - then)) / size if size > 0 else None
