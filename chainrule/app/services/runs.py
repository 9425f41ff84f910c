"""Runs: what may be submitted, and what a client sees of them."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from chainrule.app import tracing
from chainrule.app.config import Settings
from chainrule.app.errors import (
    Conflict,
    NotFound,
    PreconditionFailed,
)
from chainrule.app.run_status import Reason, RunStatus
from chainrule.app.services import datasets, idempotency, plans, quotas, retention
from chainrule.app.store import deletions, epochs
from chainrule.app.store import inputs as inputs_store
from chainrule.app.store import runs as store
from chainrule.app.store.database import Database, new_id, now
from chainrule.app.store.models import Run, RunAttempt, RunTransition
from chainrule.engine.rules import BY_ID


@dataclass(frozen=True)
class Submitted:
    """A run as it was submitted; `replayed` if this answers a repeated request."""

    run: dict[str, Any]
    replayed: bool


def submit(database: Database, settings: Settings, spec: dict[str, Any], *, key: idempotency.Key | None) -> Submitted:
    """Store a run so that it will be trained, or refuse it before anything is taken.

    Raises:
        InvalidInput: the spec is wrong or over a limit.
        QueueFull, IdempotencyMismatch, IdempotencyInFlight: as `create` says.
    """
    return create(database, settings, lambda: plans.make(database, settings, spec), key=key)


def create(
    database: Database,
    settings: Settings,
    make_plan: Callable[[], plans.Plan],
    *,
    key: idempotency.Key | None,
    adopt: Callable[[Session, Run], None] | None = None,
) -> Submitted:
    """Store a run by a plan, made only if its key has not been answered; `adopt` gives it what it has from others.

    Transaction: the run, what it adopts and the answer to its idempotency key are stored in one, while
    its datasets are held against being deleted.

    Raises:
        QueueFull, StorageFull: there is no room for it, by the limits of all owners or of each.
        IdempotencyMismatch, IdempotencyInFlight: the key belongs to another request.
    """
    with idempotency.in_flight(key):
        if given := idempotency.find(database, key):
            return Submitted(given.body, replayed=True)
        plan = make_plan()
        run = new_run(plan)
        with database.writing() as session:
            if given := idempotency.begin(session, key):
                return Submitted(given.body, replayed=True)
            for pointer, dataset in (("/dataset", run.dataset), ("/validation/dataset", run.validation_dataset)):
                datasets.hold(session, dataset, pointer)
            quotas.admit_runs(session, settings)
            quotas.admit_bytes(session, settings, run.estimated_bytes or 0)
            store.add(session, run)
            if run.config["inputs"] is not None:
                inputs_store.add(session, run.id, plan.inputs.to_dict())
            if adopt is not None:
                adopt(session, run)
            answer = view(run, [_submitted(run)])
            idempotency.keep(session, key, idempotency.Answer(201, f"/v1/runs/{run.id}", answer))
    return Submitted(answer, replayed=False)


def validate(database: Database, settings: Settings, spec: dict[str, Any]) -> dict[str, Any]:
    """Check a spec as `submit` would and tell what it will take; store nothing."""
    plan = plans.make(database, settings, spec)
    return {"valid": True, "config": plan.config, "estimate": plan.estimate}


def get(database: Database, run_id: str) -> dict[str, Any]:
    """Look at one run, with the history of its states.

    Raises:
        NotFound: there is no such run.
    """
    with database.reading() as session:
        run = found(store.get(session, run_id), run_id)
        return view(run, list(store.transitions(session, run_id)))


def attempts(database: Database, run_id: str) -> list[dict[str, Any]]:
    """List the attempts at a run, the first one first.

    Raises:
        NotFound: there is no such run.
    """
    with database.reading() as session:
        found(store.get(session, run_id), run_id)
        return [_attempt(attempt) for attempt in store.attempts(session, run_id)]


def newest(database: Database) -> str:
    """Name the run submitted last.

    Raises:
        NotFound: none was ever submitted.
    """
    with database.reading() as session:
        for run in store.page(session, limit=1):
            return run.id
    raise NotFound("No run has been submitted yet; POST /v1/runs submits one.")


def page(
    database: Database,
    *,
    limit: int,
    cursor_id: str | None,
    statuses: list[str],
    name: str | None,
    search: str | None = None,
    dataset: str | None,
    verifies: str | None = None,
    deleted: bool = False,
    newest_first: bool,
    costs: int | None = None,
) -> list[dict[str, Any]]:
    """List runs in the order they were submitted, from behind `cursor_id`; with about so many of each one's costs."""
    with database.reading() as session:
        runs = store.page(
            session,
            limit=limit,
            cursor_id=cursor_id,
            statuses=statuses,
            name=name,
            search=search,
            dataset=dataset,
            verifies=verifies,
            deleted=deleted,
            newest_first=newest_first,
        )
        if costs is None:
            return [view(run) for run in runs]
        thinned = epochs.costs(session, {run.id: run.epochs_done for run in runs}, costs)
        return [view(run) | {"costs": thinned[run.id]} for run in runs]


def cancel(database: Database, run_id: str, *, if_match: Collection[int] | None) -> dict[str, Any]:
    """Cancel a waiting run at once, note the wish for a running one; repeating is harmless.

    Raises:
        NotFound: there is no such run.
        PreconditionFailed: the run has none of the revisions of `if_match` any more.
        Conflict: it has ended otherwise.
    """
    with database.writing() as session:
        run = found(store.hold(session, run_id), run_id)
        _match(run, if_match)
        if not store.cancel_queued(session, run_id):
            store.request_cancel(session, run_id)
        session.refresh(run)
        if run.status in (RunStatus.SUCCEEDED, RunStatus.FAILED):
            raise _ended(run)
        return view(run, list(store.transitions(session, run_id)))


def pause(database: Database, run_id: str, *, if_match: Collection[int] | None) -> dict[str, Any]:
    """Take a waiting run out of the queue, note the wish for a running one; repeating is harmless.

    Raises:
        NotFound: there is no such run.
        PreconditionFailed: the run has none of the revisions of `if_match` any more.
        Conflict: it has ended, or is to be cancelled.
    """
    with database.writing() as session:
        run = found(store.hold(session, run_id), run_id)
        _match(run, if_match)
        _may_go_on(run)
        if not store.pause_queued(session, run_id):
            store.request_pause(session, run_id)
        session.refresh(run)
        return view(run, list(store.transitions(session, run_id)))


def resume(database: Database, settings: Settings, run_id: str, *, if_match: Collection[int] | None) -> dict[str, Any]:
    """Put a paused run back into the queue, withdraw the wish for a running one; for others there is nothing to do.

    Raises:
        NotFound: there is no such run.
        PreconditionFailed: the run has none of the revisions of `if_match` any more.
        Conflict: it has ended, or is to be cancelled.
        QueueFull, OwnerQueueFull: too many runs wait.
    """
    with database.writing() as session:
        run = found(store.hold(session, run_id), run_id)
        _match(run, if_match)
        _may_go_on(run)
        if run.status == RunStatus.PAUSED:
            quotas.admit_runs(session, settings)
        store.resume(session, run_id)
        session.refresh(run)
        return view(run, list(store.transitions(session, run_id)))


def delete(database: Database, run_id: str, *, if_match: Collection[int] | None, purge: bool = False) -> None:
    """Delete an ended run with all it recorded; with a way back, unless it is to be purged.

    Raises:
        NotFound: there is no such run.
        PreconditionFailed: the run has none of the revisions of `if_match` any more.
        Conflict: it has not ended yet.
    """
    with database.writing() as session:
        run = store.hold(session, run_id)
        if run is None or run.purging or not purge:
            run = found(run, run_id)
        _match(run, if_match)
        if not deletions.mark_run(session, run_id, for_good=purge):
            raise Conflict(
                f"Run {run_id} is {run.status}; cancel it and wait for its end before deleting it.",
                extra={"current_status": run.status},
            )
    if purge:
        retention.purge(database, [run_id])


def restore(database: Database, run_id: str) -> dict[str, Any]:
    """Bring a deleted run back, with all it recorded; harmless for one that is not deleted.

    Raises:
        NotFound: there is no such run, or no longer.
    """
    with database.writing() as session:
        run = store.hold(session, run_id)
        if run is None or run.purging:
            raise NotFound(f"There is no run {run_id!r}.")
        deletions.restore_run(session, run_id)
        session.refresh(run)
        return view(run, list(store.transitions(session, run_id)))


def view(run: Run, transitions: list[RunTransition] | None = None) -> dict[str, Any]:
    """Show a run as clients see it."""
    steps_total = run.steps_per_epoch * run.epochs_total
    # One that stopped early has done all that it was to do.
    complete = run.status == RunStatus.SUCCEEDED or not steps_total
    share = 1.0 if complete else run.steps_done / steps_total
    shown: dict[str, Any] = {
        "id": run.id,
        "name": run.name,
        "status": run.status,
        "reason": run.reason,
        "detail": run.detail,
        "done": RunStatus(run.status).terminal,
        "dataset": run.dataset,
        "extends": run.extends,
        "cloned_from": run.cloned_from,
        "verifies": run.verifies,
        "verification": _verification(run),
        "config": run.config,
        "parameters": run.parameters,
        "priority": run.priority,
        "cancel_requested": run.cancel_requested,
        "pause_requested": run.pause_requested,
        "sweep": run.sweep_id,
        "progress": {
            "epochs_done": run.epochs_done,
            "epochs_total": run.epochs_total,
            "steps_done": run.steps_done,
            "steps_total": steps_total,
            "percent": round(100 * share, 2),
            "eta_s": _eta_s(run, steps_total),
        },
        "best_epoch": run.best_epoch,
        "diagnoses": [diagnosed(verdict) for verdict in verdicts(run)],
        "cost": run.cost,
        "error": run.error,
        "validation_cost": run.validation_cost,
        "validation_error": run.validation_error,
        "attempts": run.attempts,
        "failures": run.failures,
        "trained_s": round(run.trained_s, 3),
        "worker": run.worker,
        "builds": run.builds,
        "thinned_at": iso(run.thinned_at),
        "deleted_at": iso(run.deleted_at),
        "created_at": iso(run.created_at),
        "started_at": iso(run.started_at),
        "finished_at": iso(run.finished_at),
        "revision": run.revision,
    }
    if transitions is not None:
        shown["transitions"] = [
            {"status": t.status, "reason": t.reason, "detail": t.detail, "worker": t.worker, "at": iso(t.at)}
            for t in transitions
        ]
    return shown


def verdicts(run: Run) -> list[dict[str, Any]]:
    """Give the verdicts on a run, as they are stored; those by rules that only another version has are left out."""
    return [stored for stored in run.diagnoses or () if stored["rule"] in BY_ID]


def diagnosed(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Show a verdict as it is in a run."""
    rule = BY_ID[stored["rule"]]
    return {
        "rule": rule.id,
        "severity": rule.severity,
        "title": rule.title,
        "layer": stored["layer"],
        "first_epoch": stored["first"],
        "raised_at": stored["raised"],
        "last_epoch": stored["last"],
        "active": stored["cleared"] is None,
    }


def _verification(run: Run) -> dict[str, Any] | None:
    if run.verification is None:
        return None
    then, now = run.verification["builds"] or {}, run.builds or {}
    differs, equal = run.verification["difference"], run.status == RunStatus.SUCCEEDED
    return {name: value for name, value in run.verification.items() if name != "run"} | {
        "equal": False if differs else True if equal else None,
        "changed_builds": sorted(name for name in then.keys() & now.keys() if then[name] != now[name]),
    }


def _attempt(attempt: RunAttempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "attempt_id": attempt.attempt_id,
        "worker": attempt.worker,
        "started_at": iso(attempt.started_at),
        "started_epoch": attempt.started_epoch,
        "started_steps": attempt.started_steps,
        "ended_at": iso(attempt.ended_at),
        "ended_epoch": attempt.ended_epoch,
        "ended_steps": attempt.ended_steps,
        "status": attempt.status,
        "reason": attempt.reason,
        "detail": attempt.detail,
    }


def new_run(plan: plans.Plan) -> Run:
    """Make the run of a plan, waiting to be trained."""
    config = plan.config
    validation = config["validation"] or {}
    return Run(
        id=new_id("run"),
        name=config["name"],
        status=RunStatus.QUEUED,
        reason=Reason.SUBMITTED,
        detail="",
        priority=config["priority"],
        config=config,
        trace_parent=tracing.current(),
        dataset=config["dataset"],
        validation_dataset=validation.get("dataset"),
        epochs_total=config["epochs"],
        steps_per_epoch=plan.steps_per_epoch,
        parameters=plan.estimate["parameters"],
        estimated_bytes=plan.estimate.get("storage_bytes", 0),
        revision=1,
        cancel_requested=False,
        pause_requested=False,
        trained_s=0.0,
        attempts=0,
        failures=0,
        heartbeat=0,
        epochs_done=0,
        steps_done=0,
        steps_inherited=0,
        purging=False,
        created_at=now(),
    )


def _submitted(run: Run) -> RunTransition:
    return RunTransition(status=run.status, reason=run.reason, detail="", worker=None, at=run.created_at)


def found(run: Run | None, run_id: str) -> Run:
    """Insist on a run.

    Raises:
        NotFound: there is none, or it is deleted.
    """
    if run is None or run.purging:
        raise NotFound(f"There is no run {run_id!r}.")
    if run.deleted_at is not None:
        raise NotFound(
            f"Run {run_id} was deleted at {iso(run.deleted_at)}; POST /v1/runs/{run_id}/restore brings it back while "
            "that can be done."
        )
    return run


def _may_go_on(run: Run) -> None:
    if RunStatus(run.status).terminal:
        raise _ended(run)
    if run.cancel_requested:
        raise Conflict(f"Run {run.id} is to be cancelled.", extra={"current_status": run.status})


def _match(run: Run, if_match: Collection[int] | None) -> None:
    if if_match is not None and run.revision not in if_match:
        raise PreconditionFailed(
            f'Run {run.id} has changed since: its ETag is "r{run.revision}" now; read it again and decide anew.'
        )


def _ended(run: Run) -> Conflict:
    return Conflict(f"Run {run.id} has already {run.status}.", extra={"current_status": run.status})


def _eta_s(run: Run, steps_total: int) -> float | None:
    if RunStatus(run.status).terminal:
        return 0.0
    own = run.steps_done - run.steps_inherited
    if own <= 0 or not run.trained_s:
        return None
    return round(run.trained_s * (steps_total - run.steps_done) / own, 2)


def iso(moment: Any) -> str | None:
    """Write a moment as the API does."""
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")
