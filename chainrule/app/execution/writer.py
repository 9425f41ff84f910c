"""The writer of an order: epochs, weights, statistics and resume points of its runs, in fenced transactions.

Training hands over each epoch and goes on; a thread writes what has gathered at most every
`flush_interval_s`, and less often where a write takes long. A write always ends at a resume point,
so that what is stored and where a run would go on never disagree. When the time comes in the
middle of a long epoch, `due` asks the training for resume points at the next step boundary.
"""

import json
import logging
import math
import threading
import time
from collections.abc import Callable, Container, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Any

from sqlalchemy.orm import Session

from chainrule.app.config import MIB, Settings
from chainrule.app.run_status import Reason, RunStatus
from chainrule.app.services import comparing, diagnoses
from chainrule.app.services.comparing import Comparison, Hashed
from chainrule.app.services.tally import Flush
from chainrule.app.services.training import encode_resume_point
from chainrule.app.services.weights import NetworkEncoder, sha256
from chainrule.app.store import attempts, checkpoints, epochs, gradients, probes
from chainrule.app.store.attempts import Attempt
from chainrule.app.store.database import Database
from chainrule.app.store.outages import patiently
from chainrule.app.store.troubles import explained
from chainrule.engine import Epoch, Network, ResumePoint
from chainrule.engine.diagnoses import point_of
from chainrule.engine.examination import Examination

MOST_WAITING_BYTES = 64 * MIB
ROW_BYTES = 1024
"""What an epoch, or one gradient's statistics, may take while it waits."""
REST, LONGEST_REST_S = 4.0, 2.0
"""A write is followed by a rest of so many times its own length, up to so long: a stack of many runs trains, too."""
log = logging.getLogger(__name__)


class RunLost(Exception):
    """The run belongs to another attempt now; this one must write nothing more."""


@dataclass(frozen=True)
class Assignment:
    """One run of an order: for which attempt it is trained, its config, and the steps of its epochs.

    A verification has a comparison too, and the epochs whose weights it takes: what it comes to is not stored.
    `trained_s` is how long attempts before this one have trained.
    """

    attempt: Attempt
    config: dict[str, Any]
    steps_per_epoch: int
    comparison: Comparison | None = None
    hashed: Hashed | None = None
    trained_s: float = 0.0

    def ends_with(self, epoch: Epoch) -> bool:
        """Tell whether nothing comes after an epoch: of a verification there may be more to train, not to compare."""
        return epoch.last or (self.comparison is not None and epoch.epoch == self.comparison.last)


@dataclass(frozen=True)
class Ending:
    """How an attempt ends: the run's next state, and why."""

    status: RunStatus
    reason: Reason
    detail: str = ""


@dataclass
class _Batch:
    """What has gathered of one run since the last write; and how it ended, if it has."""

    epochs: list[dict[str, Any]] = field(default_factory=list)
    weights: dict[int, Network] = field(default_factory=dict)
    noted: list[Epoch] = field(default_factory=list)
    gradients: list[dict[str, Any]] = field(default_factory=list)
    probes: list[dict[str, Any]] = field(default_factory=list)
    diagnoses: list[dict[str, Any]] | None = None
    size_bytes: int = 0
    superseded: list[int] = field(default_factory=list)
    best_epoch: int | None = None
    point: ResumePoint | None = None
    ending: Ending | None = None
    compared: Comparison | None = None
    over: bool = False
    trained_s: float = 0.0


class _Rows(Enum):
    """Whose the rows of a run's batch are: ours to store, stored already, or lost with the run."""

    OURS, STORED, LOST = range(3)


class _Run:
    """One run of the order, and what has gathered of it."""

    def __init__(self, assignment: Assignment) -> None:
        self.attempt, self.config = assignment.attempt, assignment.config
        self.steps_per_epoch = assignment.steps_per_epoch
        self.keep: int | None = self.config["checkpoints"]["keep"]
        self.best: int | None = None
        self.steps_written = 0
        self.batch = _Batch()
        self.comparison, self.hashed = assignment.comparison, assignment.hashed
        self.examination: Examination | None = None
        self.epoch = -1
        self.limit_s: float = math.inf if assignment.comparison else self.config.get("max_duration_s") or math.inf
        self._trained_s, self._since = assignment.trained_s, math.inf

    @property
    def trained_s(self) -> float:
        """How long it has trained, all attempts together."""
        return self._trained_s + max(0.0, time.monotonic() - self._since)

    def trains(self, now: bool) -> None:
        """Start or stop its clock."""
        self._trained_s, self._since = self.trained_s, time.monotonic() if now else math.inf

    def kept(self, epoch: int) -> bool:
        """Whether the weights of an epoch are kept whatever it came to."""
        return epoch in (0, 1, self.config["epochs"]) or epoch % self.config["checkpoints"]["every"] == 0

    def add(self, epoch: Epoch) -> None:
        """Take one epoch; copies what the training will overwrite."""
        run_id, batch, self.epoch = self.attempt.run_id, self.batch, epoch.epoch
        batch.epochs.append(
            {
                "run_id": run_id,
                "epoch": epoch.epoch,
                "cost": epoch.cost,
                "error": epoch.error,
                "validation_cost": epoch.validation_cost,
                "validation_error": epoch.validation_error,
                "learning_rate": epoch.learning_rate,
                "seconds": epoch.seconds,
            }
        )
        best = epoch.best_epoch == epoch.epoch
        if best and self.best is not None and not self.kept(self.best) and batch.weights.pop(self.best, None) is None:
            batch.superseded.append(self.best)
        self.best = batch.best_epoch = epoch.best_epoch
        kept = best or epoch.last or self.kept(epoch.epoch) if self.hashed is None else epoch.epoch in self.hashed
        if kept:
            batch.weights[epoch.epoch] = epoch.network
            batch.size_bytes += epoch.network.parameters.nbytes
        if self.comparison is None and diagnoses.is_point(self.config, epoch):
            batch.noted.append(epoch)
        batch.size_bytes += ROW_BYTES * (2 + 2 * len(self.config["network"]["layers"]) if epoch.recorded else 1)

    def describe(self) -> None:
        """Take over what is recorded of the epochs that have gathered: together they are described for less."""
        run_id, batch = self.attempt.run_id, self.batch
        for epoch in batch.noted:
            for record in epoch.gradients or ():
                batch.gradients.append(
                    {
                        "run_id": run_id,
                        "epoch": epoch.epoch,
                        "layer": record.layer,
                        "gradient": record.name,
                        "norm": record.norm,
                        "mean": record.mean,
                        "standard_deviation": record.standard_deviation,
                        "minimum": record.minimum,
                        "maximum": record.maximum,
                        "zeros": record.zeros,
                        "update_ratio": record.update_ratio,
                    }
                )
            if epoch.probe is not None:
                found = json.dumps(epoch.probe.to_dict(), separators=(",", ":"))
                batch.probes.append({"run_id": run_id, "epoch": epoch.epoch, "found": found})
            if self.examination is not None:
                self.examination.see(point_of(epoch))
        if batch.noted and self.examination is not None:
            batch.diagnoses = [verdict.to_dict() for verdict in self.examination.verdicts]
        batch.noted = []

    def progress(self, batch: _Batch) -> dict[str, Any]:
        """Tell how far the run is with a batch."""
        values: dict[str, Any] = {"trained_s": batch.trained_s}
        if batch.diagnoses is not None:
            values["diagnoses"] = batch.diagnoses
        if batch.epochs:
            newest = batch.epochs[-1]
            names = ("cost", "error", "validation_cost", "validation_error")
            values |= {name: newest[name] for name in names}
            values["epochs_done"] = newest["epoch"]
            values["steps_done"] = newest["epoch"] * self.steps_per_epoch
        if batch.best_epoch is not None:
            values["best_epoch"] = batch.best_epoch
        if batch.point is not None:
            values["steps_done"] = batch.point.epoch * self.steps_per_epoch + batch.point.step
        return values


class Writer:
    """Takes the epochs of an order's runs from the training and stores them.

    Attributes:
        due: set when resume points are wanted.
        writing: whether a write is under way, or waits for the database.
        told: told of each transaction.
        lost: the places of runs that belong to other attempts now; nothing more is written of them.
        over: the places of verifications that a write has ended; nothing more is written of them either.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        assignments: Sequence[Assignment],
        *,
        due: threading.Event,
        told: Callable[[Flush], None] = lambda _: None,
    ) -> None:
        self.due = due
        self.writing = False
        self.told = told
        self.lost: set[int] = set()
        self.over: set[int] = set()
        self._database, self._settings = database, settings
        self._runs = [_Run(assignment) for assignment in assignments]
        # Whoever writes several rows locks them in the order of their ids.
        self._in_order = sorted(range(len(self._runs)), key=lambda place: self._runs[place].attempt.run_id)
        self._encoder = NetworkEncoder()
        self._handed_over: dict[int, _Batch] | None = None
        self._rest_s = settings.flush_interval_s
        self._condition = threading.Condition()
        self._closing = False
        self._problem: BaseException | None = None
        work = partial(copy_context().run, self._write_in_turns)  # its lines in the log name the runs, too
        self._thread = threading.Thread(target=work, name="writer", daemon=True)
        self._thread.start()

    def begins_at(self, place: int, best_epoch: int | None) -> None:
        """Take note of the best epoch so far of a run that goes on from a resume point."""
        self._runs[place].best = best_epoch

    def examines(self, place: int, examination: Examination, epoch: int) -> None:
        """Take over the examination of a run, that has seen what is recorded of it up to an epoch."""
        self._runs[place].examination, self._runs[place].epoch = examination, epoch

    def goes_on_at(self, place: int, steps: int) -> None:
        """Take note of how many steps a run has done that goes on from a resume point."""
        self._runs[place].steps_written = steps

    def trains(self, places: Container[int]) -> None:
        """Take note of which runs are trained from now on; the others wait."""
        for place, run in enumerate(self._runs):
            run.trains(place in places)

    def overtime(self, place: int) -> Ending | None:
        """Tell how a run ends that has trained for as long as it may."""
        run = self._runs[place]
        if run.trained_s < run.limit_s:
            return None
        detail = f"trained for {run.trained_s:.1f} s, and max_duration_s is {run.limit_s:g}"
        return Ending(RunStatus.FAILED, Reason.DEADLINE_EXCEEDED, detail)

    def add(self, place: int, epoch: Epoch) -> None:
        """Take one epoch of one run; copies what the training will overwrite."""
        self._runs[place].add(epoch)
        if self._waiting_bytes() > MOST_WAITING_BYTES:
            self.due.set()

    def end(self, place: int, ending: Ending, point: ResumePoint | None) -> None:
        """Have a run's next state written with the rest of it.

        The point is kept even if the run has ended, so that it can be extended; None where no training can go on.
        """
        run = self._runs[place]
        batch = run.batch
        batch.ending, batch.point = ending, point
        if ending.reason is Reason.DIVERGED and run.examination is not None:
            run.describe()
            run.examination.diverged(run.epoch + 1)
            batch.diagnoses = [verdict.to_dict() for verdict in run.examination.verdicts]
        self.due.set()

    def hand_over(self, points: Mapping[int, ResumePoint]) -> None:
        """Have all that has gathered written; waits only while an earlier write of much data goes on.

        Args:
            points: where each run stands that has not ended.
        """
        with self._condition:
            if self._handed_over is not None and self._waiting_bytes() <= MOST_WAITING_BYTES:
                return  # the thread is still busy; the next boundary will do
            self._condition.wait_for(lambda: self._handed_over is None or self._problem is not None)
            if self._problem is not None:
                raise self._problem
            self._handed_over = self._gathered(points)
            self._condition.notify_all()

    def close(self) -> None:
        """Write the rest, each run's with its next state, in one transaction.

        Raises:
            RunLost: every run belongs to another attempt.
        """
        with self._condition:
            self._closing = True
            self._condition.notify_all()
        self._thread.join()
        if self._problem is not None:
            raise self._problem
        if rest := self._gathered({}):
            self._write(rest)
        if len(self.lost) == len(self._runs):
            raise RunLost(", ".join(run.attempt.run_id for run in self._runs))

    def _waiting_bytes(self) -> int:
        return sum(run.batch.size_bytes for run in self._runs)

    def _gathered(self, points: Mapping[int, ResumePoint]) -> dict[int, _Batch]:
        """Take what has gathered of runs that have ended or stand at a resume point."""
        batches = {}
        for place in self._in_order:
            run = self._runs[place]
            if place in points:
                run.batch.point = points[place]
            if run.batch.point is not None or run.batch.ending is not None:
                run.describe()
                run.batch.trained_s = run.trained_s
                batches[place], run.batch = run.batch, _Batch()
        return batches

    def _write_in_turns(self) -> None:
        try:
            while True:
                with self._condition:
                    self._condition.wait_for(self._has_work, self._rest_s)
                    if not self._has_work():
                        self.due.set()
                    self._condition.wait_for(self._has_work)
                    if self._handed_over is None:
                        return
                    batches = self._handed_over
                self._write(batches)
                with self._condition:
                    self._handed_over = None
                    self._condition.notify_all()
        except BaseException as problem:
            with self._condition:
                self._problem = problem
                self._handed_over = None
                self.due.set()
                self._condition.notify_all()

    def _has_work(self) -> bool:
        return self._closing or self._handed_over is not None

    def _write(self, batches: dict[int, _Batch]) -> None:
        """Write once, or again and again while the database is away, up to `blind_s`."""
        batches = {place: batch for place, batch in batches.items() if place not in self.lost | self.over}
        encoded = {place: self._encoded(place, batch) for place, batch in batches.items()}
        if not batches:
            return

        def store(again: bool) -> set[int]:
            with self._database.writing() as session:
                found = {
                    place: self._advance(session, place, batch, *encoded[place], again=again)
                    for place, batch in batches.items()
                }
                ours = {place: batch for place, batch in batches.items() if found[place] is _Rows.OURS}
                self._store(session, ours, encoded)
                return {place for place in found if found[place] is _Rows.LOST}

        started_ns, began = time.time_ns(), time.monotonic()
        self.writing = True
        try:
            lost = patiently(store, self._settings.blind_s, _tell_of)
        finally:
            self.writing = False
        for place, batch in batches.items():
            if batch.compared is not None:
                self._runs[place].comparison = batch.compared
        over = {place for place, batch in batches.items() if batch.over} - lost
        if lost or over:
            self.lost |= lost
            self.over |= over
            self.due.set()  # whoever trains is to hear of it
        written = {place: batch for place, batch in batches.items() if place not in lost}
        took_s = time.monotonic() - began
        self._rest_s = max(self._settings.flush_interval_s, min(REST * took_s, LONGEST_REST_S))
        self.told(self._flush(written, started_ns, took_s))

    def _flush(self, written: dict[int, _Batch], started_ns: int, seconds: float) -> Flush:
        steps = 0
        for place, batch in written.items():
            run = self._runs[place]
            done = run.progress(batch).get("steps_done", run.steps_written)
            steps, run.steps_written = steps + done - run.steps_written, done
        epochs = sum(row["epoch"] > 0 for batch in written.values() for row in batch.epochs)
        endings = tuple(batch.ending.status for batch in written.values() if batch.ending is not None)
        return Flush(started_ns, seconds, steps, epochs, endings)

    def _encoded(self, place: int, batch: _Batch) -> tuple[list[dict[str, Any]], bytes | None]:
        run_id = self._runs[place].attempt.run_id
        rows = []
        for epoch, network in batch.weights.items():
            weights = self._encoder.encode(network)
            rows.append(
                {
                    "run_id": run_id,
                    "epoch": epoch,
                    "sha256": sha256(weights),
                    "size_bytes": len(weights),
                    "weights": weights,
                }
            )
        return rows, None if batch.point is None else encode_resume_point(batch.point)

    def _advance(
        self,
        session: Session,
        place: int,
        batch: _Batch,
        rows: list[dict[str, Any]],
        content: bytes | None,
        *,
        again: bool,
    ) -> _Rows:
        """Note how far one run is, which only its attempt can: whoever has done this holds the run until the commit.

        Once only: `again` after a write whose commit may have happened though its answer was lost.
        """
        run = self._runs[place]
        if run.comparison is not None:
            ours = _compare(session, run, run.comparison, batch, rows, content, again=again)
            return _Rows.STORED if ours else _Rows.LOST
        attempt, progress, ending = run.attempt, run.progress(batch), batch.ending
        status: RunStatus | None
        if ending is not None:
            status = attempts.end_attempt(session, attempt, ending.status, ending.reason, ending.detail, progress)
        else:
            status = RunStatus.RUNNING if attempts.advance(session, attempt, progress) else None
        # The write before has ended by now, one way or the other: it held the row that was just asked for.
        if status is None:
            ended = again and ending is not None and attempts.has_ended(session, attempt, ending.reason)
            return _Rows.STORED if ended else _Rows.LOST
        if again and ending is None and _is_stored(session, attempt.run_id, batch.point):
            return _Rows.STORED
        if status.terminal and content is None:
            # An older one would not be where the records end.
            checkpoints.drop_resume_point(session, attempt.run_id)
        return _Rows.OURS

    def _store(
        self,
        session: Session,
        batches: Mapping[int, _Batch],
        encoded: Mapping[int, tuple[list[dict[str, Any]], bytes | None]],
    ) -> None:
        """Store what has gathered of runs that are held, each kind of rows of all of them at once."""
        epochs.add(session, [row for batch in batches.values() for row in batch.epochs])
        checkpoints.add(session, [row for place in batches for row in encoded[place][0]])
        gradients.add(session, [row for batch in batches.values() for row in batch.gradients])
        probes.add(session, [row for batch in batches.values() for row in batch.probes])
        points = []
        for place, batch in batches.items():
            run, (rows, content) = self._runs[place], encoded[place]
            run_id = run.attempt.run_id
            for epoch in batch.superseded:
                checkpoints.drop(session, run_id, epoch)
            if rows and run.keep is not None:
                checkpoints.drop_older(session, run_id, run.keep, batch.best_epoch)
            if content is not None and batch.point is not None:
                points.append(
                    {"run_id": run_id, "epoch": batch.point.epoch, "step": batch.point.step, "content": content}
                )
        checkpoints.put_resume_points(session, points)


def _compare(
    session: Session,
    run: _Run,
    comparison: Comparison,
    batch: _Batch,
    rows: list[dict[str, Any]],
    content: bytes | None,
    *,
    again: bool,
) -> bool:
    """Compare a verification's batch, and store how far it has come; False if it belongs to another attempt."""
    hashes = {row["epoch"]: row["sha256"] for row in rows}
    found, ending = comparing.compare(session, comparison, batch.epochs, hashes), batch.ending
    if found is not None and ending is not None:
        found = comparing.ended(found, ending.reason)
    if found is None:
        detail = f"what run {comparison.run} recorded has been deleted"
        ending = Ending(RunStatus.FAILED, Reason.NOTHING_TO_COMPARE, detail)
    elif found.difference is not None:
        ending = Ending(RunStatus.SUCCEEDED, Reason.DIFFERENT, comparing.told(found))
    elif ending is not None and ending.reason is Reason.VERIFIED:
        ending = Ending(RunStatus.SUCCEEDED, Reason.VERIFIED, comparing.told(found))
    batch.compared, batch.over = found, ending is not None
    progress = run.progress(batch) | {"best_epoch": None, "verification": (found or comparison).to_dict()}
    status: RunStatus | None = RunStatus.RUNNING
    if ending is not None:
        status = attempts.end_attempt(session, run.attempt, ending.status, ending.reason, ending.detail, progress)
    elif not attempts.advance(session, run.attempt, progress):
        status = None
    if status is None:
        return again and ending is not None and attempts.has_ended(session, run.attempt, ending.reason)
    if status.terminal:
        checkpoints.drop_resume_point(session, run.attempt.run_id)
    elif content is not None and batch.point is not None:
        checkpoints.put_resume_point(session, run.attempt.run_id, batch.point.epoch, batch.point.step, content)
    return True


def _is_stored(session: Session, run_id: str, point: ResumePoint | None) -> bool:
    """Tell whether the write that ends at this point has happened: each ends further on than the one before."""
    return point is not None and checkpoints.resume_position(session, run_id) == (point.epoch, point.step)


def _tell_of(error: Exception) -> None:
    log.warning("cannot write, trying again: %s", explained(error))
