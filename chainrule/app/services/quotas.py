"""Quotas: what there is room for, of all owners together and of each."""

from sqlalchemy.orm import Session

from chainrule.app.config import Settings
from chainrule.app.errors import OwnerQueueFull, OwnerStorageFull, QueueFull, StorageFull
from chainrule.app.store import queue, storage

RETRY_AFTER_S = 5


def admit_runs(session: Session, settings: Settings, more: int = 1) -> None:
    """Refuse runs that would have to wait beside too many others.

    Concurrency: of several that are let in at the same time the last may be over the limit by its own.

    Raises:
        OwnerQueueFull: too many runs of the same owner would wait.
        QueueFull: too many runs of all owners would wait.
    """
    of_each, of_all = settings.queued_per_owner, settings.max_queued_runs
    if of_each is not None and (queued := queue.count_queued(session, of_each, own=True)) + more > of_each:
        raise OwnerQueueFull(queued, more, of_each, RETRY_AFTER_S)
    if (queued := queue.count_queued(session, of_all)) + more > of_all:
        raise QueueFull(queued, more, of_all, RETRY_AFTER_S)


def admit_bytes(session: Session, settings: Settings, more: int) -> None:
    """Refuse what there is no room for.

    Concurrency: as with runs.

    Raises:
        OwnerStorageFull: with what else its owner has stored it would be over the limit of each.
        StorageFull: with what else is stored it would be over the limit of all.
    """
    of_each, of_all = settings.max_storage_bytes_per_owner, settings.max_total_storage_bytes
    if of_each is not None and (taken := storage.total_bytes(session, own=True)) + more > of_each:
        raise OwnerStorageFull(taken, more, of_each)
    if of_all is not None and (taken := storage.total_bytes(session)) + more > of_all:
        raise StorageFull(taken, more, of_all)
