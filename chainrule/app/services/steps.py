"""Steps: an epoch of a run trained once more, to look at its steps; nothing of it is stored.

It begins at the epoch's beginning where all that takes is kept: the weights, for an optimizer that remembers nothing,
or a resume point. Otherwise it begins at the nearest place before it, and trains up to the epoch first.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from chainrule.app.config import Settings
from chainrule.app.errors import Conflict, LimitExceeded, NotFound, TooManyRequests
from chainrule.app.run_status import Reason
from chainrule.app.services import batches, checkpoints, training, verifications
from chainrule.app.services.epochs import watched_up_to
from chainrule.app.services.gradients import of_features
from chainrule.app.services.gradients import wanted as checked_names
from chainrule.app.services.runs import found
from chainrule.app.services.weights import decode_safetensors, encode_safetensors, sha256
from chainrule.app.store import checkpoints as store
from chainrule.app.store import runs
from chainrule.app.store.database import Database
from chainrule.app.store.models import Run
from chainrule.engine import (
    OPTIMIZERS,
    DivergedError,
    EngineError,
    Network,
    ResumePoint,
    TrainingConfig,
    blas,
    compiled,
)
from chainrule.engine.arrays import FloatArray, IntArray
from chainrule.engine.gradients import equation, gradients, statistics
from chainrule.engine.network import mean_cost
from chainrule.engine.preprocessing import Preprocessing
from chainrule.engine.replay import Along, Looked, Replay, Step
from chainrule.engine.stopping import Watched

STEP_OPERATIONS = 200_000
"""What a step takes beside its products, in multiplications of these; ten times as much where it is looked at."""
REMEMBERED_BYTES = 64 * 2**20
"""Beginnings of epochs that took training to find are remembered up to so much, for whoever looks at another step."""
AT_ONCE = 2
"""So many replays go on in one process; each takes as much memory as its run did."""
MOST_WAITING = 8
"""So many wait for a turn, each in a thread that nobody else has meanwhile."""
PATIENCE_S = 20.0
_turns = threading.BoundedSemaphore(AT_ONCE)
_line = threading.BoundedSemaphore(AT_ONCE + MOST_WAITING)


@dataclass(frozen=True)
class Beginning:
    """Where a replay begins.

    Attributes:
        epoch: how many epochs lie before the nearest place that is kept.
        point: all it takes to go on from there, or from nearer, where that is remembered; None for the beginning.
    """

    epoch: int
    point: ResumePoint | None

    @property
    def at(self) -> tuple[int, int]:
        """The epochs, and the steps of the next, that need not be trained."""
        return (0, 0) if self.point is None else (self.point.epoch, self.point.step)


@dataclass(frozen=True)
class Planned:
    """An epoch to be replayed, as it is stored.

    Attributes:
        sha256: of the weights kept at its end; None if they are not.
        diverged: whether the run diverged in it.
        builds: what the bits of a replay here depend on besides the run.
        alike: whether the run was trained by the same, so that a replay is what happened, to the bit.
    """

    run_id: str
    epoch: int
    config: dict[str, Any]
    engine: TrainingConfig
    inputs: Preprocessing
    beginning: Beginning
    remembers: str
    steps: int
    sha256: str | None
    diverged: bool
    builds: dict[str, Any]
    alike: bool


@dataclass(frozen=True)
class Replayed:
    """Steps of an epoch.

    Attributes:
        steps: how many the epoch has.
        learning_rate: of each.
        looked: those that were asked for.
        rows: their batches, as rows of the dataset; None if not asked for.
        verified: whether the epoch ended with the weights the run has kept; None with the reason if that is not known.
        end_sha256: of the weights it ended with; None of an epoch in which the run diverged.
        diverged: whether it diverged.
    """

    plan: Planned
    steps: int
    learning_rate: float
    looked: list[Looked]
    rows: list[list[int]] | None
    verified: bool | None
    reason: str
    end_sha256: str | None
    diverged: bool


@dataclass(frozen=True)
class Inspected:
    """Quantities of a step's own backpropagation; `masks` are those of its dropout, by layer."""

    plan: Planned
    step: int
    rows: list[int]
    cost: float
    weights: FloatArray | None
    masks: dict[int, FloatArray]
    arrays: dict[str, FloatArray]
    norms: dict[str, float]
    equations: dict[str, str]


def plan(database: Database, settings: Settings, run_id: str, epoch: str) -> Planned:
    """Find where a replay of an epoch begins.

    Raises:
        NotFound: there is no such run or epoch, or it has no steps.
        Conflict: the run is a verification, or cannot be trained here as it was.
    """
    with database.reading() as session:
        run = found(runs.get(session, run_id), run_id)
        number = _number(session, run, epoch)
        inputs = training.load_inputs(session, run.id, run.config)
        engine = training.engine_config(run.config, run.config["network"]["inputs"])
        try:
            compiled.check(engine.step)
        except EngineError as error:
            raise Conflict(f"Run {run_id} cannot be trained here as it was: {error}") from error
        builds = training.builds(settings)
        return Planned(
            run.id,
            number,
            run.config,
            engine,
            inputs,
            _beginning(session, run, engine, number),
            verifications.remembered(run.config),
            run.steps_per_epoch,
            store.hashes(session, run.id, number, number).get(number),
            number > run.epochs_done,
            builds,
            run.builds == builds,
        )


@contextmanager
def turn() -> Iterator[None]:
    """Wait for a turn to replay.

    Raises:
        TooManyRequests: others take too long, or too many wait already.
    """
    retry = {"Retry-After": str(round(PATIENCE_S))}
    if not _line.acquire(blocking=False):
        raise TooManyRequests(
            f"{AT_ONCE} epochs are being replayed already, and {MOST_WAITING} more wait; try again later.",
            headers=retry,
        )
    try:
        if not _turns.acquire(timeout=PATIENCE_S):
            raise TooManyRequests(
                f"{AT_ONCE} epochs are being replayed already, and took longer than {PATIENCE_S:g} s; try again later.",
                headers=retry,
            )
        try:
            yield
        finally:
            _turns.release()
    finally:
        _line.release()


def look(
    database: Database, settings: Settings, planned: Planned, *, after: int, limit: int, with_rows: bool
) -> Replayed:
    """Replay an epoch to its end and measure up to `limit` of its steps behind `after`.

    Raises:
        LimitExceeded: it would take too long.
    """
    count = max(0, min(limit, planned.steps - after))
    looked, rows, last = list[Looked](), list[list[int]](), None
    with turn(), np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        replay, numbers = _open(database, settings, planned, count)
        for step in _steps(planned, replay):
            if after < step.number <= after + count:
                looked.append(replay.look(step))
                rows += [numbers[replay.rows(step.number)].tolist()] if with_rows else []
            last = step.after
    digest = None if last is None else sha256(encode_safetensors(last.named()))
    verified = None if digest is None or planned.sha256 is None else digest == planned.sha256
    reason = ""
    if replay.diverged or planned.diverged:
        reason = "The run diverged in this epoch, and kept nothing of it."
    elif planned.sha256 is None:
        reason = f"The run keeps no weights of epoch {planned.epoch} to compare with."
    elif not verified:
        reason = (
            "It was trained by another build, or on another kind of machine: see `builds` of the run. What is shown is "
            "this machine's."
        )
    rate = planned.engine.learning_rate(planned.epoch, _lowered(replay))
    return Replayed(
        planned, planned.steps, rate, looked, rows if with_rows else None, verified, reason, digest,
        replay.diverged or planned.diverged,
    )  # fmt: skip


def inspect(
    database: Database, settings: Settings, planned: Planned, number: int, asked: Sequence[str] | None
) -> Inspected:
    """Compute quantities of one step's backpropagation, before its update.

    Raises:
        NotFound: the epoch has no such step.
        InvalidInput: the network has no such quantity.
        LimitExceeded: too much to compute in one request.
    """
    engine, spec = planned.engine, planned.engine.network
    wanted = checked_names(spec, asked)
    replay, rows, step = _one(database, settings, planned, number)
    batch = replay.batch(number)
    with np.errstate(over="ignore", invalid="ignore"):
        given = (step.before, engine.cost, batch.X, batch.Y)
        arrays = gradients(*given, wanted, weights=batch.weights, training=True, masks=batch.masks or None)
        value = mean_cost(*given, batch.weights, training=True, masks=batch.masks or None)
        norms = {name: statistics(array).norm for name, array in arrays.items()}
    about: dict[str, Any] = {"weighted": batch.weights is not None, "training": True, "masked": tuple(batch.masks)}
    equations = {
        name: of_features(name, equation(name, spec, engine.cost, **about), planned.run_id, planned.inputs)
        for name in wanted
    }
    return Inspected(
        planned, number, rows[batch.rows].tolist(), value, batch.weights, batch.masks, arrays, norms, equations
    )  # fmt: skip


def along(database: Database, settings: Settings, planned: Planned, number: int) -> Along:
    """Compute the cost along one step.

    Raises:
        NotFound: the epoch has no such step.
        Conflict: the run diverged in it.
        LimitExceeded: it would take too long.
    """
    replay, _, step = _one(database, settings, planned, number, passes=12)
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            return replay.along(step)
    except DivergedError as error:
        raise Conflict(f"Step {number} led to no weights: {error}") from error


def _number(session: Session, run: Run, epoch: str) -> int:
    if run.verifies is not None:
        raise Conflict(f"Run {run.id} is a verification and keeps nothing; replay run {run.verifies} instead.")
    number = checkpoints.number_of(session, run, epoch)
    last = run.epochs_done + (run.reason == Reason.DIVERGED)
    if number == 0:
        raise NotFound("Epoch 0 is the untrained network: no step led to it. The first epoch is 1.")
    if number > last:
        raise NotFound(f"Run {run.id} has no epoch {number}; {run.epochs_done} of {run.epochs_total} are done.")
    return number


def _beginning(session: Session, run: Run, engine: TrainingConfig, epoch: int) -> Beginning:
    """Find the nearest place, at or before an epoch's beginning, that has all a training goes on with."""
    if (recalled := _remembered.get(run.id, epoch - 1)) is not None:
        return recalled
    begins, best = (epoch - 1, 0), Beginning(0, None)
    ancestor: Run | None = run
    while ancestor is not None:
        position = store.resume_position(session, ancestor.id)
        if position is not None and best.at < position <= begins:
            content = store.get_resume_point(session, ancestor.id)
            point = None if content is None else ResumePoint.from_arrays(decode_safetensors(content))
            # Of a run under way it may be another one by now.
            if point is not None and (point.epoch, point.step) <= begins:
                best = Beginning(point.epoch, point)
        ancestor = runs.get(session, ancestor.extends) if ancestor.extends is not None else None
    if OPTIMIZERS[engine.optimizer.name].state:
        return best
    nearest = store.newest_up_to(session, run.id, epoch - 1)
    if nearest is None or (nearest, 0) <= best.at:
        return best
    content = store.weights(session, run.id, nearest)
    watched = watched_up_to(session, run.id, engine, nearest) if engine.watches else None
    if content is None or (engine.watches and watched is None):
        return best
    network = Network.from_named(engine.network, decode_safetensors(content))
    point = ResumePoint(
        epoch=nearest,
        step=0,
        steps=nearest * run.steps_per_epoch,
        parameters=network.parameters,
        watched=None if watched is None else watched.to_array(),
        running=network.running if network.running.size else None,
    )
    return Beginning(nearest, point)


def _lowered(replay: Replay) -> int:
    """Tell how often the plateau rule had lowered the learning rate when the epoch began."""
    begin = replay.begin
    return 0 if begin is None or begin.watched is None else Watched.from_array(begin.watched).lowered


def _one(
    database: Database, settings: Settings, planned: Planned, number: int, passes: int = 2
) -> tuple[Replay, IntArray, Step]:
    """Replay up to one step."""
    if not 1 <= number <= planned.steps:
        raise NotFound(
            f"Epoch {planned.epoch} of run {planned.run_id} has {planned.steps} steps, from 1; there is no {number}."
        )
    with turn(), np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        replay, rows = _open(database, settings, planned, passes)
        values = batches.values_of(planned.engine.network, planned.engine.batch(len(rows)))
        if values > settings.max_inspect_values:
            raise LimitExceeded(
                "The number of values to compute", values, settings.max_inspect_values, "CHAINRULE_MAX_INSPECT_VALUES",
                hint="A step of this run is larger than that; ask for rows of a checkpoint.",
            )  # fmt: skip
        step = next((step for step in _steps(planned, replay) if step.number == number), None)
    if step is None:
        raise NotFound(f"The training ended before step {number} of epoch {planned.epoch}.")
    return replay, rows, step


def _open(database: Database, settings: Settings, planned: Planned, looked: int) -> tuple[Replay, IntArray]:
    """Open what a replay takes, if it takes no longer than is allowed; with the numbers of the samples' rows."""
    engine, spec, beginning = planned.engine, planned.engine.network, planned.beginning
    training_part, _ = training.raw_split(database, settings, planned.config)
    rows = training_part.rows
    samples = training_part.data.samples if rows is None else len(rows)
    of_sample = 3 * (spec.parameter_count + batches.UNIT_OPERATIONS * sum(spec.sizes[1:]))
    epochs = planned.epoch - beginning.at[0]
    operations = epochs * (of_sample * samples + STEP_OPERATIONS * planned.steps)
    operations += looked * (of_sample * engine.batch(samples) + 10 * STEP_OPERATIONS)
    if operations > settings.max_replay_operations:
        hint = "Ask for fewer steps at once (limit), or have the limit raised."
        if epochs > 1:
            why = f"{planned.remembers}, and" if planned.remembers else "there"
            hint = (
                f"{why} the nearest place that is kept to begin at is the end of epoch {beginning.epoch}. Ask for an "
                f"epoch nearer behind it, or of a run of fewer epochs (POST /v1/runs/{planned.run_id}/clone)."
            )
            hint = hint[0].upper() + hint[1:]
        raise LimitExceeded(
            f"The operations to replay epoch {planned.epoch} from the end of epoch {beginning.epoch}", operations,
            settings.max_replay_operations, "CHAINRULE_MAX_REPLAY_OPERATIONS", hint=hint,
        )  # fmt: skip
    data, validation = training.load_split(database, settings, planned.run_id, planned.config)
    blas.set_threads(settings.blas_threads)  # as whoever trained it
    replay = Replay(
        engine, data, planned.epoch, validation=validation if engine.watches else None, resume=beginning.point
    )  # fmt: skip
    return replay, np.arange(samples) if rows is None else np.asarray(rows)


def _steps(planned: Planned, replay: Replay) -> Iterator[Step]:
    """Give the steps of an epoch, and remember where it began if that was not kept."""
    try:
        for step in replay.steps():
            if step.number == 1 and replay.begin is not None and planned.beginning.at[0] < planned.epoch - 1:
                _remembered.put(planned.run_id, Beginning(planned.beginning.epoch, replay.begin))
            yield step
    except DivergedError as error:
        raise Conflict(
            f"Run {planned.run_id} cannot be replayed here: {error} Where the run was trained it did not: see its "
            "`builds`, which are others than this machine's."
        ) from error


class _Remembered:
    """Beginnings of epochs, the latest looked at; each is a pure function of run and epoch."""

    def __init__(self, most_bytes: int) -> None:
        self._most, self._guard = most_bytes, threading.Lock()
        self._kept: OrderedDict[tuple[str, int], Beginning] = OrderedDict()

    def get(self, run_id: str, epoch: int) -> Beginning | None:
        """Recall the end of an epoch."""
        with self._guard:
            found = self._kept.get((run_id, epoch))
            if found is not None:
                self._kept.move_to_end((run_id, epoch))
            return found

    def put(self, run_id: str, found: Beginning) -> None:
        """Remember the end of an epoch, and forget what was looked at longest ago."""
        with self._guard:
            self._kept[run_id, found.at[0]] = found
            while sum(map(_bytes, self._kept.values())) > self._most:
                self._kept.popitem(last=False)


def _bytes(found: Beginning) -> int:
    return 0 if found.point is None else sum(array.nbytes for array in found.point.to_arrays().values())


_remembered = _Remembered(REMEMBERED_BYTES)
