"""Training: a generator of epochs, exactly repeatable and exactly resumable, of one network or of a stack."""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from chainrule.engine.activations import activation
from chainrule.engine.arrays import FloatArray, IntArray
from chainrule.engine.checkpoint import ResumePoint
from chainrule.engine.config import SEGMENT_BYTES, TrainingConfig
from chainrule.engine.costs import cost, softmax_of_labels
from chainrule.engine.data import Data
from chainrule.engine.dropout import masks
from chainrule.engine.epoch import Epoch, Place, StepBoundary
from chainrule.engine.errors import ConfigError, DivergedError
from chainrule.engine.fast import Batches, Steps, input_width
from chainrule.engine.lbfgs import Searches
from chainrule.engine.member import Here, Member, Trainee, fill, together
from chainrule.engine.network import Network, classify
from chainrule.engine.observation import Observation
from chainrule.engine.optimizers import FLUSH_EVERY, OPTIMIZERS, flush
from chainrule.engine.rounds import Ended, Round, Rounds
from chainrule.engine.sharding import Gang, ShardedSteps, threads

JUDGED_VALUES = 2**15
"""Outputs are judged in pieces of about so many values: what is computed on the way then stays in the cache."""
NEAR_BYTES = 2**16
"""Samples of a larger batch are gathered just before its step, so that they are near when it reads them."""
AT_ONCE = 64
KEPT_BYTES = 2**19
"""Epochs of one step each are trained up to so many at once, while copies of all parameters take so much."""


def train(
    config: TrainingConfig,
    data: Data,
    validation: Data | None = None,
    *,
    resume: ResumePoint | None = None,
    snapshot_due: Callable[[], bool] | None = None,
    each_step: bool = False,
    gang: Gang | None = None,
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
        each_step: yield a `StepBoundary` after each step but an epoch's last, in place of asking.
        gang: who computes the shards of `config.shards` above 1; None for threads of this process. It makes no
            difference to the bits.

    Yields:
        `Epoch` 0, the untrained network, then 1 … `config.epochs`, or fewer with early stopping; and step
        boundaries when asked.

    Raises:
        ConfigError: the data does not fit the cost.
        ShapeError: the data, or the resume point, does not fit the network.
        DivergedError: a cost, a parameter or a recorded gradient is not finite (any more).
    """
    trainee = Trainee(config, data, validation, resume)
    if each_step:
        snapshot_due = _always
    if config.shards == 1:
        yield from _alone(_Training([trainee], stacked=False, each_step=each_step), snapshot_due)
    elif gang is not None:
        yield from _alone(_Sharded(trainee, gang), snapshot_due)
    else:
        with threads(config, data) as ours:
            yield from _alone(_Sharded(trainee, ours), snapshot_due)


def _always() -> bool:
    return True


def _alone(training: "_Training", snapshot_due: Callable[[], bool] | None) -> Iterator[Epoch | StepBoundary]:
    """Give the epochs of the only network there is."""
    for event in training.events(snapshot_due):
        if isinstance(event, StepBoundary):
            yield event
            continue
        found = event[0]
        if isinstance(found, DivergedError):
            raise found
        yield found


def train_stacked(
    trainees: Sequence[Trainee], *, snapshot_due: Callable[[], bool] | None = None
) -> Iterator[Round | StepBoundary]:
    """Train networks of one shape as one computation; each ends as it would have alone, to the bit.

    Each has its own seed, order, data and numbers. They must agree in what `stack_key` tells, in the number
    of samples and in whether these are weighed, and stand at the same step of the same epoch.

    Who diverges or stops early is in that round and then no more; the others go on. Whoever is not to go on is
    left out by closing this generator and stacking the others' resume points.

    Args:
        trainees: at least one.
        snapshot_due: as of `train`; a `StepBoundary` is then one for all.

    Yields:
        A round after each epoch: what it came to for each; and step boundaries when asked.

    Raises:
        ConfigError: the trainees cannot be stacked; or as `train` does.
        ShapeError: as `train` does.
    """
    alike = {(stack_key(trainee.config), trainee.data.samples) for trainee in trainees}
    if len(alike) != 1:
        raise ConfigError("A stack is of networks that differ in numbers only, each with as many samples.")
    if trainees[0].config.shards > 1:
        raise ConfigError("A network of a stack is computed in one piece; train one with shards by itself.", "shards")
    yield from _Training(trainees, stacked=True).events(snapshot_due)


def stack_key(config: TrainingConfig) -> tuple[Any, ...]:
    """Tell what networks must have in common to be trained as a stack: all but numbers that only scale."""
    regularization = config.regularization
    return (
        config.network,
        config.cost,
        config.optimizer.name,
        config.epochs,
        config.batch_size,
        config.dtype,
        config.step,
        config.shuffle,
        config.gradients_every,
        config.clip is not None and ("norm" if config.clip.norm is not None else "value"),
        regularization.l1 > 0,
        regularization.l2 > 0,
        regularization.max_norm is not None,
        config.label_smoothing > 0,
        config.class_weights is not None,
        config.watches,
        config.shards,
    )


Piece = tuple[Batches, int, int]
"""Steps of batches that lie side by side: from the second up to the third."""


class _Training:
    """The state of a training of one network, or of several as a stack, along the first axis of every array."""

    def __init__(self, trainees: Sequence[Trainee], *, stacked: bool, each_step: bool = False) -> None:
        self._each_step = each_step
        config, m = trainees[0].config, trainees[0].data.samples
        spec, lead = config.network, (len(trainees),) if stacked else ()
        self._config, self._stacked, self._samples = config, stacked, m
        self._P = np.empty((*lead, spec.parameter_count), config.dtype)
        self._G, self._P_before = np.zeros_like(self._P), np.empty_like(self._P)
        self._R = np.empty((*lead, spec.running_count), config.dtype)
        self._state = {name: np.zeros_like(self._P) for name in OPTIMIZERS[config.optimizer.name].state}
        shared: dict[Any, Any] = {}
        self._members = []
        for k, trainee in enumerate(trainees):
            state = {name: vector[self._at(k)] for name, vector in self._state.items()}
            self._members.append(Member(trainee, self._P[self._at(k)], state, shared, self._R[self._at(k)]))
        first = self._members[0]
        if len({(member.epoch, member.step, member.t, member.goal.weights is None) for member in self._members}) != 1:
            raise ConfigError("A stack is of networks that stand at the same step of the same epoch.")
        self._begins, self._weighted = trainees[0].resume is None, first.goal.weights is not None
        self._batch, self._steps = config.batch(m), config.steps_per_epoch(m)
        self._full = m // self._batch
        self._shuffled = config.shuffle and self._steps > 1
        self._epochs_at_once = self._worth_at_once()
        named = {"P": self._P, **self._state} if self._epochs_at_once > 1 else {}
        self._kept = {name: np.empty((*lead, self._epochs_at_once, v.shape[-1]), v.dtype) for name, v in named.items()}
        self._parts = self._make_parts()
        self._orders: list[IntArray | None] = [None] * len(trainees)
        self._first, self._end, self._noted = 0, 0, first.step  # the steps that are arranged, those noted up to
        self._unsummed: list[Piece] = []
        self._output = activation(spec.layers[-1].activation)
        self._per_sample = cost(config.cost).per_sample
        self._labelled = (
            config.cost == "cross_entropy"
            and self._output.name == "softmax"
            and config.label_smoothing == 0
            and first.goal.labels is not None
        )
        observation: Observation | None = None
        if config.gradients_every is not None:
            observation = Observation(self._members, self._P, self._P_before, self._G, self._R, stacked=stacked)
        self._rounds = Rounds(self._members, observation, begins=self._begins)

    def _at(self, member: int) -> Any:
        return member if self._stacked else ()

    def _worth_at_once(self) -> int:
        """Choose how many epochs to train at once: several only if they are of one small step each."""
        config = self._config
        searches = OPTIMIZERS[config.optimizer.name].searches
        if self._steps > 1 or config.watches or config.dropout or self._R.size or searches:
            return 1
        outputs = self._P.itemsize * self._samples * len(self._members) * config.network.outputs
        return max(1, min(AT_ONCE, KEPT_BYTES // (self._P.nbytes * (1 + len(self._state)) + 2 * outputs)))

    def _make_parts(self) -> list[tuple[Batches, Steps | Searches]]:
        """Make the steps for full batches, and for the last smaller one if there is one."""
        rest = self._samples % self._batch
        return [self._part(self._batch, self._full), *([self._part(rest, 1)] if rest else [])]

    def _part(self, m: int, steps: int) -> tuple[Batches, Steps | Searches]:
        config, members = self._config, self._members
        spec, width = config.network, input_width(config.network)
        lead, gathering, of_sample = self._P.shape[:-1], None, (width + 2 * spec.outputs) * self._P.itemsize
        if self._steps == 1:
            # One batch of all samples is used as it lies.
            all_samples = together(members, m, stacked=self._stacked)[..., None, :, :]
            X = np.broadcast_to(all_samples, (*lead, self._epochs_at_once, *all_samples.shape[-2:]))
        else:
            if m * width * self._P.itemsize >= NEAR_BYTES:
                of_sample, gathering = 2 * spec.outputs * self._P.itemsize, 1
            steps = min(max(SEGMENT_BYTES // (m * of_sample * len(members)), 1), steps)
            gathering = gathering and steps
            X = np.ones((*lead, 1 if gathering else steps, m, width), config.dtype)
        batches = Batches(spec, X, weighted=self._weighted, dropped=config.dropout, gathering=gathering)
        if self._steps == 1:
            shape = len(members), self._epochs_at_once, m
            fill(batches, members, np.broadcast_to(np.arange(m), shape), stacked=self._stacked, in_place=True)
        configs = [member.config for member in members]
        if OPTIMIZERS[config.optimizer.name].searches:
            return batches, Searches(configs, self._P, self._state, batches)
        sources = [member.X for member in members]
        return batches, Steps(configs, self._P, self._G, self._R, self._state, batches, self._kept, sources)

    def events(self, snapshot_due: Callable[[], bool] | None) -> Iterator[Round | StepBoundary]:
        """Train all epochs that are left."""
        first = self._members[0]
        if self._begins:
            yield self._untrained()
        while self._rounds.living:
            if self._epochs_at_once > 1:
                yield from self._train_several()
                continue
            started = time.perf_counter()
            if self._shuffled:
                self._orders = [member.order() for member in self._members]
            self._first = self._end = 0
            while self._take_steps(snapshot_due) < self._steps:
                left = time.perf_counter()
                self._note(first.step)
                self._sum()
                places = [
                    Place(each, each.here, each.epoch, each.t, each.step, each.cost_sum, each.wrong)
                    for each in self._members
                ]
                yield StepBoundary(first.epoch + 1, first.step, places)
                started += time.perf_counter() - left  # what the caller does is not the epoch's time
            self._note(self._steps)
            self._sum()
            yield self._finish(started)

    def _take_steps(self, snapshot_due: Callable[[], bool] | None) -> int:
        """Take steps to the epoch's end, or to where a snapshot is due; return where that is."""
        first = self._members[0]
        rates = [[member.learning_rate() for member in self._members]]
        self._rates = rates[0]
        last = self._steps - (first.epoch + 1 == self._rounds.next_recorded)
        while (step := first.step) < self._steps:
            if not self._first <= step < self._end:
                self._arrange(step)
            if step == last:
                self._P_before[:] = self._P
            stop = self._end if step >= last else min(self._end, last)
            self._take(step >= self._full, step - self._first, stop - self._first, rates, snapshot_due)
            if snapshot_due is not None and first.step < self._steps and snapshot_due():
                break
        return first.step

    def _take(
        self, part: int, start: int, stop: int, rates: list[list[float]], snapshot_due: Callable[[], bool] | None
    ) -> None:
        """Take steps up to one after which state is flushed, if not all."""
        ts = [member.t for member in self._members]
        if self._each_step:
            stop = start + 1
        elif self._state:
            stop = min(stop, start + FLUSH_EVERY - ts[0] % FLUSH_EVERY)
        # Numbers that overflow end the epoch as diverged; a warning for each step would say no more.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            done = self._parts[part][1].take(start, stop, rates, ts, snapshot_due)
        for member in self._members:
            member.t += done
            member.step += done
        flush(self._state, ts[0] + done)

    def _arrange(self, step: int) -> None:
        """Put the samples of the next steps into the epoch's order."""
        self._note(step)
        part = int(step >= self._full)
        batches = self._parts[part][0]
        if any(held is batches for held, _, _ in self._unsummed):
            self._sum()
        self._first, self._end = step, self._steps if part else min(step + batches.steps, self._full)
        rows = self._rows(step, self._end)
        step_rows = [np.arange(rows.start, rows.stop) if order is None else order[rows] for order in self._orders]
        if self._steps > 1:
            fill(
                batches,
                self._members,
                np.array(step_rows).reshape(len(step_rows), -1, batches.m),
                stacked=self._stacked,
            )
        for k, member in enumerate(self._members):
            at = self._at(k)
            for number, p in member.config.dropout.items():
                batches.masks[number][at][: self._end - step] = masks(
                    member.config.seed, number, p, member.epoch + 1, range(step, self._end),
                    member.config.network.sizes[number], self._batch, batches.m, self._P.dtype,
                )  # fmt: skip

    def _rows(self, start: int, stop: int) -> slice:
        return slice(start * self._batch, min(stop * self._batch, self._samples))

    def _note(self, step: int) -> None:
        """Take note of the steps done up to `step`: their costs are to be added."""
        start, stop = max(self._noted, self._first), min(step, self._end)
        self._noted = step % self._steps
        if start < stop:
            self._unsummed.append((self._parts[int(start >= self._full)][0], start - self._first, stop - self._first))

    def _sum(self) -> None:
        """Add the costs of the steps done, in their order and each step's by themselves: it never matters when."""
        pieces: list[Piece] = []
        for batches, start, stop in self._unsummed:
            at_once = max(JUDGED_VALUES // batches.Z[..., 0, :, :].size, 1)
            for place in range(start, stop, at_once):
                if place > start:
                    self._add(pieces)
                    pieces = []
                pieces.append((batches, place, min(place + at_once, stop)))
        self._add(pieces)
        self._unsummed = []

    def _add(self, pieces: Sequence["Piece"]) -> None:
        if pieces:
            costs, wrong = self._judged(pieces)
            for member, of_steps, wrong_in_all in zip(self._members, costs.tolist(), wrong.sum(axis=1), strict=True):
                for of_step in of_steps:
                    member.cost_sum += of_step
                member.wrong += int(wrong_in_all)

    @np.errstate(over="ignore", invalid="ignore")
    def _judged(self, pieces: Sequence["Piece"]) -> tuple[FloatArray, IntArray]:
        """Sum up each member's costs, and count the samples it got wrong, (members, steps)."""
        sizes = [batches.m for batches, start, stop in pieces for _ in range(start, stop)]
        starts, samples = [0, *itertools.accumulate(sizes[:-1])], sum(sizes)

        def columns(name: str) -> Any:
            # Units along the first axis: sums over them run along rows as long as can be.
            return _side_by_side([getattr(batches, name)[..., start:stop, :, :] for batches, start, stop in pieces])

        Z, classes, labels = columns("Z"), self._members[0].classes, self._members[0].goal.labels
        if self._labelled:
            errors, wrong = softmax_of_labels(Z, columns("labels")[0])
        else:
            A, Y = self._output.forward(Z, axis=0), columns("Y")
            errors = self._per_sample(Z, A, Y, self._output, axis=0)
            if labels is None:
                wrong = np.zeros(errors.shape, bool)
            elif labels.ndim == 1:
                wrong = classify(A, classes, axis=0) != columns("labels")[0]
            else:  # labels that hold or not; wrong if any is
                wrong = (classify(A, classes) != classify(Y, classes)).any(axis=0)
        if self._weighted:
            shares = columns("scale")[0, ..., :samples]  # of 1/m
            errors = errors[..., :samples] * shares * np.repeat(sizes, sizes)
        costs = np.add.reduceat(errors[..., :samples], starts, axis=-1)
        counts = np.add.reduceat(wrong[..., :samples], starts, axis=-1, dtype=np.int64)
        return np.atleast_2d(costs), np.atleast_2d(counts)

    def _train_several(self) -> Iterator[Round]:
        """Train several epochs of one step each, up to one that is recorded, and give them one after another."""
        started, first = time.perf_counter(), self._members[0]
        epoch, t = first.epoch, first.t
        stop = int(min(self._epochs_at_once, self._config.epochs - epoch, self._rounds.next_recorded - epoch))
        self._P_before[:] = self._P
        rates = self._rates_ahead(stop)
        self._take(0, 0, stop, rates[:1] if rates.count(rates[0]) == stop else rates, None)
        stop = first.t - t
        for member in self._members:
            member.epoch, member.step = epoch + stop, 0
        if stop > 1:
            self._P_before[:] = self._kept["P"][..., stop - 2, :]
        of_costs, of_wrong = self._judged([(self._parts[0][0], 0, stop)])
        means = of_costs.T.astype(np.float64) / self._samples
        costs, shares = means.tolist(), self._shares(of_wrong.T)
        healthy: Sequence[Sequence[bool] | None] = [None] * stop
        finite: Any = np.isfinite(self._kept["P"][..., :stop, :])
        if not (finite.all() and np.isfinite(means).all()):
            healthy = (finite.all(axis=-1).reshape(-1, stop).T & np.isfinite(means)).tolist()
        seconds = (time.perf_counter() - started) / stop
        for number in range(stop):
            started = time.perf_counter() - seconds
            here = partial(self._kept_here, number)
            ended = Ended(epoch + number + 1, t + number + 1, costs[number], shares[number], rates[number], here)
            yield self._rounds.end(ended, healthy[number], started)
            if not self._rounds.living:
                return

    def _rates_ahead(self, epochs: int) -> list[list[float]]:
        """Tell the members' learning rates of the epochs to come."""
        members, epoch = self._members, self._members[0].epoch + 1
        if all(member.config.schedule.rests(epoch) for member in members):
            return [[member.learning_rate() for member in members]] * epochs
        return [[member.learning_rate(ahead) for member in members] for ahead in range(epochs)]

    def _shares(self, wrong: IntArray) -> list[Any]:
        """Give the shares of the samples that were got wrong; None each for regression."""
        if self._members[0].goal.labels is None:
            shares: Any = np.full(wrong.shape, None)
        else:
            shares = wrong / self._samples
        listed: list[Any] = shares.tolist()
        return listed

    def _kept_here(self, number: int, k: int) -> Here:
        """Find a member as it was after one of several epochs."""
        kept = {name: held[self._at(k)][number] for name, held in self._kept.items()}
        return Network(self._config.network, kept.pop("P")), kept

    def _here(self, k: int) -> Here:
        return self._members[k].here()

    def _untrained(self) -> Round:
        """Judge the networks as they begin."""
        started = time.perf_counter()
        with np.errstate(over="ignore", invalid="ignore"):
            costs, errors = zip(*(member.untrained() for member in self._members), strict=True)
        rates = [member.learning_rate(-1) for member in self._members]
        return self._rounds.end(Ended(0, 0, costs, errors, rates, self._here), self._healthy(costs), started)

    def _finish(self, started: float) -> Round:
        """Judge the epoch that has just been trained."""
        members = self._members
        costs = [member.cost_sum / self._samples for member in members]
        errors = self._shares(np.array([member.wrong for member in members]))
        for member in members:
            member.epoch, member.step, member.cost_sum, member.wrong = member.epoch + 1, 0, 0.0, 0
        ended = Ended(members[0].epoch, members[0].t, costs, errors, self._rates, self._here)
        return self._rounds.end(ended, self._healthy(costs), started)

    def _healthy(self, costs: Sequence[float]) -> Sequence[bool] | None:
        """Tell of each network as it is whether its numbers and its cost are finite; None if all are."""
        finite: Any = np.isfinite(self._P).all(axis=-1) & np.isfinite(self._R).all(axis=-1)
        healthy: list[bool] = (np.atleast_1d(finite) & np.isfinite(costs)).tolist()
        return None if all(healthy) else healthy


class _Sharded(_Training):
    """The state of a training whose batches are computed by shards, each step's costs with its gradient."""

    def __init__(self, trainee: Trainee, gang: Gang) -> None:
        super().__init__([trainee], stacked=False)
        self._shuffled = False  # each shard looks its samples up itself
        self._sharded = ShardedSteps(trainee.config, self._P, self._G, self._state, gang)

    def _worth_at_once(self) -> int:
        return 1

    def _make_parts(self) -> list[tuple[Batches, Steps | Searches]]:
        return []

    def _arrange(self, step: int) -> None:
        self._first, self._end = 0, self._steps

    def _note(self, step: int) -> None:
        pass  # costs are added as they come

    def _take(
        self, part: int, start: int, stop: int, rates: list[list[float]], snapshot_due: Callable[[], bool] | None
    ) -> None:
        (member,), ((rate,),) = self._members, rates
        for step in range(start, stop):
            total, wrong = self._sharded.take(member.epoch + 1, step, rate, member.t + 1)
            member.cost_sum += total
            member.wrong += wrong
            member.t += 1
            member.step += 1
            if snapshot_due is not None and member.step < self._steps and snapshot_due():
                return


def _side_by_side(arrays: Sequence[Any]) -> Any:
    """Put (…, steps, units, m) values into columns, (units, …, samples).

    There are two at least, maybe one of zeros: a single number in each row NumPy would sum up in another order.
    """
    units_first = {3: (1, 0, 2), 4: (2, 0, 1, 3)}[arrays[0].ndim]
    moved = [array.transpose(units_first) for array in arrays]
    widths = [array.shape[-2] * array.shape[-1] for array in moved]
    width = sum(widths)
    room = np.empty((*moved[0].shape[:-2], max(width, 2)), moved[0].dtype)
    if width < 2:
        room[..., width:] = 0
    start = 0
    for array, width in zip(moved, widths, strict=True):
        room[..., start : start + width].reshape(array.shape)[...] = array
        start += width
    return room
