"""Runs: how they are stored, found and listed, and what is asked of them: to stop, to pause and to go on."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.orm import Session

from chainrule.app.run_status import Reason, RunStatus
from chainrule.app.store.database import now, touched
from chainrule.app.store.models import Run, RunAttempt, RunTransition
from chainrule.app.store.transitions import record


@dataclass(frozen=True)
class Trained:
    """A run in training: whose it is, who trains it, and how far it has come."""

    owner: str
    worker: str | None
    id: str
    name: str
    epochs_done: int
    epochs_total: int


def add(session: Session, run: Run) -> None:
    """Store a new run with its first transition."""
    session.add(run)
    session.flush()
    record(session, run.id, RunStatus.QUEUED, Reason.SUBMITTED, "", None, None, run.created_at)


def get(session: Session, run_id: str) -> Run | None:
    """Find one run."""
    return session.get(Run, run_id)


def hold(session: Session, run_id: str) -> Run | None:
    """Find one run and keep it as it is until this transaction ends."""
    return session.get(Run, run_id, with_for_update=True)


def page(
    session: Session,
    *,
    limit: int,
    cursor_id: str | None = None,
    statuses: Iterable[str] = (),
    name: str | None = None,
    search: str | None = None,
    dataset: str | None = None,
    verifies: str | None = None,
    deleted: bool = False,
    newest_first: bool = True,
) -> Sequence[Run]:
    """Read one page of runs in the order of submission (ids sort by time), from behind `cursor_id`.

    Verifications are listed for the run they verify, and nowhere else. Deleted runs that can be restored are listed
    by themselves.
    """
    query = select(Run).where(Run.verifies.is_(None) if verifies is None else Run.verifies == verifies)
    query = query.where(Run.deleted_at.is_not(None) if deleted else Run.deleted_at.is_(None), Run.purging.is_(False))
    if cursor_id is not None:
        query = query.where(Run.id < cursor_id if newest_first else Run.id > cursor_id)
    if chosen := list(statuses):
        query = query.where(Run.status.in_(chosen))
    if name is not None:
        query = query.where(Run.name == name)
    if search:
        # Both sides are made small by the database: SQLite does so with ASCII letters only, and Python with all.
        literal_text = re.sub(r"([/%_])", r"/\1", search)
        within = [
            func.lower(column).like(func.lower(f"%{literal_text}%"), escape="/") for column in (Run.name, Run.dataset)
        ]
        query = query.where(or_(*within, Run.id == search))
    if dataset is not None:
        query = query.where(Run.dataset == dataset)
    order = Run.id.desc() if newest_first else Run.id.asc()
    return session.scalars(query.order_by(order).limit(limit)).all()


def transitions(session: Session, run_id: str) -> Sequence[RunTransition]:
    """Read the history of a run's states, oldest first."""
    query = select(RunTransition).where(RunTransition.run_id == run_id).order_by(RunTransition.position)
    return session.scalars(query).all()


def attempts(session: Session, run_id: str) -> Sequence[RunAttempt]:
    """Read a run's attempts, the first one first."""
    query = select(RunAttempt).where(RunAttempt.run_id == run_id).order_by(RunAttempt.number)
    return session.scalars(query).all()


def watch(session: Session, run_ids: Iterable[str]) -> dict[str, tuple[str, int, int]]:
    """Look at many runs at once: id to (status, revision, epochs_done)."""
    there = [Run.id.in_(list(run_ids)), Run.deleted_at.is_(None)]
    query = select(Run.id, Run.status, Run.revision, Run.epochs_done).where(*there)
    return {run_id: (status, revision, epochs) for run_id, status, revision, epochs in session.execute(query)}


def count_by_status(session: Session) -> dict[str, int]:
    """Count the runs in each status that any is in."""
    query = select(Run.status, func.count()).where(Run.deleted_at.is_(None)).group_by(Run.status)
    counted = session.execute(query)
    return {status: number for status, number in counted}  # noqa: C416


def running(session: Session, limit: int) -> list[Trained]:
    """Read what is trained now, the oldest first."""
    query = select(Run.owner, Run.worker, Run.id, Run.name, Run.epochs_done, Run.epochs_total)
    found = session.execute(query.where(Run.status == RunStatus.RUNNING).order_by(Run.id).limit(limit))
    return [Trained(*row) for row in found]


def uses_dataset(session: Session, dataset: str) -> bool:
    """Whether any run trains or validates on this dataset."""
    query = select(Run.id).where(or_(Run.dataset == dataset, Run.validation_dataset == dataset)).limit(1)
    return session.scalar(query) is not None


def cancel_queued(session: Session, run_id: str) -> bool:
    """Cancel a waiting or paused run at once; False if it is neither any more."""
    cancelled = (
        update(Run)
        .where(Run.id == run_id, Run.status.in_((RunStatus.QUEUED, RunStatus.PAUSED)))
        .values(
            status=RunStatus.CANCELLED,
            reason=Reason.CANCEL_REQUESTED,
            cancel_requested=True,
            finished_at=now(),
            revision=Run.revision + 1,
        )
    )
    moved = touched(session, cancelled) > 0
    if moved:
        record(session, run_id, RunStatus.CANCELLED, Reason.CANCEL_REQUESTED, "", None, None, now())
    return moved


def request_cancel(session: Session, run_id: str) -> bool:
    """Note the wish to cancel a running run; False if it is not running or the wish is known."""
    return _note(session, run_id, Run.cancel_requested.is_(False), cancel_requested=True)


def pause_queued(session: Session, run_id: str) -> bool:
    """Take a waiting run out of the queue; False if it is not waiting any more."""
    return _move(session, run_id, RunStatus.QUEUED, RunStatus.PAUSED, Reason.PAUSE_REQUESTED)


def request_pause(session: Session, run_id: str) -> bool:
    """Note the wish to pause a running run; False if it is not running or the wish is known."""
    return _note(session, run_id, Run.pause_requested.is_(False), pause_requested=True)


def resume(session: Session, run_id: str) -> bool:
    """Put a paused run back into the queue, or withdraw the wish to pause a running one; False if it is neither."""
    if _move(session, run_id, RunStatus.PAUSED, RunStatus.QUEUED, Reason.RESUMED):
        return True
    return _note(session, run_id, Run.pause_requested.is_(True), pause_requested=False)


def _note(session: Session, run_id: str, before: ColumnElement[bool], **wish: bool) -> bool:
    """Note what is wished of a running run; False if it is not running, or `before` is not true of it."""
    wished = update(Run).where(Run.id == run_id, Run.status == RunStatus.RUNNING, before)
    return touched(session, wished.values(**wish, revision=Run.revision + 1)) > 0


def _move(session: Session, run_id: str, before: RunStatus, after: RunStatus, reason: Reason) -> bool:
    """Take a run that nobody holds from one state to another; False if it is not in the first."""
    step = update(Run).where(Run.id == run_id, Run.status == before)
    moved = touched(session, step.values(status=after, reason=reason, detail="", revision=Run.revision + 1)) > 0
    if moved:
        record(session, run_id, after, reason, "", None, None, now())
    return moved
