"""Gradients on the wire: recorded statistics, quantities on demand, gradient checks."""

from datetime import datetime
from typing import Any, Self

from pydantic import ConfigDict, Field, model_validator

from chainrule.app.api.schemas.specs import ClassWeights, InputsSpec, NetworkSpec
from chainrule.app.api.schemas.wire import Answer, Choice, DatasetName, Label, Request, Rows, Samples
from chainrule.engine.normalization import EVALUATION, MODES

MOST_SAMPLES = 1_000_000


class GradientRecord(Answer):
    """Statistics of one gradient at the end of one recorded epoch, over the first min(512, m) training samples."""

    epoch: int = Field(description="The epoch; 0 is the untrained network.")
    layer: int = Field(description="The layer, from 1.")
    gradient: str = Field(description="Which gradient: dW1, db1, …; dgamma1, dbeta1, … of a layer that normalizes.")
    norm: float = Field(description="‖G‖ = √Σg².")
    mean: float = Field(description="Mean of its elements.")
    standard_deviation: float = Field(description="Standard deviation of its elements.")
    minimum: float = Field(description="Its smallest element.")
    maximum: float = Field(description="Its largest element.")
    zeros: float = Field(description="Share of its elements that are exactly zero.")
    update_ratio: float | None = Field(
        description="‖ΔX‖/‖X‖ of the epoch's last step alone, X being W or b, with all that shapes a step; null at "
        "epoch 0 and where X was zero. No mean or median over the epoch is recorded; the ratios of all its steps are "
        "those of GET /v1/runs/{run_id}/epochs/{epoch}/steps."
    )


class GradientRecords(Answer):
    """Recorded statistics of a run after epoch `after`, whole epochs at a time."""

    items: list[GradientRecord] = Field(description="By epoch, layer, dW before db.")
    next_after: int | None = Field(description="Pass as `after` for more; null if there is none.")
    thinned_at: datetime | None = Field(
        default=None,
        description="When those of all but the run's last, best and final epochs were removed; null if they were not.",
    )


class GradientsRequest(Request):
    """Which quantities, for which samples."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"rows": [0, 1, 2], "names": ["Z1", "A1", "dA1", "dZ1", "dW1", "db1"]}]}
    )

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
        default=None,
        max_length=MOST_SAMPLES,
        description="Classes of the rows sent along, by name. Each of these rows weighs 1, times its class's weight.",
    )
    targets: Rows | None = Field(
        default=None, max_length=MOST_SAMPLES, description="Numeric targets of the rows sent along."
    )
    names: list[Choice] | None = Field(
        default=None,
        min_length=1,
        max_length=1000,
        description="Z1, A1, dA1, dZ1, dW1, db1, …, and N1, dN1, dgamma1, dbeta1 of a layer that normalizes; "
        "A0 is the network's input, the features after preprocessing, and dA0 the gradient with respect to it. "
        "All by default.",
    )
    per_sample: bool = Field(
        default=False,
        description="Give dW and db of each sample, and dgamma and dbeta where there are any, without the mean over "
        "samples.",
    )
    mode: Choice = Field(
        default=EVALUATION,
        description="Where batch normalization takes μ and σ² from: evaluation, running ones, as predict does; "
        "training, the samples asked about, as a step does, whose gradients then pass through μ and σ² and mix the "
        "samples. All other networks are the same in both.",
        json_schema_extra={"enum": list(MODES)},
    )
    values: bool = Field(default=True, description="Give the arrays; false for shapes and norms only.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.rows is None) == (self.samples is None):
            raise ValueError("Give either rows (numbers of the run's dataset) or samples (rows sent along).")
        if self.samples is None and (self.labels is not None or self.targets is not None):
            raise ValueError("Labels and targets go with samples; rows of the dataset have their own.")
        if self.samples is not None and (self.labels is None) == (self.targets is None):
            raise ValueError("Samples need either labels (class names) or targets (numbers).")
        return self


class Quantity(Answer):
    """One quantity of backpropagation."""

    equation: str = Field(description="How it is computed.")
    shape: list[int] = Field(description="Its shape; rows are samples, except of dW, db, dgamma and dbeta.")
    norm: float | None = Field(description="√Σx² over all its elements; null if that is not a finite number.")
    values: Any = Field(default=None, description="Its elements, nested as its shape says; null where not finite.")


class Gradients(Answer):
    """Quantities of backpropagation for chosen samples, at the weights of an epoch."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "run": "run_01m87we6w9qp3ar0nqxq113x7y",
                    "epoch": 1,
                    "m": 3,
                    "rows": [0, 1, 2],
                    "cost": 0.5124,
                    "cost_name": "cross_entropy",
                    "cost_equation": "E = −Σ [y·log a + (1−y)·log(1−a)] for sigmoid, −Σ y·log a for softmax",
                    "weights": None,
                    "dtype": "float64",
                    "per_sample": False,
                    "mode": "evaluation",
                    "quantities": {
                        "dZ1": {
                            "equation": "dZ[1] = dA[1] ⊙ g′(Z[1])",
                            "shape": [3, 3],
                            "norm": 0.864,
                            "values": [
                                [-0.3309, 0.1927, 0.3824],
                                [0.3424, -0.2407, -0.2149],
                                [0.3432, -0.0911, -0.326],
                            ],
                        },
                        "dW1": {
                            "equation": "dW[1] = (1/m)·dZ[1]ᵀ·A[0]",
                            "shape": [3, 2],
                            "norm": 0.2245,
                            "values": [[0.1144, 0.1141], [-0.0304, -0.0802], [-0.1087, -0.0716]],
                        },
                    },
                }
            ]
        }
    )

    run: str = Field(description="The run.")
    epoch: int = Field(description="Whose weights were used.")
    m: int = Field(description="How many samples; dW and db are means over them.")
    rows: list[int] | None = Field(description="Their row numbers, if they are the dataset's.")
    cost: float | None = Field(description="C over these samples: the run's own cost, of the network without dropout.")
    cost_name: str = Field(description="Which cost.")
    cost_equation: str = Field(
        description="E of one sample; C is the mean of w·E. With label smoothing y is the smoothed target."
    )
    weights: list[float] | None = Field(
        description="w of each sample: its own, where the dataset has weights, times its class's; null where all are 1."
    )
    dtype: str = Field(description="The type they were computed in.")
    per_sample: bool = Field(description="Whether dW and db are given for each sample, without the 1/m.")
    mode: str = Field(description="Where batch normalization took μ and σ² from; see the request.")
    quantities: dict[str, Quantity] = Field(description="By name.")


class GradientCheckRequest(Request):
    """A network, and data to check its gradients on."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "network": {"layers": [{"units": 4, "activation": "tanh"}, {"units": 1, "activation": "sigmoid"}]},
                    "cost": "cross_entropy",
                    "dataset": "xor",
                    "seed": 3,
                }
            ]
        }
    )

    network: NetworkSpec = Field(description="The shape; weights begin at random.")
    cost: Choice | None = Field(default=None, description="As in a run.")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="As in a run.")
    class_weights: ClassWeights | None = Field(default=None, description="As in a run, trained on the whole dataset.")
    sample_weights: bool = Field(default=True, description="As in a run.")
    dataset: DatasetName = Field(description="Where the samples come from.")
    inputs: InputsSpec | None = Field(default=None, description="As in a run, fitted to the whole dataset.")
    rows: list[int] | None = Field(
        default=None, min_length=1, max_length=10_000, description="Which rows of it; the first 32 by default."
    )
    seed: int = Field(default=0, ge=0, le=2**63 - 1, description="Of the initial weights, and of what is drawn.")
    h: float = Field(
        default=1e-5,
        ge=1e-9,
        le=1,
        description="How far an entry is moved, 1e-9 to 1. Where a layer normalizes values that hardly differ, σ² ≈ 0, "
        "the cost bends on a scale of √ε ≈ 0.003: 1e-6 is better there.",
    )
    entries: int | None = Field(
        default=None, ge=1, le=10**9, description="Entries checked of each block, drawn at random; all by default."
    )


class WorstEntry(Answer):
    """The entry where both gradients differ most."""

    index: list[int] = Field(description="Where it is in the block.")
    analytic: float = Field(description="By backpropagation.")
    numeric: float = Field(description="By central differences.")


class BlockCheck(Answer):
    """The check of one block of parameters."""

    name: str = Field(description="W1, b1, …; gamma1, beta1, … of a layer that normalizes.")
    shape: list[int] = Field(description="Its shape.")
    checked: int = Field(description="Entries compared.")
    kinks: int = Field(description="Entries left out because a kink of an activation lay between θ−h and θ+h.")
    relative_error: float = Field(description="‖analytic − numeric‖ / (‖analytic‖ + ‖numeric‖).")
    verdict: str = Field(description="pass up to 1e-6, suspicious up to 1e-4, else fail.")
    worst: WorstEntry | None = Field(description="The worst entry; null if none was compared.")


class GradientCheck(Answer):
    """Analytic gradients against central differences, block by block."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "passed": True,
                    "worst_relative_error": 7.4e-12,
                    "method": "central differences in float64: (C(θ+h) − C(θ−h)) / 2h",
                    "equation": "‖analytic − numeric‖ / (‖analytic‖ + ‖numeric‖)",
                    "h": 1e-05,
                    "samples": 4,
                    "blocks": [
                        {
                            "name": "W1",
                            "shape": [1, 2],
                            "checked": 2,
                            "kinks": 0,
                            "relative_error": 7.4e-12,
                            "verdict": "pass",
                            "worst": {
                                "index": [0, 0],
                                "analytic": 0.15316068914564657,
                                "numeric": 0.15316068914805747,
                            },
                        }
                    ],
                }
            ]
        }
    )

    passed: bool = Field(description="Whether every block passes.")
    worst_relative_error: float = Field(description="The largest relative error of all blocks.")
    method: str = Field(description="How the numeric gradient is computed.")
    equation: str = Field(description="The equation of the relative error.")
    h: float = Field(description="How far an entry was moved.")
    samples: int = Field(description="How many samples the cost was taken over.")
    blocks: list[BlockCheck] = Field(description="One for each of W1, b1, W2, …")
