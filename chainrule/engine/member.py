"""One network of a training, with its data and its place in it; a training is of one, or of a stack of several."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.engine.arrays import FloatArray, IntArray
from chainrule.engine.checkpoint import ResumePoint
from chainrule.engine.config import TrainingConfig
from chainrule.engine.data import Data, shuffled, targets
from chainrule.engine.errors import ConfigError, ShapeError
from chainrule.engine.fast import Batches, input_width
from chainrule.engine.network import Network, evaluate, initialize
from chainrule.engine.stopping import Watched

Here = tuple[Network, Mapping[str, FloatArray]]
"""A network, and the optimizer's state with it."""
Validated = tuple[float | None, float | None]
"""Cost and error over validation data; None without any."""


@dataclass(frozen=True)
class Trainee:
    """One network to be trained in a stack: what `train` takes."""

    config: TrainingConfig
    data: Data
    validation: Data | None = None
    resume: ResumePoint | None = None


@dataclass(frozen=True)
class Goal:
    """What a network is to learn of some data.

    Attributes:
        Y: (m, n_L) targets.
        labels: (m,) classes, or (m, n_L) labels that hold or not; None for regression.
        weights: (m,) how much each sample's error counts; None where all count 1.
    """

    Y: FloatArray
    labels: IntArray | None
    weights: FloatArray | None


def goal(config: TrainingConfig, data: Data, balance: Data | None = None) -> Goal:
    """Tell what a network is to learn of some data: smoothed targets, class weights times sample weights.

    Args:
        config: of the training.
        data: to learn from, or to be judged by.
        balance: the training data, whose classes "balanced" weights even out; None if `data` is it.

    Raises:
        ConfigError: the data does not fit the cost, or class weights the classes.
        ShapeError: the data does not fit the network.
    """
    spec = config.network
    if data.labels is None and config.cost == "cross_entropy":
        raise ConfigError("Cost 'cross_entropy' needs class labels; for numeric targets use 'mse'.", "cost")
    if data.labels is None and (config.label_smoothing > 0 or config.class_weights is not None):
        field = "label_smoothing" if config.label_smoothing > 0 else "class_weights"
        raise ConfigError(f"{field} needs class labels; the data has numeric targets.", field)
    with np.errstate(over="ignore"):
        Y = targets(data, spec.outputs, config.label_smoothing).astype(config.dtype)
    if config.cost == "binary_cross_entropy" and Y.size and not (Y.min() >= 0 and Y.max() <= 1):
        raise ConfigError("Cost 'binary_cross_entropy' needs targets from 0 to 1.", "cost")
    labels = data.labels
    if labels is None and config.cost == "binary_cross_entropy":
        labels = (Y > 0.5).astype(np.int64)
    weights = data.weights
    if config.class_weights is not None:
        of_classes = class_weights(config, balance or data)
        weights = of_classes[data.labels] * (1.0 if weights is None else weights)
    return Goal(Y, labels, None if weights is None else weights.astype(config.dtype))


def class_weights(config: TrainingConfig, data: Data) -> FloatArray:
    """Give the weight of each class, (k,).

    Raises:
        ConfigError: there are not as many as classes.
    """
    given = config.class_weights
    if given == "balanced":
        assert data.labels is not None
        counts = np.bincount(data.labels, minlength=len(data.classes))
        return data.samples / (len(counts) * np.maximum(counts, 1))
    if given is None or len(given) != len(data.classes):
        count = 0 if given is None else len(given)
        raise ConfigError(f"There are {len(data.classes)} classes and {count} class weights.", "class_weights")
    return np.array(given)


class Member:
    """One network of a training.

    Args:
        trainee: what is to be trained.
        parameters: where its parameters are to be, (p,).
        state: where the optimizer's state is to be, likewise.
        shared: X as batches take it, and what is to be learned, of each data; what is missing is added.
        running: where its running statistics are to be, (r,); None for a place of its own.
    """

    def __init__(
        self,
        trainee: Trainee,
        parameters: FloatArray,
        state: Mapping[str, FloatArray],
        shared: dict[Any, Any],
        running: FloatArray | None = None,
    ) -> None:
        config, data, resume = trainee.config, trainee.data, trainee.resume
        spec, self._dtype = config.network, parameters.dtype
        self.config, self.state, self.network = config, state, Network(spec, parameters, running)
        self._check(data, "data")
        sought = id(data), config.label_smoothing, config.class_weights
        if sought not in shared:
            shared[sought] = goal(config, data)
        if id(data) not in shared:
            shared[id(data)] = self._source(data)
        self.goal: Goal = shared[sought]
        self.X: FloatArray = shared[id(data)]
        self.classes = len(data.classes)
        self.finite = math.isfinite(self.X.min()) and math.isfinite(self.X.max())
        self.watches = config.watches
        self._validation = None
        if trainee.validation is not None:
            self._check(trainee.validation, "validation data")
            self._validation = trainee.validation.X, goal(config, trainee.validation, data)
        self.epoch, self.step, self.t, self.cost_sum, self.wrong = 0, 0, 0, 0.0, 0
        self.watched = Watched()
        self.best: Network | None = None
        if resume is None:
            begun = initialize(spec, config.seed, config.dtype)
            parameters[:], self.network.running[:] = begun.parameters, begun.running
            return
        if resume.parameters.shape != parameters.shape:
            raise ShapeError(
                f"The resume point has {resume.parameters.size} parameters and the network {spec.parameter_count}."
            )
        parameters[:] = resume.parameters
        if resume.running is not None:
            self.network.running[:] = resume.running
        for name, vector in state.items():
            vector[:] = resume.optimizer_state[name]
        self.epoch, self.step, self.t = resume.epoch, resume.step, resume.steps
        self.cost_sum, self.wrong = resume.cost_sum, resume.wrong
        if resume.watched is not None:
            self.watched = Watched.from_array(resume.watched)
        if resume.best is not None:
            self.best = Network(spec, resume.best, resume.best_running).copy()

    def _check(self, data: Data, name: str) -> None:
        spec = self.config.network
        if data.features != spec.inputs:
            raise ShapeError(f"The network takes {spec.inputs} inputs and the {name} has {data.features} features.")
        if name == "data":
            self.config.check_batches(data.samples)
        if data.samples == 0:
            raise ShapeError(f"The {name} has no samples.")
        if any(column is not None for column in data.categories):
            raise ConfigError(f"The {name} has categories, which must be made columns first: see `preprocessing`.")

    def _source(self, data: Data) -> FloatArray:
        """Give X as batches take it; the data's own array where that will do."""
        width = input_width(self.config.network)
        with np.errstate(over="ignore"):
            if width == data.features or self.config.gathers(data.samples):
                return np.ascontiguousarray(data.X, self._dtype)
            X = np.ones((data.samples, width), self._dtype)
            X[:, :-1] = data.X
            return X

    def learning_rate(self, ahead: int = 0) -> float:
        """Of the epoch under way, or of one after it."""
        return self.config.learning_rate(self.epoch + 1 + ahead, self.watched.lowered)

    def order(self) -> IntArray:
        """Draw the order of the epoch under way."""
        return shuffled(self.config.seed, self.epoch + 1, len(self.X))

    def untrained(self) -> tuple[float, float | None]:
        """Compute cost and error of the network as it is, over the training data."""
        return self._judge(self.network, self.X[:, : self.config.network.inputs], self.goal)

    def here(self) -> Here:
        """Find the network and the optimizer's state as they are now."""
        return self.network, self.state

    @property
    def judged(self) -> bool:
        """Whether each of its epochs is judged by more than what training leaves."""
        return self.watches or self._validation is not None

    def validated(self, here: Callable[[], Here]) -> Validated:
        """Compute cost and error over the validation data of the network found there; None without such data."""
        if self._validation is None:
            return None, None
        with np.errstate(over="ignore", invalid="ignore"):
            return self._judge(here()[0], *self._validation)

    def _judge(self, network: Network, X: Any, sought: Goal) -> tuple[float, float | None]:
        return evaluate(network, self.config.cost, X, sought.Y, sought.labels, self.classes, sought.weights)

    def see(self, cost: float) -> None:
        """Take note of the cost of the epoch that has ended; of a member that watches."""
        config, stopping = self.config, self.config.early_stopping
        patience = config.schedule.patience if config.schedule.name == "plateau" else None
        min_delta = 0.0 if stopping is None else stopping.min_delta
        if self.watched.see(self.epoch, cost, min_delta=min_delta, plateau_patience=patience) and stopping is not None:
            self.best = self.network.copy()

    @property
    def early(self) -> bool:
        """Whether it has stopped early: there has been no better epoch for so long."""
        stopping = self.config.early_stopping
        return stopping is not None and self.watched.waited >= stopping.patience

    @property
    def stopped(self) -> bool:
        """Whether its last epoch has ended, by number or by early stopping."""
        return self.early or self.epoch >= self.config.epochs


def together(members: Sequence[Member], samples: int, *, stacked: bool) -> FloatArray:
    """Put the first samples' X of each member along a first axis, if stacked; without a copy if all have the same X."""
    first = members[0].X[:samples]
    if not stacked:
        return first
    if all(member.X is members[0].X for member in members):
        return np.broadcast_to(first, (len(members), *first.shape))
    return np.stack([member.X[:samples] for member in members])


def fill(batches: Batches, members: Sequence[Member], rows: IntArray, *, stacked: bool, in_place: bool = False) -> None:
    """Take each member's rows over, (members, steps, m); X only if it is not in place."""
    first = members[0]
    if all(member.X is first.X and member.goal is first.goal for member in members):
        members, rows = members[:1], rows if stacked else rows[0]  # all at once
        places: list[Any] = [()]
    else:
        places = list(range(len(members)))
    for place, member in zip(places, members, strict=True):
        goal, of_member = member.goal, rows if place == () else rows[place]
        classes = None if goal.labels is None or goal.labels.ndim > 1 else goal.labels
        batches.fill(place, of_member, None if in_place else member.X, goal.Y, goal.weights, classes)
