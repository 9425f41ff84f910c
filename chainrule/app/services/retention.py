"""Retention: what is kept for how long, and is removed then; a little at a time."""

import threading
from collections.abc import Iterable
from datetime import timedelta

from chainrule.app.config import Settings
from chainrule.app.store import deletions, idempotency
from chainrule.app.store.database import Database, now

AT_ONCE = 100


def tidy(database: Database, settings: Settings, stopping: threading.Event | None = None) -> bool:
    """Remove some of what has been kept long enough, or less if it is to stop; whether there is more.

    Repeating it, at any time and by anybody, is harmless.
    """
    before = now() - timedelta(seconds=settings.deleted_retention_s)
    with database.writing(announce=False) as session:
        deletions.condemn(session, before, AT_ONCE)
        idempotency.forget(session, now() - timedelta(seconds=settings.idempotency_retention_s))
    with database.reading() as session:
        condemned = deletions.condemned(session, AT_ONCE)
    purge(database, condemned, stopping)
    return len(condemned) == AT_ONCE


def purge(database: Database, run_ids: Iterable[str], stopping: threading.Event | None = None) -> None:
    """Remove condemned runs with all they recorded, in as many transactions as that takes."""
    for run_id in run_ids:
        removed = False
        while not removed:
            if stopping is not None and stopping.is_set():
                return
            with database.writing(announce=False) as session:
                removed = deletions.remove_some(session, run_id)
