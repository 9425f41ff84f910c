"""Inputs: how each run maps raw features to its network's input, beside the run because it may be long."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from chainrule.app.store.models import RunInputs


def add(session: Session, run_id: str, fitted: dict[str, Any]) -> None:
    """Store what was fitted for a run; it never changes."""
    session.add(RunInputs(run_id=run_id, fitted=fitted))


def get(session: Session, run_id: str) -> dict[str, Any] | None:
    """Find what was fitted for a run; None if its features go in as they are."""
    return session.scalar(select(RunInputs.fitted).where(RunInputs.run_id == run_id))
