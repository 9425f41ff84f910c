"""Attempts: what whoever trains a run writes of it, and how it is taken for dead.

Every write of an attempt is fenced: it names the run, the attempt's random id and the state it
believes in, and touches no row once the run has passed on to another attempt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, select, text, update
from sqlalchemy.orm import Session

from chainrule.app.run_status import TRANSITIONS, Reason, RunStatus, Wish
from chainrule.app.store.database import from_now, now, touched
from chainrule.app.store.models import Run, RunAttempt, RunTransition
from chainrule.app.store.queue import LONGEST_WAIT_S
from chainrule.app.store.transitions import record

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
    advanced = update(Run).where(_held(attempt)).values(**values, revision=Run.revision + 1)
    return touched(session, advanced) > 0


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


def rehearse(session: Session) -> None:
    """Prepare the statements of an attempt by running them for a run that does not exist."""
    nobody = Attempt("", "")
    names = ("trained_s", "cost", "error", "validation_cost", "validation_error", "epochs_done", "steps_done")
    progress = dict.fromkeys(names, 0)
    advance(session, nobody, progress)
    end_attempt(session, nobody, RunStatus.SUCCEEDED, Reason.COMPLETED, progress=progress)
    _end_attempt(session, nobody, RunStatus.SUCCEEDED, Reason.COMPLETED, "", now())
    record(session, "", RunStatus.SUCCEEDED, Reason.COMPLETED, "", None, None, now())


def touch(session: Session) -> None:
    """Write to a running run and change nothing: fails where no heart can beat.

    Concurrency: waits for nobody who holds a row; he may be stopped in the middle of a write.
    """
    running = select(Run.id).where(Run.status == RunStatus.RUNNING).order_by(Run.id).limit(1)
    run_id = session.scalar(running.with_for_update(skip_locked=True))
    # There and back on SQLite, which does not write what is as it was, though the disk be full.
    for by in (1, -1) if session.get_bind().dialect.name == "sqlite" else (0,):
        beaten = update(Run).where(Run.id == run_id).values(heartbeat=Run.heartbeat + by)
        session.execute(beaten.execution_options(synchronize_session=False))


def heartbeats(session: Session) -> list[Heartbeat]:
    """Read every running attempt's heartbeat, for an observer."""
    query = select(Run.id, Run.attempt_id, Run.heartbeat).where(Run.status == RunStatus.RUNNING)
    return [Heartbeat(run_id, attempt_id or "", beats) for run_id, attempt_id, beats in session.execute(query)]


def _wish(cancel: bool, pause: bool) -> Wish | None:
    return Wish.CANCEL if cancel else Wish.PAUSE if pause else None


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
    left = (
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
        )
    )
    moved = touched(session, left) > 0
    if moved:
        _end_attempt(session, attempt, status, reason, detail, moment)
        record(session, attempt.run_id, status, reason, detail, attempt.attempt_id, None, moment)
    return moved


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
