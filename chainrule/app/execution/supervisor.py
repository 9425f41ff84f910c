"""The supervisor: claims one run, has a child train it, beats for it, and ends what must end."""

import contextlib
import logging
import os
import signal
import socket
import threading
import time
import uuid
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from sqlalchemy.exc import SQLAlchemyError

from chainrule.app.config import Settings
from chainrule.app.execution import child
from chainrule.app.execution.standby import Child, Standby
from chainrule.app.run_status import Reason, RunStatus
from chainrule.app.services.training import builds
from chainrule.app.store import runs
from chainrule.app.store.database import Database
from chainrule.app.store.models import Run
from chainrule.app.store.runs import Attempt

LOOK_INTERVAL_S = 0.1
log = logging.getLogger(__name__)


def supervise_once(database: Database, settings: Settings, standby: Standby, stopping: threading.Event) -> str | None:
    """Claim the best waiting run and see its attempt through; return the run's id, None if none waited.

    Carries no run: where and when this is called decides nothing about what is trained next, the
    database does.

    Raises:
        OSError: no process can be started to train it.
        SQLAlchemyError: nothing can be claimed.
    """
    if stopping.is_set():
        return None
    attempt_id = uuid.uuid4().hex
    ours = standby.take()  # before the run: none is claimed that nobody could train
    run = None
    try:
        run = _claim(database, settings, attempt_id)
    finally:
        if run is None:
            standby.take_back(ours)
    if run is None:
        return None
    _Attempt(database, settings, standby, stopping, run, Attempt(run.id, attempt_id)).see_through(ours)
    return run.id


def _claim(database: Database, settings: Settings, attempt_id: str) -> Run | None:
    with database.writing(announce=False) as session:
        run = runs.claim(session, attempt_id, f"{socket.gethostname()}:{os.getpid()}", builds(settings))
        if run is not None:
            database.announce(session)
    return run


@dataclass
class _Stop:
    """A stop under way: how the run ends if the child must be killed, and when."""

    word: str
    status: RunStatus
    reason: Reason
    kill_at: float


class _Attempt:
    """One claimed run and the process that trains it."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        standby: Standby,
        stopping: threading.Event,
        run: Run,
        attempt: Attempt,
    ) -> None:
        self._database = database
        self._settings = settings
        self._standby = standby
        self._stopping = stopping
        self._attempt = attempt
        self._order = child.Order(attempt, run.config, run.config["network"]["inputs"], run.steps_per_epoch)
        self._ended = self._ready = False
        self._crash = ""
        self._stop: _Stop | None = None

    def see_through(self, ours: Child) -> None:
        """Give the child its order, watch it to its end, and take the run back if the child did not end it."""
        try:
            with contextlib.suppress(OSError):  # it has just died, as the pipe will tell
                ours.pipe.send(self._order)
            self._watch(ours.pipe)
        finally:
            if not self._ended:
                ours.process.kill()
                ours.process.join()
                self._drain(ours.pipe)
            if self._ready and self._stop is None:
                self._standby.take_back(ours)
            else:
                self._standby.dismiss(ours)
        if not self._ended:
            self._take_back(self._crash or _how_it_died(ours.process))

    def _watch(self, pipe: Connection) -> None:
        # The pipe ends with the child. What the fork server says of it would end with the fork server.
        beat_at = time.monotonic() + self._settings.heartbeat_interval_s
        while True:
            news = pipe.poll(LOOK_INTERVAL_S)
            if news and not self._hear(pipe):
                return
            moment = time.monotonic()
            if moment >= beat_at:
                beat_at = moment + self._settings.heartbeat_interval_s
                if not self._look(pipe, beat=True):
                    return
            elif not news and not self._look(pipe, beat=False):
                return
            if self._stop is not None and moment >= self._stop.kill_at:
                log.warning("%s did not stop within its grace; killing it", self._attempt.run_id)
                return

    def _look(self, pipe: Connection, *, beat: bool) -> bool:
        """Beat, or only read; pass wishes on. False if the run is lost to this attempt."""
        if self._stopping.is_set():
            self._ask(pipe, _Stop(child.DRAIN, RunStatus.QUEUED, Reason.DRAINED, self._kill_at()))
        try:
            if beat:
                with self._database.writing(announce=False) as session:
                    cancel = runs.beat(session, self._attempt)
            else:
                with self._database.reading() as session:
                    cancel = runs.wishes_cancel(session, self._attempt)
        except SQLAlchemyError as error:
            # The child trains on; whoever observes us is as blind, and observes nothing.
            if beat:
                log.warning("cannot beat for %s: %s", self._attempt.run_id, error)
            return True
        if cancel is None:
            # Ended by its own last write, or taken by another attempt: either way nothing is left to guard.
            return self._says_goodbye(pipe)
        if cancel:
            self._ask(pipe, _Stop(child.CANCEL, RunStatus.CANCELLED, Reason.CANCEL_REQUESTED, self._kill_at()))
        return True

    def _says_goodbye(self, pipe: Connection) -> bool:
        """Wait a moment for the farewell of a child that has ended its run; False when it is over."""
        while not self._ended and pipe.poll(1.0):
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
        if word == child.WRITTEN:
            self._database.wake()
        elif word in (child.ENDED, child.READY):
            self._ended, self._ready = True, word == child.READY
        else:
            self._crash = detail
        return bool(word == child.WRITTEN)

    def _drain(self, pipe: Connection) -> None:
        try:
            while pipe.poll() and self._hear(pipe):
                pass
        except OSError:
            pass

    def _ask(self, pipe: Connection, stop: _Stop) -> None:
        if self._stop is None:
            self._stop = stop
            try:
                pipe.send(stop.word)
            except OSError:
                log.debug("%s is gone already", self._attempt.run_id)

    def _kill_at(self) -> float:
        return time.monotonic() + self._settings.grace_s

    def _take_back(self, detail: str) -> None:
        """Decide in the database what becomes of a run whose child ended without ending it."""
        deadline = time.monotonic() + self._settings.blind_s
        while True:
            try:
                with self._database.writing() as session:
                    if self._stop is not None:
                        runs.end_attempt(session, self._attempt, self._stop.status, self._stop.reason, detail)
                        return
                    runs.lose_attempt(
                        session,
                        self._attempt,
                        Reason.CHILD_LOST,
                        detail,
                        max_failures=self._settings.max_failures,
                    )
                return
            except SQLAlchemyError as error:
                if self._stopping.is_set() or time.monotonic() > deadline:
                    log.error("cannot give %s back; observers will: %s", self._attempt.run_id, error)
                    return
                time.sleep(1.0)


def _how_it_died(process: BaseProcess) -> str:
    code = process.exitcode
    if code is not None and code < 0:
        return f"training process ended by {signal.Signals(-code).name}"
    return f"training process ended with status {code}"
