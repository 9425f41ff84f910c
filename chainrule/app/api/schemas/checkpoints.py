"""Checkpoints, predictions and weights on the wire."""

from pydantic import ConfigDict, Field, JsonValue

from chainrule.app.api.schemas.wire import Answer, Request, Rows, Samples

MOST_SAMPLES = 1_000_000
RUN_ID = "run_01m87we6w9qp3ar0nqxq113x7y"
SHA256 = "a01c19d434f97e79928baa6c40be9b94629c200064bd893afc8a5f16d4bd67ba"
CHECKPOINT: dict[str, JsonValue] = {
    "run": RUN_ID,
    "epoch": 200,
    "sha256": SHA256,
    "size_bytes": 316,
    "cost": 0.0123,
    "error": 0.0,
    "validation_cost": None,
    "validation_error": None,
}


class Checkpoint(Answer):
    """The weights at the end of an epoch, with its cost and error."""

    model_config = ConfigDict(json_schema_extra={"examples": [CHECKPOINT]})

    run: str = Field(description="The run.")
    epoch: int = Field(description="The epoch; 0 is the untrained network.")
    sha256: str = Field(description="Hash of the weights as a safetensors file, as `sha256sum` prints it.")
    size_bytes: int = Field(description="Size of that file.")
    cost: float = Field(description="C of the epoch.")
    error: float | None = Field(description="Share of the training samples got wrong.")
    validation_cost: float | None = Field(description="C over the validation samples.")
    validation_error: float | None = Field(description="Share of the validation samples got wrong.")


class CheckpointPage(Answer):
    """Checkpoints of a run after epoch `after`."""

    items: list[Checkpoint] = Field(description="In the order of epochs.")
    next_after: int | None = Field(description="Pass as `after` for more; null if there is none.")


class Weights(Answer):
    """Weights as JSON; NPZ and safetensors have the same arrays under the same names."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "run": RUN_ID,
                    "epoch": 1,
                    "sha256": SHA256,
                    "weights": {
                        "W1": [[-0.1485, 0.2814], [0.9896, 0.0862], [0.519, 1.0606]],
                        "b1": [0.2013, -0.0665, -0.1022],
                        "W2": [[-0.9323, 0.5239, 1.0459]],
                        "b2": [-0.2081],
                    },
                }
            ]
        }
    )

    run: str = Field(description="The run.")
    epoch: int = Field(description="The epoch.")
    sha256: str = Field(description="Hash of the weights as a safetensors file.")
    weights: dict[str, list[float] | Rows] = Field(
        description="W1 (n_1, n_0), b1 (n_1,), W2, …: rows of W are the units of the layer."
    )


class PredictRequest(Request):
    """Samples to put through the network."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"samples": [[0, 1], [1, 1]]}]})

    samples: Samples = Field(
        min_length=1,
        max_length=MOST_SAMPLES,
        description="One row for each sample, features as in the dataset and not preprocessed; categories by name.",
    )


class Predictions(Answer):
    """The network's outputs for samples."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "run": RUN_ID,
                    "epoch": 100,
                    "outputs": [[0.9963, 0.0037, 2.2e-07], [8.4e-07, 0.0009, 0.9991]],
                    "labels": ["setosa", "virginica"],
                    "classes": ["setosa", "versicolor", "virginica"],
                }
            ]
        }
    )

    run: str = Field(description="The run.")
    epoch: int = Field(description="Whose weights were used.")
    outputs: list[list[float | None]] = Field(description="A[L], one row for each sample.")
    labels: list[str] | None = Field(description="The class of each sample by name; null for regression.")
    classes: list[str] = Field(description="Names of the classes in the order of output units.")
