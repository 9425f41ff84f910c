"""Epochs on the wire."""

from pydantic import Field

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
    learning_rate: list[float] = Field(description="η of its steps.")
    seconds: list[float] = Field(description="How long it took.")


class Downsampled(Answer):
    """Says that not every epoch was given."""

    stride: int = Field(description="Every so many epochs were given, and the last.")
    of: int = Field(description="How many there are.")


class Epochs(Answer):
    """Epochs of a run, from behind `after`."""

    run: str = Field(description="The run.")
    status: str = Field(description="Its status at the same moment.")
    done: bool = Field(description="Whether it has ended: then with `next_after` null this is all there will be.")
    columns: Columns = Field(description="The epochs.")
    next_after: int | None = Field(description="Pass as `after` for more that is there already; null if there is none.")
    downsampled: Downsampled | None = Field(description="Set if `at_most` left epochs out.")
