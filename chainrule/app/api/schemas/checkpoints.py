"""Checkpoints, predictions and weights on the wire."""

from pydantic import ConfigDict, Field

from chainrule.app.api.schemas.wire import Answer, Request, Rows

MOST_SAMPLES = 1_000_000


class Checkpoint(Answer):
    """The weights at the end of an epoch, and what the epoch came to."""

    run: str = Field(description="The run.")
    epoch: int = Field(description="The epoch; 0 is the untrained network.")
    sha256: str = Field(description="Hash of the weights as a safetensors file, as `sha256sum` prints it.")
    size_bytes: int = Field(description="Size of that file.")
    cost: float = Field(description="C of the epoch.")
    error: float | None = Field(description="Share of the training samples got wrong.")
    validation_cost: float | None = Field(description="C over the validation samples.")
    validation_error: float | None = Field(description="Share of the validation samples got wrong.")


class CheckpointPage(Answer):
    """Checkpoints of a run, from behind `after`."""

    items: list[Checkpoint] = Field(description="In the order of epochs.")
    next_after: int | None = Field(description="Pass as `after` for more; null if there is none.")


class Weights(Answer):
    """Weights as JSON; NPZ and safetensors have the same arrays under the same names."""

    run: str = Field(description="The run.")
    epoch: int = Field(description="The epoch.")
    sha256: str = Field(description="Hash of the weights as a safetensors file.")
    weights: dict[str, list[float] | Rows] = Field(
        description="W1 (n_1, n_0), b1 (n_1,), W2, …: rows of W are the units of the layer."
    )


class PredictRequest(Request):
    """Samples to put through the network."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"samples": [[0, 1], [1, 1]]}]})

    samples: Rows = Field(
        min_length=1, max_length=MOST_SAMPLES, description="One row for each sample, features as in the dataset."
    )


class Predictions(Answer):
    """What the network makes of samples."""

    run: str = Field(description="The run.")
    epoch: int = Field(description="Whose weights were used.")
    outputs: list[list[float | None]] = Field(description="A[L], one row for each sample.")
    labels: list[str] | None = Field(description="The class of each sample by name; null for regression.")
    classes: list[str] = Field(description="Names of the classes in the order of output units.")
