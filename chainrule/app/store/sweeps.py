"""Sweeps: many runs of one spec, and how far they have come together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, select
from sqlalchemy.orm import Session

from chainrule.app.run_status import RunStatus
from chainrule.app.store.models import Epoch, Run, Sweep, SweepMember


@dataclass(frozen=True)
class Totals:
    """How far the runs of a sweep have come together.

    Attributes:
        statuses: how many runs are in each state.
        epochs_done, epochs_total: summed over them.
        changes: grows with every change of any of them.
    """

    statuses: dict[str, int]
    epochs_done: int
    epochs_total: int
    changes: int


@dataclass(frozen=True)
class Member:
    """A member with its run.

    Attributes:
        place: its place in the sweep, and what it varies.
        run: the run.
        value: of the sweep's objective, at the epoch whose weights the run ends with as it stands.
    """

    place: SweepMember
    run: Run
    value: float | None


def add(session: Session, sweep: Sweep) -> None:
    """Store a new sweep."""
    session.add(sweep)
    session.flush()


def add_members(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Store members, whose runs are stored already."""
    session.add_all(SweepMember(**row) for row in rows)
    session.flush()


def get(session: Session, sweep_id: str) -> Sweep | None:
    """Find one sweep."""
    return session.get(Sweep, sweep_id)


def hold(session: Session, sweep_id: str) -> Sweep | None:
    """Find one sweep and keep it as it is until this transaction ends."""
    return session.get(Sweep, sweep_id, with_for_update=True)


def page(session: Session, *, limit: int, cursor_id: str | None, deleted: bool = False) -> Sequence[Sweep]:
    """Read one page of sweeps, the newest first, from behind `cursor_id`."""
    query = select(Sweep).where(Sweep.deleted_at.is_not(None) if deleted else Sweep.deleted_at.is_(None))
    if cursor_id is not None:
        query = query.where(Sweep.id < cursor_id)
    return session.scalars(query.order_by(Sweep.id.desc()).limit(limit)).all()


def totals(session: Session, sweep_ids: Iterable[str]) -> dict[str, Totals]:
    """Sum the runs of sweeps up."""
    query = (
        select(
            Run.sweep_id,
            Run.status,
            func.count(),
            func.sum(Run.epochs_done),
            func.sum(Run.epochs_total),
            func.sum(Run.revision),
        )
        .join(Sweep, Sweep.id == Run.sweep_id)
        .where(Run.sweep_id.in_(list(sweep_ids)), _of_sweep())
        .group_by(Run.sweep_id, Run.status)
    )
    found: dict[Any, list[Any]] = {}
    for sweep_id, status, count, done, total, revisions in session.execute(query):
        sums = found.setdefault(sweep_id, [{}, 0, 0, 0])
        sums[0][status] = count
        sums[1] += int(done)
        sums[2] += int(total)
        sums[3] += int(revisions) + count
    return {sweep_id: Totals(*sums) for sweep_id, sums in found.items()}


def watch(session: Session, sweep_ids: Iterable[str]) -> dict[str, tuple[str, int, int]]:
    """Look at many sweeps at once: id to ("", a number that grows with every change, epochs done)."""
    ids = list(sweep_ids)
    found = totals(session, ids)
    there = [Sweep.id.in_(ids), Sweep.deleted_at.is_(None)]
    query = select(Sweep.id, Sweep.rung, Sweep.cancel_requested).where(*there)
    states = {}
    for sweep_id, rung, cancel_requested in session.execute(query):
        summed = found.get(sweep_id, Totals({}, 0, 0, 0))
        states[sweep_id] = ("", summed.changes + rung + bool(cancel_requested), summed.epochs_done)
    return states


def members(
    session: Session,
    sweep_id: str,
    objective: str,
    *,
    after: int = -1,
    limit: int | None = None,
    rung: int | None = None,
) -> list[Member]:
    """Read members with their runs, from behind position `after`."""
    which = [SweepMember.position > after] if rung is None else [SweepMember.position > after, SweepMember.rung == rung]
    return _members(session, sweep_id, objective, which, [SweepMember.position], limit)


def ranked(
    session: Session, sweep_id: str, objective: str, *, limit: int | None = None, rung: int | None = None
) -> list[Member]:
    """Read members by their objective, the lowest first; of equals the one that has trained longest, then the first.

    Members that have failed do not count, nor do those that have no value yet.
    """
    value = _value(objective)
    which = [value.is_not(None), Run.status != RunStatus.FAILED]
    if rung is not None:
        which.append(SweepMember.rung == rung)
    return _members(session, sweep_id, objective, which, [value, Run.epochs_done.desc(), SweepMember.position], limit)


def sweep_of(session: Session, run_ids: Iterable[str]) -> set[str]:
    """Find the sweeps that runs belong to."""
    query = select(Run.sweep_id).where(Run.id.in_(list(run_ids)), Run.sweep_id.is_not(None)).distinct()
    return {sweep_id for sweep_id in session.scalars(query) if sweep_id is not None}


def unfinished(session: Session) -> list[str]:
    """Find the sweeps that have another rung to come."""
    query = select(Sweep.id).where(Sweep.rung < Sweep.rungs - 1, Sweep.cancel_requested.is_(False))
    return list(session.scalars(query.order_by(Sweep.id)))


def next_position(session: Session, sweep_id: str) -> int:
    """Number the next member, behind every one there is."""
    query = select(func.coalesce(func.max(SweepMember.position), -1)).where(SweepMember.sweep_id == sweep_id)
    return (session.scalar(query) or 0) + 1


def waiting_runs(session: Session, sweep_id: str) -> list[str]:
    """List the runs that have not ended, in the order of their ids."""
    query = select(Run.id).where(Run.sweep_id == sweep_id, _open()).order_by(Run.id)
    return list(session.scalars(query))


def _members(
    session: Session,
    sweep_id: str,
    objective: str,
    which: Sequence[ColumnElement[bool]],
    order: Sequence[Any],
    limit: int | None,
) -> list[Member]:
    query = (
        select(SweepMember, Run, _value(objective))
        .join(Run, Run.id == SweepMember.run_id)
        .outerjoin(Epoch, and_(Epoch.run_id == Run.id, Epoch.epoch == Run.best_epoch))
        .join(Sweep, Sweep.id == SweepMember.sweep_id)
        .where(SweepMember.sweep_id == sweep_id, _of_sweep(), *which)
        .order_by(*order)
        .limit(limit)
    )
    return [Member(place, run, value) for place, run, value in session.execute(query)]


def _of_sweep() -> ColumnElement[bool]:
    """Leave out runs that were deleted by themselves; those deleted with their sweep are part of it as it was."""
    return Run.deleted_at.is_not_distinct_from(Sweep.deleted_at)


def _value(objective: str) -> ColumnElement[float | None]:
    """Take the value at the epoch whose weights a run ends with: its best with early stopping, else its newest."""
    at_best: ColumnElement[float | None] = getattr(Epoch, objective)
    newest: ColumnElement[float | None] = getattr(Run, objective)
    return case((Run.best_epoch.is_not(None), at_best), else_=newest)


def _open() -> ColumnElement[bool]:
    return Run.status.not_in([status for status in RunStatus if status.terminal])
