"""The presence: a process that hosts slots shows that it lives, how busy it is, and what it has counted."""

import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import SQLAlchemyError

import chainrule
from chainrule.app.config import Settings
from chainrule.app.services.tally import Tally
from chainrule.app.store import workers
from chainrule.app.store.database import Database, new_id

log = logging.getLogger(__name__)


def worker_name() -> str:
    """Name this process, as its runs and their history do."""
    return f"{socket.gethostname()}:{os.getpid()}"


class Presence:
    """Beats for a worker in a thread of its own.

    Attributes:
        tally: what this process counts.
    """

    def __init__(self, database: Database, settings: Settings, slots: int) -> None:
        self.tally = Tally()
        self._database, self._settings, self._slots = database, settings, slots
        self._id = new_id("worker")
        self._busy = 0
        self._draining = False
        self._guard = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)

    def start(self) -> None:
        """Come on the list of workers, and stay on it."""
        self._thread.start()

    def drain(self) -> None:
        """Show that nothing more is claimed here."""
        self._draining = True

    def stop(self) -> None:
        """Tell what was counted a last time, and leave the list."""
        self._stopping.set()
        self._thread.join(timeout=5)
        self._beat(leaving=True)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Show one slot as busy."""
        self._change_busy(1)
        try:
            yield
        finally:
            self._change_busy(-1)

    def _change_busy(self, by: int) -> None:
        with self._guard:
            self._busy += by

    def _run(self) -> None:
        while True:
            self._beat()
            if self._stopping.wait(self._settings.heartbeat_interval_s):
                return

    def _beat(self, *, leaving: bool = False) -> None:
        counted = self.tally.take()
        try:
            with self._database.writing(announce=False) as session:
                if leaving:
                    workers.leave(session, [self._id])
                else:
                    workers.beat(session, self._id, self._given())
                workers.count(session, counted)
        except SQLAlchemyError as error:
            # If only the answer to the commit was lost, this is counted twice; better than not at all.
            self.tally.give_back(counted)
            log.warning("cannot show that this worker lives: %s", error)

    def _given(self) -> dict[str, object]:
        return {
            "name": worker_name(),
            "host": socket.gethostname(),
            "version": chainrule.__version__,
            "slots": self._slots,
            "busy": self._busy,
            "draining": self._draining,
        }
