"""What is recorded over the probe, and all that diagnoses are made of."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from chainrule.app.store.database import insert_rows
from chainrule.app.store.models import Epoch, GradientRecord, ProbeRecord


def add(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Store records."""
    insert_rows(session, ProbeRecord, rows)


def recorded(
    session: Session, run_id: str, last: int
) -> tuple[Sequence[Epoch], Sequence[GradientRecord], dict[int, str]]:
    """Read the epochs up to `last` whose gradients are recorded, with these records and what else is recorded."""
    of_run = GradientRecord.run_id == run_id, GradientRecord.epoch <= last
    records = session.scalars(select(GradientRecord).where(*of_run).order_by(GradientRecord.epoch)).all()
    of_them = select(Epoch).where(Epoch.run_id == run_id)
    epochs = session.scalars(
        of_them.where(Epoch.epoch.in_(select(GradientRecord.epoch).where(*of_run))).order_by(Epoch.epoch)
    ).all()
    probes = select(ProbeRecord.epoch, ProbeRecord.found).where(ProbeRecord.run_id == run_id, ProbeRecord.epoch <= last)
    return epochs, records, dict(session.execute(probes).tuples().all())


def every(session: Session, run_id: str, stride: int, last: int) -> Sequence[Epoch]:
    """Read epochs 0, 1 and each `stride`-th up to `last`."""
    query = select(Epoch).where(Epoch.run_id == run_id, Epoch.epoch <= last)
    return session.scalars(query.where((Epoch.epoch % stride == 0) | (Epoch.epoch == 1)).order_by(Epoch.epoch)).all()
