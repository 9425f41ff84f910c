"""Specs on the wire: all that determines a run, and what is to be changed or compared of one."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, JsonValue, create_model, model_validator

from chainrule.app.api.schemas.wire import MOST, Choice, DatasetName, Either, Name, Request
from chainrule.engine import ACTIVATIONS, COSTS, INITIALIZERS, OPTIMIZERS, SCHEDULES
from chainrule.engine.arrays import DTYPES
from chainrule.engine.config import MOST_SHARDS, STEPS
from chainrule.engine.normalization import NORMALIZATIONS
from chainrule.engine.preprocessing import ENCODINGS, SCALINGS

Count = Annotated[int, Field(ge=1, le=MOST)]
ClassWeights = Annotated[
    list[Annotated[float, Field(ge=0, le=MOST)]] | Literal["balanced"],
    Either("This must be a list of numbers from 0 to 1e9, one for each class, or 'balanced'"),
]


def _one_of(names: Any) -> Callable[[dict[str, Any]], None]:
    # For readers of the schema, beside null where that is allowed; see `Choice` for who refuses.
    def list_them(schema: dict[str, Any]) -> None:
        for kind in schema.get("anyOf", [schema]):
            if kind["type"] == "string":
                kind["enum"] = list(names)

    return list_them


def _listed(equations: dict[str, str]) -> str:
    return "; ".join(f"{name}: {equation}" for name, equation in equations.items())


class Layer(Request):
    """One dense layer."""

    units: Count = Field(description="Width of the layer, n_l.")
    activation: Choice = Field(
        description="Activation function g of A[l] = g(Z[l]); softmax is for the last layer only.",
        json_schema_extra=_one_of(ACTIVATIONS),
    )
    initializer: Choice | None = Field(
        default=None,
        description="Where W begins; by default He for the rectifiers and Xavier for the rest. b begins at zero.",
        json_schema_extra=_one_of(INITIALIZERS),
    )
    dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share p of A[l] that is set to 0 at random in each step of training, the rest being divided by "
        "1 − p; hidden layers only. The network is used, measured and inspected without it.",
    )
    normalization: Choice | None = Field(
        default=None,
        description="What is done to Z[l] before g, so that A[l] = g(N[l]); hidden layers only, none by default. "
        f"{_listed(NORMALIZATIONS)}; the network is used, measured and inspected with running ones.",
        json_schema_extra=_one_of(NORMALIZATIONS),
    )


class InputsSpec(Request):
    """How raw features become the network's input, fitted to the training samples alone."""

    scaling: Choice = Field(
        default="none",
        description=f"Of numeric features. {_listed(SCALINGS)}.",
        json_schema_extra=_one_of(SCALINGS),
    )
    categorical: Choice = Field(
        default="one_hot",
        description=f"Of categorical features. {_listed(ENCODINGS)}.",
        json_schema_extra=_one_of(ENCODINGS),
    )


class NetworkSpec(Request):
    """The shape of a network."""

    inputs: Count | None = Field(
        default=None,
        description="Width of the input, n_0; by default the features of the dataset, a categorical one counted once "
        "for each category.",
    )
    layers: list[Layer] = Field(min_length=1, max_length=100, description="Layers 1…L; the last one is the output.")


class OptimizerSpec(Request):
    """How the parameters step against their gradient; each optimizer takes only the numbers it uses."""

    name: Choice = Field(
        default="sgd",
        description="Which optimizer. lbfgs takes all samples at once and searches along its direction, so it goes "
        "without batch_size, schedule, clip, dropout, l1 and max_norm.",
        json_schema_extra=_one_of(OPTIMIZERS),
    )
    learning_rate: float | None = Field(
        default=None,
        gt=0,
        description="Learning rate η, the factor between gradient and step, for lbfgs where each line search begins; "
        "by default " + ", ".join(f"{found.learning_rate} for {name}" for name, found in OPTIMIZERS.items()) + ".",
    )
    momentum: float | None = Field(default=None, ge=0, lt=1, description="μ of momentum and nesterov; 0.9 by default.")
    beta1: float | None = Field(default=None, ge=0, lt=1, description="β₁ of adam and adamw; 0.9 by default.")
    beta2: float | None = Field(default=None, ge=0, lt=1, description="β₂ of adam and adamw; 0.999 by default.")
    rho: float | None = Field(default=None, ge=0, lt=1, description="ρ of rmsprop; 0.9 by default.")
    epsilon: float | None = Field(
        default=None, gt=0, description="ε of rmsprop, adagrad, adam and adamw; 1e-8 by default."
    )
    weight_decay: float | None = Field(default=None, ge=0, description="λ of adamw; 0.01 by default.")


class ScheduleSpec(Request):
    """The learning rate η(e) of each epoch e = 1…E; each schedule takes only the numbers it uses."""

    name: Choice = Field(
        default="constant",
        description="constant: η(e) = η, the optimizer's learning_rate; step: η·γ^⌊(e−1)/k⌋; exponential: η·γ^(e−1); "
        "cosine: η_min + ½·(η − η_min)·(1 + cos(π·(e−1)/E)); plateau: max(η·γᵏ, η_min), lowered once more, k ← k + 1, "
        "after each `patience` epochs without a lower cost (of validation, where there is any).",
        json_schema_extra=_one_of(SCHEDULES),
    )
    every: Count | None = Field(default=None, description="k of step, in epochs; 10 by default.")
    factor: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="γ of step, exponential and plateau; by default "
        + ", ".join(f"{found.factor} for {name}" for name, found in SCHEDULES.items() if "factor" in found.uses)
        + ".",
    )
    minimum: float | None = Field(
        default=None, ge=0, description="η_min of cosine and plateau, at most the learning rate; 0 by default."
    )
    patience: Count | None = Field(
        default=None, description="Of plateau: epochs without a lower cost before the rate is lowered; 10 by default."
    )
    warmup_epochs: int | None = Field(
        default=None,
        ge=0,
        le=MOST,
        description="w, with any schedule: in epochs e ≤ w the rate is η(e)·e/w; 0, no warm-up, by default.",
    )


class ClipSpec(Request):
    """A bound of the gradient G of all parameters that is handed to the optimizer: of its norm or of each element."""

    norm: float | None = Field(
        default=None, gt=0, description="c of G ← G·min(1, c/‖G‖), over all layers at once; the direction stays."
    )
    value: float | None = Field(default=None, gt=0, description="c of G ← min(max(G, −c), c), element by element.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.norm is None) == (self.value is None):
            raise ValueError("Give either norm or value.")
        return self


class RegularizationSpec(Request):
    """What keeps the weights W small; biases are left alone, and costs are reported without it."""

    l1: float | None = Field(default=None, ge=0, description="λ₁: adds λ₁·sign(W) to dW; 0 by default.")
    l2: float | None = Field(
        default=None, ge=0, description="λ₂: adds λ₂·W to dW, from the penalty ½·λ₂·Σw²; 0 by default."
    )
    max_norm: float | None = Field(
        default=None,
        gt=0,
        description="Longest row of W, a unit's incoming weights; longer ones are shortened after each step. "
        "No bound by default.",
    )


class EarlyStoppingSpec(Request):
    """When a run ends before its last epoch; `final` then names its best epoch's weights, which are always kept.

    Watched is the cost of the validation samples, or of training where there are none.
    """

    patience: Count = Field(default=10, description="End after so many epochs in a row that are no better.")
    min_delta: float = Field(default=0.0, ge=0, description="By how much the cost must fall for an epoch to be better.")


class ValidationSpec(Request):
    """Samples the network is measured on and never learns from: a share of the dataset, or another dataset."""

    fraction: float | None = Field(default=None, gt=0, lt=1, description="Share of the samples held out at random.")
    seed: int = Field(default=0, ge=0, le=2**63 - 1, description="Seed of that choice.")
    dataset: DatasetName | None = Field(
        default=None, description="Another dataset with the same features and classes, in place of a fraction."
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.fraction is None) == (self.dataset is None):
            raise ValueError("Give either fraction (with seed) or dataset.")
        return self


class CheckpointsSpec(Request):
    """Which epochs' weights are kept; besides every n-th those of epochs 0 and 1, of the last, and with early stopping
    of the best.
    """

    every: Count = Field(default=1, description="Keep the weights of every n-th epoch.")
    keep: Count | None = Field(
        default=None,
        description="Keep only the newest n of them, epoch 0, and with early stopping the best; all by default.",
    )


class GradientsSpec(Request):
    """How often gradient statistics are recorded; unless never, also at epochs 0 and 1 and the last."""

    every: int | None = Field(
        default=None,
        ge=0,
        le=MOST,
        description="Record at every n-th epoch; 0 for never; by default about 100 epochs of the run are "
        "recorded, or as many as take less than a twentieth of its time, but no fewer than 5, and each of at most 20.",
    )


XOR: dict[str, JsonValue] = {
    "name": "xor",
    "dataset": "xor",
    "network": {"layers": [{"units": 8, "activation": "tanh"}, {"units": 1, "activation": "sigmoid"}]},
    "optimizer": {"name": "adam", "learning_rate": 0.05},
    "epochs": 200,
    "batch_size": 4,
    "gradients": {"every": 2},
    "seed": 7,
}
DIGITS: dict[str, JsonValue] = {
    "name": "digits",
    "dataset": "digits",
    "validation": {"fraction": 0.2, "seed": 0},
    "network": {"layers": [{"units": 32, "activation": "relu"}, {"units": 10, "activation": "softmax"}]},
    "cost": "cross_entropy",
    "optimizer": {"name": "adam", "learning_rate": 0.002},
    "epochs": 40,
    "batch_size": 32,
    "gradients": {"every": 1},
    "seed": 1,
}


class RunSpec(Request):
    """All that determines a run. The same spec, data and builds give the same weights, to the bit."""

    model_config = ConfigDict(json_schema_extra={"examples": [XOR, DIGITS]})

    name: Name = Field(default="", description="What you call it; need not be unique.")
    dataset: DatasetName = Field(description="Id of a dataset, or the name of a built-in one, to learn from.")
    validation: ValidationSpec | None = Field(
        default=None, description="What the network is measured on; nothing by default."
    )
    inputs: InputsSpec | None = Field(
        default=None,
        description="How features become the network's input; numbers as they are and categories one-hot by default. "
        "GET /v1/runs/{run_id}/inputs shows what was fitted.",
    )
    network: NetworkSpec = Field(description="The shape of the network.")
    cost: Choice | None = Field(
        default=None,
        description="The cost C to make smaller; by default cross_entropy for sigmoid and softmax outputs of "
        "classifiers, else mse. binary_cross_entropy is for sigmoid outputs and targets from 0 to 1: labels of which "
        "any number may hold.",
        json_schema_extra=_one_of(COSTS),
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="α of y ← (1 − α)·y + α/k, for k classes; 0 by default."
    )
    class_weights: ClassWeights | None = Field(
        default=None,
        description="w of each class, by which the errors of its samples are multiplied, in the order of the dataset's "
        "`classes`; or `balanced`: w = m/(k·m_c), with m_c of the m training samples in class c of k. 1 by default.",
    )
    sample_weights: bool = Field(
        default=True,
        description="Whether the weights of the dataset's samples count, if it has any: C = (1/m) Σᵢ w⁽ⁱ⁾·E⁽ⁱ⁾, with "
        "class weights multiplied in.",
    )
    optimizer: OptimizerSpec = Field(default=OptimizerSpec(), description="How the parameters step.")
    schedule: ScheduleSpec | None = Field(
        default=None, description="The learning rate of each epoch; constant by default."
    )
    clip: ClipSpec | None = Field(default=None, description="A bound of the gradient; none by default.")
    regularization: RegularizationSpec | None = Field(
        default=None, description="What keeps the weights small; nothing by default."
    )
    early_stopping: EarlyStoppingSpec | None = Field(
        default=None, description="When to end before the last epoch; never by default."
    )
    epochs: Count = Field(description="Passes over the training samples.")
    batch_size: Count | None = Field(default=None, description="Samples of a step; all of them by default.")
    shuffle: bool = Field(default=True, description="Whether each epoch takes the samples in a new random order.")
    seed: int = Field(
        default=0, ge=0, le=2**63 - 1, description="Seed of the initial weights, of the shuffling and of dropout."
    )
    dtype: Choice = Field(
        default="float32", description="Precision of the training.", json_schema_extra=_one_of(DTYPES)
    )
    step: Choice = Field(
        default="numpy",
        description="How steps are computed: by NumPy, or compiled, which small networks gain by; the results are the "
        "same but for rounding. `compiled` needs the extra `fast` where the service runs.",
        json_schema_extra=_one_of(STEPS),
    )
    shards: int = Field(
        default=1,
        ge=1,
        le=MOST_SHARDS,
        description="Into how many parts each batch is cut that are computed at once, for one very large run: in "
        "threads, or on a Dask cluster in workers for shards. The same number gives the same weights, to the bit; "
        "another one the same but for rounding. Refused where it would be slower. See the guide to clusters.",
    )
    shards_even_if_slower: bool = Field(
        default=False, description="Whether shards are taken where exchanging gradients costs more than it saves."
    )
    checkpoints: CheckpointsSpec = Field(default=CheckpointsSpec(), description="Which epochs' weights are kept.")
    gradients: GradientsSpec = Field(default=GradientsSpec(), description="How often statistics are recorded.")
    priority: int = Field(
        default=0, ge=-1000, le=1000, description="Larger is trained sooner; among equals the one submitted first."
    )
    max_duration_s: float | None = Field(
        default=None,
        gt=0,
        le=MOST,
        description="Seconds it may train, all attempts together, waiting and pauses not counted; then it fails with "
        "`deadline_exceeded`, keeps what it recorded and can be extended. No limit by default.",
    )
    max_memory_bytes: int | None = Field(
        default=None,
        ge=64 * 1024**2,
        le=2**50,
        description="How much memory its training may take, beside samples mapped from files that all runs share; then "
        "it fails with `memory_exceeded`. No limit of its own by default. Held on Linux.",
    )


class Extension(Request):
    """How much longer a run is to be trained."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"epochs": 50}, {"to": 1000}]})

    epochs: Count | None = Field(default=None, description="So many epochs more than the run has recorded.")
    to: Count | None = Field(default=None, description="Or so many in all.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.epochs is None) == (self.to is None):
            raise ValueError("Give either epochs, how many more, or to, how many in all.")
        return self


class VerificationSpec(Request):
    """Which epochs of a run are to be compared."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}, {"to": 10}]})

    after: Count | None = Field(
        default=None,
        description="Begin with the weights at the end of this epoch, and compare those behind it; by default the run "
        "is trained from its beginning. Where training remembers more than weights (any optimizer but sgd, the "
        "schedule plateau, early stopping), only where a run that it extends ended.",
    )
    to: Count | None = Field(default=None, description="The last epoch to be compared; by default the last recorded.")


def _changes() -> dict[str, Any]:
    """Make every field of a run's spec one that may be left out, and null where it has a default to go back to."""
    fields: dict[str, Any] = {}
    for name, field in RunSpec.model_fields.items():
        given: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
        described = Field(default=None, description=field.description, json_schema_extra=field.json_schema_extra)
        fields[name] = (given if field.is_required() else given | None, described)
    return fields


if TYPE_CHECKING:
    RunChanges = Request
else:
    RunChanges = create_model(
        "RunChanges",
        __base__=Request,
        __doc__="Fields of the config to be replaced, each as a whole; null for one that is to be as by default.",
        **_changes(),
    )
    RunChanges.model_config["json_schema_extra"] = {
        "examples": [{"seed": 2}, {"optimizer": {"name": "sgd", "learning_rate": 0.5}, "epochs": 100}, {}]
    }
