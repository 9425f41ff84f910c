"""Deletions: runs and sweeps are marked as deleted first, can be restored, and are removed for good later.

What is removed for good is removed in pieces, for checkpoints of gigabytes in one transaction would keep
every other writer waiting. So a run is condemned first: from then on nothing brings it back.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, func, select, true, update
from sqlalchemy.orm import Session

from chainrule.app.run_status import RunStatus
from chainrule.app.store.database import now, touched
from chainrule.app.store.models import Checkpoint, Epoch, GradientRecord, ProbeRecord, Run, Sweep

MOST_BYTES = 32 * 2**20
MOST_ROWS = 20_000


def mark_run(session: Session, run_id: str, *, for_good: bool = False) -> bool:
    """Mark one run as deleted, for good or not; False if it has not ended, or that has been done."""
    return _mark(session, Run.id == run_id, now(), for_good=for_good) > 0


def restore_run(session: Session, run_id: str) -> bool:
    """Bring a deleted run back; False if it is not deleted, or condemned by now."""
    return _restore(session, Run.id == run_id) > 0


def mark_sweep(session: Session, sweep: Sweep, *, for_good: bool = False) -> list[str]:
    """Mark a sweep as deleted, with all its runs, which have ended; name the runs.

    Those that were deleted before by themselves are not restored with it.
    """
    at = now()
    ids = list(session.scalars(select(Run.id).where(Run.sweep_id == sweep.id)))
    _mark(session, Run.sweep_id == sweep.id, at, for_good=for_good)
    if for_good:
        session.execute(delete(Sweep).where(Sweep.id == sweep.id))
    else:
        sweep.deleted_at = at
    return ids


def restore_sweep(session: Session, sweep: Sweep) -> None:
    """Bring a deleted sweep back, with the runs that were deleted with it and are still there."""
    _restore(session, and_(Run.sweep_id == sweep.id, Run.deleted_at == sweep.deleted_at))
    sweep.deleted_at = None


def condemn(session: Session, before: datetime, most: int) -> None:
    """Condemn what was deleted before a moment, up to so many runs; sweeps, which are small, go at once."""
    old = and_(Run.deleted_at < before, Run.purging.is_(False))
    chosen = select(Run.id).where(old).order_by(Run.deleted_at).limit(most)
    session.execute(_quietly(update(Run).where(Run.id.in_(chosen), old).values(purging=True)))
    session.execute(_quietly(delete(Sweep).where(Sweep.deleted_at < before)))


def condemned(session: Session, most: int) -> Sequence[str]:
    """Name runs that are to be removed."""
    query = select(Run.id).where(Run.deleted_at.is_not(None), Run.purging).order_by(Run.deleted_at).limit(most)
    return session.scalars(query).all()


def remove_some(session: Session, run_id: str) -> bool:
    """Remove a piece of a condemned run; True if that was the rest of it, or there is none.

    Concurrency: several may do so at once; the row of the run makes them take turns.
    """
    held = select(Run.id).where(Run.id == run_id, Run.purging).with_for_update()
    if session.scalar(held) is None:
        return True
    if drop_checkpoints(session, Checkpoint.run_id == run_id):
        return False
    for table in (GradientRecord, ProbeRecord, Epoch):
        if drop_rows(session, table, table.run_id == run_id):
            return False
    session.execute(_quietly(delete(Run).where(Run.id == run_id, Run.purging)))
    return True


def drop_checkpoints(session: Session, which: ColumnElement[bool]) -> int:
    """Drop some of one run's checkpoints, the first ones, of at most `MOST_BYTES` together but one; tell how many."""
    query = select(Checkpoint.epoch, Checkpoint.size_bytes).where(which).order_by(Checkpoint.epoch).limit(MOST_ROWS)
    size, last = 0, None
    for epoch, size_bytes in session.execute(query).all():
        size += size_bytes
        if last is not None and size > MOST_BYTES:
            break
        last = epoch
    if last is None:
        return 0
    return touched(session, delete(Checkpoint).where(which, Checkpoint.epoch <= last))


def drop_rows(session: Session, table: type[Epoch | GradientRecord | ProbeRecord], which: ColumnElement[bool]) -> int:
    """Drop some of one run's rows, whole epochs of about `MOST_ROWS` together, the first ones; tell how many."""
    beyond = select(table.epoch).where(which).order_by(table.epoch).offset(MOST_ROWS).limit(1)
    end = session.scalar(beyond)
    return touched(session, delete(table).where(which, true() if end is None else table.epoch <= end))


def _mark(session: Session, which: ColumnElement[bool], at: datetime, *, for_good: bool) -> int:
    standing = Run.purging.is_(False) if for_good else Run.deleted_at.is_(None)
    ended = Run.status.in_([status for status in RunStatus if status.terminal])
    values = {"deleted_at": func.coalesce(Run.deleted_at, at), "purging": for_good, "revision": Run.revision + 1}
    return touched(session, update(Run).where(which, ended, standing).values(**values))


def _restore(session: Session, which: ColumnElement[bool]) -> int:
    deleted = and_(Run.deleted_at.is_not(None), Run.purging.is_(False))
    return touched(session, update(Run).where(which, deleted).values(deleted_at=None, revision=Run.revision + 1))


def _quietly(statement: Any) -> Any:
    return statement.execution_options(synchronize_session=False)
