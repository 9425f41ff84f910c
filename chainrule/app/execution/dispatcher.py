"""The dispatcher: keeps a pilot in flight for each waiting run there is a free slot for."""

import logging
import threading
from concurrent.futures import Future

from sqlalchemy.exc import SQLAlchemyError

from chainrule.app.config import Settings
from chainrule.app.execution.dask_cluster import EngineUnusable
from chainrule.app.execution.housekeeping import Housekeeping
from chainrule.app.execution.placement import make_placement
from chainrule.app.execution.reaper import Reaper
from chainrule.app.store import queue
from chainrule.app.store.changes import Changes
from chainrule.app.store.database import Database

log = logging.getLogger(__name__)


class Dispatcher:
    """Sends pilots: to the slots of this process, or to a cluster."""

    def __init__(self, database: Database, settings: Settings, changes: Changes) -> None:
        self._database = database
        self._settings = settings
        self._changes = changes
        self._placement = make_placement(database, settings)
        self._reaper = Reaper(database, settings)
        self._housekeeping = Housekeeping(database, settings)
        self._stopping = threading.Event()
        self._pilots: set[Future[list[str]]] = set()
        self._thread = threading.Thread(target=self._run, name="dispatcher", daemon=True)

    @property
    def slots(self) -> int:
        """How many pilots there is room for."""
        return self._placement.slots()

    @property
    def busy(self) -> int:
        """How many slots have a pilot."""
        return len(self._pilots)

    def start(self) -> None:
        """Begin to train what waits."""
        self._placement.start()
        self._reaper.start()
        self._housekeeping.start()
        self._thread.start()

    def drain(self) -> None:
        """Claim nothing more, put running runs back into the queue with their resume points, and end."""
        self._stopping.set()
        self._changes.notify()
        self._thread.join()
        self._placement.drain()
        self._reaper.stop()
        self._housekeeping.stop()

    def threads(self) -> dict[str, bool]:
        """Tell of each thread without which nothing is trained whether it lives."""
        return {"dispatcher": self._thread.is_alive(), "reaper": self._reaper.alive}

    def _run(self) -> None:
        while not self._stopping.is_set():
            seen = self._changes.count
            free = self._placement.slots() - len(self._pilots)
            if free > 0:
                for _ in range(self._waiting(free)):
                    self._send_pilot()
            self._changes.wait(seen, self._settings.poll_interval_s)

    def _waiting(self, free: int) -> int:
        try:
            with self._database.reading() as session:
                return queue.count_claimable(session, free, most_each=self._settings.max_running_per_owner)
        except SQLAlchemyError as error:
            log.warning("cannot look for runs: %s", error)
            return 0

    def _send_pilot(self) -> None:
        try:
            pilot = self._placement.send()
        except EngineUnusable as error:
            log.warning("cannot send a pilot: %s", error)
            return
        self._pilots.add(pilot)
        pilot.add_done_callback(self._land)

    def _land(self, pilot: Future[list[str]]) -> None:
        self._pilots.discard(pilot)
        error = None if pilot.cancelled() else pilot.exception()
        if error is None:
            self._changes.notify()  # there is room for another
        elif isinstance(error, (OSError, SQLAlchemyError, EngineUnusable)):
            log.warning("cannot take a run: %s", error)
        else:
            log.error("a slot failed: %s", error, exc_info=error)
