"""Histograms on the wire: many arrays in the same bins, and pairs of a weight and its gradient."""

from pydantic import Field

from chainrule.app.api.schemas.wire import Answer


class HistogramRows(Answer):
    """One quantity of one layer, a row for each epoch; null where there is no kept epoch before to compare with."""

    equation: str = Field(description="What is counted.")
    layer: int = Field(description="The layer, from 1.")
    counts: list[list[int] | None] = Field(description="Numbers in each bin, of each epoch.")
    zeros: list[int | None] = Field(description="Numbers that are exactly 0, of each epoch.")
    nan: list[int | None] = Field(description="Numbers that are NaN, of each epoch.")
    positive_infinite: list[int | None] = Field(description="Numbers that are ∞, of each epoch.")
    negative_infinite: list[int | None] = Field(description="Numbers that are −∞, of each epoch.")


class Histograms(Answer):
    """Histograms of several epochs."""

    run: str = Field(description="The run.")
    epochs: list[int] = Field(description="The epochs looked at, in order.")
    before: list[int | None] = Field(description="To each the kept epoch before it, which updates are counted from.")
    kept: int = Field(description="How many kept epochs there are in what was asked for.")
    sampled: bool = Field(description="Whether there are more than were looked at; these are then evenly spread.")
    samples: int = Field(
        description="Over how many samples Z, A, dA, dZ, dW and db were computed; 0 if none of them was asked for."
    )
    split: str | None = Field(
        description="Of which split, all of it; null for the first min(512, m) training samples, as of "
        "recorded statistics."
    )
    edges: list[float | None] = Field(
        description="Of the bins, one more than these, powers of two on either side of 0; the same for every array of "
        "every run, so counts may be added. Null at both ends, for −∞ and ∞. On either side the edge nearer to 0 "
        "belongs to the bin."
    )
    histograms: dict[str, HistogramRows] = Field(description="By name: W1, dW1, Z1, …, update1.")


class JointHistogram(Answer):
    """The weights of one layer against their gradients."""

    cells: list[list[int]] = Field(
        description="[bin of w, bin of its gradient, how many]; −1 for zeros; cells that are not empty."
    )
    nonfinite: int = Field(description="Pairs of which a number is not finite.")


class JointHistograms(Answer):
    """Pairs of a weight and its gradient, at the weights of an epoch."""

    run: str = Field(description="The run.")
    epoch: int = Field(description="Whose weights were used.")
    samples: int = Field(description="dW is the mean over the first so many training samples, min(512, m).")
    edges: list[float | None] = Field(description="Of the bins, as of `histograms`.")
    layers: dict[str, JointHistogram] = Field(description="By layer.")
