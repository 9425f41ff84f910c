"""What pages draw, on the wire."""

from typing import Any

from pydantic import Field

from chainrule.app.api.schemas.wire import Answer


class NamedArray(Answer):
    """One array."""

    run: str = Field(description="The run.")
    epoch: int = Field(description="Whose weights were used.")
    name: str = Field(description="W1, Z1, dW1, ….")
    shape: list[int] = Field(description="Its shape.")
    nonfinite: int = Field(description="How many elements are not finite.")
    values: Any = Field(description="Its elements, nested as its shape says; null where not finite.")


class Surface(Answer):
    """What a network makes of a plane of two features."""

    run: str = Field(description="The run.")
    epoch: int = Field(description="Whose weights were used.")
    feature_names: list[str] = Field(description="Of x and y; empty if they have none.")
    classes: list[str] = Field(description="Of the outputs; of one output for two classes the second's probability.")
    x: list[float] = Field(description="Values of the first feature, as in the dataset.")
    y: list[float] = Field(description="Values of the second feature.")
    outputs: Any = Field(description="A[L][k][i][j] at x[j], y[i], (n_L, n, n).")
    units: dict[str, Any] | None = Field(
        description="A1, A2, …: A[l][u][i][j] of each hidden unit, (n_l, n, n); null if not asked for."
    )
    equation: str = Field(description="How.")


class EmbeddedSample(Answer):
    """One sample in the plane."""

    row: int = Field(description="Its row in the dataset.")
    label: str | None = Field(description="Its class; null where there are none.")
    x: float = Field(description="Along the first direction.")
    y: float = Field(description="Along the second.")


class Embedding(Answer):
    """Samples in the plane of the two largest principal components of a layer's outputs."""

    run: str = Field(description="The run.")
    epoch: int = Field(description="Whose weights were used.")
    layer: int = Field(description="Whose outputs A[l]; 0 for the input.")
    basis_epoch: int = Field(description="The epoch whose outputs made the plane.")
    split: str = Field(description="training or validation.")
    explained_variance: list[float | None] = Field(
        description="Shares of the variance of A[l], at this epoch, along each direction; null where it is constant."
    )
    equation: str = Field(description="How.")
    items: list[EmbeddedSample] = Field(description="The samples, the same for every epoch.")


class AttributedSample(Answer):
    """What each input of a sample had to do with an output."""

    row: int = Field(description="Its row in the dataset.")
    unit: int = Field(description="The output that was asked about.")
    label: str | None = Field(description="The class of that output; null where there are none.")
    output: float | None = Field(description="a_c(x).")
    baseline_output: float | None = Field(description="a_c(x₀); null of other methods than integrated gradients.")
    residual: float | None = Field(description="Σ values − (a_c(x) − a_c(x₀)): what completeness lacks; likewise.")
    values: list[float | None] = Field(description="One for each input, after preprocessing.")


class Attributions(Answer):
    """What each input had to do with an output."""

    run: str = Field(description="The run.")
    epoch: int = Field(description="Whose weights were used.")
    method: str = Field(description="saliency, gradient_times_input or integrated_gradients.")
    baseline: str | None = Field(description="x₀: zero or mean; null of other methods.")
    equation: str = Field(description="How.")
    input_names: list[str] = Field(description="Of the inputs, after preprocessing; empty if they have none.")
    items: list[AttributedSample] = Field(description="The samples.")
