"""Epochs on the wire."""

from pydantic import ConfigDict, Field

from chainrule.app.api.schemas.wire import Answer


class Columns(Answer):
    """Epochs as columns of equal length, ready to plot."""

    epoch: list[int] = Field(description="Numbers; 0 is the untrained network.")
    cost: list[float] = Field(
        description="C: the mean over the epoch's samples, each under the weights its own step started from."
    )
    error: list[float | None] = Field(description="Share of the samples got wrong, likewise; null for regression.")
    validation_cost: list[float | None] = Field(description="C over the validation samples at the epoch's end.")
    validation_error: list[float | None] = Field(description="Share of the validation samples got wrong.")
    learning_rate: list[float] = Field(
        description="η of its steps, as the schedule has it; at epoch 0 the optimizer's own."
    )
    seconds: list[float] = Field(description="How long it took.")


class Downsampled(Answer):
    """Says that not every epoch was given."""

    stride: int = Field(description="Every `stride`-th epoch was given, and the last.")
    of: int = Field(description="How many there are.")


class Epochs(Answer):
    """Epochs of a run after epoch `after`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "run": "run_01m87we6w9qp3ar0nqxq113x7y",
                    "status": "succeeded",
                    "done": True,
                    "columns": {
                        "epoch": [0, 1, 2],
                        "cost": [2.657, 2.129, 1.391],
                        "error": [0.9152, 0.6912, 0.2768],
                        "validation_cost": [2.654, 1.705, 1.053],
                        "validation_error": [0.8969, 0.3203, 0.1838],
                        "learning_rate": [0.002, 0.002, 0.002],
                        "seconds": [0.0012, 0.0041, 0.004],
                    },
                    "next_after": None,
                    "downsampled": None,
                }
            ]
        }
    )

    run: str = Field(description="The run.")
    status: str = Field(description="Its status at the same moment.")
    done: bool = Field(description="Whether the run has ended. If so, and `next_after` is null, there will be no more.")
    columns: Columns = Field(description="The epochs.")
    next_after: int | None = Field(description="Pass as `after` for the next page; null on the last.")
    downsampled: Downsampled | None = Field(description="Set if `at_most` left epochs out.")
