"""Epochs: what each came to, in order."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from chainrule.app.store.database import insert_rows
from chainrule.app.store.models import Epoch


def add(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Store epochs; one that is there already is an error, for no epoch happens twice."""
    insert_rows(session, Epoch, rows)


def page(session: Session, run_id: str, after: int, limit: int) -> Sequence[Epoch]:
    """Read up to `limit` epochs behind `after`."""
    query = select(Epoch).where(Epoch.run_id == run_id, Epoch.epoch > after).order_by(Epoch.epoch).limit(limit)
    return session.scalars(query).all()


def every(session: Session, run_id: str, after: int, stride: int, last: int) -> Sequence[Epoch]:
    """Read each `stride`-th epoch behind `after`, and the last."""
    query = (
        select(Epoch)
        .where(Epoch.run_id == run_id, Epoch.epoch > after)
        .where(((Epoch.epoch - (after + 1)) % stride == 0) | (Epoch.epoch == last))
        .order_by(Epoch.epoch)
    )
    return session.scalars(query).all()


def count(session: Session, run_id: str, after: int) -> tuple[int, int]:
    """Count the epochs behind `after`; also the last one's number (-1 if none)."""
    last = func.coalesce(func.max(Epoch.epoch), -1)
    query = select(func.count(), last).where(Epoch.run_id == run_id, Epoch.epoch > after)
    total, number = session.execute(query).one()
    return total, number
