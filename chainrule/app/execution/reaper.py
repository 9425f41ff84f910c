"""The reaper: finds lost attempts by observation and puts their runs back into the queue.

No clock is compared between machines. An attempt is lost when this process, connected all the
while, has seen its heartbeat stand still for the time limit on its own monotonic clock.
"""

import logging
import threading
import time

from sqlalchemy.exc import SQLAlchemyError

from chainrule.app import logs
from chainrule.app.config import Settings
from chainrule.app.run_status import Reason
from chainrule.app.services import sweeps
from chainrule.app.services.tally import LOST
from chainrule.app.store import attempts, workers
from chainrule.app.store.attempts import Attempt, Heartbeat
from chainrule.app.store.database import Database

LOOKS_PER_TIMEOUT = 5
WORKER_FORGOTTEN_S = 3600.0
"""A worker that has not beaten for so long is listed no more."""
log = logging.getLogger(__name__)


class Observation:
    """Remembers since when each attempt's heartbeat stands still."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._since: dict[Heartbeat, float] = {}
        self._last_look: float | None = None

    def look(self, heartbeats: list[Heartbeat], at: float) -> list[Heartbeat]:
        """Take a look at time `at`; return the attempts that are lost."""
        if self._last_look is not None and at - self._last_look > self._timeout_s / 2:
            self._since.clear()  # we were asleep ourselves: what we did not watch, we do not judge
        self._last_look = at
        self._since = {beat: self._since.get(beat, at) for beat in heartbeats}
        return [beat for beat, since in self._since.items() if at - since >= self._timeout_s]

    def forget(self) -> None:
        """Start anew, after a look that failed."""
        self._since.clear()


class Reaper:
    """Looks again and again, in a thread of its own."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._workers = Observation(WORKER_FORGOTTEN_S)
        self._settings = settings
        self._observation = Observation(settings.attempt_timeout_s)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reaper", daemon=True)

    def start(self) -> None:
        """Begin to observe."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it observes."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Stop observing."""
        self._stopping.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stopping.wait(self._settings.attempt_timeout_s / LOOKS_PER_TIMEOUT):
            try:
                self._look()
            except SQLAlchemyError as error:
                log.warning("cannot observe attempts: %s", error)
                self._observation.forget()
                self._workers.forget()
            try:
                sweeps.advance(self._database, self._settings)  # whoever was to do it may be gone
            except SQLAlchemyError as error:
                log.warning("cannot take sweeps on: %s", error)

    def _look(self) -> None:
        # Where nothing can be written (the disk is full, another holds the lock), no heart can beat: then this look
        # waits or fails, and nobody is judged by it.
        with self._database.writing(announce=False) as session:
            attempts.touch(session)
            beats = attempts.heartbeats(session)
            gone = self._workers.look(workers.heartbeats(session), time.monotonic())
            workers.leave(session, [worker.run_id for worker in gone])
        for lost in self._observation.look(beats, time.monotonic()):
            detail = f"no heartbeat for {self._settings.attempt_timeout_s:g} s"
            with self._database.writing() as session:
                status = attempts.lose_attempt(
                    session,
                    Attempt(lost.run_id, lost.attempt_id),
                    Reason.WORKER_LOST,
                    detail,
                    max_failures=self._settings.max_failures,
                    heartbeat=lost.heartbeat,
                )
                if status is None and attempts.break_lock(session, lost.run_id, self._settings.attempt_timeout_s):
                    log.warning("%s: %s, and in the middle of a write; its connection is ended", lost.run_id, detail)
                if status is not None:
                    workers.count(session, {(LOST, Reason.WORKER_LOST): 1})
            if status is not None:
                with logs.concerning(run_id=lost.run_id, attempt_id=lost.attempt_id):
                    log.warning("%s: %s; now %s", lost.run_id, detail, status)
