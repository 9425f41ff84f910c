"""The child: a process that trains one run at a time, or several as a stack, and ends with its supervisor."""

import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from chainrule.app import logs
from chainrule.app.config import MIB, Settings
from chainrule.app.execution.gang import Gang, GangIncomplete
from chainrule.app.execution.writer import Assignment, Ending, RunLost, Writer
from chainrule.app.run_status import Reason, RunStatus, Wish
from chainrule.app.services import diagnoses, training
from chainrule.app.services.comparing import Hashed
from chainrule.app.services.tally import Flush
from chainrule.app.services.weights import NetworkEncoder
from chainrule.app.store import attempts, checkpoints
from chainrule.app.store.attempts import Attempt
from chainrule.app.store.database import Database
from chainrule.app.store.outages import patiently
from chainrule.app.store.troubles import explained
from chainrule.engine import (
    Data,
    DivergedError,
    Epoch,
    ResumePoint,
    StepBoundary,
    Trainee,
    TrainingConfig,
    dense,
    train,
    train_stacked,
    xor,
)
from chainrule.engine.diagnoses import facts_of
from chainrule.engine.examination import Examination
from chainrule.engine.lbfgs import MOST_TRIALS
from chainrule.engine.stopping import Watched

DRAIN = "drain"
WRITTEN = "written"
MOVED = "moved"
FLUSHED = "flushed"
READY = "ready"
ENDED = "ended"
CRASHED = "crashed"
FAULTY = "faulty"
TOO_LARGE = "too_large"
INCOMPLETE = "incomplete"

_ENDINGS = {
    Wish.CANCEL: Ending(RunStatus.CANCELLED, Reason.CANCEL_REQUESTED),
    Wish.PAUSE: Ending(RunStatus.PAUSED, Reason.PAUSE_REQUESTED),
    DRAIN: Ending(RunStatus.QUEUED, Reason.DRAINED),
}
MOST_ATTEMPTS = 100
"""A child that has trained so often ends, whatever may have gathered in it."""
SMALL_BYTES = 64 * MIB
"""A child that has trained something larger ends, for its memory may not all come back."""
PULSE_S = 0.5
"""How often a child tells that it moves, at most."""
SLOWEST_PER_S = 1e9
"""Operations a second that any machine manages; what a step may need at that speed is no hang."""
REHEARSALS = 30
"""Python runs code faster that it has run some dozens of times."""

_prepared: dict[str, Database] = {}
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Order:
    """What a child is to train: one run, or several that can be trained as one computation."""

    assignments: tuple[Assignment, ...]

    @property
    def ids(self) -> dict[str, str]:
        """What it is known by in the log."""
        attempts = [assignment.attempt for assignment in self.assignments]
        return {"run_id": ",".join(a.run_id for a in attempts), "attempt_id": attempts[0].attempt_id}


class _Supervisor:
    """The child's end of the pipe: hears orders and wishes, tells of writes, and dies when the other end does.

    Attributes:
        drain: whether all is to stop.
        wished: the runs that are to stop, and how.
        pulse: what shows that this child moves.
    """

    def __init__(self, pipe: Connection) -> None:
        self.drain = False
        self.wished: dict[str, str] = {}
        self.attention = threading.Event()
        self.pulse = _Pulse(lambda: self.tell(MOVED))
        self.orders: SimpleQueue[Order | None] = SimpleQueue()
        self._pipe = pipe
        self._guard = threading.Lock()  # no two threads may send at once
        threading.Thread(target=self._listen, name="supervisor", daemon=True).start()

    @property
    def wishes(self) -> bool:
        """Whether anything is to stop."""
        return self.drain or bool(self.wished)

    def wish(self, attempt: Attempt) -> str | None:
        """Tell what is wished of a run."""
        return self.wished.get(attempt.run_id, DRAIN if self.drain else None)

    def tell(self, word: str, detail: str | Flush = "") -> None:
        with contextlib.suppress(OSError), self._guard:
            self._pipe.send((word, detail))

    def _listen(self) -> None:
        try:
            while True:
                heard = self._pipe.recv()
                if isinstance(heard, Order):
                    self.orders.put(heard)
                else:
                    self._take(*heard)
        except (EOFError, OSError):
            os._exit(1)  # nobody beats for this attempt any more: whatever it did now would be in vain

    def _take(self, word: str, run_id: str) -> None:
        if word == DRAIN:
            self.drain = True
        else:
            self.wished[run_id] = word
        self.attention.set()
        self.orders.put(None)  # whoever was asked to stop takes no other order


class _Pulse:
    """Tells of movement, at most every `PULSE_S`, while there is an order: of each step, and of reasons to take none.

    Those are: samples are being read, the longest step there may be is being taken, results are being written.
    """

    def __init__(self, tell: Callable[[], None]) -> None:
        self.steps = 0
        self._tell = tell
        self._patience_s = 0.0
        self._writes: Callable[[], bool] = bool
        self._at_work = threading.Event()
        self._guard = threading.Lock()
        threading.Thread(target=self._run, name="pulse", daemon=True).start()

    def begin(self, patience_s: float, writes: Callable[[], bool] = bool) -> None:
        """Tell of movement from now on; for so long without steps, and as long as it `writes`."""
        self._patience_s, self._writes = patience_s, writes
        self.steps += 1
        self._at_work.set()

    def rest(self) -> None:
        """Tell nothing more: who waits for an order is silent."""
        with self._guard:
            self._at_work.clear()

    def _run(self) -> None:
        seen, since = 0, 0.0
        while True:
            self._at_work.wait()
            if self.steps != seen:
                seen, since = self.steps, time.monotonic()
            if time.monotonic() - since <= self._patience_s or self._writes():
                with self._guard:
                    if self._at_work.is_set():
                        self._tell()
            time.sleep(PULSE_S)


def main(settings: Settings, pipe: Connection) -> None:
    """Obey one order after another, each from its resume points to its end, or until told to stop."""
    _leave_signals_to_supervisor()
    supervisor = _Supervisor(pipe)
    logs.install(settings.log_level, settings.log_format)
    database = _prepared.get(settings.database_url) or _database(settings.database_url)
    database.on_commit(lambda: supervisor.tell(WRITTEN))
    for left in range(MOST_ATTEMPTS - 1, -1, -1):
        order = supervisor.orders.get()
        if order is None:
            break
        with logs.concerning(**order.ids):
            again = _obey(database, settings, order, supervisor, last=left == 0)
        if not again:
            break
    pipe.close()
    os._exit(0)  # all is committed; the interpreter's farewell would only take time


def _obey(database: Database, settings: Settings, order: Order, supervisor: _Supervisor, *, last: bool) -> bool:
    """Obey one order and say how it went; whether another may come."""
    small = False
    try:
        with _bounded(_own_memory(order)):
            small = _train(database, settings, order, supervisor)
    except RunLost as lost:
        supervisor.pulse.rest()
        log.warning("%s: another attempt holds what was ordered; stopping", lost)
    except GangIncomplete as error:
        log.warning("the gang is not complete: %s", error)
        supervisor.tell(INCOMPLETE, str(error))
        return False
    except Exception as error:
        log.exception("attempt on %s failed", ", ".join(each.attempt.run_id for each in order.assignments))
        supervisor.tell(_fault(error, _own_memory(order)), "".join(traceback.format_exception_only(error)).strip())
        return False
    supervisor.pulse.rest()
    supervisor.attention.clear()  # before looking for a wish: one that comes later is for the next order
    ready = small and not supervisor.wishes and not last
    supervisor.tell(READY if ready else ENDED)
    return ready


def _fault(error: Exception, own_memory: int | None) -> str:
    """Tell what trying again may mend (database, files, a machine short of memory) from what it would only repeat."""
    if isinstance(error, MemoryError) and own_memory is not None:
        return TOO_LARGE
    return CRASHED if isinstance(error, (SQLAlchemyError, OSError, MemoryError)) else FAULTY


def prepare(database_url: str) -> None:
    """Rehearse for all children that are forked from here.

    The connection is closed at the end, for no child may share it.
    """
    _leave_signals_to_supervisor()
    database = _prepared[database_url] = _database(database_url)
    _rehearse(database, REHEARSALS)
    database.dispose()


def _leave_signals_to_supervisor() -> None:
    # Ctrl-C and many a SIGTERM reach the whole process group; the supervisor hears them too, and passes them on.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _rehearse(database: Database, times: int) -> None:
    """Connect, run every statement of an attempt for a run that does not exist, and train a little.

    What is left of it is what was compiled, loaded and copied on the way.
    """
    try:
        with database.writing(announce=False) as session:
            for _ in range(times):
                attempts.rehearse(session)
                checkpoints.get_resume_point(session, "")
                checkpoints.drop_resume_point(session, "")
    except SQLAlchemyError as error:
        log.warning("cannot rehearse: %s", error)
    encoder = NetworkEncoder()
    for epoch in train(TrainingConfig(dense(2, (2, "tanh"), (1, "sigmoid")), epochs=times), xor()):
        if isinstance(epoch, Epoch):
            encoder.encode(epoch.network)


def _database(url: str) -> Database:
    return Database(url, pool_size=2, max_overflow=0, durable=False)


def _train(database: Database, settings: Settings, order: Order, supervisor: _Supervisor) -> bool:
    """Train; whether it was a small thing."""

    def opened(_again: bool) -> tuple[Order, dict[int, Trainee], dict[int, Examination]]:
        hashed = Order(tuple(_with_hashed(database, assignment) for assignment in order.assignments))
        trainees = _trainees(database, settings, hashed)
        return hashed, trainees, _examinations(database, hashed, trainees)

    supervisor.pulse.begin(settings.blind_s)
    order, trainees, examinations = patiently(opened, settings.blind_s, _tell_of)
    if (alone := trainees.get(0)) is None or alone.config.shards == 1 or not settings.engine.startswith("dask://"):
        return _see_through(database, settings, order, trainees, examinations, supervisor)
    run_id = order.assignments[0].attempt.run_id
    with Gang(settings, alone.config, alone.data, run_id, lambda: supervisor.wishes) as gang:
        _see_through(database, settings, order, trainees, examinations, supervisor, gang)
    return False  # what the cluster's client leaves behind goes with this process


def _see_through(
    database: Database,
    settings: Settings,
    order: Order,
    trainees: dict[int, Trainee],
    examinations: dict[int, Examination],
    supervisor: _Supervisor,
    gang: Gang | None = None,
) -> bool:
    """Train what has been opened; whether it was a small thing."""
    writer = Writer(
        database, settings, order.assignments, due=supervisor.attention, told=partial(supervisor.tell, FLUSHED)
    )
    for place, examination in examinations.items():
        writer.examines(place, examination, _last_epoch(trainees[place]))
    supervisor.pulse.begin(_longest_step_s(trainees.values()), lambda: writer.writing)
    for place, trainee in trainees.items():
        if trainee.resume is not None:
            per_epoch = order.assignments[place].steps_per_epoch
            writer.goes_on_at(place, trainee.resume.epoch * per_epoch + trainee.resume.step)
        if trainee.resume is not None and trainee.resume.watched is not None:
            writer.begins_at(place, Watched.from_array(trainee.resume.watched).best_epoch)
    # Those at the same place go on together; who was lost at another place is trained by itself.
    waiting: list[dict[int, Trainee]] = list(_alike(trainees))
    while waiting:
        rest = _follow(waiting.pop(), order, writer, supervisor, gang)
        if rest:
            waiting.append(rest)
    writer.close()
    sizes = [
        each.config.memory_bytes(each.data.samples, each.validation.samples if each.validation else 0)
        for each in trainees.values()
    ]
    return sum(sizes) <= SMALL_BYTES


def _own_memory(order: Order) -> int | None:
    """Tell how much memory the runs of an order may take together; None if one of them has no limit."""
    limits: list[int] = [assignment.config.get("max_memory_bytes") or 0 for assignment in order.assignments]
    return sum(limits) if all(limits) else None


@contextlib.contextmanager
def _bounded(own_memory: int | None) -> Iterator[None]:
    """Let this process take so much more memory of its own than it has now, where the system can be told so.

    It is of the data segment, not of all addresses: files that are mapped, and that all runs share, do not count.
    """
    if own_memory is None or not sys.platform.startswith("linux"):
        yield
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[5])
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (pages * resource.getpagesize() + own_memory, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _longest_step_s(trainees: Iterable[Trainee]) -> float:
    """Tell how long a step, or judging an epoch, may take on a slow machine."""
    operations = 0
    for each in trainees:
        config, samples = each.config, each.data.samples
        validating = each.validation.samples if each.validation else 0
        trials = MOST_TRIALS if config.optimizer.name == "lbfgs" else 1
        of_sample = config.network.parameter_count + 100 * sum(config.network.sizes)
        operations += (6 * trials * config.batch(samples) + 2 * (samples + validating)) * of_sample
    return operations / SLOWEST_PER_S


def _with_hashed(database: Database, assignment: Assignment) -> Assignment:
    compared = assignment.comparison
    return assignment if compared is None else replace(assignment, hashed=Hashed(database, compared))


def _trainees(database: Database, settings: Settings, order: Order) -> dict[int, Trainee]:
    """Open what each run is trained on, once for all that are trained on the same."""
    opened: dict[str, tuple[Data, Data | None]] = {}
    trainees = {}
    for place, assignment in enumerate(order.assignments):
        run_id, config = assignment.attempt.run_id, assignment.config
        names = ("dataset", "validation", "dtype", "inputs", "sample_weights")
        same = json.dumps([config.get(name) for name in names])
        if same not in opened:
            opened[same] = training.load_split(database, settings, run_id, config)
        engine = training.engine_config(config, config["network"]["inputs"])
        if assignment.comparison is not None:
            engine = replace(engine, gradients_every=None)  # statistics are not compared
        trainees[place] = Trainee(engine, *opened[same], training.load_resume_point(database, run_id))
    return trainees


def _examinations(database: Database, order: Order, trainees: dict[int, Trainee]) -> dict[int, Examination]:
    """Begin the examination of each run, with what it has recorded; what a verification comes to is not examined."""
    begun = {}
    for place, trainee in trainees.items():
        assignment = order.assignments[place]
        if assignment.comparison is None:
            facts, last = facts_of(trainee.config, trainee.data), _last_epoch(trainee)
            with database.reading() as session:
                run_id = assignment.attempt.run_id
                begun[place] = diagnoses.begin(session, run_id, assignment.config, facts, last)
    return begun


def _last_epoch(trainee: Trainee) -> int:
    """Tell the last epoch that is recorded of what is to go on; −1 of what begins."""
    return -1 if trainee.resume is None else trainee.resume.epoch


def _alike(trainees: dict[int, Trainee]) -> Iterator[dict[int, Trainee]]:
    """Part runs by where they stand."""
    groups: dict[Any, dict[int, Trainee]] = {}
    for place, trainee in trainees.items():
        at = trainee.resume
        groups.setdefault(None if at is None else (at.epoch, at.step, at.steps), {})[place] = trainee
    yield from groups.values()


def _follow(
    group: dict[int, Trainee], order: Order, writer: Writer, supervisor: _Supervisor, gang: Gang | None
) -> dict[int, Trainee] | None:
    """Train runs that stand at the same place, until all have ended or some are to stop.

    Returns:
        Those that are to go on without these, from where they stand.
    """
    attention, pulse, places = supervisor.attention, supervisor.pulse, list(group)
    living = dict.fromkeys(places)
    writer.trains(living)

    def due() -> bool:
        pulse.steps += 1
        return attention.is_set()

    for event in _events(list(group.values()), due, gang):
        pulse.steps += 1
        points: dict[int, Callable[[], ResumePoint]] = {}
        if isinstance(event, StepBoundary):
            points = {place: partial(event.resume_point, k) for k, place in enumerate(places) if place in living}
        else:
            for k, found in event.items():
                place = places[k]
                if isinstance(found, DivergedError):
                    writer.end(place, Ending(RunStatus.FAILED, Reason.DIVERGED, str(found)), None)
                    del living[place]
                    continue
                writer.add(place, found)
                assignment = order.assignments[place]
                if assignment.ends_with(found):
                    writer.end(place, _succeeded(found, group[place], assignment), found.resume_point())
                    del living[place]
                else:
                    points[place] = found.resume_point
        if not living:
            return None
        if attention.is_set():
            attention.clear()  # before looking for wishes, so that none is overlooked
            at = {place: point() for place, point in points.items()}
            for place in list(living):
                wish = supervisor.wish(order.assignments[place].attempt)
                ending = writer.overtime(place) if wish is None else _ENDINGS[wish]
                if ending is not None:
                    writer.end(place, ending, at.pop(place))
                if ending is not None or place in writer.lost | writer.over:
                    del living[place]
                    at.pop(place, None)
            writer.hand_over(at)
            if len(at) < len(points):
                return {place: replace(group[place], resume=point) for place, point in at.items()}
    return None


def _events(
    group: list[Trainee], due: Callable[[], bool], gang: Gang | None
) -> Iterator[Mapping[int, Epoch | DivergedError] | StepBoundary]:
    """Train one run by itself, or several as a stack; both give the same bits."""
    if len(group) > 1:
        yield from train_stacked(group, snapshot_due=due)
        return
    (one,) = group
    try:
        for event in train(one.config, one.data, one.validation, resume=one.resume, snapshot_due=due, gang=gang):
            yield event if isinstance(event, StepBoundary) else {0: event}
    except DivergedError as error:
        yield {0: error}


def _succeeded(last: Epoch, trainee: Trainee, assignment: Assignment) -> Ending:
    if assignment.comparison is not None:
        return Ending(RunStatus.SUCCEEDED, Reason.VERIFIED)
    stopping = trainee.config.early_stopping
    if stopping is None or last.epoch == trainee.config.epochs:
        return Ending(RunStatus.SUCCEEDED, Reason.COMPLETED)
    detail = f"no better epoch than {last.best_epoch} in the {stopping.patience} after it"
    return Ending(RunStatus.SUCCEEDED, Reason.EARLY_STOPPED, detail)


def _tell_of(error: Exception) -> None:
    log.warning("cannot read what is to be trained, trying again: %s", explained(error))
