"""The one database: engine, transactions, time and identifiers."""

import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from copy import copy
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Self

import psycopg
from sqlalchemy import Connection, CursorResult, DateTime, Double, Engine, create_engine, event, literal, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from chainrule.app.store import visibility
from chainrule.app.store.outages import UNREACHABLE as UNREACHABLE
from chainrule.app.store.outages import Outage, limit_waiting
from chainrule.app.store.troubles import READ_ONLY, trouble

CHANNEL = "chainrule"
BUSY_TIMEOUT_S = 60.0
_BINARY = {str: "text", int: "int8", float: "float8", bytes: "bytea"}
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


class from_now(FunctionElement[datetime]):  # noqa: N801
    """The time in so many seconds by the database's own clock, which is the same for all who compare with it."""

    inherit_cache = True
    type = DateTime(timezone=True)

    def __init__(self, seconds: float) -> None:
        super().__init__(literal(seconds, Double()))


@compiles(from_now, "sqlite")
def _from_now_sqlite(element: from_now, compiler: SQLCompiler, **options: Any) -> str:
    return f"strftime('%Y-%m-%d %H:%M:%f', 'now', {compiler.process(element.clauses, **options)} || ' seconds')"


@compiles(from_now, "postgresql")
def _from_now_postgresql(element: from_now, compiler: SQLCompiler, **options: Any) -> str:
    return f"statement_timestamp() + make_interval(secs => {compiler.process(element.clauses, **options)})"


_newest_ms = 0


def new_id(prefix: str) -> str:
    """Make an identifier that sorts by its time of making: 48 bits of milliseconds, 80 of randomness.

    Of one process they sort so even if its clock is put back meanwhile.
    """
    global _newest_ms
    _newest_ms = max(_newest_ms + 1, time.time_ns() // 1_000_000)
    number = _newest_ms << 80 | secrets.randbits(80)
    return f"{prefix}_" + "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


class Database:
    """Opens transactions on SQLite or PostgreSQL and tells listeners in this process of each commit.

    Use `reading()` for queries and `writing()` for changes; code inside never commits. On SQLite a
    reader takes a plain `BEGIN` (a snapshot, never blocked) and a writer `BEGIN IMMEDIATE`, which
    waits its turn instead of failing half-way with "database is locked".

    A commit outlives the machine's loss of power, unless `durable` is false: then, on SQLite, the
    newest ones may be undone by it, in order. That does for what can be computed again.

    `patience_s` bounds the wait for one answer, and for a turn to write on SQLite; without it a
    statement of PostgreSQL may take as long as it takes.
    """

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 10,
        max_overflow: int = 40,
        durable: bool = True,
        patience_s: float | None = None,
    ) -> None:
        self.url = make_url(url)
        if self.url.drivername in ("postgresql", "postgres"):
            self.url = self.url.set(drivername="postgresql+psycopg")
        self.sqlite = self.url.get_backend_name() == "sqlite"
        if self.sqlite:
            if not self.url.database or self.url.database == ":memory:":
                raise ValueError("the database must be a file, for example sqlite:///chainrule.sqlite3")
            Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
        wait_s = patience_s or BUSY_TIMEOUT_S
        self.engine: Engine = create_engine(
            self.url,
            pool_size=pool_size,
            max_overflow=max_overflow,
            pool_timeout=wait_s,
            connect_args={"timeout": wait_s, "check_same_thread": False} if self.sqlite else {},
            pool_pre_ping=not self.sqlite,
        )
        # A file is never away as a server is: who waits for its turn to write keeps no one from reading.
        self._outage = nullcontext if self.sqlite else Outage().watched
        self._wait_s = wait_s
        self._turn = partial(_turn, Lock()) if self.sqlite else nullcontext
        self._listeners: list[Callable[[], None]] = []
        writer = self.engine
        if self.sqlite:
            event.listen(self.engine, "connect", partial(_prepare_sqlite, "FULL" if durable else "NORMAL"))
            event.listen(self.engine, "begin", _begin_sqlite)
            writer = self.engine.execution_options(sqlite_begin="BEGIN IMMEDIATE", sqlite_wait_s=wait_s)
        else:
            limit_waiting(self.engine, patience_s)
        self._reading = sessionmaker(self.engine, expire_on_commit=False, autoflush=False)
        self._writing = sessionmaker(writer, expire_on_commit=False, autoflush=False)
        self.owner: str | None = None
        self.noted: Callable[[Session], None] | None = None
        for sessions in (self._reading, self._writing):
            event.listen(sessions, "do_orm_execute", visibility.only_own)
            event.listen(sessions, "before_flush", visibility.stamp)

    def of(self, owner: str) -> Self:
        """Give the same database as an owner sees it: what belongs to others is not there."""
        seen = copy(self)
        seen.owner = owner
        return seen

    def noting(self, note: Callable[[Session], None]) -> Self:
        """Give the same database, where `note` has its say at the end of each transaction that writes."""
        noting = copy(self)
        noting.noted = note
        return noting

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a transaction that only reads."""
        with self._outage(), self._reading(info=self._info()) as session, session.begin():
            yield session

    @contextmanager
    def writing(self, *, announce: bool = True, patience_s: float | None = None) -> Iterator[Session]:
        """Open a transaction that writes; on commit wake whoever follows the database, if `announce`.

        `patience_s` is for those who would rather come again than wait longer for others that write.
        """
        with self._permission_to_write(patience_s or self._wait_s), self._writing(info=self._info()) as session:
            with session.begin():
                if patience_s is not None:
                    self._wait_at_most(session, patience_s)
                yield session
                if self.noted is not None:
                    self.noted(session)
                if announce:
                    self.announce(session)
            if session.info.get("announced"):
                self.wake()

    @contextmanager
    def migrating(self) -> Iterator[Connection]:
        """Open a transaction that may change the schema.

        SQLite changes some things by copying a table and dropping the old one, which must not delete what refers to
        its rows; that can be said outside of a transaction only.
        """
        with self._outage(), self.engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            if self.sqlite:
                connection = connection.execution_options(sqlite_begin="BEGIN IMMEDIATE")
                driver.execute("PRAGMA foreign_keys=OFF")
            try:
                with connection.begin():
                    yield connection
            finally:
                if self.sqlite:
                    driver.execute("PRAGMA foreign_keys=ON")

    @contextmanager
    def _permission_to_write(self, wait_s: float) -> Iterator[None]:
        """Wait for a turn; and connect anew where only reading is allowed: another server may take writes by now."""
        try:
            with self._turn(wait_s), self._outage():
                yield
        except DBAPIError as error:
            if trouble(error) is READ_ONLY and not self.sqlite:
                self.engine.dispose()
            raise

    def _wait_at_most(self, session: Session, seconds: float) -> None:
        if self.sqlite:
            session.connection(execution_options={"sqlite_wait_s": seconds})
        else:
            session.execute(text(f"SET LOCAL lock_timeout = {round(1000 * seconds)}"))

    def announce(self, session: Session) -> None:
        """Have this transaction's commit wake whoever follows the database."""
        session.info["announced"] = True
        if not self.sqlite:
            session.execute(text(f"NOTIFY {CHANNEL}"))

    def on_commit(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each announced commit of this process."""
        self._listeners.append(listener)

    def wake(self) -> None:
        """Tell this process's listeners that the database has changed."""
        for listener in self._listeners:
            listener()

    def dispose(self) -> None:
        """Close all pooled connections, and those in use by some thread as soon as they come back.

        Whoever asks afterwards gets new ones, pooled as before.
        """
        left = self.engine.pool
        self.engine.dispose()
        event.listen(left, "checkin", _close)

    def _info(self) -> dict[str, Any]:
        return {visibility.OWNER: self.owner}


def _close(connection: Any, record: ConnectionPoolEntry) -> None:
    if connection is not None:
        record.invalidate()


def touched(session: Session, statement: Any) -> int:
    """Carry out an update or a deletion and tell how many rows it found; what the session has read stays as read."""
    result = session.execute(statement, execution_options={"synchronize_session": False})
    assert isinstance(result, CursorResult)
    return result.rowcount


def insert_rows(session: Session, table: type[DeclarativeBase], rows: Sequence[dict[str, Any]]) -> None:
    """Insert many rows of numbers, texts and bytes.

    They go to the driver as they are, by `COPY` on PostgreSQL: preparing each of thousands of rows a
    second would cost more than the database does.
    """
    if not rows:
        return
    connection, name, columns = session.connection(), table.__tablename__, ", ".join(rows[0])
    values = (tuple(row.values()) for row in rows)
    if connection.dialect.name == "sqlite":
        places = ", ".join("?" * len(rows[0]))
        connection.exec_driver_sql(f"INSERT INTO {name} ({columns}) VALUES ({places})", [*values])  # noqa: S608
        return
    driver: Any = connection.connection.driver_connection
    statement = f"COPY {name} ({columns}) FROM STDIN (FORMAT BINARY)"
    types = [_BINARY[table.__table__.c[column].type.python_type] for column in rows[0]]
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(types)
            for row in values:
                copy.write_row(row)
    except psycopg.Error as error:
        raise DBAPIError.instance(
            statement, None, error, psycopg.Error, connection_invalidated=driver.broken
        ) from error


def _prepare_sqlite(synchronous: str, connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    driver: Any = connection
    driver.isolation_level = None  # we send BEGIN ourselves; sqlite3 would send it too late
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", f"synchronous={synchronous}", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


@contextmanager
def _turn(lock: Lock, wait_s: float) -> Iterator[None]:
    """Have one thread of this process write at a time.

    SQLite lets those who wait for its lock try again now and then, in no order: of many, some would never get it.
    """
    if not lock.acquire(timeout=wait_s):
        busy = sqlite3.OperationalError("database is locked")
        busy.sqlite_errorcode = sqlite3.SQLITE_BUSY
        raise OperationalError("BEGIN IMMEDIATE", None, busy)
    try:
        yield
    finally:
        lock.release()


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    if (wait_s := options.get("sqlite_wait_s")) is not None:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {round(1000 * wait_s)}")
    connection.exec_driver_sql(options.get("sqlite_begin", "BEGIN"))
