"""Verifications: a run trained once more, to see whether the same weights come out, epoch by epoch.

A verification is a run like any other to whoever claims, trains and watches it. It stores nothing but how far it
has come: its epochs and the hashes of its weights are compared with those of the run it verifies.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from chainrule.app.config import Settings
from chainrule.app.errors import Conflict, InvalidInput
from chainrule.app.services import idempotency, plans, runs, training
from chainrule.app.services.comparing import Comparison
from chainrule.app.services.runs import Submitted
from chainrule.app.services.weights import decode_safetensors
from chainrule.app.store import checkpoints
from chainrule.app.store import runs as runs_store
from chainrule.app.store.database import Database
from chainrule.app.store.models import Run
from chainrule.engine import OPTIMIZERS, EngineError, Network, ResumePoint, compiled


@dataclass(frozen=True)
class Range:
    """Which epochs are compared: those behind `after`, from whose end the training begins, up to `to`.

    Without `after` it begins where the run began; without `to` it ends where what is recorded ends.
    """

    after: int | None = None
    to: int | None = None


def verify(
    database: Database, settings: Settings, run_id: str, which: Range, *, key: idempotency.Key | None
) -> Submitted:
    """Store a run that trains once more what another has recorded, and compares.

    Raises:
        NotFound: there is no such run.
        Conflict: nothing is recorded, or a training from that epoch on could not be the same.
        InvalidInput: epochs that are not recorded.
        QueueFull, IdempotencyMismatch, IdempotencyInFlight: as for every run.
    """

    def adopt(session: Session, run: Run) -> None:
        # What is recorded by now: a run under way may have got further since the plan was made.
        verified = runs.found(runs_store.hold(session, run_id), run_id)
        comparison = _comparison(verified, which)
        run.verifies, run.verification = run_id, comparison.to_dict()
        run.epochs_total = comparison.last
        if which.after is not None:
            run.epochs_done = which.after
            run.steps_done = run.steps_inherited = which.after * run.steps_per_epoch
            _begin_at(session, verified, run, which.after)

    return runs.create(database, settings, lambda: _plan(database, run_id, which), key=key, adopt=adopt)


def _plan(database: Database, run_id: str, which: Range) -> plans.Plan:
    """Take everything from the run: what was good when it was submitted is not judged again."""
    with database.reading() as session:
        run = runs.found(runs_store.get(session, run_id), run_id)
        inputs = training.load_inputs(session, run_id, run.config)
    if run.verifies is not None:
        raise Conflict(
            f"Run {run_id} is a verification itself and has nothing stored; verify run {run.verifies} again instead."
        )
    _comparison(run, which)
    engine = training.engine_config(run.config, run.config["network"]["inputs"])
    try:
        compiled.check(engine.step)
    except EngineError as error:
        raise Conflict(f"Run {run_id} cannot be trained here as it was: {error}") from error
    return plans.Plan(run.config, engine, run.steps_per_epoch, {"parameters": run.parameters}, inputs)


def _comparison(run: Run, which: Range) -> Comparison:
    """Say what is to be compared, or refuse it."""
    if run.epochs_done < 1:
        raise Conflict(
            f"Run {run.id} has recorded no epoch to compare with; its status is {run.status}.",
            extra={"current_status": run.status},
        )
    last = run.epochs_done if which.to is None else which.to
    if last > run.epochs_done:
        raise InvalidInput.at("/to", f"Run {run.id} has recorded {run.epochs_done} epochs; compare up to one of those.")
    if which.after is not None and which.after >= last:
        raise InvalidInput.at(
            "/after", f"No epoch is recorded behind {which.after} and up to {last}; begin at an earlier one."
        )
    first = 0 if which.after is None else which.after + 1
    return Comparison(run=run.id, first=first, last=last, builds=run.builds)


def _begin_at(session: Session, verified: Run, run: Run, epoch: int) -> None:
    """Give a verification the place it begins at, where one is stored that has all a training goes on with.

    Raises:
        Conflict: there is none.
    """
    whole = f"leave after out, and run {verified.id} is trained from its beginning."
    if memory := remembered(verified.config):
        content = _inherited(session, verified, epoch)
        if content is None:
            raise Conflict(
                f"A training of run {verified.id} cannot begin exactly at epoch {epoch}: {memory}, which no "
                f"checkpoint holds; {whole}"
            )
    else:
        weights = checkpoints.weights(session, verified.id, epoch)
        if weights is None:
            raise Conflict(
                f"Run {verified.id} keeps no checkpoint of epoch {epoch} to begin at; "
                f"GET /v1/runs/{verified.id}/checkpoints lists those it has; or {whole}"
            )
        network = verified.config["network"]
        spec = training.network_spec(network, network["inputs"])
        begun = Network.from_named(spec, decode_safetensors(weights))
        point = ResumePoint(
            epoch=epoch,
            step=0,
            steps=epoch * verified.steps_per_epoch,
            parameters=begun.parameters,
            running=begun.running if begun.running.size else None,
        )
        content = training.encode_resume_point(point)
    checkpoints.put_resume_point(session, run.id, epoch, 0, content)


def remembered(config: dict[str, Any]) -> str:
    """Say what a training remembers beside its weights; empty if that is nothing."""
    name = config["optimizer"]["name"]
    if OPTIMIZERS[name].state:
        return f"optimizer {name!r} remembers earlier steps"
    if (config.get("schedule") or {}).get("name") == "plateau":
        return "schedule 'plateau' remembers earlier costs"
    if config.get("early_stopping"):
        return "early stopping remembers earlier costs"
    return ""


def _inherited(session: Session, run: Run, epoch: int) -> bytes | None:
    """Find the resume point a run went on from at the end of an epoch, with a run that it extends, if that is kept."""
    ancestor: Run | None = run
    while ancestor is not None and ancestor.extends is not None:
        ancestor = runs_store.get(session, ancestor.extends)
        if ancestor is not None and checkpoints.resume_position(session, ancestor.id) == (epoch, 0):
            return checkpoints.get_resume_point(session, ancestor.id)
    return None
