"""The child: one process that trains for one attempt, and ends with its supervisor."""

import contextlib
import logging
import os
import signal
import threading
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from chainrule.app.config import Settings
from chainrule.app.execution.writer import Ending, RunLost, Writer
from chainrule.app.run_status import Reason, RunStatus
from chainrule.app.services import training
from chainrule.app.services.weights import NetworkEncoder
from chainrule.app.store import checkpoints, runs
from chainrule.app.store.database import UNREACHABLE, Database
from chainrule.app.store.runs import Attempt
from chainrule.engine import DivergedError, Epoch, TrainingConfig, dense, train, xor

CANCEL = "cancel"
DRAIN = "drain"
WRITTEN = "written"
ENDED = "ended"
CRASHED = "crashed"

_ENDINGS = {
    CANCEL: Ending(RunStatus.CANCELLED, Reason.CANCEL_REQUESTED),
    DRAIN: Ending(RunStatus.QUEUED, Reason.DRAINED),
}
REHEARSALS = 30
"""Python runs code faster that it has run some dozens of times."""

_rehearsed: dict[str, Database] = {}
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Order:
    """What a child is to train, and for which attempt."""

    attempt: Attempt
    config: dict[str, Any]
    inputs: int
    steps_per_epoch: int


class _Supervisor:
    """The child's end of the pipe: hears wishes, tells of writes, and dies when the other end does."""

    def __init__(self, pipe: Connection, attention: threading.Event) -> None:
        self.wish: str | None = None
        self._pipe = pipe
        self._attention = attention
        signal.signal(signal.SIGTERM, lambda *_: self._wish(DRAIN))
        threading.Thread(target=self._listen, name="supervisor", daemon=True).start()

    def tell(self, word: str, detail: str = "") -> None:
        with contextlib.suppress(OSError):
            self._pipe.send((word, detail))

    def _listen(self) -> None:
        try:
            while True:
                self._wish(self._pipe.recv())
        except (EOFError, OSError):
            os._exit(1)  # nobody beats for this attempt any more: whatever it did now would be in vain

    def _wish(self, word: str) -> None:
        self.wish = word
        self._attention.set()


def main(settings: Settings, pipe: Connection) -> None:
    """Wait for an order; train its attempt from its resume point to its end, or until told to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to pass on
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    database = _rehearsed.get(settings.database_url) or _database(settings.database_url)
    try:
        order: Order = pipe.recv()
    except (EOFError, OSError):
        os._exit(0)  # nobody will order anything any more
    attention = threading.Event()
    supervisor = _Supervisor(pipe, attention)
    try:
        database.on_commit(lambda: supervisor.tell(WRITTEN))
        _train(database, settings, order, supervisor, attention)
        supervisor.tell(ENDED)
        status = 0
    except RunLost:
        log.warning("%s belongs to another attempt; stopping", order.attempt.run_id)
        supervisor.tell(ENDED)
        status = 0
    except Exception as error:
        log.exception("attempt on %s failed", order.attempt.run_id)
        supervisor.tell(CRASHED, "".join(traceback.format_exception_only(error)).strip())
        status = 1
    pipe.close()
    os._exit(status)  # all is committed; the interpreter's farewell would only take time


def rehearse(database_url: str) -> None:
    """Prepare the statements of an attempt, and train a little, for all children that are forked from here.

    Nothing of it is left but what was compiled on the way: the run does not exist, and the
    connection is closed, for no child may share it.
    """
    database = _database(database_url)
    try:
        with database.writing(announce=False) as session:
            for _ in range(REHEARSALS):
                runs.rehearse(session)
                checkpoints.get_resume_point(session, "")
                checkpoints.drop_resume_point(session, "")
    except UNREACHABLE as error:
        log.warning("cannot reach the database yet: %s", error)
    database.dispose()
    _rehearsed[database_url] = database
    encoder = NetworkEncoder()
    for epoch in train(TrainingConfig(dense(2, (2, "tanh"), (1, "sigmoid")), epochs=REHEARSALS), xor()):
        if isinstance(epoch, Epoch):
            encoder.encode(epoch.network)


def _database(url: str) -> Database:
    return Database(url, pool_size=2, max_overflow=0)


def _train(
    database: Database, settings: Settings, order: Order, supervisor: _Supervisor, attention: threading.Event
) -> None:
    config = training.engine_config(order.config, order.inputs)
    data, validation = training.load_split(database, settings, order.config)
    resume = training.load_resume_point(database, order.attempt.run_id)
    writer = Writer(
        database, settings, order.attempt, order.config, steps_per_epoch=order.steps_per_epoch, due=attention
    )
    progress = train(config, data, validation, resume=resume, snapshot_due=attention.is_set)
    try:
        for event in progress:
            if isinstance(event, Epoch):
                writer.add(event)
                if event.epoch == config.epochs:
                    writer.end(Ending(RunStatus.SUCCEEDED, Reason.COMPLETED), None)
                    return
            if attention.is_set():
                if supervisor.wish is not None:
                    writer.end(_ENDINGS[supervisor.wish], event.resume_point())
                    return
                writer.hand_over(event.resume_point())
    except DivergedError as error:
        writer.end(Ending(RunStatus.FAILED, Reason.DIVERGED, str(error)), None)
