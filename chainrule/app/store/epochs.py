"""Epochs: what each came to, in order."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import and_, false, func, or_, select
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


def costs(session: Session, last: Mapping[str, int], at_most: int) -> dict[str, list[float]]:
    """Read about so many costs of each of several runs, evenly spaced, up to that of the epoch named last."""
    chosen = {
        run_id: {round(epoch * part / (at_most - 1)) for part in range(at_most)} for run_id, epoch in last.items()
    }
    which = [and_(Epoch.run_id == run_id, Epoch.epoch.in_(numbers)) for run_id, numbers in chosen.items()]
    query = select(Epoch.run_id, Epoch.cost).where(or_(false(), *which)).order_by(Epoch.run_id, Epoch.epoch)
    found: dict[str, list[float]] = {run_id: [] for run_id in last}
    for run_id, cost in session.execute(query):
        found[run_id].append(cost)
    return found


def count(session: Session, run_id: str, after: int) -> tuple[int, int]:
    """Count the epochs behind `after`; also the last one's number (-1 if none)."""
    last = func.coalesce(func.max(Epoch.epoch), -1)
    query = select(func.count(), last).where(Epoch.run_id == run_id, Epoch.epoch > after)
    total, number = session.execute(query).one()
    return total, number
