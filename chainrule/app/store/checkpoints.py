"""Checkpoints: the weights at the end of epochs; and the resume point, the newest state of a run."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import Session

from chainrule.app.store.database import insert_rows
from chainrule.app.store.models import Checkpoint, Epoch, ResumePoint


def add(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Store checkpoints."""
    insert_rows(session, Checkpoint, rows)


def page(session: Session, run_id: str, after: int, limit: int) -> list[tuple[Checkpoint, Epoch]]:
    """Read up to `limit` checkpoints behind epoch `after`, each with its epoch, without the weights."""
    query = (
        _with_epoch()
        .where(Checkpoint.run_id == run_id, Checkpoint.epoch > after)
        .order_by(Checkpoint.epoch)
        .limit(limit)
    )
    return [(checkpoint, epoch) for checkpoint, epoch in session.execute(query)]


def get(session: Session, run_id: str, epoch: int) -> tuple[Checkpoint, Epoch] | None:
    """Find one checkpoint with its epoch, without the weights."""
    query = _with_epoch().where(Checkpoint.run_id == run_id, Checkpoint.epoch == epoch)
    row = session.execute(query).one_or_none()
    return None if row is None else (row[0], row[1])


def weights(session: Session, run_id: str, epoch: int) -> bytes | None:
    """Read the weights of one checkpoint: safetensors bytes."""
    query = select(Checkpoint.weights).where(Checkpoint.run_id == run_id, Checkpoint.epoch == epoch)
    return session.scalar(query)


def hashes(session: Session, run_id: str, first: int, last: int) -> dict[int, str]:
    """Read the hashes of the weights kept of some epochs."""
    query = select(Checkpoint.epoch, Checkpoint.sha256).where(Checkpoint.run_id == run_id, _between(first, last))
    return {row[0]: row[1] for row in session.execute(query)}


def kept_epochs(session: Session, run_id: str, first: int, last: int) -> Iterator[int]:
    """Name the epochs of some whose weights are kept, in their order."""
    query = select(Checkpoint.epoch).where(Checkpoint.run_id == run_id, _between(first, last))
    return iter(session.scalars(query.order_by(Checkpoint.epoch)))


def last_epoch(session: Session, run_id: str) -> int | None:
    """Find the newest checkpoint's epoch."""
    return session.scalar(select(func.max(Checkpoint.epoch)).where(Checkpoint.run_id == run_id))


def newest_up_to(session: Session, run_id: str, epoch: int) -> int | None:
    """Find the newest checkpoint's epoch that is none behind `epoch`."""
    query = select(func.max(Checkpoint.epoch)).where(Checkpoint.run_id == run_id, Checkpoint.epoch <= epoch)
    return session.scalar(query)


def best_epoch(session: Session, run_id: str) -> int | None:
    """Find the checkpoint of the lowest validation cost (lowest cost where there is none); the earliest of equals."""
    query = (
        select(Checkpoint.epoch)
        .join(Epoch, (Epoch.run_id == Checkpoint.run_id) & (Epoch.epoch == Checkpoint.epoch))
        .where(Checkpoint.run_id == run_id)
        .order_by(func.coalesce(Epoch.validation_cost, Epoch.cost), Checkpoint.epoch)
        .limit(1)
    )
    return session.scalar(query)


def drop(session: Session, run_id: str, epoch: int) -> None:
    """Drop one checkpoint."""
    session.execute(delete(Checkpoint).where(Checkpoint.run_id == run_id, Checkpoint.epoch == epoch))


def drop_older(session: Session, run_id: str, keep: int, best: int | None = None) -> None:
    """Keep the newest `keep` checkpoints, that of epoch 0, and that of the best epoch if one is named."""
    oldest_kept = (
        select(Checkpoint.epoch)
        .where(Checkpoint.run_id == run_id)
        .order_by(Checkpoint.epoch.desc())
        .offset(keep - 1)
        .limit(1)
        .scalar_subquery()
    )
    session.execute(
        delete(Checkpoint)
        .where(
            Checkpoint.run_id == run_id,
            Checkpoint.epoch < oldest_kept,
            Checkpoint.epoch > 0,
            Checkpoint.epoch != (0 if best is None else best),
        )
        .execution_options(synchronize_session=False)
    )


def put_resume_point(session: Session, run_id: str, epoch: int, step: int, content: bytes) -> None:
    """Replace the run's resume point."""
    put_resume_points(session, [{"run_id": run_id, "epoch": epoch, "step": step, "content": content}])


def put_resume_points(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Replace the resume points of several runs."""
    _drop_resume_points(session, [row["run_id"] for row in rows])
    insert_rows(session, ResumePoint, rows)


def get_resume_point(session: Session, run_id: str) -> bytes | None:
    """Read the run's resume point."""
    return session.scalar(select(ResumePoint.content).where(ResumePoint.run_id == run_id))


def resume_epoch(session: Session, run_id: str) -> int | None:
    """Tell how many epochs were completed at the run's resume point; None if it has none."""
    return session.scalar(select(ResumePoint.epoch).where(ResumePoint.run_id == run_id))


def resume_position(session: Session, run_id: str) -> tuple[int, int] | None:
    """Tell the epochs completed, and the steps of the next one, at the run's resume point; None if it has none."""
    query = select(ResumePoint.epoch, ResumePoint.step).where(ResumePoint.run_id == run_id)
    found = session.execute(query).one_or_none()
    return None if found is None else (found[0], found[1])


def drop_resume_point(session: Session, run_id: str) -> None:
    """Forget the run's resume point."""
    _drop_resume_points(session, [run_id])


def _drop_resume_points(session: Session, run_ids: Sequence[str]) -> None:
    if run_ids:
        session.execute(delete(ResumePoint).where(ResumePoint.run_id.in_(run_ids)))


def _between(first: int, last: int) -> ColumnElement[bool]:
    return Checkpoint.epoch.between(first, last)


def _with_epoch() -> Any:
    return select(Checkpoint, Epoch).join(
        Epoch, (Epoch.run_id == Checkpoint.run_id) & (Epoch.epoch == Checkpoint.epoch)
    )
