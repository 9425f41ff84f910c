"""Storage: how much room runs and datasets take, and which runs have more than is to be kept of them."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import and_, func, select, update
from sqlalchemy.orm import Session

from chainrule.app.run_status import RunStatus
from chainrule.app.store import checkpoints, deletions
from chainrule.app.store.database import now
from chainrule.app.store.models import Checkpoint, Dataset, GradientRecord, ProbeRecord, ResumePoint, Run
from chainrule.app.store.visibility import EVERYBODY

EPOCH_BYTES = 150
RECORD_BYTES = 130
_ENDED = [status for status in RunStatus if status.terminal]


def total_bytes(session: Session, *, own: bool = False) -> int:
    """Sum up what datasets and runs of all owners take, or the session's own; as estimated where not yet measured."""
    of_runs = select(func.sum(func.coalesce(Run.stored_bytes, Run.estimated_bytes, 0)))
    of_datasets = select(func.sum(Dataset.size_bytes))
    of = {} if own else EVERYBODY
    return sum(int(session.scalar(query, execution_options=of) or 0) for query in (of_runs, of_datasets))


def unmeasured(session: Session, most: int) -> Sequence[str]:
    """Name runs that have ended and were not measured since."""
    query = select(Run.id).where(Run.status.in_(_ENDED), Run.stored_bytes.is_(None)).order_by(Run.id).limit(most)
    return session.scalars(query).all()


def measure(session: Session, run_id: str) -> None:
    """Note how much room an ended run takes: what it has stored, and the usual size of a row for each number kept."""
    weights = session.scalar(select(func.sum(Checkpoint.size_bytes)).where(Checkpoint.run_id == run_id))
    point = session.scalar(select(func.length(ResumePoint.content)).where(ResumePoint.run_id == run_id))
    records = session.scalar(select(func.count()).where(GradientRecord.run_id == run_id))
    probes = session.scalar(select(func.sum(func.length(ProbeRecord.found))).where(ProbeRecord.run_id == run_id))
    size = int(weights or 0) + (point or 0) + RECORD_BYTES * (records or 0) + int(probes or 0)
    measured = update(Run).where(Run.id == run_id, Run.stored_bytes.is_(None), Run.status.in_(_ENDED))
    session.execute(
        measured.values(stored_bytes=size + EPOCH_BYTES * (Run.epochs_done + 1)).execution_options(
            synchronize_session=False
        )
    )


def to_thin(session: Session, before: datetime, most: int) -> Sequence[str]:
    """Name runs that ended before a moment and still have all they kept."""
    query = select(Run.id).where(
        Run.finished_at < before, Run.thinned_at.is_(None), Run.deleted_at.is_(None), Run.verifies.is_(None)
    )
    return session.scalars(query.order_by(Run.finished_at).limit(most)).all()


def thin_some(session: Session, run_id: str) -> bool:
    """Drop some of what is no longer kept of an ended run; True if that was the rest of it.

    Left are the weights of its last epoch, its best and the one it ends with, and the statistics of these epochs.

    Concurrency: several may do so at once; the row of the run makes them take turns.
    """
    run = session.scalar(
        select(Run)
        .where(Run.id == run_id, Run.thinned_at.is_(None), Run.deleted_at.is_(None), Run.status.in_(_ENDED))
        .with_for_update()
    )
    if run is None:
        return True
    kept = {checkpoints.last_epoch(session, run_id), checkpoints.best_epoch(session, run_id), run.best_epoch}
    epochs = [epoch for epoch in kept if epoch is not None]
    if deletions.drop_checkpoints(session, and_(Checkpoint.run_id == run_id, Checkpoint.epoch.not_in(epochs))):
        return False
    for table in (GradientRecord, ProbeRecord):
        if deletions.drop_rows(session, table, and_(table.run_id == run_id, table.epoch.not_in(epochs))):
            return False
    run.thinned_at, run.stored_bytes, run.revision = now(), None, run.revision + 1
    return True
