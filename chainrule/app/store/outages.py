"""Outages: how long we wait for PostgreSQL, how we tell that it is away, and how those who wait are spared.

Nobody waits for ever. A connection that is not made in `CONNECT_S`, or a machine that does not acknowledge
what it is sent, is given up by the network's own limits; a server that acknowledges and does not answer
(stopped, or its disk is) by ours, which are looked at whenever a statement waits.
"""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, TypeVar

import psycopg
from sqlalchemy import URL, Engine, event
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from chainrule.app.store.troubles import DAMAGED, trouble

CONNECT_S = 3
SILENCE_S = 10
"""After so long without an acknowledgement a connection is broken, on either side."""
NETWORK = {
    "connect_timeout": CONNECT_S,
    "keepalives": 1,
    "keepalives_idle": SILENCE_S,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 1000 * SILENCE_S,
}
"""What libpq is told, unless the URL says otherwise."""
IDLE_IN_TRANSACTION_S = 30
"""So long whoever was stopped in the middle of a transaction keeps others from its rows."""
RETRY_S = 1.0
LONGEST_PAUSE_S = 5.0
_AWAY = ("08", "57P", "53300")
"""Beginnings of SQLSTATEs: connection exceptions, the server ends or begins, too many connections."""

T = TypeVar("T")


class Away(SQLAlchemyError):
    """The database was away a moment ago, and somebody else is looking whether it still is."""

    def __init__(self) -> None:
        super().__init__("the database was away less than a second ago")


UNREACHABLE = (OperationalError, InterfaceError, PoolTimeoutError, Away)
"""What a database that cannot be reached just now raises."""


def is_away(error: BaseException) -> bool:
    """Tell a server that cannot be reached from one that refuses a statement."""
    if not isinstance(error, DBAPIError):
        return isinstance(error, PoolTimeoutError | Away)
    state = getattr(error.orig, "sqlstate", None)
    if state is None:
        return error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)
    return bool(str(state).startswith(_AWAY))


class Outage:
    """Remembers that the database is away: one transaction a second finds out, the others fail at once.

    Without it those who wait would wait for one another: for threads that wait for the database.
    """

    def __init__(self) -> None:
        self._away_until = 0.0
        self._guard = Lock()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Open a transaction inside, and learn from it.

        Raises:
            Away: the database was away when somebody looked last.
        """
        if self._away_until:
            with self._guard:
                moment = time.monotonic()
                if moment < self._away_until:
                    raise Away
                if self._away_until:
                    self._away_until = moment + RETRY_S  # the others wait for what becomes of this one
        try:
            yield
        except BaseException as error:
            self._away_until = time.monotonic() + RETRY_S if is_away(error) else 0.0
            raise
        self._away_until = 0.0


def patiently(
    do: Callable[[bool], T], for_s: float, told: Callable[[Exception], None], *, stop: Callable[[], bool] = bool
) -> T:
    """Do what the database refuses while it is away or ill, again and again, for at most `for_s`.

    `do` hears whether this is a repeat: a commit whose answer was lost may have happened.

    Args:
        do: opens its own transactions.
        for_s: how long it is repeated.
        told: is told of each refusal that is not the last.
        stop: whether it is to be given up earlier.
    """
    deadline = time.monotonic() + for_s
    pause_s = 0.1
    again = False
    while True:
        try:
            return do(again)
        except (*UNREACHABLE, DBAPIError) as error:
            known = trouble(error)
            passes = known is not DAMAGED if known else isinstance(error, OperationalError) or is_away(error)
            if not passes or stop() or time.monotonic() > deadline:
                raise
            told(error)
        again = True
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def network(url: URL) -> dict[str, Any]:
    """List what libpq is to be told about waiting, for what the URL itself says nothing about."""
    return {name: value for name, value in NETWORK.items() if name not in url.query}


def limit_waiting(engine: Engine, patience_s: float | None) -> None:
    """Have every connection of a PostgreSQL engine give up in time; `patience_s` for one exchange, None without end."""
    limits = {
        "idle_in_transaction_session_timeout": 1000 * IDLE_IN_TRANSACTION_S,
        "tcp_user_timeout": 1000 * SILENCE_S,
        "tcp_keepalives_idle": SILENCE_S,
    }
    if patience_s is not None:
        limits["statement_timeout"] = round(1000 * patience_s)
    statement = "; ".join(f"SET {name} = {limit}" for name, limit in limits.items()).encode()

    @event.listens_for(engine, "do_connect")
    def _connect(_dialect: Any, _record: Any, arguments: Any, options: dict[str, Any]) -> Any:
        connection = _Connection.connect(*arguments, **(network(engine.url) | options))
        connection.patience_s = patience_s
        connection.autocommit = True
        connection.execute(statement)
        connection.autocommit = False
        return connection


class _Connection(psycopg.Connection[Any]):
    """A connection that waits for an answer no longer than its patience lasts."""

    patience_s: float | None = None

    def wait(self, gen: Any, *arguments: Any, **options: Any) -> Any:
        """Wait for one exchange with the server; called by psycopg for everything."""
        if self.patience_s is not None:
            gen = self._in_time(gen, self.patience_s)
        return super().wait(gen, *arguments, **options)

    def _in_time(self, exchange: Any, patience_s: float) -> Generator[Any, Any, Any]:
        # psycopg looks in several times a second while nothing comes, and sends 0.
        deadline = time.monotonic() + 1.5 * patience_s  # the server's own limit comes first, and says more
        ready = None
        try:
            while True:
                wanted = next(exchange) if ready is None else exchange.send(ready)
                ready = yield wanted
                if not ready and time.monotonic() > deadline:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"the database has not answered for {1.5 * patience_s:g} s")
        except StopIteration as end:
            return end.value
