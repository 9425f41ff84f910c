"""The writer of one attempt: epochs, weights, statistics and the resume point, in fenced transactions.

Training hands over each epoch and goes on; a thread writes what has gathered at most every
`flush_interval_s`. A write always ends at a resume point, so that what is stored and where the run
would go on never disagree. When the time comes in the middle of a long epoch, `due` asks the
training for a resume point at the next step boundary.
"""

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session

from chainrule.app.config import MIB, Settings
from chainrule.app.run_status import Reason, RunStatus
from chainrule.app.services.training import encode_resume_point
from chainrule.app.services.weights import NetworkEncoder, sha256
from chainrule.app.store import checkpoints, epochs, gradients, runs
from chainrule.app.store.database import Database
from chainrule.app.store.runs import Attempt
from chainrule.engine import Epoch, Network, ResumePoint

MOST_WAITING_BYTES = 64 * MIB
ROW_BYTES = 1024
"""What an epoch, or one gradient's statistics, may take while it waits."""
LONGEST_PAUSE_S = 5.0
log = logging.getLogger(__name__)


class RunLost(Exception):
    """The run belongs to another attempt now; this one must write nothing more."""


@dataclass
class _Batch:
    """What has gathered since the last write."""

    epochs: list[dict[str, Any]] = field(default_factory=list)
    weights: list[tuple[int, Network]] = field(default_factory=list)
    gradients: list[dict[str, Any]] = field(default_factory=list)
    size_bytes: int = 0


@dataclass(frozen=True)
class Ending:
    """How an attempt ends: the run's next state, and why."""

    status: RunStatus
    reason: Reason
    detail: str = ""


class Writer:
    """Takes epochs from the training and stores them."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        attempt: Attempt,
        config: dict[str, Any],
        *,
        steps_per_epoch: int,
        due: threading.Event,
    ) -> None:
        self.due = due
        self._database = database
        self._settings = settings
        self._attempt = attempt
        self._every: int = config["checkpoints"]["every"]
        self._keep: int | None = config["checkpoints"]["keep"]
        self._last_epoch: int = config["epochs"]
        self._steps_per_epoch = steps_per_epoch
        self._encoder = NetworkEncoder()
        self._batch = _Batch()
        self._handed_over: tuple[_Batch, ResumePoint] | None = None
        self._condition = threading.Condition()
        self._closing = False
        self._problem: BaseException | None = None
        self._thread = threading.Thread(target=self._write_in_turns, name="writer", daemon=True)
        self._thread.start()

    def add(self, epoch: Epoch) -> None:
        """Take one epoch; copies what the training will overwrite."""
        run_id = self._attempt.run_id
        batch = self._batch
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
        if epoch.epoch in (0, 1, self._last_epoch) or epoch.epoch % self._every == 0:
            batch.weights.append((epoch.epoch, epoch.network))
            batch.size_bytes += epoch.network.parameters.nbytes
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
        batch.size_bytes += ROW_BYTES * (1 + len(epoch.gradients or ()))
        if batch.size_bytes > MOST_WAITING_BYTES:
            self.due.set()

    def hand_over(self, point: ResumePoint) -> None:
        """Have all that has gathered written; waits only while an earlier write of much data goes on.

        Raises:
            RunLost: an earlier write found that the run belongs to another attempt.
        """
        with self._condition:
            if self._handed_over is not None and self._batch.size_bytes <= MOST_WAITING_BYTES:
                return  # the thread is still busy; the next boundary will do
            self._condition.wait_for(lambda: self._handed_over is None or self._problem is not None)
            if self._problem is not None:
                raise self._problem
            self._handed_over, self._batch = (self._batch, point), _Batch()
            self._condition.notify_all()

    def end(self, ending: Ending, point: ResumePoint | None) -> None:
        """Write the rest together with the run's next state, in one transaction.

        The point is kept even if the run has ended, so that it can be extended; None where no training can go on.

        Raises:
            RunLost: the run belongs to another attempt.
        """
        with self._condition:
            self._closing = True
            self._condition.notify_all()
        self._thread.join()
        if self._problem is not None:
            raise self._problem
        self._write(self._batch, point, ending)

    def _write_in_turns(self) -> None:
        try:
            while True:
                with self._condition:
                    self._condition.wait_for(self._has_work, self._settings.flush_interval_s)
                    if not self._has_work():
                        self.due.set()
                    self._condition.wait_for(self._has_work)
                    if self._handed_over is None:
                        return
                    batch, point = self._handed_over
                self._write(batch, point, None)
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

    def _write(self, batch: _Batch, point: ResumePoint | None, ending: Ending | None) -> None:
        """Write once, or again and again while the database is away, up to `blind_s`."""
        rows = [self._checkpoint(epoch, network) for epoch, network in batch.weights]
        content = None if point is None else encode_resume_point(point)
        deadline = time.monotonic() + self._settings.blind_s
        pause_s = 0.1
        while True:
            try:
                with self._database.writing() as session:
                    self._store(session, batch, rows, point, content, ending)
                return
            except (OperationalError, DBAPIError) as error:
                # A commit whose answer was lost may have happened: the repeat would then find the epochs
                # there and fail for good, and the next attempt goes on from the stored resume point.
                away = isinstance(error, OperationalError) or error.connection_invalidated
                if not away or time.monotonic() > deadline:
                    raise
                log.warning("cannot write %s, trying again: %s", self._attempt.run_id, error)
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _store(
        self,
        session: Session,
        batch: _Batch,
        rows: list[dict[str, Any]],
        point: ResumePoint | None,
        content: bytes | None,
        ending: Ending | None,
    ) -> None:
        attempt = self._attempt
        progress = self._progress(batch, point)
        status: RunStatus | None
        if ending is not None:
            status = runs.end_attempt(session, attempt, ending.status, ending.reason, ending.detail, progress)
        else:
            status = RunStatus.RUNNING if runs.advance(session, attempt, progress) else None
        if status is None:
            raise RunLost(attempt.run_id)
        epochs.add(session, batch.epochs)
        checkpoints.add(session, rows)
        gradients.add(session, batch.gradients)
        if rows and self._keep is not None:
            checkpoints.drop_older(session, attempt.run_id, self._keep)
        if content is not None and point is not None:
            checkpoints.put_resume_point(session, attempt.run_id, point.epoch, point.step, content)
        elif status.terminal:
            # An older one would not be where the records end.
            checkpoints.drop_resume_point(session, attempt.run_id)

    def _progress(self, batch: _Batch, point: ResumePoint | None) -> dict[str, Any]:
        values: dict[str, Any] = {}
        if batch.epochs:
            newest = batch.epochs[-1]
            names = ("cost", "error", "validation_cost", "validation_error")
            values = {name: newest[name] for name in names}
            values["epochs_done"] = newest["epoch"]
            values["steps_done"] = newest["epoch"] * self._steps_per_epoch
        if point is not None:
            values["steps_done"] = point.epoch * self._steps_per_epoch + point.step
        return values

    def _checkpoint(self, epoch: int, network: Network) -> dict[str, Any]:
        weights = self._encoder.encode(network)
        return {
            "run_id": self._attempt.run_id,
            "epoch": epoch,
            "sha256": sha256(weights),
            "size_bytes": len(weights),
            "weights": weights,
        }
