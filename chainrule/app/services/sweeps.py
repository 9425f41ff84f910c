"""Sweeps: many runs of one spec with some fields varied; each is a run like any other, and ends as it would alone."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from chainrule.app.config import Settings
from chainrule.app.errors import AppError, Conflict, InvalidInput, NotFound
from chainrule.app.run_status import RunStatus
from chainrule.app.services import datasets, idempotency, lineage, plans, quotas, retention, runs
from chainrule.app.services.runs import Submitted
from chainrule.app.services.strategies import (
    Candidate,
    Varied,
    count_of,
    of_member,
    run_with,
    rungs,
    sizes,
    suggest,
)
from chainrule.app.store import deletions
from chainrule.app.store import inputs as inputs_store
from chainrule.app.store import runs as runs_store
from chainrule.app.store import sweeps as store
from chainrule.app.store.database import Database, new_id, now
from chainrule.app.store.models import Run, Sweep
from chainrule.engine import stack_key

PREVIEWED = 100

log = logging.getLogger(__name__)


def submit(
    database: Database,
    settings: Settings,
    spec: dict[str, Any],
    candidates: Sequence[Candidate],
    *,
    key: idempotency.Key | None,
) -> Submitted:
    """Store a sweep with all its runs, or refuse it before anything is taken.

    Transaction: the sweep, its runs and the answer to its idempotency key are stored in one.

    Raises:
        InvalidInput: the spec of a member is wrong or over a limit.
        QueueFull, StorageFull: there is no room for them, by the limits of all owners or of each.
        IdempotencyMismatch, IdempotencyInFlight: the key belongs to another request.
    """
    with idempotency.in_flight(key):
        if given := idempotency.find(database, key):
            return Submitted(given.body, replayed=True)
        made = list(zip(candidates, _plans(database, settings, spec, candidates), strict=True))
        sweep = Sweep(
            id=new_id("sweep"),
            name=spec["name"],
            spec=spec,
            objective=_objective(database, spec, [plan for _, plan in made]),
            rung=0,
            rungs=rungs(spec)[0],
            cancel_requested=False,
            created_at=now(),
        )
        with database.writing() as session:
            if given := idempotency.begin(session, key):
                return Submitted(given.body, replayed=True)
            for dataset, validation in {(plan.config["dataset"], _validation_dataset(plan)) for _, plan in made}:
                datasets.hold(session, dataset, "/run/dataset")
                datasets.hold(session, validation, "/run/validation/dataset")
            quotas.admit_runs(session, settings, len(made))
            quotas.admit_bytes(session, settings, sum(plan.estimate["storage_bytes"] for _, plan in made))
            store.add(session, sweep)
            store.add_members(
                session,
                [
                    _member_row(sweep, position, _add_run(session, settings, sweep, plan), 0, candidate.varied)
                    for position, (candidate, plan) in enumerate(made)
                ],
            )
            answer = _view(session, sweep)
            idempotency.keep(session, key, idempotency.Answer(201, f"/v1/sweeps/{sweep.id}", answer))
    return Submitted(answer, replayed=False)


def preview(
    database: Database, settings: Settings, spec: dict[str, Any], candidates: Sequence[Candidate]
) -> dict[str, Any]:
    """Tell what the members of a sweep would be and take; store nothing.

    Raises:
        InvalidInput: the spec of a member is wrong or over a limit.
    """
    made = _plans(database, settings, spec, candidates)
    sums = {name: sum(plan.estimate[name] for plan in made) for name in ("steps", "storage_bytes")}
    keys = {_stack_key(settings, plan) if spec["stack"] else None for plan in made}
    return {
        "valid": True,
        "objective": _objective(database, spec, made),
        "members": len(made),
        "rungs": sizes(spec, count_of(spec["strategy"])),
        "stacks": len(keys - {None}),
        "estimate": sums,
        "varied": [candidate.varied for candidate in candidates[:PREVIEWED]],
    }


def get(database: Database, sweep_id: str) -> dict[str, Any]:
    """Look at one sweep: how far its runs have come, and which is best.

    Raises:
        NotFound: there is no such sweep.
    """
    with database.reading() as session:
        return _view(session, _found(store.get(session, sweep_id), sweep_id))


def page(database: Database, *, limit: int, cursor_id: str | None, deleted: bool = False) -> list[dict[str, Any]]:
    """List sweeps, or those that are deleted and can be restored, the newest first, from behind `cursor_id`."""
    with database.reading() as session:
        found = store.page(session, limit=limit, cursor_id=cursor_id, deleted=deleted)
        return [_view(session, sweep) for sweep in found]


def members(database: Database, sweep_id: str, *, after: int, limit: int) -> tuple[list[dict[str, Any]], int | None]:
    """List members behind position `after`, and where more begin.

    Raises:
        NotFound: there is no such sweep.
    """
    with database.reading() as session:
        sweep = _found(store.get(session, sweep_id), sweep_id)
        rows = store.members(session, sweep_id, sweep.objective, after=after, limit=limit + 1)
        shown = [_member(member) for member in rows]
    return shown[:limit], shown[limit - 1]["position"] if len(shown) > limit else None


def cancel(database: Database, sweep_id: str) -> dict[str, Any]:
    """Cancel every run of a sweep that has not ended; repeating is harmless.

    Raises:
        NotFound: there is no such sweep.
        Conflict: it has ended otherwise.
    """
    with database.writing() as session:
        sweep = _found(store.hold(session, sweep_id), sweep_id)
        status = _view(session, sweep)["status"]
        if RunStatus(status).terminal and status != RunStatus.CANCELLED:
            raise Conflict(f"Sweep {sweep_id} has already {status}.", extra={"current_status": status})
        sweep.cancel_requested = True
        for run_id in store.waiting_runs(session, sweep_id):
            if not runs_store.cancel_queued(session, run_id):
                runs_store.request_cancel(session, run_id)
        session.flush()
        session.expire_all()
        return _view(session, sweep)


def delete(database: Database, sweep_id: str, *, purge: bool = False) -> None:
    """Delete an ended sweep with its runs and all they recorded; with a way back, unless it is to be purged.

    Raises:
        NotFound: there is no such sweep.
        Conflict: it has not ended yet.
    """
    with database.writing() as session:
        sweep = store.hold(session, sweep_id)
        if sweep is None or not (purge and sweep.deleted_at):
            sweep = _found(sweep, sweep_id)
            status = _view(session, sweep)["status"]
            if not RunStatus(status).terminal or store.waiting_runs(session, sweep_id):
                raise Conflict(
                    f"Sweep {sweep_id} is {status}; cancel it and wait for its end before deleting it.",
                    extra={"current_status": status},
                )
        of_sweep = deletions.mark_sweep(session, sweep, for_good=purge)
    if purge:
        retention.purge(database, of_sweep)


def restore(database: Database, sweep_id: str) -> dict[str, Any]:
    """Bring a deleted sweep back, with the runs that were deleted with it; harmless for one that is not deleted.

    Raises:
        NotFound: there is no such sweep, or no longer.
    """
    with database.writing() as session:
        sweep = store.hold(session, sweep_id)
        if sweep is None:
            raise NotFound(f"There is no sweep {sweep_id!r}.")
        if sweep.deleted_at is not None:
            deletions.restore_sweep(session, sweep)
            session.flush()
        return _view(session, sweep)


def advance(database: Database, settings: Settings, run_ids: Sequence[str] | None = None) -> None:
    """Take sweeps to their next rung where all runs of one have ended: the best are extended, or values suggested.

    Repeating it, at any time and by anybody, is harmless. What keeps one sweep from going on keeps none of the others.

    Args:
        database: with the sweeps.
        settings: of the service.
        run_ids: runs that have just ended; None to look at every sweep.
    """
    with database.reading() as session:
        unfinished = store.unfinished(session)
        if run_ids is not None:
            unfinished = [sweep_id for sweep_id in unfinished if sweep_id in store.sweep_of(session, run_ids)]
    for sweep_id in unfinished:
        try:
            _climb(database, settings, sweep_id)
        except AppError as error:
            log.warning("%s waits for a process that can take it further: %s", sweep_id, error.detail)


def _climb(database: Database, settings: Settings, sweep_id: str) -> None:
    """Store the runs of a sweep's next rung.

    Whoever cannot go on (it has stopped early, was deleted, or would be over a limit by now) stays where it is, and
    with nobody left who can, the sweep is at its end. The limit of the queue does not count here: the sweep was let in.

    Transaction: the runs are stored and the rung is counted up in one, so there is never a part of a rung.
    Concurrency: it holds the sweep, as cancelling and deleting it do; of several who try, the first climbs.
    """
    with database.reading() as session:
        sweep = store.get(session, sweep_id)
        if sweep is None or sweep.rung >= sweep.rungs - 1:
            return
        rung, spec = sweep.rung, sweep.spec
        everybody = store.members(session, sweep_id, sweep.objective)
        if not all(RunStatus(member.run.status).terminal for member in everybody if member.place.rung == rung):
            return
        ranked = store.ranked(session, sweep_id, sweep.objective, rung=rung)
    database = database.of(sweep.owner)  # whose the new runs are, and what they may be made of
    if spec["halving"]:
        chosen = _promoted(database, settings, spec, rung, ranked)
    else:
        chosen = _suggested(database, settings, spec, rung, everybody)
    with database.writing() as session:
        sweep = store.hold(session, sweep_id)
        if sweep is None or sweep.rung != rung or sweep.cancel_requested:
            return
        position = store.next_position(session, sweep_id)
        rows_made: list[dict[str, Any]] = []
        for varied, plan, parent in chosen:
            if parent is not None and ((held := runs_store.hold(session, parent)) is None or held.deleted_at):
                continue  # deleted meanwhile
            run = _add_run(session, settings, sweep, plan)
            if parent is not None:
                lineage.take_over(session, run, parent)
            rows_made.append(_member_row(sweep, position + len(rows_made), run, rung + 1, varied))
        session.flush()
        store.add_members(session, rows_made)
        sweep.rung = rung + 1 if rows_made else sweep.rungs - 1


def _promoted(
    database: Database, settings: Settings, spec: Mapping[str, Any], rung: int, ranked: Sequence[store.Member]
) -> list[tuple[Varied, plans.Plan, str | None]]:
    """Plan how the best of a rung go on: each with the values it has, and the run it extends."""
    halving, total = spec["halving"], spec["run"]["epochs"]
    size = sizes(spec, count_of(spec["strategy"]))[rung + 1]
    to = lineage.Length(to=min(halving["epochs"] * halving["factor"] ** (rung + 1), total))
    chosen: list[tuple[Varied, plans.Plan, str | None]] = []
    for member in [member for member in ranked if member.run.status == RunStatus.SUCCEEDED][:size]:
        try:
            plan = lineage.plan_extension(database, settings, member.run.id, to)
            chosen.append((member.place.varied, plan, member.run.id))
        except AppError as error:
            log.info("%s goes no further: %s", member.run.id, error.detail)
    return chosen


def _suggested(
    database: Database, settings: Settings, spec: Mapping[str, Any], rung: int, tried: Sequence[store.Member]
) -> list[tuple[Varied, plans.Plan, str | None]]:
    """Plan runs of the values that those tried suggest; who was cancelled tells nothing."""
    told = [
        (member.place.varied, None if member.run.status == RunStatus.FAILED else member.value)
        for member in tried
        if member.run.status != RunStatus.CANCELLED
    ]
    size = sizes(spec, count_of(spec["strategy"]))[rung + 1]
    chosen: list[tuple[Varied, plans.Plan, str | None]] = []
    for varied in suggest(spec["strategy"], told, size, rung + 1):
        try:
            chosen.append((varied, plans.make(database, settings, run_with(spec, varied)), None))
        except AppError as error:
            log.info("no run with %s: %s", varied, error.detail)
    return chosen


def _add_run(session: Session, settings: Settings, sweep: Sweep, plan: plans.Plan) -> Run:
    run = runs.new_run(plan)
    run.sweep_id = sweep.id
    run.stack_key = _stack_key(settings, plan) if sweep.spec["stack"] else None
    runs_store.add(session, run)
    if plan.config["inputs"] is not None:
        inputs_store.add(session, run.id, plan.inputs.to_dict())
    return run


def _member_row(sweep: Sweep, position: int, run: Run, rung: int, varied: Varied) -> dict[str, Any]:
    return {"sweep_id": sweep.id, "position": position, "run_id": run.id, "rung": rung, "varied": varied}


def _plans(
    database: Database, settings: Settings, spec: Mapping[str, Any], candidates: Sequence[Candidate]
) -> list[plans.Plan]:
    """Plan every member; by halving also at its full length, so that no limit is found only when it comes to it."""
    fitted: plans.Fitted = {}
    made = []
    for candidate in candidates:
        try:
            if spec["halving"]:
                plans.make(database, settings, candidate.spec | {"epochs": spec["run"]["epochs"]}, fitted)
            made.append(plans.make(database, settings, candidate.spec, fitted))
        except InvalidInput as error:
            raise of_member(error, candidate.varied, spec["strategy"]) from error
    return made


def _stack_key(settings: Settings, plan: plans.Plan) -> str | None:
    """Name what runs must have in common to be trained as one computation; None for one that is better off alone."""
    config = plan.config
    if plan.estimate["memory_bytes"] * settings.max_stack > settings.max_memory_bytes:
        return None
    if plan.engine.shards > 1 or plan.engine.optimizer.name == "lbfgs" or config.get("step", "numpy") != "numpy":
        return None
    validation = {name: value for name, value in (config["validation"] or {}).items() if name != "seed"}
    alike = (
        stack_key(plan.engine),
        config["dataset"],
        validation,
        config["checkpoints"],
        config["inputs"],
        config["sample_weights"],
    )
    return hashlib.sha256(repr(alike).encode()).hexdigest()


def _objective(database: Database, spec: Mapping[str, Any], made: Sequence[plans.Plan]) -> str:
    """Choose what the best member has least of; every member has to have it."""
    validated = all(plan.config["validation"] is not None for plan in made)
    objective: str = spec["objective"] or ("validation_cost" if validated else "cost")
    if objective.startswith("validation") and not validated:
        raise InvalidInput.at(
            "/objective", f"{objective} needs validation data in every member: set run/validation, or take cost."
        )
    if objective.endswith("error"):
        for dataset in {plan.config["dataset"] for plan in made}:
            if not datasets.describe(database, dataset).classes:
                cost = objective.replace("error", "cost")
                raise InvalidInput.at(
                    "/objective", f"{objective} needs class labels, and dataset {dataset} has targets; take {cost}."
                )
    return objective


def _validation_dataset(plan: plans.Plan) -> str | None:
    dataset: str | None = (plan.config["validation"] or {}).get("dataset")
    return dataset


def _view(session: Session, sweep: Sweep) -> dict[str, Any]:
    found = store.totals(session, [sweep.id]).get(sweep.id, store.Totals({}, 0, 0, 0))
    best = store.ranked(session, sweep.id, sweep.objective, limit=1)
    status = _status(sweep, found.statuses)
    total = max(found.epochs_total, 1)
    return {
        "id": sweep.id,
        "name": sweep.name,
        "status": status,
        "done": RunStatus(status).terminal,
        "cancel_requested": sweep.cancel_requested,
        "objective": sweep.objective,
        "rung": sweep.rung,
        "rungs": sweep.rungs,
        "members": sum(found.statuses.values()),
        "statuses": {str(state): found.statuses.get(state, 0) for state in RunStatus},
        "progress": {
            "epochs_done": found.epochs_done,
            "epochs_total": found.epochs_total,
            "percent": 100.0 if RunStatus(status).terminal else round(100 * found.epochs_done / total, 2),
        },
        "best": _member(best[0]) if best else None,
        "spec": sweep.spec,
        "deleted_at": runs.iso(sweep.deleted_at),
        "created_at": runs.iso(sweep.created_at),
        "revision": found.changes + sweep.rung + bool(sweep.cancel_requested),
    }


def _status(sweep: Sweep, statuses: Mapping[str, int]) -> RunStatus:
    """Tell a sweep's state by those of its runs."""
    open_ = sum(count for status, count in statuses.items() if not RunStatus(status).terminal)
    to_come = sweep.rung < sweep.rungs - 1 and not sweep.cancel_requested
    if open_ or to_come:
        queued, paused = statuses.get(RunStatus.QUEUED, 0), statuses.get(RunStatus.PAUSED, 0)
        if 0 < open_ == paused:
            return RunStatus.PAUSED
        waiting = queued + paused == sum(statuses.values()) and sweep.rung == 0
        return RunStatus.QUEUED if waiting else RunStatus.RUNNING
    if sweep.cancel_requested:
        return RunStatus.CANCELLED
    if statuses.get(RunStatus.SUCCEEDED):
        return RunStatus.SUCCEEDED
    return RunStatus.CANCELLED if set(statuses) == {RunStatus.CANCELLED} else RunStatus.FAILED


def _member(member: store.Member) -> dict[str, Any]:
    run = member.run
    return {
        "position": member.place.position,
        "run": run.id,
        "rung": member.place.rung,
        "varied": member.place.varied,
        "status": run.status,
        "reason": run.reason,
        "epochs_done": run.epochs_done,
        "epochs_total": run.epochs_total,
        "best_epoch": run.best_epoch,
        "epoch": run.epochs_done if run.best_epoch is None else run.best_epoch,
        "value": member.value,
        "cost": run.cost,
        "error": run.error,
        "validation_cost": run.validation_cost,
        "validation_error": run.validation_error,
    }


def _found(sweep: Sweep | None, sweep_id: str) -> Sweep:
    if sweep is None:
        raise NotFound(f"There is no sweep {sweep_id!r}.")
    if sweep.deleted_at is not None:
        raise NotFound(
            f"Sweep {sweep_id} was deleted at {runs.iso(sweep.deleted_at)}; POST /v1/sweeps/{sweep_id}/restore brings "
            "it back while that can be done."
        )
    return sweep
