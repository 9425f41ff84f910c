"""Troubles: a full disk, a damaged file, a database that can only be read; how it says so, and the way out."""

import sqlite3
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError


@dataclass(frozen=True)
class Trouble:
    """Why the database cannot do its work, though it is there."""

    cause: str
    detail: str
    full: bool = False


FULL = Trouble(
    "disk_full",
    "The disk under the database is full. Make room on it; what was acknowledged is kept, running runs train on "
    "and are written down when there is room again.",
    full=True,
)
READ_ONLY = Trouble(
    "read_only",
    "The database can only be read. Make its file and folder writable for the service, or name the server that "
    "takes writes (setting CHAINRULE_DATABASE_URL).",
)
DAMAGED = Trouble(
    "damaged",
    "The database file is damaged, or no SQLite database at all. Stop the service and restore a backup: "
    "chainrule restore-backup FILE.",
)
FAILING = Trouble(
    "disk_failing",
    "The disk under the database fails to read or write. Look into the system's log; stop the service before the "
    "disk is repaired or replaced.",
)
BUSY = Trouble(
    "busy",
    "Another process has kept the database from being written for too long. End whatever holds it open in a "
    "transaction, such as a database shell.",
)
CANNOT_OPEN = Trouble(
    "cannot_open",
    "The database file cannot be opened: its folder must be there, and the service must be able to write to it.",
)
_SQLITE = {
    sqlite3.SQLITE_CANTOPEN: CANNOT_OPEN,
    sqlite3.SQLITE_FULL: FULL,
    sqlite3.SQLITE_READONLY: READ_ONLY,
    sqlite3.SQLITE_PERM: READ_ONLY,
    sqlite3.SQLITE_CORRUPT: DAMAGED,
    sqlite3.SQLITE_NOTADB: DAMAGED,
    sqlite3.SQLITE_IOERR: FAILING,
    sqlite3.SQLITE_BUSY: BUSY,
    sqlite3.SQLITE_LOCKED: BUSY,
}
_POSTGRESQL = {
    "53100": FULL,
    "25006": READ_ONLY,
    "XX001": DAMAGED,
    "XX002": DAMAGED,
    "58030": FAILING,
    "57014": BUSY,
    "55P03": BUSY,
}


def trouble(error: BaseException) -> Trouble | None:
    """Tell what trouble the database is in; None if this is none, or it is simply away."""
    return trouble_of(error.orig) if isinstance(error, DBAPIError) else None


def trouble_of(error: BaseException | None) -> Trouble | None:
    """Tell the trouble from what the driver raised."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        return _SQLITE.get(code & 0xFF)
    return _POSTGRESQL.get(getattr(error, "sqlstate", None) or "")


def explained(error: BaseException) -> str:
    """Say what the database said, without the statement it said it of, and the way out if we know one."""
    said = " ".join(str(getattr(error, "orig", None) or error).split())
    known = trouble(error) or trouble_of(error)
    return f"{said}. {known.detail}" if known else said
