"""Spectra on the wire: singular values, and the way of the weights."""

from pydantic import Field

from chainrule.app.api.schemas.wire import Answer


class LayerSpectrum(Answer):
    """What one W does to the lengths of vectors."""

    shape: list[int] = Field(description="(n_l, n_{l-1}).")
    singular_values: list[float | None] = Field(description="σ₁ ≥ σ₂ ≥ …, in float64.")
    norm: float | None = Field(description="‖W‖₂ = σ₁; null, as all here, where it is too large for float64.")
    frobenius: float | None = Field(description="‖W‖_F = √Σσ².")
    stable_rank: float | None = Field(description="‖W‖_F²/σ₁²; null of a W that is 0.")
    condition: float | None = Field(description="σ₁/σ_min; null where σ_min is 0.")


class Spectra(Answer):
    """The singular values of each W, at an epoch."""

    run: str = Field(description="The run.")
    epoch: int = Field(description="Whose weights were used.")
    equation: str = Field(description="What singular values are, and what they bound.")
    layers: dict[str, LayerSpectrum] = Field(description="By layer.")


class Distance(Answer):
    """The way of the weights over the kept epochs, in columns."""

    run: str = Field(description="The run.")
    epochs: list[int] = Field(description="The epochs looked at, in order; all is seen from the first.")
    kept: int = Field(description="How many kept epochs there are in what was asked for.")
    sampled: bool = Field(
        description="Whether there are more than were looked at; the way between those is then longer than `path` says."
    )
    distance: list[float | None] = Field(
        description="‖θ_e − θ_first‖, of all parameters θ; null, as all here, where it is too large for float64."
    )
    path: list[float | None] = Field(description="Σ ‖θ_k − θ_{k−1}‖ over the epochs given, up to each.")
    moved: list[float | None] = Field(description="‖θ_e − θ_before‖, from the epoch given before.")
    cosine: list[float | None] = Field(
        description="Between this displacement and the one before: 1 straight ahead, 0 at right angles, −1 back; null "
        "of the first two, and where one of them is 0."
    )
    norm: list[float | None] = Field(description="‖θ_e‖.")
    layers: dict[str, list[float | None]] = Field(description="By layer: ‖(W, b) − those of the first epoch‖.")
    equations: dict[str, str] = Field(description="Of each column.")
