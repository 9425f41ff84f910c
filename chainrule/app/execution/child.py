"""The child: a process that trains one attempt at a time, and ends with its supervisor."""

import contextlib
import logging
import os
import signal
import threading
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from chainrule.app.config import MIB, Settings
from chainrule.app.execution.writer import Ending, RunLost, Writer
from chainrule.app.run_status import Reason, RunStatus
from chainrule.app.services import training
from chainrule.app.services.weights import NetworkEncoder
from chainrule.app.store import checkpoints, runs
from chainrule.app.store.database import Database
from chainrule.app.store.runs import Attempt
from chainrule.engine import DivergedError, Epoch, TrainingConfig, dense, train, xor

CANCEL = "cancel"
DRAIN = "drain"
WRITTEN = "written"
READY = "ready"
ENDED = "ended"
CRASHED = "crashed"

_ENDINGS = {
    CANCEL: Ending(RunStatus.CANCELLED, Reason.CANCEL_REQUESTED),
    DRAIN: Ending(RunStatus.QUEUED, Reason.DRAINED),
}
MOST_ATTEMPTS = 100
"""A child that has trained so often ends, whatever may have gathered in it."""
SMALL_BYTES = 64 * MIB
"""A child that has trained something larger ends, for its memory may not all come back."""
REHEARSALS = 30
"""Python runs code faster that it has run some dozens of times."""

_prepared: dict[str, Database] = {}
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Order:
    """What a child is to train, and for which attempt."""

    attempt: Attempt
    config: dict[str, Any]
    inputs: int
    steps_per_epoch: int


class _Supervisor:
    """The child's end of the pipe: hears orders and wishes, tells of writes, and dies when the other end does."""

    def __init__(self, pipe: Connection) -> None:
        self.wish: str | None = None
        self.attention = threading.Event()
        self.orders: SimpleQueue[Order | None] = SimpleQueue()
        self._pipe = pipe
        threading.Thread(target=self._listen, name="supervisor", daemon=True).start()

    def tell(self, word: str, detail: str = "") -> None:
        with contextlib.suppress(OSError):
            self._pipe.send((word, detail))

    def _listen(self) -> None:
        try:
            while True:
                heard = self._pipe.recv()
                if isinstance(heard, Order):
                    self.orders.put(heard)
                else:
                    self._wish(heard)
        except (EOFError, OSError):
            os._exit(1)  # nobody beats for this attempt any more: whatever it did now would be in vain

    def _wish(self, word: str) -> None:
        self.wish = word
        self.attention.set()
        self.orders.put(None)  # whoever was asked to stop takes no other order


def main(settings: Settings, pipe: Connection) -> None:
    """Train one attempt after another, each from its resume point to its end, or until told to stop."""
    _leave_signals_to_supervisor()
    supervisor = _Supervisor(pipe)
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    database = _prepared.get(settings.database_url) or _database(settings.database_url)
    database.on_commit(lambda: supervisor.tell(WRITTEN))
    for left in range(MOST_ATTEMPTS - 1, -1, -1):
        order = supervisor.orders.get()
        if order is None or not _obey(database, settings, order, supervisor, last=left == 0):
            break
    pipe.close()
    os._exit(0)  # all is committed; the interpreter's farewell would only take time


def _obey(database: Database, settings: Settings, order: Order, supervisor: _Supervisor, *, last: bool) -> bool:
    """Train one attempt and say how it went; whether another order may come."""
    small = False
    try:
        small = _train(database, settings, order, supervisor)
    except RunLost:
        log.warning("%s belongs to another attempt; stopping", order.attempt.run_id)
    except Exception as error:
        log.exception("attempt on %s failed", order.attempt.run_id)
        supervisor.tell(CRASHED, "".join(traceback.format_exception_only(error)).strip())
        return False
    supervisor.attention.clear()  # before looking for a wish: one that comes later is for the next order
    ready = small and supervisor.wish is None and not last
    supervisor.tell(READY if ready else ENDED)
    return ready


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
                runs.rehearse(session)
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
    config = training.engine_config(order.config, order.inputs)
    data, validation = training.load_split(database, settings, order.attempt.run_id, order.config)
    resume = training.load_resume_point(database, order.attempt.run_id)
    attention = supervisor.attention
    writer = Writer(
        database, settings, order.attempt, order.config, steps_per_epoch=order.steps_per_epoch, due=attention
    )
    progress = train(config, data, validation, resume=resume, snapshot_due=attention.is_set)
    try:
        for event in progress:
            if isinstance(event, Epoch):
                writer.add(event)
                if event.epoch == config.epochs:
                    writer.end(Ending(RunStatus.SUCCEEDED, Reason.COMPLETED), event.resume_point())
                    break
            if attention.is_set():
                attention.clear()  # before looking for a wish, so that none is overlooked
                if supervisor.wish is not None:
                    writer.end(_ENDINGS[supervisor.wish], event.resume_point())
                    break
                writer.hand_over(event.resume_point())
    except DivergedError as error:
        writer.end(Ending(RunStatus.FAILED, Reason.DIVERGED, str(error)), None)
    return config.memory_bytes(data.samples, validation.samples if validation else 0) <= SMALL_BYTES
