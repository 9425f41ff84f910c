"""Transitions: the history of a run's states, each noted in the transaction that makes it; webhooks are told of it."""

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, case, func, insert, literal, select
from sqlalchemy.orm import Session

from chainrule.app.run_status import Reason, RunStatus
from chainrule.app.store import webhooks
from chainrule.app.store.models import Run, RunTransition


def record(
    session: Session,
    run_id: str,
    status: RunStatus,
    reason: Reason,
    detail: str,
    attempt_id: str | None,
    worker: str | None,
    at: datetime,
) -> None:
    """Note what a run has become and why, behind all it has been."""
    position = (
        select(func.coalesce(func.max(RunTransition.position), 0) + 1)
        .where(RunTransition.run_id == run_id)
        .scalar_subquery()
    )
    given = {
        "status": status, "reason": reason, "detail": detail, "attempt_id": attempt_id, "worker": worker, "at": at,
    }  # fmt: skip
    table = RunTransition.__table__.c
    values: list[ColumnElement[Any]] = [literal(value, table[name].type) for name, value in given.items()]
    # The time was taken before this transaction's turn came, maybe by another machine's clock.
    before = select(func.max(RunTransition.at)).where(RunTransition.run_id == run_id).scalar_subquery()
    values[-1] = case((before > values[-1], before), else_=values[-1])
    # Of a run that is there: rehearsed for one that is not, it records nothing.
    of_run = select(Run.id, position, *values).where(Run.id == run_id)
    session.execute(insert(RunTransition).from_select(["run_id", "position", *given], of_run))
    webhooks.note(session, run_id, status, reason, at)
