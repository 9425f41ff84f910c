"""Runs: what may be submitted, and what a client sees of them."""

import math
from dataclasses import dataclass
from typing import Any

from chainrule.app.config import Settings
from chainrule.app.errors import (
    Conflict,
    InvalidInput,
    LimitExceeded,
    NotFound,
    PreconditionFailed,
    QueueFull,
)
from chainrule.app.run_status import Reason, RunStatus
from chainrule.app.services import datasets, idempotency, training
from chainrule.app.store import runs as store
from chainrule.app.store.database import Database, new_id, now
from chainrule.app.store.models import Run, RunTransition
from chainrule.engine import EngineError, TrainingConfig, activation, cost, default_initializer
from chainrule.engine.optimizers import OPTIMIZERS, OptimizerSpec

RETRY_AFTER_S = 5
_EPOCH_BYTES = 150
_RECORD_BYTES = 130
_TENSOR_HEADER_BYTES = 80


@dataclass(frozen=True)
class Submitted:
    """A run as it was submitted; `replayed` if this answers a repeated request."""

    run: dict[str, Any]
    replayed: bool


@dataclass(frozen=True)
class _Plan:
    """A spec found good: the complete config and what running it will take."""

    config: dict[str, Any]
    engine: TrainingConfig
    steps_per_epoch: int
    estimate: dict[str, int]


def submit(database: Database, settings: Settings, spec: dict[str, Any], *, key: idempotency.Key | None) -> Submitted:
    """Store a run so that it will be trained, or refuse it before anything is taken.

    Transaction: the run and the answer to its idempotency key are stored in one.

    Raises:
        InvalidInput: the spec is wrong or over a limit.
        QueueFull: too many runs wait.
        IdempotencyMismatch, IdempotencyInFlight: the key belongs to another request.
    """
    with idempotency.in_flight(key):
        if given := idempotency.find(database, key):
            return Submitted(given.body, replayed=True)
        plan = _plan(database, settings, spec)
        run = _new_run(plan)
        with database.writing() as session:
            if given := idempotency.begin(session, key):
                return Submitted(given.body, replayed=True)
            queued = store.count_queued(session, settings.max_queued_runs)
            if queued >= settings.max_queued_runs:
                raise QueueFull(queued, settings.max_queued_runs, RETRY_AFTER_S)
            store.add(session, run)
            answer = view(run, [_submitted(run)])
            idempotency.keep(session, key, idempotency.Answer(201, f"/v1/runs/{run.id}", answer))
    return Submitted(answer, replayed=False)


def validate(database: Database, settings: Settings, spec: dict[str, Any]) -> dict[str, Any]:
    """Check a spec as `submit` would and tell what it will take; store nothing."""
    plan = _plan(database, settings, spec)
    return {"valid": True, "config": plan.config, "estimate": plan.estimate}


def training_of(database: Database, settings: Settings, spec: dict[str, Any]) -> TrainingConfig:
    """Check a network, a cost and a dataset as `submit` would, and give the engine's config of one epoch.

    Raises:
        InvalidInput: they do not fit together or are over a limit.
    """
    return _plan(database, settings, {**spec, "epochs": 1}).engine


def get(database: Database, run_id: str) -> dict[str, Any]:
    """Look at one run, with the history of its states.

    Raises:
        NotFound: there is no such run.
    """
    with database.reading() as session:
        run = found(store.get(session, run_id), run_id)
        return view(run, list(store.transitions(session, run_id)))


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
    dataset: str | None,
    newest_first: bool,
) -> list[dict[str, Any]]:
    """List runs in the order they were submitted, from behind `cursor_id`."""
    with database.reading() as session:
        runs = store.page(
            session,
            limit=limit,
            cursor_id=cursor_id,
            statuses=statuses,
            name=name,
            dataset=dataset,
            newest_first=newest_first,
        )
        return [view(run) for run in runs]


def cancel(database: Database, run_id: str, *, if_match: int | None) -> dict[str, Any]:
    """Cancel a waiting run at once, note the wish for a running one; repeating is harmless.

    Raises:
        NotFound: there is no such run.
        PreconditionFailed: the run has changed since `if_match`.
        Conflict: it has ended otherwise.
    """
    with database.writing() as session:
        run = found(store.get(session, run_id), run_id)
        _match(run, if_match)
        if not store.cancel_queued(session, run_id):
            store.request_cancel(session, run_id)
        session.refresh(run)
        if run.status in (RunStatus.SUCCEEDED, RunStatus.FAILED):
            raise _ended(run)
        return view(run, list(store.transitions(session, run_id)))


def delete(database: Database, run_id: str, *, if_match: int | None) -> None:
    """Delete an ended run with all it recorded.

    Raises:
        NotFound: there is no such run.
        PreconditionFailed: the run has changed since `if_match`.
        Conflict: it has not ended yet.
    """
    with database.writing() as session:
        run = found(store.get(session, run_id), run_id)
        _match(run, if_match)
        if not store.remove(session, run_id):
            raise Conflict(
                f"Run {run_id} is {run.status}; cancel it and wait for its end before deleting it.",
                extra={"current_status": run.status},
            )


def view(run: Run, transitions: list[RunTransition] | None = None) -> dict[str, Any]:
    """Show a run as clients see it."""
    steps_total = run.steps_per_epoch * run.epochs_total
    share = run.steps_done / steps_total if steps_total else 1.0
    shown: dict[str, Any] = {
        "id": run.id,
        "name": run.name,
        "status": run.status,
        "reason": run.reason,
        "detail": run.detail,
        "done": RunStatus(run.status).terminal,
        "dataset": run.dataset,
        "config": run.config,
        "parameters": run.parameters,
        "priority": run.priority,
        "cancel_requested": run.cancel_requested,
        "progress": {
            "epochs_done": run.epochs_done,
            "epochs_total": run.epochs_total,
            "steps_done": run.steps_done,
            "steps_total": steps_total,
            "percent": round(100 * share, 2),
            "eta_s": _eta_s(run, share),
        },
        "cost": run.cost,
        "error": run.error,
        "validation_cost": run.validation_cost,
        "validation_error": run.validation_error,
        "attempts": run.attempts,
        "failures": run.failures,
        "worker": run.worker,
        "builds": run.builds,
        "created_at": _iso(run.created_at),
        "started_at": _iso(run.started_at),
        "finished_at": _iso(run.finished_at),
        "revision": run.revision,
    }
    if transitions is not None:
        shown["transitions"] = [
            {"status": t.status, "reason": t.reason, "detail": t.detail, "worker": t.worker, "at": _iso(t.at)}
            for t in transitions
        ]
    return shown


def _plan(database: Database, settings: Settings, spec: dict[str, Any]) -> _Plan:
    info = _describe(database, spec["dataset"], "/dataset")
    validation = spec.get("validation")
    held_out = None
    if validation and validation.get("dataset") is not None:
        held_out = _describe(database, validation["dataset"], "/validation/dataset")
        _same_shape(info, held_out)
    try:
        config = _complete(spec, info)
        engine = training.engine_config(config, info.features)
        _fit(engine, info)
        samples, validating = training.split_sizes(
            info.samples, config["validation"], held_out.samples if held_out else None
        )
    except EngineError as error:
        raise InvalidInput.at(f"/{error.field}" if error.field else "", str(error)) from error
    if samples < 1 or (validation and validating < 1):
        raise InvalidInput.at(
            "/validation/fraction",
            f"A fraction of {validation['fraction'] if validation else 0} leaves {samples} samples for training and "
            f"{validating} for validation out of {info.samples}; each needs at least one.",
        )
    steps = engine.steps_per_epoch(samples)
    estimate = {
        "parameters": engine.network.parameter_count,
        "steps": steps * engine.epochs,
        "memory_bytes": engine.memory_bytes(samples, validating),
        "storage_bytes": _storage_bytes(config, engine),
    }
    _limit(settings, estimate)
    return _Plan(config, engine, steps, estimate)


def _complete(spec: dict[str, Any], info: datasets.DatasetInfo) -> dict[str, Any]:
    """Fill every default in, so that the stored config says all that determines the run."""
    layers = [dict(layer) for layer in spec["network"]["layers"]]
    for position, layer in enumerate(layers):
        try:
            activation(layer["activation"])
        except EngineError as error:
            error.field = f"network/layers/{position}/activation"
            raise
        if layer.get("initializer") is None:
            layer["initializer"] = default_initializer(layer["activation"])
    features = info.features
    inputs = spec["network"].get("inputs") or features
    if inputs != features:
        raise InvalidInput.at(
            "/network/inputs",
            f"The network takes {inputs} inputs and the dataset has {features} features; "
            f"set inputs to {features} or leave it out.",
        )
    entropic = info.classes and layers and layers[-1]["activation"] in cost("cross_entropy").fits
    gradients = spec.get("gradients") or {}
    every = gradients.get("every")
    return {
        "name": spec.get("name") or "",
        "dataset": spec["dataset"],
        "validation": spec.get("validation"),
        "network": {"inputs": inputs, "layers": layers},
        "cost": spec.get("cost") or ("cross_entropy" if entropic else "mse"),
        "optimizer": _complete_optimizer(spec.get("optimizer") or {}),
        "epochs": spec["epochs"],
        "batch_size": spec.get("batch_size"),
        "shuffle": spec.get("shuffle", True),
        "seed": spec.get("seed", 0),
        "dtype": spec.get("dtype", "float32"),
        "checkpoints": {"every": 1, "keep": None, **(spec.get("checkpoints") or {})},
        "gradients": {"every": training.default_gradients_every(spec["epochs"]) if every is None else every},
        "priority": spec.get("priority", 0),
    }


def _complete_optimizer(given: dict[str, Any]) -> dict[str, Any]:
    chosen = {name: value for name, value in given.items() if value is not None}
    spec = OptimizerSpec(**chosen)
    uses = OPTIMIZERS[spec.name].uses
    unused = sorted(set(chosen) - {"name", "learning_rate", *uses})
    if unused:
        raise InvalidInput.at(
            f"/optimizer/{unused[0]}",
            f"Optimizer {spec.name!r} does not use {unused[0]}; it uses {', '.join(('learning_rate', *uses))}.",
        )
    return {
        "name": spec.name,
        "learning_rate": spec.learning_rate,
        **{name: getattr(spec, name) for name in uses},
    }


def _fit(engine: TrainingConfig, info: datasets.DatasetInfo) -> None:
    """Check that the dataset's targets fit the network's output."""
    units = engine.network.outputs
    last = len(engine.network.layers) - 1
    output = engine.network.layers[last].activation
    if not info.classes:
        if units != info.targets:
            raise InvalidInput.at(
                f"/network/layers/{last}/units",
                f"The dataset has {info.targets} targets and the output layer {units} units; set it to {info.targets}.",
            )
        if engine.cost == "cross_entropy":
            raise InvalidInput.at(
                "/cost",
                "Cost 'cross_entropy' needs a dataset with class labels; for numeric targets use 'mse'.",
            )
        return
    fitting = {len(info.classes)} | ({1} if len(info.classes) == 2 and output != "softmax" else set())
    if units not in fitting:
        wanted = " or ".join(str(n) for n in sorted(fitting))
        raise InvalidInput.at(
            f"/network/layers/{last}/units",
            f"The dataset has {len(info.classes)} classes and the output layer {units} units; set it to {wanted}.",
        )


def _limit(settings: Settings, estimate: dict[str, int]) -> None:
    every = "Keep fewer weights: raise checkpoints.every or set checkpoints.keep."
    for what, value, limit, setting, pointer, hint in (
        ("The number of parameters", estimate["parameters"], settings.max_parameters, "PARAMETERS", "/network", ""),
        ("The number of steps", estimate["steps"], settings.max_steps, "STEPS", "/epochs", ""),
        ("The memory in bytes", estimate["memory_bytes"], settings.max_memory_bytes, "MEMORY_BYTES", "/network", ""),
        ("The storage in bytes", estimate["storage_bytes"], settings.max_storage_bytes, "STORAGE_BYTES",
         "/checkpoints/every", every),
    ):  # fmt: skip
        if value > limit:
            raise LimitExceeded(what, value, limit, f"CHAINRULE_MAX_{setting}", pointer=pointer, hint=hint)


def _storage_bytes(config: dict[str, Any], engine: TrainingConfig) -> int:
    epochs: int = engine.epochs
    layers = len(engine.network.layers)
    itemsize = 8 if engine.dtype == "float64" else 4
    checkpoint: int = engine.network.parameter_count * itemsize + 2 * layers * _TENSOR_HEADER_BYTES + 100
    kept: int = math.ceil(epochs / config["checkpoints"]["every"]) + 2
    if config["checkpoints"]["keep"] is not None:
        kept = min(kept, config["checkpoints"]["keep"] + 2)
    recorded: int = math.ceil(epochs / config["gradients"]["every"]) + 2 if config["gradients"]["every"] else 0
    return kept * checkpoint + epochs * _EPOCH_BYTES + recorded * 2 * layers * _RECORD_BYTES


def _describe(database: Database, dataset: str, pointer: str) -> datasets.DatasetInfo:
    try:
        return datasets.describe(database, dataset)
    except NotFound as error:
        raise InvalidInput.at(pointer, f"{error.detail} GET /v1/datasets lists those there are.") from error


def _same_shape(info: datasets.DatasetInfo, held_out: datasets.DatasetInfo) -> None:
    if (info.features, info.targets, info.classes) != (held_out.features, held_out.targets, held_out.classes):
        raise InvalidInput.at(
            "/validation/dataset",
            f"The validation dataset ({held_out.features} features, {len(held_out.classes)} classes) does not match "
            f"the training dataset ({info.features} features, {len(info.classes)} classes); "
            "features and classes must be the same, in the same order.",
        )


def _new_run(plan: _Plan) -> Run:
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
        dataset=config["dataset"],
        validation_dataset=validation.get("dataset"),
        epochs_total=config["epochs"],
        steps_per_epoch=plan.steps_per_epoch,
        parameters=plan.estimate["parameters"],
        revision=1,
        cancel_requested=False,
        attempts=0,
        failures=0,
        heartbeat=0,
        epochs_done=0,
        steps_done=0,
        created_at=now(),
    )


def _submitted(run: Run) -> RunTransition:
    return RunTransition(status=run.status, reason=run.reason, detail="", worker=None, at=run.created_at)


def found(run: Run | None, run_id: str) -> Run:
    """Insist on a run.

    Raises:
        NotFound: there is none.
    """
    if run is None:
        raise NotFound(f"There is no run {run_id!r}.")
    return run


def _match(run: Run, if_match: int | None) -> None:
    if if_match is not None and run.revision != if_match:
        raise PreconditionFailed(
            f'Run {run.id} has changed since: its ETag is "r{run.revision}" now; read it again and decide anew.'
        )


def _ended(run: Run) -> Conflict:
    return Conflict(f"Run {run.id} has already {run.status}.", extra={"current_status": run.status})


def _eta_s(run: Run, share: float) -> float | None:
    if RunStatus(run.status).terminal:
        return 0.0
    if run.started_at is None or share <= 0:
        return None
    elapsed_s = (now() - run.started_at).total_seconds()
    return round(elapsed_s * (1 - share) / share, 2)


def _iso(moment: Any) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")
