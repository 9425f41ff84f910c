"""Runs on the wire, as they are answered."""

from datetime import datetime
from typing import Any

from pydantic import Field

from chainrule.app.api.schemas.specs import RunSpec
from chainrule.app.api.schemas.wire import Answer


class Progress(Answer):
    """How far a run has come."""

    epochs_done: int = Field(description="Epochs recorded so far, epoch 0 not counted.")
    epochs_total: int = Field(description="Epochs it is to train; with early stopping at most.")
    steps_done: int = Field(description="Steps up to the newest resume point.")
    steps_total: int = Field(description="Steps it is to take.")
    percent: float = Field(description="Share of the steps done, 0 to 100; 100 once it has succeeded.")
    eta_s: float | None = Field(description="Estimated seconds to the end; null while nothing is known.")


class Transition(Answer):
    """One change of state."""

    status: str = Field(description="The state it came into.")
    reason: str = Field(description="Why.")
    detail: str = Field(description="More about it, if there is more.")
    worker: str | None = Field(description="Which worker took it; for running only.")
    at: datetime = Field(description="When.")


class Differing(Answer):
    """Something of an epoch that came out differently."""

    name: str = Field(
        description="weights (their SHA-256), cost, error, validation_cost, validation_error, learning_rate, or epoch "
        "where the training ended before it."
    )
    expected: str | float | None = Field(description="What is stored.")
    found: str | float | None = Field(description="What came out.")


class Difference(Answer):
    """The first epoch that came out differently."""

    epoch: int = Field(description="Its number; all before it are equal.")
    quantities: list[Differing] = Field(description="What differs in it; weights first.")


class Verification(Answer):
    """How far a verification has come, and what came out."""

    equal: bool | None = Field(description="Whether all that was compared is equal; null until that is known.")
    first: int = Field(description="The first epoch to be compared.")
    last: int = Field(description="The last one.")
    epochs: int = Field(description="How many epochs were compared and are equal.")
    weights: int = Field(description="Of how many of them the weights are stored, and so were compared too.")
    difference: Difference | None = Field(description="The first epoch that differs; null while none does.")
    builds: dict[str, Any] | None = Field(
        description="What the verified run's weights depended on: its `builds`, as `builds` of this run are those now."
    )
    changed_builds: list[str] = Field(description="Which of them are others now; if any, a difference may be theirs.")


class Diagnosis(Answer):
    """What is wrong with a run, in short."""

    rule: str = Field(description="The rule that says so; GET /v1/diagnoses lists them.")
    severity: str = Field(description="error, warning or info.")
    title: str = Field(description="What it is.")
    layer: int | None = Field(description="Where; null if in no layer alone.")
    first_epoch: int = Field(description="The first epoch at which it was so.")
    raised_at: int = Field(description="The epoch at which it had been so for long enough to be said.")
    last_epoch: int = Field(description="The last epoch at which it was so.")
    active: bool = Field(description="Whether it still is, or was to the end.")


class Run(Answer):
    """One training of one network."""

    id: str = Field(description="Its identifier; sorts by time of submission.")
    name: str = Field(description="What it was called.")
    status: str = Field(
        description="queued, running, paused, succeeded, failed or cancelled; be ready for more.",
        examples=["succeeded"],
    )
    reason: str = Field(
        description="Why it is in this state: submitted, claimed, completed, early_stopped, diverged, "
        "verified, different, nothing_to_compare, "
        "cancel_requested, pause_requested, resumed, drained, gang_incomplete, child_lost, child_stalled, worker_lost, "
        "training_error, deadline_exceeded, memory_exceeded, attempts_exhausted; be ready for more."
    )
    detail: str = Field(description="More about the reason, if there is more.")
    done: bool = Field(description="Whether it has ended; then nothing changes any more.")
    dataset: str = Field(description="What it learns from.")
    extends: str | None = Field(
        description="The run that this one went on from, with its records; null if none. It may be deleted by now."
    )
    cloned_from: str | None = Field(
        description="The run whose config this one began with; null if none. It may be deleted by now."
    )
    verifies: str | None = Field(
        default=None, description="The run that this one trains once more, to compare; null if none."
    )
    verification: Verification | None = Field(
        default=None, description="What came out so far; for a run that verifies another."
    )
    config: RunSpec = Field(description="The spec with every default filled in.")
    parameters: int = Field(description="Number of weights and biases.")
    priority: int = Field(description="Larger is trained sooner.")
    cancel_requested: bool = Field(description="Whether somebody has asked it to stop.")
    pause_requested: bool = Field(description="Whether it is to be paused and still has to stop.")
    sweep: str | None = Field(default=None, description="The sweep it is a member of; null for a run by itself.")
    progress: Progress = Field(description="How far it has come.")
    best_epoch: int | None = Field(
        description="With early stopping the best epoch so far, whose weights `final` names; else null."
    )
    diagnoses: list[Diagnosis] = Field(
        default=[], description="What is wrong with it, or was; GET /v1/runs/{id}/diagnoses has values, reason and fix."
    )
    cost: float | None = Field(description="Cost of the newest epoch: the mean over its training samples.")
    error: float | None = Field(description="Share of the training samples got wrong; null for regression.")
    validation_cost: float | None = Field(description="Cost over the validation samples; null without any.")
    validation_error: float | None = Field(description="Share of the validation samples got wrong.")
    attempts: int = Field(description="How often a worker took it.")
    failures: int = Field(description="How many of its attempts were lost.")
    trained_s: float = Field(description="Seconds it has trained, all attempts together, as recorded.")
    worker: str | None = Field(description="The worker that took it last.")
    builds: dict[str, Any] | None = Field(
        description="Versions of Python, NumPy, BLAS and, where it is installed, Numba, the processor, and what NumPy "
        "and BLAS have chosen for it, on which the exact weights depend; set when first taken."
    )
    thinned_at: datetime | None = Field(
        default=None,
        description="When checkpoints and gradient statistics of all but its last, best and final epochs were removed, "
        "as the service is set to do some time after a run's end; null if they were not.",
    )
    deleted_at: datetime | None = Field(
        default=None, description="When it was deleted; of those listed with `deleted`, else null."
    )
    created_at: datetime = Field(description="When it was submitted.")
    started_at: datetime | None = Field(description="When it was first taken.")
    finished_at: datetime | None = Field(description="When it ended.")
    revision: int = Field(description="Grows with every change; the ETag is made of it.")
    costs: list[float] | None = Field(
        default=None, description="Costs of some epochs, evenly spaced; in lists that are asked for `costs` only."
    )
    transitions: list[Transition] | None = Field(
        default=None, description="The history of its states; in answers about one run only."
    )


class Attempt(Answer):
    """One attempt at a run: from when a worker took it to when that worker let it go, or lost it."""

    number: int = Field(description="Counts the attempts at the run, from 1.")
    attempt_id: str = Field(description="What every write of the attempt names; runs trained together share one.")
    worker: str = Field(description="Who trained: host and process.")
    started_at: datetime = Field(description="When the worker took the run.")
    started_epoch: int = Field(description="Epochs that were recorded when it began.")
    started_steps: int = Field(description="The step it went on from.")
    ended_at: datetime | None = Field(description="When it ended, or was found to have ended; null while it trains.")
    ended_epoch: int | None = Field(description="Epochs recorded at its end.")
    ended_steps: int | None = Field(description="The step of the last resume point it wrote.")
    status: str | None = Field(description="What the run became when it ended: queued if it is to be tried again.")
    reason: str | None = Field(
        description="Why it ended. completed, early_stopped, diverged, cancel_requested, pause_requested, drained: as "
        "the run. gang_incomplete: not every shard had found its place in time. resumed: it was to be paused and was "
        "resumed before it had stopped. worker_lost: no sign of life "
        "from the worker, its machine or its network. child_lost: the training process was killed or could not go on. "
        "child_stalled: it took no step for too long and was killed. training_error: a fault of the run itself, which "
        "is not tried again. deadline_exceeded, memory_exceeded: over a limit of the run's own. "
        "attempts_exhausted: lost, once too often."
    )
    detail: str = Field(description="More about the reason, if there is more.")


class Attempts(Answer):
    """The attempts at a run."""

    items: list[Attempt] = Field(description="All of them, the first one first.")


class RunPage(Answer):
    """A page of runs."""

    items: list[Run] = Field(description="Runs without their transitions.")
    next_cursor: str | None = Field(description="Pass as `cursor` for the next page; null on the last.")


class Estimate(Answer):
    """What a run will take, computed from sizes alone."""

    parameters: int = Field(description="Weights and biases.")
    steps: int = Field(description="Epochs × batches.")
    memory_bytes: int = Field(description="Most memory while training.")
    storage_bytes: int = Field(description="Room for checkpoints, epochs and statistics in the database.")


class Validated(Answer):
    """A spec found good, and not submitted."""

    valid: bool = Field(description="Always true; a spec that is not good is answered as submitting it would be.")
    config: RunSpec = Field(description="The spec with every default filled in.")
    estimate: Estimate = Field(description="What it will take.")
