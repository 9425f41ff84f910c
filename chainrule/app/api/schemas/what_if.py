"""What if on the wire: what is to be changed, and how it is before and after."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from chainrule.app.api.schemas.inspection import Mode, Selected
from chainrule.app.api.schemas.wire import Answer, Choice, Either, Request
from chainrule.engine.normalization import EVALUATION

MOST_CHANGES = 1000


class ChangedInput(Request):
    """A feature of one sample."""

    sample: int = Field(ge=0, le=10**9, description="Which of the samples, from 0, in the order they are asked for.")
    feature: int = Field(ge=0, le=10**9, description="Which feature, from 0, before preprocessing.")
    value: Annotated[float | str, Either("This must be a finite number, or the name of a category")] = Field(
        description="What it is to be: a number, or the name of a category."
    )


class ChangedParameter(Request):
    """A weight or a bias."""

    name: Choice = Field(description="W1, b1, …, and gamma1, beta1 of a layer that normalizes.")
    index: list[int] = Field(max_length=2, description="[unit, unit below] of W, [unit] of all else, from 0.")
    value: float = Field(description="What it is to be.")


class WhatIfRequest(Selected):
    """What is to be changed."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"rows": [0, 1], "parameters": [{"name": "W1", "index": [0, 0], "value": 0.5}], "step": True},
                {"rows": [3], "inputs": [{"sample": 0, "feature": 1, "value": 0.25}]},
            ]
        }
    )

    inputs: list[ChangedInput] = Field(default=[], max_length=MOST_CHANGES, description="Changed features of samples.")
    parameters: list[ChangedParameter] = Field(
        default=[], max_length=MOST_CHANGES, description="Changed weights and biases."
    )
    learning_rate: float | None = Field(
        default=None, gt=0, description="Another η of the step; the run's own where it is left out."
    )
    step: bool = Field(default=False, description="Take one step of the run's training from both, over these samples.")
    mode: Mode = EVALUATION


class Changed(Answer):
    """One number that was changed."""

    name: str = Field(description="x for a feature, W1, b1, …, or learning_rate.")
    index: list[int] = Field(description="Of x [sample, feature]; of parameters their index.")
    before: float | str = Field(description="What it was.")
    after: float | str = Field(description="What it was made.")


class WhatIfState(Answer):
    """What a network comes to over the samples."""

    cost: float | None = Field(description="C, the mean of w·E.")
    errors: list[float | None] = Field(description="w·E of each sample.")
    outputs: Any = Field(description="A[L], (m, n_L); null where not finite.")
    gradient_norms: dict[str, float | None] = Field(description="‖dW1‖, ‖db1‖, …, by name.")
    gradient_norm: float | None = Field(description="‖·‖ of all of them together.")


class WhatIfStep(Answer):
    """One step of training."""

    learning_rate: float = Field(description="η.")
    update_norm: float | None = Field(description="‖θ_after − θ_before‖.")
    state: WhatIfState = Field(description="Over the same samples, at the weights it led to.")


class WhatIfSide(WhatIfState):
    """How it is, before or after the change."""

    labels: list[str] | None = Field(description="The class of each sample by its outputs; null of a regression.")
    step: WhatIfStep | None = Field(description="What one step of training would make of it, if asked for.")


class WhatIf(Answer):
    """Before and after a change."""

    run: str = Field(description="The run.")
    epoch: int = Field(description="Whose weights were used.")
    m: int = Field(description="How many samples.")
    rows: list[int] | None = Field(description="Their row numbers, if they are the dataset's.")
    mode: str = Field(description="Where batch normalization took μ and σ² from; a step takes the samples'.")
    changes: list[Changed] = Field(description="What was changed; none if nothing was.")
    before: WhatIfSide = Field(description="As it is.")
    after: WhatIfSide = Field(description="As it would be.")
    equations: dict[str, str] = Field(description="Of what is given.")
    note: str = Field(description="What else is to be said of the step; else empty.")
