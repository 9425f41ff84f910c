"""The queue: which runs wait, whose turn it is, and the claim that takes one for one attempt only."""

import math
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Select,
    Subquery,
    and_,
    case,
    distinct,
    func,
    insert,
    literal,
    literal_column,
    or_,
    select,
    text,
    true,
    update,
)
from sqlalchemy.orm import Session, aliased

from chainrule.app.run_status import Reason, RunStatus
from chainrule.app.store.database import from_now, now
from chainrule.app.store.models import Run, RunAttempt
from chainrule.app.store.transitions import record
from chainrule.app.store.visibility import EVERYBODY

LONGEST_WAIT_S = 60.0
"""How long a run that is queued again may not be claimed, at the most."""
TURN_S = 15
"""How long PostgreSQL waits for whoever has the turn to claim and does nothing with it."""
_CLAIMING = 0x636C61696D
"""The advisory lock that claims take turns by, where owners have a limit."""
# Spelled out, not a parameter: SQLite looks into its partial indexes for what it can read.
_QUEUED: ColumnElement[str] = literal_column(f"'{RunStatus.QUEUED}'")
_RUNNING: ColumnElement[str] = literal_column(f"'{RunStatus.RUNNING}'")


def count_queued(session: Session, limit: int, *, own: bool = False) -> int:
    """Count the waiting runs of all owners, or of the session's own, up to `limit`."""
    waiting = select(Run.id).where(Run.status == _QUEUED).limit(limit).subquery()
    return session.scalar(select(func.count()).select_from(waiting), execution_options={} if own else EVERYBODY) or 0


def count_claimable(session: Session, limit: int, *, most_each: int = 0) -> int:
    """Count the waiting runs whose time has come, up to `limit`; with `most_each`, what owners may have more."""
    if not most_each:
        waiting = select(Run.id).where(_claimable()).limit(limit).subquery()
        return session.scalar(select(func.count()).select_from(waiting)) or 0
    run, owners, training = aliased(Run), _waiting_owners(), _in_training()
    theirs = select(run.id).where(_claimable(run), run.owner == owners.c.owner).limit(limit)
    claimable = select(func.count()).select_from(theirs.correlate(owners).subquery()).scalar_subquery()
    room = most_each - func.coalesce(training.c.attempts, 0)
    each = select(case((claimable < room, claimable), else_=room).label("number"))
    each = each.select_from(owners.outerjoin(training, training.c.owner == owners.c.owner)).where(room > 0)
    return min(limit, int(session.scalar(select(func.sum(each.subquery().c.number))) or 0))


def oldest_waiting(session: Session) -> datetime | None:
    """Tell when the run was submitted that waits longest of those whose time has come."""
    return session.scalar(select(func.min(Run.created_at)).where(_claimable()))


def claim(
    session: Session, attempt_id: str, worker: str, builds: dict[str, Any] | None = None, *, most_each: int = 0
) -> Run | None:
    """Take the best waiting run, for one attempt only; the builds of the first one stay with it.

    That is one of the owner of whom the fewest attempts train, of several owners and of one the run with the highest
    priority, then the oldest. Owners of whom `most_each` train already are left out, if that is not 0.

    Concurrency: one statement. PostgreSQL skips rows another claim has locked; on SQLite the caller's
    `BEGIN IMMEDIATE` makes claims take turns. What other claims of PostgreSQL have not committed yet is not counted;
    so that nobody comes to more than `most_each`, with that they take turns there, too.
    """
    if most_each:
        _take_turn(session)
    for run in _claim(session, _fairest(session.get_bind().dialect.name, most_each), attempt_id, worker, builds):
        return run
    return None


def claimed(session: Session, attempt_id: str) -> list[Run]:
    """Find the runs of an attempt whose claim was made and whose answer was lost."""
    query = select(Run).where(Run.attempt_id == attempt_id, Run.status == RunStatus.RUNNING).order_by(Run.id)
    return list(session.scalars(query))


def claim_alike(
    session: Session, run: Run, slots: int, most: int, attempt_id: str, worker: str, builds: dict[str, Any] | None
) -> list[Run]:
    """Take waiting runs that can be trained as one computation with a run just claimed, each for one attempt only.

    They are its owner's and have its stack key, and none of them has lost an attempt yet: one that brings its process
    down must not do so to others again and again. With other slots free the rest is left to them, in equal shares.

    Concurrency: as `claim`.
    """
    if run.stack_key is None or run.failures > 0 or most <= 1:
        return []
    alike = [Run.owner == run.owner, Run.stack_key == run.stack_key, Run.failures == 0]
    waiting = select(Run.id).where(_claimable(), *alike).limit(slots * most).subquery()
    share = math.ceil(((session.scalar(select(func.count()).select_from(waiting)) or 0) + 1) / slots)
    most = min(share, most) - 1
    if most < 1:
        return []
    # The rows are locked first: PostgreSQL may look at a subquery of several more than once, and skip other rows then.
    chosen = Run.id.in_(session.scalars(_best(Run, *alike).limit(most).with_for_update(skip_locked=True)).all())
    return _claim(session, chosen, attempt_id, worker, builds)


def _claimable(run: Any = Run) -> ColumnElement[bool]:
    # Nobody waits for longer than that: whoever seems to was told to when the database's clock was another.
    come = or_(run.not_before.is_(None), run.not_before <= from_now(0.0), run.not_before > from_now(LONGEST_WAIT_S))
    return and_(run.status == _QUEUED, come)


def _best(run: Any, *which: ColumnElement[bool]) -> Select[str]:
    """Ask for the waiting runs, the best first."""
    return select(run.id).where(_claimable(run), *which).order_by(run.priority.desc(), run.id)


@lru_cache(maxsize=8)
def _fairest(dialect: str, most_each: int) -> ColumnElement[bool]:
    """Say which run is to be claimed: of each owner the best one is looked at, however many wait.

    On PostgreSQL it may be another's by now. So the owners are gone through in their order, and of the first who has
    one the best that is nobody's is locked, and no other.
    """
    run, first, owners, training = aliased(Run), aliased(Run), _waiting_owners(), _in_training()
    best = _best(run, run.owner == owners.c.owner).limit(1)
    found: ColumnElement[str]
    priority: ColumnElement[int]
    if dialect == "sqlite":
        each = owners.join(first, first.id == best.correlate(owners).scalar_subquery())
        found, priority = first.id.expression, first.priority.expression
    else:
        of_each = best.add_columns(run.priority).lateral()
        each, found, priority = owners.join(of_each, true()), of_each.c.id, of_each.c.priority
    attempts = func.coalesce(training.c.attempts, 0)
    ranked = select(found, owners.c.owner).select_from(each.outerjoin(training, training.c.owner == owners.c.owner))
    ranked = ranked.order_by(attempts, priority.desc(), found)
    if most_each:
        ranked = ranked.where(attempts < most_each)
    if dialect == "sqlite":
        return Run.id == ranked.with_only_columns(found).limit(1).scalar_subquery()
    in_order = ranked.subquery()
    theirs = _best(run, run.owner == in_order.c.owner).limit(1).with_for_update(skip_locked=True).lateral()
    return Run.id == select(theirs.c.id).select_from(in_order.join(theirs, true())).limit(1).scalar_subquery()


def _waiting_owners() -> CTE:
    """List who has runs waiting: each step finds the next one in the index, however many runs lie between."""
    run = aliased(Run)
    # In the whole order of the index, so that no other will do, whatever the database thinks of how many there are.
    waiting = select(run.owner).where(run.status == _QUEUED).order_by(run.owner, run.priority.desc(), run.id).limit(1)
    owners = select(waiting.scalar_subquery().label("owner")).cte("owners", recursive=True)
    behind = waiting.where(run.owner > owners.c.owner).correlate(owners).scalar_subquery()
    return owners.union_all(select(behind).where(owners.c.owner.is_not(None)))


def _in_training() -> Subquery:
    """Count the attempts that train for each owner; runs that are trained as one computation have one together."""
    attempts = func.count(distinct(Run.attempt_id)).label("attempts")
    return select(Run.owner, attempts).where(Run.status == _RUNNING).group_by(Run.owner).subquery()


def _take_turn(session: Session) -> None:
    """Have one transaction claim at a time; on SQLite one that writes is the only one anyhow.

    Concurrency: a process that is stopped while it has the turn loses its connection, and with it the turn.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = '{TURN_S}s'"))
        session.execute(select(func.pg_advisory_xact_lock(_CLAIMING)))


def _claim(
    session: Session, chosen: ColumnElement[bool], attempt_id: str, worker: str, builds: dict[str, Any] | None
) -> list[Run]:
    moment = now()
    claimed = session.scalars(
        update(Run)
        .where(chosen, Run.status == RunStatus.QUEUED)
        .values(
            status=RunStatus.RUNNING,
            reason=Reason.CLAIMED,
            detail="",
            attempt_id=attempt_id,
            worker=worker,
            attempts=Run.attempts + 1,
            heartbeat=0,
            not_before=None,
            builds=func.coalesce(Run.builds, literal(builds, Run.builds.type)),
            started_at=func.coalesce(Run.started_at, moment),
            revision=Run.revision + 1,
        )
        .returning(Run)
        .execution_options(synchronize_session=False)
    ).all()
    for run in claimed:
        record(session, run.id, RunStatus.RUNNING, Reason.CLAIMED, "", attempt_id, worker, moment)
        _begin_attempt(session, run, moment)
    return sorted(claimed, key=lambda run: run.id)


def _begin_attempt(session: Session, run: Run, at: datetime) -> None:
    given = {
        "run_id": run.id, "number": run.attempts, "attempt_id": run.attempt_id, "worker": run.worker,
        "started_at": at, "started_epoch": run.epochs_done, "started_steps": run.steps_done, "detail": "",
    }  # fmt: skip
    session.execute(insert(RunAttempt).values(given))
