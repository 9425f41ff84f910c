"""Watching: everybody in this process who waits for a run shares one look at the database per change."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from chainrule.app.store import runs, sweeps
from chainrule.app.store.changes import Changes
from chainrule.app.store.database import Database

SHORTEST_S = 0.001
"""Changes that come closer together than this are looked at together."""
RETRY_S = 1.0
AT_ONCE = 1000

State = tuple[str, int, int]
"""A run's status, revision and number of epochs done; of a sweep, whose id may be waited for as well, their sums."""

log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Waiter:
    run_id: str
    until: Callable[[State | None], bool]
    future: asyncio.Future[State | None]


class Watching:
    """Wakes each waiter when its run has come to what it waits for.

    Belongs to one event loop; `start` and `wait` are called there.
    """

    def __init__(self, database: Database, changes: Changes, poll_interval_s: float) -> None:
        self._database = database
        self._changes = changes
        self._poll_interval_s = poll_interval_s
        self._waiters: set[_Waiter] = set()
        self._news = asyncio.Event()
        self._closed = False

    async def start(self) -> None:
        """Begin to watch."""
        loop = asyncio.get_running_loop()

        def heard() -> None:
            loop.call_soon_threadsafe(self._news.set)

        self._unlisten = self._changes.listen(heard)
        self._task = asyncio.create_task(self._follow())

    def close(self) -> None:
        """Let every waiter go, and later ones at once: the service is about to end."""
        self._closed = True
        for waiter in self._waiters:
            if not waiter.future.done():
                waiter.future.set_result(None)

    async def stop(self) -> None:
        """Stop watching."""
        self.close()
        self._unlisten()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @property
    def closed(self) -> bool:
        """Whether the service is about to end."""
        return self._closed

    async def wait(self, run_id: str, until: Callable[[State | None], bool], timeout_s: float) -> bool:
        """Wait until the run's state satisfies `until` (None: there is no such run); False when the time is up."""
        if self._closed:
            return False
        waiter = _Waiter(run_id, until, asyncio.get_running_loop().create_future())
        self._waiters.add(waiter)
        self._news.set()  # it may have happened already
        try:
            async with asyncio.timeout(timeout_s):
                await waiter.future
            return not self._closed
        except TimeoutError:
            return False
        finally:
            self._waiters.discard(waiter)

    async def _follow(self) -> None:
        while not self._closed:  # `wait_for` may swallow being cancelled
            with contextlib.suppress(TimeoutError):  # a hint may be lost; polling stays underneath
                await asyncio.wait_for(self._news.wait(), self._poll_interval_s)
            self._news.clear()
            if not self._waiters:
                continue
            waiting = tuple(self._waiters)
            try:
                states = await asyncio.to_thread(self._look, sorted({waiter.run_id for waiter in waiting}))
            except SQLAlchemyError as error:
                log.warning("cannot look after runs: %s", error)
                await asyncio.sleep(RETRY_S)
                continue
            for waiter in waiting:
                state = states.get(waiter.run_id)
                if not waiter.future.done() and waiter.until(state):
                    waiter.future.set_result(state)
            await asyncio.sleep(SHORTEST_S)

    def _look(self, run_ids: list[str]) -> dict[str, State]:
        states: dict[str, State] = {}
        with self._database.reading() as session:
            for start in range(0, len(run_ids), AT_ONCE):
                states |= runs.watch(session, run_ids[start : start + AT_ONCE])
            states |= sweeps.watch(session, [one for one in run_ids if one.startswith("sweep_")])
        return states
