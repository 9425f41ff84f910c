"""The inspector on the wire: a walk through the network, and what the other inspections ask and answer."""

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from chainrule.app.api.schemas.gradients import MOST_SAMPLES
from chainrule.app.api.schemas.wire import Answer, Choice, Label, Request, Rows, Samples
from chainrule.app.services.batches import SPLITS
from chainrule.engine.comparison import MISTAKES
from chainrule.engine.normalization import EVALUATION, MODES

MOST_TERMS = 1000
Mode = Annotated[
    Choice,
    Field(
        description="Where batch normalization takes μ and σ² from: evaluation, running ones; training, the samples "
        "asked about, as a step does.",
        json_schema_extra={"enum": list(MODES)},
    ),
]


class Selected(Request):
    """Which samples: rows of the run's dataset, samples sent along, or a whole split."""

    rows: list[int] | None = Field(
        default=None,
        min_length=1,
        max_length=MOST_SAMPLES,
        description="Row numbers of the run's dataset, from 0, in the order of the file.",
    )
    samples: Samples | None = Field(
        default=None,
        min_length=1,
        max_length=MOST_SAMPLES,
        description="Or rows sent along, as for predict, with labels or targets.",
    )
    labels: list[Label] | None = Field(
        default=None, max_length=MOST_SAMPLES, description="Classes of the rows sent along, by name."
    )
    targets: Rows | None = Field(
        default=None, max_length=MOST_SAMPLES, description="Numeric targets of the rows sent along."
    )
    split: Choice | None = Field(
        default=None,
        description="Or all samples the run trains on, or is validated on: training or validation.",
        json_schema_extra={"enum": [*SPLITS, None]},
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if [self.rows, self.samples, self.split].count(None) != 2:
            raise ValueError("Give one of rows (numbers of the run's dataset), samples (rows sent along) and split.")
        if self.split is not None and self.split not in SPLITS:
            raise ValueError(f"split is one of {' and '.join(SPLITS)}.")
        if self.samples is None and (self.labels is not None or self.targets is not None):
            raise ValueError("Labels and targets go with samples; rows of the dataset have their own.")
        if self.samples is not None and (self.labels is None) == (self.targets is None):
            raise ValueError("Samples need either labels (class names) or targets (numbers).")
        return self


class ExplainRequest(Selected):
    """Which number is to be explained."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"rows": [0, 1, 2, 3], "name": "dW1", "index": [0, 1], "top": 2}]}
    )

    name: Choice = Field(
        default="C", description="C, E, or a quantity by name: Z1, A1, dA1, dZ1, dW1, db1, …, A0, dA0."
    )
    index: list[int] = Field(
        default=[],
        max_length=2,
        description="Of the number in it, from 0: [unit, unit below] of dW, [unit] of db, dγ and dβ, [sample, unit] "
        "of all else, [sample] of E, none of C. Samples are counted in the order they are asked for.",
    )
    top: int = Field(default=10, ge=0, le=MOST_TERMS, description="How many terms to give one by one.")


class Term(Answer):
    """One term of a sum."""

    sample: int | None = Field(description="Whose it is, in the order they were asked for; null of a term of a unit.")
    row: int | None = Field(description="That sample's row of the dataset, if it has one; null of a term of a unit.")
    unit: int | None = Field(description="Whose it is; null of a term of a sample, and of the bias b.")
    factors: dict[str, float | None] = Field(description="What is multiplied, by name, such as dZ2[3,4].")
    contribution: float | None = Field(description="What it adds to the number; the 1/m of a mean is in it.")


class Rest(Answer):
    """The terms that are not given one by one."""

    count: int = Field(description="How many.")
    sum: float | None = Field(description="What they add to the number.")


class Explanation(Answer):
    """One number, broken into the terms it is the sum of, or the operands it is a function of."""

    run: str = Field(description="The run.")
    epoch: int = Field(description="Whose weights were used.")
    m: int = Field(description="How many samples were asked about.")
    name: str = Field(description="The quantity.")
    index: list[int] = Field(description="Of the number in it.")
    value: float | None = Field(description="As the network computes it, in its own type.")
    equation: str = Field(description="How.")
    function: str = Field(description="g and g′, or E, where the equation mentions them; else empty.")
    over: Literal["samples", "units"] | None = Field(
        description="What the terms run over; null of a function of a few operands."
    )
    terms: list[Term] = Field(description="The largest in magnitude, largest first.")
    rest: Rest = Field(description="All others.")
    operands: dict[str, float | None] = Field(description="Of a function, by name.")
    recomputed: float | None = Field(
        description="The sum of all terms, or the function of the operands, taken in float64: `value` but for rounding."
    )
    dtype: str = Field(description="The network's type.")


class CompareRequest(Selected):
    """Gradients to be compared, and the samples they are of."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"rows": [0, 1, 2, 3], "gradients": {"db2": [0.25]}}]})

    gradients: dict[Choice, list[Any]] = Field(
        min_length=1,
        max_length=4000,
        description="Yours, by name: dW1, db1, dW2, …, and dgamma1, dbeta1 of a layer that normalizes; nested lists "
        "of numbers, null where one is not finite. Not all need be there.",
    )
    mode: Mode = EVALUATION


class WorstPlace(Answer):
    """Where a block differs most."""

    index: list[int] = Field(description="Its index.")
    ours: float | None = Field(description="What it is here; null if not finite.")
    theirs: float | None = Field(description="What was sent; null if not finite.")


class ComparedBlock(Answer):
    """One block of your gradients."""

    name: str = Field(description="dW1, db1, ….")
    shape: list[int] = Field(description="The shape of ours.")
    verdict: Literal["exact", "close", "different"] = Field(
        description="exact: every bit, in float64 or in the network's type; close: up to the tolerance."
    )
    relative_error: float | None = Field(
        description="‖ours − yours‖ / (‖ours‖ + ‖yours‖); null where shapes or infinities forbid it."
    )
    mistakes: list[str] = Field(
        description=f"What is wrong: {', '.join(MISTAKES)}. None of a gradient that is right; two where one came on "
        "top of another."
    )
    factor: float | None = Field(description="Yours is so many times what it should be, or has so much of a penalty.")
    sentence: str = Field(description="What is wrong, and the fix.")
    worst: WorstPlace | None = Field(description="The largest difference; null of another shape.")


class Comparison(Answer):
    """Your gradients against those of C over the samples, at the weights of an epoch."""

    run: str = Field(description="The run.")
    epoch: int = Field(description="Whose weights were used.")
    m: int = Field(description="How many samples.")
    mode: str = Field(description="Where batch normalization took μ and σ² from.")
    verdict: Literal["exact", "close", "different"] = Field(description="That of the worst block.")
    tolerance: float = Field(description="The relative error up to which a block is close; by the network's type.")
    blocks: list[ComparedBlock] = Field(description="Those that were sent, layer by layer.")
    missing: list[str] = Field(description="Blocks the network has and that were not sent.")


class CoherenceRequest(Selected):
    """Whose gradients are to be measured."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"rows": [0, 1, 2, 3], "gram": True}]})

    mode: Mode = EVALUATION
    gram: bool = Field(default=False, description="Give inner products and cosines of each pair of samples too.")
    classes: bool = Field(
        default=False, description="Give mean cosines between classes and between batches, without those of each pair."
    )
    top: int = Field(default=10, ge=0, le=MOST_TERMS, description="How many of the largest gradients to name.")


class Measure(Answer):
    """One number."""

    value: float | None = Field(description="Null where it is undefined, or not finite.")
    equation: str = Field(description="How; g⁽ⁱ⁾ is sample i's own gradient of all parameters, without the 1/m.")
    reason: str | None = Field(description="Why it is undefined; null where it is not.")


class SampleGradient(Answer):
    """One sample's own gradient."""

    sample: int = Field(description="Whose it is, in the order they were asked for.")
    row: int | None = Field(description="That sample's row of the dataset, if it has one.")
    label: str | None = Field(description="Its class; null of a regression.")
    norm: float | None = Field(description="‖g⁽ⁱ⁾‖.")
    cosine: float | None = Field(description="Between g⁽ⁱ⁾ and the mean gradient ḡ; null where either is 0.")


class SamplePairs(Answer):
    """Each sample's gradient with each other's."""

    gram: Any = Field(description="K[i,j] = g⁽ⁱ⁾·g⁽ʲ⁾, (m, m); null if gram was not asked for.")
    cosines: Any = Field(
        description="K[i,j]/(‖g⁽ⁱ⁾‖·‖g⁽ʲ⁾‖); null where a gradient is 0, and as a whole if gram was not asked for."
    )
    classes: Any = Field(
        description="Mean cosine between two samples of one class and another, in the order of the dataset's classes; "
        "null where there are no two; null as a whole of a regression."
    )
    batch_size: int = Field(description="Samples of each batch below: the run's batch size.")
    batches: Any = Field(
        description="Cosines between the mean gradients of batches, in the order asked for, a smaller last one left "
        "out; null where there are no two."
    )


class Coherence(Answer):
    """How large samples' own gradients are, how far they agree, and what is signal in them."""

    run: str = Field(description="The run.")
    epoch: int = Field(description="Whose weights were used.")
    m: int = Field(description="How many samples.")
    mode: str = Field(description="Where batch normalization took μ and σ² from.")
    quantities: dict[str, Measure] = Field(description="By name.")
    norms: list[float | None] | None = Field(
        description="‖g⁽ⁱ⁾‖ of each sample, in the order asked for; null of more than 10,000, and where there is none."
    )
    largest: list[SampleGradient] = Field(description="The samples with the largest gradients, largest first.")
    pairs: SamplePairs | None = Field(description="If gram or classes was asked for; else null.")


class WalkRequest(Selected):
    """Which samples are to be taken through the network, and how they are shown."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"rows": [0]}]})

    mode: Mode = EVALUATION
    reduce: Choice | None = Field(
        default=None,
        description="none: a row for each sample. mean: in place of these the mean over the samples; dW, db, dγ, dβ "
        "and C are means anyway. By default mean for a split, else none.",
        json_schema_extra={"enum": ["none", "mean", None]},
    )
    values: bool = Field(default=True, description="Give the arrays; false for their shapes only.")
    names: list[Choice] | None = Field(
        default=None, min_length=1, max_length=1000, description="Only these arrays; by default all of the walk."
    )


class WalkResult(Answer):
    """What comes out of a step."""

    name: str = Field(description="Z1, A1, …, E, C, …, dZ1, dW1, db1, dA0.")
    equation: str = Field(description="How it is computed of the operands.")


class WalkStep(Answer):
    """One step."""

    number: int = Field(description="From 1.")
    phase: str = Field(description="forward, cost or backward.")
    layer: int = Field(description="Whose step it is, from 1.")
    operands: list[str] = Field(description="Names of what goes in; each is in `arrays`, if not left out there.")
    results: list[WalkResult] = Field(description="What comes out; each is in `arrays`, if not left out there.")
    function: str = Field(description="g and g′, or E of one sample, where the equations mention them; else empty.")
    note: str = Field(description="What else is to be said of it: normalization, dropout; else empty.")
    follows: bool = Field(
        description="Whether the results can be computed of the operands as they are given here: not of means, where "
        "the step multiplies what differs from sample to sample."
    )


class WalkArray(Answer):
    """One operand or result."""

    shape: list[int] = Field(description="Its shape; rows are samples, unless reduced, of all but W, b, dW, db, ….")
    values: Any = Field(default=None, description="Its elements, nested as its shape says; null where not finite.")


class Walk(Answer):
    """Samples through the network and back, step by step, at the weights of an epoch."""

    run: str = Field(description="The run.")
    epoch: int = Field(description="Whose weights were used.")
    m: int = Field(description="How many samples.")
    rows: list[int] | None = Field(
        description="Their row numbers, if they are the dataset's; null of samples sent along, and of a split."
    )
    mode: str = Field(description="Where batch normalization took μ and σ² from; see the request.")
    reduced: bool = Field(
        description="Whether what has a row for each sample is given as the mean over them, taken in float64."
    )
    dtype: str = Field(description="The type it was computed in.")
    steps: list[WalkStep] = Field(description="In order.")
    arrays: dict[str, WalkArray] = Field(description="Every operand and every result, by name, or those asked for.")
