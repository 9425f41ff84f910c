"""Recorded gradient statistics, by epoch and layer."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from chainrule.app.store.database import insert_rows
from chainrule.app.store.models import GradientRecord


def add(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Store records."""
    insert_rows(session, GradientRecord, rows)


def page(
    session: Session, run_id: str, after: int, limit: int, layer: int | None = None
) -> tuple[Sequence[GradientRecord], bool]:
    """Read whole epochs of records behind epoch `after`, at most `limit` epochs; and whether there are more."""
    of_run = GradientRecord.run_id == run_id
    query = select(GradientRecord.epoch).where(of_run, GradientRecord.epoch > after).distinct()
    recorded = session.scalars(query.order_by(GradientRecord.epoch).limit(limit + 1)).all()
    if not recorded:
        return (), False
    last = recorded[:limit][-1]
    records = select(GradientRecord).where(of_run, GradientRecord.epoch > after, GradientRecord.epoch <= last)
    if layer is not None:
        records = records.where(GradientRecord.layer == layer)
    # "dW" before "db", as the equations have them: upper case sorts first in every collation we name.
    ordered = records.order_by(GradientRecord.epoch, GradientRecord.layer)
    found = sorted(session.scalars(ordered).all(), key=lambda r: (r.epoch, r.layer, r.gradient))
    return found, len(recorded) > limit
