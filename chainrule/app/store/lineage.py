"""Lineage: what a run takes over from the run it extends."""

from sqlalchemy import insert, literal, select
from sqlalchemy.orm import Session

from chainrule.app.store.models import Checkpoint, Epoch, GradientRecord, ProbeRecord, ResumePoint


def copy_records(session: Session, run_id: str, to_run_id: str) -> None:
    """Copy all a run has recorded, and where it stands, to another; inside the database, whatever its size."""
    for table in (Epoch, Checkpoint, GradientRecord, ProbeRecord, ResumePoint):
        columns = table.__table__.columns
        chosen = [literal(to_run_id).label("run_id") if column.name == "run_id" else column for column in columns]
        copied = select(*chosen).where(columns.run_id == run_id)
        session.execute(insert(table).from_select([column.name for column in columns], copied))
