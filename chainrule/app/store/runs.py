"""Runs: the queue and the only truth about who trains what.

Every write of an attempt is fenced: it names the run, the attempt's random id and the state it
believes in, and touches no row once the run has passed on to another attempt.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    CursorResult,
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

from chainrule.app.run_status import TRANSITIONS, Reason, RunStatus, Wish
from chainrule.app.store import webhooks
from chainrule.app.store.database import from_now, now
from chainrule.app.store.models import Run, RunAttempt, RunTransition
from chainrule.app.store.visibility import EVERYBODY

LONGEST_WAIT_S = 60.0
TURN_S = 15
"""How long PostgreSQL waits for whoever has the turn to claim and does nothing with it."""
_CLAIMING = 0x636C61696D
"""The advisory lock that claims take turns by, where owners have a limit."""
# Spelled out, not a parameter: SQLite looks into its partial indexes for what it can read.
_QUEUED: ColumnElement[str] = literal_column(f"'{RunStatus.QUEUED}'")
_RUNNING: ColumnElement[str] = literal_column(f"'{RunStatus.RUNNING}'")
_OBEYED = {
    Wish.CANCEL: (RunStatus.CANCELLED, Reason.CANCEL_REQUESTED),
    Wish.PAUSE: (RunStatus.PAUSED, Reason.PAUSE_REQUESTED),
}


@dataclass(frozen=True)
class Attempt:
    """The fencing token of one claim."""

    run_id: str
    attempt_id: str


@dataclass(frozen=True)
class Heartbeat:
    """What an observer compares to tell a living attempt from a lost one."""

    run_id: str
    attempt_id: str
    heartbeat: int


@dataclass(frozen=True)
class Trained:
    """A run in training: whose it is, who trains it, and how far it has come."""

    owner: str
    worker: str | None
    id: str
    name: str
    epochs_done: int
    epochs_total: int


def add(session: Session, run: Run) -> None:
    """Store a new run with its first transition."""
    session.add(run)
    session.flush()
    _record(session, run.id, RunStatus.QUEUED, Reason.SUBMITTED, "", None, None, run.created_at)


def get(session: Session, run_id: str) -> Run | None:
    """Find one run."""
    return session.get(Run, run_id)


def hold(session: Session, run_id: str) -> Run | None:
    """Find one run and keep it as it is until this transaction ends."""
    return session.get(Run, run_id, with_for_update=True)


def page(
    session: Session,
    *,
    limit: int,
    cursor_id: str | None = None,
    statuses: Iterable[str] = (),
    name: str | None = None,
    search: str | None = None,
    dataset: str | None = None,
    verifies: str | None = None,
    deleted: bool = False,
    newest_first: bool = True,
) -> Sequence[Run]:
    """Read one page of runs in the order of submission (ids sort by time), from behind `cursor_id`.

    Verifications are listed for the run they verify, and nowhere else. Deleted runs that can be restored are listed
    by themselves.
    """
    query = select(Run).where(Run.verifies.is_(None) if verifies is None else Run.verifies == verifies)
    query = query.where(Run.deleted_at.is_not(None) if deleted else Run.deleted_at.is_(None), Run.purging.is_(False))
    if cursor_id is not None:
        query = query.where(Run.id < cursor_id if newest_first else Run.id > cursor_id)
    if chosen := list(statuses):
        query = query.where(Run.status.in_(chosen))
    if name is not None:
        query = query.where(Run.name == name)
    if search:
        # Both sides are made small by the database: SQLite does so with ASCII letters only, and Python with all.
        literal_text = re.sub(r"([/%_])", r"/\1", search)
        within = [
            func.lower(column).like(func.lower(f"%{literal_text}%"), escape="/") for column in (Run.name, Run.dataset)
        ]
        query = query.where(or_(*within, Run.id == search))
    if dataset is not None:
        query = query.where(Run.dataset == dataset)
    order = Run.id.desc() if newest_first else Run.id.asc()
    return session.scalars(query.order_by(order).limit(limit)).all()


def transitions(session: Session, run_id: str) -> Sequence[RunTransition]:
    """Read the history of a run's states, oldest first."""
    query = select(RunTransition).where(RunTransition.run_id == run_id).order_by(RunTransition.position)
    return session.scalars(query).all()


def attempts(session: Session, run_id: str) -> Sequence[RunAttempt]:
    """Read a run's attempts, the first one first."""
    query = select(RunAttempt).where(RunAttempt.run_id == run_id).order_by(RunAttempt.number)
    return session.scalars(query).all()


def watch(session: Session, run_ids: Iterable[str]) -> dict[str, tuple[str, int, int]]:
    """Look at many runs at once: id to (status, revision, epochs_done)."""
    there = [Run.id.in_(list(run_ids)), Run.deleted_at.is_(None)]
    query = select(Run.id, Run.status, Run.revision, Run.epochs_done).where(*there)
    return {run_id: (status, revision, epochs) for run_id, status, revision, epochs in session.execute(query)}


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


def count_by_status(session: Session) -> dict[str, int]:
    """Count the runs in each status that any is in."""
    query = select(Run.status, func.count()).where(Run.deleted_at.is_(None)).group_by(Run.status)
    counted = session.execute(query)
    return {status: number for status, number in counted}  # noqa: C416


def running(session: Session, limit: int) -> list[Trained]:
    """Read what is trained now, the oldest first."""
    query = select(Run.owner, Run.worker, Run.id, Run.name, Run.epochs_done, Run.epochs_total)
    found = session.execute(query.where(Run.status == RunStatus.RUNNING).order_by(Run.id).limit(limit))
    return [Trained(*row) for row in found]


def uses_dataset(session: Session, dataset: str) -> bool:
    """Whether any run trains or validates on this dataset."""
    query = select(Run.id).where(or_(Run.dataset == dataset, Run.validation_dataset == dataset)).limit(1)
    return session.scalar(query) is not None


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
        _record(session, run.id, RunStatus.RUNNING, Reason.CLAIMED, "", attempt_id, worker, moment)
        _begin_attempt(session, run, moment)
    return sorted(claimed, key=lambda run: run.id)


def beat(session: Session, attempts: Sequence[Attempt]) -> dict[str, Wish | None]:
    """Show that attempts live, all of one claim; tell for each run they still hold what is wished of it.

    Concurrency: rows are locked in the order of their ids, as by whoever writes several.
    """
    held = select(Run.id).where(_held_of(attempts)).order_by(Run.id).with_for_update()
    beaten = session.execute(
        update(Run)
        .where(Run.id.in_(held))
        .values(heartbeat=Run.heartbeat + 1)
        .returning(Run.id, Run.cancel_requested, Run.pause_requested)
        .execution_options(synchronize_session=False)
    )
    return {run_id: _wish(cancel, pause) for run_id, cancel, pause in beaten}


def wishes(session: Session, attempts: Sequence[Attempt]) -> dict[str, Wish | None]:
    """Tell for each run that attempts of one claim still hold what is wished of it."""
    query = select(Run.id, Run.cancel_requested, Run.pause_requested).where(_held_of(attempts))
    return {run_id: _wish(cancel, pause) for run_id, cancel, pause in session.execute(query)}


def advance(session: Session, attempt: Attempt, values: dict[str, Any]) -> bool:
    """Write an attempt's progress; False if it holds the run no longer and must write nothing else."""
    return _touched(session, update(Run).where(_held(attempt)).values(**values, revision=Run.revision + 1))


def end_attempt(
    session: Session,
    attempt: Attempt,
    status: RunStatus,
    reason: Reason,
    detail: str = "",
    progress: dict[str, Any] | None = None,
    wait_s: float = 0.0,
) -> RunStatus | None:
    """Move a held run on, to its end or back into the queue; return what it became.

    A run that was to be cancelled or paused is not queued again, and one that was resumed before it had stopped
    is not paused. None if the attempt holds it no longer. One that is queued is claimed after `wait_s` at the earliest.
    """
    held = _held(attempt)
    if status in (RunStatus.QUEUED, RunStatus.PAUSED):
        query = select(Run.cancel_requested, Run.pause_requested).where(held).with_for_update()
        wish = _wish(*(session.execute(query).one_or_none() or (False, False)))
        if wish is not None:
            status, reason = _OBEYED[wish]
        elif status is RunStatus.PAUSED:
            status, reason = RunStatus.QUEUED, Reason.RESUMED
    later = from_now(min(wait_s, LONGEST_WAIT_S)) if wait_s and status is RunStatus.QUEUED else None
    moved = _leave_running(
        session, attempt, held, status, reason, detail, failures=0, not_before=later, progress=progress
    )
    return status if moved else None


def has_ended(session: Session, attempt: Attempt, reason: Reason) -> bool:
    """Tell whether an attempt has ended its run for this reason, or as was wished of it."""
    query = select(RunTransition.position).where(
        RunTransition.run_id == attempt.run_id,
        RunTransition.attempt_id == attempt.attempt_id,
        RunTransition.reason.in_((reason, Reason.CANCEL_REQUESTED, Reason.PAUSE_REQUESTED, Reason.RESUMED)),
    )
    return session.scalar(query.limit(1)) is not None


def lose_attempt(
    session: Session,
    attempt: Attempt,
    reason: Reason,
    detail: str,
    *,
    max_failures: int,
    heartbeat: int | None = None,
) -> RunStatus | None:
    """Take a lost attempt's run back: queued again, failed if it was once too often; or as was wished of it.

    Concurrency: a compare-and-set on the attempt id, and on the heartbeat for an observer from
    outside; None if somebody else was faster or the attempt lives after all. An observer does not wait
    for whoever holds the row, who may be stopped in the middle of a write: None then too; see `break_lock`.
    """
    held = _held(attempt)
    observed = heartbeat is not None
    if observed:
        held = and_(held, Run.heartbeat == heartbeat)
    query = select(Run.failures, Run.cancel_requested, Run.pause_requested).where(held)
    query = query.with_for_update(skip_locked=observed)
    found = session.execute(query).one_or_none()
    if found is None:
        return None
    failures, wish = found[0], _wish(*found[1:])
    if wish is Wish.CANCEL:
        status, reason = _OBEYED[wish]
    elif failures >= max_failures:
        status, reason, detail = (
            RunStatus.FAILED,
            Reason.ATTEMPTS_EXHAUSTED,
            f"{failures + 1} attempts lost; {detail}",
        )
    elif wish is Wish.PAUSE:
        status = RunStatus.PAUSED
    else:
        status = RunStatus.QUEUED
    # The first loss is often chance and is retried at once; who loses again and again waits longer.
    again = failures > 0 and status is RunStatus.QUEUED
    wait_s = min(2.0**failures, LONGEST_WAIT_S)
    moved = _leave_running(
        session,
        attempt,
        held,
        status,
        reason,
        detail,
        failures=1,
        not_before=from_now(wait_s) if again else None,
    )
    return status if moved else None


def break_lock(session: Session, run_id: str, older_than_s: float) -> bool:
    """Have PostgreSQL end the connection whose transaction has held a run's row for so long; True if there was one.

    A process that is stopped in the middle of a write, or a machine that has vanished, would keep the row for hours.
    On SQLite there is no such row: who holds the lock there holds the whole database.
    """
    if session.get_bind().dialect.name != "postgresql":
        return False
    ended = session.execute(
        text(
            "SELECT pg_terminate_backend(held.pid) FROM runs"
            " JOIN pg_locks held ON held.locktype = 'transactionid' AND held.transactionid = runs.xmax AND held.granted"
            " JOIN pg_stat_activity who ON who.pid = held.pid AND who.pid <> pg_backend_pid()"
            " WHERE runs.id = :run_id AND who.xact_start < clock_timestamp() - make_interval(secs => :seconds)"
        ),
        {"run_id": run_id, "seconds": older_than_s},
    )
    return bool(ended.all())


def cancel_queued(session: Session, run_id: str) -> bool:
    """Cancel a waiting or paused run at once; False if it is neither any more."""
    moved = _touched(
        session,
        update(Run)
        .where(Run.id == run_id, Run.status.in_((RunStatus.QUEUED, RunStatus.PAUSED)))
        .values(
            status=RunStatus.CANCELLED,
            reason=Reason.CANCEL_REQUESTED,
            cancel_requested=True,
            finished_at=now(),
            revision=Run.revision + 1,
        ),
    )
    if moved:
        _record(session, run_id, RunStatus.CANCELLED, Reason.CANCEL_REQUESTED, "", None, None, now())
    return moved


def request_cancel(session: Session, run_id: str) -> bool:
    """Note the wish to cancel a running run; False if it is not running or the wish is known."""
    return _touched(
        session,
        update(Run)
        .where(Run.id == run_id, Run.status == RunStatus.RUNNING, Run.cancel_requested.is_(False))
        .values(cancel_requested=True, revision=Run.revision + 1),
    )


def pause_queued(session: Session, run_id: str) -> bool:
    """Take a waiting run out of the queue; False if it is not waiting any more."""
    return _move(session, run_id, RunStatus.QUEUED, RunStatus.PAUSED, Reason.PAUSE_REQUESTED)


def request_pause(session: Session, run_id: str) -> bool:
    """Note the wish to pause a running run; False if it is not running or the wish is known."""
    return _touched(
        session,
        update(Run)
        .where(Run.id == run_id, Run.status == RunStatus.RUNNING, Run.pause_requested.is_(False))
        .values(pause_requested=True, revision=Run.revision + 1),
    )


def resume(session: Session, run_id: str) -> bool:
    """Put a paused run back into the queue, or withdraw the wish to pause a running one; False if it is neither."""
    if _move(session, run_id, RunStatus.PAUSED, RunStatus.QUEUED, Reason.RESUMED):
        return True
    return _touched(
        session,
        update(Run)
        .where(Run.id == run_id, Run.status == RunStatus.RUNNING, Run.pause_requested.is_(True))
        .values(pause_requested=False, revision=Run.revision + 1),
    )


def rehearse(session: Session) -> None:
    """Prepare the statements of an attempt by running them for a run that does not exist."""
    nobody = Attempt("", "")
    names = ("trained_s", "cost", "error", "validation_cost", "validation_error", "epochs_done", "steps_done")
    progress = dict.fromkeys(names, 0)
    advance(session, nobody, progress)
    end_attempt(session, nobody, RunStatus.SUCCEEDED, Reason.COMPLETED, progress=progress)
    _end_attempt(session, nobody, RunStatus.SUCCEEDED, Reason.COMPLETED, "", now())
    _record(session, "", RunStatus.SUCCEEDED, Reason.COMPLETED, "", None, None, now())


def touch(session: Session) -> None:
    """Write to a running run and change nothing: fails where no heart can beat.

    Concurrency: waits for nobody who holds a row; he may be stopped in the middle of a write.
    """
    running = select(Run.id).where(Run.status == RunStatus.RUNNING).order_by(Run.id).limit(1)
    first = running.with_for_update(skip_locked=True).scalar_subquery()
    session.execute(
        update(Run).where(Run.id == first).values(heartbeat=Run.heartbeat).execution_options(synchronize_session=False)
    )


def heartbeats(session: Session) -> list[Heartbeat]:
    """Read every running attempt's heartbeat, for an observer."""
    query = select(Run.id, Run.attempt_id, Run.heartbeat).where(Run.status == RunStatus.RUNNING)
    return [Heartbeat(run_id, attempt_id or "", beats) for run_id, attempt_id, beats in session.execute(query)]


def _claimable(run: Any = Run) -> ColumnElement[bool]:
    # Nobody waits for longer than that: whoever seems to was told to when the database's clock was another.
    come = or_(run.not_before.is_(None), run.not_before <= from_now(0.0), run.not_before > from_now(LONGEST_WAIT_S))
    return and_(run.status == _QUEUED, come)


def _wish(cancel: bool, pause: bool) -> Wish | None:
    return Wish.CANCEL if cancel else Wish.PAUSE if pause else None


def _move(session: Session, run_id: str, before: RunStatus, after: RunStatus, reason: Reason) -> bool:
    """Take a run that nobody holds from one state to another; False if it is not in the first."""
    moved = _touched(
        session,
        update(Run)
        .where(Run.id == run_id, Run.status == before)
        .values(status=after, reason=reason, detail="", revision=Run.revision + 1),
    )
    if moved:
        _record(session, run_id, after, reason, "", None, None, now())
    return moved


def _held(attempt: Attempt) -> ColumnElement[bool]:
    return and_(Run.id == attempt.run_id, Run.attempt_id == attempt.attempt_id, Run.status == RunStatus.RUNNING)


def _open(attempt: Attempt) -> ColumnElement[bool]:
    return and_(
        RunAttempt.run_id == attempt.run_id,
        RunAttempt.attempt_id == attempt.attempt_id,
        RunAttempt.ended_at.is_(None),
    )


def _held_of(attempts: Sequence[Attempt]) -> ColumnElement[bool]:
    ids, token = [attempt.run_id for attempt in attempts], {attempt.attempt_id for attempt in attempts}
    return and_(Run.id.in_(ids), Run.attempt_id.in_(token), Run.status == RunStatus.RUNNING)


def _leave_running(
    session: Session,
    attempt: Attempt,
    held: ColumnElement[bool],
    status: RunStatus,
    reason: Reason,
    detail: str,
    *,
    failures: int,
    not_before: from_now | None = None,
    progress: dict[str, Any] | None = None,
) -> bool:
    if status not in TRANSITIONS[RunStatus.RUNNING]:
        raise ValueError(f"a running run cannot become {status}")
    moment = now()
    detail = detail[:2000]
    moved = _touched(
        session,
        update(Run)
        .where(held)
        .values(
            status=status,
            reason=reason,
            detail=detail,
            attempt_id=None,
            pause_requested=False,
            failures=Run.failures + failures,
            not_before=not_before,
            finished_at=moment if status.terminal else None,
            revision=Run.revision + 1,
            **(progress or {}),
        ),
    )
    if moved:
        _end_attempt(session, attempt, status, reason, detail, moment)
        _record(session, attempt.run_id, status, reason, detail, attempt.attempt_id, None, moment)
    return moved


def _begin_attempt(session: Session, run: Run, at: datetime) -> None:
    given = {
        "run_id": run.id, "number": run.attempts, "attempt_id": run.attempt_id, "worker": run.worker,
        "started_at": at, "started_epoch": run.epochs_done, "started_steps": run.steps_done, "detail": "",
    }  # fmt: skip
    session.execute(insert(RunAttempt).values(given))


def _end_attempt(
    session: Session, attempt: Attempt, status: RunStatus, reason: Reason, detail: str, at: datetime
) -> None:
    """Note where an attempt has ended: where its run stands now."""
    run = select(Run).where(Run.id == attempt.run_id)
    session.execute(
        update(RunAttempt)
        .where(_open(attempt))
        .values(
            ended_at=at,
            ended_epoch=run.with_only_columns(Run.epochs_done).scalar_subquery(),
            ended_steps=run.with_only_columns(Run.steps_done).scalar_subquery(),
            status=status,
            reason=reason,
            detail=detail,
        )
        .execution_options(synchronize_session=False)
    )


def _record(
    session: Session,
    run_id: str,
    status: RunStatus,
    reason: Reason,
    detail: str,
    attempt_id: str | None,
    worker: str | None,
    at: datetime,
) -> None:
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


def _touched(session: Session, statement: Any) -> bool:
    result = session.execute(statement, execution_options={"synchronize_session": False})
    assert isinstance(result, CursorResult)
    return result.rowcount > 0
