"""Sweeps on the wire."""

import math
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, JsonValue, model_validator

from chainrule.app.api.schemas.specs import DIGITS, Count, RunSpec
from chainrule.app.api.schemas.wire import Answer, Name, Request

Path_ = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9_]+(/[A-Za-z0-9_]+)*$")]
Value = Annotated[JsonValue, Field(description="A value the field may take.")]


class Grid(Request):
    """Every combination of some values."""

    kind: Literal["grid"] = Field(description="Every combination.")
    parameters: dict[Path_, Annotated[list[Value], Field(min_length=1, max_length=1000)]] = Field(
        min_length=1,
        max_length=20,
        description="Path of a field in `run`, such as optimizer/learning_rate, to the values it takes.",
    )


class Seeds(Request):
    """The same run with one seed after another."""

    kind: Literal["seeds"] = Field(description="One seed after another.")
    count: Count = Field(description="How many seeds.")
    first: int = Field(default=0, ge=0, le=2**62, description="The first of them.")


class Range(Request):
    """Where values are drawn from: some choices, or a range of numbers."""

    choices: list[Value] | None = Field(default=None, min_length=1, description="One of these, each as likely.")
    low: float | None = Field(default=None, description="The lowest number.")
    high: float | None = Field(default=None, description="The highest number.")
    scale: Literal["linear", "log"] = Field(
        default="linear", description="Whether numbers or their logarithms are drawn evenly."
    )
    integer: bool = Field(default=False, description="Whether numbers are whole.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.choices is not None:
            if self.low is not None or self.high is not None:
                raise ValueError("Give either choices, or low and high.")
        elif self.low is None or self.high is None or not self.low <= self.high:
            raise ValueError("Give choices, or low and high with low at most high.")
        elif self.scale == "log" and self.low <= 0:
            raise ValueError("A logarithmic scale needs a low above 0.")
        elif self.integer and math.ceil(self.low) > math.floor(self.high):
            raise ValueError("There is no whole number from low to high.")
        return self


class _Drawn(Request):
    count: Count = Field(description="How many members.")
    seed: int = Field(default=0, ge=0, le=2**63 - 1, description="Seed of the draws.")
    parameters: dict[Path_, Range] = Field(
        min_length=1, max_length=20, description="Path of a field in `run` to what its values are drawn from."
    )


class Random(_Drawn):
    """Values drawn at random; the same seed draws the same."""

    kind: Literal["random"] = Field(description="Values drawn at random.")


class Tpe(_Drawn):
    """Values suggested by how those before have done, round after round; the service needs Optuna for it.

    Source: Bergstra et al., "Algorithms for hyper-parameter optimization" (2011).
    """

    kind: Literal["tpe"] = Field(description="Values suggested by a tree-structured Parzen estimator.")
    parallel: Count = Field(default=4, description="Members of a round, which are trained at the same time.")


class Halving(Request):
    """Successive halving: all begin with few epochs, and the best share of each rung goes on with more.

    Source: Jamieson and Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization" (2016).
    """

    epochs: Count = Field(description="Epochs of the first rung; each rung after trains `factor` times as many in all.")
    factor: int = Field(default=2, ge=2, le=100, description="One of so many goes on to the next rung.")


GRID: dict[str, JsonValue] = {
    "name": "learning rates",
    "run": {**DIGITS, "epochs": 8},
    "strategy": {"kind": "grid", "parameters": {"optimizer/learning_rate": [0.001, 0.003], "seed": [0, 1]}},
}
HALVING: dict[str, JsonValue] = {
    "name": "halving",
    "run": {**DIGITS, "epochs": 8},
    "strategy": {
        "kind": "random",
        "count": 4,
        "parameters": {"optimizer/learning_rate": {"low": 0.0005, "high": 0.02, "scale": "log"}},
    },
    "halving": {"epochs": 2, "factor": 2},
}


class SweepSpec(Request):
    """Many runs of one spec, some of whose fields are varied."""

    model_config = ConfigDict(json_schema_extra={"examples": [GRID, HALVING]})

    name: Name = Field(default="", description="What you call it; need not be unique.")
    run: RunSpec = Field(description="The run whose fields are varied.")
    strategy: Annotated[Grid | Random | Seeds | Tpe, Field(discriminator="kind")] = Field(
        description="Which values its fields take."
    )
    halving: Halving | None = Field(
        default=None, description="Train all members a little and only the best of them in full; not by default."
    )
    objective: Literal["validation_cost", "validation_error", "cost", "error"] | None = Field(
        default=None, description="What the best member has least of; validation_cost by default, or cost without any."
    )
    stack: bool = Field(
        default=True,
        description="Whether members that differ in numbers only are trained as one computation; it changes no bit.",
    )


class Member(Answer):
    """One run of a sweep."""

    position: int = Field(description="Its number in the sweep, from 0.")
    run: str = Field(description="Id of its run.")
    rung: int = Field(description="The rung of halving or the round of tpe it belongs to, from 0.")
    varied: dict[str, Any] = Field(description="Path of a field of the run to the value it takes here.")
    status: str = Field(description="As of the run.")
    reason: str = Field(description="As of the run.")
    epochs_done: int = Field(description="Epochs recorded so far.")
    epochs_total: int = Field(description="Epochs it is to train.")
    best_epoch: int | None = Field(description="With early stopping, its best epoch so far.")
    epoch: int = Field(description="The epoch whose weights it ends with as it stands: its best, else its newest.")
    value: float | None = Field(description="The sweep's objective at that epoch, by which members are ranked.")
    cost: float | None = Field(description="Cost of its newest epoch.")
    error: float | None = Field(description="Share of the training samples it gets wrong.")
    validation_cost: float | None = Field(description="Cost over the validation samples.")
    validation_error: float | None = Field(description="Share of the validation samples it gets wrong.")


class SweepProgress(Answer):
    """How far the runs of a sweep have come together."""

    epochs_done: int = Field(description="Epochs recorded so far, summed over the runs there are.")
    epochs_total: int = Field(description="Epochs these are to train.")
    percent: float = Field(description="Share of them done, 0 to 100.")


class Sweep(Answer):
    """Many runs of one spec."""

    id: str = Field(description="Its identifier; sorts by time of submission.")
    name: str = Field(description="What it was called.")
    status: str = Field(
        description="queued until a run has begun, running until all have ended, paused if all that have not are; "
        "then succeeded if any has, else failed, or cancelled."
    )
    done: bool = Field(description="Whether it has ended.")
    cancel_requested: bool = Field(description="Whether somebody has asked it to stop.")
    objective: str = Field(description="What the best member has least of.")
    rung: int = Field(
        description="The rung of halving or the round of tpe it has come to, from 0; the last if none can follow."
    )
    rungs: int = Field(description="How many rungs or rounds there are to be; 1 with neither halving nor tpe.")
    members: int = Field(description="How many runs it has so far.")
    statuses: dict[str, int] = Field(description="How many of them are in each state.")
    progress: SweepProgress = Field(description="How far they have come together.")
    best: Member | None = Field(description="The member of the lowest `value` as it stands.")
    spec: dict[str, Any] = Field(description="The spec, with every default filled in.")
    deleted_at: datetime | None = Field(
        default=None, description="When it was deleted; of those listed with `deleted`, else null."
    )
    created_at: datetime = Field(description="When it was submitted.")
    revision: int = Field(description="Grows with every change of it or of a run; the ETag is made of it.")


class SweepPage(Answer):
    """A page of sweeps."""

    items: list[Sweep] = Field(description="Sweeps, the newest first.")
    next_cursor: str | None = Field(description="Pass as `cursor` for the next page; null on the last.")


class MemberPage(Answer):
    """A page of members."""

    items: list[Member] = Field(description="Members in their order.")
    next_after: int | None = Field(description="Pass as `after` for the next page; null on the last.")


class SweepEstimate(Answer):
    """What all first-rung members together will take."""

    steps: int = Field(description="Steps of all of them.")
    storage_bytes: int = Field(description="Room for all of them in the database.")


class Preview(Answer):
    """A sweep found good, and not submitted."""

    valid: bool = Field(description="Always true; a sweep that is not good is answered as submitting it would be.")
    objective: str = Field(description="What the best member would have least of.")
    members: int = Field(description="How many runs it would begin with.")
    rungs: list[int] = Field(description="How many runs each rung would have.")
    stacks: int = Field(description="How many kinds of members there are that can be trained as one computation each.")
    estimate: SweepEstimate = Field(description="What these would take.")
    varied: list[dict[str, Any]] = Field(description="The values of the first 100 of them.")
