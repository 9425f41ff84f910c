"""Children at hand: processes that have started and wait for an order.

To start a process, connect it and prepare its statements takes longer than to train a small network,
so it is done beforehand, and a child that has trained something small comes back for another order.
An attempt has its process to itself all the same: whatever is killed is one attempt.
"""

import logging
import multiprocessing
import os
import threading
from collections import deque
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from chainrule.app.config import Settings
from chainrule.app.execution import child

RETRY_S = 1.0
log = logging.getLogger(__name__)

# A fork server starts a child in milliseconds, NumPy loaded; where there is none, children start afresh.
_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
_context: Any = multiprocessing.get_context(_METHOD)


@dataclass
class Child:
    """A training process and our end of the pipe to it."""

    process: BaseProcess
    pipe: Connection


class Standby:
    """Keeps as many children as there are slots, at work or waiting for it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._waiting: deque[Child] = deque()
        self._leaving: deque[Child] = deque()
        self._living = 0
        self._guard = threading.Lock()
        self._wanted = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="standby", daemon=True)

    def start(self) -> None:
        """Set up how children start, and begin to start them."""
        for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[name] = str(self._settings.blas_threads)
        os.environ.setdefault("NUMBA_CACHE_DIR", str(self._settings.cache_dir / "compiled"))
        os.environ["CHAINRULE_DATABASE_URL"] = self._settings.database_url
        if _METHOD == "forkserver":
            _context.set_forkserver_preload(["chainrule.app.execution.preload"])
        self._thread.start()

    def take(self) -> Child:
        """Take a child that waits for an order, or a new one if none does.

        Raises:
            OSError: no process can be started.
        """
        while (waiting := _next(self._waiting)) is not None:
            if not waiting.pipe.poll():  # who waits has nothing to tell but its end
                return waiting
            self.dismiss(waiting)
        return self._start()

    def take_back(self, ready: Child) -> None:
        """Keep a child that is ready for another order."""
        if self._closing.is_set() or self._living > self._settings.slots:
            self.dismiss(ready)
        else:
            self._waiting.appendleft(ready)  # the one that ran last is the warmest

    def dismiss(self, gone: Child) -> None:
        """End a child whose work is over, without waiting for its end."""
        if gone.process.is_alive():  # the number of one that is gone may be another process's by now
            gone.process.kill()
        with self._guard:
            self._living -= 1
        self._leaving.append(gone)
        self._wanted.set()

    def close(self) -> None:
        """End the children that wait, and see all to their end."""
        self._closing.set()
        self._wanted.set()
        self._thread.join()
        while (waiting := _next(self._waiting)) is not None:
            self.dismiss(waiting)
        self._bury()

    def _keep(self) -> None:
        """Start children until there are enough, and again when one has gone."""
        while not self._closing.is_set():
            self._wanted.clear()
            self._bury()
            try:
                while self._living < self._settings.slots and not self._closing.is_set():
                    self._waiting.append(self._start())
            except OSError as error:
                log.warning("cannot start a training process beforehand: %s", error)
                self._closing.wait(RETRY_S)
                continue
            self._wanted.wait()

    def _bury(self) -> None:
        while (gone := _next(self._leaving)) is not None:
            gone.process.join()
            gone.pipe.close()

    def _start(self) -> Child:
        ours, theirs = _context.Pipe()
        process = _context.Process(target=child.main, args=(self._settings, theirs), daemon=True, name="training")
        try:
            process.start()
        except EOFError as error:
            raise ConnectionError("the fork server ended meanwhile") from error
        theirs.close()
        with self._guard:
            self._living += 1
        return Child(process, ours)


def _next(children: deque[Child]) -> Child | None:
    try:
        return children.popleft()
    except IndexError:
        return None
