"""Lineage: a run that goes on where another ended, and a run with another's config, changed or not.

A run that has ended is final. To extend it is to make a new run that takes over all it recorded, and
its resume point; that ends with the weights that as many epochs from the start would give, to the bit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.orm import Session

from chainrule.app.config import Settings
from chainrule.app.errors import Conflict, FieldError, InvalidInput
from chainrule.app.run_status import Reason, RunStatus
from chainrule.app.services import idempotency, plans, runs, training
from chainrule.app.services.runs import Submitted
from chainrule.app.store import checkpoints
from chainrule.app.store import lineage as store
from chainrule.app.store import runs as runs_store
from chainrule.app.store.database import Database
from chainrule.app.store.models import Run
from chainrule.engine import SCHEDULES

EXTENDABLE = (Reason.COMPLETED, Reason.CANCEL_REQUESTED, Reason.DEADLINE_EXCEEDED, Reason.ATTEMPTS_EXHAUSTED)
"""Endings that cut a training off between two steps; what ended for another reason would end again, or differ."""


@dataclass(frozen=True)
class Length:
    """How long an extended run is to be: so many epochs more than are recorded, or so many in all; one of both."""

    epochs: int | None = None
    to: int | None = None

    @property
    def pointer(self) -> str:
        """The field that was given."""
        return "/epochs" if self.to is None else "/to"

    def total(self, done: int) -> int:
        """Count the epochs of the extended run."""
        return self.to if self.to is not None else done + (self.epochs or 0)


def extend(
    database: Database,
    settings: Settings,
    parent_id: str,
    length: Length,
    *,
    key: idempotency.Key | None,
) -> Submitted:
    """Store a run that goes on where another ended.

    Transaction: with the run is stored a copy of all that the parent recorded, so that the parent may
    be deleted the moment after.

    Raises:
        NotFound: there is no such run.
        Conflict: it has not ended, cannot go on, or would differ from one of that length from the start.
        InvalidInput: it is that long already, or the whole run would be over a limit.
        QueueFull, IdempotencyMismatch, IdempotencyInFlight: as for every run.
    """
    return runs.create(
        database,
        settings,
        lambda: plan_extension(database, settings, parent_id, length),
        key=key,
        adopt=lambda session, run: take_over(session, run, parent_id),
    )


def plan_extension(database: Database, settings: Settings, parent_id: str, length: Length) -> plans.Plan:
    """Plan the run that goes on where another ended, or refuse it; stores nothing.

    Raises:
        NotFound, Conflict, InvalidInput: as `extend` says.
    """
    with database.reading() as session:
        parent = runs.found(runs_store.get(session, parent_id), parent_id)
        done = checkpoints.resume_epoch(session, parent_id)
        inputs = training.load_inputs(session, parent_id, parent.config)
    total = length.total(parent.epochs_done)
    _check(parent, done, total, length)
    try:
        made = plans.make(database, settings, parent.config | {"epochs": total})
    except InvalidInput as error:
        error.errors = (FieldError(length.pointer, error.detail),)
        raise
    return replace(made, inputs=inputs)  # the parent's, even if another build would fit them otherwise


def take_over(session: Session, run: Run, parent_id: str) -> None:
    """Give a new run, stored in this transaction, all that another has recorded, and where it stands.

    Raises:
        NotFound: the other is gone.
    """
    parent = runs.found(runs_store.hold(session, parent_id), parent_id)
    store.copy_records(session, parent_id, run.id)
    run.extends = parent_id
    run.epochs_done = parent.epochs_done
    run.steps_done = run.steps_inherited = parent.steps_done
    run.best_epoch = parent.best_epoch
    run.cost, run.error = parent.cost, parent.error
    run.validation_cost, run.validation_error = parent.validation_cost, parent.validation_error
    run.diagnoses = parent.diagnoses
    run.builds = parent.builds


def clone(
    database: Database, settings: Settings, parent_id: str, changes: Mapping[str, Any], *, key: idempotency.Key | None
) -> Submitted:
    """Store a run with another's config, in which `changes` replace whole fields.

    Raises:
        NotFound: there is no such run.
        InvalidInput: the changed config is wrong or over a limit.
        QueueFull, IdempotencyMismatch, IdempotencyInFlight: as for every run.
    """

    def adopt(_session: Session, run: Run) -> None:
        run.cloned_from = parent_id

    return runs.create(
        database,
        settings,
        lambda: plans.make(database, settings, changed(database, parent_id, changes)),
        key=key,
        adopt=adopt,
    )


def changed(database: Database, parent_id: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Replace whole fields of a run's config; one that is None goes back to its default.

    Raises:
        NotFound: there is no such run.
    """
    config = runs.get(database, parent_id)["config"]
    # The width of the input was filled in from the dataset, and is again.
    network = {name: value for name, value in config["network"].items() if name != "inputs"}
    spec = config | {"network": network} | changes
    return {name: value for name, value in spec.items() if value is not None}


def _check(parent: Run, done: int | None, total: int, length: Length) -> None:
    """Refuse what cannot go on exactly, with the way out."""
    about: dict[str, object] = {"current_status": parent.status}
    if parent.verifies is not None:
        raise Conflict(f"Run {parent.id} only verifies run {parent.verifies}; extend that one.", extra=about)
    instead = f"POST /v1/runs/{parent.id}/clone with the number of epochs trains one from the start."
    if not RunStatus(parent.status).terminal:
        raise Conflict(
            f"Run {parent.id} is {parent.status}; only what has ended can be extended: wait, or cancel it.",
            extra=about,
        )
    if parent.reason == Reason.DIVERGED:
        raise Conflict(
            f"Run {parent.id} has diverged ({parent.detail}), and would again. "
            f"POST /v1/runs/{parent.id}/clone with a smaller learning rate, or a clip, trains another.",
            extra=about,
        )
    stopping = parent.config.get("early_stopping")
    if stopping and parent.best_epoch is not None and parent.epochs_done - parent.best_epoch >= stopping["patience"]:
        # Also one that had come to its last epoch by then: longer, it would have stopped there.
        raise Conflict(
            f"Run {parent.id} has stopped early: no epoch was better than {parent.best_epoch} in "
            f"{stopping['patience']} epochs. POST /v1/runs/{parent.id}/clone with a larger early_stopping.patience, or "
            "with early_stopping null, trains another.",
            extra=about,
        )
    if parent.reason not in EXTENDABLE:
        raise Conflict(f"Run {parent.id} has ended for good ({parent.reason}). {instead}", extra=about)
    if done is None:
        why = "it ended before it had begun" if parent.attempts == 0 else "none was kept when it ended"
        raise Conflict(f"Run {parent.id} has no resume point to go on from: {why}. {instead}", extra=about)
    if total <= done:
        raise InvalidInput.at(
            length.pointer,
            f"Run {parent.id} has {done} epochs already; extend it to more than that, or clone it with fewer.",
        )
    schedule = parent.config.get("schedule") or {}
    name = schedule.get("name", "constant")
    if SCHEDULES[name].of_total and total != parent.epochs_total:
        raise Conflict(
            f"The learning rates of schedule {name!r} depend on the number of epochs: a run of {total} epochs would "
            f"have had others than run {parent.id} from the first epoch on. {instead}",
            extra=about,
        )
