"""The supervisor: claims a run, or several alike, has a child train them, beats for them, and ends what must end."""

import contextlib
import logging
import math
import signal
import threading
import time
import uuid
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from chainrule.app import logs, tracing
from chainrule.app.config import Settings
from chainrule.app.execution import child
from chainrule.app.execution.presence import Presence, worker_name
from chainrule.app.execution.standby import Child, Standby
from chainrule.app.execution.writer import Assignment
from chainrule.app.run_status import Reason, RunStatus, Wish
from chainrule.app.services import sweeps
from chainrule.app.services.comparing import Comparison
from chainrule.app.services.tally import ENDED, LOST, WAIT
from chainrule.app.services.training import builds
from chainrule.app.store import attempts, queue
from chainrule.app.store.attempts import Attempt
from chainrule.app.store.database import Database, now
from chainrule.app.store.models import Run
from chainrule.app.store.outages import patiently
from chainrule.app.store.troubles import explained

LOOK_INTERVAL_S = 0.1
_FAULTS = {child.FAULTY: Reason.TRAINING_ERROR, child.TOO_LARGE: Reason.MEMORY_EXCEEDED}
"""What is a fault of the run itself, and would only be repeated."""
_REASONS = _FAULTS | {child.INCOMPLETE: Reason.GANG_INCOMPLETE}
log = logging.getLogger(__name__)


def supervise_once(
    database: Database, settings: Settings, standby: Standby, stopping: threading.Event, presence: Presence
) -> list[str]:
    """Claim the best waiting run, and those that can be trained with it, and see their attempts through.

    Carries no run: where and when this is called decides nothing about what is trained next, the
    database does. Returns the ids of the runs; none if none waited.

    Raises:
        OSError: no process can be started to train it.
        SQLAlchemyError: nothing can be claimed.
    """
    if stopping.is_set():
        return []
    attempt_id = uuid.uuid4().hex
    ours = standby.take()  # before the run: none is claimed that nobody could train
    claimed: list[Run] = []
    try:
        claimed = _claim(database, settings, attempt_id, stopping, presence)
    finally:
        if not claimed:
            standby.take_back(ours)
    if claimed:
        order = _Order(database, settings, standby, stopping, presence, claimed, attempt_id)
        parents = [run.trace_parent for run in claimed]
        with presence.at_work(), logs.concerning(**order.ids), tracing.span("attempt", *parents, **order.ids):
            order.see_through(ours)
    if any(run.sweep_id is not None for run in claimed):
        sweeps.advance(database, settings, [run.id for run in claimed])
    return [run.id for run in claimed]


def _claim(
    database: Database, settings: Settings, attempt_id: str, stopping: threading.Event, presence: Presence
) -> list[Run]:
    """Claim runs; those of a claim whose answer was lost are found again by their attempt once the database is back."""
    worker, of = worker_name(), builds(settings)

    def claim(again: bool) -> list[Run]:
        with database.writing(announce=False) as session:
            if again and (claimed := queue.claimed(session, attempt_id)):
                return claimed
            run = queue.claim(session, attempt_id, worker, of, most_each=settings.max_running_per_owner)
            if run is None:
                return []
            alike = queue.claim_alike(session, run, settings.slots, settings.max_stack, attempt_id, worker, of)
            database.announce(session)
        return [run, *alike]

    started_ns, began = time.time_ns(), time.monotonic()
    claimed = patiently(claim, settings.blind_s, _tell_of, stop=stopping.is_set)
    if claimed:
        parents = [run.trace_parent for run in claimed]
        tracing.record("claim", started_ns, time.monotonic() - began, *parents, worker=worker, runs=len(claimed))
    for first in (run for run in claimed if run.attempts == 1):
        # Two machines' clocks may differ; a wait is never negative for that.
        presence.tally.time(WAIT, max((now() - first.created_at).total_seconds(), 0.0))
    return claimed


class _Order:
    """Claimed runs and the process that trains them."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        standby: Standby,
        stopping: threading.Event,
        presence: Presence,
        claimed: Sequence[Run],
        attempt_id: str,
    ) -> None:
        self._database = database
        self._settings = settings
        self._standby = standby
        self._stopping = stopping
        self._tally = presence.tally
        self._held = {run.id: Attempt(run.id, attempt_id) for run in claimed}
        self._alone = len(claimed) == 1
        self._name = claimed[0].id if len(claimed) == 1 else f"{claimed[0].id} and {len(claimed) - 1} more"
        self._order = child.Order(
            tuple(
                Assignment(self._held[run.id], run.config, run.steps_per_epoch, _comparison(run), None, run.trained_s)
                for run in claimed
            )
        )
        self._ended = self._ready = False
        self._crash = ""
        self._fault: Reason | None = None
        self._drained = False
        self._wished: dict[str, Wish] = {}
        self._kill_at = math.inf
        self._moved_at = time.monotonic()
        self._excused = False
        self._stalled = False

    @property
    def ids(self) -> dict[str, str]:
        """What it is known by in the log."""
        return self._order.ids

    def see_through(self, ours: Child) -> None:
        """Give the child its order, watch it to its end, and take the runs back that the child did not end."""
        log.info("an attempt begins")
        try:
            with contextlib.suppress(OSError):  # it has just died, as the pipe will tell
                ours.pipe.send(self._order)
            self._watch(ours.pipe)
        finally:
            if not self._ended:
                ours.process.kill()
                ours.process.join()
                self._drain(ours.pipe)
            if self._ready and not self._asked:
                self._standby.take_back(ours)
            else:
                self._standby.dismiss(ours)
        if not self._ended:
            stalled = f"the training process took no step for {self._settings.stalled_after_s:g} s"
            self._take_back(self._crash or (stalled if self._stalled else _how_it_died(ours.process)))

    @property
    def _asked(self) -> bool:
        return self._drained or bool(self._wished)

    def _watch(self, pipe: Connection) -> None:
        # The pipe ends with the child. What the fork server says of it would end with the fork server.
        beat_at = time.monotonic() + self._settings.heartbeat_interval_s
        look_at = self._moved_at = last = time.monotonic()
        limit_s = self._settings.stalled_after_s
        while True:
            news = pipe.poll(LOOK_INTERVAL_S)
            if news and not self._hear(pipe):
                return
            moment = time.monotonic()
            if moment - last > limit_s / 2 and not self._excused:
                # We were held up ourselves: what it told meanwhile is still to be heard. If that is nothing, it may be
                # what holds us up: a process that hangs in the middle of a write keeps the lock of SQLite.
                self._moved_at, self._excused = moment, True
            last = moment
            if moment >= beat_at:
                if not self._look(pipe, beat=True):
                    return
                beat_at = time.monotonic() + self._settings.heartbeat_interval_s
            elif moment >= look_at and not self._look(pipe, beat=False):
                return
            if moment >= look_at:
                look_at = moment + LOOK_INTERVAL_S
            if moment >= self._kill_at:
                log.warning("%s did not stop within its grace; killing it", self._name)
                return
            if moment - self._moved_at >= limit_s:
                log.warning("%s has not moved for %g s; killing it", self._name, limit_s)
                self._stalled = True
                return

    def _look(self, pipe: Connection, *, beat: bool) -> bool:
        """Beat, or only read; pass wishes on. False if no run is held any more."""
        if self._stopping.is_set() and not self._drained:
            self._drained = True
            self._ask(pipe, child.DRAIN, "")
        held = list(self._held.values())
        # Who waited longer for others that write would beat too late, and not see that it is its own child that hangs.
        patience_s = min(self._settings.attempt_timeout_s, self._settings.stalled_after_s) / 4
        try:
            if beat:
                with self._database.writing(announce=False, patience_s=patience_s) as session:
                    found = attempts.beat(session, held)
            else:
                with self._database.reading() as session:
                    found = attempts.wishes(session, held)
        except SQLAlchemyError as error:
            # The child trains on; whoever observes us is as blind, and observes nothing.
            if beat:
                log.warning("cannot beat for %s: %s", self._name, error)
            return True
        # Those not found were ended by the child's own writes, or taken by another attempt: nothing is left to guard.
        if self._wished and self._wished.keys().isdisjoint(found) and not self._drained:
            self._kill_at = math.inf
        self._held = {run_id: self._held[run_id] for run_id in found}
        if not self._held:
            return self._says_goodbye(pipe)
        for run_id, wish in found.items():
            if wish is not None and self._wished.get(run_id) != wish:
                self._wished[run_id] = wish
                self._ask(pipe, wish, run_id)
        return True

    def _says_goodbye(self, pipe: Connection) -> bool:
        """Wait a moment for the farewell of a child that has ended its run; False when it is over."""
        until = time.monotonic() + 1.0
        while not self._ended and pipe.poll(max(0.0, until - time.monotonic())):
            if not self._hear(pipe):
                break
        self._ended = True
        return False

    def _hear(self, pipe: Connection) -> bool:
        """Take one message; False when the child has said its last."""
        try:
            word, detail = pipe.recv()
        except (EOFError, OSError):
            return False
        self._moved_at, self._excused = time.monotonic(), False
        if word == child.WRITTEN:
            self._database.wake()
        elif word == child.MOVED:
            pass
        elif word == child.FLUSHED:
            self._tally.flushed(detail)
            tracing.record("flush", detail.started_ns, detail.seconds, steps=detail.steps, epochs=detail.epochs)
            if detail.endings:
                log.info("the attempt is over: %s", ", ".join(detail.endings))
        elif word in (child.ENDED, child.READY):
            self._ended, self._ready = True, word == child.READY
        else:
            self._crash, self._fault = detail, _REASONS.get(word)
        return word in (child.WRITTEN, child.MOVED, child.FLUSHED)

    def _drain(self, pipe: Connection) -> None:
        try:
            while pipe.poll() and self._hear(pipe):
                pass
        except OSError:
            pass

    def _ask(self, pipe: Connection, word: str, run_id: str) -> None:
        self._kill_at = time.monotonic() + self._settings.grace_s
        try:
            pipe.send((str(word), run_id))
        except OSError:
            log.debug("%s is gone already", self._name)

    def _take_back(self, detail: str) -> None:
        """Decide in the database what becomes of runs whose child ended without ending them."""

        def take_back(_again: bool) -> None:
            with self._database.writing() as session:
                for run_id in sorted(self._held):
                    self._give_up(session, self._held[run_id], detail)

        try:
            patiently(take_back, self._settings.blind_s, _tell_of, stop=self._stopping.is_set)
        except SQLAlchemyError as error:
            log.error("cannot give %s back; observers will: %s", self._name, error)

    def _give_up(self, session: Session, attempt: Attempt, detail: str) -> None:
        wish = self._wished.get(attempt.run_id)
        if wish is Wish.CANCEL:
            self._note(attempts.end_attempt(session, attempt, RunStatus.CANCELLED, Reason.CANCEL_REQUESTED, detail))
        elif wish is Wish.PAUSE:
            self._note(attempts.end_attempt(session, attempt, RunStatus.PAUSED, Reason.PAUSE_REQUESTED, detail))
        elif self._asked:
            # Killed because something was to stop; that is no failure of those that were trained beside it.
            self._note(attempts.end_attempt(session, attempt, RunStatus.QUEUED, Reason.DRAINED, detail))
        elif self._fault is Reason.GANG_INCOMPLETE:
            wait_s = self._settings.gang_timeout_s  # others may have the slot meanwhile
            self._note(attempts.end_attempt(session, attempt, RunStatus.QUEUED, self._fault, detail, wait_s=wait_s))
        elif self._fault is not None and self._alone:
            self._note(attempts.end_attempt(session, attempt, RunStatus.FAILED, self._fault, detail))
        else:
            # Of runs that were trained together, trying each by itself will tell whose fault it is.
            reason = self._fault or (Reason.CHILD_STALLED if self._stalled else Reason.CHILD_LOST)
            if attempts.lose_attempt(session, attempt, reason, detail, max_failures=self._settings.max_failures):
                self._tally.count(LOST, label=reason)

    def _note(self, status: RunStatus | None) -> None:
        if status is not None:
            self._tally.count(ENDED, label=status)


def _comparison(run: Run) -> Comparison | None:
    return None if run.verification is None else Comparison.from_dict(run.verification)


def _how_it_died(process: BaseProcess) -> str:
    code = process.exitcode
    if code is not None and code < 0:
        return f"training process ended by {signal.Signals(-code).name}"
    return f"training process ended with status {code}"


def _tell_of(error: Exception) -> None:
    log.warning("the database is away, trying again: %s", explained(error))
