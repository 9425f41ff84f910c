"""The config of a training: all that determines it, together with its data."""

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from chainrule.engine.arrays import dtype_of
from chainrule.engine.clipping import ClipSpec
from chainrule.engine.costs import cost, costs_for
from chainrule.engine.errors import ConfigError, UnknownNameError
from chainrule.engine.network import EVALUATION_ROWS, FOLDED_INPUTS, NetworkSpec
from chainrule.engine.optimizers import OPTIMIZERS, OptimizerSpec
from chainrule.engine.regularization import RegularizationSpec
from chainrule.engine.schedules import SCHEDULES, ScheduleSpec
from chainrule.engine.stopping import EarlyStoppingSpec

STEPS = ("numpy", "compiled")
"""How a step may be computed."""
SEGMENT_BYTES = 8 * 2**20
"""An epoch is arranged and judged in pieces of about this size, so that they stay near the processor."""
GATHERED_BYTES = 64 * 2**20
"""Where X is larger, the column of ones that a narrow first layer wants is put beside each batch, never beside all."""
MOST_SHARDS = 64
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
        label_smoothing: α; see `data.targets`.
        class_weights: by what the errors of each class's samples are multiplied; "balanced" for m/(k·m_c), with
            m_c of the m training samples in class c of k; None for 1.
        early_stopping: when the training ends before its last epoch; None for never.
        epochs: how many passes over the data.
        batch_size: samples in a step; None, or more than there are, for all of them. A last smaller
            batch is used, with its own 1/m.
        seed: of initial weights and order.
        dtype: float32 or float64.
        shuffle: whether each epoch has an order of its own; with one batch for all there is nothing to order.
        gradients_every: record gradient statistics each so many epochs, and at epoch 0, 1 and the
            last; None for never.
        step: how a step is computed, as NumPy's calls or compiled (see `compiled`); results agree to round-off.
        shards: into how many parts each batch is cut, that are computed at once; see `sharding`.

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
    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] | Literal["balanced"] | None = None
    early_stopping: EarlyStoppingSpec | None = None
    step: str = "numpy"
    shards: int = 1

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
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError("label_smoothing must be at least 0 and below 1.", "label_smoothing")
        given = self.class_weights
        if isinstance(given, tuple) and not all(0 <= weight < math.inf for weight in given):
            raise ConfigError("class_weights must be numbers of at least 0, or 'balanced'.", "class_weights")
        if self.epochs < 1:
            raise ConfigError("A training needs at least one epoch.", "epochs")
        if self.batch_size is not None and self.batch_size < 1:
            raise ConfigError("A batch needs at least one sample.", "batch_size")
        if self.seed < 0:
            raise ConfigError("The seed must be 0 or larger.", "seed")
        if self.gradients_every is not None and self.gradients_every < 1:
            raise ConfigError("Gradient statistics are recorded every 1 or more epochs, or never.", "gradients/every")
        if self.step not in STEPS:
            raise UnknownNameError("step", self.step, STEPS, "step")
        by_norm = self.clip is not None and self.clip.norm is not None
        if self.step == "compiled" and (by_norm or self.regularization.max_norm is not None):
            raise ConfigError("A bound of a norm has no compiled step; leave it out, or use step 'numpy'.", "step")
        learning_rate, minimum = self.optimizer.learning_rate, self.schedule.minimum
        if "minimum" in SCHEDULES[self.schedule.name].uses and minimum > learning_rate:
            raise ConfigError(f"minimum must be at most the learning rate, {learning_rate}.", "schedule/minimum")
        if OPTIMIZERS[self.optimizer.name].searches:
            self._check_search()
        if self.shards != 1:
            self._check_shards()
        self._check_range()

    def _check_shards(self) -> None:
        """Check that the gradient of a batch is a sum over its parts, each known from the part alone."""
        if not 1 <= self.shards <= MOST_SHARDS:
            raise ConfigError(f"A batch is cut into 1 to {MOST_SHARDS} shards.", "shards")
        layers = self.network.layers
        in_batches = next((place for place, layer in enumerate(layers) if layer.normalization == "batch"), None)
        if in_batches is not None:
            raise ConfigError(
                "Batch normalization takes statistics of the whole batch, which no shard has; use 'layer', or leave "
                "shards out.",
                f"network/layers/{in_batches}/normalization",
            )
        if OPTIMIZERS[self.optimizer.name].searches:
            raise ConfigError(
                f"Optimizer {self.optimizer.name!r} does not go with shards: its line search takes more than one "
                "gradient a step. Use another optimizer, or leave shards out.",
                "shards",
            )
        if self.step == "compiled":
            raise ConfigError("Steps of shards are not compiled; use step 'numpy', or leave shards out.", "step")

    def _check_search(self) -> None:
        """Check that what a line search compares is one function of the parameters, with a gradient."""
        regularization = self.regularization
        dropped, layers = next(iter(self.dropout), 1), self.network.layers
        in_batches = next((number for number, layer in enumerate(layers) if layer.normalization == "batch"), None)
        for place, found, why in (
            ("schedule", self.schedule != ScheduleSpec(), "its learning rate is only where each line search begins"),
            ("clip", self.clip is not None, "its line search needs the gradient as it is"),
            ("regularization/l1", regularization.l1 > 0, "l1 has no gradient where a weight is 0; use l2"),
            ("regularization/max_norm", regularization.max_norm is not None, "it would undo what a search has found"),
            (f"network/layers/{dropped - 1}/dropout", bool(self.dropout), "each mask makes it another function"),
            (f"network/layers/{in_batches}/normalization", in_batches is not None, "use 'layer', which has no running "
             "statistics that each trial of a search would move"),
            ("step", self.step == "compiled", "its steps are not compiled"),
        ):  # fmt: skip
            if found:
                name = place.rpartition("/")[2]
                raise ConfigError(f"Optimizer {self.optimizer.name!r} takes no {name}: {why}.", place)

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

    def learning_rate(self, epoch: int, lowered: int = 0) -> float:
        """The learning rate of an epoch's steps; for epoch 0, which has none, the optimizer's own."""
        own = self.optimizer.learning_rate
        return self.schedule.rate(own, epoch, self.epochs, lowered) if epoch > 0 else own

    @property
    def watches(self) -> bool:
        """Whether what comes next depends on the costs so far."""
        return self.early_stopping is not None or self.schedule.name == "plateau"

    @property
    def dropout(self) -> dict[int, float]:
        """The layers with dropout, and how much of it."""
        layers = enumerate(self.network.layers, start=1)
        return {number: layer.dropout for number, layer in layers if layer.dropout > 0}

    def batch(self, samples: int) -> int:
        """The number of samples in a full batch."""
        return samples if self.batch_size is None else min(self.batch_size, samples)

    def steps_per_epoch(self, samples: int) -> int:
        """The number of steps in an epoch."""
        return math.ceil(samples / self.batch(samples))

    def check_batches(self, samples: int) -> None:
        """Check that each batch of so many samples has a variance, where it is divided by; or that it is of all.

        Raises:
            ConfigError: a batch would be of one sample, or of some where the optimizer needs all, or of fewer than
                there are shards.
        """
        if samples and self.batch(samples) < self.shards:
            raise ConfigError(
                f"Batches of {self.batch(samples)} samples cannot be cut into {self.shards} shards; take fewer shards "
                "or larger batches.",
                "shards",
            )
        if OPTIMIZERS[self.optimizer.name].searches and self.batch(samples) < samples:
            raise ConfigError(
                f"Optimizer {self.optimizer.name!r} takes all {samples} samples at once; leave batch_size out.",
                "batch_size",
            )
        if samples and self.network.running_count and 1 in (self.batch(samples), samples % self.batch(samples)):
            raise ConfigError(
                f"Batch normalization needs at least two samples in each batch; batches of {self.batch(samples)} out "
                f"of {samples} samples leave one alone. Choose another batch_size.",
                "batch_size",
            )

    def gathers(self, samples: int) -> bool:
        """Tell whether batches take X without its column of ones, so that no copy of all samples is made for that."""
        size = samples * self.network.inputs * np.dtype(dtype_of(self.dtype)).itemsize
        return size > GATHERED_BYTES and self.steps_per_epoch(samples) > 1

    def memory_bytes(self, samples: int, validation_samples: int = 0) -> int:
        """Estimate the most memory a training takes beside its data, from sizes alone."""
        spec, sizes, batch = self.network, self.network.sizes, self.batch(samples)
        size, units = np.dtype(dtype_of(self.dtype)).itemsize, sum(sizes[1:])
        folded = sizes[0] <= FOLDED_INPUTS and not self.gathers(samples)
        in_front = samples * (sizes[0] + 1) if folded else 0
        data = in_front + samples * sizes[-1] + validation_samples * sizes[-1]
        of_sample = sizes[0] + 1 + 2 * sizes[-1] + 1 + sum(sizes[number] for number in self.dropout)
        arranged = min(samples, max(batch, SEGMENT_BYTES // (size * of_sample))) * of_sample
        normalizing = sum(layer.units for layer in spec.layers if layer.normalization is not None)
        passes = 6 * (batch + samples % batch) * (units + normalizing)
        judged = min(EVALUATION_ROWS, max(samples, validation_samples))
        judging = 4 * judged * units + min(EVALUATION_ROWS, validation_samples) * sizes[0]
        recording = 0 if self.gradients_every is None else 6 * min(PROBE, samples) * units
        # Parameters, their gradient, those before the last step, the best, room to compute in; and a resume point's.
        vectors = 10 + 2 * len(OPTIMIZERS[self.optimizer.name].state) + self.regularization.vectors
        vectors += 2 * self.shards if self.shards > 1 else 0
        in_float64 = samples * 3 + 5 * max(judged, arranged // of_sample) * sizes[-1] + 2 * spec.parameter_count
        most = data + arranged + passes + max(judging, recording) + vectors * spec.parameter_count
        return size * most + 8 * in_float64
