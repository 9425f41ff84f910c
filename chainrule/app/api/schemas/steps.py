"""Steps on the wire: an epoch replayed, the backpropagation of one step, and the cost along it."""

from typing import Any

from pydantic import Field

from chainrule.app.api.schemas.gradients import Quantity
from chainrule.app.api.schemas.wire import Answer


class StepColumns(Answer):
    """What each step was, in columns; of what concerns all parameters together."""

    step: list[int] = Field(description="Its number in the epoch, from 1.")
    samples: list[int] = Field(description="m of its batch; the last may be smaller.")
    cost: list[float | None] = Field(
        description="C over the batch, at the weights before the update, with dropout's masks and the batch's μ and "
        "σ²; without penalties."
    )
    learning_rate: list[float] = Field(description="η.")
    gradient_norm: list[float | None] = Field(description="‖(dW, db, …)‖, before penalties and clip.")
    update_norm: list[float | None] = Field(description="‖θ_after − θ_before‖, of all parameters θ.")
    update_ratio: list[float | None] = Field(description="‖θ_after − θ_before‖/‖θ_before‖; null where θ was 0.")


class BlockColumns(Answer):
    """What each step did to one block of parameters, in columns; null where not finite."""

    layer: int = Field(description="The layer, from 1.")
    gradient_norm: list[float | None] = Field(description="‖dX‖, before penalties and clip.")
    update_norm: list[float | None] = Field(description="‖ΔX‖, ΔX = X_after − X_before.")
    update_ratio: list[float | None] = Field(description="‖ΔX‖/‖X_before‖; null where X was 0.")


class Steps(Answer):
    """An epoch of a run, trained once more, step by step."""

    run: str = Field(description="The run.")
    epoch: int = Field(description="The epoch, from 1.")
    steps: int = Field(description="How many steps it has.")
    begins_at: int = Field(
        description="The training was taken up at the end of this epoch, the nearest before that has all it takes: "
        "weights for an optimizer that remembers nothing, else a resume point, or the beginning, 0."
    )
    remembers: str = Field(description="Why weights alone do not do, if so; else empty.")
    verified: bool | None = Field(
        description="Whether the epoch ended with the weights that the run has kept, to the bit; null if that cannot "
        "be told."
    )
    reason: str = Field(description="Why it is not, or cannot be told; else empty.")
    sha256: str | None = Field(description="Of the weights it ended with; null of an epoch in which the run diverged.")
    diverged: bool = Field(description="Whether the run diverged in it; `nonfinite_step` then tells where.")
    nonfinite_step: int | None = Field(
        description="The first of the steps given here whose cost, gradient or update is not finite."
    )
    nonfinite: str | None = Field(
        description="The first quantity of that step that is not, as computed forward, back and by the update: Z1, C, "
        "dZ2, dW2, … of its own batch, or W1, … of the weights it led to; ‖dW1‖ or ‖ΔW1‖ where only a length is too "
        "large for a number. Null where all are finite, and the epoch diverged with what followed its last step."
    )
    columns: StepColumns = Field(description="All parameters together.")
    blocks: dict[str, BlockColumns] = Field(description="W1, b1, …, and gamma1, beta1 of a layer that normalizes.")
    rows: list[list[int]] | None = Field(description="The dataset's rows in each step's batch, if asked for.")
    next_after: int | None = Field(description="Pass as `after` for more steps; null if there is none.")


class StepGradients(Answer):
    """Quantities of one step's backpropagation, at the weights before its update."""

    run: str = Field(description="The run.")
    epoch: int = Field(description="The epoch, from 1.")
    step: int = Field(description="The step in it, from 1.")
    steps: int = Field(description="How many steps the epoch has.")
    begins_at: int = Field(description="The training was taken up at the end of this epoch.")
    m: int = Field(description="How many samples the batch has; dW and db are means over them.")
    rows: list[int] = Field(description="Their rows of the dataset.")
    cost: float | None = Field(description="C over the batch, as the step makes it smaller, without penalties.")
    cost_name: str = Field(description="Which cost.")
    cost_equation: str = Field(description="E of one sample; C is the mean of w·E.")
    weights: list[float] | None = Field(description="w of each sample; null where all are 1.")
    dtype: str = Field(description="The type they were computed in.")
    quantities: dict[str, Quantity] = Field(description="By name.")
    masks: dict[str, Any] = Field(
        description="mask1, …: what dropout multiplied A[1] by in this step, (m, n_l); empty without dropout, and if "
        "values are not asked for."
    )


class Parabola(Answer):
    """c₀ + c₁·s + c₂·s²; null where the cost or its slope is not finite."""

    c0: float | None = Field(description="c₀.")
    c1: float | None = Field(description="c₁.")
    c2: float | None = Field(description="c₂, half the curvature along the step.")


class CostAlong(Answer):
    """The cost along one step, over its own batch."""

    run: str = Field(description="The run.")
    epoch: int = Field(description="The epoch, from 1.")
    step: int = Field(description="The step in it, from 1.")
    begins_at: int = Field(description="The training was taken up at the end of this epoch.")
    s: list[float] = Field(description="Places along the step: 0 where it began, 1 where it ended.")
    costs: list[float | None] = Field(description="C(θ + s·Δ) at each, in float64, without penalties.")
    slope_before: float | None = Field(description="dC/ds at 0: Δ·∇C; below 0 where the step goes downhill.")
    slope_after: float | None = Field(description="dC/ds at 1; above 0 where it went beyond the minimum.")
    parabola: Parabola = Field(description="Fitted to cost and slope at 0 and at 1.")
    weighted: bool = Field(
        description="Whether each was weighed by one over its variance over the samples, as far as samples have costs "
        "and slopes of their own."
    )
    alpha: float | None = Field(
        description="1/s* − 1, s* the parabola's minimum: 0 where the step led to it, below 0 short of it, above 0 "
        "beyond it, 1 as far up the other side; −1 where the parabola bends down, below −1 where the step set out "
        "uphill. Null where it is undefined."
    )
    reason: str = Field(description="Why α is undefined; else empty.")
    equations: dict[str, str] = Field(description="Of each.")
