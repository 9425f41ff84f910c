"""The wake-up: one look at the database per tick for all who wait in this process.

A wake-up is a hint and carries nothing: who is woken asks the database what is true. PostgreSQL says
`NOTIFY` at each announced commit; SQLite counts foreign commits in `PRAGMA data_version`. Commits of
this very process come straight from `Database.writing`.
"""

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable

import psycopg
from sqlalchemy.exc import SQLAlchemyError

from chainrule.app.store.database import CHANNEL, Database
from chainrule.app.store.outages import network

TICK_S = 0.01
RECONNECT_S = 1.0
log = logging.getLogger(__name__)


class Changes:
    """Counts the changes this process has heard of; waiters compare with the count they saw last."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._condition = threading.Condition()
        self._count = 0
        self._stopping = threading.Event()
        self._listeners: set[Callable[[], None]] = set()
        self._thread = threading.Thread(target=self._follow, name="changes", daemon=True)
        database.on_commit(self.notify)

    def start(self) -> None:
        """Begin to follow the commits of other processes."""
        self._thread.start()

    def stop(self) -> None:
        """Stop following and wake everyone a last time."""
        self._stopping.set()
        self.notify()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    @property
    def count(self) -> int:
        """How many changes have been heard of so far; take it before looking at the database."""
        return self._count

    def notify(self) -> None:
        """Wake all waiters."""
        with self._condition:
            self._count += 1
            self._condition.notify_all()
            listeners = tuple(self._listeners)
        for listener in listeners:
            listener()

    def wait(self, seen: int, timeout_s: float) -> int:
        """Block until there is news since `seen` or the time is up; return the new count."""
        with self._condition:
            self._condition.wait_for(lambda: self._count != seen, timeout_s)
            return self._count

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` (from another thread, so let it be short) at each change; returns how to end that."""
        with self._condition:
            self._listeners.add(listener)

        def unlisten() -> None:
            with self._condition:
                self._listeners.discard(listener)

        return unlisten

    def _follow(self) -> None:
        follow = self._follow_sqlite if self._database.sqlite else self._follow_postgresql
        while not self._stopping.is_set():
            try:
                follow()
            except (SQLAlchemyError, psycopg.Error, sqlite3.Error) as error:
                log.warning("cannot follow the database, trying again: %s", error)
                self._stopping.wait(RECONNECT_S)
            self.notify()  # whatever happened while nobody listened

    def _follow_sqlite(self) -> None:
        connection = self._database.engine.raw_connection()
        try:
            cursor = connection.cursor()
            seen = None
            while not self._stopping.is_set():
                version = cursor.execute("PRAGMA data_version").fetchone()[0]
                if version != seen:
                    seen = version
                    self.notify()
                time.sleep(TICK_S)
        finally:
            connection.close()

    def _follow_postgresql(self) -> None:
        url = self._database.url.set(drivername="postgresql").render_as_string(hide_password=False)
        with contextlib.closing(psycopg.connect(url, autocommit=True, **network(self._database.url))) as connection:
            connection.execute(f"LISTEN {CHANNEL}")
            self.notify()
            while not self._stopping.is_set():
                for _ in connection.notifies(timeout=0.5, stop_after=1):
                    self.notify()
