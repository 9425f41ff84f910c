"""What if: a changed input, weight or learning rate, before and after; nothing of it is stored."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from chainrule.app.config import Settings
from chainrule.app.errors import InvalidInput
from chainrule.app.services import batches, checkpoints, training
from chainrule.app.services.batches import Batch, Selection
from chainrule.app.services.epochs import watched_up_to
from chainrule.app.services.walks import check_mode
from chainrule.app.store.database import Database
from chainrule.engine import OPTIMIZERS, Data, Network, TrainingConfig
from chainrule.engine.network import classify
from chainrule.engine.normalization import EVALUATION, TRAINING
from chainrule.engine.what_if import State, state, stepped


@dataclass(frozen=True)
class Input:
    """A feature of one of the samples, in the order they are asked for, and what it is to be."""

    sample: int
    feature: int
    value: float | str


@dataclass(frozen=True)
class Parameter:
    """A number of a block of parameters, and what it is to be."""

    name: str
    index: Sequence[int]
    value: float


@dataclass(frozen=True)
class Question:
    """What is to be changed, and whether a step is to be taken from both."""

    selection: Selection
    inputs: Sequence[Input] = ()
    parameters: Sequence[Parameter] = ()
    learning_rate: float | None = None
    step: bool = False
    mode: str = EVALUATION


@dataclass(frozen=True)
class Change:
    """One number that was changed."""

    name: str
    index: list[int]
    before: float | str
    after: float | str


@dataclass(frozen=True)
class Side:
    """How it is on one side, before the change or after it.

    Attributes:
        labels: the class of each sample by its outputs; None of a regression.
        rate: η of the step; None if none is taken.
        update: ‖Δθ‖ of the step.
        stepped: how it is after the step.
    """

    state: State
    labels: list[str] | None
    rate: float | None
    update: float | None
    stepped: State | None


@dataclass(frozen=True)
class Answer:
    """Both sides; `forgets` says that the optimizer's memory of earlier steps is left out."""

    run_id: str
    epoch: int
    cost_name: str
    batch: Batch
    mode: str
    changes: list[Change]
    before: Side
    after: Side
    forgets: str


def ask(database: Database, settings: Settings, kept: checkpoints.Kept, question: Question) -> Answer:
    """Compute both sides at the weights of a checkpoint.

    Raises:
        InvalidInput: samples, places or values do not fit, or the optimizer takes no step along one gradient.
        LimitExceeded: too much to compute in one request.
    """
    check_mode(question.mode)
    opened = checkpoints.open_kept(kept)
    network, selection = opened.network, question.selection
    config = training.engine_config(opened.config, network.spec.inputs)
    searches = OPTIMIZERS[config.optimizer.name].searches
    if question.step and searches:
        raise InvalidInput.at(
            "/step", f"Optimizer {config.optimizer.name!r} searches along a line, over all samples; leave step out."
        )
    m = batches.size(database, opened, selection)
    batches.limit_values(settings, 4 * batches.values_of(network.spec, m), selection)
    changes: list[Change] = []
    batch = batches.open_batch(database, settings, opened, selection)
    other = batch
    if question.inputs:
        changed, edited = _edited(question, changes)
        other = batches.open_batch(database, settings, opened, changed, edited)
    made = _changed(network, question.parameters, changes)
    rate = following_rate(database, kept, config)
    rates = (rate, rate if question.learning_rate is None else question.learning_rate)
    if question.learning_rate is not None:
        changes.append(Change("learning_rate", [], rate, question.learning_rate))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        sides = [
            _side(one, config, of_side, question, eta)
            for one, of_side, eta in zip((network, made), (batch, other), rates, strict=True)
        ]
    remembers = question.step and bool(OPTIMIZERS[config.optimizer.name].state)
    forgets = (
        f"The step is the first that {config.optimizer.name} takes: what it remembered of earlier steps is not kept."
        if remembers
        else ""
    )
    return Answer(kept.run_id, kept.epoch, config.cost, batch, question.mode, changes, sides[0], sides[1], forgets)


def _side(network: Network, config: TrainingConfig, batch: Batch, question: Question, rate: float) -> Side:
    in_training = question.mode == TRAINING
    given = (config.cost, batch.X, batch.Y, batch.weights)
    found = state(network, *given, training=in_training)
    classes = batch.classes
    labels = [classes[n] for n in classify(found.outputs, len(classes))] if classes else None
    if not question.step:
        return Side(found, labels, None, None, None)
    X, Y = (np.asarray(array, network.parameters.dtype) for array in (batch.X, batch.Y))
    led = stepped(network, config, rate, X, Y, batch.weights)
    moved = led.parameters.astype(np.float64) - network.parameters
    return Side(found, labels, rate, float(np.linalg.norm(moved)), state(led, *given, training=in_training))


def _edited(question: Question, changes: list[Change]) -> tuple[Selection, Callable[[Data], Data] | None]:
    """Change features: of samples that were sent along here, of the dataset's rows when they are read."""
    selection = question.selection
    if selection.split is not None:
        raise InvalidInput.at("/inputs", "A feature of one sample is changed; give rows, or samples, not a split.")
    if selection.samples is None:
        return selection, lambda data: _of_rows(data, question.inputs, changes)
    samples = [list(row) for row in selection.samples]
    for place, one in enumerate(question.inputs):
        _check_place(place, one, len(samples), len(samples[0]))
        before = samples[one.sample][one.feature]
        changes.append(Change("x", [one.sample, one.feature], before, one.value))
        samples[one.sample][one.feature] = one.value
    return replace(selection, samples=samples), None


def _of_rows(data: Data, inputs: Sequence[Input], changes: list[Change]) -> Data:
    X = np.array(data.X, dtype=np.float64)
    for place, one in enumerate(inputs):
        _check_place(place, one, *X.shape)
        at = one.sample, one.feature
        categories = data.categories[one.feature] if data.categories else None
        if categories is None:
            if isinstance(one.value, str):
                raise InvalidInput.at(f"/inputs/{place}/value", "The feature is a number, and has no categories.")
            changes.append(Change("x", [*at], float(X[at]), one.value))
            X[at] = one.value
            continue
        if one.value not in categories:
            raise InvalidInput.at(
                f"/inputs/{place}/value", f"There is no category {str(one.value)!r}; there are {', '.join(categories)}."
            )
        changes.append(Change("x", [*at], categories[int(X[at])], one.value))
        X[at] = categories.index(str(one.value))
    return replace(data, X=X)


def _check_place(place: int, one: Input, samples: int, features: int) -> None:
    if not 0 <= one.sample < samples:
        raise InvalidInput.at(f"/inputs/{place}/sample", f"There are {samples} samples, from 0; none is {one.sample}.")
    if not 0 <= one.feature < features:
        raise InvalidInput.at(
            f"/inputs/{place}/feature", f"There are {features} features, from 0; none is {one.feature}."
        )


def _changed(network: Network, parameters: Sequence[Parameter], changes: list[Change]) -> Network:
    made = network.copy()
    most = np.finfo(network.parameters.dtype).max
    for place, one in enumerate(parameters):
        block = made.blocks.get(one.name)
        if block is None:
            raise InvalidInput.at(
                f"/parameters/{place}/name", f"There is no {one.name!r}; there are {', '.join(made.blocks)}."
            )
        at = tuple(one.index)
        if len(at) != block.ndim or not all(0 <= n < size for n, size in zip(at, block.shape, strict=True)):
            raise InvalidInput.at(
                f"/parameters/{place}/index", f"{one.name} has the shape {list(block.shape)}; it has no {list(at)}."
            )
        if abs(one.value) > most:
            raise InvalidInput.at(f"/parameters/{place}/value", f"The value is too large for {block.dtype}.")
        changes.append(Change(one.name, [*at], float(block[at]), one.value))
        block[at] = one.value
    return made


def following_rate(database: Database, kept: checkpoints.Kept, config: TrainingConfig) -> float:
    """Tell the learning rate of the steps that follow a checkpoint, also before any has been taken."""
    lowered = 0
    if config.schedule.name == "plateau":
        with database.reading() as session:
            seen = watched_up_to(session, kept.run_id, config, kept.epoch)
        assert seen is not None, "the costs of all epochs are kept as long as the run"
        lowered = seen.lowered
    return config.learning_rate(min(kept.epoch + 1, config.epochs), lowered)
