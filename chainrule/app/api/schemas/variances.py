"""Variances of gradients on the wire."""

from typing import Any

from pydantic import Field

from chainrule.app.api.schemas.wire import Answer


class Noise(Answer):
    """One number."""

    value: float | None = Field(description="Null where it is undefined, or not finite.")
    equation: str = Field(description="How; g⁽ⁱ⁾ is sample i's own gradient, ḡ their mean, σ² their variance.")
    reason: str | None = Field(description="Why it is undefined; null where it is not.")


class BlockVariance(Answer):
    """The gradients of one block of parameters."""

    shape: list[int] = Field(description="As the parameters'.")
    trace_sigma: float | None = Field(description="Σ σ² of the block.")
    gsnr: float | None = Field(description="Mean of ḡ²/σ² over the block; null if no gradient in it varies.")
    constant: int = Field(description="How many have the same gradient for all samples, and no ratio.")
    mean: Any = Field(default=None, description="ḡ, if values are asked for.")
    variance: Any = Field(default=None, description="σ², with m − 1 below, if values are asked for.")


class GradientConfusion(Answer):
    """Cosines between the mean gradients of batches."""

    batches: int = Field(description="How many batches, the first of the samples in the order asked for; 64 at most.")
    batch_size: int = Field(description="Samples of each: the run's batch size.")
    minimum: float | None = Field(description="The smallest cosine of two; below 0 one undoes what the other does.")
    mean: float | None = Field(description="The mean over all pairs.")
    reason: str | None = Field(description="Why there is none; null where there is.")
    equation: str = Field(description="What is compared.")


class GradientVariance(Answer):
    """How each weight's gradient differs from sample to sample, at the weights of an epoch."""

    run: str = Field(description="The run.")
    epoch: int = Field(description="Whose weights were used.")
    m: int = Field(description="How many samples.")
    quantities: dict[str, Noise] = Field(
        description="trace_sigma; gsnr; early_stopping, EB, above 0 where the gradient is no more than noise; "
        "batch_size, CABS, that goes with the learning rate."
    )
    confusion: GradientConfusion = Field(description="How far batches agree.")
    blocks: dict[str, BlockVariance] = Field(description="dW1, db1, ….")
    equation: str = Field(description="Of the variance.")
