"""Backups of a SQLite database: taken while it is in use, whole or not at all, and put back where nothing is."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import select

from chainrule.app.run_status import Reason, RunStatus
from chainrule.app.store import attempts
from chainrule.app.store.attempts import Attempt
from chainrule.app.store.database import Database
from chainrule.app.store.migrations import upgrade
from chainrule.app.store.models import Run
from chainrule.app.store.troubles import DAMAGED, trouble_of

CHECKED_BYTES = 256 << 20
"""Up to this size a database is checked whenever it is opened to be served; it takes a second and a half a GB."""


class Refused(Exception):
    """It cannot be done; says why and what would help."""


def check(path: Path) -> None:
    """Read the whole file and insist that it is a sound SQLite database.

    Raises:
        Refused: it is not.
    """
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        if trouble_of(error) is not DAMAGED:
            raise
        found = str(error)
    if found != "ok":
        raise Refused(f"{path} is damaged, or no SQLite database at all: {' '.join(found.split())}")


def backup(database: Database, target: Path) -> None:
    """Write a copy of the database as it is at one moment; those who write it go on meanwhile.

    Raises:
        Refused: it is no SQLite database, or the target is there already, or the copy is not sound.
        OSError: the target cannot be written.
    """
    source = _file(database)
    if not source.exists():
        raise Refused(f"there is no database at {source}; CHAINRULE_DATABASE_URL names another one")
    _insist_on_nothing_at(target, "a backup never overwrites a file")
    draft = target.with_name(target.name + ".part")
    draft.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(source, isolation_level=None)) as connection:
            connection.execute("VACUUM INTO ?", (str(draft),))
        check(draft)
        _keep(draft, target)
    finally:
        draft.unlink(missing_ok=True)


def restore(database: Database, source: Path) -> int:
    """Put a backup where the database is to be, and the runs that were being trained back into the queue.

    Returns:
        How many runs that were; their attempts ended with the old database, and none is counted as lost.

    Raises:
        Refused: there is a database already, or the backup is not sound.
        OSError: nothing can be written there.
    """
    target = _file(database)
    if not source.exists():
        raise Refused(f"there is no file {source}")
    for path in (target, *(target.with_name(target.name + end) for end in ("-wal", "-shm"))):
        _insist_on_nothing_at(path, "stop the service and move it away, with its -wal and -shm if there are any")
    check(source)
    draft = target.with_name(target.name + ".part")
    draft.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            connection.execute("VACUUM INTO ?", (str(draft),))
        _keep(draft, target)
    finally:
        draft.unlink(missing_ok=True)
    upgrade(database)
    with database.writing() as session:
        running = session.execute(select(Run.id, Run.attempt_id).where(Run.status == RunStatus.RUNNING)).all()
        for run_id, attempt_id in running:
            attempt = Attempt(run_id, attempt_id or "")
            attempts.end_attempt(session, attempt, RunStatus.QUEUED, Reason.DRAINED, "restored from a backup")
    return len(running)


def _file(database: Database) -> Path:
    if not database.sqlite:
        raise Refused("this is for SQLite; PostgreSQL has pg_dump and pg_restore (docs/operations.md)")
    return Path(str(database.url.database))


def _insist_on_nothing_at(path: Path, hint: str) -> None:
    if path.exists():
        raise Refused(f"{path} is there already; {hint}")


def _keep(draft: Path, target: Path) -> None:
    """Give a file that is whole its name, so that it outlives a loss of power."""
    for path in (draft, draft.parent):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if path == draft:
            draft.replace(target)
