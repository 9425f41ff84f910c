"""Monitoring: whether the service can do its work, who trains what, and the figures of both.

Whatever is asked here is asked of the database in a thread of its own, and whoever asks waits for a
second at most: monitoring answers when everything else hangs.
"""

import asyncio
import logging
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from sqlalchemy.exc import SQLAlchemyError

import chainrule
from chainrule.app.config import Settings
from chainrule.app.store import idempotency, migrations, queue, runs, workers
from chainrule.app.store.database import Database, now
from chainrule.app.store.models import Worker
from chainrule.app.store.runs import Trained

PATIENCE_S = 0.8
MOST_TRAINED = 1000
"""Runs in training that are listed."""
log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Check:
    """One thing that must be so for the service to do its work."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class Figures:
    """What the database tells of the service as a whole at one moment."""

    runs: Mapping[str, int]
    waiting: int
    oldest_wait_s: float
    workers: int
    slots: int
    busy: int
    totals: Mapping[tuple[str, str], float]


class Question(Generic[T]):
    """One question, asked in a thread of its own; those who ask meanwhile wait for the same answer."""

    def __init__(self, answer: Callable[[], T]) -> None:
        self._answer = answer
        self._current: Future[tuple[T | None, Exception | None]] | None = None

    async def ask(self) -> T:
        """Wait for the answer, for a while; to be called in one event loop.

        Raises:
            TimeoutError: there is none yet.
        """
        if self._current is None or self._current.done():
            self._current = Future()
            threading.Thread(target=self._find, args=(self._current,), name="monitoring", daemon=True).start()
        waiting = asyncio.shield(asyncio.wrap_future(self._current))
        found, error = await asyncio.wait_for(waiting, PATIENCE_S)
        if error is not None:
            raise error
        return found  # type: ignore[return-value]  # there is one where there is no error

    def _find(self, into: Future[tuple[T | None, Exception | None]]) -> None:
        try:
            into.set_result((self._answer(), None))
        except Exception as error:
            into.set_result((None, error))


class Monitoring:
    """Asks the database, and observes the heartbeats of the workers.

    Args:
        database: what is asked.
        settings: where files are and how long a heart may stand still.
        threads: tells of each thread this process needs whether it lives.
    """

    def __init__(self, database: Database, settings: Settings, threads: Callable[[], dict[str, bool]]) -> None:
        self._database, self._settings, self._threads = database, settings, threads
        self._writable = Question(self._try_database)
        self._room = Question(self._look_at_room)
        self._figures = Question(self._read_figures)
        self._status = Question(self._read_status)
        self._moved: dict[str, tuple[int, float]] = {}
        self._guard = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._observe, name="monitoring", daemon=True)

    def start(self) -> None:
        """Begin to observe."""
        self._thread.start()

    def stop(self) -> None:
        """Stop observing."""
        self._stopping.set()

    async def checks(self) -> list[Check]:
        """Check all that the service needs to do its work."""
        threads = [Check(name, ok, "It runs." if ok else "It has died.") for name, ok in self._threads().items()]
        return [
            *threads,
            *await asyncio.gather(self._check("database", self._writable), self._check("disk", self._room)),
        ]

    async def figures(self) -> Figures:
        """Read the figures of the service as a whole.

        Raises:
            TimeoutError, SQLAlchemyError: the database does not answer.
        """
        return await self._figures.ask()

    async def status(self, owner: str) -> dict[str, Any]:
        """Look at the queue and at every worker, and at what they train of an owner's runs.

        Raises:
            TimeoutError, SQLAlchemyError: the database does not answer.
        """
        found = await self._status.ask()
        known, trained = found["workers"], found["trained"]
        shown = [
            self._shown(worker, seen_s, [run for run in trained if run.owner == owner]) for worker, seen_s in known
        ]
        return {**{name: value for name, value in found.items() if name != "trained"}, "workers": shown}

    async def _check(self, name: str, question: Question[str]) -> Check:
        try:
            return Check(name, True, await question.ask())
        except TimeoutError:
            return Check(name, False, f"There is no answer within {PATIENCE_S:g} s.")
        except Exception as error:
            log.warning("the check of the %s fails: %s", name, error)
            return Check(name, False, str(error) if isinstance(error, _Unfit) else "It cannot be used; see the log.")

    def _try_database(self) -> str:
        current, newest = migrations.revisions(self._database)
        if current is None or current != newest:
            raise _Unfit(f"The database has schema {current} and {newest} is needed; run `chainrule migrate`.")
        with self._database.writing(announce=False) as session:
            idempotency.touch(session)
        return f"It can be written to and has schema {current}."

    def _look_at_room(self) -> str:
        least = self._settings.min_free_bytes
        folders = [self._settings.cache_dir]
        if self._database.sqlite:
            folders.append(Path(str(self._database.url.database)))
        for folder in folders:
            there = next(part for part in (folder.absolute(), *folder.absolute().parents) if part.is_dir())
            free = shutil.disk_usage(there).free
            if free < least:
                raise _Unfit(f"{free:,} bytes are free where {folder.name} is; CHAINRULE_MIN_FREE_BYTES is {least:,}.")
        return f"More than {least:,} bytes are free."

    def _read_figures(self) -> Figures:
        with self._database.reading() as session:
            oldest = queue.oldest_waiting(session)
            waiting = queue.count_claimable(session, self._settings.max_queued_runs)
            by_status = runs.count_by_status(session)
            totals = workers.totals(session)
            living = [one for one in workers.listed(session) if self._lives(self._last_seen_s(one))]
        return Figures(
            by_status, waiting, _since(oldest), len(living), sum(worker.slots for worker in living),
            sum(worker.busy for worker in living), totals,
        )  # fmt: skip

    def _read_status(self) -> dict[str, Any]:
        with self._database.reading() as session:
            oldest = queue.oldest_waiting(session)
            waiting = queue.count_claimable(session, self._settings.max_queued_runs)
            by_status = runs.count_by_status(session)
            # Judged once: slots of all and of each are to be those of the same workers.
            known = [(worker, self._last_seen_s(worker)) for worker in workers.listed(session)]
            trained = runs.running(session, MOST_TRAINED)
        living = [worker for worker, seen_s in known if self._lives(seen_s)]
        slots, busy = (sum(getattr(worker, name) for worker in living) for name in ("slots", "busy"))
        return {
            "version": chainrule.__version__,
            "database": "sqlite" if self._database.sqlite else "postgresql",
            "queue": {"waiting": waiting, "oldest_wait_s": _since(oldest) if oldest else None},
            "runs": by_status,
            "slots": {"all": slots, "busy": busy, "free": max(slots - busy, 0)},
            "workers": known,
            "trained": trained,
        }

    def _shown(self, worker: Worker, seen_s: float, trained: list[Trained]) -> dict[str, Any]:
        return {
            "id": worker.id,
            "name": worker.name,
            "host": worker.host,
            "version": worker.version,
            "slots": worker.slots,
            "busy": worker.busy,
            "draining": worker.draining,
            "alive": self._lives(seen_s),
            "last_seen_s": round(seen_s, 1),
            "started_at": worker.started_at,
            "training": [
                {"run": run.id, "name": run.name, "epochs_done": run.epochs_done, "epochs_total": run.epochs_total}
                for run in trained
                if run.worker == worker.name
            ],
        }

    def _lives(self, seen_s: float) -> bool:
        return seen_s < self._settings.attempt_timeout_s

    def _last_seen_s(self, worker: Worker) -> float:
        """Tell how long ago this process saw the worker's heartbeat move; no clock is compared."""
        with self._guard:
            self._note(worker.id, worker.heartbeat)
            return time.monotonic() - self._moved[worker.id][1]

    def _note(self, worker_id: str, heartbeat: int) -> None:
        if self._moved.get(worker_id, (-1, 0.0))[0] != heartbeat:
            self._moved[worker_id] = (heartbeat, time.monotonic())

    def _observe(self) -> None:
        while not self._stopping.wait(self._settings.heartbeat_interval_s):
            try:
                with self._database.reading() as session:
                    beats = workers.heartbeats(session)
            except SQLAlchemyError as error:
                log.warning("cannot look after workers: %s", error)
                continue
            with self._guard:
                for beat in beats:
                    self._note(beat.run_id, beat.heartbeat)
                there = {beat.run_id for beat in beats}
                self._moved = {worker_id: seen for worker_id, seen in self._moved.items() if worker_id in there}


class _Unfit(Exception):
    """Something is not as it must be, in words for whoever operates the service."""


def _since(moment: Any) -> float:
    return max((now() - moment).total_seconds(), 0.0) if moment else 0.0
