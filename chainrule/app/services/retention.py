"""Retention: what is kept for how long, and is removed then; a little at a time."""

import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta

from sqlalchemy.orm import Session

from chainrule.app.config import Settings
from chainrule.app.store import deletions, idempotency, storage, webhooks
from chainrule.app.store.database import Database, now

AT_ONCE = 100
MOST_DELIVERIES = 10_000


def tidy(database: Database, settings: Settings, stopping: threading.Event | None = None) -> bool:
    """Remove some of what has been kept long enough, or less if it is to stop; whether there is more.

    Repeating it, at any time and by anybody, is harmless.
    """
    before = now() - timedelta(seconds=settings.deleted_retention_s)
    with database.writing(announce=False) as session:
        deletions.condemn(session, before, AT_ONCE)
        webhooks.forget(session, now() - timedelta(seconds=settings.webhook_history_s), MOST_DELIVERIES)
        idempotency.forget(session, now() - timedelta(seconds=settings.idempotency_retention_s))
    with database.reading() as session:
        condemned = deletions.condemned(session, AT_ONCE)
    purge(database, condemned, stopping)
    old: Sequence[str] = ()
    if settings.bulk_retention_s is not None:
        with database.reading() as session:
            old = storage.to_thin(session, now() - timedelta(seconds=settings.bulk_retention_s), AT_ONCE)
        _in_pieces(database, storage.thin_some, old, stopping)
    with database.reading() as session:
        unmeasured = storage.unmeasured(session, AT_ONCE)
    for run_id in unmeasured:
        with database.writing(announce=False) as session:
            storage.measure(session, run_id)
    return AT_ONCE in (len(condemned), len(old), len(unmeasured))


def purge(database: Database, run_ids: Iterable[str], stopping: threading.Event | None = None) -> None:
    """Remove condemned runs with all they recorded, in as many transactions as that takes."""
    _in_pieces(database, deletions.remove_some, run_ids, stopping)


def _in_pieces(
    database: Database,
    do_some: Callable[[Session, str], bool],
    run_ids: Iterable[str],
    stopping: threading.Event | None,
) -> None:
    for run_id in run_ids:
        done = False
        while not done:
            if stopping is not None and stopping.is_set():
                return
            with database.writing(announce=False) as session:
                done = do_some(session, run_id)
